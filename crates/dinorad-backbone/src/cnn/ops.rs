//! What networks are made of: written once, run by candle or by the kernels of the CPU engine.

use std::collections::BTreeMap;

use candle::Tensor;

use super::config::BATCH_NORM_EPS;
use crate::{Result, architecture};

/// What BatchNorm does once it is trained: `x * scale + shift` for every channel.
#[derive(Debug, Clone)]
pub(super) struct Affine {
    pub(super) scale: Tensor,
    pub(super) shift: Tensor,
}

/// A convolution with everything folded into it that follows or precedes it.
#[derive(Debug, Clone)]
pub(super) struct ConvLayer {
    /// `(out, in, rows, columns)`
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) stride: usize,
    pub(super) padding: usize,
    /// Applied to the input and followed by a ReLU, before it is padded.
    pub(super) before: Option<Affine>,
    /// Whether a ReLU follows, after what is added.
    pub(super) relu: bool,
}

impl ConvLayer {
    /// With a stride, and padding that keeps the map's size but for the stride.
    pub(super) fn with_stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    pub(super) fn with_padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    pub(super) fn with_before(mut self, before: Affine) -> Self {
        self.before = Some(before);
        self
    }

    pub(super) fn with_relu(mut self) -> Self {
        self.relu = true;
        self
    }

    /// The same with a BatchNorm that follows folded in: of `(w x + b) * scale + shift`, the
    /// weights become `w * scale` and the bias `b * scale + shift`.
    pub(super) fn with_batch_norm(mut self, norm: &Affine) -> Result<Self> {
        let out = self.weight.dim(0)?;
        self.weight = self.weight.broadcast_mul(&norm.scale.reshape((out, 1, 1, 1))?)?;
        self.bias = ((self.bias * &norm.scale)? + &norm.shift)?;
        Ok(self)
    }
}

/// A square window that moves over a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) side: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Window {
    /// The pooling that follows the first convolution.
    pub(super) const STEM: Self = Self { side: 3, stride: 2, padding: 1 };
    /// Halves both sides.
    pub(super) const HALF: Self = Self { side: 2, stride: 2, padding: 0 };
}

/// The operations of the networks on maps of some kind.
pub(super) trait Ops {
    /// A batch of maps, `(b, h, w, c)` in whatever order.
    type Map;
    /// A convolution made ready.
    type Conv: Send + Sync;
    /// A BatchNorm made ready.
    type Norm: Send + Sync;

    fn conv_layer(&self, layer: ConvLayer) -> Result<Self::Conv>;
    fn norm_layer(&self, norm: Affine) -> Result<Self::Norm>;

    /// Pixels `(b, 3, h, w)`.
    fn input(&self, pixels: &Tensor) -> Result<Self::Map>;
    /// The convolution of `x`, onto `add` if there is one.
    fn conv(&self, conv: &Self::Conv, x: &Self::Map, add: Option<Self::Map>) -> Result<Self::Map>;
    fn norm(&self, norm: &Self::Norm, x: &Self::Map) -> Result<Self::Map>;
    fn relu(&self, x: Self::Map) -> Result<Self::Map>;
    /// Of values that are not negative: padding counts as zero.
    fn max_pool(&self, x: &Self::Map, window: Window) -> Result<Self::Map>;
    /// Means of squares of two by two; an odd row or column at the end is dropped.
    fn mean_pool(&self, x: &Self::Map) -> Result<Self::Map>;
    /// Means over `side * side` parts that cover the map and may overlap.
    fn adaptive_mean_pool(&self, x: &Self::Map, side: usize) -> Result<Self::Map>;
    /// The same map with room for more channels, so that appending need not copy it.
    fn with_room(&self, x: Self::Map, channels: usize) -> Result<Self::Map>;
    /// The channels of `x`, then those of `new`.
    fn append(&self, x: Self::Map, new: Self::Map) -> Result<Self::Map>;
    /// Means over all positions, `(b, c)`.
    fn mean(&self, x: &Self::Map) -> Result<Tensor>;
    /// `(b, c, h, w)`
    fn tensor(&self, x: &Self::Map) -> Result<Tensor>;
}

/// The parameters of a network, taken one after the other so that each is held once.
pub(super) struct Parameters(pub(super) BTreeMap<String, Tensor>);

impl Parameters {
    pub(super) fn take(&mut self, name: &str) -> Result<Tensor> {
        architecture::take(&mut self.0, name)
    }

    /// A trained BatchNorm as one factor and one summand.
    pub(super) fn batch_norm(&mut self, name: &str) -> Result<Affine> {
        let mut take = |part: &str| self.take(&format!("{name}.{part}"));
        let (weight, bias) = (take("weight")?, take("bias")?);
        let (mean, variance) = (take("running_mean")?, take("running_var")?);
        let scale = (weight / (variance + BATCH_NORM_EPS)?.sqrt()?)?;
        let shift = (bias - (mean * &scale)?)?;
        Ok(Affine { scale, shift })
    }

    /// A convolution of stride 1 that keeps the size of a map, with the bias if there is one.
    pub(super) fn conv(&mut self, name: &str) -> Result<ConvLayer> {
        let weight = self.take(&format!("{name}.weight"))?;
        let (out, _, side, _) = weight.dims4()?;
        let bias = match self.0.remove(&format!("{name}.bias")) {
            Some(bias) => bias,
            None => Tensor::zeros(out, weight.dtype(), weight.device())?,
        };
        Ok(ConvLayer { weight, bias, stride: 1, padding: side / 2, before: None, relu: false })
    }
}
