//! The two products of a training step, for whatever vectors the processor has.
//!
//! Safe code over `pulp`: the widest of AVX-512, AVX2, NEON and plain Rust is chosen at run time.
//! Every value is one chain of multiply-adds in a fixed order, whichever tile computes it, so no
//! result depends on the number of threads or on the heads that lie beside it.

use std::ops::Range;

use pulp::{Simd, WithSimd};

/// Rows, and features, that lie together in packed rows.
pub const STRIP: usize = 8;
/// Values of a strip of rows for as many features.
pub const BLOCK: usize = STRIP * STRIP;
/// Columns come in whole vectors of the widest kind.
pub const LANES: usize = 16;
/// Columns of a panel at most, unless a head has more. Eight rows of three vectors are what 32
/// registers hold; two are as fast, and more panels are shared more evenly.
pub const PANEL: usize = 2 * LANES;

/// Logits of one strip of rows: `out = bias + x·weights`.
pub struct Forward<'a> {
    /// The strip, `[feature / 8][row][feature % 8]`.
    pub x: &'a [f32],
    /// `(features, width)`.
    pub weights: &'a [f32],
    /// `width` values.
    pub bias: &'a [f32],
    /// Eight rows of `stride` values.
    pub out: &'a mut [f32],
    /// Distance between rows.
    pub stride: usize,
    /// Where the panel's columns start in a row of `out`.
    pub column: usize,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.run::<S, 8>(simd) } else { self.run::<S, 4>(simd) }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(mut self, simd: S) {
        let width = self.bias.len();
        let mut at = 0;
        while at < width {
            let vectors = (width - at) / S::F32_LANES;
            for first in (0..STRIP).step_by(M) {
                match vectors {
                    1 => self.tile::<S, M, 1>(simd, at, first),
                    2 => self.tile::<S, M, 2>(simd, at, first),
                    _ => self.tile::<S, M, 3>(simd, at, first),
                }
            }
            at += vectors.clamp(1, 3) * S::F32_LANES;
        }
    }

    /// `M` rows from `first`, `N` vectors of columns from `at`.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, at: usize, first: usize) {
        let width = self.bias.len();
        let mut sums = [load::<S, N>(simd, &self.bias[at..]); M];
        for (x, weights) in self.x.chunks_exact(BLOCK).zip(self.weights.chunks_exact(STRIP * width)) {
            let x = &x[first * STRIP..][..M * STRIP];
            for (feature, weights) in weights.chunks_exact(width).enumerate() {
                let weights = load::<S, N>(simd, &weights[at..]);
                for row in 0..M {
                    let x = simd.splat_f32s(x[row * STRIP + feature]);
                    for n in 0..N {
                        sums[row][n] = simd.mul_add_e_f32s(x, weights[n], sums[row][n]);
                    }
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            store::<S, N>(&mut self.out[(first + row) * self.stride + self.column + at..], sums);
        }
    }
}

/// One step of a run of features: `velocity = momentum·velocity + xᵀ·gradients`, then
/// `weights -= rates·velocity`.
pub struct Descent<'a> {
    /// Packed strips of `strip` values each.
    pub x: &'a [f32],
    /// Values of a strip.
    pub strip: usize,
    /// Where the features start in a strip.
    pub place: usize,
    /// As many strips of eight rows of `stride` values.
    pub gradients: &'a [f32],
    /// Distance between rows.
    pub stride: usize,
    /// Where the panel's columns start in a row of `gradients`.
    pub column: usize,
    /// Share of the last velocity that is kept.
    pub momentum: f32,
    /// A learning rate per column, `width` values.
    pub rates: &'a [f32],
    /// `(features, width)`, whole blocks of features.
    pub velocity: &'a mut [f32],
    /// As `velocity`.
    pub weights: &'a mut [f32],
    /// Those of the features that the panel reads; the others keep their zeros.
    pub live: Range<usize>,
}

impl WithSimd for Descent<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.run::<S, 8>(simd) } else { self.run::<S, 4>(simd) }
    }
}

impl Descent<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(mut self, simd: S) {
        let width = self.rates.len();
        for first in (0..self.velocity.len() / width).step_by(M) {
            let mut at = 0;
            while at < width {
                let vectors = (width - at) / S::F32_LANES;
                match vectors {
                    1 => self.tile::<S, M, 1>(simd, at, first),
                    2 => self.tile::<S, M, 2>(simd, at, first),
                    _ => self.tile::<S, M, 3>(simd, at, first),
                }
                at += vectors.clamp(1, 3) * S::F32_LANES;
            }
        }
    }

    /// `M` features from `first`, `N` vectors of columns from `at`.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, at: usize, first: usize) {
        let width = self.rates.len();
        let momentum = simd.splat_f32s(self.momentum);
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        for (i, sums) in sums.iter_mut().enumerate() {
            let velocity = load::<S, N>(simd, &self.velocity[(first + i) * width + at..]);
            for n in 0..N {
                sums[n] = simd.mul_f32s(momentum, velocity[n]);
            }
        }
        let place = self.place + first / STRIP * BLOCK;
        // what the next tile changes comes from memory while this one computes
        let next = (first + M) * width..(first + 2 * M) * width;
        let velocity = self.velocity.get(next.clone()).unwrap_or_default().chunks(BLOCK);
        let weights = self.weights.get(next).unwrap_or_default().chunks(BLOCK);
        let mut ahead = velocity.zip(weights);
        let strips = self.x.chunks_exact(self.strip).zip(self.gradients.chunks_exact(STRIP * self.stride));
        for (x, gradients) in strips {
            if let Some((velocity, weights)) = ahead.next() {
                prefetch(velocity);
                prefetch(weights);
            }
            let (x, next) = x[place..].split_at(BLOCK);
            prefetch(&next[..BLOCK.min(next.len())]);
            for (x, gradients) in x.chunks_exact(STRIP).zip(gradients.chunks_exact(self.stride)) {
                let x = &x[first % STRIP..][..M];
                let gradients = load::<S, N>(simd, &gradients[self.column + at..]);
                for i in 0..M {
                    let x = simd.splat_f32s(x[i]);
                    for n in 0..N {
                        sums[i][n] = simd.mul_add_e_f32s(x, gradients[n], sums[i][n]);
                    }
                }
            }
        }
        let rates = load::<S, N>(simd, &self.rates[at..]);
        for (i, velocity) in sums.into_iter().enumerate() {
            if self.live.contains(&(first + i)) {
                let place = (first + i) * width + at;
                let mut weights = load::<S, N>(simd, &self.weights[place..]);
                for n in 0..N {
                    weights[n] = simd.sub_f32s(weights[n], simd.mul_f32s(rates[n], velocity[n]));
                }
                store::<S, N>(&mut self.velocity[place..], velocity);
                store::<S, N>(&mut self.weights[place..], weights);
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd, const N: usize>(simd: S, values: &[f32]) -> [S::f32s; N] {
    let (vectors, _) = S::as_simd_f32s(&values[..N * S::F32_LANES]);
    let mut out = [simd.splat_f32s(0.0); N];
    for (to, from) in out.iter_mut().zip(vectors) {
        *to = *from;
    }
    out
}

#[inline(always)]
fn store<S: Simd, const N: usize>(values: &mut [f32], from: [S::f32s; N]) {
    let (vectors, _) = S::as_mut_simd_f32s(&mut values[..N * S::F32_LANES]);
    for (to, from) in vectors.iter_mut().zip(from) {
        *to = from;
    }
}

/// Asks for values that are needed soon; changes none.
#[inline(always)]
fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        for line in values.chunks(LANES) {
            sse._mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
