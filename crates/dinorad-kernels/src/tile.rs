//! The kernels proper: generic over the instruction set, reached through [`Kernels`](super::Kernels).

use super::{math, simd::Simd};

/// What happens to the accumulators of a tile on their way to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// `c = a·b`
    Store,
    /// `c += a·b`
    Accumulate,
    /// `c = a·b + bias`
    Bias,
    /// `c = gelu(a·b + bias)`
    BiasGelu,
    /// `c = x · sigmoid(1.702 x)` of `x = a·b + bias`
    BiasQuickGelu,
    /// `c += a·b + bias`
    Residual,
    /// Two registers a row, gate and value: `c = silu(gate) * value`, half as wide as `a·b`.
    SwiGlu,
}

/// What follows a tile of a [`product`](crate::product) while it is in the first-level cache. Apart from
/// [`tile`], of which there are many: this is compiled once for an instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// Nothing.
    Store,
    /// `c = c + bias`
    Bias,
    /// `second = c + bias`, `c = gelu(second)`
    Gelu,
    /// `second = c + bias`, `c = second · sigmoid(1.702 second)`
    QuickGelu,
    /// `c = second + gain · (c + bias)`
    Residual,
    /// `c = c · gelu'(second)`
    GeluGradient,
}

/// Operands of one tile: up to `mr` rows of `a` times one packed panel of `b`.
pub(super) struct Tile {
    /// Length of the inner sum.
    pub(super) k: usize,
    /// First value of `a`; row `i` starts `i * lda` further, and its next values are `step` apart.
    pub(super) a: *const f32,
    pub(super) lda: usize,
    pub(super) step: usize,
    /// The panel: `k` times `nv` registers.
    pub(super) b: *const f32,
    /// `nv` registers of bias (unused by the epilogues without).
    pub(super) bias: *const f32,
    /// First row of the output; row `i` starts `i * ldc` further.
    pub(super) c: *mut f32,
    pub(super) ldc: usize,
    /// Output columns that exist, at most those of the panel.
    pub(super) columns: usize,
    pub(super) epilogue: Epilogue,
}

/// A finished block of sums and what [`finish`] needs.
pub(super) struct Finished {
    pub(super) last: Last,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) c: *mut f32,
    pub(super) ldc: usize,
    /// A value for every column, where `last` has a bias.
    pub(super) bias: *const f32,
    /// A factor for every column, for [`Last::Residual`].
    pub(super) gain: *const f32,
    /// The second matrix, where `last` has one; row `i` starts `i * ld2` further.
    pub(super) second: *mut f32,
    pub(super) ld2: usize,
}

/// `MR` rows times a panel of `NV` registers. Every output is one chain of fused multiply-adds in
/// the order of `k`, whatever `MR` is: the value does not depend on how rows were cut into tiles.
///
/// # Safety
/// The instruction set of `S`; the pointers of `t` valid for the shape it states.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: rows below `MR` and `k` of `a`, `k * NV` registers of `b`, `NV` of `bias` and
    // `columns` values of each row of `c` are the caller's promise.
    unsafe {
        let mut acc = [[S::splat(0.0); NV]; MR];
        let (mut a, mut b) = (t.a, t.b);
        // The output's rows are far apart: they come from memory while the sums are made.
        for i in 0..MR {
            let row = t.c.wrapping_add(i * t.ldc);
            S::prefetch(row);
            S::prefetch(row.wrapping_add(NV * S::LANES - 1));
        }
        for _ in 0..t.k {
            let mut row = [S::splat(0.0); NV];
            for (v, r) in row.iter_mut().enumerate() {
                *r = S::load(b.add(v * S::LANES));
            }
            b = b.add(NV * S::LANES);
            for i in 0..MR {
                let x = S::splat(*a.add(i * t.lda));
                for v in 0..NV {
                    acc[i][v] = S::fma(x, row[v], acc[i][v]);
                }
            }
            a = a.add(t.step);
        }
        let epilogue = t.epilogue;
        if epilogue == Epilogue::SwiGlu {
            for (i, acc) in acc.iter().enumerate() {
                let gate = math::swish::<S>(S::add(acc[0], S::load(t.bias)), 1.0);
                let value = S::add(acc[NV - 1], S::load(t.bias.add((NV - 1) * S::LANES)));
                put::<S>(t.c.add(i * t.ldc), S::mul(gate, value), t.columns);
            }
            return;
        }
        for v in 0..NV {
            let from = v * S::LANES;
            if from >= t.columns {
                break;
            }
            let left = t.columns - from;
            let bias = match epilogue {
                Epilogue::Store | Epilogue::Accumulate => S::splat(0.0),
                _ => S::load(t.bias.add(from)),
            };
            for i in 0..MR {
                let to = t.c.add(i * t.ldc + from);
                let sum = acc[i][v];
                let out = match epilogue {
                    Epilogue::Store => sum,
                    Epilogue::Bias => S::add(sum, bias),
                    Epilogue::BiasGelu => math::gelu::<S>(S::add(sum, bias)),
                    Epilogue::BiasQuickGelu => math::swish::<S>(S::add(sum, bias), 1.702),
                    Epilogue::Accumulate => S::add(get::<S>(to, left), sum),
                    Epilogue::Residual | Epilogue::SwiGlu => S::add(get::<S>(to, left), S::add(sum, bias)),
                };
                put::<S>(to, out, left);
            }
        }
    }
}

