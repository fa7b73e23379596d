//! Segmentation of scans: networks that draw masks, on an encoder or from scratch.
//!
//! A scan is read once, shown on its own scale (0 to 1) at its own size, and cut into slices along one axis or all
//! three. What is learned from are slices; what comes out is the mask of a whole scan, at its size. An encoder
//! that stays frozen reads every training slice once: its patch tokens wait on disk as f16.

mod augment;
mod batches;
mod evaluate;
mod fitted;
mod judged;
mod lesson;
mod method;
mod net;
mod postprocess;
mod scans;
mod tokens;

pub use evaluate::{JudgedFolders, MaskJudgement, evaluate_folders};
pub use judged::{CaseScores, ClassScore, LengthUnit, MaskTable};
pub use method::{Architecture, ENTRY, Planes, SegmentMethod};
pub use postprocess::{fill_holes, largest_component};
pub use scans::{Eyes, Scan, Scans, Surveyed};
