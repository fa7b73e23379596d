//! CSV files with a header line.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// One record with the line it starts on.
pub(crate) struct Record {
    pub(crate) line: u64,
    fields: Vec<String>,
}

/// A whole table: columns by name, blank lines left out, a byte order mark ignored.
pub(crate) struct Table {
    pub(crate) path: PathBuf,
    columns: Vec<String>,
    pub(crate) rows: Vec<Record>,
    pub(crate) warnings: Vec<String>,
}

impl Table {
    /// Reads a table with at least one row.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Layout`] (not UTF-8, empty, no rows, a quote never closed),
    /// [`Error::Row`] for a record of another length than the header.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::Absent { path: path.to_owned(), what: "the table" });
        }
        let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
        let text = String::from_utf8(bytes).map_err(|_| Error::layout(path, "not UTF-8"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        if text.trim().is_empty() {
            return Err(Error::layout(path, "the table is empty"));
        }
        if open_quote(text) {
            return Err(Error::layout(path, "a quote is never closed"));
        }
        let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let damaged = |e: ::csv::Error| Error::layout(path, format!("not a CSV table ({e})"));
        let columns: Vec<String> = reader.headers().map_err(damaged)?.iter().map(|c| c.trim().to_owned()).collect();
        let mut warnings = Vec::new();
        // NIH's table ends every header and row with a comma: an empty last name is no column
        let named = columns.iter().rposition(|c| !c.is_empty()).map_or(0, |i| i + 1);
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(damaged)?;
            let line = record.position().map_or(0, |p| line_of(text, p.byte()));
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
        Ok(Self { path: path.to_owned(), columns, rows, warnings })
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|c| c == column)
    }

    /// # Errors
    /// [`Error::Layout`] if there is no such column.
    pub(crate) fn need(&self, column: &str) -> Result<()> {
        if self.has(column) {
            return Ok(());
        }
        let what = format!("column `{column}` is missing, there are {}", self.columns.join(", "));
        Err(Error::layout(&self.path, what))
    }

    /// The field of a record, or nothing where there is no such column.
    pub(crate) fn get<'a>(&self, record: &'a Record, column: &str) -> &'a str {
        let at = self.columns.iter().position(|c| c == column);
        at.and_then(|i| record.fields.get(i)).map_or("", |f| f.as_str())
    }
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
