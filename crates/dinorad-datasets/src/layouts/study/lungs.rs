//! Lung fields: Montgomery County and Shenzhen.

use std::path::Path;

use dinorad_core::{Split, TaskKind};

use super::{Traits, files};
use crate::{
    Dataset, Error, OpenOptions, Result,
    files::{file_name, relative, stem},
    listed::{Answer, Colour, Entry, Mask, Source, Values},
};

/// `{split}/*.png` with `ManualMask/leftMask` and `ManualMask/rightMask`.
pub(super) fn open_mc(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let mut entries = Vec::new();
    for path in files(root, &root.join(split.to_string()), "png", split, options)? {
        let mask = |side: &str| root.join("ManualMask").join(side).join(file_name(&path));
        let (left, right) = (mask("leftMask"), mask("rightMask"));
        for (mask, missing) in [(&left, "left mask"), (&right, "right mask")] {
            if !mask.is_file() {
                return Err(Error::Unpaired { path, missing, expected: mask.clone() });
            }
        }
        entries.push(Entry {
            id: relative(&path, root),
            patient: Some(options.patient_hash(&stem(&path))),
            source: Source::File(path),
            answer: Answer::Mask(Mask::TwoPictures(left, right)),
        });
    }
    let classes = ["background", "left_lung", "right_lung"];
    let traits = Traits { colour: Colour::Gray, ..Traits::new("mc", TaskKind::Segmentation, &classes) };
    Ok(traits.dataset(split, options, entries, Vec::new()))
}

/// `{split}/*.png` with `masks/*_mask.png`, 0 and 255.
pub(super) fn open_shenzhen(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let mut entries = Vec::new();
    for path in files(root, &root.join(split.to_string()), "png", split, options)? {
        let mask = root.join("masks").join(format!("{}_mask.png", stem(&path)));
        if !mask.is_file() {
            return Err(Error::Unpaired { path, missing: "mask", expected: mask });
        }
        entries.push(Entry {
            id: relative(&path, root),
            patient: Some(options.patient_hash(&stem(&path))),
            source: Source::File(path),
            answer: Answer::Mask(Mask::Picture(mask)),
        });
    }
    let traits = Traits {
        colour: Colour::Rgb,
        values: Values::new(vec![0, 255]),
        ..Traits::new("shenzhen", TaskKind::Segmentation, &["background", "lung"])
    };
    Ok(traits.dataset(split, options, entries, Vec::new()))
}
