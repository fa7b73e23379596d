//! Softmax attention of joint queries, keys and values.

use std::sync::Mutex;

use candle::{D, DType, Tensor};
use candle_nn::ops::softmax;
use dinorad_kernels::{
    Kernels,
    attention::{self as forward, Shape},
    attention_backward as backward,
    gemm::{Rows, RowsMut},
    memory::written,
};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// `softmax(scale · q kᵀ) v` for every head, for the first `queries` tokens.
///
/// The scores are computed again in the backward pass and never stored.
///
/// # Shapes
/// `qkv` `(b, n, 3 · heads · d)`, or `(b, n, 3, heads, d)`: queries first, heads contiguous; returns
/// `(b, queries, heads · d)`.
///
/// # Errors
/// [`Error::Shape`] if `qkv` is of another shape or has fewer tokens.
///
/// # Source
/// Dao et al. 2022, FlashAttention, arXiv:2205.14135.
pub fn attention(qkv: &Tensor, heads: usize, queries: usize, scale: f64) -> Result<Tensor> {
    let wrong = || {
        let expected = format!("(b, n, 3 * {heads} * d)");
        Error::Shape { what: "queries, keys and values", expected, got: qkv.dims().to_vec() }
    };
    let (b, n, dim) = match *qkv.dims() {
        [b, n, all] if heads > 0 && all > 0 && all.is_multiple_of(3 * heads) => (b, n, all / 3),
        [b, n, 3, h, d] if h == heads && h * d > 0 => (b, n, h * d),
        _ => return Err(wrong()),
    };
    if queries > n {
        return Err(wrong());
    }
    let head = dim / heads;
    if !fast([qkv]) {
        let qkv = qkv.reshape((b, n, 3, heads, head))?;
        let part = |i: usize| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let asking = part(0)?.narrow(2, 0, queries)?.contiguous()?;
        let scores = (asking * scale)?.matmul(&part(1)?.t()?)?;
        let weights = match scores.dtype() {
            // The exponentials of halves lose digits: work in f32 as PyTorch does.
            DType::F16 | DType::BF16 => softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?.to_dtype(qkv.dtype())?,
            _ => softmax(&scores, D::Minus1)?,
        };
        return Ok(weights.matmul(&part(2)?)?.transpose(1, 2)?.reshape((b, queries, dim))?);
    }
    let joint = dense(qkv)?;
    let shape = Shape { images: b, tokens: n, queries, heads, head_dim: head };
    let mut lse = Vec::new();
    let result = {
        let qkv = values::<f32>(&joint)?;
        let scratch: Vec<Mutex<forward::Scratch>> = scratches();
        written(b * queries * dim, |out| {
            lse = written(b * heads * queries, |lse| {
                let (from, to) = (Rows { data: &qkv, stride: 3 * dim }, RowsMut { data: out, stride: dim });
                forward::attend_saving(Kernels::best(), shape, scale as f32, from, to, lse, &scratch);
            });
        })
    };
    let out = Tensor::from_vec(result, (b, queries, dim), qkv.device())?;
    if !qkv.track_op() {
        return Ok(out);
    }
    // The backward pass reads the result: one copy stays with the operation.
    let copy = values::<f32>(&out)?.to_vec();
    record(&[Some(qkv)], (b, queries, dim), copy, || Ok(Attended { qkv: joint, out, lse, shape, scale: scale as f32 }))
}

fn scratches<T: Default>() -> Vec<Mutex<T>> {
    (0..rayon::current_num_threads().max(1)).map(|_| Mutex::default()).collect()
}

struct Attended {
    qkv: Tensor,
    out: Tensor,
    lse: Vec<f32>,
    shape: Shape,
    scale: f32,
}

impl Backward for Attended {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (qkv, out) = (values::<f32>(&self.qkv)?, values::<f32>(&self.out)?);
        let scratch: Vec<Mutex<backward::Scratch>> = scratches();
        let saved = backward::Saved { qkv: &qkv, out: &out, lse: &self.lse, dout: &dy };
        let gradient = written(qkv.len(), |d| {
            backward::backward(Kernels::best(), self.shape, self.scale, saved, d, &scratch);
        });
        to.put(0, gradient);
        Ok(())
    }
}
