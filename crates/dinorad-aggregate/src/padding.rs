//! Padding by value, as the study's collate function does it.

use ndarray::{ArrayView, Axis, Dimension, RemoveAxis};

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
pub fn padded_slices<D>(batch: ArrayView<'_, f32, D>, value: f64) -> Result<Vec<Vec<bool>>>
where
    D: Dimension + RemoveAxis,
    D::Smaller: RemoveAxis,
{
    if batch.ndim() < 3 {
        let (expected, got) = ("(scans, slices, ...)".to_owned(), batch.shape().to_vec());
        return Err(Error::Shape { what: "batch of volumes", expected, got });
    }
    let tolerance = 1e-8 + 1e-5 * value.abs();
    let near = |v: &f32| (f64::from(*v) - value).abs() <= tolerance;
    let scan = |scan: ArrayView<'_, f32, D::Smaller>| scan.axis_iter(Axis(0)).map(|s| s.iter().all(near)).collect();
    Ok(batch.axis_iter(Axis(0)).map(scan).collect())
}
