//! NIH ChestX-ray14: `labels.csv`, `{split}_list.txt`, `{split}/*.png`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use dinorad_core::{Split, Target, TaskKind};

use super::Traits;
use crate::{
    Dataset, Error, OpenOptions, Result,
    listed::{Answer, Colour, Entry, Source},
    table::Table,
};

/// The 14 findings and `No Finding`, whatever a split happens to hold.
pub(super) const CLASSES: [&str; 15] = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "No Finding",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
];

pub(super) fn open(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let table = Table::read(&root.join("labels.csv"))?;
    table.need("Image Index")?;
    table.need("Finding Labels")?;
    let list = root.join(format!("{split}_list.txt"));
    if !list.is_file() {
        return Err(Error::Absent { path: list, what: "the list of the split" });
    }
    let text = std::fs::read_to_string(&list).map_err(|e| Error::read(&list, e))?;
    let mut listed: BTreeSet<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let mut entries = Vec::new();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for record in &table.rows {
        let name = table.get(record, "Image Index").trim();
        if let Some(line) = seen.insert(name, record.line) {
            return Err(Error::row(&table.path, record.line, format!("{name} was already on line {line}")));
        }
        if !listed.remove(name) {
            continue;
        }
        let path = root.join(split.to_string()).join(name);
        if !path.is_file() {
            return Err(Error::Absent { path, what: "a listed image" });
        }
        let mut labels = vec![0u8; CLASSES.len()];
        for finding in table.get(record, "Finding Labels").split('|').map(str::trim) {
            match CLASSES.iter().position(|c| *c == finding) {
                Some(c) => labels[c] = 1,
                None => {
                    let what = format!("finding `{finding}` is none of the {} known", CLASSES.len());
                    return Err(Error::row(&table.path, record.line, what));
                }
            }
        }
        let number = table.get(record, "Patient ID").trim();
        let patient = if number.is_empty() { name.split('_').next().unwrap_or(name) } else { number };
        entries.push(Entry {
            id: format!("{split}/{name}"),
            patient: Some(options.patient_hash(patient.trim_start_matches('0'))),
            source: Source::File(path),
            answer: Answer::Known(Target::Labels(labels)),
        });
    }
    if entries.is_empty() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: "no listed image has labels".into() });
    }
    let warnings = if listed.is_empty() {
        Vec::new()
    } else {
        vec![format!("{} images of {split}_list.txt have no line in labels.csv and are left out", listed.len())]
    };
    let traits = Traits { colour: Colour::Gray, ..Traits::new("nih", TaskKind::Multilabel, &CLASSES) };
    Ok(traits.dataset(split, options, entries, warnings))
}
