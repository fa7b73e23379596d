//! Softmax attention that holds a few rows of scores at a time.
//!
//! The queries of one head go through in blocks of a few tile heights; keys and values come in
//! tiles whose scores fit the first-level cache. Running maxima and sums ("online softmax") make
//! the result independent of how many tiles there are, up to rounding; the cut into tiles depends
//! on the number of tokens alone, so results do not depend on the threads.

use std::sync::Mutex;

use rayon::prelude::*;

use crate::{
    Aligned, Epilogue, Kernels,
    gemm::{Panels, Rows, RowsMut, multiply},
    shared::Shared,
};

/// Keys per tile: a multiple of every panel's width.
const KEYS: usize = 384;
/// Distance between rows of scores: not a multiple of a page, so that rows do not share cache sets.
const SCORE_STRIDE: usize = KEYS + 16;
/// Most queries that go through together.
const MAX_QUERIES: usize = 24;

/// Sizes of an attention over `images` images of `tokens` tokens.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Images, which do not see each other.
    pub images: usize,
    /// Tokens of an image.
    pub tokens: usize,
    /// Tokens of every image that ask, from the first on; all of them are asked.
    pub queries: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// What one thread needs.
pub struct Scratch {
    keys: Panels,
    values: Vec<Panels>,
    scores: Aligned,
    out: Aligned,
    queries: Aligned,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            keys: Panels::scratch(),
            values: Vec::new(),
            scores: Aligned::zeros(MAX_QUERIES * SCORE_STRIDE),
            out: Aligned::default(),
            queries: Aligned::default(),
        }
    }
}

/// Attention of all heads of all images.
///
/// `qkv` holds a row of `3 * heads * head_dim` values for every token: queries, keys, values, each
/// head by head; queries are already scaled by `log2(e) / sqrt(head_dim)`. `out` gets a row of
/// `heads * head_dim` for every token that asks; the rows of the others are left alone.
///
/// # Panics
/// If a buffer is shorter than the shapes say.
pub fn attend(kernels: &Kernels, shape: Shape, qkv: Rows<'_>, out: RowsMut<'_>, scratch: &[Mutex<Scratch>]) {
    run(kernels, shape, None, qkv, out, None, scratch);
}

/// [`attend`] for training: queries are scaled by `scale` here, `out` has a row for every token that asks and
/// none for the others, `(images, queries)`, and `lse` gets the logarithm (base 2)
/// of every row's sum of exponentials, `(images, heads, queries)`.
///
/// # Panics
/// If a buffer is shorter than the shapes say.
pub fn attend_saving(
    kernels: &Kernels,
    shape: Shape,
    scale: f32,
    qkv: Rows<'_>,
    out: RowsMut<'_>,
    lse: &mut [f32],
    scratch: &[Mutex<Scratch>],
) {
    run(kernels, shape, Some(scale * std::f32::consts::LOG2_E), qkv, out, Some(lse), scratch);
}

