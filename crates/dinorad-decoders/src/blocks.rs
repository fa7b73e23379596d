//! What the networks are made of.

use candle::Tensor;
use dinorad_core::resample::Taps;
use dinorad_nn::{BatchNorm, Conv2d, GroupNorm, Pass, Statistics, ops, parameters};

use crate::{DecoderInput, Error, Result, weights::Weights};

/// What a pass is for, and which statistics batch norms use in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) pass: Pass,
    pub(crate) statistics: Statistics,
}

/// Convolution of 3 by 3, batch norm, ReLU.
#[derive(Debug, Clone)]
pub(crate) struct ConvBatch {
    conv: Conv2d,
    norm: BatchNorm,
}

parameters!(ConvBatch { conv: "0", norm: "1" });

impl ConvBatch {
    pub(crate) fn new(weights: &Weights<'_>, name: &str, from: usize, to: usize, bias: bool) -> Result<Self> {
        let conv = weights.conv(&format!("{name}.0"), (from, to), 3, 1, bias)?;
        Ok(Self { conv, norm: weights.batch_norm(&format!("{name}.1"), to)? })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let y = self.norm.forward(&self.conv.forward(x, mode.pass)?, mode.pass, mode.statistics)?;
        Ok(ops::relu(&y)?)
    }
}

/// Convolution without bias, group norm, GELU.
///
/// Not ReLU: where one dies, the norm divides by next to nothing and what reaches the layers before is lost.
#[derive(Debug, Clone)]
pub(crate) struct ConvGroup {
    conv: Conv2d,
    norm: GroupNorm,
}

parameters!(ConvGroup { conv: "conv", norm: "norm" });

impl ConvGroup {
    pub(crate) fn new(
        weights: &Weights<'_>,
        name: &str,
        (from, to): (usize, usize),
        side: usize,
        stride: usize,
    ) -> Result<Self> {
        let conv = weights.conv(&format!("{name}.conv"), (from, to), side, stride, false)?;
        // groups of eight channels where they can be
        let groups = if to.is_multiple_of(8) { to / 8 } else { 1 };
        Ok(Self { conv, norm: weights.group_norm(&format!("{name}.norm"), to, groups, 1e-5)? })
    }

    pub(crate) fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        Ok(ops::gelu(&self.norm.forward(&self.conv.forward(x, pass)?, pass)?)?)
    }
}

/// Maps at another size, linearly, where the centres of the corner pixels fall on each other.
pub(crate) fn to_corners(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (h, w) = sides(x)?;
    Ok(ops::resize(x, &Taps::corners(h, size.0)?, &Taps::corners(w, size.1)?)?)
}

/// Height and width of maps.
pub(crate) fn sides(x: &Tensor) -> Result<(usize, usize)> {
    match *x.dims() {
        [_, _, h, w] if h * w > 0 => Ok((h, w)),
        _ => Err(Error::shape("maps", "(b, c, h, w)", x.dims())),
    }
}

/// The images that a network from scratch sees, in f32: `(b, channels, h, w)` with sides of `least` or more.
pub(crate) fn images(input: &DecoderInput<'_>, channels: usize, least: usize) -> Result<Tensor> {
    let expected = || format!("(b, {channels}, h, w) with sides of {least} at least");
    let pixels = input.pixels.ok_or_else(|| Error::shape("pixels", expected(), &[]))?;
    match *pixels.dims() {
        [b, c, h, w] if b > 0 && c == channels && h >= least && w >= least => Ok(pixels.to_dtype(candle::DType::F32)?),
        _ => Err(Error::shape("pixels", expected(), pixels.dims())),
    }
}

/// Patch tokens of `blocks` blocks, in f32: each `(b, rows * columns, dim)`.
pub(crate) fn tokens(input: &DecoderInput<'_>, blocks: usize, dim: usize) -> Result<Vec<Tensor>> {
    let (rows, columns) = input.grid;
    if input.tokens.len() != blocks {
        return Err(Error::shape("encoder blocks", blocks.to_string(), &[input.tokens.len()]));
    }
    let batch = input.tokens.first().and_then(|t| t.dims().first().copied()).unwrap_or_default();
    let each = |t: &Tensor| match *t.dims() {
        [b, n, d] if b == batch && b > 0 && n > 0 && rows.checked_mul(columns) == Some(n) && d == dim => {
            Ok(t.to_dtype(candle::DType::F32)?)
        }
        _ => Err(Error::shape("patch tokens", format!("({batch}, {rows} * {columns}, {dim})"), t.dims())),
    };
    input.tokens.iter().map(each).collect()
}

/// Logits at the size that was asked for.
pub(crate) fn at_size(logits: &Tensor, size: (usize, usize), filter: dinorad_core::resample::Filter) -> Result<Tensor> {
    let from = sides(logits)?;
    if from == size {
        return Ok(logits.clone());
    }
    Ok(ops::resize(logits, &Taps::new(filter, from.0, size.0)?, &Taps::new(filter, from.1, size.1)?)?)
}

/// Refuses numbers of classes that masks cannot hold.
pub(crate) fn check_classes(classes: usize) -> Result<()> {
    if (2..=256).contains(&classes) {
        return Ok(());
    }
    Err(Error::parameter("classes", "from 2 to 256", classes))
}
