#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

mod cache;
mod channels;
mod columns;
mod dataset;
mod discover;
mod divide;
mod doctor;
mod error;
mod faults;
mod files;
mod info;
mod input;
mod intensity;
mod layouts;
mod listed;
mod loader;
mod natural;
mod patient;
mod preparation;
mod pseudonyms;
mod registry;
mod resplit;
mod series;
mod spec;
mod split_table;
pub mod splits;
mod table;

pub use columns::Columns;
pub use dataset::{Dataset, OpenOptions, Pixels, Sample, Uncertain, Unit};
pub use discover::{DiscoverOptions, Inputs, discover, discover_inputs, discover_with};
pub use doctor::{DoctorReport, Duplicate, Finding, Range, Severity, SplitReport, doctor, doctor_with};
pub use error::{Error, Result};
pub use info::Info;
pub use input::{Input, InputKind};
pub use intensity::{Intensity, Scale};
pub use layouts::csv_manifest::label_ids;
pub use layouts::msd::{MsdCase, MsdFolder, open_unlabelled};
pub use listed::slice_of;
pub use loader::{Bad, LoadOptions, Loader, Ordered, ordered};
pub use natural::natural_order;
pub use patient::{Group, PatientKey};
pub use preparation::{Colour, Monochrome1, Preparation, Prepare};
pub use pseudonyms::{Kind, Pseudonymous, Pseudonyms};
pub use registry::{find, infos, open};
pub use spec::DatasetSpec;
pub use split_table::{SplitRow, SplitTable, fold_paths};
pub use splits::{Draw, FewShot, Rule, SplitRule};
