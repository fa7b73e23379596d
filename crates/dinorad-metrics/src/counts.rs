//! Right and wrong at a threshold, for one finding or for several labels.

use ndarray::{Array3, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{Convention, Label, PerClass, Result, Score, convention::ratio, error::parameter, input};

/// Cases by prediction and truth. A case is predicted positive if its score lies above the threshold.
///
/// Counts add up over batches. Ratios that are 0 / 0 are `None`; torchmetrics says 0 there.
///
/// # Examples
/// ```
/// use dinorad_metrics::BinaryCounts;
/// use ndarray::arr1;
/// let counts =
///     BinaryCounts::at_threshold(arr1(&[0.9, 0.5, 0.6]).view(), arr1(&[1u8, 1, 0]).view(), 0.5)?;
/// assert_eq!((counts.sensitivity(), counts.specificity()), (Some(0.5), Some(0.0)));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BinaryCounts {
    /// Positive and called so.
    pub true_positives: u64,
    /// Negative, called positive.
    pub false_positives: u64,
    /// Negative and called so.
    pub true_negatives: u64,
    /// Positive, called negative.
    pub false_negatives: u64,
}

impl BinaryCounts {
    /// Counts one column of scores.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::Empty`](crate::Error::Empty),
    /// [`Error::NaN`](crate::Error::NaN), [`Error::Label`](crate::Error::Label) for input that does
    /// not fit, [`Error::Parameter`](crate::Error::Parameter) for a NaN threshold.
    pub fn at_threshold<S: Score, L: Label>(
        scores: ArrayView1<'_, S>,
        targets: ArrayView1<'_, L>,
        threshold: f64,
    ) -> Result<Self> {
        let mut counts = Self::default();
        counts.update(scores, targets, threshold)?;
        Ok(counts)
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// As [`BinaryCounts::at_threshold`]; nothing is added then.
    pub fn update<S: Score, L: Label>(
        &mut self,
        scores: ArrayView1<'_, S>,
        targets: ArrayView1<'_, L>,
        threshold: f64,
    ) -> Result<()> {
        check_threshold(threshold)?;
        let (scores, positive) = input::binary(scores, targets)?;
        scores.iter().zip(&positive).for_each(|(s, t)| self.add(*s > threshold, *t, 1));
        Ok(())
    }

    fn add(&mut self, predicted: bool, truth: bool, times: u64) {
        match (predicted, truth) {
            (true, true) => self.true_positives += times,
            (true, false) => self.false_positives += times,
            (false, false) => self.true_negatives += times,
            (false, true) => self.false_negatives += times,
        }
    }

    /// The counts of both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        BinaryCounts {
            true_positives: self.true_positives + other.true_positives,
            false_positives: self.false_positives + other.false_positives,
            true_negatives: self.true_negatives + other.true_negatives,
            false_negatives: self.false_negatives + other.false_negatives,
        }
    }

    /// Number of cases.
    pub fn total(&self) -> u64 {
        self.true_positives + self.false_positives + self.true_negatives + self.false_negatives
    }

    /// Right among all.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.true_positives + self.true_negatives, self.total())
    }

    /// Called positive among the positives (recall); `None` without positives.
    pub fn sensitivity(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Called negative among the negatives; `None` without negatives.
    pub fn specificity(&self) -> Option<f64> {
        ratio(self.true_negatives, self.true_negatives + self.false_positives)
    }

    /// Positive among those called so (positive predictive value); `None` if none was.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Negative among those called so; `None` if none was.
    pub fn negative_predictive_value(&self) -> Option<f64> {
        ratio(self.true_negatives, self.true_negatives + self.false_negatives)
    }

    /// Harmonic mean of precision and sensitivity, which is also Dice; `None` without positives,
    /// true or called.
    pub fn f1(&self) -> Option<f64> {
        let twice = 2 * self.true_positives;
        ratio(twice, twice + self.false_positives + self.false_negatives)
    }

    /// Intersection over union; `None` without positives, true or called.
    pub fn jaccard(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)
    }

    /// Mean of sensitivity and specificity; `None` if either is.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        Some((self.sensitivity()? + self.specificity()?) / 2.0)
    }

    /// Matthews correlation coefficient; `None` if truth or prediction is constant.
    ///
    /// # Source
    /// Matthews 1975, <https://doi.org/10.1016/0005-2795(75)90109-9>.
    pub fn matthews_correlation(&self) -> Option<f64> {
        let [tp, fp, tn, fn_] =
            [self.true_positives, self.false_positives, self.true_negatives, self.false_negatives].map(|v| v as f64);
        let scale = ((tp + fp) * (tp + fn_)).sqrt() * ((tn + fp) * (tn + fn_)).sqrt();
        (scale > 0.0).then(|| (tp * tn - fp * fn_) / scale)
    }

    /// Cohen's kappa; `None` if chance agreement is complete.
    ///
    /// # Source
    /// Cohen 1960, <https://doi.org/10.1177/001316446002000104>.
    pub fn cohens_kappa(&self) -> Option<f64> {
        let [tp, fp, tn, fn_] =
            [self.true_positives, self.false_positives, self.true_negatives, self.false_negatives].map(|v| v as f64);
        let n = tp + fp + tn + fn_;
        let chance = ((tp + fp) * (tp + fn_) + (tn + fp) * (tn + fn_)) / (n * n);
        (n > 0.0 && chance < 1.0).then(|| ((tp + tn) / n - chance) / (1.0 - chance))
    }

    /// `[[tn, fp], [fn, tp]]`.
    pub fn matrix(&self) -> [[u64; 2]; 2] {
        [[self.true_negatives, self.false_positives], [self.false_negatives, self.true_positives]]
    }
}

