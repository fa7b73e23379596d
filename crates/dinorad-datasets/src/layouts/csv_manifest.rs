//! A table of files: `path,label[,split][,patient]` or `path,mask[,split][,patient]`; of DICOM series below its
//! folder, which it names by `SeriesInstanceUID` or `PatientID` in place of `path`; or of cases that have no files
//! here, by `id`.
//!
//! Labels are names. Whole numbers may be written as `1` or `1.0`, as a column with a gap is saved by pandas;
//! a blank, `NaN`, `NA` or `null` is no label, and its row is left out and counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use dinorad_core::{Protocol, Split, Target, Task, TaskKind};
use dinorad_io::{Format, ReadOptions, dicom};
use rayon::prelude::*;

use super::dicom_folder;
use crate::{
    Colour, Columns, Dataset, Error, InputKind, OpenOptions, PatientKey, Result,
    discover::discover_inputs,
    error::number,
    faults::Faults,
    info::Opening,
    listed::{Answer, Common, Entry, Listed, Mask, Source, Values, holds_volume},
    natural::natural_order,
    splits::{Parts, by_patient},
    table::{Record, Table},
};

/// One line of the table, checked.
struct Row {
    line: u64,
    given: String,
    path: PathBuf,
    source: Source,
    /// Of a series, where the table does not say whose it is.
    key: Option<PatientKey>,
    label: String,
    about: Vec<(&'static str, String)>,
    split: Option<Split>,
    patient: Option<String>,
}

/// Opens a csv file, or a folder with one.
pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    open_table(asked, false)
}

/// The same of cases whose features come from elsewhere: there are no files to read.
pub(crate) fn open_labels(asked: &Opening) -> Result<Box<dyn Dataset>> {
    open_table(asked, true)
}

/// The ids of all cases of a table without files, line by line.
///
/// # Errors
/// Those of opening a data set.
pub fn label_ids(path: &Path, columns: &Columns) -> Result<Vec<String>> {
    let table = Table::read(&locate(path)?)?.with_columns(columns)?;
    Ok(table.rows.iter().enumerate().map(|(at, record)| id_of(&table, record, at)).collect())
}

/// How a table names its cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// By files.
    Files,
    /// By the series that lie below its folder.
    Series,
    /// By all series of a patient there.
    Patients,
    /// By ids alone.
    Cases,
}

/// What the columns are called that name series, patients and cases without files.
const OF_SERIES: [&str; 4] = ["seriesinstanceuid", "seriesuid", "seriesid", "series"];
const OF_PATIENTS: [&str; 1] = ["patientid"];
const OF_CASES: [&str; 10] =
    ["id", "sampleid", "path", "filename", "file", "image", "imageid", "caseid", "case", "name"];

impl Named {
    fn of(table: &Table) -> Self {
        match (
            table.has("path") || table.has_files(),
            table.like(&OF_SERIES),
            table.has("patient") || table.like(&OF_PATIENTS).is_some(),
        ) {
            (true, ..) => Self::Files,
            (_, Some(_), _) => Self::Series,
            (_, _, true) => Self::Patients,
            _ => Self::Files,
        }
    }
}

fn id_of(table: &Table, record: &Record, at: usize) -> String {
    let column = match table.has("path") {
        true => table.get(record, "path"),
        false => table.like(&OF_CASES).map_or("", |column| table.field(record, column)),
    };
    match column.trim() {
        "" => at.to_string(),
        id => id.to_owned(),
    }
}

