#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub use candle;

mod aggregate;
mod attention;
mod error;
mod fixed;
mod padding;

pub use aggregate::{Aggregate, Pooled, aggregate_batch};
pub use attention::GatedAttentionPool;
pub use error::{Error, Result};
pub use fixed::{MaxPool, MeanPool, TopKMean};
pub use padding::{PADDING_VALUE, padded_slices};
