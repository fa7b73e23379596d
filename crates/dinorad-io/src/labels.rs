//! Masks: whole numbers with a place.

use std::path::Path;

use dinorad_core::Affine;
use ndarray::Array3;

use crate::{Error, Result, Volume, volume::reorient};

/// An integer label for every voxel, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// `(d, h, w)` = (slice, row, column).
    pub data: Array3<u8>,
    /// Voxel index `(i, j, k)` = (column, row, slice) to RAS+ millimetres.
    pub affine: Affine,
}

impl Labels {
    /// The same labels turned as [`Volume::to_canonical`] turns a volume.
    #[must_use]
    pub fn to_canonical(&self) -> Labels {
        let (data, affine) = reorient(self.data.view(), &self.affine, self.affine.closest_axes());
        Labels { data, affine }
    }

    /// A volume whose values are all whole numbers in 0..=255; `path` only names the file in errors.
    pub(crate) fn of(volume: Volume, path: &Path) -> Result<Self> {
        let mut data = Array3::zeros(volume.data.dim());
        for (label, value) in data.iter_mut().zip(&volume.data) {
            if !(0.0..=255.0).contains(value) || value.fract() != 0.0 {
                return Err(Error::Label { path: path.to_owned(), value: f64::from(*value) });
            }
            *label = *value as u8;
        }
        Ok(Labels { data, affine: volume.affine })
    }
}
