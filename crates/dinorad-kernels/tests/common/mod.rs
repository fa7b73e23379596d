//! What the tests share: noise, instruction sets, threads, comparison.
#![allow(dead_code)]

use dinorad_kernels::{InstructionSet, Kernels};

/// Values in `[-scale, scale]` from a seed.
pub(crate) fn noise(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| scale * next()).collect()
}

/// The kernels that this processor can run.
pub(crate) fn available() -> Vec<&'static Kernels> {
    InstructionSet::ALL.into_iter().filter_map(Kernels::of).collect()
}

/// The result of `f` on one thread, after it was found to have the same bytes on two and three.
pub(crate) fn on_threads(what: &str, f: impl Fn() -> Vec<Vec<f32>> + Sync) -> Vec<Vec<f32>> {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&f)
    };
    let one = run(1);
    for threads in [2, 3] {
        let bits = |v: &[Vec<f32>]| v.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(&one) == bits(&run(threads)), "{what}: other bytes at {threads} threads");
    }
    one
}

/// `got` is `want` within `tolerance` times (1 + the largest wanted value).
pub(crate) fn close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = 1.0 + want.iter().fold(0.0f64, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*g) - w).abs() <= tolerance * size, "{what}: {g} instead of {w} at {i} (largest {size})");
    }
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|v| f64::from(*v)).collect()
}

/// Central differences of `f` in f64: the gradient of `sum(f(x) * weights)`.
pub(crate) fn differences(x: &[f64], weights: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let value = |x: &[f64]| -> f64 { f(x).iter().zip(weights).map(|(y, w)| y * f64::from(*w)).sum() };
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let (at, h) = (x[i], 1e-5);
            x[i] = at + h;
            let above = value(&x);
            x[i] = at - h;
            let below = value(&x);
            x[i] = at;
            (above - below) / (2.0 * h)
        })
        .collect()
}

pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut fraction = a;
        for n in (1..60).rev() {
            fraction = a + f64::from(n) / 2.0 / fraction;
        }
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

pub(crate) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

pub(crate) fn swish(x: f64, slope: f64) -> f64 {
    x / (1.0 + (-slope * x).exp())
}
