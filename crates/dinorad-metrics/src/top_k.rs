//! Top-k accuracy.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{
    BinaryCounts, Convention, CountMetric, Label, PerClass, Result, Score, confusion::per_class, error::parameter,
    input, torch_top_k::torch_top_k,
};

/// How often the target is among the `k` best classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// The `k` used: no more than there are classes.
    pub k: usize,
    /// Over all cases.
    pub micro: f64,
    /// By true class, with the mean over classes.
    pub per_class: PerClass,
}

/// Top-k accuracy of class scores `(n, classes)`. Among equal scores the lower index is better;
/// under [`Convention::TorchMetrics`] and `k > 1` the one that PyTorch's `topk` happens to take.
///
/// A `k` beyond the number of classes is lowered to it (and everything is right); torchmetrics
/// refuses it.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) for `k = 0`; [`Error::Shape`](crate::Error::Shape),
/// [`Error::Empty`](crate::Error::Empty), [`Error::NaN`](crate::Error::NaN),
/// [`Error::Label`](crate::Error::Label) for input that does not fit.
///
/// # Examples
/// ```
/// use dinorad_metrics::{Convention, top_k_accuracy};
/// use ndarray::{arr1, arr2};
/// let scores = arr2(&[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]);
/// let top = top_k_accuracy(scores.view(), arr1(&[1u8, 2]).view(), 1, Convention::Strict)?;
/// assert_eq!((top.micro, top.per_class.absent), (0.5, vec![0]));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
pub fn top_k_accuracy<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView1<'_, L>,
    k: usize,
    convention: Convention,
) -> Result<TopK> {
    if k == 0 {
        return Err(parameter("k", k, "1 or more"));
    }
    let (scores, targets) = input::multiclass(scores, targets)?;
    let classes = scores.ncols();
    let k = k.min(classes);
    let mut counts = vec![BinaryCounts::default(); classes];
    let mut right = 0usize;
    for (row, target) in scores.rows().into_iter().zip(&targets) {
        let order = if k > 1 && convention == Convention::TorchMetrics {
            torch_top_k(&row.to_vec(), k)
        } else {
            let mut order: Vec<usize> = (0..classes).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            order
        };
        for c in &order[..k] {
            if c == target { counts[*c].true_positives += 1 } else { counts[*c].false_positives += 1 }
        }
        if order[..k].contains(target) {
            right += 1;
        } else {
            counts[*target].false_negatives += 1;
        }
    }
    let values = counts.into_iter().map(|c| (CountMetric::Recall.of(&c), c)).collect();
    Ok(TopK { k, micro: right as f64 / targets.len() as f64, per_class: per_class(values, convention) })
}
