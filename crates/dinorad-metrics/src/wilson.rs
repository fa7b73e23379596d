//! Wilson's interval for a share, which has a width also where all or none are right.

use crate::{Result, delong::two_sided_quantile, error::parameter};

/// Ends of the interval of coverage `level` of a share that was seen on `n` independent cases.
///
/// The limits are the shares from which the one seen is just as far as chance allows, with the
/// variance at the limit itself. Never of width 0, also at 0 and 1, and never outside 0..1.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) for a share outside 0..1, no cases, or a level
/// outside 0..1.
///
/// # Examples
/// ```
/// // twenty cases, all right: that may be luck
/// let (low, high) = dinorad_metrics::wilson_interval(1.0, 20, 0.95)?;
/// assert!((low - 0.8389).abs() < 1e-4 && high == 1.0);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Wilson 1927, *Probable inference, the law of succession, and statistical inference*,
/// <https://doi.org/10.1080/01621459.1927.10502953>.
pub fn wilson_interval(share: f64, n: usize, level: f64) -> Result<(f64, f64)> {
    if !(0.0..=1.0).contains(&share) {
        return Err(parameter("share", share, "0 to 1"));
    }
    if n == 0 {
        return Err(parameter("cases", 0, "1 or more"));
    }
    let (z, n) = (two_sided_quantile(level)?, n as f64);
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    // at the edge the limit is the share itself, whatever the rounding
    let low = if share == 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if share == 1.0 { 1.0 } else { (centre + half).min(1.0) };
    Ok((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newcombe 1998, *Two-sided confidence intervals for the single proportion*, table I, method 3.
    #[test]
    fn published_limits() {
        for (right, n, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let (a, b) = wilson_interval(f64::from(right) / n as f64, n, 0.95).unwrap();
            assert!((a - low).abs() < 5e-5 && (b - high).abs() < 5e-5, "{right} of {n}: {a} to {b}");
            let (c, d) = wilson_interval(f64::from(n as i32 - right) / n as f64, n, 0.95).unwrap();
            assert!((c - (1.0 - b)).abs() < 1e-12 && (d - (1.0 - a)).abs() < 1e-12, "{right} of {n} turned");
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for (share, n, level) in [(-0.1, 5, 0.95), (1.1, 5, 0.95), (f64::NAN, 5, 0.95), (0.5, 0, 0.95), (0.5, 5, 1.0)] {
            assert!(wilson_interval(share, n, level).is_err(), "{share} {n} {level}");
        }
    }
}
