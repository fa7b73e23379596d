//! Dice and Jaccard of label maps, from their confusion matrix.

use serde::{Deserialize, Serialize};

use crate::{
    BinaryCounts, ConfusionMatrix, Convention, PerClass,
    convention::{mean, ratio},
};

/// Overlap of label maps whose class 0 is background, made from the counts of all pixels seen.
///
/// State is global: counts add up over images before a ratio is taken. For the mean of per-image
/// values use one [`ConfusionMatrix`] per image.
///
/// # Examples
/// ```
/// use dinorad_metrics::{ConfusionMatrix, Overlap};
/// use ndarray::arr2;
/// let mut matrix = ConfusionMatrix::new(2)?;
/// matrix.update(arr2(&[[1u8, 1], [0, 0]]).view(), arr2(&[[1u8, 0], [0, 0]]).view())?;
/// let overlap = Overlap::new(&matrix);
/// assert_eq!(overlap.foreground_dice(), Some(2.0 / 3.0));
/// assert_eq!(overlap.foreground_jaccard(), Some(0.5));
/// // The reference's Jaccard forgets the false positive on background.
/// assert_eq!(overlap.reference_jaccard(), Some(1.0));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Dice 1945, <https://doi.org/10.2307/1932409>; Jaccard 1912,
/// <https://doi.org/10.1111/j.1469-8137.1912.tb05611.x>.
#[derive(Debug, Clone, Copy)]
pub struct Overlap<'a> {
    matrix: &'a ConfusionMatrix,
}

/// A Dice value and a Jaccard value, each named by its convention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverlapPair {
    /// Mean Dice over the classes that the convention counts; NaN if there are none.
    pub dice: f64,
    /// Mean Jaccard over the classes that the convention counts; NaN if there are none.
    pub jaccard: f64,
    /// Foreground classes in neither map.
    pub absent: Vec<usize>,
    /// Whose rules were followed.
    pub convention: Convention,
}

impl<'a> Overlap<'a> {
    /// Overlap of the pixels counted in `matrix`.
    pub fn new(matrix: &'a ConfusionMatrix) -> Self {
        Overlap { matrix }
    }

    fn counts(&self) -> Vec<BinaryCounts> {
        (0..self.matrix.classes()).map(|c| self.matrix.one_vs_rest(c)).collect()
    }

    /// Dice of every class, background included; a class in neither map is absent.
    pub fn dice_per_class(&self, convention: Convention) -> PerClass {
        self.per_class(BinaryCounts::f1, convention)
    }

    /// Jaccard of every class, background included; a class in neither map is absent (a 0 that the
    /// mean leaves out under torchmetrics).
    pub fn jaccard_per_class(&self, convention: Convention) -> PerClass {
        self.per_class(BinaryCounts::jaccard, convention)
    }

    fn per_class(&self, metric: impl Fn(&BinaryCounts) -> Option<f64>, convention: Convention) -> PerClass {
        let filler = if convention == Convention::TorchMetrics { 0.0 } else { f64::NAN };
        let entries = self.counts().into_iter().map(|c| {
            let value = metric(&c);
            let target_holds_it = c.true_positives + c.false_negatives > 0;
            let value = value.filter(|_| convention != Convention::Monai || target_holds_it);
            (value, value.is_some())
        });
        PerClass::new(entries.collect(), filler, convention)
    }

    /// Mean Dice over the foreground classes in either map; `None` if there are none.
    pub fn foreground_dice(&self) -> Option<f64> {
        mean(self.counts().iter().skip(1).filter_map(BinaryCounts::f1))
    }

    /// Mean Jaccard (intersection over union) over the foreground classes in either map; `None` if
    /// there are none.
    pub fn foreground_jaccard(&self) -> Option<f64> {
        mean(self.counts().iter().skip(1).filter_map(BinaryCounts::jaccard))
    }

    /// The reference's Dice: torchmetrics' with `ignore_index = 0`, macro. It leaves class 0 out of
    /// the mean but counts false positives on background, as [`Overlap::foreground_dice`]; without
    /// any foreground it is 0.
    pub fn reference_dice(&self) -> f64 {
        self.foreground_dice().unwrap_or(0.0)
    }

    /// The reference's Jaccard per class: torchmetrics' with `ignore_index = 0`, which drops every
    /// pixel whose *target* is background. Classes left without pixels are 0.
    pub fn reference_jaccard_per_class(&self) -> Vec<f64> {
        self.without_background().into_iter().map(|v| v.unwrap_or(0.0)).collect()
    }

    /// The mean of [`Overlap::reference_jaccard_per_class`] over the foreground classes left;
    /// `None` if the target holds no foreground. With two classes this is the recall of class 1.
    pub fn reference_jaccard(&self) -> Option<f64> {
        mean(self.without_background().into_iter().skip(1).flatten())
    }

    fn without_background(&self) -> Vec<Option<f64>> {
        let k = self.matrix.classes();
        let class = |c: usize| {
            let both = if c == 0 { 0 } else { self.matrix.count(c, c) };
            let called: u64 = (1..k).map(|t| self.matrix.count(t, c)).sum();
            let truth: u64 = if c == 0 { 0 } else { (0..k).map(|p| self.matrix.count(c, p)).sum() };
            ratio(both, called + truth - both)
        };
        (0..k).map(class).collect()
    }

    /// The pair that a convention reports: see [`Convention`].
    pub fn pair(&self, convention: Convention) -> OverlapPair {
        let counts = self.counts();
        let absent = (1..counts.len()).filter(|c| counts[*c].f1().is_none()).collect();
        let foreground = |all: PerClass| {
            let values = all.values.iter().enumerate().skip(1).filter(|(c, _)| !all.absent.contains(c));
            mean(values.map(|(_, v)| *v)).unwrap_or(f64::NAN)
        };
        let (dice, jaccard) = match convention {
            Convention::Strict | Convention::Monai => {
                (foreground(self.dice_per_class(convention)), foreground(self.jaccard_per_class(convention)))
            }
            Convention::Paper | Convention::TorchMetrics => {
                (self.reference_dice(), self.reference_jaccard().unwrap_or(f64::NAN))
            }
        };
        OverlapPair { dice, jaccard, absent, convention }
    }
}
