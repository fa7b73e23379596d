//! What is done to every row of a matrix on its own: length 1, soft cross-entropy, distance to another row.
//!
//! Sums run in eight lanes, so that the bytes are the same on every machine and at any number of threads.

use rayon::prelude::*;

use crate::scalar::exp;

const LANES: usize = 8;
/// Values that a thread takes at a time, at least.
const CHUNK: usize = 1 << 13;

/// The sum of `f` over two slices of one length.
#[inline(always)]
fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let (mut lanes, mut rest) = ([0f32; LANES], 0f32);
    let (a_whole, b_whole) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in a_whole.remainder().iter().zip(b_whole.remainder()) {
        rest += f(*a, *b);
    }
    for (a, b) in a_whole.zip(b_whole) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[inline(always)]
fn sum(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum2(a, a, |a, _| f(a))
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum2(a, b, |a, b| a * b)
}

#[inline(always)]
fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let whole = a.chunks_exact(LANES);
    let rest = whole.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for a in whole {
        for i in 0..LANES {
            // compiles to one instruction, which f32::max does not
            lanes[i] = if a[i] > lanes[i] { a[i] } else { lanes[i] };
        }
    }
    lanes.iter().copied().fold(rest, f32::max)
}

fn least(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// `x / max(|x|, eps)` row by row; `norms` gets the lengths before.
///
/// # Panics
/// If the slices are not rows of `width`.
pub fn unit(width: usize, eps: f32, x: &[f32], out: &mut [f32], norms: &mut [f32]) {
    assert!(width > 0 && x.len() == out.len() && x.len() == norms.len() * width);
    let arch = pulp::Arch::new();
    let rows = x.par_chunks(width).zip(out.par_chunks_mut(width)).zip(norms).with_min_len(least(width));
    rows.for_each(|((x, out), norm)| {
        arch.dispatch(|| {
            *norm = dot(x, x).sqrt();
            let factor = 1.0 / norm.max(eps);
            out.iter_mut().zip(x).for_each(|(out, x)| *out = x * factor);
        });
    });
}

/// The gradient of [`unit()`].
///
/// # Panics
/// As [`unit()`].
pub fn unit_backward(width: usize, eps: f32, x: &[f32], norms: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(width > 0 && x.len() == dy.len() && x.len() == dx.len() && x.len() == norms.len() * width);
    let arch = pulp::Arch::new();
    let rows = x.par_chunks(width).zip(dy.par_chunks(width)).zip(dx.par_chunks_mut(width)).zip(norms);
    rows.with_min_len(least(width)).for_each(|(((x, dy), dx), norm)| {
        arch.dispatch(|| {
            let factor = 1.0 / norm.max(eps);
            // below eps a row is only scaled
            let along = if *norm > eps { dot(x, dy) * factor * factor } else { 0.0 };
            dx.iter_mut().zip(dy).zip(x).for_each(|((dx, dy), x)| *dx = factor * (dy - x * along));
        });
    });
}

/// Rows of scores against rows of probabilities: which row of probabilities each row of scores has, and how much
/// it weighs in the sum of all.
#[derive(Debug, Clone, Copy)]
pub struct SoftTargets<'a> {
    /// Rows as wide as those of the scores; they need not add up to 1.
    pub rows: &'a [f32],
    /// For every row of scores its row of `rows`.
    pub of: &'a [u32],
}

/// `- sum(t · log softmax(s / temperature))` of every row; `lse` gets what the backward pass needs.
///
/// # Panics
/// If slices are shorter than the shapes say or a row of targets does not exist.
pub fn soft_cross_entropy(
    width: usize,
    temperature: f32,
    scores: &[f32],
    targets: SoftTargets<'_>,
    losses: &mut [f32],
    lse: &mut [f32],
) {
    assert!(width > 0 && scores.len() == targets.of.len() * width);
    assert!(losses.len() == targets.of.len() && lse.len() == losses.len());
    let arch = pulp::Arch::new();
    let sharp = 1.0 / temperature;
    let rows = scores.par_chunks(width).zip(targets.of).zip(losses).zip(lse).with_min_len(least(width));
    rows.for_each(|(((s, of), loss), lse)| {
        let t = &targets.rows[*of as usize * width..][..width];
        arch.dispatch(|| {
            let top = max(s) * sharp;
            *lse = top + sum(s, |s| exp(s * sharp - top)).ln();
            *loss = sum2(s, t, |s, t| t * (*lse - s * sharp));
        });
    });
}

