//! Brain Tumor MRI: MATLAB files `<n>.mat` with `cjdata/{image,label,PID}`.
//!
//! As downloaded: 1.mat to 3064.mat in the folders of the four archives, or in one folder, with
//! `cvind.mat`, which is not needed. Prepared: `{split}/<n>.mat`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dinorad_core::{Target, TaskKind};
use dinorad_io::{ReadOptions, mat::MatFile};
use rayon::prelude::*;

use super::{
    cut::{Case, cut},
    traits::Traits,
    tree::{DOWNLOADED, PREPARED, files, has_split_folders, has_suffix, no_layout},
};
use crate::{
    Dataset, Error, OpenOptions, PatientKey, Result,
    error::number,
    faults::Faults,
    files::{folder_files, relative, stem, sub_folders},
    info::Opening,
    listed::{Answer, Entry, Source},
};

/// In order of the labels 1, 2, 3.
pub(crate) const CLASSES: [&str; 3] = ["meningioma", "glioma", "pituitary"];

fn traits(layout: &'static str) -> Traits {
    Traits { layout, ..Traits::new(TaskKind::Multiclass, &CLASSES) }
}

pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let Opening { info, split, options, .. } = *asked;
    let root = asked.folder()?;
    let mut faults = Faults::new(options);
    if has_split_folders(root) {
        let paths = files(asked, &root.join(split.to_string()), "mat")?;
        let mut entries = Vec::new();
        for (entry, _) in read_all(paths, root, options, &mut faults)? {
            entries.push(entry);
        }
        let warnings = nameless(entries.iter()).into_iter().collect();
        return traits(PREPARED).dataset(asked, entries, warnings, faults);
    }
    let numbered = numbered(root)?;
    if numbered.is_empty() {
        let looked_for = ["1.mat, 2.mat … here or one folder below (the archives of figshare)", "{split}/*.mat"];
        return Err(no_layout(asked, &looked_for));
    }
    let mut warnings = Vec::new();
    let last = numbered.keys().next_back().copied().unwrap_or(0);
    let gaps: Vec<String> = (1..=last).filter(|n| !numbered.contains_key(n)).map(|n| format!("{n}.mat")).collect();
    if !gaps.is_empty() {
        warnings.push(format!("{} files are missing below {last}.mat: {}", gaps.len(), crate::error::some(&gaps)));
    }
    let read = read_all(numbered.into_values().collect(), root, options, &mut faults)?;
    warnings.extend(nameless(read.iter().map(|(entry, _)| entry)));
    // patients in order of first appearance over the numbers
    let mut ranks: BTreeMap<Owner, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for (entry, patient) in read {
        let next = ranks.len();
        let unit = *ranks.entry(patient).or_insert(next);
        cases.push(Case::new(entry, unit));
    }
    let entries = cut(cases, ranks.len(), info.split_rule.rule(), split, options)?;
    traits(DOWNLOADED).dataset(asked, entries, warnings, faults)
}

/// The files whose names are numbers, here or one folder below.
fn numbered(root: &Path) -> Result<BTreeMap<u64, PathBuf>> {
    let mut out = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    folders.extend(sub_folders(root)?);
    for folder in folders {
        for file in folder_files(&folder)?.into_iter().filter(|f| has_suffix(f, "mat")) {
            let Ok(number) = stem(&file).parse::<u64>() else { continue };
            if let Some(other) = out.insert(number, file.clone()) {
                return Err(Error::layout(&file, format!("{} has the same number", other.display())));
            }
        }
    }
    Ok(out)
}

/// Whose a file is: a patient's, or, where that is not told, its own.
type Owner = std::result::Result<PatientKey, String>;

/// How many files do not say whose they are.
fn nameless<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<String> {
    let n = entries.filter(|e| e.patient.is_none()).count();
    let files = number(n, "file has", "files have");
    (n > 0).then(|| format!("{files} no cjdata/PID: each counts as a patient of its own"))
}

/// The entries with what tells their patients apart.
fn read_all(
    paths: Vec<PathBuf>,
    root: &Path,
    options: &OpenOptions,
    faults: &mut Faults,
) -> Result<Vec<(Entry, Owner)>> {
    let read: Vec<Result<Entry>> = paths.into_par_iter().map(|path| entry(path, root, options)).collect();
    let mut out = Vec::new();
    for result in read {
        let Some(entry) = faults.keep(result)? else { continue };
        let patient = entry.patient.clone().ok_or_else(|| entry.id.clone());
        out.push((entry, patient));
    }
    Ok(out)
}

/// Reads label and patient, not the pixels.
fn entry(path: PathBuf, root: &Path, options: &OpenOptions) -> Result<Entry> {
    let file = MatFile::open(&path, &ReadOptions::default().with_limits(options.limits))?;
    let label = file.number("cjdata/label")?;
    let class = (1..=CLASSES.len()).find(|c| *c as f64 == label);
    let class = class.ok_or_else(|| Error::label(&path, label, "1, 2, 3"))? - 1;
    // a file without the field is said; one whose field cannot be read might be anybody's
    let patient = match file.text("cjdata/PID") {
        Ok(text) => Some(text).filter(|p| !p.trim().is_empty()),
        Err(dinorad_io::Error::Missing { .. }) => None,
        Err(e) => return Err(e.into()),
    };
    let patient = patient.map(|p| PatientKey::of(&p));
    let id = relative(&path, root);
    let entry = Entry::new(id, patient, Source::BrainTumor(path), Answer::Known(Target::Class(class)));
    Ok(Entry { raw_label: Some(label.to_string()), ..entry })
}
