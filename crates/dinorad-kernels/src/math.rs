//! Exponential and GELU on vector registers.
#![allow(clippy::excessive_precision)] // coefficients as published

use super::simd::{ROUNDER, Simd};

/// `2^x`, relative error below 2e-7; below -125 about 2^-125, which stands for 0. `x` is at most 126.
///
/// Polynomial of Cephes' `exp2f`.
#[inline(always)]
pub(super) unsafe fn exp2<S: Simd>(x: S::V) -> S::V {
    // SAFETY: register arithmetic; the caller guarantees the instruction set.
    unsafe {
        let x = S::max(x, S::splat(-125.0));
        let shifted = S::add(x, S::splat(ROUNDER));
        let f = S::sub(x, S::sub(shifted, S::splat(ROUNDER)));
        let mut p = S::splat(1.535_336_188_319_5e-4);
        p = S::fma(p, f, S::splat(1.339_887_440_266_574e-3));
        p = S::fma(p, f, S::splat(9.618_437_357_674_64e-3));
        p = S::fma(p, f, S::splat(5.550_332_471_162_809e-2));
        p = S::fma(p, f, S::splat(2.402_264_791_363_012e-1));
        p = S::fma(p, f, S::splat(6.931_472_028_550_421e-1));
        p = S::fma(p, f, S::splat(1.0));
        S::times_pow2(p, shifted)
    }
}

/// `x / (1 + e^(-slope x))`: SiLU for a slope of 1, CLIP's quick GELU for 1.702.
#[inline(always)]
pub(super) unsafe fn swish<S: Simd>(x: S::V, slope: f32) -> S::V {
    // SAFETY: as in `exp2`.
    unsafe {
        let e = exp2::<S>(S::min(S::mul(x, S::splat(-slope * std::f32::consts::LOG2_E)), S::splat(126.0)));
        S::div(x, S::add(S::splat(1.0), e))
    }
}

/// The slope of [`gelu`]: `(1 + erf(x/√2)) / 2 + x φ(x)` with the normal density `φ`.
#[inline(always)]
pub(super) unsafe fn gelu_slope<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as in `exp2`.
    unsafe {
        let density = exp2::<S>(S::mul(S::mul(x, x), S::splat(-0.5 * std::f32::consts::LOG2_E)));
        let density = S::mul(density, S::splat(0.398_942_280_401_432_7));
        S::fma(x, density, S::fma(erf_of_root::<S>(x), S::splat(0.5), S::splat(0.5)))
    }
}

/// The slope of [`swish`]: `s (1 + slope x (1 - s))` with `s` the sigmoid of `slope x`.
#[inline(always)]
pub(super) unsafe fn swish_slope<S: Simd>(x: S::V, slope: f32) -> S::V {
    // SAFETY: as in `exp2`.
    unsafe {
        let e = exp2::<S>(S::min(S::mul(x, S::splat(-slope * std::f32::consts::LOG2_E)), S::splat(126.0)));
        let one = S::splat(1.0);
        let s = S::div(one, S::add(one, e));
        S::mul(s, S::fma(S::mul(x, S::splat(slope)), S::sub(one, s), one))
    }
}

/// `x/2 (1 + erf(x/√2))`; `erf` is a rational function on `[-4, 4]` (that of Eigen and XLA),
/// absolute error below 5e-7.
#[inline(always)]
pub(super) unsafe fn gelu<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as in `exp2`.
    unsafe {
        let half = S::mul(x, S::splat(0.5));
        S::fma(half, erf_of_root::<S>(x), half)
    }
}

/// `erf(x/√2)`
#[inline(always)]
unsafe fn erf_of_root<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as in `exp2`.
    unsafe {
        let u = S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2));
        let u = S::min(S::max(u, S::splat(-4.0)), S::splat(4.0));
        let t = S::mul(u, u);
        let mut p = S::splat(-2.726_142_258_013_06e-10);
        p = S::fma(p, t, S::splat(2.770_681_424_959_02e-8));
        p = S::fma(p, t, S::splat(-2.101_024_020_825_08e-6));
        p = S::fma(p, t, S::splat(-5.692_506_394_623_46e-5));
        p = S::fma(p, t, S::splat(-7.349_906_303_268_55e-4));
        p = S::fma(p, t, S::splat(-2.954_599_808_540_25e-3));
        p = S::fma(p, t, S::splat(-1.609_603_332_624_15e-2));
        let mut q = S::splat(-1.456_607_184_649_96e-5);
        q = S::fma(q, t, S::splat(-2.133_740_552_789_05e-4));
        q = S::fma(q, t, S::splat(-1.682_826_974_382_03e-3));
        q = S::fma(q, t, S::splat(-7.373_329_167_204_68e-3));
        q = S::fma(q, t, S::splat(-1.426_473_905_141_89e-2));
        S::div(S::mul(p, u), q)
    }
}
