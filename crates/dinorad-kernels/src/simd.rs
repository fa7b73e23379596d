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
    /// `p * 2^n` for `p` in `[0.5, 2]`, where `shifted` is `n` + [`ROUNDER`] and the product is a
    /// normal number.
    unsafe fn times_pow2(p: Self::V, shifted: Self::V) -> Self::V;
    unsafe fn sum(v: Self::V) -> f32;
    unsafe fn max_lane(v: Self::V) -> f32;
    /// Asks for the cache line at `at`, which need not be valid, to be written to soon.
    #[inline(always)]
    fn prefetch(at: *const f32) {
        // NEON has none in stable Rust; the portable kernels are the reference, not fast.
        let _ = at;
    }
    /// Transposes a square of `LANES` by `LANES` values.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..Self::LANES {
            for j in 0..Self::LANES {
                // SAFETY: the caller's squares are that large.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) }
            }
        }
    }
}

/// Adding and taking away this rounds an f32 of magnitude below 2^22 to a whole number, which then
/// stands in the low bits of the sum.
pub(super) const ROUNDER: f32 = 12_582_912.0;

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
    unsafe fn times_pow2(p: Self::V, shifted: Self::V) -> Self::V {
        std::array::from_fn(|i| f32::from_bits(p[i].to_bits().wrapping_add(shifted[i].to_bits() << 23)))
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

    use super::Simd;

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
        fn prefetch(at: *const f32) {
            // SAFETY: a prefetch of any address is allowed; it never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
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
        unsafe fn times_pow2(p: __m512, shifted: __m512) -> __m512 {
            unsafe {
                let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
                _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent))
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
        #[inline(always)]
        unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                let mut r: [__m512; 16] = std::array::from_fn(|i| _mm512_loadu_ps(from.add(i * from_stride)));
                // 2x2, then 4x4 within each quarter of the registers
                for i in (0..16).step_by(4) {
                    let low = [_mm512_unpacklo_ps(r[i], r[i + 1]), _mm512_unpacklo_ps(r[i + 2], r[i + 3])];
                    let high = [_mm512_unpackhi_ps(r[i], r[i + 1]), _mm512_unpackhi_ps(r[i + 2], r[i + 3])];
                    r[i] = _mm512_shuffle_ps::<0x44>(low[0], low[1]);
                    r[i + 1] = _mm512_shuffle_ps::<0xee>(low[0], low[1]);
                    r[i + 2] = _mm512_shuffle_ps::<0x44>(high[0], high[1]);
                    r[i + 3] = _mm512_shuffle_ps::<0xee>(high[0], high[1]);
                }
                // then quarters among the registers: column `4 * q + j` is quarter `q` of `r[j + 4 * ..]`
                for j in 0..4 {
                    let (a, b, c, d) = (r[j], r[4 + j], r[8 + j], r[12 + j]);
                    let (ab_low, ab_high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
                    let (cd_low, cd_high) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
                    for (q, v) in [
                        _mm512_shuffle_f32x4::<0x88>(ab_low, cd_low),
                        _mm512_shuffle_f32x4::<0xdd>(ab_low, cd_low),
                        _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high),
                        _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high),
                    ]
                    .into_iter()
                    .enumerate()
                    {
                        _mm512_storeu_ps(to.add((4 * q + j) * to_stride), v);
                    }
                }
            }
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
        fn prefetch(at: *const f32) {
            // SAFETY: a prefetch of any address is allowed; it never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
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
        unsafe fn times_pow2(p: __m256, shifted: __m256) -> __m256 {
            unsafe {
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent))
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
        #[inline(always)]
        unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                let mut r: [__m256; 8] = std::array::from_fn(|i| _mm256_loadu_ps(from.add(i * from_stride)));
                for i in [0, 4] {
                    let low = [_mm256_unpacklo_ps(r[i], r[i + 1]), _mm256_unpacklo_ps(r[i + 2], r[i + 3])];
                    let high = [_mm256_unpackhi_ps(r[i], r[i + 1]), _mm256_unpackhi_ps(r[i + 2], r[i + 3])];
                    r[i] = _mm256_shuffle_ps::<0x44>(low[0], low[1]);
                    r[i + 1] = _mm256_shuffle_ps::<0xee>(low[0], low[1]);
                    r[i + 2] = _mm256_shuffle_ps::<0x44>(high[0], high[1]);
                    r[i + 3] = _mm256_shuffle_ps::<0xee>(high[0], high[1]);
                }
                for j in 0..4 {
                    let (a, b) = (r[j], r[4 + j]);
                    _mm256_storeu_ps(to.add(j * to_stride), _mm256_permute2f128_ps::<0x20>(a, b));
                    _mm256_storeu_ps(to.add((4 + j) * to_stride), _mm256_permute2f128_ps::<0x31>(a, b));
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Simd;

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
        unsafe fn times_pow2(p: float32x4_t, shifted: float32x4_t) -> float32x4_t {
            unsafe {
                let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(shifted));
                vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent))
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
