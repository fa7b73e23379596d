//! The hierarchical decoder over the tokens of five encoder blocks.

use std::path::Path;

use candle::{Device, Tensor};
use dinorad_core::resample::Filter;
use dinorad_nn::{ConvTranspose2d, Statistics, ops, parameters};

use crate::{
    Decoder, DecoderInput, Error, Result,
    blocks::{ConvBatch, Mode, at_size, check_classes, sides, to_corners, tokens},
    weights::{self, Weights},
};

/// Sizes of a [`UnetDecoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetDecoderConfig {
    /// Width of the tokens, a multiple of 8.
    pub dim: usize,
    /// Classes, background included.
    pub classes: usize,
    /// How the maps, 16 times as large as the grid of patches, get to the size of the mask.
    pub filter: Filter,
}

impl UnetDecoderConfig {
    /// Bicubic interpolation without antialiasing at the end, as the study's version of torchvision has it.
    pub fn new(dim: usize, classes: usize) -> Self {
        Self { dim, classes, filter: Filter::Bicubic }
    }

    fn check(&self) -> Result<()> {
        check_classes(self.classes)?;
        if self.dim == 0 || !self.dim.is_multiple_of(8) {
            return Err(Error::parameter("dim", "a multiple of 8", self.dim));
        }
        Ok(())
    }
}

/// The study's U-Net head: the last block's tokens are doubled in size four times, each time beside the tokens of
/// the block before.
///
/// The newest tokens enter at the bottom. Each of the four steps doubles the map by a transposed convolution,
/// puts beside it an older block's tokens (3 by 3 convolution, batch norm and ReLU at the patches' resolution, then
/// linear interpolation between corners), and joins both by another 3 by 3 convolution, batch norm and ReLU. Widths
/// halve from step to step; the last step has a channel for each class, so that no logit is negative before
/// the final resize.
///
/// In training batch norms use the statistics of the batch, in inference running ones. The study never switches
/// over: for its numbers infer with [`Pass::GRADIENTS`](dinorad_nn::Pass::GRADIENTS).
///
/// # Shapes
/// Tokens of five blocks, oldest first, `(b, rows · columns, dim)` each; logits `(b, classes, h, w)`.
///
/// # Source
/// Ronneberger et al. 2015, arXiv:1505.04597, as in the study's `UNetDecoder`; parameters have its names.
///
/// # Examples
/// ```
/// use candle::{DType, Device, Tensor};
/// use dinorad_decoders::{Decoder, DecoderInput, UnetDecoder, UnetDecoderConfig};
///
/// let decoder = UnetDecoder::new(UnetDecoderConfig::new(16, 3), 0, &Device::Cpu)?;
/// let tokens = vec![Tensor::zeros((2, 4 * 5, 16), DType::F32, &Device::Cpu)?; decoder.blocks()];
/// let logits = decoder.forward(&DecoderInput::new(&tokens, (4, 5)), (56, 70))?;
/// assert_eq!(logits.dims(), [2, 3, 56, 70]);
/// # Ok::<(), dinorad_decoders::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct UnetDecoder {
    up1: Up,
    up2: Up,
    up3: Up,
    up4: Up,
    config: UnetDecoderConfig,
    statistics: Statistics,
}

parameters!(UnetDecoder { up1: "up1", up2: "up2", up3: "up3", up4: "up4" });

impl UnetDecoder {
    /// Drawn as PyTorch draws, from the seed alone.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a width that cannot be halved three times, or classes that masks cannot hold.
    pub fn new(config: UnetDecoderConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::build(config, &Weights::Drawn { seed, device })
    }

    fn build(config: UnetDecoderConfig, weights: &Weights<'_>) -> Result<Self> {
        config.check()?;
        let dim = config.dim;
        let up = |name: &str, from: usize, to: usize| Up::new(weights, name, dim, from, to);
        Ok(Self {
            up1: up("up1", dim, dim / 2)?,
            up2: up("up2", dim / 2, dim / 4)?,
            up3: up("up3", dim / 4, dim / 8)?,
            up4: up("up4", dim / 8, config.classes)?,
            config,
            statistics: Statistics::Learned,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> UnetDecoderConfig {
        self.config
    }

    /// Which statistics batch norms use in training.
    #[must_use]
    pub fn with_statistics(self, statistics: Statistics) -> Self {
        Self { statistics, ..self }
    }

    /// The maps after so many doublings; after all four those before the final resize,
    /// `(b, classes, 16 · rows, 16 · columns)`.
    ///
    /// # Errors
    /// [`Error::Shape`] for tokens of another width, number or grid.
    pub fn forward_maps(&self, input: &DecoderInput<'_>, doublings: usize) -> Result<Tensor> {
        let blocks = tokens(input, 5, self.config.dim)?;
        let mode = Mode { pass: input.pass, statistics: self.statistics };
        let inputs: Vec<&Tensor> = blocks.iter().collect();
        ops::segment(&inputs, || {
            let mut older = blocks.iter().rev();
            let map = |block: Option<&Tensor>| -> Result<Tensor> {
                let block = block.ok_or_else(|| Error::shape("encoder blocks", "5", &[blocks.len()]))?;
                Ok(ops::maps(block, input.grid)?)
            };
            let mut x = map(older.next())?;
            for up in [&self.up1, &self.up2, &self.up3, &self.up4].into_iter().take(doublings) {
                x = up.forward(&x, &map(older.next())?, mode)?;
            }
            Ok(x)
        })
    }

    /// Writes the decoder to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        weights::save(path, "unet-decoder", &self.config, self)
    }

    /// Reads a decoder written by [`save`](Self::save).
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no such decoder.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        weights::load(path, "unet-decoder", device, Self::build)
    }
}

impl Decoder for UnetDecoder {
    fn n_classes(&self) -> usize {
        self.config.classes
    }

    fn blocks(&self) -> usize {
        5
    }

    fn forward(&self, input: &DecoderInput<'_>, size: (usize, usize)) -> Result<Tensor> {
        at_size(&self.forward_maps(input, 4)?, size, self.config.filter)
    }
}

/// One doubling.
#[derive(Debug, Clone)]
struct Up {
    upconv: ConvTranspose2d,
    conv: ConvBatch,
    skip_conv: ConvBatch,
}

parameters!(Up { upconv: "upconv", conv: "conv", skip_conv: "skip_conv" });

impl Up {
    fn new(weights: &Weights<'_>, name: &str, dim: usize, from: usize, to: usize) -> Result<Self> {
        Ok(Self {
            upconv: weights.doubling(&format!("{name}.upconv"), (from, to))?,
            conv: ConvBatch::new(weights, &format!("{name}.conv"), 2 * to, to, true)?,
            skip_conv: ConvBatch::new(weights, &format!("{name}.skip_conv"), dim, to, true)?,
        })
    }

    fn forward(&self, x: &Tensor, older: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.upconv.forward(x, mode.pass)?;
        let skip = to_corners(&self.skip_conv.forward(older, mode)?, sides(&x)?)?;
        self.conv.forward(&ops::concat(&[&x, &skip])?, mode)
    }
}
