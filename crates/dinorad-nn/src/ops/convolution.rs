//! 2D convolutions and their transposes.

use candle::Tensor;
use dinorad_kernels::{
    Kernels,
    convolution::{Convolution, sum_planes},
    memory::written,
};
use rayon::prelude::*;

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// Where the windows of a convolution lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// Distance between windows.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
    /// Distance between the values of a window.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for Window {
    fn default() -> Self {
        Window { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

/// The convolution of `x` with `weight`.
///
/// # Shapes
/// x `(b, in, h, w)`, weight `(out, in / groups, kh, kw)`, bias `(out,)`.
///
/// # Errors
/// [`Error::Shape`] if no such convolution exists.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, window: Window) -> Result<Tensor> {
    let (batch, inputs, h, w) = x.dims4()?;
    let (outputs, per_group, kh, kw) = weight.dims4()?;
    let Window { stride, padding, dilation, groups } = window;
    let c = Convolution { batch, inputs, outputs, size: (h, w), kernel: (kh, kw), stride, padding, dilation, groups };
    let wrong = || Error::Shape {
        what: "convolution",
        expected: format!("channels and windows that fit {window:?}"),
        got: [x.dims(), weight.dims()].concat(),
    };
    let (oh, ow) = c.output().filter(|_| per_group * groups == inputs).ok_or_else(wrong)?;
    if bias.is_some_and(|b| b.dims() != [outputs]) {
        return Err(wrong());
    }
    if !fast([x, weight].into_iter().chain(bias)) {
        let y = x.contiguous()?.conv2d(&weight.contiguous()?, padding, stride, dilation, groups)?;
        return Ok(match bias {
            Some(b) => y.broadcast_add(&b.reshape((1, outputs, 1, 1))?)?,
            None => y,
        });
    }
    let (dx, dw, db) = (dense(x)?, dense(weight)?, bias.map(dense).transpose()?);
    let result = {
        let (x, w) = (values::<f32>(&dx)?, values::<f32>(&dw)?);
        let b = db.as_ref().map(values::<f32>).transpose()?;
        written(batch * outputs * oh * ow, |out| c.forward(Kernels::best(), &x, &w, b.as_deref(), out))
    };
    let op = || Ok(Convolved { c, x: dx, weight: dw });
    record(&[Some(x), Some(weight), bias], (batch, outputs, oh, ow), result, op)
}

struct Convolved {
    c: Convolution,
    x: Tensor,
    weight: Tensor,
}

impl Backward for Convolved {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (x, w) = (values::<f32>(&self.x)?, values::<f32>(&self.weight)?);
        if to.wanted(0) {
            to.put(0, written(x.len(), |d| self.c.backward_input(Kernels::best(), &w, &dy, d)));
        }
        if to.wanted(1) {
            to.put(1, written(w.len(), |d| self.c.backward_weight(Kernels::best(), &x, &dy, d)));
        }
        if to.wanted(2) {
            to.put(2, written(self.c.outputs, |d| self.c.backward_bias(&dy, d)));
        }
        Ok(())
    }
}

/// The transposed convolution of `x` with `weight`; `output_padding` rows and columns are added below and
/// on the right.
///
/// # Shapes
/// x `(b, in, h, w)`, weight `(in, out / groups, kh, kw)`, bias `(out,)`; returns sides of
/// `(n - 1) · stride - 2 · padding + dilation · (k - 1) + output_padding + 1`.
///
/// # Errors
/// [`Error::Shape`] if no such convolution exists.
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    output_padding: usize,
) -> Result<Tensor> {
    let (batch, inputs, h, w) = x.dims4()?;
    let (from, per_group, kh, kw) = weight.dims4()?;
    let Window { stride, padding, dilation, groups } = window;
    let outputs = per_group * groups;
    let wrong = || Error::Shape {
        what: "transposed convolution",
        expected: format!("channels and windows that fit {window:?}"),
        got: [x.dims(), weight.dims()].concat(),
    };
    let side = |n: usize, k: usize| {
        (n.checked_sub(1)? * stride + dilation * k.checked_sub(1)? + output_padding + 1).checked_sub(2 * padding)
    };
    let (oh, ow) = side(h, kh).zip(side(w, kw)).ok_or_else(wrong)?;
    // the convolution that this is the transpose of
    let c = Convolution {
        batch,
        inputs: outputs,
        outputs: inputs,
        size: (oh, ow),
        kernel: (kh, kw),
        stride,
        padding,
        dilation,
        groups,
    };
    if from != inputs || c.output() != Some((h, w)) || bias.is_some_and(|b| b.dims() != [outputs]) {
        return Err(wrong());
    }
    if !fast([x, weight].into_iter().chain(bias)) {
        let (x, weight) = (x.contiguous()?, weight.contiguous()?);
        let part = |g: usize| -> Result<Tensor> {
            let take = |t: &Tensor, dim: usize| t.narrow(dim, g * inputs / groups, inputs / groups)?.contiguous();
            Ok(take(&x, 1)?.conv_transpose2d(&take(&weight, 0)?, padding, output_padding, stride, dilation)?)
        };
        let parts = (0..groups).map(part).collect::<Result<Vec<_>>>()?;
        let y = Tensor::cat(&parts, 1)?;
        return Ok(match bias {
            Some(b) => y.broadcast_add(&b.reshape((1, outputs, 1, 1))?)?,
            None => y,
        });
    }
    let (dx, dw, db) = (dense(x)?, dense(weight)?, bias.map(dense).transpose()?);
    let result = {
        let (x, w) = (values::<f32>(&dx)?, values::<f32>(&dw)?);
        let b = db.as_ref().map(values::<f32>).transpose()?;
        let mut result = written(batch * outputs * oh * ow, |out| c.backward_input(Kernels::best(), &w, &x, out));
        if let Some(b) = b {
            let planes = result.par_chunks_exact_mut((oh * ow).max(1)).enumerate();
            planes.for_each(|(i, plane)| plane.iter_mut().for_each(|v| *v += b[i % outputs]));
        }
        result
    };
    let op = || Ok(Transposed { c, x: dx, weight: dw });
    record(&[Some(x), Some(weight), bias], (batch, outputs, oh, ow), result, op)
}

struct Transposed {
    c: Convolution,
    x: Tensor,
    weight: Tensor,
}

impl Backward for Transposed {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (x, w) = (values::<f32>(&self.x)?, values::<f32>(&self.weight)?);
        if to.wanted(0) {
            to.put(0, written(x.len(), |d| self.c.forward(Kernels::best(), &dy, &w, None, d)));
        }
        if to.wanted(1) {
            to.put(1, written(w.len(), |d| self.c.backward_weight(Kernels::best(), &dy, &x, d)));
        }
        if to.wanted(2) {
            to.put(2, written(self.c.inputs, |db| sum_planes(self.c.size.0 * self.c.size.1, &dy, db)));
        }
        Ok(())
    }
}
