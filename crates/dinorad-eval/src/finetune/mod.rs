//! Fine-tuning: the encoder learns too, all of it, some of its parameters, or adapters beside them.
//!
//! [`FinetuneMethod`] is a method like any other, so that an experiment's protocol, folds, controls and report
//! are the same as for a probe. A grid point is a training of its own, from a fresh encoder.

mod fitted;
mod lesson;
mod method;
mod model;
mod plan;
mod source;

pub(crate) use self::plan::widths_kept;
pub use self::{
    fitted::Tuned,
    method::{Clock, ENTRY, FinetuneMethod, Pace},
    plan::MemoryPlan,
    source::{DatasetPixels, GivenPixels},
};
