//! What a segmentation decoder is.

use std::fmt;

use candle::Tensor;
use dinorad_nn::{Pass, Trainable};

use crate::Result;

/// What a decoder sees of some images of one size.
///
/// More may be added (a finer pass of the encoder, statistics of the scan): decoders take what they
/// know and leave the rest.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DecoderInput<'a> {
    /// Patch tokens `(b, rows · columns, dim)` of each encoder block that the decoder
    /// [reads](Decoder::blocks), oldest first.
    pub tokens: &'a [Tensor],
    /// Rows and columns of patches.
    pub grid: (usize, usize),
    /// The images themselves `(b, c, h, w)`, where they are at hand.
    pub pixels: Option<&'a Tensor>,
    /// Whether gradients are wanted, and statistics of a batch are to be learned.
    pub pass: Pass,
}

impl<'a> DecoderInput<'a> {
    /// Tokens of one block or several, without gradients.
    pub fn new(tokens: &'a [Tensor], grid: (usize, usize)) -> Self {
        Self { tokens, grid, pixels: None, pass: Pass::Inference }
    }

    /// The images alone `(b, c, h, w)`, for networks from scratch.
    pub fn of_pixels(pixels: &'a Tensor) -> Self {
        Self { tokens: &[], grid: (0, 0), pixels: Some(pixels), pass: Pass::Inference }
    }

    /// The same for training or not.
    #[must_use]
    pub fn with_pass(self, pass: Pass) -> Self {
        Self { pass, ..self }
    }

    /// The same beside the images `(b, c, h, w)`.
    #[must_use]
    pub fn with_pixels(self, pixels: &'a Tensor) -> Self {
        Self { pixels: Some(pixels), ..self }
    }
}

/// Patch tokens to a logit for every class at every pixel.
///
/// A decoder's parameters are those it shows as [`Trainable`]; a trainer, a checkpoint and a gradient
/// check need no more.
///
/// # Examples
/// ```
/// use candle::{DType, Device, Tensor};
/// use dinorad_decoders::{Decoder, DecoderInput, LinearDecoder};
///
/// let decoder: Box<dyn Decoder> = Box::new(LinearDecoder::new(16, 3, 0, &Device::Cpu)?);
/// let tokens = [Tensor::zeros((2, 4 * 5, 16), DType::F32, &Device::Cpu)?];
/// let logits = decoder.forward(&DecoderInput::new(&tokens, (4, 5)), (56, 70))?;
/// assert_eq!(logits.dims(), [2, decoder.n_classes(), 56, 70]);
/// # Ok::<(), dinorad_decoders::Error>(())
/// ```
pub trait Decoder: Trainable + fmt::Debug + Send + Sync {
    /// Number of classes, background included.
    fn n_classes(&self) -> usize;

    /// Of how many last encoder blocks it reads the tokens.
    fn blocks(&self) -> usize {
        1
    }

    /// Whether it looks at the images themselves.
    fn sees_pixels(&self) -> bool {
        false
    }

    /// Logits `(b, classes, height, width)` for images of `size` (height, width). Carries gradients in
    /// [`Pass::GRADIENTS`].
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for tokens of another width, number or grid.
    fn forward(&self, input: &DecoderInput<'_>, size: (usize, usize)) -> Result<Tensor>;
}

impl<D: Decoder + ?Sized> Decoder for Box<D> {
    fn n_classes(&self) -> usize {
        (**self).n_classes()
    }

    fn blocks(&self) -> usize {
        (**self).blocks()
    }

    fn sees_pixels(&self) -> bool {
        (**self).sees_pixels()
    }

    fn forward(&self, input: &DecoderInput<'_>, size: (usize, usize)) -> Result<Tensor> {
        (**self).forward(input, size)
    }
}
