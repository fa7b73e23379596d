//! One vector register of f32: the few operations that the kernels are written in.
//!
//! A kernel is written once, generic over [`Simd`], and compiled once per instruction set inside a
//! function that switches the instruction set on. Every method is inlined into that function, so
//! the intrinsics become single instructions there.

/// Vector operations of one instruction set.
///
/// # Safety
/// Every method may only run on a processor that has the instruction set; pointers must be valid
/// for the `LANES` (or `n`) elements that the method touches. No alignment is asked for.
pub(super) trait Simd: Copy + 'static {
    /// A register of [`LANES`](Self::LANES) values.
    type V: Copy;
    /// Values in one register.
    const LANES: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// The first `n < LANES` values; the others read as 0.
    unsafe fn load_partial(from: *const f32, n: usize) -> Self::V;
    /// Writes the first `n < LANES` values.
    unsafe fn store_partial(to: *mut f32, v: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the hardware can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `x` rounded to whole numbers `n` (as f32), and `2^n`; `|x| < 127`.
    unsafe fn round_pow2(x: Self::V) -> (Self::V, Self::V);
    unsafe fn sum(v: Self::V) -> f32;
    unsafe fn max_lane(v: Self::V) -> f32;
}

/// Adding and taking away this rounds an f32 of magnitude below 2^22 to a whole number, which then
/// stands in the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;

/// Plain Rust on four lanes: correct everywhere, fast nowhere. Unfused, because without hardware
/// support a fused multiply-add is a library call.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller's pointer is good for four values; an array of f32 read unaligned.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, n: usize) -> Self::V {
        // SAFETY: only indices below `n` are read.
        std::array::from_fn(|i| if i < n { unsafe { *from.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_partial(to: *mut f32, v: Self::V, n: usize) {
        for (i, x) in v.iter().take(n).enumerate() {
            // SAFETY: only indices below `n` are written.
            unsafe { *to.add(i) = *x }
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn round_pow2(x: Self::V) -> (Self::V, Self::V) {
        let shifted = x.map(|x| x + ROUNDER);
        let power = shifted.map(|s| f32::from_bits((s.to_bits() << 23).wrapping_add(0x3f80_0000)));
        (shifted.map(|s| s - ROUNDER), power)
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
    #[inline(always)]
    unsafe fn max_lane(v: Self::V) -> f32 {
        v[0].max(v[2]).max(v[1].max(v[3]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{ROUNDER, Simd};

    /// AVX-512F: 16 lanes, 32 registers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512;

    /// The low `n` lanes.
    #[inline(always)]
    fn mask16(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }

    // SAFETY (all methods): the trait's contract, handed on to the intrinsics of AVX-512F.
    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, n: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(mask16(n), from) }
        }
        #[inline(always)]
        unsafe fn store_partial(to: *mut f32, v: __m512, n: usize) {
            unsafe { _mm512_mask_storeu_ps(to, mask16(n), v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn round_pow2(x: __m512) -> (__m512, __m512) {
            unsafe {
                let shifted = _mm512_add_ps(x, _mm512_set1_ps(ROUNDER));
                let bits = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
                let power = _mm512_add_epi32(bits, _mm512_set1_epi32(0x3f80_0000));
                (_mm512_sub_ps(shifted, _mm512_set1_ps(ROUNDER)), _mm512_castsi512_ps(power))
            }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(v) }
        }
        #[inline(always)]
        unsafe fn max_lane(v: __m512) -> f32 {
            unsafe { _mm512_reduce_max_ps(v) }
        }
    }

    /// AVX2 with FMA: 8 lanes, 16 registers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2;

    /// Eight set lanes, then eight clear ones: a window into it is the mask of the low `n` lanes.
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    #[inline(always)]
    unsafe fn mask8(n: usize) -> __m256i {
        // SAFETY: `n <= 8`, so that eight values stand from `8 - n` on.
        unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()) }
    }

    // SAFETY (all methods): the trait's contract, handed on to the intrinsics of AVX2 and FMA.
    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, n: usize) -> __m256 {
            unsafe { _mm256_maskload_ps(from, mask8(n)) }
        }
        #[inline(always)]
        unsafe fn store_partial(to: *mut f32, v: __m256, n: usize) {
            unsafe { _mm256_maskstore_ps(to, mask8(n), v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn round_pow2(x: __m256) -> (__m256, __m256) {
            unsafe {
                let shifted = _mm256_add_ps(x, _mm256_set1_ps(ROUNDER));
                let bits = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
                let power = _mm256_add_epi32(bits, _mm256_set1_epi32(0x3f80_0000));
                (_mm256_sub_ps(shifted, _mm256_set1_ps(ROUNDER)), _mm256_castsi256_ps(power))
            }
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
        #[inline(always)]
        unsafe fn max_lane(v: __m256) -> f32 {
            unsafe {
                let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::{ROUNDER, Simd};

    /// NEON: 4 lanes, 32 registers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Neon;

    // SAFETY (all methods): the trait's contract, handed on to the intrinsics of NEON.
    impl Simd for Neon {
        type V = float32x4_t;
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn splat(x: f32) -> float32x4_t {
            unsafe { vdupq_n_f32(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> float32x4_t {
            unsafe { vld1q_f32(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: float32x4_t) {
            unsafe { vst1q_f32(to, v) }
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, n: usize) -> float32x4_t {
            let values: [f32; 4] = std::array::from_fn(|i| if i < n { unsafe { *from.add(i) } } else { 0.0 });
            unsafe { vld1q_f32(values.as_ptr()) }
        }
        #[inline(always)]
        unsafe fn store_partial(to: *mut f32, v: float32x4_t, n: usize) {
            let mut values = [0.0f32; 4];
            unsafe { vst1q_f32(values.as_mut_ptr(), v) };
            for (i, x) in values.iter().take(n).enumerate() {
                unsafe { *to.add(i) = *x }
            }
        }
        #[inline(always)]
        unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vaddq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vsubq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmulq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vdivq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmaxq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vminq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            unsafe { vfmaq_f32(c, a, b) }
        }
        #[inline(always)]
        unsafe fn round_pow2(x: float32x4_t) -> (float32x4_t, float32x4_t) {
            unsafe {
                let shifted = vaddq_f32(x, vdupq_n_f32(ROUNDER));
                let bits = vshlq_n_s32::<23>(vreinterpretq_s32_f32(shifted));
                let power = vaddq_s32(bits, vdupq_n_s32(0x3f80_0000));
                (vsubq_f32(shifted, vdupq_n_f32(ROUNDER)), vreinterpretq_f32_s32(power))
            }
        }
        #[inline(always)]
        unsafe fn sum(v: float32x4_t) -> f32 {
            unsafe { vaddvq_f32(v) }
        }
        #[inline(always)]
        unsafe fn max_lane(v: float32x4_t) -> f32 {
            unsafe { vmaxvq_f32(v) }
        }
    }
}
