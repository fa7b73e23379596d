//! Slices cut before: AMOS, BTCV slices and the Decathlon sets as npy files.

use std::path::Path;

use dinorad_core::{Split, TaskKind};
use dinorad_transforms::PercentileRule;

use super::{Traits, files};
use crate::{
    Dataset, Error, OpenOptions, Result,
    files::{file_name, relative, stem},
    listed::{Answer, Entry, Mask, Prepare, Source},
};

/// The organs of BTCV.
pub(super) const BTCV: [&str; 14] = [
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
const AMOS: [&str; 16] = [
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

pub(super) fn open(id: &'static str, root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let (classes, prepare): (&[&str], _) = match id {
        "amos" => (&AMOS, Prepare::Clamp(Some(-1024.0), Some(600.0))),
        "btcv-slice" => (&BTCV, Prepare::Clamp(Some(-1024.0), Some(600.0))),
        "msd-heart" => (&["background", "left atrium"], Prepare::Percentiles(PercentileRule::Clip)),
        "msd-spleen" => (&["background", "spleen"], Prepare::Percentiles(PercentileRule::Clip)),
        _ => (&["background", "anterior", "posterior"], Prepare::Percentiles(PercentileRule::Clip)),
    };
    let part = root.join(split.to_string());
    let (images, labels) = match id {
        "btcv-slice" => (part.join("img"), part.join("label")),
        _ => (part, root.join("labels")),
    };
    let mut entries = Vec::new();
    for path in files(root, &images, "npy", split, options)? {
        let mut name = file_name(&path);
        if id == "btcv-slice" {
            name = name.replacen("img", "label", 1);
        }
        let label = labels.join(name);
        if !label.is_file() {
            return Err(Error::Unpaired { path, missing: "label", expected: label });
        }
        let slice = stem(&path);
        let volume = slice.rsplit_once('_').map_or(slice.as_str(), |(volume, _)| volume);
        entries.push(Entry {
            id: relative(&path, root),
            patient: Some(options.patient_hash(volume)),
            source: Source::Array(path),
            answer: Answer::Mask(Mask::Array(label)),
        });
    }
    let traits = Traits { prepare, ..Traits::new(id, TaskKind::Segmentation, classes) };
    Ok(traits.dataset(split, options, entries, Vec::new()))
}
