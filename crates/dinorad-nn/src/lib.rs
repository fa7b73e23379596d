#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub use candle;

mod attention;
mod batch_norm;
mod convolution;
mod error;
mod feed_forward;
mod flash;
mod group_norm;
pub mod init;
mod layer_norm;
mod linear;
pub mod loss;
pub mod ops;
pub mod optim;
mod pass;
mod rotary;
mod schedule;
pub mod store;
pub mod train;
mod trainable;
mod upsample;

pub use attention::Attention;
pub use batch_norm::{BatchNorm, Statistics};
pub use convolution::{Conv2d, ConvTranspose2d};
pub use error::{Error, Result};
pub use feed_forward::{Activation, LayerScale, Mlp, SwiGlu};
pub use group_norm::GroupNorm;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LowRank};
pub use optim::Optimizer;
pub use pass::Pass;
pub use rotary::Rotary;
pub use schedule::{Course, Schedule, cosine_lr, layer_decay};
#[doc(hidden)]
pub use trainable::parameter_path;
pub use trainable::{Trainable, join};
pub use upsample::Resize;
