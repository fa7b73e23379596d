//! Slices cut before: AMOS, BTCV slices and the Decathlon sets as npy files.

use std::path::Path;

use dinorad_core::TaskKind;

use super::{
    traits::Traits,
    tree::{files, has_split_folders, orphans},
};
use crate::{
    Dataset, Error, PatientKey, Result,
    faults::Faults,
    files::{file_name, folder_files, relative, stem},
    info::Opening,
    listed::{Answer, Entry, Mask, Source},
};

/// Where the labels of the slices lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    /// Images in `{split}`, the labels of all splits in `labels`, under the same names.
    Together,
    /// Images in `{split}/img`, labels in `{split}/label`: `img` of a name becomes `label`.
    BySplit,
}

impl Labels {
    /// The label's name by that of its image.
    fn name(self, image: &str) -> String {
        match self {
            Labels::Together => image.to_owned(),
            Labels::BySplit => image.replacen("img", "label", 1),
        }
    }
}

/// Whether a tree of slices lies under `root`.
pub(super) fn are_below(root: &Path, labels: Labels) -> bool {
    has_split_folders(root) || (labels == Labels::Together && root.join("labels").is_dir())
}

pub(super) fn open(asked: &Opening, by: Labels) -> Result<Box<dyn Dataset>> {
    let Opening { info, root, split, options, .. } = *asked;
    let part = root.join(split.to_string());
    let (images, labels) = match by {
        Labels::Together => (part, root.join("labels")),
        Labels::BySplit => (part.join("img"), part.join("label")),
    };
    let entry = |path: std::path::PathBuf| -> Result<Entry> {
        let label = labels.join(by.name(&file_name(&path)));
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
    for path in files(asked, &images, "npy")? {
        entries.extend(faults.keep(entry(path))?);
    }
    let mut known = std::collections::BTreeSet::new();
    let folders = match by {
        Labels::Together => ["train", "val", "test"].map(|s| root.join(s)).to_vec(),
        Labels::BySplit => vec![images],
    };
    for folder in folders.iter().filter(|f| f.is_dir()) {
        known.extend(folder_files(folder)?.iter().map(|f| by.name(&file_name(f))));
    }
    let warnings = orphans(&labels, ".npy", |n| known.contains(n))?;
    Traits::new(TaskKind::Segmentation, info.classes).dataset(asked, entries, warnings, faults)
}