/// The epilogues of training.
///
/// # Safety
/// The instruction set of `S`; `c`, and what `last` uses of the others, valid for the shape.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(t: &Finished) {
    // SAFETY: the caller's promise; every access is below `columns`.
    unsafe {
        for i in 0..t.rows {
            let mut j = 0;
            while j < t.columns {
                let left = t.columns - j;
                let to = t.c.add(i * t.ldc + j);
                let sum = get::<S>(to, left);
                let biased = || S::add(sum, get::<S>(t.bias.add(j), left));
                let second = t.second.wrapping_add(i * t.ld2 + j);
                let out = match t.last {
                    Last::Store => sum,
                    Last::Bias => biased(),
                    Last::Gelu => {
                        put::<S>(second, biased(), left);
                        math::gelu::<S>(biased())
                    }
                    Last::QuickGelu => {
                        put::<S>(second, biased(), left);
                        math::swish::<S>(biased(), 1.702)
                    }
                    Last::Residual => S::fma(biased(), get::<S>(t.gain.add(j), left), get::<S>(second, left)),
                    Last::GeluGradient => S::mul(sum, math::gelu_slope::<S>(get::<S>(second, left))),
                };
                put::<S>(to, out, left);
                j += S::LANES;
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn get<S: Simd>(from: *const f32, n: usize) -> S::V {
    // SAFETY: the caller has `n` values there.
    unsafe { if n >= S::LANES { S::load(from) } else { S::load_partial(from, n) } }
}

#[inline(always)]
pub(super) unsafe fn put<S: Simd>(to: *mut f32, v: S::V, n: usize) {
    // SAFETY: the caller has room for `n` values there.
    unsafe { if n >= S::LANES { S::store(to, v) } else { S::store_partial(to, v, n) } }
}

/// `(x - mean) / sqrt(variance + eps) * gamma + beta` of one row of `dim` values; returns the mean
/// and `1 / sqrt(variance + eps)`.
///
/// # Safety
/// The instruction set of `S`; all pointers valid for `dim` values.
#[inline(always)]
pub(super) unsafe fn layer_norm<S: Simd>(
    x: *const f32,
    dim: usize,
    gamma: *const f32,
    beta: *const f32,
    eps: f32,
    out: *mut f32,
) -> (f32, f32) {
    // SAFETY: every access is below `dim`.
    unsafe {
        let whole = dim / S::LANES * S::LANES;
        let mean = sum_of::<S>(dim, whole, |i| S::load(x.add(i)), |i| *x.add(i)) / dim as f32;
        let m = S::splat(mean);
        let square = sum_of::<S>(
            dim,
            whole,
            |i| {
                let d = S::sub(S::load(x.add(i)), m);
                S::mul(d, d)
            },
            |i| (*x.add(i) - mean) * (*x.add(i) - mean),
        );
        let scale = 1.0 / (square / dim as f32 + eps).sqrt();
        let s = S::splat(scale);
        let mut i = 0;
        while i < dim {
            let n = dim - i;
            let d = S::mul(S::sub(get::<S>(x.add(i), n), m), s);
            put::<S>(out.add(i), S::fma(d, get::<S>(gamma.add(i), n), get::<S>(beta.add(i), n)), n);
            i += S::LANES;
        }
        (mean, scale)
    }
}

/// The backward pass of [`layer_norm`] on one row: `dx` is written, or added to; the row's share is
/// added to `dgamma` and `dbeta`, where they are not null.
///
/// # Safety
/// The instruction set of `S`; all pointers that are not null valid for `dim` values.
#[inline(always)]
pub(super) unsafe fn layer_norm_backward<S: Simd>(row: &NormRow) {
    // SAFETY: every access is below `dim`.
    unsafe {
        let &NormRow { x, dy, gamma, dim, mean, scale, dx, add, dgamma, dbeta } = row;
        let (m, s) = (S::splat(mean), S::splat(scale));
        if !dgamma.is_null() {
            let mut i = 0;
            while i < dim {
                let n = dim - i;
                let normed = S::mul(S::sub(get::<S>(x.add(i), n), m), s);
                let g = get::<S>(dy.add(i), n);
                put::<S>(dgamma.add(i), S::fma(g, normed, get::<S>(dgamma.add(i), n)), n);
                put::<S>(dbeta.add(i), S::add(g, get::<S>(dbeta.add(i), n)), n);
                i += S::LANES;
            }
        }
        if dx.is_null() {
            return;
        }
        let whole = dim / S::LANES * S::LANES;
        let mut sums = [S::splat(0.0); 4];
        let (mut rest, mut rest_normed) = (0.0, 0.0);
        let mut i = 0;
        while i + 2 * S::LANES <= whole {
            for j in 0..2 {
                let at = i + j * S::LANES;
                let g = S::mul(S::load(dy.add(at)), S::load(gamma.add(at)));
                let normed = S::mul(S::sub(S::load(x.add(at)), m), s);
                sums[j] = S::add(sums[j], g);
                sums[2 + j] = S::fma(g, normed, sums[2 + j]);
            }
            i += 2 * S::LANES;
        }
        while i < dim {
            let g = *dy.add(i) * *gamma.add(i);
            rest += g;
            rest_normed += g * ((*x.add(i) - mean) * scale);
            i += 1;
        }
        let mean_g = (S::sum(S::add(sums[0], sums[1])) + rest) / dim as f32;
        let mean_gx = (S::sum(S::add(sums[2], sums[3])) + rest_normed) / dim as f32;
        let (mean_g, mean_gx) = (S::splat(mean_g), S::splat(mean_gx));
        let mut i = 0;
        while i < dim {
            let n = dim - i;
            let g = S::mul(get::<S>(dy.add(i), n), get::<S>(gamma.add(i), n));
            let normed = S::mul(S::sub(get::<S>(x.add(i), n), m), s);
            let mut d = S::mul(S::sub(S::sub(g, mean_g), S::mul(normed, mean_gx)), s);
            if add {
                d = S::add(d, get::<S>(dx.add(i), n));
            }
            put::<S>(dx.add(i), d, n);
            i += S::LANES;
        }
    }
}

/// One row of a layer norm's backward pass.
pub(super) struct NormRow {
    pub(super) x: *const f32,
    pub(super) dy: *const f32,
    pub(super) gamma: *const f32,
    pub(super) dim: usize,
    pub(super) mean: f32,
    pub(super) scale: f32,
    /// Null where nobody asks for it.
    pub(super) dx: *mut f32,
    /// Whether `dx` is added to.
    pub(super) add: bool,
    /// Null together with `dbeta`.
    pub(super) dgamma: *mut f32,
    pub(super) dbeta: *mut f32,
}

/// `to = f(x)`, or `f'(x) · dy` where `dy` is not null.
///
/// # Safety
/// The instruction set of `S`; pointers valid for `n` values. `to` may be `x` or `dy`.
#[inline(always)]
pub(super) unsafe fn activate<S: Simd>(f: Activation, x: *const f32, dy: *const f32, n: usize, to: *mut f32) {
    // SAFETY: every access is below `n`, and reads of a place come before its write.
    unsafe {
        let mut i = 0;
        while i < n {
            let left = n - i;
            let v = get::<S>(x.add(i), left);
            let out = if dy.is_null() {
                match f {
                    Activation::Gelu => math::gelu::<S>(v),
                    Activation::QuickGelu => math::swish::<S>(v, 1.702),
                    Activation::Silu => math::swish::<S>(v, 1.0),
                }
            } else {
                let slope = match f {
                    Activation::Gelu => math::gelu_slope::<S>(v),
                    Activation::QuickGelu => math::swish_slope::<S>(v, 1.702),
                    Activation::Silu => math::swish_slope::<S>(v, 1.0),
                };
                S::mul(slope, get::<S>(dy.add(i), left))
            };
            put::<S>(to.add(i), out, left);
            i += S::LANES;
        }
    }
}

/// What stands between the maps of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The exact (erf) GELU.
    Gelu,
    /// `x · sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
    /// `x · sigmoid(x)`
    Silu,
}

/// From scores in units of log 2 and the gradient of their weights to the weights,
/// `p = 2^(s - lse)`, and the gradient of the scores, `p (dp - delta) scale`, both in place.
///
/// # Safety
/// The instruction set of `S`; pointers valid for `n` values.
#[inline(always)]
pub(super) unsafe fn softmax_backward<S: Simd>(
    scores: *mut f32,
    dp: *mut f32,
    n: usize,
    lse: f32,
    delta: f32,
    scale: f32,
) {
    // SAFETY: every access is below `n`.
    unsafe {
        let (lse, delta, scale) = (S::splat(lse), S::splat(delta), S::splat(scale));
        let mut i = 0;
        while i < n {
            let left = n - i;
            let p = math::exp2::<S>(S::sub(get::<S>(scores.add(i), left), lse));
            let d = S::mul(S::mul(p, scale), S::sub(get::<S>(dp.add(i), left), delta));
            put::<S>(scores.add(i), p, left);
            put::<S>(dp.add(i), d, left);
            i += S::LANES;
        }
    }
}

/// Sum over `dim` terms in four interleaved chains, the order of which depends on `dim` alone.
#[inline(always)]
unsafe fn sum_of<S: Simd>(dim: usize, whole: usize, term: impl Fn(usize) -> S::V, last: impl Fn(usize) -> f32) -> f32 {
    // SAFETY: register arithmetic; `term` is called with room for a register below `whole`.
    unsafe {
        let mut acc = [S::splat(0.0); 4];
        let step = 4 * S::LANES;
        let mut i = 0;
        while i + step <= whole {
            for (j, a) in acc.iter_mut().enumerate() {
                *a = S::add(*a, term(i + j * S::LANES));
            }
            i += step;
        }
        while i < whole {
            acc[0] = S::add(acc[0], term(i));
            i += S::LANES;
        }
        let mut sum = S::sum(S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3])));
        for i in whole..dim {
            sum += last(i);
        }
        sum
    }
}