fn open_table(asked: &Opening, without_files: bool) -> Result<Box<dyn Dataset>> {
    let Opening { info, split, options, .. } = *asked;
    let path = locate(asked.root)?;
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    let table = Table::read(&path)?.with_columns(&options.columns)?;
    let named = if without_files { Named::Cases } else { Named::of(&table) };
    if let Named::Files = named {
        table.need("path")?;
    }
    let masks = table.has("mask") && !table.has("label");
    let answer_column = if masks { "mask" } else { "label" };
    table.need(answer_column)?;
    let mut faults = Faults::new(options);
    let mut warnings = Vec::new();
    let mut rows = match named {
        Named::Files => rows(&table, &root, answer_column, &mut faults)?,
        Named::Cases => cases(&table, answer_column, &mut faults)?,
        by => series(&table, &root, (by, answer_column), options, &mut faults, &mut warnings)?,
    };
    warnings.extend(duplicates(&rows));
    let multilabel = !masks && rows.iter().any(|r| r.label.contains('|'));
    let (class_names, values) = if masks {
        mask_classes(&mut rows, &root, options, &mut faults)?
    } else {
        let names = classes(&path, &mut rows, multilabel, &mut faults)?;
        let n = names.len();
        (names, Values::plain(n))
    };
    let task = Task {
        kind: match (masks, multilabel, class_names.len()) {
            (true, ..) => TaskKind::Segmentation,
            (_, true, _) => TaskKind::Multilabel,
            (.., 2) => TaskKind::Binary,
            _ => TaskKind::Multiclass,
        },
        is_3d: match named {
            Named::Files => rows.first().is_some_and(|r| holds_volume(&r.path)),
            _ => rows.iter().any(|r| matches!(r.source, Source::Series { .. })),
        },
        class_names,
    };
    let answers = rows.iter().map(|row| answer(row, &task, &root)).collect::<Result<Vec<_>>>()?;
    let parts = parts(&table, &rows, &answers, options)?;
    let says_patients = table.has("patient") || named != Named::Files && table.like(&OF_PATIENTS).is_some();
    if options.protocol == Protocol::Strict && says_patients && !options.parts_are_replaced {
        patients_apart(&path, &rows, &parts, options, &mut faults)?;
    }
    let chosen = parts.of(split);
    let left_out = faults.unless_empty(rows.len())?;
    if chosen.is_empty() {
        let why = format!(
            "{} rows: {} train, {} val, {} test",
            rows.len(),
            parts.train.len(),
            parts.val.len(),
            parts.test.len()
        );
        return Err(Error::NoSplit { path, split, why });
    }
    let entries: Vec<Entry> = chosen
        .iter()
        .filter_map(|i| Some((rows.get(*i)?, answers.get(*i)?)))
        .map(|(row, answer)| {
            let id = format!("{}#{}", row.given, row.line);
            let patient = row.patient.as_deref().map(PatientKey::of).or_else(|| row.key.clone());
            let entry = Entry::new(id, patient, row.source.clone(), answer.clone());
            Entry { raw_label: (!masks).then(|| row.label.clone()), about: row.about.clone(), ..entry }
        })
        .collect();
    warnings.extend(table.warnings.iter().cloned());
    let common = Common {
        id: info.name.to_owned(),
        task,
        split,
        values,
        colour: Colour::AsStored,
        prepare: info.prepare,
        options: options.clone(),
        warnings,
        left_out,
        layout: match named {
            Named::Files => "table of files",
            Named::Cases => "table of cases without files",
            _ => "table of DICOM series",
        },
    };
    Ok(Box::new(Listed::new(common, unique_ids(entries))?))
}

/// Ids are the paths; only where a path stands twice does the line number stay.
fn unique_ids(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let plain = |id: &str| id.rsplit_once('#').map_or(id, |(p, _)| p).to_owned();
    for e in &entries {
        *seen.entry(plain(&e.id)).or_default() += 1;
    }
    for e in &mut entries {
        let path = plain(&e.id);
        if seen.get(&path) == Some(&1) {
            e.id = path;
        }
    }
    entries
}

fn locate(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    if !path.exists() {
        return Err(Error::Absent { path: path.to_owned(), what: "the table" });
    }
    let mut files = crate::files::folder_files(path)?;
    let is_table = |e: &std::ffi::OsStr| ["csv", "tsv"].iter().any(|known| e.eq_ignore_ascii_case(known));
    files.retain(|f| f.extension().is_some_and(is_table));
    match files.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::layout(path, "no csv file here")),
        several => Err(Error::layout(path, format!("{} csv files here, name one", several.len()))),
    }
}

fn rows(table: &Table, root: &Path, answer_column: &str, faults: &mut Faults) -> Result<Vec<Row>> {
    let mut out = Vec::new();
    for record in &table.rows {
        out.extend(faults.keep(row(table, record, root, answer_column))?);
    }
    Ok(out)
}

fn row(table: &Table, record: &Record, root: &Path, answer_column: &str) -> Result<Row> {
    let line = record.line;
    let given = table.get(record, "path").trim();
    if given.is_empty() {
        return Err(Error::row(&table.path, line, "empty path"));
    }
    let path = root.join(given);
    if !path.exists() {
        return Err(Error::row(&table.path, line, format!("{given} does not exist")));
    }
    what_is_said(table, record, (given, Source::File(path)), answer_column)
}

/// The cases of a table whose features come from elsewhere.
fn cases(table: &Table, answer_column: &str, faults: &mut Faults) -> Result<Vec<Row>> {
    let mut out = Vec::new();
    for (at, record) in table.rows.iter().enumerate() {
        let id = id_of(table, record, at);
        out.extend(faults.keep(what_is_said(table, record, (&id, Source::Nowhere), answer_column))?);
    }
    Ok(out)
}