fn run(
    kernels: &Kernels,
    shape: Shape,
    scale: Option<f32>,
    qkv: Rows<'_>,
    out: RowsMut<'_>,
    lse: Option<&mut [f32]>,
    scratch: &[Mutex<Scratch>],
) {
    let Shape { images, tokens, queries, heads, head_dim } = shape;
    let dim = heads * head_dim;
    let rows = images * tokens;
    if rows == 0 || dim == 0 || queries == 0 {
        return;
    }
    assert!(queries <= tokens);
    assert!(qkv.stride >= 3 * dim && (rows - 1) * qkv.stride + 3 * dim <= qkv.data.len());
    // For training, only those that ask have a row.
    let out_rows = if lse.is_some() { queries } else { tokens };
    assert!(out.stride >= dim && (images * out_rows).saturating_sub(1) * out.stride + dim <= out.data.len());

    let block = (2 * kernels.rows(kernels.nv)).min(MAX_QUERIES);
    let blocks = queries.div_ceil(block);
    // Enough tasks to share evenly, few enough that packing keys and values does not show.
    let wanted = (4 * rayon::current_num_threads()).div_ceil(images * heads);
    let parts = if rayon::current_num_threads() == 1 { 1 } else { wanted.clamp(1, blocks.max(1)) };
    assert!(lse.as_ref().is_none_or(|l| l.len() >= images * heads * queries));
    let lse = lse.map(Shared::new);
    let (shared, lse) = (&Shared::new(out.data), lse.as_ref());

    (0..images * heads * parts).into_par_iter().with_max_len(1).for_each(|task| {
        let (head_of_image, part) = (task / parts, task % parts);
        let (image, head) = (head_of_image / heads, head_of_image % heads);
        let mut guard = slot(scratch);
        let Scratch { keys, values, scores, out: accumulator, queries: scaled } = &mut *guard;

        let first = image * tokens;
        let at = |row: usize, which: usize| (first + row) * qkv.stride + which * dim + head * head_dim;
        keys.fill_transposed(kernels, &qkv.data[at(0, 1)..], qkv.stride, tokens, head_dim);
        values.resize_with(tokens.div_ceil(KEYS).max(values.len()), Panels::scratch);
        for (tile, from) in values.iter_mut().zip((0..tokens).step_by(KEYS)) {
            let len = (tokens - from).min(KEYS);
            tile.fill_rows(kernels, &qkv.data[at(from, 2)..], qkv.stride, len, head_dim);
        }
        accumulator.reserve(MAX_QUERIES * head_dim);

        for b in part * blocks / parts..(part + 1) * blocks / parts {
            let from = b * block;
            let n = (queries - from).min(block);
            let mut query = Rows { data: &qkv.data[at(from, 0)..], stride: qkv.stride };
            if let Some(factor) = scale {
                scaled.reserve(MAX_QUERIES * head_dim);
                for (i, to) in scaled.chunks_exact_mut(head_dim).enumerate().take(n) {
                    let from = &query.data[i * query.stride..][..head_dim];
                    to.iter_mut().zip(from).for_each(|(to, x)| *to = x * factor);
                }
                query = Rows { data: scaled, stride: head_dim };
            }
            let mut max = [f32::NEG_INFINITY; MAX_QUERIES];
            let mut sum = [0.0f32; MAX_QUERIES];
            for (tile, start) in values.iter().zip((0..tokens).step_by(KEYS)) {
                let len = (tokens - start).min(KEYS);
                let to = RowsMut { data: &mut *scores, stride: SCORE_STRIDE };
                multiply(kernels, n, query, keys, start..start + len, to, Epilogue::Store);
                for i in 0..n {
                    let row = &mut scores[i * SCORE_STRIDE..][..SCORE_STRIDE];
                    // SAFETY: a row has room for `len <= KEYS` values rounded up to registers.
                    let shrink = unsafe { (kernels.softmax_step)(row.as_mut_ptr(), len, &mut max[i], &mut sum[i]) };
                    if start > 0 {
                        self::shrink(kernels, &mut accumulator[i * head_dim..][..head_dim], shrink);
                    }
                }
                let epilogue = if start == 0 { Epilogue::Store } else { Epilogue::Accumulate };
                let weights = Rows { data: &*scores, stride: SCORE_STRIDE };
                let to = RowsMut { data: &mut *accumulator, stride: head_dim };
                multiply(kernels, n, weights, tile, 0..head_dim, to, epilogue);
            }
            for i in 0..n {
                let row = &mut accumulator[i * head_dim..][..head_dim];
                shrink(kernels, row, 1.0 / sum[i]);
                if let Some(lse) = lse {
                    // SAFETY: this task alone has this head of this image's rows in block `b`.
                    unsafe { *lse.at(head_of_image * queries + from + i) = max[i] + sum[i].log2() };
                }
                let to = (image * out_rows + from + i) * out.stride + head * head_dim;
                // SAFETY: in bounds by the assertion at the top (row below `rows`, columns below
                // `dim <= stride`); this task alone has this head of this image's rows in block `b`,
                // and `out` is borrowed uniquely for the whole call.
                unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), shared.at(to), head_dim) };
            }
        }
    });
}

fn shrink(kernels: &Kernels, row: &mut [f32], factor: f32) {
    // SAFETY: the pointer is good for the slice's length.
    unsafe { (kernels.scale)(row.as_mut_ptr(), row.len(), factor) }
}

/// The scratch of the current thread; free, unless more threads than slots share the pool.
pub fn slot<T>(slots: &[Mutex<T>]) -> std::sync::MutexGuard<'_, T> {
    let index = rayon::current_thread_index().unwrap_or(0) % slots.len();
    // A poisoned slot is only scratch: whatever a panicking task left there is overwritten.
    slots[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
