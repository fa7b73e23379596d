#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub use candle;

mod architecture;
mod backbone;
mod cnn;
mod dinov2;
pub mod engine;
mod error;
pub mod hub;
mod load;
mod options;
mod registry;
mod sam;
mod source;
#[cfg(test)]
mod testing;
pub mod tuning;
mod vit;
mod weights;

pub use backbone::{Backbone, BackboneSpec, Features, FinalNorm, LayerTokens, Layers, Origin, Patches, Request};
pub use cnn::{
    Cnn, CnnConfig, CnnKernels, DenseNetConfig, ResNetBlock, ResNetConfig, ResNetStage, TrainableCnn, VggConfig,
    load_cnn,
};
pub use dinorad_core::Protocol;
pub use dinov2::{
    Dinov2, Dinov2Config, FeedForward, ForwardFeatures, PositionResampling, resample_positions, swiglu_hidden,
};
pub use error::{Error, Result};
pub use load::{load, load_dinov2, load_with};
pub use options::{LoadOptions, Normalization};
pub use registry::{Encoder, Family, Output, find, registry};
pub use sam::{Sam, SamConfig, load_sam};
pub use source::Source;
pub use vit::{FeedForwardNet, Positions, TransformerBlock, Vit, VitConfig, load_vit};
pub use weights::{Layout, LoadReport, ShapeMismatch, Unmatched, WeightCopy, WeightFile, inspect, load_path};
