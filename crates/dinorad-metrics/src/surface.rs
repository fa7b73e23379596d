//! Distances between the surfaces of two masks.

use ndarray::{ArrayView, Dimension};
use serde::{Deserialize, Serialize};

use crate::{
    Convention, Error, Label, Result,
    convention::mean,
    distance_transform::{check_spacing, squared_distances},
    error::parameter,
    input, quantile,
};

/// Distances from every surface voxel of a prediction to the nearest one of its target, and back.
///
/// A surface voxel is a foreground voxel with a background neighbour along an axis (4 neighbours in
/// 2D, 6 in 3D); outside the array is background. Distances run between voxel centres.
///
/// Every metric is `None` if both masks are empty, and infinite (surface Dice 0) if one is.
///
/// # Examples
/// ```
/// use dinorad_metrics::SurfaceDistances;
/// use ndarray::Array3;
/// let mut prediction = Array3::from_elem((5, 4, 4), false);
/// let mut target = prediction.clone();
/// prediction[[1, 2, 2]] = true;
/// target[[2, 2, 2]] = true; // one slice up, 3 mm
/// let surfaces = SurfaceDistances::between(prediction.view(), target.view(), &[3.0, 0.5, 0.5])?;
/// assert_eq!(surfaces.hausdorff(), Some(3.0));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Huttenlocher et al. 1993, <https://doi.org/10.1109/34.232073>; Nikolov et al. 2018,
/// arXiv:1809.04430 (surface Dice). The numbers are those of MONAI 1.6.
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceDistances {
    /// From the prediction's surface, ascending.
    forward: Vec<f64>,
    /// From the target's surface, ascending.
    backward: Vec<f64>,
}

/// The usual surface metrics of one class, under a named convention.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SurfaceSummary {
    /// Largest distance in either direction.
    pub hausdorff: f64,
    /// Larger of the two directions' percentiles.
    pub hausdorff_percentile: f64,
    /// Mean distance from prediction to target.
    pub average: f64,
    /// Mean distance over both directions pooled.
    pub average_symmetric: f64,
    /// Part of both surfaces within the tolerance.
    pub surface_dice: f64,
    /// Whose rules were followed for empty masks.
    pub convention: Convention,
}

/// Masks of one shape that is not empty, with a spacing for each axis.
fn check_pair(prediction: &[usize], target: &[usize], spacing: &[f64]) -> Result<()> {
    if prediction != target {
        let (expected, got) = (target.to_vec(), prediction.to_vec());
        return Err(Error::Shape { what: "prediction", expected, got });
    }
    check_spacing(spacing, prediction.len())?;
    if prediction.contains(&0) { Err(Error::Empty { what: "prediction" }) } else { Ok(()) }
}

impl SurfaceDistances {
    /// Measures two masks of the same shape; `spacing` has one entry per axis, in mm.
    ///
    /// Work is limited to the box around both masks: `O(voxels)` to find it, then linear in the box.
    ///
    /// # Errors
    /// [`Error::Shape`] for different shapes or another number of spacings, [`Error::Parameter`] for
    /// a spacing that is not positive, [`Error::Empty`] without voxels.
    pub fn between<D: Dimension>(
        prediction: ArrayView<'_, bool, D>,
        target: ArrayView<'_, bool, D>,
        spacing: &[f64],
    ) -> Result<Self> {
        check_pair(prediction.shape(), target.shape(), spacing)?;
        let shape = prediction.shape().to_vec();
        let a: Vec<bool> = prediction.iter().copied().collect();
        let b: Vec<bool> = target.iter().copied().collect();
        Ok(Self::of_flat(&a, &b, &shape, spacing))
    }