/// The DICOM series below the table's folder that its lines name. What they are called in the table, and whose
/// they are, is compared and told to nobody.
fn series(
    table: &Table,
    root: &Path,
    (by, answer_column): (Named, &str),
    options: &OpenOptions,
    faults: &mut Faults,
    warnings: &mut Vec<String>,
) -> Result<Vec<Row>> {
    let folder = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    let column = match by {
        Named::Series => table.like(&OF_SERIES),
        _ if table.has("patient") => table.column("patient"),
        _ => table.like(&OF_PATIENTS),
    };
    let Some(column) = column else { return table.need("path").map(|()| Vec::new()) };
    let header = table.header(column);
    let mut lines: BTreeMap<PatientKey, &Record> = BTreeMap::new();
    let mut contradicted = BTreeSet::new();
    let mut named = 0;
    for record in &table.rows {
        let value = table.field(record, column).trim();
        if value.is_empty() {
            faults.note(Error::row(&table.path, record.line, format!("empty {header}")));
            continue;
        }
        named += 1;
        if let Some(before) = lines.insert(PatientKey::of(value), record)
            && table.get(before, answer_column).trim() != table.get(record, answer_column).trim()
        {
            let why = format!("the same {header} as line {}, and another {answer_column}", before.line);
            faults.note(Error::row(&table.path, record.line, why));
            contradicted.insert(PatientKey::of(value));
        }
    }
    lines.retain(|key, _| !contradicted.contains(key));
    let found = discover_inputs(&[folder.to_owned()]);
    let read = ReadOptions::default().with_limits(options.limits);
    let (mut out, mut used, mut others) = (Vec::new(), BTreeSet::new(), 0);
    for input in found.inputs {
        let (source, first, uid) = match &input.kind {
            InputKind::Series { folder, files, frames, uneven, uid, .. } => {
                let Some(first) = files.first().cloned() else { continue };
                let source = Source::Series {
                    folder: folder.clone(),
                    files: files.clone(),
                    frames: frames.clone(),
                    uneven: uneven.is_some(),
                };
                (source, first, Some(uid.clone()))
            }
            InputKind::File(Format::Dicom) => (Source::File(input.path.clone()), input.path.clone(), None),
            InputKind::Bad { reason } if dicom_folder::is_dicom(&input.path) => {
                faults.note(Error::layout(&input.path, reason));
                continue;
            }
            _ => continue,
        };
        // a series whose patient cannot be read might be anybody's
        let patient = dicom::hash_patient(&first, &read, PatientKey::of).map_err(Error::from);
        let Some(patient) = faults.keep(patient)? else { continue };
        let key = match by {
            Named::Series => {
                let own = || dicom::DicomFile::open(&first, &read).map(|file| file.header().series.clone());
                let uid = match uid.filter(|uid| !uid.reveal().is_empty()) {
                    Some(uid) => Some(uid),
                    None => own()?,
                };
                uid.map(|uid| PatientKey::of(uid.reveal()))
            }
            _ => patient.clone(),
        };
        let Some((key, record)) = key.and_then(|key| lines.get_key_value(&key)) else {
            others += 1;
            continue;
        };
        used.insert(key.clone());
        let said = what_is_said(table, record, (&input.id, source), answer_column);
        out.extend(faults.keep(said)?.map(|row| Row { key: patient, ..row }));
    }
    let lines = lines.len();
    if out.is_empty() {
        let why = match others {
            0 => format!("no DICOM series lies below its folder for the column {header}"),
            n => format!(
                "none of the {} DICOM series below its folder has the {header} of one of its {named} lines (spreadsheets \
                 drop leading zeros)",
                n
            ),
        };
        return Err(Error::layout(&table.path, why));
    }
    if others > 0 {
        warnings.push(format!("{} no line in the table", number(others, "DICOM series has", "DICOM series have")));
    }
    if lines > used.len() {
        let n = number(lines - used.len(), "line of the table names", "lines of the table name");
        warnings.push(format!("{n} no DICOM series below its folder"));
    }
    Ok(out)
}

/// What a line says of its case.
fn what_is_said(table: &Table, record: &Record, (given, source): (&str, Source), answer_column: &str) -> Result<Row> {
    let line = record.line;
    let split = match table.get(record, "split").trim() {
        _ if !table.has("split") => None,
        text => {
            let wrong = |_| Error::row(&table.path, line, format!("unknown split `{text}`, wanted train, val or test"));
            Some(text.parse::<Split>().map_err(wrong)?)
        }
    };
    let patient = match table.column("patient").or_else(|| table.like(&OF_PATIENTS)) {
        Some(column) => table.field(record, column).trim(),
        None => "",
    };
    Ok(Row {
        line,
        given: given.to_owned(),
        path: source.path().to_owned(),
        source,
        key: None,
        label: table.get(record, answer_column).trim().to_owned(),
        about: about(table, record),
        split,
        patient: (!patient.is_empty()).then(|| patient.to_owned()),
    })
}

