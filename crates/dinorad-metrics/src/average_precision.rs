//! Average precision.

use ndarray::{ArrayView1, ArrayView2};

use crate::{
    Convention, Label, PerClass, RankedScores, Result, Score,
    ranked::{each_class, each_label},
};

/// Average precision: the sum over thresholds of the gain in recall times the precision there,
/// without interpolation.
///
/// # Errors
/// [`Error::OneClass`](crate::Error::OneClass) without positives;
/// [`Error::Shape`](crate::Error::Shape), [`Error::Empty`](crate::Error::Empty),
/// [`Error::NaN`](crate::Error::NaN), [`Error::Label`](crate::Error::Label) for input that does not fit.
///
/// # Examples
/// ```
/// use ndarray::arr1;
/// let ap =
///     dinorad_metrics::average_precision(arr1(&[0.1, 0.4, 0.35, 0.8]).view(), arr1(&[0u8, 0, 1, 1]).view())?;
/// assert!((ap - 5.0 / 6.0).abs() < 1e-12);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Zhu 2004, *Recall, precision and average precision*; equal to scikit-learn's
/// `average_precision_score`.
pub fn average_precision<S: Score, L: Label>(scores: ArrayView1<'_, S>, targets: ArrayView1<'_, L>) -> Result<f64> {
    let ranked = RankedScores::new(scores, targets)?;
    ranked.average_precision().ok_or_else(|| ranked.one_class())
}

/// Average precision of each class against the rest; scores as in
/// [`multiclass_auroc`](crate::multiclass_auroc).
///
/// # Errors
/// As [`average_precision`], but a class without positives is listed in [`PerClass::absent`].
pub fn multiclass_average_precision<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView1<'_, L>,
    convention: Convention,
) -> Result<PerClass> {
    Ok(PerClass::left_out(each_class(scores, targets, RankedScores::average_precision)?, convention))
}

/// Average precision of each label by itself. `scores` and `targets` are `(n, labels)`.
///
/// # Errors
/// As [`average_precision`], but a label without positives is listed in [`PerClass::absent`].
pub fn multilabel_average_precision<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView2<'_, L>,
    convention: Convention,
) -> Result<PerClass> {
    Ok(PerClass::left_out(each_label(scores, targets, RankedScores::average_precision)?, convention))
}
