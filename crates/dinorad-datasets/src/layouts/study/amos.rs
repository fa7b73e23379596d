//! AMOS: abdominal organs on CT and MRI.
//!
//! As downloaded: `amos22` with `imagesTr`, `labelsTr`, `imagesVa`, `labelsVa` and `dataset.json`;
//! slices are cut from the volumes. Prepared: `{split}/*.npy` with `labels/*.npy`.
//!
//! The study's 14,120 training and validation slices and 7,004 test slices stand to each other as
//! the 240 volumes of `Tr` and the 120 of `Va`, and 2,770 is a fifth of 14,120: `Va` is the test
//! part here, and every fifth volume of `Tr` is validation under `paper`. The study's own choice of
//! volumes is not published.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use dinorad_core::{Split, TaskKind};

use super::{
    cut::{Case, cut},
    slices::{self, Labels},
    traits::Traits,
    tree::{DOWNLOADED, home, no_layout, sort},
};
use crate::{
    Dataset, Error, OpenOptions, PatientKey, Result, Unit,
    faults::Faults,
    files::{below, file_name, folder_files, stem},
    info::Opening,
    layouts::msd::check_pair,
    listed::{Answer, Entry, Mask, Source},
};

/// The organs of AMOS.
pub(crate) const CLASSES: [&str; 16] = [
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
];

pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let root = asked.folder()?;
    if let Some(home) = home(root, |f| f.join("imagesTr").is_dir())? {
        return open_downloaded(asked, &home);
    }
    if slices::are_below(root, Labels::Together) {
        return slices::open(asked, Labels::Together);
    }
    let looked_for = ["imagesTr, labelsTr, imagesVa, labelsVa (amos22)", "{split}/*.npy with labels/*.npy"];
    Err(no_layout(asked, &looked_for))
}

fn open_downloaded(asked: &Opening, home: &Path) -> Result<Box<dyn Dataset>> {
    let Opening { info, split, options, .. } = *asked;
    let mut faults = Faults::new(options);
    let mut cases = Vec::new();
    let mut units = 0;
    for (part, fixed) in [("Tr", None), ("Va", Some(Split::Test))] {
        let (images, labels) = (home.join(format!("images{part}")), home.join(format!("labels{part}")));
        if !images.is_dir() {
            continue;
        }
        if !labels.is_dir() {
            return Err(Error::Absent { path: labels, what: "the folder of the labels" });
        }
        let mut volumes = nifti_files(&images)?;
        sort(&mut volumes, options);
        for (unit, image) in volumes.into_iter().enumerate() {
            if fixed.is_none() {
                units += 1;
            }
            let label = labels.join(file_name(&image));
            let Some(slices) = faults.keep(pair(&image, &label, options))? else { continue };
            let patient = Some(PatientKey::of(&stem(&image)));
            let source = Source::Volume { path: image.clone(), channel: None };
            let entry = Entry::new(stem(&image), patient, source, Answer::Mask(Mask::Volume(label)));
            let case = Case::new(entry, unit).with_fixed(fixed);
            cases.push(if options.unit == Unit::Slices { case.sliced(slices) } else { case });
        }
    }
    let warnings = declared(home)?;
    let entries = cut(cases, units, info.split_rule.rule(), split, options)?;
    let traits = Traits {
        layout: DOWNLOADED,
        is_3d: options.unit == Unit::Volumes,
        ..Traits::new(TaskKind::Segmentation, info.classes)
    };
    traits.dataset(asked, entries, warnings, faults)
}

fn nifti_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut out = folder_files(folder)?;
    out.retain(|f| file_name(f).ends_with(".nii.gz") || file_name(f).ends_with(".nii"));
    Ok(out)
}

fn pair(image: &Path, label: &Path, options: &OpenOptions) -> Result<usize> {
    if !label.is_file() {
        return Err(Error::Unpaired { path: image.to_owned(), missing: "label", expected: label.to_owned() });
    }
    check_pair(image, None, label, options)
}

/// What `dataset.json` lists and is not there.
fn declared(home: &Path) -> Result<Vec<String>> {
    let path = home.join("dataset.json");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| Error::layout(&path, format!("not valid JSON ({e})")))?;
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for entry in ["training", "validation"].iter().flat_map(|k| json[*k].as_array().into_iter().flatten()) {
        for given in ["image", "label"].iter().filter_map(|k| entry[*k].as_str()) {
            if !below(home, &path, given)?.is_file() {
                missing.insert(given.to_owned());
            }
        }
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = missing.into_iter().collect();
    Ok(vec![format!("dataset.json lists {} files that are not there: {}", names.len(), crate::error::some(&names))])
}
