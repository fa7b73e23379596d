#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

mod array;
pub mod dicom;
mod error;
mod format;
mod grid;
mod guard;
pub mod image;
mod inspect;
mod label_picture;
mod labels;
mod load;
mod loaded;
pub mod mat;
pub mod metaimage;
pub mod mgh;
pub mod nifti;
pub mod npy;
pub mod nrrd;
mod options;
mod personal;
mod photometric;
mod picture;
mod placement;
mod resample;
mod sniff;
mod tiff;
mod tree;
mod volume;
mod voxels;
mod warnings;

pub use array::AnyArray;
pub use error::{Error, Result};
pub use format::Format;
pub use grid::{Compression, GridHeader, detached_voxels, read_grid_header, read_labels, read_slice, read_volume};
pub use inspect::{Attribute, Inspection, Member, inspect, inspect_with};
pub use labels::Labels;
pub use load::{read, read_with};
pub use loaded::Loaded;
pub use options::{Limits, ReadOptions};
pub use personal::Personal;
pub use photometric::Photometric;
pub use picture::Image;
pub use placement::Placement;
pub use resample::Interpolation;
pub use sniff::{sniff, sniff_bytes};
pub use tree::{Tree, Unfollowed, Walked};
pub use volume::Volume;
