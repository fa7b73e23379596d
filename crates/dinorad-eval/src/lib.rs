#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

mod cases;
pub mod date;
mod doubts;
pub mod embed;
mod error;
pub mod experiment;
pub mod export;
pub mod finetune;
mod memory;
mod paths;
pub mod pca;
pub mod pretraining;
pub mod probe;
pub mod pseudonyms;
pub mod row_layout;
pub mod segment;
pub mod segmenting;
mod settings;
mod shown;
pub mod store;
mod upload;
mod views;
mod words;

pub use cases::{Cases, DatasetCases, InputCases, Prepared};
pub use dinorad_core::{Progress, Silent};
pub use dinorad_report::{Predictions, pages as report, picture, plot, write_atomic};
pub use doubts::{CaseNotes, Doubts};
pub use error::{Error, Result};
pub use settings::Settings;
pub use shown::shown_as;
pub use views::AugmentedViews;
