//! The two products of a training step, for whatever vectors the processor has.
//!
//! Safe code over `pulp`: the widest of AVX-512, AVX2, NEON and plain Rust is chosen at run time.
//! Every value is one chain of multiply-adds in a fixed order, whichever tile computes it, so no
//! result depends on the number of threads or on the heads that lie beside it.

use std::ops::Range;

use pulp::{Simd, WithSimd};

/// Rows, and features, that lie together in packed rows.
pub(crate) const STRIP: usize = 8;
/// Values of a strip of rows for as many features.
pub(crate) const BLOCK: usize = STRIP * STRIP;
/// Columns come in whole vectors of the widest kind.
pub(crate) const LANES: usize = 16;
/// Columns of a panel at most, unless a head has more. Eight rows of three vectors are what 32
/// registers hold; two are as fast, and more panels are shared more evenly.
pub(crate) const PANEL: usize = 2 * LANES;

/// Logits of one strip of rows: `out = bias + x·weights`.
pub(crate) struct Forward<'a> {
    /// The strip, `[feature / 8][row][feature % 8]`.
    pub(crate) x: &'a [f32],
    /// `(features, width)`.
    pub(crate) weights: &'a [f32],
    /// `width` values.
    pub(crate) bias: &'a [f32],
    /// Eight rows of `stride` values.
    pub(crate) out: &'a mut [f32],
    pub(crate) stride: usize,
    /// Where the panel's columns start in a row of `out`.
    pub(crate) column: usize,
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
pub(crate) struct Descent<'a> {
    /// Packed strips of `strip` values each.
    pub(crate) x: &'a [f32],
    pub(crate) strip: usize,
    /// Where the features start in a strip.
    pub(crate) place: usize,
    /// As many strips of eight rows of `stride` values.
    pub(crate) gradients: &'a [f32],
    pub(crate) stride: usize,
    /// Where the panel's columns start in a row of `gradients`.
    pub(crate) column: usize,
    pub(crate) momentum: f32,
    /// A learning rate per column, `width` values.
    pub(crate) rates: &'a [f32],
    /// `(features, width)`, whole blocks of features.
    pub(crate) velocity: &'a mut [f32],
    pub(crate) weights: &'a mut [f32],
    /// Those of the features that the panel reads; the others keep their zeros.
    pub(crate) live: Range<usize>,
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

#[cfg(test)]
mod tests {
    use pulp::Arch;
    use rand::Rng;

    use super::*;
    use crate::panels::{Gradients, Move, Panel, pack, strip_len};

    /// Plain Rust and every kind of vectors that this processor has.
    fn every_arch() -> Vec<Arch> {
        #[allow(unused_mut)]
        let mut all = vec![Arch::Scalar, Arch::new()];
        #[cfg(target_arch = "x86_64")]
        all.extend(pulp::x86::V3::try_new().map(Arch::V3));
        all
    }

    struct Step {
        logits: Vec<f32>,
        velocity: Vec<f32>,
        weights: Vec<f32>,
    }

