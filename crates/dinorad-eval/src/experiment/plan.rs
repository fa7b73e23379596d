//! Many experiments: looked through before anything starts, run one after another, gone on with.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use candle::{DType, Tensor};

use super::{
    Descriptions, Experiment, Outcome,
    data::Part,
    file::Origin,
    runner::{Ready, Runner, Subject},
};
use dinorad_report::Existing;

use crate::{Error, Result};

/// An experiment that waits for its turn.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its name among the others.
    pub name: String,
    /// What it is.
    pub experiment: Experiment,
    /// Where its run will lie.
    pub out: PathBuf,
    /// Where it stands in a file, if it came from one.
    pub(super) origin: Option<Origin>,
}

impl Planned {
    /// An experiment that no file describes.
    pub fn new(name: impl Into<String>, experiment: Experiment, out: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), experiment, out: out.into(), origin: None }
    }

    fn located(&self, error: Error) -> Error {
        match &self.origin {
            Some(origin) => origin.located(error),
            None => error,
        }
    }
}

/// What an experiment will cost at most: nothing is known to be in the store already.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// Images (or slices) through the encoder.
    pub images: usize,
    /// Seconds in the encoder, by the time that one batch took.
    pub seconds: f64,
    /// Bytes of features.
    pub disk: u64,
    /// Bytes of memory: weights, one batch, the features of all parts.
    pub memory: u64,
}

impl Descriptions {
    /// Gives every experiment its folder: `out` itself for one, a folder below it for each of several.
    pub fn planned(self, out: &Path) -> Vec<Planned> {
        let alone = self.experiments.len() == 1;
        self.experiments
            .into_iter()
            .zip(self.origins)
            .map(|((name, experiment), origin)| {
                let out = if alone { out.to_owned() } else { out.join(&name) };
                Planned { name, experiment, out, origin: Some(origin) }
            })
            .collect()
    }
}

impl Runner<'_> {
    /// Opens every experiment's data and loads its encoder, so that the last of them does not fail when
    /// the others have run for hours. Nothing is written.
    ///
    /// # Errors
    /// What is wrong with the first that cannot run, with its name.
    pub fn check(&self, planned: &[Planned]) -> Result<()> {
        for (i, one) in planned.iter().enumerate() {
            if let Some(other) = planned[..i].iter().find(|other| other.out == one.out) {
                let why = format!("`{}` and `{}` would both be written to {}", other.name, one.name, one.out.display());
                return Err(Error::description("name", why));
            }
            self.ready(&one.experiment).map_err(|error| about(one, planned, one.located(error)))?;
        }
        Ok(())
    }

    /// Runs one of several; a run of the same description that ended well is left as it is, which gives
    /// `None`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_planned(&self, one: &Planned) -> Result<Option<Outcome>> {
        let ready = self.ready(&one.experiment).map_err(|error| one.located(error))?;
        if self.existing == Existing::Refuse && self.is_done(&ready, &one.out)? {
            return Ok(None);
        }
        self.run_ready(ready, &one.out).map(Some)
    }

    /// What an experiment will cost, by its data and one batch through its encoder.
    ///
    /// # Errors
    /// As [`run`](Self::run) before anything is encoded; a first case that cannot be read.
    pub fn estimate(&self, experiment: &Experiment) -> Result<Estimate> {
        let ready = self.ready(experiment)?;
        let Ready { subject, encoder, pixels, layout, experiment } = &ready;
        let spec = encoder.backbone.spec();
        let parts: Vec<&Part> = match subject {
            Subject::Judged { data, .. } => data.parts().collect(),
            Subject::Shown => Vec::new(),
        };
        let cases: usize = match subject {
            Subject::Judged { .. } => parts.iter().map(|part| part.set.len()).sum(),
            Subject::Shown => dinorad_datasets::discover(std::slice::from_ref(&experiment.data.root)).len(),
        };
        let per_case = parts.first().map_or(Ok(1), |part| slices_of(part, experiment.preprocessing.slice_step))?;
        let shifts = parts.last().map_or(0, |test| test.set.len())
            * experiment.shifts.len()
            * dinorad_transforms::Shift::SEVERITIES;
        let encoders = 1 + usize::from(experiment.controls.untrained_encoder);
        let images = (cases * encoders + shifts) * per_case;
        let batch = self.batch.min(images.max(1));
        let input = Tensor::zeros((batch, 3, pixels.crop, pixels.crop), DType::F32, &encoder.device)?;
        let started = Instant::now();
        encoder.backbone.forward(&input, &layout.request())?;
        let seconds = started.elapsed().as_secs_f64() * images as f64 / batch as f64;
        let row = layout.layout(spec.embed_dim).width() as u64 * 4;
        let tokens = if spec.patch > 1 { (pixels.crop / spec.patch).pow(2) as u64 } else { 1 };
        let with_patches =
            matches!(subject, Subject::Judged { method, .. } if method.input() == dinorad_core::method::Input::Patches);
        let case_bytes = if with_patches { tokens * spec.embed_dim as u64 * 4 } else { row };
        let disk = (cases * encoders + shifts) as u64 * case_bytes;
        // Twelve matrices of D x D a block hold nearly all weights of a vision transformer; a batch holds its
        // tokens some twenty times over (residuals, queries, keys, values, the hidden layer).
        let weights = 12 * (spec.embed_dim as u64).pow(2) * spec.depth as u64 * 4;
        let activations = batch as u64 * (tokens + 1) * spec.embed_dim as u64 * 4 * 20;
        let held = if with_patches { 64 * case_bytes } else { cases as u64 * row * 2 };
        Ok(Estimate { images, seconds, disk, memory: weights + activations + held })
    }
}

/// Slices of the first case that can be read.
fn slices_of(part: &Part, step: usize) -> Result<usize> {
    if !part.set.task().is_3d {
        return Ok(1);
    }
    let slices = match part.set.sample(0)?.pixels {
        dinorad_datasets::Pixels::Image(_) => 1,
        dinorad_datasets::Pixels::Slices(slices) => slices.len(),
        dinorad_datasets::Pixels::Volume(volume) => volume.data.dim().0,
    };
    Ok(slices.div_ceil(step.max(1)))
}

/// An error with the name of the experiment, where there are several.
fn about(one: &Planned, planned: &[Planned], error: Error) -> Error {
    match planned {
        [_] => error,
        _ => Error::While { doing: one.name.clone(), source: Box::new(error) },
    }
}
