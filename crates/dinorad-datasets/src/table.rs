//! Tables with a header line: commas, semicolons or tabs, as spreadsheets save them.

use std::path::{Path, PathBuf};

use crate::{
    Columns, Error, Result,
    columns::{likely, plain},
};

/// One record with the line it starts on.
pub(crate) struct Record {
    pub(crate) line: u64,
    fields: Vec<String>,
}

/// A whole table: columns by name whatever their case, blank lines left out, a byte order mark ignored.
pub(crate) struct Table {
    pub(crate) path: PathBuf,
    columns: Vec<String>,
    called: Columns,
    pub(crate) rows: Vec<Record>,
    pub(crate) warnings: Vec<String>,
}

impl Table {
    /// Reads a table with at least one row.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Layout`] (no text, empty, no rows, a quote never closed),
    /// [`Error::Row`] for a record of another length than the header.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::Absent { path: path.to_owned(), what: "the table" });
        }
        let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
        let text = decoded(bytes).map_err(|why| Error::layout(path, why))?;
        let whole = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let (separator, text) = separated(whole);
        let above = u64::from(text.len() < whole.len());
        if text.trim().is_empty() {
            return Err(Error::layout(path, "the table is empty"));
        }
        if open_quote(text) {
            return Err(Error::layout(path, "a quote is never closed"));
        }
        let mut reader = ::csv::ReaderBuilder::new().flexible(true).delimiter(separator).from_reader(text.as_bytes());
        let damaged = |e: ::csv::Error| Error::layout(path, format!("not a CSV table ({e})"));
        let columns: Vec<String> = reader.headers().map_err(damaged)?.iter().map(|c| c.trim().to_owned()).collect();
        let mut warnings = Vec::new();
        // NIH's table ends every header and row with a comma: an empty last name is no column
        let named = columns.iter().rposition(|c| !c.is_empty()).map_or(0, |i| i + 1);
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(damaged)?;
            let line = record.position().map_or(0, |p| above + line_of(text, p.byte()));
            if record.iter().all(|f| f.trim().is_empty()) {
                continue;
            }
            if record.len() < named {
                let what = format!("{} fields, the header names {named}", record.len());
                return Err(Error::row(path, line, what));
            }
            if record.len() > columns.len() && warnings.is_empty() {
                warnings.push(format!("line {line} has more fields than the header"));
            }
            rows.push(Record { line, fields: record.iter().map(str::to_owned).collect() });
        }
        if rows.is_empty() {
            return Err(Error::layout(path, "no rows below the header"));
        }
        Ok(Self { path: path.to_owned(), columns, called: Columns::default(), rows, warnings })
    }

    /// The same with columns of other names.
    ///
    /// # Errors
    /// [`Error::Layout`] for a name that no column has.
    pub(crate) fn with_columns(mut self, called: &Columns) -> Result<Self> {
        self.called = called.clone();
        called.named().try_for_each(|column| self.need(column))?;
        Ok(self)
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.place(column).is_some()
    }

    /// Where a column stands: one of exactly that name, else one that differs in case alone.
    fn place(&self, column: &str) -> Option<usize> {
        let column = self.called.name(column);
        let exact = self.columns.iter().position(|c| c == column);
        exact.or_else(|| self.columns.iter().position(|c| c.eq_ignore_ascii_case(column)))
    }

    /// # Errors
    /// [`Error::Layout`] if there is no such column.
    pub(crate) fn need(&self, column: &str) -> Result<()> {
        if self.has(column) {
            return Ok(());
        }
        let name = self.called.name(column);
        // a name that was given is not guessed at
        let likely = likely(column, &self.columns).filter(|_| name == column);
        // one look at the table tells all names that it needs
        let others = ["path", "label", "patient", "split"].into_iter().filter(|other| *other != column);
        let others = others.filter(|other| !self.has(other) && self.called.name(other) == *other);
        let others: String = others
            .filter_map(|other| {
                Some(format!(" --{other}-column {}", quoted(crate::columns::likely(other, &self.columns)?)))
            })
            .collect();
        let hint =
            likely.map(|likely| format!("; if `{likely}` is meant: --{column}-column {}{others}", quoted(likely)));
        let there = self.columns.join(", ");
        let what = format!("column `{name}` is missing, there are {there}{}", hint.unwrap_or_default());
        Err(Error::layout(&self.path, what))
    }

    /// Where the first column stands that is called one of `names`, written in small letters without blanks, `_`
    /// and `-`.
    pub(crate) fn like(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.columns.iter().position(|column| plain(column) == **name))
    }

    /// Whether a column seems to name files, under another name.
    pub(crate) fn has_files(&self) -> bool {
        likely("path", &self.columns).is_some()
    }

    /// Where a column stands.
    pub(crate) fn column(&self, column: &str) -> Option<usize> {
        self.place(column)
    }

    /// The header of a column.
    pub(crate) fn header(&self, column: usize) -> &str {
        self.columns.get(column).map_or("", String::as_str)
    }

    /// The field of a record in a column.
    pub(crate) fn field<'a>(&self, record: &'a Record, column: usize) -> &'a str {
        record.fields.get(column).map_or("", String::as_str)
    }

    /// The field of a record, or nothing where there is no such column.
    pub(crate) fn get<'a>(&self, record: &'a Record, column: &str) -> &'a str {
        self.place(column).and_then(|i| record.fields.get(i)).map_or("", |f| f.as_str())
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    if word.contains(char::is_whitespace) { format!("\"{word}\"") } else { word.to_owned() }
}