    /// Measures one class of two label maps of the same shape.
    ///
    /// # Errors
    /// As [`SurfaceDistances::between`], and [`Error::Label`] for a negative label.
    pub fn of_class<P: Label, T: Label, D: Dimension>(
        prediction: ArrayView<'_, P, D>,
        target: ArrayView<'_, T, D>,
        class: usize,
        spacing: &[f64],
    ) -> Result<Self> {
        check_pair(prediction.shape(), target.shape(), spacing)?;
        let shape = prediction.shape().to_vec();
        fn is<L: Label>(class: usize) -> impl Fn((usize, &L)) -> Result<bool> {
            move |(i, l)| Ok(input::index_below(i, *l, usize::MAX)? == class)
        }
        let a = prediction.iter().enumerate().map(is(class)).collect::<Result<Vec<_>>>()?;
        let b = target.iter().enumerate().map(is(class)).collect::<Result<Vec<_>>>()?;
        Ok(Self::of_flat(&a, &b, &shape, spacing))
    }

    fn of_flat(a: &[bool], b: &[bool], shape: &[usize], spacing: &[f64]) -> Self {
        let Some((low, high)) = bounding_box(a, b, shape) else {
            return SurfaceDistances { forward: vec![], backward: vec![] };
        };
        let inner: Vec<usize> = low.iter().zip(&high).map(|(l, h)| h - l).collect();
        let (a, b) = (edges(&cut(a, shape, &low, &inner), &inner), edges(&cut(b, shape, &low, &inner), &inner));
        let directed = |from: &[bool], to: &[bool]| {
            let mut field: Vec<f64> = to.iter().map(|e| if *e { 0.0 } else { f64::INFINITY }).collect();
            squared_distances(&mut field, &inner, spacing);
            let mut out: Vec<f64> = from.iter().zip(field).filter(|(e, _)| **e).map(|(_, d)| d.sqrt()).collect();
            out.sort_unstable_by(f64::total_cmp);
            out
        };
        SurfaceDistances { forward: directed(&a, &b), backward: directed(&b, &a) }
    }

    /// Distances in mm from the prediction's surface voxels to the target's surface, ascending.
    pub fn prediction_to_target(&self) -> &[f64] {
        &self.forward
    }

    /// Distances in mm from the target's surface voxels to the prediction's surface, ascending.
    pub fn target_to_prediction(&self) -> &[f64] {
        &self.backward
    }

    /// Whether neither mask has a voxel: the class is absent.
    pub fn is_absent(&self) -> bool {
        self.forward.is_empty() && self.backward.is_empty()
    }

    /// Whether exactly one mask has no voxel.
    pub fn is_one_sided(&self) -> bool {
        self.forward.is_empty() != self.backward.is_empty()
    }

    /// A metric: `None` without surfaces, infinite with one.
    fn measured(&self, metric: impl FnOnce() -> Option<f64>) -> Option<f64> {
        if self.is_one_sided() { Some(f64::INFINITY) } else { metric() }
    }

    /// Hausdorff distance in mm: the largest distance in either direction.
    pub fn hausdorff(&self) -> Option<f64> {
        self.measured(|| Some(self.forward.last()?.max(*self.backward.last()?)))
    }

    /// The larger of the two directions' percentiles, in mm, by linear interpolation; `percent` in
    /// 0..100, usually 95.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a percentile outside 0..100.
    pub fn hausdorff_percentile(&self, percent: f64) -> Result<Option<f64>> {
        let back = check_percent(percent).map(|()| quantile::of_sorted(&self.backward, percent))?;
        Ok(self.measured(|| Some(quantile::of_sorted(&self.forward, percent)?.max(back?))))
    }

    /// The percentile from prediction to target alone, in mm.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a percentile outside 0..100.
    pub fn directed_percentile(&self, percent: f64) -> Result<Option<f64>> {
        check_percent(percent)?;
        Ok(self.measured(|| quantile::of_sorted(&self.forward, percent)))
    }

    /// Average surface distance in mm: mean from the prediction's surface to the target's.
    pub fn average(&self) -> Option<f64> {
        self.measured(|| mean(self.forward.iter().copied()))
    }

    /// Average symmetric surface distance in mm: mean over both directions pooled.
    pub fn average_symmetric(&self) -> Option<f64> {
        self.measured(|| mean(self.forward.iter().chain(&self.backward).copied()))
    }