/// A metric of right and wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CountMetric {
    /// Right among all. For a class of several: its recall, as in torchmetrics.
    Accuracy,
    /// Called positive among the positives.
    Recall,
    /// Called negative among the negatives.
    Specificity,
    /// Positive among those called so.
    Precision,
    /// Harmonic mean of precision and recall.
    F1,
}

impl CountMetric {
    /// The metric of these counts; `None` for 0 / 0.
    pub fn of(self, counts: &BinaryCounts) -> Option<f64> {
        match self {
            CountMetric::Accuracy => counts.accuracy(),
            CountMetric::Recall => counts.sensitivity(),
            CountMetric::Specificity => counts.specificity(),
            CountMetric::Precision => counts.precision(),
            CountMetric::F1 => counts.f1(),
        }
    }
}

/// Counts of several labels, each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MultilabelCounts {
    labels: Vec<BinaryCounts>,
}

impl MultilabelCounts {
    /// No case yet of `labels` labels.
    pub fn new(labels: usize) -> Self {
        MultilabelCounts { labels: vec![BinaryCounts::default(); labels] }
    }

    /// Counts `(n, labels)` scores against 0/1 targets of the same shape.
    ///
    /// # Errors
    /// As [`BinaryCounts::at_threshold`].
    pub fn at_threshold<S: Score, L: Label>(
        scores: ArrayView2<'_, S>,
        targets: ArrayView2<'_, L>,
        threshold: f64,
    ) -> Result<Self> {
        let mut counts = Self::new(scores.ncols());
        counts.update(scores, targets, threshold)?;
        Ok(counts)
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// As [`BinaryCounts::at_threshold`], also for another number of labels; nothing is added then.
    pub fn update<S: Score, L: Label>(
        &mut self,
        scores: ArrayView2<'_, S>,
        targets: ArrayView2<'_, L>,
        threshold: f64,
    ) -> Result<()> {
        check_threshold(threshold)?;
        if scores.ncols() != self.labels.len() {
            let (expected, got) = (vec![scores.nrows(), self.labels.len()], scores.shape().to_vec());
            return Err(crate::Error::Shape { what: "scores", expected, got });
        }
        let (scores, positive) = input::multilabel(scores, targets)?;
        for (row, truth) in scores.rows().into_iter().zip(positive.rows()) {
            for ((counts, score), truth) in self.labels.iter_mut().zip(row).zip(truth) {
                counts.add(*score > threshold, *truth, 1);
            }
        }
        Ok(())
    }

    /// Adds `times` cases with these labels called and true.
    pub(crate) fn add_row(&mut self, called: ArrayView1<'_, bool>, truth: ArrayView1<'_, bool>, times: u64) {
        for ((counts, called), truth) in self.labels.iter_mut().zip(called).zip(truth) {
            counts.add(*called, *truth, times);
        }
    }

    /// The counts of each label.
    pub fn labels(&self) -> &[BinaryCounts] {
        &self.labels
    }

    /// All labels pooled (micro average).
    pub fn pooled(&self) -> BinaryCounts {
        self.labels.iter().fold(BinaryCounts::default(), |sum, c| sum.plus(c))
    }

    /// A metric of each label.
    pub fn per_label(&self, metric: CountMetric, convention: Convention) -> PerClass {
        let values: Vec<_> = self.labels.iter().map(|c| metric.of(c)).collect();
        match convention {
            Convention::TorchMetrics | Convention::Paper => {
                PerClass::new(values.into_iter().map(|v| (v, true)).collect(), 0.0, convention)
            }
            Convention::Strict | Convention::Monai => PerClass::left_out(values, convention),
        }
    }

    /// `(labels, 2, 2)`, each `[[tn, fp], [fn, tp]]`.
    pub fn matrices(&self) -> Array3<u64> {
        Array3::from_shape_fn((self.labels.len(), 2, 2), |(l, t, p)| self.labels[l].matrix()[t][p])
    }
}

fn check_threshold(threshold: f64) -> Result<()> {
    if threshold.is_nan() { Err(parameter("threshold", threshold, "a number")) } else { Ok(()) }
}
