//! Slices cut before: AMOS, BTCV slices and the Decathlon sets as npy files.

use std::path::Path;

use dinorad_core::{Split, TaskKind};
use dinorad_transforms::PercentileRule;

use super::{Traits, files, has_split_folders, orphans};
use crate::{
    Dataset, Error, OpenOptions, PatientKey, Result,
    faults::Faults,
    files::{file_name, folder_files, relative, stem},
    listed::{Answer, Entry, Mask, Prepare, Source},
};

/// The organs of BTCV.
pub(crate) const BTCV: [&str; 14] = [
    "background",
    "spleen",
    "rkid",
    "lkid",
    "gall",
    "eso",
    "liver",
    "sto",
    "aorta",
    "IVC",
    "veins",
    "pancreas",
    "rad",
    "lad",
];

/// The organs of AMOS.
pub(crate) const AMOS: [&str; 16] = [
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

/// The classes of the three Decathlon sets, as the study's loaders name them.
pub(crate) const HEART: &[&str] = &["background", "left atrium"];
pub(crate) const HIPPOCAMPUS: &[&str] = &["background", "anterior", "posterior"];
pub(crate) const SPLEEN: &[&str] = &["background", "spleen"];

/// Whether the tree of a slice set lies under `root`.
pub(super) fn is_prepared(id: &str, root: &Path) -> bool {
    has_split_folders(root) || (id != "btcv-slice" && root.join("labels").is_dir())
}

pub(super) fn open(id: &'static str, root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let (classes, prepare): (&[&str], _) = match id {
        "amos" => (&AMOS, Prepare::Clamp(Some(-1024.0), Some(600.0))),
        "btcv-slice" => (&BTCV, Prepare::Clamp(Some(-1024.0), Some(600.0))),
        "msd-heart" => (HEART, Prepare::Percentiles(PercentileRule::Clip)),
        "msd-spleen" => (SPLEEN, Prepare::Percentiles(PercentileRule::Clip)),
        _ => (HIPPOCAMPUS, Prepare::Percentiles(PercentileRule::Clip)),
    };
    let part = root.join(split.to_string());
    let (images, labels) = match id {
        "btcv-slice" => (part.join("img"), part.join("label")),
        _ => (part, root.join("labels")),
    };
    let label_of = |image: &str| if id == "btcv-slice" { image.replacen("img", "label", 1) } else { image.to_owned() };
    let entry = |path: std::path::PathBuf| -> Result<Entry> {
        let label = labels.join(label_of(&file_name(&path)));
        if !label.is_file() {
            return Err(Error::Unpaired { path, missing: "label", expected: label });
        }
        let slice = stem(&path);
        let volume = slice.rsplit_once('_').map_or(slice.as_str(), |(volume, _)| volume);
        let patient = Some(PatientKey::of(volume));
        Ok(Entry::new(relative(&path, root), patient, Source::Array(path), Answer::Mask(Mask::Array(label))))
    };
    let mut faults = Faults::new(options);
    let mut entries = Vec::new();
    for path in files(root, &images, "npy", split, options)? {
        entries.extend(faults.keep(entry(path))?);
    }
    let mut known = std::collections::BTreeSet::new();
    let folders = match id {
        "btcv-slice" => vec![images],
        _ => ["train", "val", "test"].map(|s| root.join(s)).to_vec(),
    };
    for folder in folders.iter().filter(|f| f.is_dir()) {
        known.extend(folder_files(folder)?.iter().map(|f| label_of(&file_name(f))));
    }
    let warnings = orphans(&labels, ".npy", |n| known.contains(n))?;
    let traits = Traits { prepare, ..Traits::new(id, TaskKind::Segmentation, classes) };
    traits.dataset(root, split, options, entries, warnings, faults)
}
