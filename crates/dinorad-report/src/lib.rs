#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub mod atomic;
mod compare;
mod error;
mod error_helpers;
mod failure;
pub mod figures;
pub mod folder;
pub mod lettering;
pub mod lock;
mod mask_pairs;
pub mod pages;
mod paired;
pub mod picture;
pub mod plot;
mod predictions;
mod renaming;
pub mod spreadsheet;

pub use atomic::write_atomic;
pub use compare::{ComparedCases, ComparedScore, RunComparison, Test, compare_runs};
pub use error::{Error, Result};
pub use failure::Failure;
pub use folder::{
    CaseCounts, CaseTable, CurvePoint, Description, Difference, Exhibits, Existing, Found, LearningCurve, MASK_SCORES,
    Made, MaskScore, MetricValue, Metrics, NotJudged, RunFolder, RunWriter, Search, SearchAxis, Searched, Skipped,
    Status, Walked, is_run, runs_below,
};
pub use lock::RunLock;
pub use paired::{Comparison, Pairs};
pub use predictions::Predictions;
pub use renaming::{Name, Renaming};
