#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub use candle;

mod augment;
mod batch;
mod centring;
pub mod distill;
mod error;
mod head;
mod images;
mod intensity;
pub mod loss;
mod masks;
mod monitor;
mod pretrainer;
mod rank;
mod rates;
mod run;
mod schedule;
mod settings;
mod student;
mod teacher;
mod views;

pub use augment::Augmentation;
pub use batch::{Batch, Feed};
pub use centring::{Centring, RunningCentre, centred_softmax, sinkhorn_knopp};
pub use error::{Error, Result};
pub use head::{DinoHead, HeadConfig};
pub use images::Images;
pub use intensity::{Intensity, Levels};
pub use masks::{Masking, Masks};
pub use monitor::{Limits, Monitor, Readings};
pub use pretrainer::{Losses, Pretrainer, Stepped};
pub use rank::{effective_rank, relative_deviation};
pub use rates::{decays, rate_of_depth};
pub use run::{Ended, Judge, RunOptions, run};
pub use schedule::CosineSchedule;
pub use settings::{LossWeights, Settings, TeacherTemperature};
pub use student::Student;
pub use views::Views;
