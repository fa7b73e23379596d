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
mod fused_decoder;
mod linear_decoder;
pub mod methods;
mod patch_tokens;
mod resnet_v2;
mod trans_unet;
mod unet;
mod unet_decoder;
mod weights;

pub use decoder::{Decoder, DecoderInput};
pub use decoder_training::{DecoderCase, DecoderTrainer, DecoderTraining, PixelLoss};
pub use dinorad_core::grid::{DecoderPoint, SEGMENTATION_LEARNING_RATES};
pub use dinorad_nn::{Statistics, loss::Weighting};
pub use error::{Error, Result};
pub use fused_decoder::{FusedDecoder, FusedDecoderConfig};
pub use linear_decoder::LinearDecoder;
pub use trans_unet::{TransUnet, TransUnetConfig};
pub use unet::{Unet, UnetConfig};
pub use unet_decoder::{UnetDecoder, UnetDecoderConfig};
