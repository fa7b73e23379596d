#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

mod affine;
mod components;
pub mod description;
mod error;
pub mod grid;
mod label;
pub mod markers;
pub mod method;
mod nearest;
mod progress;
pub mod resample;
pub mod rng;

pub use affine::{Affine, axis_codes_of};
pub use components::{Component, Touching, components, neighbours};
pub use error::{Error, Result, in_full};
pub use label::{Orientation, Protocol, Split, Target, Task, TaskKind};
pub use nearest::nearest;
pub use progress::{Progress, Silent};
