//! What scores and labels may be, and the checks that every metric starts with.

use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::{Error, Result};

/// A score: f32 or f64. Ties are judged in the type given.
pub trait Score: Copy + Into<f64> + Send + Sync {}
impl Score for f32 {}
impl Score for f64 {}

/// A class index or a 0/1 label.
pub trait Label: Copy + Send + Sync + std::fmt::Display {
    /// The index, or `None` if it is negative.
    fn index(self) -> Option<usize>;
}

macro_rules! labels {
    ($($t:ty),+) => { $(impl Label for $t {
        fn index(self) -> Option<usize> {
            usize::try_from(self).ok()
        }
    })+ };
}
labels!(u8, u16, u32, u64, usize, i8, i16, i32, i64, bool);

pub(crate) fn index_below<L: Label>(case: usize, label: L, classes: usize) -> Result<usize> {
    label.index().filter(|i| *i < classes).ok_or_else(|| Error::Label { case, got: label.to_string(), classes })
}

/// Scores of one column with their 0/1 targets.
pub(crate) fn binary<S: Score, L: Label>(
    scores: ArrayView1<'_, S>,
    targets: ArrayView1<'_, L>,
) -> Result<(Vec<f64>, Vec<bool>)> {
    if scores.len() != targets.len() {
        return Err(Error::Shape { what: "targets", expected: vec![scores.len()], got: vec![targets.len()] });
    }
    if scores.is_empty() {
        return Err(Error::Empty { what: "scores" });
    }
    let values: Vec<f64> = scores.iter().map(|s| (*s).into()).collect();
    if let Some(case) = values.iter().position(|v| v.is_nan()) {
        return Err(Error::NaN { case, column: 0 });
    }
    let positive = targets.iter().enumerate().map(|(i, t)| Ok(index_below(i, *t, 2)? == 1)).collect::<Result<_>>()?;
    Ok((values, positive))
}

/// Scores `(n, columns)` without NaN.
pub(crate) fn matrix<S: Score>(scores: ArrayView2<'_, S>) -> Result<Array2<f64>> {
    if scores.is_empty() {
        return Err(Error::Empty { what: "scores" });
    }
    let values = scores.mapv(Into::into);
    match values.indexed_iter().find(|(_, v)| v.is_nan()) {
        Some(((case, column), _)) => Err(Error::NaN { case, column }),
        None => Ok(values),
    }
}

/// Class scores `(n, classes)` and class indices `(n,)`.
pub(crate) fn multiclass<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView1<'_, L>,
) -> Result<(Array2<f64>, Vec<usize>)> {
    let (n, classes) = scores.dim();
    if targets.len() != n {
        return Err(Error::Shape { what: "targets", expected: vec![n], got: vec![targets.len()] });
    }
    let values = matrix(scores)?;
    let targets = targets.iter().enumerate().map(|(i, t)| index_below(i, *t, classes)).collect::<Result<_>>()?;
    Ok((values, targets))
}

/// Label scores and 0/1 targets, both `(n, labels)`.
pub(crate) fn multilabel<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView2<'_, L>,
) -> Result<(Array2<f64>, Array2<bool>)> {
    if targets.dim() != scores.dim() {
        let (expected, got) = (scores.shape().to_vec(), targets.shape().to_vec());
        return Err(Error::Shape { what: "targets", expected, got });
    }
    let values = matrix(scores)?;
    let mut positive = Array2::from_elem(values.dim(), false);
    for (((case, _), t), p) in targets.indexed_iter().zip(positive.iter_mut()) {
        *p = index_below(case, *t, 2)? == 1;
    }
    Ok((values, positive))
}

/// Class scores as torchmetrics takes them: as they are if all lie in 0..1, else through softmax.
///
/// The reference passes one sigmoid per class, which stay as they are.
pub(crate) fn softmax_unless_unit(mut scores: Array2<f64>) -> Array2<f64> {
    if scores.iter().all(|v| (0.0..=1.0).contains(v)) {
        return scores;
    }
    for mut row in scores.rows_mut() {
        let largest = row.fold(f64::NEG_INFINITY, |a, v| a.max(*v));
        // an infinite logit takes everything; equal infinities share it
        row.mapv_inplace(|v| if v == largest { 1.0 } else { (v - largest).exp() });
        let sum = row.sum();
        row.mapv_inplace(|v| v / sum);
    }
    scores
}

/// Index of the largest value; a tie goes to the lowest index.
pub(crate) fn argmax(row: ArrayView1<'_, f64>) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] {
            best = i;
        }
    }
    best
}
