//! DeLong's variance of AUROC, and the comparison of two models on the same cases.

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};
use statrs::{
    distribution::{ContinuousCDF, Normal},
    function::erf::erfc,
};

use crate::{Error, Label, Result, Score, error::parameter, input};

/// AUROC with DeLong's variance and a normal interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeLong {
    /// Area under the ROC curve.
    pub auroc: f64,
    /// Its variance.
    pub variance: f64,
    /// Lower end of the interval, not below 0.
    pub low: f64,
    /// Upper end of the interval, not above 1.
    pub high: f64,
    /// Coverage meant.
    pub level: f64,
}

/// Two models on the same cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeLongTest {
    /// AUROC of the first model.
    pub auroc_a: f64,
    /// AUROC of the second model.
    pub auroc_b: f64,
    /// First minus second.
    pub difference: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
    /// Difference in standard errors; 0 for equal AUROCs, `None` for a difference without a standard
    /// error.
    pub z: Option<f64>,
    /// Two-sided probability of a difference at least as large if the models were equal; `None`
    /// where the difference has no standard error, as that of a perfect ranking and a constant score.
    pub p_value: Option<f64>,
    /// Lower end of the difference's interval.
    pub low: f64,
    /// Upper end of the difference's interval.
    pub high: f64,
    /// Coverage meant.
    pub level: f64,
}

/// AUROC of one model with DeLong's variance and a normal interval of coverage `level`.
///
/// Takes `O(n log n)` time. Cases must be independent; where patients have several images, use
/// [`bootstrap_auroc`](crate::bootstrap_auroc) by patient.
///
/// # Errors
/// [`Error::OneClass`] with fewer than two positives or negatives, [`Error::Parameter`] for a level
/// outside 0..1, and the input errors of [`auroc`](crate::auroc).
///
/// # Examples
/// ```
/// use ndarray::arr1;
/// let scores = arr1(&[0.1, 0.4, 0.35, 0.8, 0.7, 0.2]);
/// let result = dinorad_metrics::delong(scores.view(), arr1(&[0u8, 0, 1, 1, 1, 0]).view(), 0.95)?;
/// assert!((result.auroc - 8.0 / 9.0).abs() < 1e-12);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// DeLong et al. 1988, <https://doi.org/10.2307/2531595>; computed by midranks as in Sun and Xu
/// 2014, <https://doi.org/10.1109/LSP.2014.2337313>.
pub fn delong<S: Score, L: Label>(scores: ArrayView1<'_, S>, targets: ArrayView1<'_, L>, level: f64) -> Result<DeLong> {
    let quantile = two_sided_quantile(level)?;
    let (scores, positive) = input::binary(scores, targets)?;
    check_counts(&positive)?;
    let parts = Components::new(&scores, &positive);
    let variance = parts.covariance(&parts);
    let half = quantile * variance.sqrt();
    let (low, high) = ((parts.auroc - half).max(0.0), (parts.auroc + half).min(1.0));
    Ok(DeLong { auroc: parts.auroc, variance, low, high, level })
}

/// DeLong's test of two models on the same cases, with a normal interval of coverage `level` for
/// the difference of their AUROCs.
///
/// # Errors
/// As [`delong`]; the two score vectors must have the same length.
///
/// # Examples
/// ```
/// use ndarray::arr1;
/// let targets = arr1(&[0u8, 0, 1, 1, 1, 0]);
/// let (a, b) = (arr1(&[0.1, 0.4, 0.35, 0.8, 0.7, 0.2]), arr1(&[0.5, 0.4, 0.35, 0.8, 0.7, 0.2]));
/// let test = dinorad_metrics::delong_paired(a.view(), b.view(), targets.view(), 0.95)?;
/// assert!(test.difference > 0.0 && test.p_value.is_some_and(|p| p > 0.05));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// See [`delong`].
pub fn delong_paired<A: Score, B: Score, L: Label>(
    scores_a: ArrayView1<'_, A>,
    scores_b: ArrayView1<'_, B>,
    targets: ArrayView1<'_, L>,
    level: f64,
) -> Result<DeLongTest> {
    let (a, positive) = input::binary(scores_a, targets)?;
    let (b, _) = input::binary(scores_b, targets)?;
    delong_of(&a, &b, &positive, level)
}

