//! Optimiser steps, each one pass over a parameter and its state.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Values that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// One step of Adam or AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether weight decay acts on the parameter (AdamW) and not on the gradient.
    pub decoupled: bool,
    /// Which step this is, from 1.
    pub step: u32,
    /// Factor of the gradient, 1 unless it is clipped.
    pub gradient_scale: f32,
}

/// The factors of a step, as the values use them.
#[derive(Clone, Copy)]
struct Factors {
    keep: f32,
    l2: f32,
    scale: f32,
    b1: f32,
    c1: f32,
    b2: f32,
    c2: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

struct AdamChunk<'a> {
    factors: Factors,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl WithSimd for AdamChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let f = self.factors;
        for (((p, g), m), v) in self.p.iter_mut().zip(self.g).zip(self.m).zip(self.v) {
            let g = g * f.scale + f.l2 * *p;
            *m = f.b1 * *m + f.c1 * g;
            *v = f.b2 * *v + f.c2 * (g * g);
            *p = f.keep * *p - f.rate * *m / (v.sqrt() * f.root + f.eps);
        }
    }
}

impl Adam {
    /// Moves `p` against `g` and brings the moments up to date.
    ///
    /// # Panics
    /// If the lengths differ.
    ///
    /// # Source
    /// Kingma and Ba 2014, arXiv:1412.6980; Loshchilov and Hutter 2017, arXiv:1711.05101; PyTorch's
    /// `Adam` and `AdamW`.
    pub fn apply(&self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        assert!(p.len() == g.len() && p.len() == m.len() && p.len() == v.len());
        let (b1, b2) = self.betas;
        let correction = |b: f64| 1.0 - b.powi(self.step.min(i32::MAX as u32) as i32);
        let factors = Factors {
            keep: if self.decoupled { 1.0 - self.lr * self.weight_decay } else { 1.0 } as f32,
            l2: if self.decoupled { 0.0 } else { self.weight_decay } as f32,
            scale: self.gradient_scale,
            b1: b1 as f32,
            c1: (1.0 - b1) as f32,
            b2: b2 as f32,
            c2: (1.0 - b2) as f32,
            rate: (self.lr / correction(b1)) as f32,
            root: (1.0 / correction(b2).sqrt()) as f32,
            eps: self.eps as f32,
        };
        let arch = Arch::new();
        let chunks = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
        let state = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
        chunks.zip(state).for_each(|((p, g), (m, v))| arch.dispatch(AdamChunk { factors, p, g, m, v }));
    }
}

/// One step of SGD with momentum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Share of the last step that is kept.
    pub momentum: f64,
    /// Weight decay, on the gradient.
    pub weight_decay: f64,
    /// Factor of the gradient, 1 unless it is clipped.
    pub gradient_scale: f32,
}

struct SgdChunk<'a> {
    step: Sgd,
    p: &'a mut [f32],
    g: &'a [f32],
    v: &'a mut [f32],
}

impl WithSimd for SgdChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (lr, momentum) = (self.step.lr as f32, self.step.momentum as f32);
        let (decay, scale) = (self.step.weight_decay as f32, self.step.gradient_scale);
        for ((p, g), v) in self.p.iter_mut().zip(self.g).zip(self.v) {
            *v = momentum * *v + (g * scale + decay * *p);
            *p -= lr * *v;
        }
    }
}

impl Sgd {
    /// `v = momentum v + g + weight_decay p; p -= lr v`; `v` starts as zeros.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(&self, p: &mut [f32], g: &[f32], v: &mut [f32]) {
        assert!(p.len() == g.len() && p.len() == v.len());
        let arch = Arch::new();
        let chunks = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(v.par_chunks_mut(CHUNK));
        chunks.for_each(|((p, g), v)| arch.dispatch(SgdChunk { step: *self, p, g, v }));
    }
}

/// `to += x`
///
/// # Panics
/// If the lengths differ.
pub fn add(to: &mut [f32], x: &[f32]) {
    assert_eq!(to.len(), x.len());
    to.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(to, x)| {
        to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
    });
}

/// `to = kept · to + (1 - kept) · x`: a moving average.
///
/// # Panics
/// If the lengths differ.
pub fn average(to: &mut [f32], x: &[f32], kept: f32) {
    assert_eq!(to.len(), x.len());
    to.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(to, x)| {
        to.iter_mut().zip(x).for_each(|(to, x)| *to = kept * *to + (1.0 - kept) * x);
    });
}

/// `to = x · gain`, a factor for every column of rows as long as `gain`.
///
/// # Panics
/// If the lengths do not fit.
pub fn scale_columns(to: &mut [f32], x: &[f32], gain: &[f32]) {
    let dim = gain.len();
    assert!(dim > 0 && to.len() == x.len() && x.len().is_multiple_of(dim));
    to.par_chunks_mut(64 * dim).zip(x.par_chunks(64 * dim)).for_each(|(to, x)| {
        for (to, x) in to.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
            for ((to, x), g) in to.iter_mut().zip(x).zip(gain) {
                *to = x * g;
            }
        }
    });
}

/// Sums of the columns of `x`, or of `x · y` where there is a `y`, over rows as long as `sums`.
///
/// # Panics
/// If the lengths do not fit.
pub fn column_sums(x: &[f32], y: Option<&[f32]>, sums: &mut [f32]) {
    let dim = sums.len();
    assert!(dim > 0 && x.len().is_multiple_of(dim) && y.is_none_or(|y| y.len() == x.len()));
    // sums of a fixed number of rows, whatever the number of threads
    let rows = 64;
    let parts: Vec<Vec<f32>> = x
        .par_chunks(rows * dim)
        .enumerate()
        .map(|(i, chunk)| {
            let mut part = vec![0.0; dim];
            for (j, row) in chunk.chunks_exact(dim).enumerate() {
                match y {
                    None => part.iter_mut().zip(row).for_each(|(s, x)| *s += x),
                    Some(y) => {
                        let other = &y[(i * rows + j) * dim..][..dim];
                        for ((s, x), y) in part.iter_mut().zip(row).zip(other) {
                            *s += x * y;
                        }
                    }
                }
            }
            part
        })
        .collect();
    sums.fill(0.0);
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
}
