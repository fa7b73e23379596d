//! Attention over a rectangle of tokens with a part that depends on their distance.

use candle::{D, DType, Device, Tensor};
use candle_nn::ops::{softmax, softmax_last_dim};
use dinorad_nn::{Linear, Pass, parameters};

use super::positions::relative;
use crate::Result;

/// Scores of at most this many bytes are held at a time: on the CPU what stays near the
/// processor, on a GPU what leaves room for the rest.
const SCORE_BYTES: usize = 8 << 20;
const SCORE_BYTES_GPU: usize = 1 << 30;

/// Multi-head self-attention over a rectangle of tokens.
///
/// To the score of a query and a key are added the products of the query with a vector for their
/// distance in rows and one for that in columns.
///
/// # Source
/// Li et al. 2021, MViTv2, arXiv:2112.01526; SAM `image_encoder.py`.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) qkv: Linear,
    pub(super) proj: Linear,
    /// Vectors for all distances, `(2 s - 1, head dim)`.
    pub(super) rel_pos_h: Option<Tensor>,
    pub(super) rel_pos_w: Option<Tensor>,
    pub(super) heads: usize,
}

parameters!(Attention { qkv: "qkv", proj: "proj", rel_pos_h: "rel_pos_h", rel_pos_w: "rel_pos_w" });

impl Attention {
    /// Rectangles `(b, h * w, dim)` to the same.
    pub(super) fn forward(&self, x: &Tensor, (h, w): (usize, usize), pass: Pass) -> Result<Tensor> {
        let (b, n, dim) = x.dims3()?;
        let (heads, head) = (self.heads, dim / self.heads);
        let qkv = self.qkv.forward(x, pass)?.reshape((b, n, 3, heads, head))?;
        let part = |i: usize| -> Result<Tensor> {
            Ok(qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?.reshape((b * heads, n, head))?)
        };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scaled = (&q * (head as f64).powf(-0.5))?;
        // Distances enter the product of queries and keys as more coordinates: those of a query are
        // what it adds for each row and each column, those of a key say in which row and column it is.
        let (q, k) = match (&self.rel_pos_h, &self.rel_pos_w) {
            (Some(rows), Some(columns)) => {
                let rows = along_rows(&q, (h, w), &relative(&pass.of(rows), h)?)?;
                let columns = along_columns(&q, (h, w), &relative(&pass.of(columns), w)?)?;
                let place = places((h, w), k.device())?.to_dtype(k.dtype())?.broadcast_as((b * heads, n, h + w))?;
                (Tensor::cat(&[&scaled, &rows, &columns], 2)?, Tensor::cat(&[&k, &place.contiguous()?], 2)?)
            }
            _ => (scaled, k),
        };
        let out = match pass {
            Pass::Training(_) => attend(&q, &k, &v, pass)?,
            Pass::Inference => in_parts(&q, &k, &v)?,
        };
        let out = out.reshape((b, heads, n, head))?.transpose(1, 2)?.reshape((b, n, dim))?;
        Ok(self.proj.forward(&out, pass)?)
    }
}

/// `(b, n, head)` queries with `(h, h, head)` vectors: what each adds for every row, `(b, n, h)`.
fn along_rows(q: &Tensor, (h, w): (usize, usize), vectors: &Tensor) -> Result<Tensor> {
    let (b, n, head) = q.dims3()?;
    let by_row = q.reshape((b, h, w, head))?.transpose(0, 1)?.reshape((h, b * w, head))?;
    let products = by_row.matmul(&vectors.transpose(1, 2)?.contiguous()?)?;
    Ok(products.reshape((h, b, w, h))?.transpose(0, 1)?.reshape((b, n, h))?)
}

/// The same for every column, with `(w, w, head)` vectors: `(b, n, w)`.
fn along_columns(q: &Tensor, (h, w): (usize, usize), vectors: &Tensor) -> Result<Tensor> {
    let (b, n, head) = q.dims3()?;
    let by_column = q.reshape((b * h, w, head))?.transpose(0, 1)?.contiguous()?;
    let products = by_column.matmul(&vectors.transpose(1, 2)?.contiguous()?)?;
    Ok(products.transpose(0, 1)?.reshape((b, n, w))?)
}

/// For every token a one at its row and a one at its column, `(1, h * w, h + w)`.
fn places((h, w): (usize, usize), device: &Device) -> Result<Tensor> {
    let mut ones = vec![0f32; h * w * (h + w)];
    for (token, place) in ones.chunks_exact_mut(h + w).enumerate() {
        place[token / w] = 1.0;
        place[h + token % w] = 1.0;
    }
    Ok(Tensor::from_vec(ones, (1, h * w, h + w), device)?)
}

/// Attention of a few heads, or of a part of the queries of one, at a time.
fn in_parts(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (b, n, _) = q.dims3()?;
    let room = if q.device().is_cpu() { SCORE_BYTES } else { SCORE_BYTES_GPU };
    let row = n.max(1).saturating_mul(q.dtype().size_in_bytes());
    let queries = (room / row).clamp(1, n);
    let together = (room / row.saturating_mul(n)).clamp(1, b);
    let mut parts = Vec::new();
    for first in (0..b).step_by(together) {
        let count = together.min(b - first);
        let take = |t: &Tensor| t.narrow(0, first, count);
        let (q, k, v) = (take(q)?, take(k)?, take(v)?);
        let mut rows = Vec::new();
        for first in (0..n).step_by(queries) {
            rows.push(attend(&q.narrow(1, first, queries.min(n - first))?, &k, &v, Pass::Inference)?);
        }
        parts.push(if rows.len() == 1 { rows.swap_remove(0) } else { Tensor::cat(&rows, 1)? });
    }
    Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, 0)? })
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, pass: Pass) -> Result<Tensor> {
    let scores = q.contiguous()?.matmul(&k.t()?)?;
    // The exponentials of halves lose digits: work in f32 as PyTorch does.
    let wide = match scores.dtype() {
        DType::F16 | DType::BF16 => scores.to_dtype(DType::F32)?,
        _ => scores.clone(),
    };
    let weights = match pass {
        Pass::Inference => softmax_last_dim(&wide)?,
        Pass::Training(_) => softmax(&wide, D::Minus1)?,
    };
    Ok(weights.to_dtype(scores.dtype())?.matmul(&v.contiguous()?)?)
}