/// [`delong_paired`] of scores that were checked.
pub(crate) fn delong_of(a: &[f64], b: &[f64], positive: &[bool], level: f64) -> Result<DeLongTest> {
    let quantile = two_sided_quantile(level)?;
    check_counts(positive)?;
    let (a, b) = (Components::new(a, positive), Components::new(b, positive));
    let variance = (a.covariance(&a) + b.covariance(&b) - 2.0 * a.covariance(&b)).max(0.0);
    let (difference, standard_error) = (a.auroc - b.auroc, variance.sqrt());
    // equal models: rounding leaves nothing of either
    let z = if difference == 0.0 { Some(0.0) } else { (standard_error > 0.0).then(|| difference / standard_error) };
    Ok(DeLongTest {
        auroc_a: a.auroc,
        auroc_b: b.auroc,
        difference,
        standard_error,
        z,
        p_value: z.map(|z| erfc(z.abs() / std::f64::consts::SQRT_2)),
        low: difference - quantile * standard_error,
        high: difference + quantile * standard_error,
        level,
    })
}

fn two_sided_quantile(level: f64) -> Result<f64> {
    if !(level > 0.0 && level < 1.0) {
        return Err(parameter("level", level, "between 0 and 1"));
    }
    Ok(Normal::standard().inverse_cdf(0.5 + level / 2.0))
}

fn check_counts(positive: &[bool]) -> Result<()> {
    let positives = positive.iter().filter(|p| **p).count();
    let negatives = positive.len() - positives;
    if positives < 2 || negatives < 2 {
        return Err(Error::OneClass { positives, negatives, needed: 2 });
    }
    Ok(())
}

/// How well each positive stands above the negatives, and each negative below the positives.
struct Components {
    auroc: f64,
    of_positives: Vec<f64>,
    of_negatives: Vec<f64>,
}

impl Components {
    fn new(scores: &[f64], positive: &[bool]) -> Self {
        let select = |wanted: bool| -> Vec<f64> {
            scores.iter().zip(positive).filter(|(_, p)| **p == wanted).map(|(s, _)| *s).collect()
        };
        let (xs, ys) = (select(true), select(false));
        let all: Vec<f64> = xs.iter().chain(&ys).copied().collect();
        let (within_x, within_y, over_all) = (midranks(&xs), midranks(&ys), midranks(&all));
        let (m, n) = (xs.len(), ys.len());
        let of_positives: Vec<f64> = (0..m).map(|i| (over_all[i] - within_x[i]) / n as f64).collect();
        let of_negatives: Vec<f64> = (0..n).map(|j| 1.0 - (over_all[m + j] - within_y[j]) / m as f64).collect();
        Components { auroc: of_positives.iter().sum::<f64>() / m as f64, of_positives, of_negatives }
    }

    /// DeLong's covariance of two AUROCs on the same cases.
    fn covariance(&self, other: &Self) -> f64 {
        let of = |a: &[f64], b: &[f64]| {
            let sum: f64 = a.iter().zip(b).map(|(a, b)| (a - self.auroc) * (b - other.auroc)).sum();
            sum / (a.len() - 1) as f64 / a.len() as f64
        };
        of(&self.of_positives, &other.of_positives) + of(&self.of_negatives, &other.of_negatives)
    }
}

/// Rank of every value among all, from 1, ties sharing their mean rank.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = start as f64 + (group.len() as f64 + 1.0) / 2.0;
        group.iter().for_each(|i| ranks[*i] = rank);
        start += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(midranks(&[2.0, 1.0, 2.0, 3.0]), [2.5, 1.0, 2.5, 4.0]);
    }
}
