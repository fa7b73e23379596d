//! Our own decoder: tokens of several blocks beside the image itself.

use std::path::Path;

use candle::{Device, Tensor};
use dinorad_core::resample::Filter;
use dinorad_nn::{Conv2d, LayerNorm, Linear, Pass, ops, parameters};

use crate::{
    Decoder, DecoderInput, Error, Result,
    blocks::{ConvGroup, at_size, check_classes, images, tokens},
    weights::{self, Weights},
};

/// Sizes of a [`FusedDecoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusedDecoderConfig {
    /// Width of the tokens.
    pub dim: usize,
    /// Classes, background included.
    pub classes: usize,
    /// Of how many last encoder blocks it reads the tokens.
    pub blocks: usize,
    /// Channels of the images: three of a picture, or a slice and its neighbours. 0 for tokens alone.
    pub channels: usize,
    /// Channels at the grid of patches and at half the mask's size, a multiple of 8; half as many at the mask's.
    pub width: usize,
}

impl FusedDecoderConfig {
    /// Four blocks, three channels, a width of 64.
    pub fn new(dim: usize, classes: usize) -> Self {
        Self { dim, classes, blocks: 4, channels: 3, width: 64 }
    }

    /// The same with tokens of so many blocks.
    #[must_use]
    pub fn with_blocks(self, blocks: usize) -> Self {
        Self { blocks, ..self }
    }

    /// The same for images of so many channels.
    #[must_use]
    pub fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// The same with another width.
    #[must_use]
    pub fn with_width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    fn check(&self) -> Result<()> {
        check_classes(self.classes)?;
        if self.dim == 0 {
            return Err(Error::parameter("dim", "at least 1", 0));
        }
        if !(1..=64).contains(&self.blocks) {
            return Err(Error::parameter("blocks", "from 1 to 64", self.blocks));
        }
        if self.channels > 64 {
            return Err(Error::parameter("channels", "at most 64", self.channels));
        }
        if self.width == 0 || self.width > 1024 || !self.width.is_multiple_of(8) {
            return Err(Error::parameter("width", "a multiple of 8, at most 1024", self.width));
        }
        Ok(())
    }
}

/// Tokens of several encoder blocks for what is where, the image itself for where it ends.
///
/// What a patch is, tokens know; a mask's edge lies between patches, where they know little. So an edge is
/// looked for in the pixels, at the resolution of the mask and not of the encoder's input:
///
/// 1. each block's tokens are normed and mapped to `width` channels, joined on the grid of patches and mixed by two
///    convolutions;
/// 2. a stem of two convolutions sees the image at the mask's size, and two more see it at half of it;
/// 3. the grid's maps are brought to half the mask's size, joined with the stem's and mixed by two convolutions, then
///    the same at the mask's size, where a 1 by 1 convolution gives logits.
///
/// All convolutions are 3 by 3 with group norm and GELU: a slice's logits depend on no other slice of its batch, and
/// there are no statistics to keep. With ViT-S/14 at 224 (16 by 16 patches) and masks of 35 by 51 a slice costs
/// 0.18 billion multiply-adds, a [`UnetDecoder`](crate::UnetDecoder) 2.6.
///
/// # Shapes
/// Tokens of [`blocks`](FusedDecoderConfig::blocks) blocks, oldest first, `(b, rows · columns, dim)` each; pixels
/// `(b, channels, any, any)`, resized to the mask's size where they are of another (so best given at it), in the unit
/// of the encoder's input; logits `(b, classes, h, w)`.
///
/// # Source
/// Our own, from skips between sizes (Ronneberger et al. 2015, arXiv:1505.04597), the joining of several blocks
/// (Oquab et al. 2023, arXiv:2304.07193, section 7.4) and a convolutional stem beside a frozen transformer (Chen et al.
/// 2022, arXiv:2205.08534).
///
/// # Examples
/// ```
/// use candle::{DType, Device, Tensor};
/// use dinorad_decoders::{Decoder, DecoderInput, FusedDecoder, FusedDecoderConfig};
///
/// let decoder = FusedDecoder::new(FusedDecoderConfig::new(16, 3).with_width(8), 0, &Device::Cpu)?;
/// let tokens = vec![Tensor::zeros((2, 4 * 5, 16), DType::F32, &Device::Cpu)?; decoder.blocks()];
/// let pixels = Tensor::zeros((2, 3, 35, 51), DType::F32, &Device::Cpu)?;
/// let input = DecoderInput::new(&tokens, (4, 5)).with_pixels(&pixels);
/// assert_eq!(decoder.forward(&input, (35, 51))?.dims(), [2, 3, 35, 51]);
/// # Ok::<(), dinorad_decoders::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FusedDecoder {
    blocks: Vec<Projection>,
    grid: Vec<ConvGroup>,
    /// At the mask's size; empty without pixels.
    stem: Vec<ConvGroup>,
    /// At half of it.
    half_stem: Vec<ConvGroup>,
    half: Vec<ConvGroup>,
    full: Vec<ConvGroup>,
    head: Conv2d,
    config: FusedDecoderConfig,
}

parameters!(FusedDecoder {
    blocks: "blocks",
    grid: "grid",
    stem: "stem",
    half_stem: "half_stem",
    half: "half",
    full: "full",
    head: "head",
});

