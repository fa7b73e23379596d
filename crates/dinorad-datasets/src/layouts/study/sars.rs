//! SARS-CoV-2 CT: `{split}/<patient>/<n>.png`.

use std::path::Path;

use dinorad_core::{Split, Target, TaskKind};

use super::{Traits, files, sort};
use crate::{
    Dataset, Error, OpenOptions, Result,
    files::{file_name, relative, sub_folders},
    listed::{Answer, Colour, Entry, Source},
};

/// Patients up to this number are positive.
const LAST_POSITIVE: u64 = 79;

pub(super) fn open(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let part = root.join(split.to_string());
    if !part.is_dir() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: format!("no folder {split}") });
    }
    let mut folders = sub_folders(&part)?;
    sort(&mut folders, options);
    let mut entries = Vec::new();
    for folder in folders {
        let number: u64 = file_name(&folder)
            .parse()
            .map_err(|_| Error::layout(&folder, "the name of a patient's folder is not a number"))?;
        let pictures = match files(root, &folder, "png", split, options) {
            Err(Error::NoSplit { .. }) => return Err(Error::layout(&folder, "a patient without slices")),
            other => other?,
        };
        entries.push(Entry {
            id: relative(&folder, root),
            patient: Some(options.patient_hash(&number.to_string())),
            source: Source::Pictures(pictures),
            answer: Answer::Known(Target::Class(usize::from(number <= LAST_POSITIVE))),
        });
    }
    if entries.is_empty() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: format!("no patients in {split}") });
    }
    let traits = Traits {
        is_3d: true,
        colour: Colour::Rgb,
        ..Traits::new("sars-cov-2-ct", TaskKind::Binary, &["Negative", "Positive"])
    };
    Ok(traits.dataset(split, options, entries, Vec::new()))
}
