#![doc = include_str!("../README.md")]

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
