//! A run's folder: the experiment as data, what came out of it, and everything a page of it shows.
//!
//! | file | holds |
//! |---|---|
//! | `dinorad-run.json` | the marker: version, whether the run is finished, the other files and their lengths |
//! | `config.toml` | the experiment's description; under `[made]` what differs from run to run |
//! | `metrics.json` | every number: [`Metrics`] |
//! | `predictions.csv`, `predictions-val.csv`, `predictions-k5.csv`, … | [`Predictions`](crate::Predictions) |
//! | `cases.csv` | part and patient (a running number) of every case: [`CaseTable`] |
//! | `scores.csv` | Dice and other scores of every test case and class, of a run that draws masks |
//! | `exhibits.json`, `pictures/*.png` | what a page shows besides: [`Exhibits`] |
//! | `model.safetensors` | the tested model |
//! | `pooling.safetensors` | the pooling of slices, where it was learned |
//! | `prepared.json` | how cases were prepared for the encoder, so that new ones can be alike |
//! | `plots/*.svg` | the plots of a page, for other uses |
//! | `log.jsonl` | what happened when |
//!
//! Every file appears whole; only the log grows line by line. Nothing in `metrics.json`, predictions,
//! cases and model depends on the date, the machine or the number of threads.
//!
//! ```
//! use dinorad_report::{Existing, Made, MetricValue, Metrics, RunFolder, RunWriter};
//!
//! # fn main() -> Result<(), dinorad_report::Error> {
//! # let root = tempfile::tempdir().unwrap();
//! # let folder = root.path().join("runs/first");
//! let mut run = RunWriter::create(&folder, Existing::Refuse)?;
//! run.config(&std::collections::BTreeMap::from([("protocol", "strict")]))?;
//! let mut metrics = Metrics::new("strict; AUROC: class 1 against 0");
//! metrics.choose("k = 20", [("k", 20)]);
//! metrics.set("test", "auroc", MetricValue::single(0.91).with_ci95(0.88, 0.94));
//! run.metrics(&metrics)?;
//! run.made(&Made { seconds: Some(12.5), ..Made::default() })?;
//! run.finish()?;
//!
//! let run = RunFolder::open(&folder)?;
//! assert_eq!(run.metrics().and_then(|m| m.get("test", "auroc")).and_then(|v| v.mean), Some(0.91));
//! assert_eq!(run.made()?.seconds, Some(12.5));
//! # Ok(()) }
//! ```

mod cases;
mod description;
mod exhibits;
mod learning;
mod made;
mod marker;
mod metrics;
mod read;
mod walk;
mod write;

pub use cases::{CaseRow, CaseTable};
pub use description::{Description, Difference, differences};
pub use exhibits::Exhibits;
pub use learning::LearningCurve;
pub use made::Made;
pub use marker::{MARKER, SCHEMA, Status, is_run};
pub use metrics::{CaseCounts, Constant, CurvePoint, MetricValue, Metrics, NotJudged, Search, SearchAxis, Searched};
pub use read::{MaskScore, RunFolder};
pub use walk::{Skipped, Walked, runs_below};
pub use write::{Existing, Found, RunWriter};

/// The description of the experiment.
pub const CONFIG: &str = "config.toml";
/// Every number.
pub const METRICS: &str = "metrics.json";
/// The predictions on test; those of validation and of other settings are `predictions-NAME.csv`.
pub const PREDICTIONS: &str = "predictions";
/// What a page shows beside the numbers.
pub const EXHIBITS: &str = "exhibits.json";
/// The scores of every test case and class, where masks were judged.
pub const MASK_SCORES: &str = "scores.csv";
/// Part and patient of every case.
pub const CASES: &str = "cases.csv";
/// The tested model.
pub const MODEL: &str = "model.safetensors";
/// The pooling of slices, where it was learned.
pub const POOLING: &str = "pooling.safetensors";
/// How cases were prepared for the encoder.
pub const PREPARED: &str = "prepared.json";
/// What happened when.
pub const LOG: &str = "log.jsonl";
/// Folder of pictures.
pub const PICTURES: &str = "pictures";
/// Folder of plots.
pub const PLOTS: &str = "plots";

/// Largest text file of a run that is read, in bytes.
const LARGEST_TEXT: u64 = 1 << 30;
