//! NIH ChestX-ray14.
//!
//! As downloaded: `Data_Entry_2017*.csv`, `train_val_list.txt`, `test_list.txt` and the pictures in
//! `images_001/images` … `images_012/images`, or all of them in `images`. Prepared: `labels.csv`,
//! `{split}_list.txt`, `{split}/*.png`.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use dinorad_core::{Split, Target, TaskKind};

use super::{
    cut::{Case, cut},
    traits::Traits,
    tree::{DOWNLOADED, PREPARED, has_split_folders, has_suffix, home, no_layout},
};
use crate::{
    Colour, Dataset, Error, PatientKey, Result,
    faults::Faults,
    files::{file_name, folder_files, relative, sub_folders},
    info::Opening,
    listed::{Answer, Entry, Source},
    table::{Record, Table},
};

/// The 14 findings and `No Finding`, whatever a split happens to hold.
pub(crate) const CLASSES: [&str; 15] = [
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

pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let root = asked.folder()?;
    let downloaded = |f: &Path| data_entry(f).is_some() || f.join("images_001").is_dir();
    if let Some(home) = home(root, downloaded)? {
        return open_downloaded(asked, &home);
    }
    let lists = ["train_list.txt", "val_list.txt", "test_list.txt"];
    if root.join("labels.csv").is_file() || has_split_folders(root) || lists.iter().any(|l| root.join(l).is_file()) {
        return open_prepared(asked);
    }
    let looked_for = [
        "Data_Entry_2017*.csv with train_val_list.txt, test_list.txt and images_001/images/*.png …",
        "labels.csv with {split}_list.txt and {split}/*.png",
    ];
    Err(no_layout(asked, &looked_for))
}

/// The table of labels, whichever edition it is.
fn data_entry(folder: &Path) -> Option<PathBuf> {
    let named = |f: &PathBuf| file_name(f).starts_with("Data_Entry_2017") && has_suffix(f, "csv");
    folder_files(folder).ok()?.into_iter().find(named)
}