impl FusedDecoder {
    /// Drawn as PyTorch draws, from the seed alone.
    ///
    /// # Errors
    /// [`Error::Parameter`] for sizes out of range.
    pub fn new(config: FusedDecoderConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::build(config, &Weights::Drawn { seed, device })
    }

    fn build(config: FusedDecoderConfig, weights: &Weights<'_>) -> Result<Self> {
        config.check()?;
        let FusedDecoderConfig { dim, classes, blocks, channels, width } = config;
        // channels of the stem at the mask's size and at half of it
        let (fine, coarse) = if channels == 0 { (0, 0) } else { (width / 4, width / 2) };
        let pair = |name: &str, from: usize, to: usize, stride: usize| -> Result<Vec<ConvGroup>> {
            Ok(vec![
                ConvGroup::new(weights, &format!("{name}.0"), (from, to), 3, stride)?,
                ConvGroup::new(weights, &format!("{name}.1"), (to, to), 3, 1)?,
            ])
        };
        let stem = |name: &str, from, to, stride| if channels == 0 { Ok(vec![]) } else { pair(name, from, to, stride) };
        Ok(Self {
            blocks: (0..blocks)
                .map(|i| Projection::new(weights, &format!("blocks.{i}"), dim, width))
                .collect::<Result<_>>()?,
            grid: pair("grid", blocks * width, width, 1)?,
            stem: stem("stem", channels, fine, 1)?,
            half_stem: stem("half_stem", fine, coarse, 2)?,
            half: pair("half", width + coarse, width, 1)?,
            full: pair("full", width + fine, width / 2, 1)?,
            head: weights.conv("head", (width / 2, classes), 1, 1, true)?,
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> FusedDecoderConfig {
        self.config
    }

    /// Writes the decoder to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        weights::save(path, "fused-decoder", &self.config, self)
    }

    /// Reads a decoder written by [`save`](Self::save).
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no such decoder.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        weights::load(path, "fused-decoder", device, Self::build)
    }
}

impl Decoder for FusedDecoder {
    fn n_classes(&self) -> usize {
        self.config.classes
    }

    fn blocks(&self) -> usize {
        self.config.blocks
    }

    fn sees_pixels(&self) -> bool {
        self.config.channels > 0
    }

    fn forward(&self, input: &DecoderInput<'_>, size: (usize, usize)) -> Result<Tensor> {
        let (pass, (height, width)) = (input.pass, size);
        if height == 0 || width == 0 {
            return Err(Error::shape("mask", "(h, w) above 0", &[height, width]));
        }
        let blocks = tokens(input, self.config.blocks, self.config.dim)?;
        let pixels = if self.sees_pixels() { Some(images(input, self.config.channels, 1)?) } else { None };
        if let Some(pixels) =
            pixels.as_ref().filter(|p| p.dims().first() != blocks.first().and_then(|t| t.dims().first()))
        {
            return Err(Error::shape("pixels", "as many images as tokens are of", pixels.dims()));
        }
        let inputs: Vec<&Tensor> = blocks.iter().chain(&pixels).collect();
        ops::segment(&inputs, || {
            let projected =
                self.blocks.iter().zip(&blocks).map(|(projection, t)| projection.forward(t, input.grid, pass));
            let projected = projected.collect::<Result<Vec<_>>>()?;
            let mut x = run(&self.grid, ops::concat(&projected.iter().collect::<Vec<_>>())?, pass)?;
            let (mut fine, mut coarse) = (None, None);
            if let Some(pixels) = &pixels {
                let at_mask = run(&self.stem, at_size(pixels, size, Filter::BilinearAntialias)?, pass)?;
                coarse = Some(run(&self.half_stem, at_mask.clone(), pass)?);
                fine = Some(at_mask);
            }
            // a convolution at a stride of 2 leaves the larger half of an odd side
            let half = (height.div_ceil(2), width.div_ceil(2));
            x = run(&self.half, beside(&x, half, coarse.as_ref())?, pass)?;
            x = run(&self.full, beside(&x, size, fine.as_ref())?, pass)?;
            Ok(self.head.forward(&x, pass)?)
        })
    }
}

/// One convolution after the other.
fn run(convolutions: &[ConvGroup], x: Tensor, pass: Pass) -> Result<Tensor> {
    convolutions.iter().try_fold(x, |x, convolution| convolution.forward(&x, pass))
}

/// Maps at another size, and what stands beside them there.
fn beside(x: &Tensor, size: (usize, usize), other: Option<&Tensor>) -> Result<Tensor> {
    let x = at_size(x, size, Filter::Bilinear)?;
    Ok(match other {
        Some(other) => ops::concat(&[&x, other])?,
        None => x,
    })
}

/// A block's tokens as narrow maps.
#[derive(Debug, Clone)]
struct Projection {
    norm: LayerNorm,
    map: Linear,
}

parameters!(Projection { norm: "norm", map: "map" });

impl Projection {
    fn new(weights: &Weights<'_>, name: &str, dim: usize, to: usize) -> Result<Self> {
        Ok(Self {
            norm: weights.layer_norm(&format!("{name}.norm"), dim)?,
            map: weights.linear(&format!("{name}.map"), (dim, to))?,
        })
    }

    fn forward(&self, tokens: &Tensor, grid: (usize, usize), pass: Pass) -> Result<Tensor> {
        Ok(ops::maps(&self.map.forward(&self.norm.forward(tokens, pass)?, pass)?, grid)?)
    }
}