/// The gradient of the sum of all losses, each times its weight.
///
/// # Panics
/// As [`soft_cross_entropy`].
pub fn soft_cross_entropy_backward(
    width: usize,
    temperature: f32,
    scores: &[f32],
    targets: SoftTargets<'_>,
    lse: &[f32],
    weights: &[f32],
    ds: &mut [f32],
) {
    assert!(width > 0 && scores.len() == targets.of.len() * width && ds.len() == scores.len());
    assert!(lse.len() == targets.of.len() && weights.len() == lse.len());
    let arch = pulp::Arch::new();
    let sharp = 1.0 / temperature;
    let rows = scores.par_chunks(width).zip(ds.par_chunks_mut(width)).zip(targets.of).zip(lse).zip(weights);
    rows.with_min_len(least(width)).for_each(|((((s, ds), of), lse), weight)| {
        let t = &targets.rows[*of as usize * width..][..width];
        arch.dispatch(|| {
            let (all, scale) = (sum(t, |t| t), weight * sharp);
            for ((ds, s), t) in ds.iter_mut().zip(s).zip(t) {
                *ds = scale * (exp(s * sharp - lse) * all - t);
            }
        });
    });
}

/// How far rows are from others: `cosine · (1 - cos(x, t)) + smooth · mean(smooth L1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Weight of one minus the cosine.
    pub cosine: f32,
    /// Weight of the mean over the row of the smooth L1 distance: half the square below 1, the distance less a
    /// half above.
    pub smooth: f32,
}

/// Lengths below this count as it.
const SHORTEST: f32 = 1e-8;

impl Distance {
    /// The distance of every row of `x` to that of `t`.
    ///
    /// # Panics
    /// If the slices are not rows of `width`.
    pub fn forward(&self, width: usize, x: &[f32], t: &[f32], out: &mut [f32]) {
        assert!(width > 0 && x.len() == t.len() && x.len() == out.len() * width);
        let arch = pulp::Arch::new();
        let rows = x.par_chunks(width).zip(t.par_chunks(width)).zip(out).with_min_len(least(width));
        rows.for_each(|((x, t), out)| {
            arch.dispatch(|| {
                let (x_norm, t_norm) = (dot(x, x).sqrt().max(SHORTEST), dot(t, t).sqrt().max(SHORTEST));
                let cosine = dot(x, t) / (x_norm * t_norm);
                let smooth = sum2(x, t, |x, t| {
                    let d = (x - t).abs();
                    if d < 1.0 { 0.5 * d * d } else { d - 0.5 }
                });
                *out = self.cosine * (1.0 - cosine) + self.smooth * smooth / width as f32;
            });
        });
    }

    /// The gradient with respect to `x`, `dy` being that of every row's distance.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward(&self, width: usize, x: &[f32], t: &[f32], dy: &[f32], dx: &mut [f32]) {
        assert!(width > 0 && x.len() == t.len() && x.len() == dx.len() && x.len() == dy.len() * width);
        let arch = pulp::Arch::new();
        let rows = x.par_chunks(width).zip(t.par_chunks(width)).zip(dx.par_chunks_mut(width)).zip(dy);
        rows.with_min_len(least(width)).for_each(|(((x, t), dx), dy)| {
            arch.dispatch(|| {
                let (x_norm, t_norm) = (dot(x, x).sqrt().max(SHORTEST), dot(t, t).sqrt().max(SHORTEST));
                let cosine = dot(x, t) / (x_norm * t_norm);
                let (to_t, to_x) =
                    (-dy * self.cosine / (x_norm * t_norm), dy * self.cosine * cosine / (x_norm * x_norm));
                let slope = dy * self.smooth / width as f32;
                for ((dx, x), t) in dx.iter_mut().zip(x).zip(t) {
                    *dx = to_t * t + to_x * x + slope * (x - t).clamp(-1.0, 1.0);
                }
            });
        });
    }
}
