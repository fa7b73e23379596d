//! Newcombe's interval for AUROC, which has a width also where every pair is in order.

use crate::{Result, delong::two_sided_quantile, error::parameter};

/// Ends of the interval of coverage `level` of an AUROC that was seen on so many positives and
/// negatives, all independent.
///
/// Newcombe's method 5: the limits are the AUROCs from which the one seen is just as far as chance
/// allows, with Hanley and McNeil's variance for exponential scores at the limit itself and half the
/// cases in place of either number. Never of width 0, also at 0 and 1, and never outside 0..1.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) for an AUROC outside 0..1, no positives or
/// negatives, or a level outside 0..1.
///
/// # Examples
/// ```
/// // ten positives, all above ten negatives: that may be luck
/// let (low, high) = dinorad_metrics::newcombe_interval(1.0, 10, 10, 0.95)?;
/// assert!((low - 0.8002).abs() < 1e-4 && high == 1.0);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Newcombe 2006, *Confidence intervals for an effect size measure based on the Mann-Whitney
/// statistic, part 2*, <https://doi.org/10.1002/sim.2324>.
pub fn newcombe_interval(auroc: f64, positives: usize, negatives: usize, level: f64) -> Result<(f64, f64)> {
    if !(0.0..=1.0).contains(&auroc) {
        return Err(parameter("auroc", auroc, "0 to 1"));
    }
    if positives == 0 || negatives == 0 {
        return Err(parameter("cases of a class", 0, "1 or more"));
    }
    let z = two_sided_quantile(level)?;
    let (m, n) = (positives as f64, negatives as f64);
    Ok((lower(auroc, m, n, z), 1.0 - lower(1.0 - auroc, m, n, z)))
}

/// The lower limit; the upper one is that of the reversed ranking.
fn lower(auroc: f64, m: f64, n: f64, z: f64) -> f64 {
    let half = (m + n) / 2.0 - 1.0;
    let variance = |a: f64| a * (1.0 - a) * (1.0 + half * ((1.0 - a) / (2.0 - a) + a / (1.0 + a))) / (m * n);
    let too_far = |a: f64| (auroc - a).powi(2) > z * z * variance(a);
    let (mut low, mut high) = (0.0, auroc);
    // the interval halves until its ends are neighbours
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if too_far(middle) { low = middle } else { high = middle }
    }
    high
}
