//! Lesions found, missed and made up: masks counted piece by piece.

use dinorad_core::{Touching, components};
use ndarray::{Array3, ArrayView3};

use crate::{BinaryCounts, Error, Result, error::parameter};

/// How much of a true lesion must be covered for it to count as found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LesionOverlap(f64);

impl LesionOverlap {
    /// A single voxel.
    pub const ANY: Self = Self(0.0);

    /// A share of the lesion's voxels; 0 is [`ANY`](Self::ANY).
    ///
    /// # Errors
    /// [`Error::Parameter`] unless it is from 0 to 1.
    pub fn share(share: f64) -> Result<Self> {
        match (0.0..=1.0).contains(&share) {
            true => Ok(Self(share)),
            false => Err(parameter("overlap of lesions", share, "0 to 1")),
        }
    }

    /// The share, 0 for a single voxel.
    pub fn value(self) -> f64 {
        self.0
    }

    fn is_met(self, covered: usize, size: usize) -> bool {
        covered > 0 && covered as f64 >= self.0 * size as f64
    }
}

/// Lesions of a class by prediction and truth; a lesion is a connected component (26 neighbours; 8 in a single
/// slice).
///
/// A true lesion is found (true positive) if voxels predicted as its class cover at least `overlap` of it, else
/// missed (false negative), however many predicted pieces do it. A predicted piece is made up (false positive)
/// unless it touches a true lesion that was found; with [`LesionOverlap::ANY`] that is: unless it touches any. There
/// are no true negatives. Sensitivity, precision and F1 are those of the counts; add cases with
/// [`plus`](BinaryCounts::plus).
///
/// # Shapes and units
/// - `prediction`, `truth`: classes `(slice, row, column)` of one shape.
///
/// Takes time and memory in proportion to the voxels.
///
/// # Errors
/// [`Error::Shape`] for masks of unlike shapes.
///
/// # Examples
/// ```
/// use dinorad_metrics::{LesionOverlap, lesion_counts};
/// use ndarray::arr3;
/// let truth = arr3(&[[[1u8, 1, 0, 0, 1, 0, 0]]]);
/// let predicted = arr3(&[[[0u8, 1, 0, 0, 0, 0, 1]]]);
/// let counts = lesion_counts(predicted.view(), truth.view(), 1, LesionOverlap::ANY)?;
/// assert_eq!((counts.true_positives, counts.false_positives, counts.false_negatives), (1, 1, 1));
/// assert_eq!(counts.f1(), Some(0.5));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// With [`LesionOverlap::ANY`] the lesion-wise F1 of ISLES 2022: Hernandez Petzsche et al. 2022,
/// <https://doi.org/10.1038/s41597-022-01875-5>, `compute_lesion_f1_score` of its evaluation code.
pub fn lesion_counts(
    prediction: ArrayView3<'_, u8>,
    truth: ArrayView3<'_, u8>,
    class: u8,
    overlap: LesionOverlap,
) -> Result<BinaryCounts> {
    if prediction.dim() != truth.dim() {
        let (expected, got) = (truth.shape().to_vec(), prediction.shape().to_vec());
        return Err(Error::Shape { what: "prediction", expected, got });
    }
    let mut counts = BinaryCounts::default();
    let mut found = Array3::from_elem(truth.dim(), false);
    for lesion in components(truth, Touching::Corners, |of| of == class) {
        let covered = lesion.voxels.iter().filter(|at| prediction[**at] == class).count();
        if overlap.is_met(covered, lesion.voxels.len()) {
            counts.true_positives += 1;
            lesion.voxels.iter().for_each(|at| found[*at] = true);
        } else {
            counts.false_negatives += 1;
        }
    }
    for piece in components(prediction, Touching::Corners, |of| of == class) {
        counts.false_positives += u64::from(!piece.voxels.iter().any(|at| found[*at]));
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;

    fn counted(prediction: &Array3<u8>, truth: &Array3<u8>, class: u8, share: f64) -> [u64; 4] {
        let overlap = LesionOverlap::share(share).unwrap();
        let c = lesion_counts(prediction.view(), truth.view(), class, overlap).unwrap();
        [c.true_positives, c.false_positives, c.false_negatives, c.true_negatives]
    }

    /// Three lesions of class 1, one of them in two boxes that touch by a corner alone; one of class 2.
    fn truth() -> Array3<u8> {
        let mut mask = Array3::zeros((6, 20, 20));
        mask.slice_mut(s![0..2, 0..4, 0..4]).fill(1);
        mask.slice_mut(s![2..4, 10..12, 10..12]).fill(1);
        mask.slice_mut(s![4..6, 12..14, 12..14]).fill(1); // a corner joins it with the one before
        mask.slice_mut(s![0..1, 18..20, 0..2]).fill(1);
        mask.slice_mut(s![0..2, 0..4, 10..14]).fill(2);
        mask
    }

    #[test]
    fn lesions_with_known_answers() {
        let truth = truth();
        let none = Array3::zeros(truth.dim());
        assert_eq!(counted(&truth, &truth, 1, 1.0), [3, 0, 0, 0]);
        assert_eq!(counted(&none, &truth, 1, 0.0), [0, 0, 3, 0]);
        assert_eq!(counted(&truth, &none, 1, 0.0), [0, 3, 0, 0]);
        assert_eq!(counted(&none, &none, 1, 0.0), [0; 4]);
        assert_eq!(counted(&truth, &truth, 2, 1.0), [1, 0, 0, 0]);

        // one voxel of the first; the second from both ends, as two pieces; nothing of the third; one made up
        let mut predicted = none.clone();
        predicted[[0, 3, 3]] = 1;
        predicted[[2, 10, 10]] = 1;
        predicted[[5, 13, 13]] = 1;
        predicted.slice_mut(s![3..6, 0..2, 0..2]).fill(1);
        // beside the third, of another class on top of it
        predicted[[0, 18, 0]] = 2;
        assert_eq!(counted(&predicted, &truth, 1, 0.0), [2, 1, 1, 0]);
        // a voxel of 32 is too little for a tenth, two of 16 are not: what touches nothing found is made up
        assert_eq!(counted(&predicted, &truth, 1, 0.1), [1, 2, 2, 0]);
        assert_eq!(counted(&predicted, &truth, 2, 0.0), [0, 1, 1, 0]);
        let overlap = LesionOverlap::ANY;
        let both = [1, 2].map(|c| lesion_counts(predicted.view(), truth.view(), c, overlap).unwrap());
        let sum = both[0].plus(&both[1]);
        assert_eq!((sum.sensitivity(), sum.precision()), (Some(0.5), Some(0.5)));

        // a piece over two lesions finds both and is none of its own
        let mut wide = none.clone();
        wide.slice_mut(s![0..4, .., ..]).fill(1);
        assert_eq!(counted(&wide, &truth, 1, 0.5), [3, 0, 0, 0]);
    }

    #[test]
    fn a_planted_fault_is_noticed() {
        // the lesions are told apart by one voxel: filling it makes one of two
        let apart = ndarray::arr3(&[[[1u8, 1, 0, 1, 1]]]);
        let mut joined = apart.clone();
        joined[[0, 0, 2]] = 1;
        assert_eq!(counted(&apart, &apart, 1, 0.0), [2, 0, 0, 0]);
        assert_eq!(counted(&apart, &joined, 1, 0.0), [1, 0, 0, 0]);
        // one more voxel away from everything is one more false positive
        let mut more = ndarray::arr3(&[[[1u8, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]]);
        let wanted = more.clone();
        more[[0, 2, 0]] = 1;
        assert_eq!(counted(&more, &wanted, 1, 0.0), [2, 1, 0, 0]);
        assert!(lesion_counts(apart.view(), wanted.view(), 1, LesionOverlap::ANY).is_err());
        for share in [-0.1, 1.1, f64::NAN] {
            assert!(LesionOverlap::share(share).is_err());
        }
    }
}
