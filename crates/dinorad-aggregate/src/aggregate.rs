//! The trait, its checks and its use over a padded batch.

use candle::{DType, Tensor};

use crate::{Error, Result};

/// A scan's embedding and how much each of its slices contributed to it.
#[derive(Debug, Clone)]
pub struct Pooled {
    /// `(dim,)`.
    pub embedding: Tensor,
    /// `(slices,)`, not negative, sum 1: what to show beside the slices.
    pub weights: Tensor,
}

/// Pools the slice embeddings of one scan into a single embedding.
///
/// Padding never enters: the rows are the scan's real slices and nothing else.
pub trait Aggregate: Send + Sync {
    /// Maps `(slices, dim)` to an embedding `(dim,)` and the weight of every slice `(slices,)`,
    /// same dtype and device. Both carry gradients where the pooling has any.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `slices` is 2-D, [`Error::NoSlices`] if it has no row,
    /// [`Error::NotFinite`] if a row has NaN or an infinity in it.
    fn aggregate_weighted(&self, slices: &Tensor) -> Result<Pooled>;

    /// The embedding alone.
    ///
    /// # Errors
    /// As [`Aggregate::aggregate_weighted`].
    fn aggregate(&self, slices: &Tensor) -> Result<Tensor> {
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
/// use candle::{Device, Tensor};
/// use dinorad_aggregate::{MeanPool, aggregate_batch};
///
/// let batch = Tensor::new(&[[[1f32], [3.0]], [[5.0], [-100.0]]], &Device::Cpu)?;
/// let scans = aggregate_batch(&MeanPool, &batch, &[2, 1])?;
/// assert_eq!(scans.to_vec2::<f32>()?, [[2.0], [5.0]]);
/// # Ok::<(), dinorad_aggregate::Error>(())
/// ```
pub fn aggregate_batch(pool: &dyn Aggregate, batch: &Tensor, counts: &[usize]) -> Result<Tensor> {
    let &[scans, most, _] = batch.dims() else { return Err(batch_shape(batch, "(scans, slices, dim)")) };
    if scans != counts.len() || scans == 0 {
        return Err(batch_shape(batch, &format!("({}, slices, dim), one scan per count, at least one", counts.len())));
    }
    let pooled = counts.iter().enumerate().map(|(scan, &count)| {
        if count == 0 {
            return Err(Error::NoSlices { scan });
        }
        if count > most {
            return Err(batch_shape(batch, &format!("at least {count} slices for scan {scan}")));
        }
        pool.aggregate(&batch.get(scan)?.narrow(0, 0, count)?)
    });
    Ok(Tensor::stack(&pooled.collect::<Result<Vec<_>>>()?, 0)?)
}

fn batch_shape(batch: &Tensor, expected: &str) -> Error {
    Error::Shape { what: "batch of scans", expected: expected.to_owned(), got: batch.dims().to_vec() }
}

/// `(slices, dim)` of a usable scan.
pub(crate) fn check_slices(slices: &Tensor) -> Result<(usize, usize)> {
    let &[n, dim] = slices.dims() else {
        return Err(Error::Shape {
            what: "slice embeddings",
            expected: "(slices, dim)".to_owned(),
            got: slices.dims().to_vec(),
        });
    };
    if n == 0 {
        return Err(Error::NoSlices { scan: 0 });
    }
    if dim == 0 {
        return Err(Error::Shape {
            what: "slice embeddings",
            expected: "(slices, dim > 0)".to_owned(),
            got: slices.dims().to_vec(),
        });
    }
    // 0·x is 0 for every finite x and NaN otherwise, whatever the size of x.
    let probe = (slices.detach().to_dtype(DType::F32)? * 0.0)?.sum(1)?.to_vec1::<f32>()?;
    match probe.iter().position(|v| v.is_nan()) {
        Some(slice) => Err(Error::NotFinite { slice }),
        None => Ok((n, dim)),
    }
}
