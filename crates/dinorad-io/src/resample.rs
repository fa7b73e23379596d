//! Volumes at another spacing.

use dinorad_core::Affine;
use ndarray::{Array3, Axis};
use serde::{Deserialize, Serialize};

use crate::{Error, Limits, Result, Volume};

/// How values between voxels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// The closest voxel; the earlier one of two equally close. For labels.
    Nearest,
    /// Linear between neighbours along each axis.
    Linear,
}

impl Volume {
    /// The volume at `spacing_mm`, `[slice, row, column]`.
    ///
    /// The first voxel keeps its place, the axes their directions, and every axis gets
    /// `round(length x old / new)` voxels, at least one. Beyond the last voxel its value is
    /// repeated. There is no smoothing before shrinking, as in SimpleITK's `Resample`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless all three spacings are positive and finite;
    /// [`Error::Limit`] if the result exceeds `limits`.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), dinorad_io::Error> {
    /// use dinorad_core::Affine;
    /// use dinorad_io::{Interpolation, Limits, Volume};
    /// let thick = Volume::new(ndarray::Array3::zeros((4, 8, 8)), Affine::from_spacing_mm([1.0, 1.0, 5.0]));
    /// let cubes = thick.resample([1.0; 3], Interpolation::Linear, &Limits::default())?;
    /// assert_eq!(cubes.data.dim(), (20, 8, 8));
    /// # Ok(()) }
    /// ```
    pub fn resample(&self, spacing_mm: [f64; 3], interpolation: Interpolation, limits: &Limits) -> Result<Volume> {
        if !spacing_mm.iter().all(|s| s.is_finite() && *s > 0.0) {
            let (expected, got) = ("three positive numbers".into(), format!("{spacing_mm:?}"));
            return Err(Error::Argument { what: "spacing", expected, got });
        }
        let old = self.spacing_mm();
        let shape = self.data.shape();
        let length = |a: usize| (shape[a] as f64 * old[a] / spacing_mm[a]).round().clamp(1.0, 1e15) as u64;
        let lengths = [length(0), length(1), length(2)];
        limits.elements("resampled volume".as_ref(), &lengths, 4)?;
        let mut data = self.data.clone();
        for axis in 0..3 {
            data = along(&data, axis, lengths[axis] as usize, spacing_mm[axis] / old[axis], interpolation);
        }
        let mut rows = self.affine.rows();
        for row in rows.iter_mut().take(3) {
            for (column, axis) in [(0, 2), (1, 1), (2, 0)] {
                row[column] *= spacing_mm[axis] / old[axis];
            }
        }
        let affine = Affine::new(rows).map_err(|_| Error::Argument {
            what: "affine",
            expected: "axes with a length".into(),
            got: format!("{old:?} mm"),
        })?;
        let mut out = self.clone_without_data(data);
        out.affine = affine;
        Ok(out)
    }
}

/// One axis at positions `n * step` voxels.
fn along(data: &Array3<f32>, axis: usize, length: usize, step: f64, interpolation: Interpolation) -> Array3<f32> {
    let old = data.shape()[axis];
    if (length, step) == (old, 1.0) || old == 0 {
        return data.clone();
    }
    let mut shape = [data.shape()[0], data.shape()[1], data.shape()[2]];
    shape[axis] = length;
    let mut out = Array3::zeros(shape);
    for (n, mut plane) in out.axis_iter_mut(Axis(axis)).enumerate() {
        let at = (n as f64 * step).min((old - 1) as f64);
        let before = at.floor() as usize;
        let fraction = (at - before as f64) as f32;
        let first = data.index_axis(Axis(axis), before);
        match interpolation {
            Interpolation::Nearest if fraction > 0.5 => plane.assign(&data.index_axis(Axis(axis), before + 1)),
            Interpolation::Linear if fraction > 0.0 => {
                let second = data.index_axis(Axis(axis), before + 1);
                plane.zip_mut_with(&first, |o, v| *o = v * (1.0 - fraction));
                plane.zip_mut_with(&second, |o, v| *o += v * fraction);
            }
            _ => plane.assign(&first),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_stays_a_ramp_in_the_world() {
        let affine = Affine::from_spacing_mm([2.0, 3.0, 4.0]);
        let world = |a: &Affine, k: usize, j: usize, i: usize| {
            let [x, y, z] = a.apply([i as f64, j as f64, k as f64]);
            (x + 2.0 * y - z) as f32
        };
        let ramp = Array3::from_shape_fn((6, 7, 8), |(k, j, i)| world(&affine, k, j, i));
        let volume = Volume::new(ramp, affine);
        let fine = volume.resample([1.0, 1.5, 1.25], Interpolation::Linear, &Limits::default()).unwrap();
        assert_eq!(fine.data.dim(), (24, 14, 13));
        assert_eq!(fine.spacing_mm(), [1.0, 1.5, 1.25]);
        // inside the old grid the values are those of the place
        for ((k, j, i), v) in fine.data.indexed_iter().filter(|((k, j, i), _)| *k <= 20 && *j <= 12 && *i <= 11) {
            assert!((v - world(&fine.affine, k, j, i)).abs() < 1e-4);
        }
        let near = volume.resample([4.0, 3.0, 1.0], Interpolation::Nearest, &Limits::default()).unwrap();
        assert_eq!(near.data.dim(), (6, 7, 16));
        assert_eq!(near.data[[1, 1, 5]], volume.data[[1, 1, 2]]);
        assert_eq!(near.data[[1, 1, 6]], volume.data[[1, 1, 3]]);
    }

    #[test]
    fn impossible_spacings_are_errors() {
        let volume = Volume::new(Array3::zeros((2, 2, 2)), Affine::identity());
        for s in [0.0, -1.0, f64::NAN] {
            assert!(volume.resample([1.0, s, 1.0], Interpolation::Linear, &Limits::default()).is_err());
        }
        let huge = volume.resample([1e-9; 3], Interpolation::Linear, &Limits::default());
        assert!(matches!(huge, Err(Error::Limit { .. })));
    }
}
