//! A score over the folds of cross-validation.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Mean, deviation and interval of a score over folds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoldScore {
    /// Mean over folds.
    pub mean: f64,
    /// Sample standard deviation over folds (divisor n - 1).
    pub stdev: f64,
    /// Confidence interval of the mean.
    pub interval: (f64, f64),
}

/// Mean, deviation and interval of the scores of folds.
///
/// Folds share most of their training cases, so their scores are not independent: the variance of the mean is
/// `stdev² · (1 / n + test_to_train)`, with `test_to_train` the number of test cases of a fold over that of its
/// training cases, and the interval is Student's with n - 1 degrees of freedom. Repeats of the folds count as folds.
/// `None` for fewer than two scores, one that is not finite, or a `level` outside 0..1.
///
/// ```
/// let score = dinorad_metrics::fold_score(&[0.80, 0.82, 0.78, 0.85, 0.81], 1.0 / 3.0, 0.95).unwrap();
/// assert!((score.mean - 0.812).abs() < 1e-12);
/// assert!((score.interval.0 - 0.759516).abs() < 1e-6 && (score.interval.1 - 0.864484).abs() < 1e-6);
/// ```
///
/// # Source
/// Nadeau and Bengio, *Inference for the generalization error*, Machine Learning 52 (2003), 239–281: the corrected
/// resampled t-test.
pub fn fold_score(scores: &[f64], test_to_train: f64, level: f64) -> Option<FoldScore> {
    let n = scores.len() as f64;
    let usable = scores.len() > 1 && scores.iter().all(|s| s.is_finite()) && test_to_train >= 0.0;
    if !(usable && level > 0.0 && level < 1.0) {
        return None;
    }
    let mean = scores.iter().sum::<f64>() / n;
    let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let quantile = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.5 + level / 2.0);
    let half = quantile * (variance * (1.0 / n + test_to_train)).sqrt();
    Some(FoldScore { mean, stdev: variance.sqrt(), interval: (mean - half, mean + half) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By numpy and scipy: `t.ppf(.5 + level / 2, n - 1) * sqrt((1 / n + r) * v.var(ddof=1))`.
    #[test]
    fn against_scipy() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let five = fold_score(&[0.8, 0.82, 0.78, 0.85, 0.81], 1.0 / 3.0, 0.95).unwrap();
        assert!(near(five.mean, 0.812) && near(five.stdev, 0.02588435821108954), "{five:?}");
        assert!(near(five.interval.0, 0.7595161293456949) && near(five.interval.1, 0.8644838706543052), "{five:?}");
        let two = fold_score(&[0.5, 0.7], 0.5, 0.95).unwrap();
        assert!(near(two.interval.0, -1.1969287064187504) && near(two.interval.1, 2.39692870641875), "{two:?}");
    }

    #[test]
    fn what_has_no_interval() {
        assert_eq!(fold_score(&[0.5], 0.5, 0.95), None);
        assert_eq!(fold_score(&[0.5, f64::NAN], 0.5, 0.95), None);
        assert_eq!(fold_score(&[0.5, 0.6], 0.5, 1.0), None);
        assert_eq!(fold_score(&[0.5, 0.6], -0.1, 0.95), None);
        let same = fold_score(&[0.5, 0.5], 0.5, 0.95).unwrap();
        assert_eq!((same.stdev, same.interval), (0.0, (0.5, 0.5)));
    }
}