    /// One step by the kernels, compared with plain loops in f64.
    fn step(arch: Arch, rows: usize, dim: usize, features: &Range<usize>, outputs: usize) -> Vec<Step> {
        let mut rng = dinorad_core::rng::stream((rows * dim * outputs) as u64, 0, 0);
        let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let (offset, strip, strips) = (LANES, strip_len(dim), rows.div_ceil(STRIP));
        let (data, bias, answers) = (random(rows * dim), random(outputs), random(rows * outputs));
        let stride = offset + outputs.next_multiple_of(LANES) + LANES;
        let mut x = vec![f32::NAN; strips * strip];
        for (x, rows) in x.chunks_exact_mut(strip).zip(data.chunks(STRIP * dim)) {
            pack(x, rows.chunks(dim));
        }
        let mut all_bias = vec![0f32; stride];
        all_bias[offset..offset + outputs].copy_from_slice(&bias);
        let rates: Vec<f32> = (0..stride).map(|c| 0.1 + c as f32 * 0.01).collect();
        let mut panels = Panel::split(offset, outputs, 1, false, features, 2);
        let mut wanted = Vec::new();
        for panel in &mut panels {
            for column in panel.columns.clone().filter(|c| *c < offset + outputs) {
                let (weights, velocity) = (random(features.len()), random(features.len()));
                panel.column_mut(column).zip(&weights).for_each(|(to, from)| *to = *from);
                std::mem::swap(&mut panel.weights, &mut panel.velocity);
                panel.column_mut(column).zip(&velocity).for_each(|(to, from)| *to = *from);
                std::mem::swap(&mut panel.weights, &mut panel.velocity);
                wanted.push((weights, velocity));
            }
        }
        let mut logits = vec![0f32; strips * STRIP * stride];
        let mut gradients = logits.clone();
        for (to, from) in gradients.chunks_exact_mut(stride).zip(answers.chunks(outputs)) {
            to[offset..offset + outputs].copy_from_slice(from);
        }
        let mut out = Vec::new();
        for panel in &mut panels {
            let (column, columns) = (panel.columns.start, panel.columns.clone());
            panel.bias.copy_from_slice(&all_bias[columns.clone()]);
            for (x, out) in x.chunks_exact(strip).zip(logits.chunks_exact_mut(STRIP * stride)) {
                panel.forward(arch, x, out, stride, column);
            }
            let gradients = Gradients { values: &gradients, stride, column };
            let step = Move { momentum: 0.9, rates: &rates[columns] };
            panel.descents(&x, strip, gradients, step, 2 * STRIP).for_each(|piece| arch.dispatch(piece));
        }
        let at = |row: usize, feature: usize| f64::from(data[row * dim + features.start + feature]);
        for (output, (weights, velocity)) in wanted.iter().enumerate() {
            let column = offset + output;
            for row in 0..rows {
                let sum: f64 = weights.iter().enumerate().map(|(f, w)| f64::from(*w) * at(row, f)).sum();
                let got = f64::from(logits[row * stride + column]);
                assert!((got - sum - f64::from(bias[output])).abs() < 1e-5, "{rows} {dim} {outputs}: {got} {sum}");
            }
            let panel = panels.iter().find(|p| p.columns.contains(&column)).unwrap();
            for (feature, got) in panel.column(column).enumerate() {
                let sum: f64 = (0..rows).map(|r| f64::from(answers[r * outputs + output]) * at(r, feature)).sum();
                let moved = 0.9 * f64::from(velocity[feature]) + sum;
                let want = f64::from(weights[feature]) - f64::from(rates[column]) * moved;
                assert!((f64::from(*got) - want).abs() < 1e-5, "{rows} {dim} {outputs}: {got} {want}");
            }
        }
        for mut panel in panels {
            // whatever no head reads is zero and stays so
            let own = panel.columns.clone().filter(|c| *c < offset + outputs).count() * features.len();
            assert!(panel.weights.iter().filter(|w| **w != 0.0).count() <= own);
            assert!(panel.velocity.iter().filter(|v| **v != 0.0).count() <= own);
            for column in panel.columns.clone().filter(|c| *c >= offset + outputs) {
                assert!(logits.iter().skip(column).step_by(stride).all(|z| *z == 0.0));
                assert!(panel.column_mut(column).all(|w| *w == 0.0));
            }
            out.push(Step { logits: logits.clone(), velocity: panel.velocity, weights: panel.weights });
        }
        out
    }

    #[test]
    fn odd_sizes_equal_plain_loops_with_all_kinds_of_vectors() {
        for rows in [1, 8, 19] {
            for (dim, features) in [(5, 0..5), (16, 0..16), (23, 3..23), (61, 11..42), (40, 7..8)] {
                for outputs in [1, 16, 17, 48, 65] {
                    let all: Vec<Vec<Step>> =
                        every_arch().into_iter().map(|arch| step(arch, rows, dim, &features, outputs)).collect();
                    // those that fuse multiply and add agree to the bit
                    for (a, b) in all[1].iter().zip(all.last().unwrap()) {
                        let fused = cfg!(target_arch = "x86_64") && all.len() > 2;
                        assert!(!fused || (a.logits == b.logits && a.velocity == b.velocity && a.weights == b.weights));
                    }
                }
            }
        }
    }
}
