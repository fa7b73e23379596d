#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub mod atomic;
mod comparison;
mod error;
mod failure;
pub mod lettering;
pub mod pages;
pub mod picture;
pub mod plot;
mod predictions;
pub mod run;

pub use atomic::write_atomic;
pub use comparison::Comparison;
pub use error::{Error, Result};
pub use failure::Failure;
pub use predictions::Predictions;
