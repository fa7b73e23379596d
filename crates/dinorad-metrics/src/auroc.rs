//! Area under the ROC curve.

use ndarray::{ArrayView1, ArrayView2};

use crate::{
    Convention, Label, PerClass, RankedScores, Result, Score, input,
    ranked::{each_class, each_label},
};

/// Area under the ROC curve: the chance that a positive scores above a negative, ties counted half.
///
/// Only the order of the scores matters; they may be logits. `scores` and `targets` are `(n,)`, a
/// target is 0 or 1. Takes `O(n log n)` time.
///
/// # Errors
/// [`Error::OneClass`](crate::Error::OneClass) without positives or negatives;
/// [`Error::Shape`](crate::Error::Shape), [`Error::Empty`](crate::Error::Empty),
/// [`Error::NaN`](crate::Error::NaN), [`Error::Label`](crate::Error::Label) for input that does not fit.
///
/// # Examples
/// ```
/// use ndarray::arr1;
/// let auroc = dinorad_metrics::auroc(arr1(&[0.1f32, 0.4, 0.35, 0.8]).view(), arr1(&[0u8, 0, 1, 1]).view())?;
/// assert_eq!(auroc, 0.75);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Hanley and McNeil 1982, <https://doi.org/10.1148/radiology.143.1.7063747>.
pub fn auroc<S: Score, L: Label>(scores: ArrayView1<'_, S>, targets: ArrayView1<'_, L>) -> Result<f64> {
    let ranked = RankedScores::new(scores, targets)?;
    ranked.auroc().ok_or_else(|| ranked.one_class())
}

/// AUROC of each class against the rest. `scores` is `(n, classes)`, `targets` `(n,)` class indices.
///
/// Scores are taken as they are if all lie in 0..1 and go through softmax otherwise, as in
/// torchmetrics. For the weighted mean see [`PerClass::weighted_mean`].
///
/// # Errors
/// As [`auroc`], but a class without positives or negatives is listed in [`PerClass::absent`].
pub fn multiclass_auroc<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView1<'_, L>,
    convention: Convention,
) -> Result<PerClass> {
    Ok(under(each_class(scores, targets, RankedScores::auroc)?, convention))
}

/// AUROC of each label by itself. `scores` and `targets` are `(n, labels)`.
///
/// # Errors
/// As [`auroc`], but a label without positives or negatives is listed in [`PerClass::absent`].
pub fn multilabel_auroc<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView2<'_, L>,
    convention: Convention,
) -> Result<PerClass> {
    Ok(under(each_label(scores, targets, RankedScores::auroc)?, convention))
}

/// AUROC of all labels pooled (micro average): every entry of `(n, labels)` is one case.
///
/// # Errors
/// As [`auroc`].
pub fn multilabel_auroc_micro<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView2<'_, L>,
) -> Result<f64> {
    let (scores, targets) = input::multilabel(scores, targets)?;
    let ranked = RankedScores::from_parts(
        &scores.iter().copied().collect::<Vec<_>>(),
        &targets.iter().copied().collect::<Vec<_>>(),
    )?;
    ranked.auroc().ok_or_else(|| ranked.one_class())
}

/// AUROC of all classes pooled (micro average): every entry of `(n, classes)` is one case, positive
/// where the class is the target. Scores as in [`multiclass_auroc`].
///
/// # Errors
/// As [`auroc`].
///
/// # Source
/// scikit-learn's `roc_auc_score(average="micro")`.
pub fn multiclass_auroc_micro<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView1<'_, L>,
) -> Result<f64> {
    let (scores, targets) = input::multiclass(scores, targets)?;
    let scores = input::softmax_unless_unit(scores);
    let positive: Vec<bool> = scores.indexed_iter().map(|((i, c), _)| targets[i] == c).collect();
    let ranked = RankedScores::from_parts(&scores.iter().copied().collect::<Vec<_>>(), &positive)?;
    ranked.auroc().ok_or_else(|| ranked.one_class())
}

fn under(values: Vec<Option<f64>>, convention: Convention) -> PerClass {
    match convention {
        Convention::TorchMetrics => PerClass::new(values.into_iter().map(|v| (v, true)).collect(), 0.0, convention),
        Convention::Strict | Convention::Paper | Convention::Monai => PerClass::left_out(values, convention),
    }
}
