//! A table of files: `path,label[,split][,patient]` or `path,mask[,split][,patient]`.
//!
//! Labels are names. Whole numbers may be written as `1` or `1.0`, as a column with a gap is saved by pandas;
//! a blank, `NaN`, `NA` or `null` is no label, and its row is left out and counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use dinorad_core::{Protocol, Split, Target, Task, TaskKind};
use rayon::prelude::*;

use crate::{
    Colour, Dataset, Error, OpenOptions, PatientKey, Result,
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
    label: String,
    split: Option<Split>,
    patient: Option<String>,
}

/// Opens a csv file, or a folder with one.
pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let Opening { info, split, options, .. } = *asked;
    let path = locate(asked.root)?;
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    let table = Table::read(&path)?.with_columns(&options.columns)?;
    table.need("path")?;
    let masks = table.has("mask") && !table.has("label");
    let answer_column = if masks { "mask" } else { "label" };
    table.need(answer_column)?;
    let mut faults = Faults::new(options);
    let mut rows = rows(&table, &root, answer_column, &mut faults)?;
    let mut warnings = duplicates(&rows);
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
        is_3d: rows.first().is_some_and(|r| holds_volume(&r.path)),
        class_names,
    };
    let answers = rows.iter().map(|row| answer(row, &task, &root)).collect::<Result<Vec<_>>>()?;
    let parts = parts(&table, &rows, &answers, options)?;
    if options.protocol == Protocol::Strict && table.has("patient") && !options.parts_are_replaced {
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
            let patient = row.patient.as_deref().map(PatientKey::of);
            let entry = Entry::new(id, patient, Source::File(row.path.clone()), answer.clone());
            Entry { raw_label: (!masks).then(|| row.label.clone()), ..entry }
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
        layout: "table of files",
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
    let split = match table.get(record, "split").trim() {
        _ if !table.has("split") => None,
        text => {
            let wrong = |_| Error::row(&table.path, line, format!("unknown split `{text}`, wanted train, val or test"));
            Some(text.parse::<Split>().map_err(wrong)?)
        }
    };
    let patient = table.get(record, "patient").trim();
    Ok(Row {
        line,
        given: given.to_owned(),
        path,
        label: table.get(record, answer_column).trim().to_owned(),
        split,
        patient: (!patient.is_empty()).then(|| patient.to_owned()),
    })
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
    let patients: Vec<_> = rows.iter().map(|r| Some(r.patient.clone().unwrap_or_else(|| r.given.clone()))).collect();
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
