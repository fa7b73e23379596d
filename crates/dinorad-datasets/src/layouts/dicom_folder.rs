//! A folder of DICOM studies without labels: one case per series.

use std::path::Path;

use dinorad_core::{Split, Target, Task, TaskKind};

use crate::{
    Dataset, Error, OpenOptions, Result,
    discover::{InputKind, discover},
    files::relative,
    listed::{Answer, Colour, Common, Entry, Listed, Prepare, Source, Values},
};

/// Every series below `root`, all in `train`: without labels there is nothing to divide.
pub(crate) fn open(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let mut entries = Vec::new();
    let mut warnings = Vec::new();
    for input in discover(&[root.to_owned()]) {
        let source = match &input.kind {
            InputKind::Series { folder, uid, files } => {
                Source::Series { folder: folder.clone(), uid: uid.clone(), files: files.clone() }
            }
            InputKind::Bad { reason } => {
                warnings.push(format!("{} left out: {reason}", relative(&input.path, root)));
                continue;
            }
            _ => {
                warnings.push(format!("{} left out: no DICOM series", relative(&input.path, root)));
                continue;
            }
        };
        entries.push(Entry { id: input.id, patient: None, source, answer: Answer::Known(Target::Unlabelled) });
    }
    if entries.is_empty() {
        return Err(Error::layout(root, "no DICOM series below this folder"));
    }
    if split != Split::Train {
        let why = format!("{} series without labels, all of them in train", entries.len());
        return Err(Error::NoSplit { path: root.to_owned(), split, why });
    }
    let common = Common {
        id: "dicom".to_owned(),
        task: Task { kind: TaskKind::Multiclass, class_names: Vec::new(), is_3d: true },
        split,
        values: Values::plain(0),
        colour: Colour::AsStored,
        prepare: Prepare::Nothing,
        options: options.clone(),
        warnings,
    };
    Ok(Box::new(Listed::new(common, entries)))
}
