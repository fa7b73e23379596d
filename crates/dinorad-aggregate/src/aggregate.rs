//! The trait, its checks and its use over a padded batch.

use ndarray::{Array1, Array2, ArrayView2, ArrayView3, Axis, s};

use crate::{Error, Result};

/// A scan's embedding and how much each of its slices contributed to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// `(dim,)`.
    pub embedding: Array1<f32>,
    /// `(slices,)`, not negative, sum 1: what to show beside the slices.
    pub weights: Array1<f32>,
}

/// Pools the slice embeddings of one scan into a single embedding.
///
/// Padding never enters: the rows are the scan's real slices and nothing else.
pub trait Aggregate: Send + Sync {
    /// Maps `(slices, dim)` to an embedding `(dim,)` and the weight of every slice `(slices,)`.
    ///
    /// # Errors
    /// [`Error::NoSlices`] without a row, [`Error::Shape`] without a column, [`Error::NotFinite`] if a
    /// row has NaN or an infinity in it.
    fn aggregate_weighted(&self, slices: ArrayView2<'_, f32>) -> Result<Pooled>;

    /// The embedding alone.
    ///
    /// # Errors
    /// As [`Aggregate::aggregate_weighted`].
    fn aggregate(&self, slices: ArrayView2<'_, f32>) -> Result<Array1<f32>> {
        Ok(self.aggregate_weighted(slices)?.embedding)
    }
}

/// The scans of a padded batch, pooled one by one over their real slices.
///
/// # Shapes
/// - `batch`: `(scans, most slices, dim)`; the rows after a scan's count are never read;
/// - `counts`: the real number of slices of each scan;
/// - returns `(scans, dim)`.
///
/// # Errors
/// [`Error::Shape`] unless there is a count for every scan and none is larger than the batch,
/// and whatever the pooling refuses; [`Error::NoSlices`] names the scan.
///
/// # Examples
/// ```
/// use dinorad_aggregate::{MeanPool, aggregate_batch};
/// use ndarray::array;
///
/// let batch = array![[[1f32], [3.0]], [[5.0], [-100.0]]];
/// let scans = aggregate_batch(&MeanPool, batch.view(), &[2, 1])?;
/// assert_eq!(scans, array![[2.0], [5.0]]);
/// # Ok::<(), dinorad_aggregate::Error>(())
/// ```
pub fn aggregate_batch(pool: &dyn Aggregate, batch: ArrayView3<'_, f32>, counts: &[usize]) -> Result<Array2<f32>> {
    let shape = |expected: String| Error::Shape { what: "batch of scans", expected, got: batch.shape().to_vec() };
    let (scans, most, dim) = batch.dim();
    if scans != counts.len() || scans == 0 {
        return Err(shape(format!("({}, slices, dim), one scan per count, at least one", counts.len())));
    }
    let mut out = Array2::zeros((scans, dim));
    for (scan, &count) in counts.iter().enumerate() {
        if count == 0 {
            return Err(Error::NoSlices { scan });
        }
        if count > most {
            return Err(shape(format!("at least {count} slices for scan {scan}")));
        }
        let pooled = pool.aggregate(batch.slice(s![scan, ..count, ..]))?;
        if pooled.len() != dim {
            return Err(Error::Shape { what: "pooled scan", expected: format!("({dim},)"), got: vec![pooled.len()] });
        }
        out.index_axis_mut(Axis(0), scan).assign(&pooled);
    }
    Ok(out)
}

/// `(slices, dim)` of a usable scan.
pub(crate) fn check_slices(slices: ArrayView2<'_, f32>) -> Result<(usize, usize)> {
    let (n, dim) = slices.dim();
    if n == 0 {
        return Err(Error::NoSlices { scan: 0 });
    }
    if dim == 0 {
        let (expected, got) = ("(slices, dim > 0)".to_owned(), slices.shape().to_vec());
        return Err(Error::Shape { what: "slice embeddings", expected, got });
    }
    match slices.outer_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
        Some(slice) => Err(Error::NotFinite { slice }),
        None => Ok((n, dim)),
    }
}
