//! Exponentials that compilers turn into vector code.

/// `e^x` to about two units in the last place; 0 below -87, infinity above 88.
///
/// A polynomial on ±ln 2 / 2 and the exponent put together from bits: no table, no branch.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + MAGIC;
    let whole = shifted - MAGIC;
    let r = (clamped - whole * LN2_HIGH) - whole * LN2_LOW;
    // Cephes' coefficients
    let mut p = 1.987_569_1e-4f32;
    for c in [1.398_2e-3f32, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let fraction = p * r * r + r + 1.0;
    let bits = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23;
    let value = fraction * f32::from_bits(bits);
    // NaN passes the clamp and so comes out again
    if x < -87.0 {
        0.0
    } else if x > 88.0 {
        f32::INFINITY
    } else {
        value
    }
}

/// `ln(1 + x)` for `0 <= x <= 1`, to about two units in the last place.
///
/// The series of `2·atanh(x / (2 + x))`, whose argument is at most 1/3.
#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let square = s * s;
    let mut p = 1.0 / 15.0;
    for odd in [13.0f32, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = p * square + 1.0 / odd;
    }
    2.0 * s * p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_library_everywhere() {
        for i in -87_000..=88_000 {
            let x = i as f32 / 1000.0;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) - want).abs() <= 3e-7 * want, "{x}: {} {want}", exp(x));
        }
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(200.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan() && ln_1p(f32::NAN).is_nan());
        for i in 0..=100_000 {
            let x = i as f32 / 100_000.0;
            let want = f64::from(x).ln_1p();
            assert!((f64::from(ln_1p(x)) - want).abs() <= 3e-7 * want, "{x}: {} {want}", ln_1p(x));
        }
    }
}
