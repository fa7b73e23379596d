//! Overlap of a run's masks: pooled over all pixels, by class, and by volume.

use std::collections::BTreeMap;

use ndarray::{ArrayView, Dimension};

use crate::{
    BinaryCounts, BootstrapOptions, ConfusionMatrix, Interval, Label, Overlap, Resampling, Result, convention::mean,
};

/// The overlap of predicted and true masks of many slices, which belong to volumes.
///
/// Class 0 is background. A class in neither mask is left out of means; so is a volume without any
/// foreground.
///
/// # Examples
/// ```
/// use dinorad_metrics::MaskScores;
/// use ndarray::arr2;
/// let mut scores = MaskScores::new(2)?;
/// let truth = arr2(&[[1u8, 1], [0, 0]]);
/// scores.update("scan 1", truth.view(), truth.view())?;
/// scores.update("scan 2", arr2(&[[1u8, 0], [0, 0]]).view(), truth.view())?;
/// assert_eq!(scores.dice(), Some(6.0 / 7.0)); // all pixels in one
/// assert_eq!(scores.dice_of_volumes(), [1.0, 2.0 / 3.0]);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MaskScores {
    pooled: ConfusionMatrix,
    volumes: BTreeMap<String, ConfusionMatrix>,
}

impl MaskScores {
    /// No pixel yet of `classes` classes, background included.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for none or more than 65,536 classes.
    pub fn new(classes: usize) -> Result<Self> {
        Ok(MaskScores { pooled: ConfusionMatrix::new(classes)?, volumes: BTreeMap::new() })
    }

    /// Adds a slice (or more) of a volume: predicted and true classes of the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::Label`](crate::Error::Label); nothing is added
    /// then.
    pub fn update<P: Label, T: Label, D: Dimension>(
        &mut self,
        volume: &str,
        prediction: ArrayView<'_, P, D>,
        truth: ArrayView<'_, T, D>,
    ) -> Result<()> {
        let mut slice = ConfusionMatrix::new(self.pooled.classes())?;
        slice.update(prediction, truth)?;
        self.pooled.merge(&slice)?;
        match self.volumes.get_mut(volume) {
            Some(matrix) => matrix.merge(&slice),
            None => {
                self.volumes.insert(volume.to_owned(), slice);
                Ok(())
            }
        }
    }

    /// The counts of all pixels.
    pub fn pooled(&self) -> &ConfusionMatrix {
        &self.pooled
    }

    /// Mean Dice over the foreground classes that occur, all pixels pooled.
    pub fn dice(&self) -> Option<f64> {
        Overlap::new(&self.pooled).foreground_dice()
    }

    /// Mean Jaccard (intersection over union), the same way.
    pub fn jaccard(&self) -> Option<f64> {
        Overlap::new(&self.pooled).foreground_jaccard()
    }

    /// Dice by class, background first, all pixels pooled; `None` for a class that is nowhere.
    pub fn dice_by_class(&self) -> Vec<Option<f64>> {
        self.by_class(BinaryCounts::f1)
    }

    /// Jaccard by class, the same way.
    pub fn jaccard_by_class(&self) -> Vec<Option<f64>> {
        self.by_class(BinaryCounts::jaccard)
    }

    fn by_class(&self, value: fn(&BinaryCounts) -> Option<f64>) -> Vec<Option<f64>> {
        (0..self.pooled.classes()).map(|c| value(&self.pooled.one_vs_rest(c))).collect()
    }

    /// Mean foreground Dice of every volume that has foreground in either mask, its slices pooled;
    /// volumes in the order of their names.
    pub fn dice_of_volumes(&self) -> Vec<f64> {
        self.volumes.values().filter_map(|m| Overlap::new(m).foreground_dice()).collect()
    }

    /// The mean of [`dice_of_volumes`](Self::dice_of_volumes) with an interval over draws of volumes;
    /// `None` without any.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for options out of range.
    pub fn dice_by_volume(&self, options: &BootstrapOptions) -> Result<Option<Interval>> {
        let values = self.dice_of_volumes();
        if values.is_empty() {
            return Ok(None);
        }
        let drawn = |weights: &[u32]| {
            let repeated = values.iter().zip(weights).flat_map(|(v, w)| std::iter::repeat_n(*v, *w as usize));
            mean(repeated)
        };
        Resampling::by_case(values.len())?.bootstrap(options, drawn).map(Some)
    }
}
