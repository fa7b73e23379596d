//! TransUNet from scratch: a residual network, a transformer over its last maps, and a cascade of doublings.

use std::path::Path;

use candle::{Device, Tensor};
use dinorad_core::resample::Filter;
use dinorad_nn::{Activation, Conv2d, LayerNorm, Linear, Mlp, Pass, Statistics, Trainable, ops, parameters};

use crate::{
    Decoder, DecoderInput, Error, Result,
    blocks::{ConvBatch, Mode, at_size, check_classes, images, sides, to_corners},
    resnet_v2::ResnetV2,
    weights::{self, Init, Weights},
};

/// Channels between the transformer and the first doubling.
const HEAD: usize = 512;

/// Sizes of a [`TransUnet`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransUnetConfig {
    /// Classes, background included.
    pub classes: usize,
    /// Height and width of the images, multiples of 16: there is a position for every 16 by 16 pixels.
    pub size: (usize, usize),
    /// Width of the transformer's tokens.
    pub hidden: usize,
    /// Hidden width of its feed-forward networks.
    pub mlp: usize,
    /// Its attention heads.
    pub heads: usize,
    /// Its blocks.
    pub layers: usize,
    /// Units of each of the three stages of the residual network.
    pub resnet_layers: [usize; 3],
    /// Channels after its first convolution, a multiple of 32.
    pub resnet_width: usize,
    /// Channels after each of the four doublings.
    pub decoder_channels: [usize; 4],
    /// How many of the doublings, from the first on, see maps of the residual network; at most 3.
    pub skips: usize,
    /// What is dropped of tokens in training.
    pub dropout: f64,
}

impl TransUnetConfig {
    /// R50-ViT-B/16 as published, for images of a size.
    pub fn published(classes: usize, size: (usize, usize)) -> Self {
        Self {
            classes,
            size,
            hidden: 768,
            mlp: 3072,
            heads: 12,
            layers: 12,
            resnet_layers: [3, 4, 9],
            resnet_width: 64,
            decoder_channels: [256, 128, 64, 16],
            skips: 3,
            dropout: 0.1,
        }
    }

    /// About a fiftieth of the published one: what two cores train in minutes.
    pub fn narrow(classes: usize, size: (usize, usize)) -> Self {
        Self {
            hidden: 96,
            mlp: 192,
            heads: 4,
            layers: 4,
            resnet_layers: [1, 1, 1],
            resnet_width: 32,
            decoder_channels: [64, 32, 16, 16],
            ..Self::published(classes, size)
        }
    }

    /// How many numbers train. Nothing of that size is made.
    ///
    /// # Errors
    /// [`Error::Parameter`] for sizes out of range.
    pub fn parameters(&self) -> Result<usize> {
        Ok(TransUnet::build(self.clone(), &Weights::Shapes)?.parameter_count().0)
    }

    fn check(&self) -> Result<()> {
        check_classes(self.classes)?;
        let (h, w) = self.size;
        if h == 0 || w == 0 || h % 16 != 0 || w % 16 != 0 {
            return Err(Error::parameter("size", "multiples of 16", format!("{h} by {w}")));
        }
        let numbers = [self.hidden, self.mlp, self.heads].into_iter().chain(self.decoder_channels);
        if numbers.into_iter().any(|n| n == 0 || n > 1 << 16) || !self.hidden.is_multiple_of(self.heads) {
            return Err(Error::parameter("widths", "above 0, and tokens a multiple of the heads", format!("{self:?}")));
        }
        if self.resnet_layers.contains(&0) {
            return Err(Error::parameter("resnet_layers", "at least 1", format!("{:?}", self.resnet_layers)));
        }
        if self.resnet_width == 0 || !self.resnet_width.is_multiple_of(32) || self.resnet_width > 1 << 12 {
            return Err(Error::parameter("resnet_width", "a multiple of 32", self.resnet_width));
        }
        if self.skips > 3 {
            return Err(Error::parameter("skips", "at most 3", self.skips));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::parameter("dropout", "from 0 to below 1", self.dropout));
        }
        Ok(())
    }
}

