//! The operations on candle's tensors, for every device: maps are `(b, c, h, w)`.

use candle::{D, DType, Device, Tensor};

use super::ops::{Affine, ConvLayer, Ops, Window};
use crate::Result;

/// Runs networks with candle.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    pub(super) device: Device,
    pub(super) dtype: DType,
}

/// A convolution on its device.
pub(super) struct PlainConv {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
    before: Option<Affine>,
    relu: bool,
}

impl Plain {
    fn here(&self, tensor: &Tensor) -> Result<Tensor> {
        // candle's convolutions have given wrong results for kernels that are not contiguous.
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?.contiguous()?)
    }

    /// A value for every channel.
    fn channels(&self, values: &Tensor) -> Result<Tensor> {
        self.here(&values.reshape((1, (), 1, 1))?)
    }
}

impl Ops for Plain {
    type Map = Tensor;
    type Conv = PlainConv;
    type Norm = Affine;

    fn conv_layer(&self, layer: ConvLayer) -> Result<PlainConv> {
        Ok(PlainConv {
            weight: self.here(&layer.weight)?,
            bias: self.channels(&layer.bias)?,
            stride: layer.stride,
            padding: layer.padding,
            before: layer.before.map(|norm| self.norm_layer(norm)).transpose()?,
            relu: layer.relu,
        })
    }

    fn norm_layer(&self, norm: Affine) -> Result<Affine> {
        Ok(Affine { scale: self.channels(&norm.scale)?, shift: self.channels(&norm.shift)? })
    }

    fn input(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(pixels.to_device(&self.device)?.to_dtype(self.dtype)?.contiguous()?)
    }

    fn conv(&self, conv: &PlainConv, x: &Tensor, add: Option<Tensor>) -> Result<Tensor> {
        let x = match &conv.before {
            Some(norm) => self.norm(norm, x)?.relu()?,
            None => x.clone(),
        };
        let mut y = x.conv2d(&conv.weight, conv.padding, conv.stride, 1, 1)?.broadcast_add(&conv.bias)?;
        if let Some(add) = add {
            y = (add + y)?;
        }
        Ok(if conv.relu { y.relu()? } else { y })
    }

    fn norm(&self, norm: &Affine, x: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_mul(&norm.scale)?.broadcast_add(&norm.shift)?)
    }

    fn relu(&self, x: Tensor) -> Result<Tensor> {
        Ok(x.relu()?)
    }

    fn max_pool(&self, x: &Tensor, window: Window) -> Result<Tensor> {
        let p = window.padding;
        let x = if p == 0 { x.clone() } else { x.pad_with_zeros(2, p, p)?.pad_with_zeros(3, p, p)? };
        if window.side != window.stride && x.track_op() {
            return strided_max(&x, window);
        }
        Ok(x.max_pool2d_with_stride(window.side, window.stride)?)
    }

    fn mean_pool(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.avg_pool2d(2)?)
    }

    fn adaptive_mean_pool(&self, x: &Tensor, side: usize) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        if (h, w) == (side, side) {
            return Ok(x.clone());
        }
        let rows = (0..side)
            .map(|i| {
                let (from, to) = part(i, side, h);
                x.narrow(2, from, to - from)?.mean_keepdim(2)
            })
            .collect::<candle::Result<Vec<_>>>()?;
        let x = Tensor::cat(&rows, 2)?;
        let columns = (0..side)
            .map(|i| {
                let (from, to) = part(i, side, w);
                x.narrow(3, from, to - from)?.mean_keepdim(3)
            })
            .collect::<candle::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&columns, 3)?.contiguous()?)
    }

    fn with_room(&self, x: Tensor, _channels: usize) -> Result<Tensor> {
        Ok(x)
    }

    fn append(&self, x: Tensor, new: Tensor) -> Result<Tensor> {
        Ok(Tensor::cat(&[x, new], 1)?)
    }

    fn mean(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.flatten_from(2)?.mean(D::Minus1)?)
    }

    fn tensor(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }
}

/// The maximum over windows that overlap, of which candle's own has no gradient.
fn strided_max(x: &Tensor, window: Window) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let places = |first: usize, size: usize| -> candle::Result<Tensor> {
        let count = (size - window.side) / window.stride + 1;
        let at: Vec<u32> = (0..count).map(|i| (first + i * window.stride) as u32).collect();
        Tensor::new(at, x.device())
    };
    let mut most: Option<Tensor> = None;
    for i in 0..window.side {
        let rows = x.index_select(&places(i, h)?, 2)?;
        for j in 0..window.side {
            let one = rows.index_select(&places(j, w)?, 3)?;
            most = Some(match most {
                Some(most) => most.maximum(&one)?,
                None => one,
            });
        }
    }
    Ok(most.unwrap_or_else(|| x.clone()))
}

/// First and one past the last of the `size` positions that the `i`-th of `parts` parts covers.
pub(super) fn part(i: usize, parts: usize, size: usize) -> (usize, usize) {
    (i * size / parts, ((i + 1) * size).div_ceil(parts))
}
