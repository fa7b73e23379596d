#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

mod cache;
mod dataset;
mod discover;
mod doctor;
mod error;
mod faults;
mod files;
mod layouts;
mod listed;
mod loader;
mod natural;
mod patient;
mod pseudonyms;
mod registry;
mod split_table;
pub mod splits;
mod table;

pub use dataset::{Dataset, OpenOptions, Pixels, Preparation, Sample, Uncertain, Unit};
pub use discover::{Input, InputKind, Inputs, discover, discover_inputs};
pub use doctor::{DoctorReport, Duplicate, Finding, Range, Severity, SplitReport, doctor, doctor_with};
pub use error::{Error, Result};
pub use layouts::msd::{MsdCase, MsdFolder, open_unlabelled};
pub use listed::{Colour, Prepare, slice_of};
pub use loader::{Bad, LoadOptions, Loader, Ordered, ordered};
pub use natural::natural_order;
pub use patient::{Group, PatientKey};
pub use pseudonyms::{Kind, Pseudonymous, Pseudonyms};
pub use registry::{DatasetSpec, Info, find, infos, open};
pub use split_table::{SplitRow, SplitTable, fold_paths};
pub use splits::{Draw, Rule};