/// Columns that tell who cases are of and what made them, by plain names.
const ABOUT: [(&str, &[&str]); 3] = [
    ("age", &["age", "patientage", "ageyears", "ageinyears"]),
    ("sex", &["sex", "patientsex", "gender", "patientgender"]),
    ("scanner", &["scanner", "scannermodel", "manufacturer", "manufacturermodelname", "vendor", "device"]),
];

/// What a line says of its case beside label and patient.
fn about(table: &Table, record: &Record) -> Vec<(&'static str, String)> {
    let cell = |(name, headers): &(&'static str, &[&str])| {
        let text = table.field(record, table.like(headers)?).trim();
        (!text.is_empty() && !is_missing(text)).then(|| (*name, text.to_owned()))
    };
    ABOUT.iter().filter_map(cell).collect()
}

/// Keeps the rows that a check lets through, and what it makes of them.
fn sift<T>(rows: &mut Vec<Row>, checked: Vec<Result<T>>, faults: &mut Faults) -> Result<Vec<T>> {
    let mut out = Vec::new();
    let mut kept = Vec::new();
    for (row, result) in std::mem::take(rows).into_iter().zip(checked) {
        if let Some(value) = faults.keep(result)? {
            out.push(value);
            kept.push(row);
        }
    }
    *rows = kept;
    Ok(out)
}

/// Sorted distinct names over all splits; whole numbers sort by value.
fn classes(path: &Path, rows: &mut Vec<Row>, multilabel: bool, faults: &mut Faults) -> Result<Vec<String>> {
    let names = |row: &Row| -> Result<Vec<String>> {
        if multilabel {
            let names = row.label.split('|').map(str::trim).filter(|l| !l.is_empty());
            return Ok(names.map(str::to_owned).collect());
        }
        match row.label.as_str() {
            "" => Err(Error::row(path, row.line, "empty label")),
            label if is_missing(label) => Err(Error::row(path, row.line, format!("no label but `{label}`"))),
            label if has_decimal_comma(label) => {
                let why = format!("`{label}` is a number with a decimal comma: write it with a point");
                Err(Error::row(path, row.line, why))
            }
            label => Ok(vec![label.to_owned()]),
        }
    };
    if !multilabel {
        rows.iter_mut().for_each(|row| row.label = whole(&row.label).to_owned());
    }
    let checked = rows.iter().map(names).collect();
    let names: BTreeSet<String> = sift(rows, checked, faults)?.into_iter().flatten().collect();
    let mut out: Vec<String> = names.into_iter().collect();
    if out.iter().all(|n| n.parse::<u64>().is_ok()) {
        out.sort_by(|a, b| natural_order(a, b));
    }
    Ok(out)
}

/// `1` for `1.0`: a column of whole numbers in which one is missing is saved with points.
fn whole(label: &str) -> &str {
    match label.split_once('.') {
        Some((digits, zeros)) if is_whole(digits) && zeros.bytes().all(|b| b == b'0') => digits,
        _ => label,
    }
}

fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// What tables write where there is nothing.
fn is_missing(label: &str) -> bool {
    label.eq_ignore_ascii_case("nan") || ["NA", "N/A", "<NA>", "null", "NULL"].contains(&label)
}

/// `0,5` in a table whose fields are separated by something else.
fn has_decimal_comma(label: &str) -> bool {
    label.split_once(',').is_some_and(|(a, b)| is_whole(a) && !b.is_empty() && b.bytes().all(|b| b.is_ascii_digit()))
}

/// The classes of the masks: the table has no names for them, so every mask is looked at once.
/// Values 0 and 255 alone are background and foreground, else every value is its own class.
fn mask_classes(
    rows: &mut Vec<Row>,
    root: &Path,
    options: &OpenOptions,
    faults: &mut Faults,
) -> Result<(Vec<String>, Values)> {
    let read = dinorad_io::ReadOptions::default().with_limits(options.limits);
    let of_one = |row: &Row| -> Result<BTreeSet<u8>> {
        let path = mask_path(row, root)?;
        let mut found = BTreeSet::new();
        for v in crate::listed::load(&path, &read)?.values() {
            if v.fract() != 0.0 || !(0.0..=255.0).contains(&v) {
                return Err(Error::label(&path, v, "whole numbers from 0 to 255"));
            }
            found.insert(v as u8);
        }
        Ok(found)
    };
    let checked: Vec<Result<BTreeSet<u8>>> = rows.par_iter().map(of_one).collect();
    let found: BTreeSet<u8> = sift(rows, checked, faults)?.into_iter().flatten().collect();
    if found.contains(&255) && found.iter().all(|v| [0, 255].contains(v)) {
        return Ok((vec!["background".to_owned(), "foreground".to_owned()], Values::new(vec![0, 255])));
    }
    let largest = found.last().copied().unwrap_or(1).max(1);
    let names = (0..=largest).map(|i| if i == 0 { "background".to_owned() } else { i.to_string() });
    Ok((names.collect(), Values::plain(usize::from(largest) + 1)))
}

