//! A folder of DICOM studies without labels: one case per series.

use std::path::Path;

use dinorad_core::{Split, Target, Task, TaskKind};
use dinorad_io::{Format, ReadOptions, dicom};

use crate::{
    Colour, Dataset, Error, InputKind, PatientKey, Result,
    discover::discover_inputs,
    error::number,
    faults::Faults,
    files::relative,
    info::Opening,
    listed::{Answer, Common, Entry, Listed, Source, Values},
};

/// Every series below `root`, all in `train`: without labels there is nothing to divide. A DICOM file
/// that is no part of a series, such as an X-ray, is a case by itself.
pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let Opening { info, root, split, options, .. } = *asked;
    let mut faults = Faults::new(options);
    let mut entries = Vec::new();
    let mut warnings = Vec::new();
    let mut nameless = 0;
    let found = discover_inputs(&[root.to_owned()]);
    warnings.extend(found.notices(true));
    for input in found.inputs {
        let (source, first) = match &input.kind {
            InputKind::Series { folder, files, frames, uneven, .. } => {
                let uneven = uneven.is_some();
                let frames = frames.clone();
                let source = Source::Series { folder: folder.clone(), files: files.clone(), frames, uneven };
                (source, files.first().cloned())
            }
            InputKind::File(Format::Dicom) => (Source::File(input.path.clone()), Some(input.path.clone())),
            // text and the like beside the studies is said; a broken DICOM file is a fault
            InputKind::Bad { reason } if is_dicom(&input.path) => {
                faults.note(Error::layout(&input.path, reason));
                continue;
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
        let read = ReadOptions::default().with_limits(options.limits);
        // a series whose patient cannot be read might be anybody's: it is no patient of its own
        let patient = first.map_or(Ok(None), |f| dicom::hash_patient(&f, &read, PatientKey::of));
        let Some(patient) = faults.keep(patient.map_err(Error::from))? else { continue };
        nameless += usize::from(patient.is_none());
        entries.push(Entry::new(input.id, patient, source, Answer::Known(Target::Unlabelled)));
    }
    let left_out = faults.unless_empty(entries.len())?;
    if entries.is_empty() {
        return Err(Error::layout(root, "no DICOM series below this folder"));
    }
    if nameless > 0 {
        let n = number(nameless, "series has", "series have");
        warnings.push(format!("{n} no PatientID: each counts as a patient of its own"));
    }
    if split != Split::Train {
        return Err(asked.no_split(format!("{} series without labels, all of them in train", entries.len())));
    }
    let common = Common {
        id: info.name.to_owned(),
        task: Task { kind: TaskKind::Multiclass, class_names: Vec::new(), is_3d: true },
        split,
        values: Values::plain(0),
        colour: Colour::AsStored,
        prepare: info.prepare,
        options: options.clone(),
        warnings,
        left_out,
        layout: "folder of DICOM studies",
    };
    Ok(Box::new(Listed::new(common, entries)?))
}

pub(super) fn is_dicom(path: &Path) -> bool {
    path.is_dir() || matches!(dinorad_io::sniff(path), Ok(Format::Dicom))
}
