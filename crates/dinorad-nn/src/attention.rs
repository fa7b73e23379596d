//! Multi-head self-attention.

use candle::{D, DType, Tensor};
use candle_nn::ops::{softmax, softmax_last_dim};

use crate::{LayerScale, Linear, Pass, Result, Rotary, error::parameter, flash, ops, parameters};

/// Scores of at most this many bytes are held at a time on the CPU: beyond, the softmax waits for
/// memory.
const SCORE_BYTES: usize = 32 << 20;
/// The same on a GPU, where only its room counts: scores of a large batch would fill it.
const SCORE_BYTES_GPU: usize = 1 << 30;

/// Multi-head self-attention with one projection for queries, keys and values.
///
/// # Shapes
/// `(b, n, dim)` to the same; `qkv` maps `dim` to `3 dim` with queries first, heads contiguous.
///
/// # Source
/// Dosovitskiy et al. 2020, arXiv:2010.11929; DINOv2 `layers/attention.py`.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Queries, keys and values in one map.
    pub qkv: Linear,
    /// The map after the heads.
    pub proj: Linear,
    heads: usize,
}

parameters!(Attention { qkv: "qkv", proj: "proj" });

impl Attention {
    /// From its maps.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) if `heads` does not divide the width.
    pub fn new(qkv: Linear, proj: Linear, heads: usize) -> Result<Self> {
        let dim = proj.weight().dim(0)?;
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(parameter("attention heads", heads, "a divisor of the width"));
        }
        Ok(Attention { qkv, proj, heads })
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// The attended tokens.
    ///
    /// # Errors
    /// If `x` is not `(b, n, dim)`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        self.forward_rotated(x, None, pass)
    }

    /// The attended tokens, with queries and keys turned by their positions.
    ///
    /// # Errors
    /// If `x` is not `(b, n, dim)`, or the rotation is for other tokens.
    pub fn forward_rotated(&self, x: &Tensor, rotary: Option<&Rotary>, pass: Pass) -> Result<Tensor> {
        self.forward_first(x, rotary, None, pass)
    }

    /// The same for the first `queries` tokens alone, which see all the others.
    ///
    /// # Errors
    /// As [`forward_rotated`](Self::forward_rotated), and if there are fewer tokens.
    pub fn forward_first(
        &self,
        x: &Tensor,
        rotary: Option<&Rotary>,
        queries: Option<usize>,
        pass: Pass,
    ) -> Result<Tensor> {
        self.proj.forward(&self.heads_of(x, rotary, queries, pass)?, pass.at(1))
    }

    /// The attended tokens (the first `queries` of them) times a gain, added to `residual`.
    ///
    /// # Errors
    /// As [`forward_first`](Self::forward_first).
    pub fn forward_residual(
        &self,
        x: &Tensor,
        rotary: Option<&Rotary>,
        queries: Option<usize>,
        gain: Option<&LayerScale>,
        residual: &Tensor,
        pass: Pass,
    ) -> Result<Tensor> {
        self.proj.forward_residual(&self.heads_of(x, rotary, queries, pass)?, gain, residual, pass.at(1))
    }

    /// What the heads return, side by side.
    fn heads_of(&self, x: &Tensor, rotary: Option<&Rotary>, queries: Option<usize>, pass: Pass) -> Result<Tensor> {
        let (b, n, dim) = x.dims3()?;
        let head = dim / self.heads;
        let qkv = self.qkv.forward(x, pass.at(0))?;
        let asking = queries.unwrap_or(n);
        if rotary.is_none() && pass.is_training() {
            return ops::attention(&qkv, self.heads, asking, (head as f64).powf(-0.5));
        }
        let qkv = qkv.reshape((b, n, 3, self.heads, head))?;
        if rotary.is_none()
            && let Some(out) = flash::attend(&qkv, pass)?
        {
            return Ok(out.reshape((b, n, dim))?.narrow(1, 0, asking)?);
        }
        let part = |i: usize| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let turned = |t: Tensor| rotary.map_or_else(|| Ok(t.clone()), |r| r.forward(&t));
        let q = turned((part(0)? * (head as f64).powf(-0.5))?.reshape((b * self.heads, n, head))?)?;
        let q = if asking < n { q.narrow(1, 0, asking)?.contiguous()? } else { q };
        let k = turned(part(1)?.reshape((b * self.heads, n, head))?)?;
        let v = part(2)?.reshape((b * self.heads, n, head))?;
        let out = match pass {
            Pass::Training(_) => attend(&q, &k, &v, pass)?,
            Pass::Inference => {
                let per_head = (asking * n).max(1).saturating_mul(x.dtype().size_in_bytes());
                let room = if x.device().is_cpu() { SCORE_BYTES } else { SCORE_BYTES_GPU };
                let chunk = (room / per_head).clamp(1, b * self.heads);
                let mut parts = Vec::new();
                for start in (0..b * self.heads).step_by(chunk) {
                    let len = chunk.min(b * self.heads - start);
                    let take = |t: &Tensor| t.narrow(0, start, len);
                    parts.push(attend(&take(&q)?, &take(&k)?, &take(&v)?, pass)?);
                }
                if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, 0)? }
            }
        };
        Ok(out.reshape((b, self.heads, asking, head))?.transpose(1, 2)?.reshape((b, asking, dim))?)
    }
}

/// `softmax(q k^T) v` per head; `q` is already scaled.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, pass: Pass) -> Result<Tensor> {
    let scores = q.matmul(&k.t()?)?;
    let weights = match pass {
        Pass::Inference => softmax_last_dim(&scores)?,
        // The exponentials of halves lose digits: work in f32 as PyTorch does.
        Pass::Training(_) if scores.dtype() != DType::F32 && scores.dtype() != DType::F64 => {
            softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?.to_dtype(scores.dtype())?
        }
        Pass::Training(_) => softmax(&scores, D::Minus1)?,
    };
    Ok(weights.matmul(v)?)
}
