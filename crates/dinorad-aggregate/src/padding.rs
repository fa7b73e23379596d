//! Padding by value, as the study's collate function does it.

use candle::{DType, Tensor};

use crate::{Error, Result};

/// The value the study fills missing slices with.
pub const PADDING_VALUE: f64 = -100.0;

/// Which slices of a padded batch hold nothing but `value`.
///
/// Only for data that was padded by value: a real slice of that one value would be lost, so carry
/// slice counts and use [`aggregate_batch`](crate::aggregate_batch) instead where you can.
///
/// # Shapes
/// - `batch`: `(scans, slices, …)` with at least one more axis;
/// - returns `scans` rows of `slices` answers.
///
/// # Errors
/// [`Error::Shape`] unless `batch` has three axes or more.
///
/// # Source
/// `torch.allclose` with its default tolerances, `|x - value| <= 1e-8 + 1e-5·|value|`, as in the
/// study's evaluation code.
pub fn padded_slices(batch: &Tensor, value: f64) -> Result<Vec<Vec<bool>>> {
    if batch.rank() < 3 {
        return Err(Error::Shape {
            what: "batch of volumes",
            expected: "(scans, slices, ...)".to_owned(),
            got: batch.dims().to_vec(),
        });
    }
    let tolerance = 1e-8 + 1e-5 * value.abs();
    let near = (batch.flatten_from(2)?.to_dtype(DType::F64)? - value)?.abs()?.le(tolerance)?;
    let all = near.min(2)?.to_vec2::<u8>()?;
    Ok(all.iter().map(|row| row.iter().map(|near| *near == 1).collect()).collect())
}
