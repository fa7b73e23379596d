//! What experiments run on, and one that is ready to run.

use std::{path::PathBuf, time::Duration};

use candle::Device;
use dinorad_core::method::Method;
use dinorad_datasets::Pseudonyms;
use dinorad_report::Existing;

use super::{Experiment, Loaded, Unwatched, Watch, data::Data, features::Recipe, pixels::Pixels};
use crate::row_layout::RowLayout;

/// What an experiment runs on. Nothing of it decides a number.
pub struct Runner<'a> {
    /// Where the encoder runs.
    pub device: Device,
    /// Images (or slices) per forward pass.
    pub batch: usize,
    /// Folder of the feature store, shared by runs.
    pub features: PathBuf,
    /// What becomes of another experiment's run in the folder; the same experiment's is made again, its
    /// features found where they are.
    pub existing: Existing,
    /// Whether the run keeps the training features too where they are the model, as for neighbours: as large
    /// as they are, and as private as the images they come from.
    pub whole_models: bool,
    /// Names of files and folders, and the ids of cases made of them, give way to these in everything that
    /// is written. A description written so names no data any more: to run it again, set `data.root`.
    pub pseudonyms: Option<Pseudonyms>,
    /// How long to wait for another process that makes the same features; what it has made is found then.
    pub patience: Duration,
    /// The commit that the program was made from, where it knows; `[made]` tells it.
    pub commit: Option<String>,
    /// The command that was typed; `[made]` tells it where names may be told.
    pub command: Option<String>,
    /// Who watches.
    pub watch: &'a dyn Watch,
}

impl Default for Runner<'_> {
    /// On the CPU in batches of 16, features in `features`, as patient as half a day, unwatched.
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            batch: 16,
            features: "features".into(),
            existing: Existing::Refuse,
            whole_models: false,
            pseudonyms: None,
            patience: Duration::from_secs(12 * 3600),
            commit: None,
            command: None,
            watch: &Unwatched,
        }
    }
}

/// An experiment whose data are open and whose encoder is loaded: what could be wrong has been looked
/// for, nothing has been encoded.
pub(super) struct Ready {
    /// With nothing left out.
    pub(super) experiment: Experiment,
    pub(super) subject: Subject,
    pub(super) encoder: Loaded,
    pub(super) pixels: Pixels,
    pub(super) layout: RowLayout,
}

/// What is judged or shown.
#[allow(clippy::large_enum_variant, reason = "there is one in a run")]
pub(super) enum Subject {
    /// Cases with truths, and the method that learns them.
    Judged { data: Data, method: Box<dyn Method> },
    /// Files without truths.
    Shown,
}

impl Runner<'_> {
    pub(super) fn recipe<'a>(&'a self, ready: &'a Ready, encoder: &'a Loaded) -> Recipe<'a> {
        let given = &ready.experiment.preprocessing;
        let percentiles = given.percentiles.then_some(ready.experiment.protocol);
        Recipe {
            encoder,
            called: "",
            batch: self.batch,
            preprocessing: ready.pixels.steps(&*encoder.backbone, percentiles),
            intensity: given.intensity.unwrap_or_default(),
            monochrome1: given.monochrome1,
            layout: ready.layout,
            slice_step: given.slice_step,
            folder: &self.features,
            patience: self.patience,
            watch: self.watch,
        }
    }
}
