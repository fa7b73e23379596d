#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub use candle;

mod blocks;
mod decoder;
mod decoder_training;
mod error;
mod linear_decoder;
pub mod methods;
mod patch_tokens;
mod unet;
mod unet_decoder;
mod weights;

pub use decoder::{Decoder, DecoderInput};
pub use decoder_training::{DecoderCase, DecoderTrainer, DecoderTraining, PixelLoss};
pub use dinorad_core::grid::{DecoderPoint, SEGMENTATION_LEARNING_RATES};
pub use error::{Error, Result};
pub use linear_decoder::LinearDecoder;
pub use unet::{Unet, UnetConfig};
pub use unet_decoder::{UnetDecoder, UnetDecoderConfig};
