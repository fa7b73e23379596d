#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub mod assembly;
mod atomic;
mod cases;
pub mod embed;
mod error;
pub mod export;
pub mod pca;
pub mod picture;
pub mod plot;
mod predictions;
pub mod probe;
mod progress;
pub mod report;
pub mod run;
pub mod segment;
mod settings;
pub mod store;
mod upload;
mod views;

pub use atomic::write_atomic;
pub use cases::{Cases, DatasetCases, InputCases, prepare, prepare_view};
pub use error::{Error, Result};
pub use predictions::Predictions;
pub use progress::{Progress, Silent};
pub use settings::{Settings, View};
pub use views::AugmentedViews;
