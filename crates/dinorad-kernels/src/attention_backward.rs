//! The backward pass of attention: scores are computed again, a few rows at a time, and never stored.
//!
//! With `P = softmax(scale · Q Kᵀ)`, `O = P V` and a gradient `dO`: `dV = Pᵀ dO`,
//! `dS = scale · P ∘ (dO Vᵀ - rowsum(dO ∘ O))`, `dQ = dS K`, `dK = dSᵀ Q`. One task does a head of an
//! image alone, so that results do not depend on the threads.
//!
//! Source: Dao et al. 2022, FlashAttention, arXiv:2205.14135.

use std::sync::Mutex;

use rayon::prelude::*;

use crate::{
    Aligned, Epilogue, Kernels,
    attention::{Shape, slot},
    gemm::{Panels, Rows, RowsMut, multiply, multiply_transposed},
    shared::Shared,
};

/// Keys per tile.
const KEYS: usize = 384;
/// Distance between rows of scores.
const STRIDE: usize = KEYS + 16;
/// Queries that go through together: whole tiles of every instruction set.
const QUERIES: usize = 72;

/// What one thread needs.
pub struct Scratch {
    /// For every tile: keys and values as columns, keys as rows.
    tiles: Vec<[Panels; 3]>,
    queries: Panels,
    gradients: Panels,
    weights: Aligned,
    scores: Aligned,
    scaled: Aligned,
    dq: Aligned,
    dk: Aligned,
    dv: Aligned,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            tiles: Vec::new(),
            queries: Panels::scratch(),
            gradients: Panels::scratch(),
            weights: Aligned::zeros(QUERIES * STRIDE),
            scores: Aligned::zeros(QUERIES * STRIDE),
            scaled: Aligned::default(),
            dq: Aligned::default(),
            dk: Aligned::default(),
            dv: Aligned::default(),
        }
    }
}

/// The forward pass and the gradient of its result.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// Queries, keys and values as in [`attend_saving`](crate::attention::attend_saving), dense.
    pub qkv: &'a [f32],
    /// What it returned, dense: a row for every token that asks.
    pub out: &'a [f32],
    /// The logarithms that it saved.
    pub lse: &'a [f32],
    /// The gradient of `out`, dense.
    pub dout: &'a [f32],
}

