//! An experiment as data: one description that runs, repeats, resumes and reports.
//!
//! [`Experiment`] says what is judged, [`Runner`] runs it, and a run's folder holds what came of it.
//! The `config.toml` of any run is itself a description: running it again gives the same bytes.
//!
//! ```no_run
//! use std::path::Path;
//! use dinorad_eval::experiment::{Experiment, Runner};
//!
//! # fn main() -> Result<(), dinorad_eval::Error> {
//! let experiment = Experiment::read("knn.toml".as_ref())?;
//! let outcome = Runner::default().run(&experiment, Path::new("runs/knn"))?;
//! println!("AUROC {:?}", outcome.auroc());
//! # Ok(()) }
//! ```

mod data;
mod description;
#[cfg(feature = "dicom-seg")]
mod dicom_seg;
mod encoder;
mod exhibits;
mod features;
mod file;
mod folds;
mod gallery;
mod mask_figures;
mod mask_trials;
mod methods;
mod outcome;
mod pixels;
mod plan;
mod predict;
mod predict_masks;
mod run;
mod runner;
mod scans;
mod segmenting;
mod slices;
mod stored;
mod tables;
mod watch;

pub use data::{Data, Part, options_of};
pub use description::{
    About, AttentionChoice, Controls, DataChoice, EncoderChoice, Experiment, Intervals, OtherData, Precision,
    Preprocessing, SCHEMA, Subsets,
};
pub use dinorad_report::Existing;
pub use encoder::{Loaded, NO_ENCODER};
pub use features::Work;
pub use file::Descriptions;
pub use folds::{CrossValidation, FoldScores, OverFolds};
pub use mask_trials::{FewLabels, MaskTrials};
pub use methods::{MethodChoice, methods};
pub use outcome::{ControlScores, Judgements, Outcome, ShiftCurve, comparisons};
pub use plan::{Estimate, Planned};
pub use predict::{Predicted, Predictor};
pub use predict_masks::{DrawnMasks, MaskPredictor};
pub use runner::Runner;
pub use scans::{MASKS, TOLERANCE_MM};
pub use slices::{PcaRequest, ShownSlice, pca_sheet, slices};
pub use tables::encoders;
pub use watch::{Unwatched, Watch};