    /// Surface Dice: part of both surfaces' voxels that lie within `tolerance_mm` of the other.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a tolerance that is negative or NaN.
    pub fn surface_dice(&self, tolerance_mm: f64) -> Result<Option<f64>> {
        if tolerance_mm.is_nan() || tolerance_mm < 0.0 {
            return Err(parameter("tolerance_mm", tolerance_mm, "0 or more"));
        }
        if self.is_one_sided() {
            return Ok(Some(0.0));
        }
        let all = self.forward.iter().chain(&self.backward);
        Ok(mean(all.map(|d| f64::from(u8::from(*d <= tolerance_mm)))))
    }

    /// The usual metrics at once. Undefined ones are NaN; with one empty mask `monai` also gives
    /// NaN for the percentile, the other conventions infinity.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a percentile or tolerance out of range.
    pub fn summary(&self, percent: f64, tolerance_mm: f64, convention: Convention) -> Result<SurfaceSummary> {
        let or_nan = |v: Option<f64>| v.unwrap_or(f64::NAN);
        let percentile = or_nan(self.hausdorff_percentile(percent)?);
        let unknown = convention == Convention::Monai && self.is_one_sided();
        Ok(SurfaceSummary {
            hausdorff: or_nan(self.hausdorff()),
            hausdorff_percentile: if unknown { f64::NAN } else { percentile },
            average: or_nan(self.average()),
            average_symmetric: or_nan(self.average_symmetric()),
            surface_dice: or_nan(self.surface_dice(tolerance_mm)?),
            convention,
        })
    }
}

fn check_percent(percent: f64) -> Result<()> {
    if (0.0..=100.0).contains(&percent) { Ok(()) } else { Err(parameter("percent", percent, "0 to 100")) }
}

/// First and one past the last index along every axis of the voxels in either mask.
fn bounding_box(a: &[bool], b: &[bool], shape: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    let (mut low, mut high) = (shape.to_vec(), vec![0; shape.len()]);
    let width = shape.last().copied().unwrap_or(1).max(1);
    for (row, (a, b)) in a.chunks_exact(width).zip(b.chunks_exact(width)).enumerate() {
        let Some(first) = a.iter().zip(b).position(|(a, b)| *a || *b) else { continue };
        let last = a.iter().zip(b).rposition(|(a, b)| *a || *b).unwrap_or(first);
        let mut rest = row;
        for axis in (0..shape.len()).rev() {
            let (from, to) = if axis == shape.len() - 1 {
                (first, last)
            } else {
                let at = rest % shape[axis];
                rest /= shape[axis];
                (at, at)
            };
            low[axis] = low[axis].min(from);
            high[axis] = high[axis].max(to + 1);
        }
    }
    high.iter().all(|h| *h > 0).then_some((low, high))
}

/// The box at `low` of size `inner`, row-major.
fn cut(mask: &[bool], shape: &[usize], low: &[usize], inner: &[usize]) -> Vec<bool> {
    let width = inner.last().copied().unwrap_or(1);
    let rows: usize = inner[..inner.len().saturating_sub(1)].iter().product();
    let mut out = Vec::with_capacity(rows * width);
    for row in 0..rows {
        let (mut rest, mut stride, mut at) = (row, 1, 0);
        for axis in (0..shape.len()).rev() {
            let index = if axis == shape.len() - 1 {
                0
            } else {
                let i = rest % inner[axis];
                rest /= inner[axis];
                i
            };
            at += (low[axis] + index) * stride;
            stride *= shape[axis];
        }
        out.extend_from_slice(&mask[at..at + width]);
    }
    out
}

/// The voxels of a row-major mask with a background neighbour along an axis.
fn edges(mask: &[bool], shape: &[usize]) -> Vec<bool> {
    let mut edge = vec![false; mask.len()];
    for axis in 0..shape.len() {
        let n = shape[axis];
        let stride: usize = shape[axis + 1..].iter().product();
        for (i, e) in edge.iter_mut().enumerate() {
            if mask[i] && !*e {
                let at = i / stride % n;
                *e = at == 0 || at == n - 1 || !mask[i - stride] || !mask[i + stride];
            }
        }
    }
    edge
}