/// TransUNet, from pixels to logits at the same size.
///
/// A residual network brings the images to a sixteenth of their sides, a transformer works on its maps as tokens,
/// and four doublings, each linear interpolation between corners and two 3 by 3 convolutions with batch norm
/// and ReLU, bring them back beside the residual network's own maps.
///
/// # Shapes
/// Pixels `(b, 3, h, w)`, or one channel, which is repeated, of the configuration's size; logits
/// `(b, classes, h, w)`. Where a mask of another size is asked for, logits are interpolated linearly.
///
/// # Source
/// Chen et al. 2021, arXiv:2102.04306, as in `Beckschen/TransUNet`; parameters have its names.
///
/// # Examples
/// ```
/// use candle::{DType, Device, Tensor};
/// use dinorad_decoders::{Decoder, DecoderInput, TransUnet, TransUnetConfig};
///
/// let config = TransUnetConfig::narrow(3, (48, 64));
/// assert!(config.parameters()? < 3_000_000);
/// let model = TransUnet::new(config, 0, &Device::Cpu)?;
/// let pixels = Tensor::zeros((1, 1, 48, 64), DType::F32, &Device::Cpu)?;
/// assert_eq!(model.forward(&DecoderInput::of_pixels(&pixels), (48, 64))?.dims(), [1, 3, 48, 64]);
/// # Ok::<(), dinorad_decoders::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TransUnet {
    positions: Tensor,
    resnet: ResnetV2,
    embedding: Conv2d,
    layers: Vec<Layer>,
    norm: LayerNorm,
    widen: ConvBatch,
    doublings: Vec<Doubling>,
    head: Conv2d,
    config: TransUnetConfig,
    statistics: Statistics,
}

parameters!(TransUnet {
    positions: "transformer.embeddings.position_embeddings",
    resnet: "transformer.embeddings.hybrid_model",
    embedding: "transformer.embeddings.patch_embeddings",
    layers: "transformer.encoder.layer",
    norm: "transformer.encoder.encoder_norm",
    widen: "decoder.conv_more",
    doublings: "decoder.blocks",
    head: "segmentation_head.0",
});

impl TransUnet {
    /// Drawn from the seed alone.
    ///
    /// # Errors
    /// [`Error::Parameter`] for sizes out of range.
    pub fn new(config: TransUnetConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::build(config, &Weights::Drawn { seed, device })
    }

    fn build(config: TransUnetConfig, weights: &Weights<'_>) -> Result<Self> {
        config.check()?;
        let TransUnetConfig { classes, size: (h, w), hidden, mlp, decoder_channels, .. } = config;
        let embeddings = "transformer.embeddings";
        let resnet =
            ResnetV2::new(weights, &format!("{embeddings}.hybrid_model"), config.resnet_width, config.resnet_layers)?;
        // the maps that doublings see, the smallest first
        let width = config.resnet_width;
        let seen = [8 * width, 4 * width, width, 0];
        let skip = |i: usize| seen.get(i).copied().filter(|_| i < config.skips).unwrap_or(0);
        let mut from = HEAD;
        let mut doublings = Vec::new();
        for (i, to) in decoder_channels.into_iter().enumerate() {
            doublings.push(Doubling::new(weights, &format!("decoder.blocks.{i}"), from + skip(i), to)?);
            from = to;
        }
        Ok(Self {
            positions: weights.tensor(
                &format!("{embeddings}.position_embeddings"),
                &[1, h / 16 * (w / 16), hidden],
                Init::Normal(0.02),
            )?,
            embedding: weights.conv(&format!("{embeddings}.patch_embeddings"), (16 * width, hidden), 1, 1, true)?,
            resnet,
            layers: (0..config.layers)
                .map(|i| Layer::new(weights, &format!("transformer.encoder.layer.{i}"), hidden, mlp))
                .collect::<Result<_>>()?,
            norm: weights.layer_norm("transformer.encoder.encoder_norm", hidden)?,
            widen: ConvBatch::new(weights, "decoder.conv_more", hidden, HEAD, false)?,
            doublings,
            head: weights.conv("segmentation_head.0", (from, classes), 3, 1, true)?,
            config,
            statistics: Statistics::Learned,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &TransUnetConfig {
        &self.config
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
        weights::save(path, "trans-unet", &self.config, self)
    }

    /// Reads a network written by [`save`](Self::save).
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no such network.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        weights::load(path, "trans-unet", device, Self::build)
    }

    /// The images with three channels.
    fn images(&self, input: &DecoderInput<'_>) -> Result<Tensor> {
        let grey = input.pixels.is_some_and(|pixels| pixels.dims().get(1) == Some(&1));
        let x = images(input, if grey { 1 } else { 3 }, 16)?;
        if sides(&x)? != self.config.size {
            let (h, w) = self.config.size;
            return Err(Error::shape("pixels", format!("(b, 3, {h}, {w})"), x.dims()));
        }
        Ok(if grey { x.repeat((1, 3, 1, 1))? } else { x })
    }
}

impl Decoder for TransUnet {
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
        let mode = Mode { pass: input.pass, statistics: self.statistics };
        let pass = mode.pass;
        let (x, seen) = self.resnet.forward(&self.images(input)?, pass)?;
        let grid = sides(&x)?;
        let x = ops::tokens(&self.embedding.forward(&x, pass)?)?.broadcast_add(&pass.of(&self.positions))?;
        let mut x = pass.at(0).dropout(&x, self.config.dropout)?;
        for (layer, part) in self.layers.iter().zip(1..) {
            x = layer.forward(&x, self.config.heads, self.config.dropout, pass.at(part))?;
        }
        let x = ops::maps(&self.norm.forward(&x, pass)?, grid)?;
        let mut x = self.widen.forward(&x, mode)?;
        for (i, doubling) in self.doublings.iter().enumerate() {
            x = doubling.forward(&x, seen.get(i).filter(|_| i < self.config.skips), mode)?;
        }
        at_size(&self.head.forward(&x, pass)?, size, Filter::Bilinear)
    }
}

/// One block of the transformer.
#[derive(Debug, Clone)]
struct Layer {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    ffn_norm: LayerNorm,
    ffn: Mlp,
}

parameters!(Layer {
    attention_norm: "attention_norm",
    query: "attn.query",
    key: "attn.key",
    value: "attn.value",
    out: "attn.out",
    ffn_norm: "ffn_norm",
    ffn: "ffn",
});

impl Layer {
    fn new(weights: &Weights<'_>, name: &str, dim: usize, hidden: usize) -> Result<Self> {
        let map = |part: &str, from, to| weights.linear(&format!("{name}.{part}"), (from, to));
        Ok(Self {
            attention_norm: weights.layer_norm(&format!("{name}.attention_norm"), dim)?,
            query: map("attn.query", dim, dim)?,
            key: map("attn.key", dim, dim)?,
            value: map("attn.value", dim, dim)?,
            out: map("attn.out", dim, dim)?,
            ffn_norm: weights.layer_norm(&format!("{name}.ffn_norm"), dim)?,
            ffn: Mlp {
                fc1: map("ffn.fc1", dim, hidden)?,
                fc2: map("ffn.fc2", hidden, dim)?,
                activation: Activation::Gelu,
            },
        })
    }