/// One step of the online softmax on one row of scores in units of log 2: `scores` become
/// `2^(score - max)`, where `max` is the largest score so far; `max` and `sum` are brought up to
/// date. Returns the factor by which what was accumulated under the old maximum has to shrink.
///
/// # Safety
/// The instruction set of `S`; `scores` valid for `n` values rounded up to whole registers.
#[inline(always)]
pub(super) unsafe fn softmax_step<S: Simd>(scores: *mut f32, n: usize, max: &mut f32, sum: &mut f32) -> f32 {
    // SAFETY: accesses stay below `n` rounded up to `LANES`.
    unsafe {
        let padded = n.div_ceil(S::LANES) * S::LANES;
        for i in n..padded {
            *scores.add(i) = f32::NEG_INFINITY;
        }
        let mut top = S::splat(f32::NEG_INFINITY);
        let mut i = 0;
        while i < padded {
            top = S::max(top, S::load(scores.add(i)));
            i += S::LANES;
        }
        let new = S::max_lane(top).max(*max);
        let m = S::splat(new);
        let mut acc = [S::splat(0.0); 2];
        let mut i = 0;
        while i + 2 * S::LANES <= padded {
            for (j, a) in acc.iter_mut().enumerate() {
                let at = scores.add(i + j * S::LANES);
                let p = math::exp2::<S>(S::sub(S::load(at), m));
                S::store(at, p);
                *a = S::add(*a, p);
            }
            i += 2 * S::LANES;
        }
        if i < padded {
            let at = scores.add(i);
            let p = math::exp2::<S>(S::sub(S::load(at), m));
            S::store(at, p);
            acc[0] = S::add(acc[0], p);
        }
        let shrink = if *max == f32::NEG_INFINITY { 0.0 } else { (*max - new).exp2() };
        *sum = *sum * shrink + S::sum(S::add(acc[0], acc[1]));
        *max = new;
        shrink
    }
}

/// `row *= factor`.
///
/// # Safety
/// The instruction set of `S`; `row` valid for `n` values.
#[inline(always)]
pub(super) unsafe fn scale<S: Simd>(row: *mut f32, n: usize, factor: f32) {
    // SAFETY: accesses stay below `n`.
    unsafe {
        let f = S::splat(factor);
        let mut i = 0;
        while i < n {
            put::<S>(row.add(i), S::mul(get::<S>(row.add(i), n - i), f), n - i);
            i += S::LANES;
        }
    }
}
