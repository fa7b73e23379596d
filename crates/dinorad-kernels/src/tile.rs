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

/// What happens to the accumulators of a tile in a [`product`](crate::product): the epilogues of
/// packed layers, or those of training, which read or write a second matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// As inference has it.
    Plain(Epilogue),
    /// `second = a·b + bias`, `c = gelu(second)`
    Gelu,
    /// `second = a·b + bias`, `c = second · sigmoid(1.702 second)`
    QuickGelu,
    /// `c = second + gain · (a·b + bias)`
    Residual,
    /// `c = a·b · gelu'(second)`
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
    /// Whether `c` holds the sum over earlier parts of the inner dimension.
    pub(super) partial: bool,
    pub(super) last: Last,
    /// `nv` registers of gains, for [`Last::Residual`].
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
        let epilogue = match t.last {
            Last::Plain(epilogue) => epilogue,
            last => return finish::<S, MR, NV>(t, acc, last),
        };
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
                let sum = if t.partial { S::add(get::<S>(to, left), acc[i][v]) } else { acc[i][v] };
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
/// As for [`tile`]; `gain` and `second` are valid where `last` uses them.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(t: &Tile, acc: [[S::V; NV]; MR], last: Last) {
    // SAFETY: the caller's promise, as in `tile`.
    unsafe {
        for v in 0..NV {
            let from = v * S::LANES;
            if from >= t.columns {
                break;
            }
            let left = t.columns - from;
            let bias = if last == Last::GeluGradient { S::splat(0.0) } else { S::load(t.bias.add(from)) };
            for i in 0..MR {
                let to = t.c.add(i * t.ldc + from);
                let second = t.second.add(i * t.ld2 + from);
                let mut sum = if t.partial { S::add(get::<S>(to, left), acc[i][v]) } else { acc[i][v] };
                sum = S::add(sum, bias);
                let out = match last {
                    Last::Gelu => {
                        put::<S>(second, sum, left);
                        math::gelu::<S>(sum)
                    }
                    Last::QuickGelu => {
                        put::<S>(second, sum, left);
                        math::swish::<S>(sum, 1.702)
                    }
                    Last::Residual => S::fma(sum, S::load(t.gain.add(from)), get::<S>(second, left)),
                    Last::GeluGradient => S::mul(sum, math::gelu_slope::<S>(get::<S>(second, left))),
                    Last::Plain(_) => sum,
                };
                put::<S>(to, out, left);
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

/// `(x - mean) / sqrt(variance + eps) * gamma + beta` of one row of `dim` values.
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
) {
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