/// The text of UTF-8, or of UTF-16 with a byte order mark, as spreadsheets save "Unicode text".
fn decoded(bytes: Vec<u8>) -> std::result::Result<String, &'static str> {
    let words = |of: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let text = char::decode_utf16(pairs.iter().map(|pair| of(*pair))).collect::<std::result::Result<String, _>>();
        text.ok().filter(|_| rest.is_empty()).ok_or("damaged UTF-16")
    };
    match bytes.as_slice() {
        [0xFF, 0xFE, ..] => words(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => words(u16::from_be_bytes),
        _ => String::from_utf8(bytes).map_err(|_| "not UTF-8: save the table as UTF-8"),
    }
}

/// What separates the fields, and the text behind a first line that says so (`sep=;`): the comma, unless
/// the header is cut into more columns by semicolons or tabs.
fn separated(text: &str) -> (u8, &str) {
    const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];
    if let Some((first, rest)) = text.split_once('\n')
        && let Some([separator]) = first.trim_end_matches('\r').strip_prefix("sep=").map(str::as_bytes)
        && SEPARATORS.contains(separator)
    {
        return (*separator, rest);
    }
    let columns = |separator: u8| {
        let reader = ::csv::ReaderBuilder::new().flexible(true).delimiter(separator).from_reader(text.as_bytes());
        { reader }.headers().map_or(0, ::csv::StringRecord::len)
    };
    // of equals the first
    let best = SEPARATORS.into_iter().rev().max_by_key(|separator| columns(*separator));
    (best.unwrap_or(b','), text)
}

/// Whether the text ends inside a quoted field. Doubled quotes count twice and cancel out.
fn open_quote(text: &str) -> bool {
    text.bytes().filter(|b| *b == b'"').count() % 2 == 1
}

/// The line, counted from 1, on which a record begins: blank lines before it are passed over.
fn line_of(text: &str, byte: u64) -> u64 {
    let bytes = text.as_bytes();
    let mut at = (byte as usize).min(bytes.len());
    while bytes.get(at).is_some_and(|b| *b == b'\n' || *b == b'\r') {
        at += 1;
    }
    bytes.iter().take(at).filter(|b| **b == b'\n').count() as u64 + 1
}