    fn forward(&self, x: &Tensor, heads: usize, dropout: f64, pass: Pass) -> Result<Tensor> {
        let (_, n, dim) = x.dims3()?;
        let normed = self.attention_norm.forward(x, pass)?;
        let joint = [&self.query, &self.key, &self.value].map(|map| map.forward(&normed, pass));
        let joint = Tensor::cat(&joint.into_iter().collect::<std::result::Result<Vec<_>, _>>()?, 2)?;
        let attended = ops::attention(&joint, heads, n, 1.0 / ((dim / heads.max(1)) as f64).sqrt())?;
        let x = ops::add(x, &pass.at(0).dropout(&self.out.forward(&attended, pass)?, dropout)?)?;
        let fed = self.ffn_norm.forward(&x, pass)?;
        let hidden = pass.at(1).dropout(&self.ffn.fc1.forward_activated(&fed, self.ffn.activation, pass)?, dropout)?;
        Ok(ops::add(&x, &pass.at(2).dropout(&self.ffn.fc2.forward(&hidden, pass)?, dropout)?)?)
    }
}

/// Maps of twice the size, beside others where there are any.
#[derive(Debug, Clone)]
struct Doubling {
    conv1: ConvBatch,
    conv2: ConvBatch,
}

parameters!(Doubling { conv1: "conv1", conv2: "conv2" });

impl Doubling {
    fn new(weights: &Weights<'_>, name: &str, from: usize, to: usize) -> Result<Self> {
        Ok(Self {
            conv1: ConvBatch::new(weights, &format!("{name}.conv1"), from, to, false)?,
            conv2: ConvBatch::new(weights, &format!("{name}.conv2"), to, to, false)?,
        })
    }

    fn forward(&self, x: &Tensor, beside: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        let mut inputs = vec![x];
        inputs.extend(beside);
        ops::segment(&inputs, || {
            let (h, w) = sides(x)?;
            let mut x = to_corners(x, (2 * h, 2 * w))?;
            if let Some(beside) = beside {
                x = ops::concat(&[&x, beside])?;
            }
            self.conv2.forward(&self.conv1.forward(&x, mode)?, mode)
        })
    }
}
