#![doc = include_str!("../README.md")]

mod affine;
mod error;
mod label;
pub mod resample;
pub mod rng;

pub use affine::{Affine, axis_codes_of};
pub use error::{Error, Result};
pub use label::{Orientation, Protocol, Split, Target, Task, TaskKind};