fn mask_path(row: &Row, root: &Path) -> Result<PathBuf> {
    let mask = root.join(&row.label);
    if row.label.is_empty() || !mask.is_file() {
        return Err(Error::Unpaired { path: row.path.clone(), missing: "mask", expected: mask });
    }
    Ok(mask)
}

fn answer(row: &Row, task: &Task, root: &Path) -> Result<Answer> {
    let class = |name: &str| task.class_names.iter().position(|c| c == name);
    Ok(match task.kind {
        TaskKind::Segmentation => {
            let path = mask_path(row, root)?;
            Answer::Mask(match dinorad_io::sniff(&path)? {
                format if format.is_grid() => Mask::Volume(path),
                dinorad_io::Format::Npy => Mask::Array(path),
                _ => Mask::Picture(path),
            })
        }
        TaskKind::Multilabel => {
            let mut labels = vec![0u8; task.n_classes()];
            for c in row.label.split('|').map(str::trim).filter_map(class) {
                if let Some(l) = labels.get_mut(c) {
                    *l = 1;
                }
            }
            Answer::Known(Target::Labels(labels))
        }
        _ => Answer::Known(Target::Class(class(&row.label).unwrap_or_default())),
    })
}

fn parts(table: &Table, rows: &[Row], answers: &[Answer], options: &OpenOptions) -> Result<Parts> {
    let n = rows.len();
    if table.has("split") {
        let of = |s| (0..n).filter(|i| rows[*i].split == Some(s)).collect();
        return Ok(Parts { train: of(Split::Train), val: of(Split::Val), test: of(Split::Test) });
    }
    let Some(shares) = options.divide else {
        return Ok(Parts::undivided(n));
    };
    // a patient whom only the headers tell apart is kept together too
    let mut keys: BTreeMap<&PatientKey, String> = BTreeMap::new();
    for key in rows.iter().filter_map(|row| row.key.as_ref()) {
        let next = keys.len();
        keys.entry(key).or_insert_with(|| format!("patient {next}"));
    }
    let patient = |row: &Row| {
        let own = row.patient.clone().or_else(|| row.key.as_ref().and_then(|key| keys.get(key)).cloned());
        Some(own.unwrap_or_else(|| row.given.clone()))
    };
    let patients: Vec<_> = rows.iter().map(patient).collect();
    let class = |a: &Answer| if let Answer::Known(Target::Class(c)) = a { Some(*c) } else { None };
    by_patient(&patients, &answers.iter().map(class).collect::<Vec<_>>(), shares, options.seed)
}

/// The same file twice is kept and said; the same file in two splits too: see `doctor`.
fn duplicates(rows: &[Row]) -> Vec<String> {
    let mut seen: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        seen.entry(&row.given).or_default().push(row);
    }
    let twice = seen.values().filter(|r| r.len() > 1);
    twice
        .map(|r| {
            let lines: Vec<String> = r.iter().map(|r| r.line.to_string()).collect();
            let across = r.iter().any(|a| a.split != r[0].split);
            let where_ = if across { " in different splits: leakage" } else { "" };
            format!("{} stands on lines {}{where_}", r[0].given, lines.join(", "))
        })
        .collect()
}

fn patients_apart(path: &Path, rows: &[Row], parts: &Parts, options: &OpenOptions, faults: &mut Faults) -> Result<()> {
    let of = |s| -> BTreeSet<&str> { parts.of(s).iter().filter_map(|i| rows.get(*i)?.patient.as_deref()).collect() };
    for (a, b) in [(Split::Train, Split::Val), (Split::Train, Split::Test), (Split::Val, Split::Test)] {
        let both: Vec<String> = of(a).intersection(&of(b)).map(|p| PatientKey::of(p).shown(&options.salt)).collect();
        if !both.is_empty() {
            faults.keep::<()>(Err(Error::Overlap { path: path.to_owned(), a, b, patients: both }))?;
        }
    }
    Ok(())
}
