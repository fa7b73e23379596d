//! How many views of an image there are, and how large.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Crops of an image: a few large ones, which the teacher sees too, and small ones for the student alone.
///
/// # Source
/// Caron et al. 2020, SwAV, arXiv:2006.09882 (multi-crop); the numbers are DINOv2's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// Large crops of an image.
    pub global: usize,
    /// Small crops of an image.
    pub local: usize,
    /// Side of a large crop in pixels.
    pub global_size: usize,
    /// Side of a small crop in pixels.
    pub local_size: usize,
    /// Least and largest share of the image's area in a large crop.
    pub global_scale: (f64, f64),
    /// The same of a small crop.
    pub local_scale: (f64, f64),
    /// Share of the steps from which on crops have their full size; before, they have half of it.
    ///
    /// Zhang et al. 2025, FastDINOv2, arXiv:2507.03779: 0.75 saves 1.6 times the time.
    pub full_size_from: f64,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            global: 2,
            local: 8,
            global_size: 224,
            local_size: 98,
            global_scale: (0.32, 1.0),
            local_scale: (0.05, 0.32),
            full_size_from: 0.0,
        }
    }
}

impl Views {
    /// Sides in pixels of large and small crops at a step of so many, both multiples of the patch.
    pub fn sizes(&self, step: usize, steps: usize, patch: usize) -> (usize, usize) {
        if step as f64 >= self.full_size_from * steps as f64 {
            return (self.global_size, self.local_size);
        }
        let half = |side: usize| ((side / 2 + patch / 2) / patch.max(1)).max(1) * patch;
        (half(self.global_size), half(self.local_size))
    }

    /// # Errors
    /// [`Error::Parameter`] for numbers and sizes that do not fit an encoder with such patches.
    pub fn check(&self, patch: usize) -> Result<()> {
        if !(2..=16).contains(&self.global) {
            return Err(Error::parameter("global crops", "2 to 16", self.global));
        }
        if self.local > 64 {
            return Err(Error::parameter("local crops", "at most 64", self.local));
        }
        for (name, side) in [("global_size", self.global_size), ("local_size", self.local_size)] {
            if side == 0 || side > 1 << 12 || !side.is_multiple_of(patch.max(1)) {
                return Err(Error::parameter(
                    name,
                    format!("a multiple of the patch size {patch}, at most 4096"),
                    side,
                ));
            }
        }
        for (name, (low, high)) in [("global_scale", self.global_scale), ("local_scale", self.local_scale)] {
            if !(low > 0.0 && low <= high && high <= 1.0) {
                return Err(Error::parameter(
                    name,
                    "two shares in order, above 0 and at most 1",
                    format!("({low}, {high})"),
                ));
            }
        }
        match (0.0..=1.0).contains(&self.full_size_from) {
            true => Ok(()),
            false => Err(Error::parameter("full_size_from", "a share of the steps, 0 to 1", self.full_size_from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_grow_when_their_time_has_come() {
        let views = Views { full_size_from: 0.75, ..Views::default() };
        assert_eq!(views.sizes(74, 100, 14), (112, 56));
        assert_eq!(views.sizes(75, 100, 14), (224, 98));
        assert_eq!(Views::default().sizes(0, 100, 14), (224, 98));
        assert_eq!(Views { local_size: 14, ..views }.sizes(0, 100, 14).1, 14);
        assert!(views.check(14).is_ok() && views.check(16).is_err());
        assert!(Views { global: 1, ..views }.check(14).is_err());
        assert!(Views { local_scale: (0.5, 0.2), ..views }.check(14).is_err());
    }
}
