//! What pre-training and distillation need of files: slices at hand, a plan before the start, a judge now and then.
//!
//! The training itself is in `dinorad_pretrain`, which knows no files.

mod ahead;
mod judge;
mod plan;
mod slices;

pub use ahead::Ahead;
pub use judge::KnnJudge;
pub use plan::TrainingPlan;
pub use slices::{SliceStore, raw_cases, raw_inputs};