/// Writes the gradient of queries, keys and values, dense rows of `3 * heads * head_dim`.
///
/// The queries of tokens that do not ask get a gradient of zero.
///
/// # Panics
/// If a buffer is shorter than the shapes say.
pub fn backward(
    kernels: &Kernels,
    shape: Shape,
    scale: f32,
    saved: Saved<'_>,
    dqkv: &mut [f32],
    scratch: &[Mutex<Scratch>],
) {
    let Shape { images, tokens, queries, heads, head_dim } = shape;
    let dim = heads * head_dim;
    let rows = images * tokens;
    let asking = images * queries;
    assert!(queries <= tokens);
    assert!(saved.qkv.len() >= rows * 3 * dim && saved.out.len() >= asking * dim && saved.dout.len() >= asking * dim);
    assert!(saved.lse.len() >= asking * heads && dqkv.len() >= rows * 3 * dim);
    if rows == 0 || dim == 0 {
        return;
    }
    let to = Shared::new(dqkv);
    (0..images * heads).into_par_iter().with_max_len(1).for_each(|task| {
        let (image, head) = (task / heads, task % heads);
        let place = |row: usize, which: usize| ((image * tokens + row) * 3 + which) * dim + head * head_dim;
        let place_out = |row: usize| (image * queries + row) * dim + head * head_dim;
        let s = &mut *slot(scratch);
        let starts = (0..tokens).step_by(KEYS);
        s.tiles.resize_with(starts.len().max(s.tiles.len()), || std::array::from_fn(|_| Panels::scratch()));
        for ([keys, values, key_rows], start) in s.tiles.iter_mut().zip(starts.clone()) {
            let n = (tokens - start).min(KEYS);
            keys.fill_transposed(kernels, &saved.qkv[place(start, 1)..], 3 * dim, n, head_dim);
            values.fill_transposed(kernels, &saved.qkv[place(start, 2)..], 3 * dim, n, head_dim);
            key_rows.fill_rows(kernels, &saved.qkv[place(start, 1)..], 3 * dim, n, head_dim);
        }
        s.dk.reserve(tokens * head_dim);
        s.dv.reserve(tokens * head_dim);
        s.dk.fill(0.0);
        s.dv.fill(0.0);
        s.dq.reserve(QUERIES * head_dim);
        s.scaled.reserve(QUERIES * head_dim);
        for from in (0..queries).step_by(QUERIES) {
            let n = (queries - from).min(QUERIES);
            s.queries.fill_rows(kernels, &saved.qkv[place(from, 0)..], 3 * dim, n, head_dim);
            s.gradients.fill_rows(kernels, &saved.dout[place_out(from)..], dim, n, head_dim);
            let mut delta = [0.0f32; QUERIES];
            for (i, delta) in delta.iter_mut().enumerate().take(n) {
                let query = &saved.qkv[place(from + i, 0)..][..head_dim];
                let scaled = &mut s.scaled[i * head_dim..][..head_dim];
                let factor = scale * std::f32::consts::LOG2_E;
                scaled.iter_mut().zip(query).for_each(|(to, q)| *to = q * factor);
                let (o, d) = (&saved.out[place_out(from + i)..], &saved.dout[place_out(from + i)..]);
                *delta = dot(&o[..head_dim], &d[..head_dim]);
            }
            for ([keys, values, key_rows], start) in s.tiles.iter().zip(starts.clone()) {
                let len = (tokens - start).min(KEYS);
                let query = Rows { data: &s.scaled, stride: head_dim };
                let to_scores = RowsMut { data: &mut s.weights, stride: STRIDE };
                multiply(kernels, n, query, keys, 0..len, to_scores, Epilogue::Store);
                let gradient = Rows { data: &saved.dout[place_out(from)..], stride: dim };
                let to_scores = RowsMut { data: &mut s.scores, stride: STRIDE };
                multiply(kernels, n, gradient, values, 0..len, to_scores, Epilogue::Store);
                for (i, delta) in delta.iter().enumerate().take(n) {
                    let lse = saved.lse[task * queries + from + i];
                    let weights = &mut s.weights[i * STRIDE..][..len];
                    let scores = &mut s.scores[i * STRIDE..][..len];
                    // SAFETY: `Kernels` exists only where the processor has the instruction set;
                    // both rows hold `len` values.
                    unsafe {
                        let (w, d) = (weights.as_mut_ptr(), scores.as_mut_ptr());
                        (kernels.softmax_backward)(w, d, len, lse, *delta, scale);
                    }
                }
                let weights = Rows { data: &s.weights, stride: STRIDE };
                let scores = Rows { data: &s.scores, stride: STRIDE };
                let dv = RowsMut { data: &mut s.dv[start * head_dim..], stride: head_dim };
                multiply_transposed(kernels, len, weights, &s.gradients, dv, Epilogue::Accumulate);
                let dk = RowsMut { data: &mut s.dk[start * head_dim..], stride: head_dim };
                multiply_transposed(kernels, len, scores, &s.queries, dk, Epilogue::Accumulate);
                let dq = RowsMut { data: &mut s.dq, stride: head_dim };
                let how = if start == 0 { Epilogue::Store } else { Epilogue::Accumulate };
                multiply(kernels, n, scores, key_rows, 0..head_dim, dq, how);
            }
            for (i, row) in s.dq.chunks_exact(head_dim).enumerate().take(n) {
                // SAFETY: this task alone has this head of this image.
                unsafe { to.slice(place(from + i, 0), head_dim) }.copy_from_slice(row);
            }
        }
        for row in queries..tokens {
            // SAFETY: as above.
            unsafe { to.slice(place(row, 0), head_dim) }.fill(0.0);
        }
        for (which, values) in [(1, &s.dk), (2, &s.dv)] {
            for (i, row) in values.chunks_exact(head_dim).enumerate() {
                // SAFETY: as above.
                unsafe { to.slice(place(i, which), head_dim) }.copy_from_slice(row);
            }
        }
    });
}

/// In eight chains, whose order depends on the length alone.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
