#![doc = include_str!("../README.md")]

mod atomic;
mod cases;
pub mod embed;
mod error;
pub mod knn;
pub mod pca;
pub mod picture;
pub mod plot;
mod predictions;
mod progress;
pub mod report;
pub mod run;
pub mod segment;
pub mod store;
mod upload;

pub use atomic::write_atomic;
pub use cases::{Cases, DatasetCases, InputCases, prepare};
pub use error::{Error, Result};
pub use predictions::Predictions;
pub use progress::{Progress, Silent};
