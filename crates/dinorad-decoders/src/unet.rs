//! U-Net from scratch.

use std::path::Path;

use candle::{Device, Tensor};
use dinorad_core::resample::Filter;
use dinorad_nn::{BatchNorm, Conv2d, ConvTranspose2d, Statistics, ops, ops::Margins, parameters};

use crate::{
    Decoder, DecoderInput, Error, Result,
    blocks::{Mode, at_size, check_classes, images, sides, to_corners},
    weights::{self, Weights},
};

/// Sizes of a [`Unet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Channels of the images.
    pub channels: usize,
    /// Classes, background included.
    pub classes: usize,
    /// Channels at full size; they double with every halving of the maps. The study has 64.
    pub width: usize,
    /// Whether maps are doubled by linear interpolation, or by a transposed convolution.
    pub bilinear: bool,
}

impl UnetConfig {
    /// As the study has it: 64 channels at full size, transposed convolutions.
    pub fn new(channels: usize, classes: usize) -> Self {
        Self { channels, classes, width: 64, bilinear: false }
    }

    /// The same with other channels at full size.
    #[must_use]
    pub fn with_width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    fn check(&self) -> Result<()> {
        check_classes(self.classes)?;
        if self.channels == 0 {
            return Err(Error::parameter("channels", "at least 1", 0));
        }
        match self.width {
            1..=4096 => Ok(()),
            width => Err(Error::parameter("width", "from 1 to 4096", width)),
        }
    }
}

/// The U-Net, from pixels to logits at the same size.
///
/// Four halvings by max pooling and four doublings, two 3 by 3 convolutions with batch norm and ReLU at each size;
/// maps of odd sides are padded with zeros before they are joined.
///
/// # Shapes
/// Pixels `(b, channels, h, w)` with sides of 16 at least; logits `(b, classes, h, w)`. Where a mask of another
/// size is asked for, logits are interpolated linearly.
///
/// # Source
/// Ronneberger et al. 2015, arXiv:1505.04597, as in `milesial/Pytorch-UNet`; parameters have its names.
///
/// # Examples
/// ```
/// use candle::{DType, Device, Tensor};
/// use dinorad_decoders::{Decoder, DecoderInput, Unet, UnetConfig};
///
/// let unet = Unet::new(UnetConfig::new(1, 3).with_width(4), 0, &Device::Cpu)?;
/// let pixels = Tensor::zeros((2, 1, 35, 51), DType::F32, &Device::Cpu)?;
/// let logits = unet.forward(&DecoderInput::of_pixels(&pixels), (35, 51))?;
/// assert_eq!(logits.dims(), [2, 3, 35, 51]);
/// # Ok::<(), dinorad_decoders::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Unet {
    inc: DoubleConv,
    down1: DoubleConv,
    down2: DoubleConv,
    down3: DoubleConv,
    down4: DoubleConv,
    up1: Up,
    up2: Up,
    up3: Up,
    up4: Up,
    outc: Conv2d,
    config: UnetConfig,
    statistics: Statistics,
}

parameters!(Unet {
    inc: "inc",
    down1: "down1.maxpool_conv.1",
    down2: "down2.maxpool_conv.1",
    down3: "down3.maxpool_conv.1",
    down4: "down4.maxpool_conv.1",
    up1: "up1",
    up2: "up2",
    up3: "up3",
    up4: "up4",
    outc: "outc.conv",
});

impl Unet {
    /// Drawn as PyTorch draws, from the seed alone.
    ///
    /// # Errors
    /// [`Error::Parameter`] for sizes out of range.
    pub fn new(config: UnetConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::build(config, &Weights::Drawn { seed, device })
    }

    fn build(config: UnetConfig, weights: &Weights<'_>) -> Result<Self> {
        config.check()?;
        let UnetConfig { channels, classes, width: n, bilinear } = config;
        // interpolation leaves the channels as they are: those that come from below are half as many
        let factor = if bilinear { 2 } else { 1 };
        let double = |name: &str, from, to| DoubleConv::new(weights, name, from, to, to);
        let down = |name: &str, from, to| double(&format!("{name}.maxpool_conv.1"), from, to);
        let up = |name: &str, from, to| Up::new(weights, name, from, to, bilinear);
        Ok(Self {
            inc: double("inc", channels, n)?,
            down1: down("down1", n, 2 * n)?,
            down2: down("down2", 2 * n, 4 * n)?,
            down3: down("down3", 4 * n, 8 * n)?,
            down4: down("down4", 8 * n, 16 * n / factor)?,
            up1: up("up1", 16 * n, 8 * n / factor)?,
            up2: up("up2", 8 * n, 4 * n / factor)?,
            up3: up("up3", 4 * n, 2 * n / factor)?,
            up4: up("up4", 2 * n, n)?,
            outc: weights.conv("outc.conv", (n, classes), 1, 1, true)?,
            config,
            statistics: Statistics::Learned,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> UnetConfig {
        self.config
    }

    /// Which statistics batch norms use in training.
    #[must_use]
    pub fn with_statistics(self, statistics: Statistics) -> Self {
        Self { statistics, ..self }
    }

    /// Writes the network to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        weights::save(path, "unet", &self.config, self)
    }

    /// Reads a network written by [`save`](Self::save).
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no such network.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        weights::load(path, "unet", device, Self::build)
    }
}

impl Decoder for Unet {
    fn n_classes(&self) -> usize {
        self.config.classes
    }

