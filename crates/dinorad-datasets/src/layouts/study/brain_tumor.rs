//! Brain Tumor MRI: `{split}/<n>.mat` with `cjdata/{image,label,PID}`.

use std::path::{Path, PathBuf};

use dinorad_core::{Split, Target, TaskKind};
use dinorad_io::{ReadOptions, mat::MatFile};
use dinorad_transforms::PercentileRule;
use rayon::prelude::*;

use super::{Traits, files};
use crate::{
    Dataset, Error, OpenOptions, Result,
    files::relative,
    listed::{Answer, Entry, Prepare, Source},
};

const CLASSES: [&str; 3] = ["meningioma", "glioma", "pituitary"];

pub(super) fn open(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let paths = files(root, &root.join(split.to_string()), "mat", split, options)?;
    let entries = paths.into_par_iter().map(|path| entry(path, root, options)).collect::<Result<Vec<_>>>()?;
    let traits = Traits {
        prepare: Prepare::Percentiles(PercentileRule::ZeroBelow),
        ..Traits::new("brain-tumor", TaskKind::Multiclass, &CLASSES)
    };
    Ok(traits.dataset(split, options, entries, Vec::new()))
}

/// Reads label and patient, not the pixels.
fn entry(path: PathBuf, root: &Path, options: &OpenOptions) -> Result<Entry> {
    let file = MatFile::open(&path, &ReadOptions::default().with_limits(options.limits))?;
    let label = file.number("cjdata/label")?;
    let class = (1..=CLASSES.len()).find(|c| *c as f64 == label);
    let class = class.ok_or_else(|| Error::label(&path, label, "1, 2, 3"))? - 1;
    let patient = file.text("cjdata/PID").ok().filter(|p| !p.trim().is_empty());
    Ok(Entry {
        id: relative(&path, root),
        patient: patient.map(|p| options.patient_hash(&p)),
        source: Source::BrainTumor(path),
        answer: Answer::Known(Target::Class(class)),
    })
}
