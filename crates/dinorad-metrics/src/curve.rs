//! ROC and precision–recall curves, and operating points on them.

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use crate::{Label, RankedScores, Result, Score, error::parameter};

/// A ROC curve: one point per distinct score, from the strictest threshold to the laxest, after
/// the origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RocCurve {
    /// 1 - specificity.
    pub false_positive_rate: Vec<f64>,
    /// Sensitivity.
    pub true_positive_rate: Vec<f64>,
    /// A case counts as positive with at least this score. The first is infinite.
    pub thresholds: Vec<f64>,
}

/// A precision–recall curve in ascending order of thresholds, ended by precision 1 at recall 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrecisionRecallCurve {
    /// True among called positives; one longer than `thresholds`.
    pub precision: Vec<f64>,
    /// Called among true positives; one longer than `thresholds`.
    pub recall: Vec<f64>,
    /// A case counts as positive with at least this score.
    pub thresholds: Vec<f64>,
}

/// The ROC curve with every distinct score as a threshold.
///
/// # Errors
/// [`Error::OneClass`](crate::Error::OneClass) without positives or negatives, and the input errors
/// of [`auroc`](crate::auroc).
///
/// # Examples
/// ```
/// use ndarray::arr1;
/// let roc = dinorad_metrics::roc_curve(arr1(&[0.1, 0.4, 0.35, 0.8]).view(), arr1(&[0u8, 0, 1, 1]).view())?;
/// assert_eq!(roc.true_positive_rate, [0.0, 0.5, 0.5, 1.0, 1.0]);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
pub fn roc_curve<S: Score, L: Label>(scores: ArrayView1<'_, S>, targets: ArrayView1<'_, L>) -> Result<RocCurve> {
    let ranked = RankedScores::new(scores, targets)?;
    let (p, n) = (ranked.positives(), ranked.negatives());
    if p == 0 || n == 0 {
        return Err(ranked.one_class());
    }
    let mut curve =
        RocCurve { false_positive_rate: vec![0.0], true_positive_rate: vec![0.0], thresholds: vec![f64::INFINITY] };
    for a in ranked.accepted(|_| 1) {
        curve.false_positive_rate.push(a.negatives as f64 / n as f64);
        curve.true_positive_rate.push(a.positives as f64 / p as f64);
        curve.thresholds.push(a.score);
    }
    Ok(curve)
}

/// The precision–recall curve with every distinct score as a threshold.
///
/// # Errors
/// [`Error::OneClass`](crate::Error::OneClass) without positives, and the input errors of
/// [`auroc`](crate::auroc).
pub fn precision_recall_curve<S: Score, L: Label>(
    scores: ArrayView1<'_, S>,
    targets: ArrayView1<'_, L>,
) -> Result<PrecisionRecallCurve> {
    let ranked = RankedScores::new(scores, targets)?;
    if ranked.positives() == 0 {
        return Err(ranked.one_class());
    }
    let mut curve = PrecisionRecallCurve { precision: vec![], recall: vec![], thresholds: vec![] };
    for a in ranked.accepted(|_| 1).iter().rev() {
        curve.precision.push(a.positives as f64 / (a.positives + a.negatives) as f64);
        curve.recall.push(a.positives as f64 / ranked.positives() as f64);
        curve.thresholds.push(a.score);
    }
    curve.precision.push(1.0);
    curve.recall.push(0.0);
    Ok(curve)
}

/// A threshold with what it gives. A case counts as positive if its score lies **above** it, as
/// everywhere in this crate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// Scores above are positive; minus infinity where all are.
    pub threshold: f64,
    /// Called among true positives.
    pub sensitivity: f64,
    /// Left alone among true negatives.
    pub specificity: f64,
}

/// The most specific threshold whose sensitivity is at least `sensitivity`.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) outside 0..1, and those of [`roc_curve`].
pub fn at_sensitivity<S: Score, L: Label>(
    scores: ArrayView1<'_, S>,
    targets: ArrayView1<'_, L>,
    sensitivity: f64,
) -> Result<OperatingPoint> {
    check_rate("sensitivity", sensitivity)?;
    let points = operating_points(scores, targets)?;
    // sensitivity rises and specificity falls along the points
    let found = points.iter().find(|p| p.sensitivity >= sensitivity).or(points.last());
    found.copied().ok_or_else(|| parameter("sensitivity", sensitivity, "0 to 1"))
}

/// The most sensitive threshold whose specificity is at least `specificity`.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) outside 0..1, and those of [`roc_curve`].
///
/// # Examples
/// ```
/// use ndarray::arr1;
/// let point =
///     dinorad_metrics::at_specificity(arr1(&[0.1, 0.4, 0.35, 0.8]).view(), arr1(&[0u8, 0, 1, 1]).view(), 0.9)?;
/// assert_eq!((point.sensitivity, point.specificity, point.threshold), (0.5, 1.0, 0.4));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
pub fn at_specificity<S: Score, L: Label>(
    scores: ArrayView1<'_, S>,
    targets: ArrayView1<'_, L>,
    specificity: f64,
) -> Result<OperatingPoint> {
    check_rate("specificity", specificity)?;
    let points = operating_points(scores, targets)?;
    let found = points.iter().rev().find(|p| p.specificity >= specificity).or(points.first());
    found.copied().ok_or_else(|| parameter("specificity", specificity, "0 to 1"))
}

/// The threshold with the largest sum of sensitivity and specificity (Youden's J); the strictest of
/// equals.
///
/// # Errors
/// Those of [`roc_curve`].
pub fn at_youden<S: Score, L: Label>(scores: ArrayView1<'_, S>, targets: ArrayView1<'_, L>) -> Result<OperatingPoint> {
    let points = operating_points(scores, targets)?;
    let sum = |p: &OperatingPoint| p.sensitivity + p.specificity;
    let mut best = points[0];
    for p in &points {
        if sum(p) > sum(&best) {
            best = *p;
        }
    }
    Ok(best)
}

fn check_rate(name: &'static str, rate: f64) -> Result<()> {
    if (0.0..=1.0).contains(&rate) { Ok(()) } else { Err(parameter(name, rate, "0 to 1")) }
}

/// Every point of the ROC curve with the threshold that a score must exceed: the next lower score.
fn operating_points<S: Score, L: Label>(
    scores: ArrayView1<'_, S>,
    targets: ArrayView1<'_, L>,
) -> Result<Vec<OperatingPoint>> {
    let roc = roc_curve(scores, targets)?;
    let n = roc.thresholds.len();
    let point = |i: usize| OperatingPoint {
        threshold: roc.thresholds.get(i + 1).copied().unwrap_or(f64::NEG_INFINITY),
        sensitivity: roc.true_positive_rate[i],
        specificity: 1.0 - roc.false_positive_rate[i],
    };
    Ok((0..n).map(point).collect())
}