    fn blocks(&self) -> usize {
        0
    }

    fn sees_pixels(&self) -> bool {
        true
    }

    fn forward(&self, input: &DecoderInput<'_>, size: (usize, usize)) -> Result<Tensor> {
        let x = images(input, self.config.channels, 16)?;
        let mode = Mode { pass: input.pass, statistics: self.statistics };
        ops::segment(&[&x], || {
            let x1 = self.inc.forward(&x, mode)?;
            let down = |block: &DoubleConv, x: &Tensor| block.forward(&ops::max_pool2d(x, 2, 2)?, mode);
            let x2 = down(&self.down1, &x1)?;
            let x3 = down(&self.down2, &x2)?;
            let x4 = down(&self.down3, &x3)?;
            let mut x = down(&self.down4, &x4)?;
            for (up, skip) in [(&self.up1, &x4), (&self.up2, &x3), (&self.up3, &x2), (&self.up4, &x1)] {
                x = up.forward(&x, skip, mode)?;
            }
            at_size(&self.outc.forward(&x, mode.pass)?, size, Filter::Bilinear)
        })
    }
}

/// Twice: convolution of 3 by 3, batch norm, ReLU.
#[derive(Debug, Clone)]
struct DoubleConv {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
}

parameters!(DoubleConv {
    conv1: "double_conv.0",
    norm1: "double_conv.1",
    conv2: "double_conv.3",
    norm2: "double_conv.4",
});

impl DoubleConv {
    fn new(weights: &Weights<'_>, name: &str, from: usize, between: usize, to: usize) -> Result<Self> {
        let name = format!("{name}.double_conv");
        Ok(Self {
            conv1: weights.conv(&format!("{name}.0"), (from, between), 3, 1, false)?,
            norm1: weights.batch_norm(&format!("{name}.1"), between)?,
            conv2: weights.conv(&format!("{name}.3"), (between, to), 3, 1, false)?,
            norm2: weights.batch_norm(&format!("{name}.4"), to)?,
        })
    }

    fn forward(&self, x: &Tensor, Mode { pass, statistics }: Mode) -> Result<Tensor> {
        let x = ops::relu(&self.norm1.forward(&self.conv1.forward(x, pass)?, pass, statistics)?)?;
        Ok(ops::relu(&self.norm2.forward(&self.conv2.forward(&x, pass)?, pass, statistics)?)?)
    }
}

/// One doubling.
#[derive(Debug, Clone)]
struct Up {
    /// `None` where maps are interpolated.
    up: Option<ConvTranspose2d>,
    conv: DoubleConv,
}

parameters!(Up { up: "up", conv: "conv" });

impl Up {
    fn new(weights: &Weights<'_>, name: &str, from: usize, to: usize, bilinear: bool) -> Result<Self> {
        let conv = format!("{name}.conv");
        if bilinear {
            return Ok(Self { up: None, conv: DoubleConv::new(weights, &conv, from, from / 2, to)? });
        }
        let up = weights.doubling(&format!("{name}.up"), (from, from / 2))?;
        Ok(Self { up: Some(up), conv: DoubleConv::new(weights, &conv, from, to, to)? })
    }

    fn forward(&self, x: &Tensor, skip: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = match &self.up {
            Some(up) => up.forward(x, mode.pass)?,
            None => {
                let (h, w) = sides(x)?;
                to_corners(x, (2 * h, 2 * w))?
            }
        };
        let ((h, w), (height, width)) = (sides(&x)?, sides(skip)?);
        let (rows, columns) = (height.saturating_sub(h), width.saturating_sub(w));
        let margins =
            Margins { top: rows / 2, bottom: rows - rows / 2, left: columns / 2, right: columns - columns / 2 };
        self.conv.forward(&ops::concat(&[skip, &ops::pad(&x, margins)?])?, mode)
    }
}
