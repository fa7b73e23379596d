//! Confusion matrix of several classes.

use ndarray::{Array1, Array2, ArrayView, ArrayView1, ArrayView2, Dimension};
use serde::{Deserialize, Serialize};

use crate::{
    BinaryCounts, Convention, CountMetric, Error, Label, PerClass, Result, Score, convention::ratio, error::parameter,
    input,
};

/// Cases, pixels or voxels by true class (rows) and predicted class (columns).
///
/// Counts add up over batches of any shape.
///
/// # Examples
/// ```
/// use dinorad_metrics::ConfusionMatrix;
/// use ndarray::{arr1, arr2};
/// let mut matrix = ConfusionMatrix::new(3)?;
/// matrix.update(arr1(&[0u8, 2]).view(), arr1(&[0u8, 1]).view())?; // predictions, targets
/// matrix.update(arr1(&[1u8]).view(), arr1(&[1u8]).view())?;
/// assert_eq!(matrix.counts(), arr2(&[[1, 0, 0], [0, 1, 1], [0, 0, 0]]));
/// assert_eq!(matrix.accuracy(), Some(2.0 / 3.0));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionMatrix {
    classes: usize,
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// No case yet of `classes` classes.
    ///
    /// # Errors
    /// [`Error::Parameter`] for none or more than 65,536 classes.
    pub fn new(classes: usize) -> Result<Self> {
        if !(1..=65_536).contains(&classes) {
            return Err(parameter("classes", classes, "1 to 65536"));
        }
        Ok(Self::of_checked(classes))
    }

    /// [`ConfusionMatrix::new`] of as many classes as a matrix of scores had columns.
    pub(crate) fn of_checked(classes: usize) -> Self {
        ConfusionMatrix { classes, counts: vec![0; classes * classes] }
    }

    /// Counts class scores `(n, classes)`: the class of the largest is predicted, a tie goes to the
    /// lowest index.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Empty`], [`Error::NaN`], [`Error::Label`] for input that does not fit.
    pub fn from_scores<S: Score, L: Label>(scores: ArrayView2<'_, S>, targets: ArrayView1<'_, L>) -> Result<Self> {
        let (scores, targets) = input::multiclass(scores, targets)?;
        let mut matrix = Self::new(scores.ncols())?;
        for (row, target) in scores.rows().into_iter().zip(targets) {
            matrix.counts[target * matrix.classes + input::argmax(row)] += 1;
        }
        Ok(matrix)
    }

    /// Adds predicted and true labels of the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] for different shapes, [`Error::Label`] for a label outside the classes;
    /// nothing is added then.
    pub fn update<P: Label, T: Label, D: Dimension>(
        &mut self,
        predictions: ArrayView<'_, P, D>,
        targets: ArrayView<'_, T, D>,
    ) -> Result<()> {
        if predictions.shape() != targets.shape() {
            let (expected, got) = (targets.shape().to_vec(), predictions.shape().to_vec());
            return Err(Error::Shape { what: "predictions", expected, got });
        }
        let mut added = vec![0u64; self.counts.len()];
        for (i, (p, t)) in predictions.iter().zip(&targets).enumerate() {
            let (p, t) = (input::index_below(i, *p, self.classes)?, input::index_below(i, *t, self.classes)?);
            added[t * self.classes + p] += 1;
        }
        self.counts.iter_mut().zip(added).for_each(|(c, a)| *c += a);
        Ok(())
    }

    /// Adds the counts of another matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.classes != other.classes {
            let (expected, got) = (vec![self.classes], vec![other.classes]);
            return Err(Error::Shape { what: "classes", expected, got });
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(c, a)| *c += a);
        Ok(())
    }

    /// Adds `times` cases of a class that were called another; both below the number of classes.
    pub(crate) fn add(&mut self, target: usize, prediction: usize, times: u64) {
        self.counts[target * self.classes + prediction] += times;
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The counts, rows by true class.
    pub fn counts(&self) -> Array2<u64> {
        Array2::from_shape_fn((self.classes, self.classes), |(t, p)| self.count(t, p))
    }

    /// How often class `target` was called `prediction`.
    ///
    /// # Panics
    /// If a class does not exist.
    pub fn count(&self, target: usize, prediction: usize) -> u64 {
        self.counts[target * self.classes + prediction]
    }

    /// Number of cases.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// True and predicted number of cases of each class.
    fn margins(&self) -> (Array1<u64>, Array1<u64>) {
        let counts = self.counts();
        (counts.sum_axis(ndarray::Axis(1)), counts.sum_axis(ndarray::Axis(0)))
    }

    /// One class against the rest.
    ///
    /// # Panics
    /// If the class does not exist.
    pub fn one_vs_rest(&self, class: usize) -> BinaryCounts {
        let (truth, called) = self.margins();
        let tp = self.count(class, class);
        BinaryCounts {
            true_positives: tp,
            false_positives: called[class] - tp,
            false_negatives: truth[class] - tp,
            true_negatives: self.total() + tp - truth[class] - called[class],
        }
    }

    /// Right among all (micro average); `None` without cases.
    pub fn accuracy(&self) -> Option<f64> {
        ratio((0..self.classes).map(|c| self.count(c, c)).sum(), self.total())
    }

    /// A metric of each class against the rest; [`CountMetric::Accuracy`] of a class is its recall.
    pub fn per_class(&self, metric: CountMetric, convention: Convention) -> PerClass {
        let metric = if metric == CountMetric::Accuracy { CountMetric::Recall } else { metric };
        let counts = (0..self.classes).map(|c| self.one_vs_rest(c));
        per_class(counts.map(|c| (metric.of(&c), c)).collect(), convention)
    }

    /// Matthews correlation coefficient of several classes; `None` if truth or prediction is
    /// constant.
    ///
    /// # Source
    /// Gorodkin 2004, <https://doi.org/10.1016/j.compbiolchem.2004.09.006>.
    pub fn matthews_correlation(&self) -> Option<f64> {
        let (truth, called) = self.margins();
        let n = self.total() as f64;
        let right = (0..self.classes).map(|c| self.count(c, c)).sum::<u64>() as f64;
        let product =
            |a: &Array1<u64>, b: &Array1<u64>| -> f64 { a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum() };
        let scale = (n * n - product(&called, &called)).sqrt() * (n * n - product(&truth, &truth)).sqrt();
        (scale > 0.0).then(|| (right * n - product(&truth, &called)) / scale)
    }

    /// Cohen's kappa; `None` if chance disagreement is zero.
    ///
    /// # Source
    /// Cohen 1968, <https://doi.org/10.1037/h0026256>.
    pub fn cohens_kappa(&self, weights: KappaWeights) -> Option<f64> {
        let (truth, called) = self.margins();
        let n = self.total() as f64;
        let (mut seen, mut chance) = (0.0, 0.0);
        for t in 0..self.classes {
            for p in 0..self.classes {
                let apart = t.abs_diff(p) as f64;
                let w = match weights {
                    KappaWeights::None => f64::from(u8::from(t != p)),
                    KappaWeights::Linear => apart,
                    KappaWeights::Quadratic => apart * apart,
                };
                seen += w * self.count(t, p) as f64;
                chance += w * truth[t] as f64 * called[p] as f64 / n;
            }
        }
        (chance > 0.0).then(|| 1.0 - seen / chance)
    }
}

/// How much a confusion of two classes counts in Cohen's kappa.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KappaWeights {
    /// All the same.
    #[default]
    None,
    /// By the distance of the class indices.
    Linear,
    /// By its square.
    Quadratic,
}

/// The convention's rules for a metric of one class against the rest.
pub(crate) fn per_class(values: Vec<(Option<f64>, BinaryCounts)>, convention: Convention) -> PerClass {
    let entries = values.into_iter().map(|(value, c)| {
        let seen = c.true_positives + c.false_negatives;
        match convention {
            // torchmetrics leaves out classes that are neither targets nor predictions
            Convention::TorchMetrics | Convention::Paper => {
                // absent is said of every class without targets; its value stays what it is
                (value, seen + c.false_positives > 0)
            }
            Convention::Strict | Convention::Monai => {
                let value = value.filter(|_| seen > 0);
                (value, value.is_some())
            }
        }
    });
    let filler = match convention {
        Convention::TorchMetrics | Convention::Paper => 0.0,
        Convention::Strict | Convention::Monai => f64::NAN,
    };
    PerClass::new(entries.collect(), filler, convention)
}
