//! CheXpert.
//!
//! As downloaded: `train.csv`, `valid.csv`, where they were released `test_labels.csv` or `test.csv`,
//! and `{train,valid,test}/patient*/study*/*.jpg`, in `CheXpert-v1.0` or `CheXpert-v1.0-small`.
//! Prepared: `{split}.csv` and `{split}/patient*/study*/*.jpg`.

use std::path::{Path, PathBuf};

use dinorad_core::{Split, Target, TaskKind};

use super::{
    traits::Traits,
    tree::{DOWNLOADED, PREPARED, has_split_folders, home, no_layout},
};
use crate::{
    Colour, Dataset, Error, OpenOptions, PatientKey, Result, Uncertain,
    faults::Faults,
    info::Opening,
    listed::{Answer, Entry, Source},
    table::{Record, Table},
};

/// The five findings of the competition, and the study's extra class for uncertain ones.
pub(crate) const CLASSES: [&str; 6] =
    ["Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion", "Uncertain"];
const FINDINGS: [&str; 5] = [CLASSES[0], CLASSES[1], CLASSES[2], CLASSES[3], CLASSES[4]];

/// What a cell says.
#[derive(Clone, Copy, PartialEq)]
enum Cell {
    No,
    Yes,
    Unsure,
}

/// Where the rows of a split are, and the folder that their paths continue in.
struct Place {
    table: PathBuf,
    folder: PathBuf,
    layout: &'static str,
}

pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let Opening { options, .. } = *asked;
    let root = asked.folder()?;
    let Place { table, folder, layout } = place(asked)?;
    let table = Table::read(&table)?;
    table.need("Path")?;
    for finding in FINDINGS {
        table.need(finding)?;
    }
    let mut faults = Faults::new(options);
    let mut entries = Vec::new();
    let mut unsure_left_out = 0;
    for record in &table.rows {
        if table.get(record, "Path").contains("lateral") {
            continue;
        }
        match faults.keep(row(&table, record, &folder, root, options))? {
            Some(Some(entry)) => entries.push(entry),
            Some(None) => unsure_left_out += 1,
            None => {}
        }
    }
    let classes = if options.uncertain == Uncertain::ExtraClass { &CLASSES[..] } else { &FINDINGS };
    let mut warnings = table.warnings.clone();
    if unsure_left_out > 0 {
        warnings.push(format!("{unsure_left_out} cases with an uncertain finding are left out"));
    }
    let traits = Traits { colour: Colour::Gray, layout, ..Traits::new(TaskKind::Multilabel, classes) };
    traits.dataset(asked, entries, warnings, faults)
}

fn place(asked: &Opening) -> Result<Place> {
    let Opening { root, split, .. } = *asked;
    let downloaded = |f: &Path| f.join("valid.csv").is_file() || f.join("valid").is_dir();
    if let Some(home) = home(root, downloaded)? {
        let (tables, folder): (&[&str], _) = match split {
            Split::Train => (&["train.csv"], "train"),
            Split::Val => (&["valid.csv"], "valid"),
            Split::Test => (&["test_labels.csv", "test.csv", "groundtruth.csv"], "test"),
        };
        let table = tables.iter().map(|t| home.join(t)).find(|t| t.is_file());
        let folder = home.join(folder);
        let layout = DOWNLOADED;
        return match (table, split) {
            (Some(table), _) => Ok(Place { table, folder, layout }),
            (None, Split::Test) => {
                Err(asked.no_split("no test_labels.csv: the labels of the test part are a release of their own"))
            }
            // the error of a table that is not there
            (None, _) => Ok(Place { table: home.join(tables[0]), folder, layout }),
        };
    }
    let tables = ["train.csv", "val.csv", "test.csv"];
    if has_split_folders(root) || tables.iter().any(|t| root.join(t).is_file()) {
        let name = split.to_string();
        return Ok(Place { table: root.join(format!("{name}.csv")), folder: root.join(name), layout: PREPARED });
    }
    let looked_for = [
        "train.csv and valid.csv with train/ and valid/ (CheXpert-v1.0)",
        "{split}.csv with {split}/patient*/study*/*.jpg",
    ];
    Err(no_layout(asked, &looked_for))
}

/// The case of a row; nothing if its uncertain findings leave it out.
fn row(table: &Table, record: &Record, folder: &Path, root: &Path, options: &OpenOptions) -> Result<Option<Entry>> {
    let mut cells = [Cell::No; 5];
    for (cell, finding) in cells.iter_mut().zip(FINDINGS) {
        let text = table.get(record, finding).trim();
        *cell = match text.parse::<f64>() {
            _ if text.is_empty() => Cell::No,
            Ok(0.0) => Cell::No,
            Ok(1.0) => Cell::Yes,
            Ok(-1.0) => Cell::Unsure,
            _ => {
                let what = format!("{finding} is `{text}`, wanted 1, 0, -1 or nothing");
                return Err(Error::row(&table.path, record.line, what));
            }
        };
    }
    let Some(labels) = labels(&cells, options.uncertain) else { return Ok(None) };
    // `CheXpert-v1.0/train/patient1/…` or `test/patient1/…`: what follows is below the folder of the split
    let given = table.get(record, "Path").trim();
    let Some(at) = given.split('/').position(|part| part.starts_with("patient")) else {
        return Err(Error::row(&table.path, record.line, "Path has no component `patient…`"));
    };
    let rest: Vec<&str> = given.split('/').skip(at).collect();
    let path = crate::files::below(folder, &table.path, &rest.join("/"))?;
    if !path.is_file() {
        return Err(Error::Absent { path, what: "the image of a row" });
    }
    let patient = rest.first().map(|p| PatientKey::of(p));
    let id = crate::files::relative(&path, root);
    let entry = Entry::new(id, patient, Source::File(path), Answer::Known(Target::Labels(labels)));
    let stored = |f: &&str| format!("{f}={}", table.get(record, f).trim());
    Ok(Some(Entry { raw_label: Some(FINDINGS.iter().map(stored).collect::<Vec<_>>().join("|")), ..entry }))
}

/// 0 and 1 per class, or nothing if the case is to be left out.
fn labels(cells: &[Cell; 5], rule: Uncertain) -> Option<Vec<u8>> {
    let unsure = cells.contains(&Cell::Unsure);
    if unsure && rule == Uncertain::Ignore {
        return None;
    }
    let of = |c: &Cell| u8::from(*c == Cell::Yes || (*c == Cell::Unsure && rule == Uncertain::Ones));
    let mut out: Vec<u8> = cells.iter().map(of).collect();
    if rule == Uncertain::ExtraClass {
        out.push(u8::from(unsure));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncertain_findings_follow_the_rule() {
        let cells = [Cell::Yes, Cell::Unsure, Cell::No, Cell::No, Cell::No];
        assert_eq!(labels(&cells, Uncertain::ExtraClass).unwrap(), [1, 0, 0, 0, 0, 1]);
        assert_eq!(labels(&cells, Uncertain::Zeros).unwrap(), [1, 0, 0, 0, 0]);
        assert_eq!(labels(&cells, Uncertain::Ones).unwrap(), [1, 1, 0, 0, 0]);
        assert_eq!(labels(&cells, Uncertain::Ignore), None);
    }

    #[test]
    fn rules_have_names() {
        for rule in [Uncertain::ExtraClass, Uncertain::Zeros, Uncertain::Ones, Uncertain::Ignore] {
            assert_eq!(rule.to_string().parse::<Uncertain>().unwrap(), rule);
        }
        assert!("maybe".parse::<Uncertain>().is_err());
    }
}