/// A list of names: name to line, counted from 0.
fn list(path: &Path) -> Result<HashMap<String, usize>> {
    if !path.is_file() {
        return Err(Error::Absent { path: path.to_owned(), what: "the list of the split" });
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
    let names = text.lines().map(str::trim).filter(|l| !l.is_empty());
    Ok(names.enumerate().map(|(i, name)| (name.to_owned(), i)).collect())
}

/// The rows of a table by picture, each picture once.
struct Rows {
    table: Table,
    seen: BTreeMap<String, u64>,
}

impl Rows {
    fn read(path: &Path) -> Result<Self> {
        let table = Table::read(path)?;
        table.need("Image Index")?;
        table.need("Finding Labels")?;
        Ok(Self { table, seen: BTreeMap::new() })
    }

    /// The name in a record, which must not have stood in another.
    fn name(table: &Table, seen: &mut BTreeMap<String, u64>, record: &Record) -> Result<String> {
        let name = table.get(record, "Image Index").trim().to_owned();
        match seen.insert(name.clone(), record.line) {
            Some(line) => Err(Error::row(&table.path, record.line, format!("{name} was already on line {line}"))),
            None => Ok(name),
        }
    }

    fn entry(table: &Table, record: &Record, id: String, path: PathBuf) -> Result<Entry> {
        let name = file_name(&path);
        if !path.is_file() {
            return Err(Error::Absent { path, what: "a listed image" });
        }
        let stored = table.get(record, "Finding Labels").trim();
        let mut labels = vec![0u8; CLASSES.len()];
        for finding in stored.split('|').map(str::trim) {
            match CLASSES.iter().position(|c| *c == finding) {
                Some(c) => labels[c] = 1,
                None => {
                    let what = format!("finding `{finding}` is none of the {} known", CLASSES.len());
                    return Err(Error::row(&table.path, record.line, what));
                }
            }
        }
        let number = table.get(record, "Patient ID").trim();
        let patient = if number.is_empty() { name.split('_').next().unwrap_or(&name) } else { number };
        let patient = Some(PatientKey::of(patient.trim_start_matches('0')));
        let entry = Entry::new(id, patient, Source::File(path), Answer::Known(Target::Labels(labels)));
        Ok(Entry { raw_label: Some(stored.to_owned()), ..entry })
    }
}

fn traits(layout: &'static str) -> Traits {
    Traits { colour: Colour::Gray, layout, ..Traits::new(TaskKind::Multilabel, &CLASSES) }
}

fn open_prepared(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let Opening { root, split, options, .. } = *asked;
    let Rows { table, mut seen } = Rows::read(&root.join("labels.csv"))?;
    let mut listed = list(&root.join(format!("{split}_list.txt")))?;
    let mut faults = Faults::new(options);
    let mut entries = Vec::new();
    for record in &table.rows {
        let Some(name) = faults.keep(Rows::name(&table, &mut seen, record))? else { continue };
        if listed.remove(&name).is_none() {
            continue;
        }
        let path = root.join(split.to_string()).join(&name);
        entries.extend(faults.keep(Rows::entry(&table, record, format!("{split}/{name}"), path))?);
    }
    let warnings = without_labels(&listed, &format!("{split}_list.txt"), &table);
    traits(PREPARED).dataset(asked, entries, warnings, faults)
}

fn without_labels(left: &HashMap<String, usize>, list: &str, table: &Table) -> Vec<String> {
    if left.is_empty() {
        return Vec::new();
    }
    vec![format!("{} images of {list} have no line in {} and are left out", left.len(), file_name(&table.path))]
}

fn open_downloaded(asked: &Opening, home: &Path) -> Result<Box<dyn Dataset>> {
    let Opening { info, root, split, options, .. } = *asked;
    let Some(path) = data_entry(home) else {
        return Err(Error::Absent { path: home.join("Data_Entry_2017_v2020.csv"), what: "the table of labels" });
    };
    let Rows { table, mut seen } = Rows::read(&path)?;
    let mut train_val = list(&home.join("train_val_list.txt"))?;
    let mut test = list(&home.join("test_list.txt"))?;
    let units = train_val.len();
    let pictures = pictures(home)?;
    let mut faults = Faults::new(options);
    if let Some(both) = train_val.keys().filter(|name| test.contains_key(*name)).min() {
        let what = format!("{both} is in train_val_list.txt too");
        faults.keep::<()>(Err(Error::layout(&home.join("test_list.txt"), what)))?;
    }
    let mut cases = Vec::new();
    for record in &table.rows {
        let Some(name) = faults.keep(Rows::name(&table, &mut seen, record))? else { continue };
        let (unit, fixed) = match (train_val.remove(&name), test.remove(&name)) {
            (Some(line), _) => (line, None),
            (None, Some(line)) => (line, Some(Split::Test)),
            (None, None) => continue,
        };
        if fixed != (split == Split::Test).then_some(Split::Test) {
            continue;
        }
        // a picture that is not there would be in the first folder
        let path = pictures.get(&name).cloned().unwrap_or_else(|| expected(home).join(&name));
        let Some(entry) = faults.keep(Rows::entry(&table, record, relative(&path, root), path))? else {
            continue;
        };
        cases.push(Case::new(entry, unit).with_fixed(fixed));
    }
    // the publisher's test list stands: only train and val are cut
    let options_here = match options.divide {
        Some([train, val, _]) if split != Split::Test => {
            let known = train + val;
            let shares = if known > 0.0 { [train / known, val / known, 0.0] } else { [1.0, 0.0, 0.0] };
            options.clone().with_divide(Some(shares))
        }
        _ => options.clone(),
    };
    let entries = cut(cases, units, info.split_rule.rule(), split, &options_here)?;
    let mut warnings = match split {
        Split::Test => without_labels(&test, "test_list.txt", &table),
        _ => without_labels(&train_val, "train_val_list.txt", &table),
    };
    warnings.extend(table.warnings.iter().cloned());
    traits(DOWNLOADED).dataset(asked, entries, warnings, faults)
}

fn expected(home: &Path) -> PathBuf {
    let first = home.join("images_001").join("images");
    if first.is_dir() { first } else { home.join("images") }
}

/// Every picture by its name: in `images*`, or in `images*/images`.
fn pictures(home: &Path) -> Result<HashMap<String, PathBuf>> {
    let mut out = HashMap::new();
    for folder in sub_folders(home)?.into_iter().filter(|f| file_name(f).starts_with("images")) {
        let inner = folder.join("images");
        for file in folder_files(if inner.is_dir() { &inner } else { &folder })? {
            out.entry(file_name(&file)).or_insert(file);
        }
    }
    Ok(out)
}
