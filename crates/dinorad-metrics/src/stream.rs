//! Metrics over batches: what must be kept until the last one.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewD};

use crate::{BinaryCounts, Calibration, ConfusionMatrix, Error, Label, MultilabelCounts, Result, Score, input};

/// A metric whose state adds up over batches. How the cases are cut into batches never changes it.
///
/// Implemented by stores of scores (rank metrics need all of them) and by counters. The counters'
/// own `update` methods take more kinds of arrays; this trait is for code that is generic over them.
pub trait Metric {
    /// One batch.
    type Batch<'a>;
    /// What comes out.
    type Value;
    /// Adds a batch.
    ///
    /// # Errors
    /// Those of the metric's input; nothing is added then.
    fn update(&mut self, batch: Self::Batch<'_>) -> Result<()>;
    /// The value over all batches so far.
    ///
    /// # Errors
    /// Those of the metric, such as [`Error::Empty`] before the first batch.
    fn compute(&self) -> Result<Self::Value>;
}

/// Scores of one finding, collected over batches.
///
/// # Examples
/// ```
/// use dinorad_metrics::{BinaryScores, auroc};
/// use ndarray::arr1;
/// let mut all = BinaryScores::default();
/// all.update(arr1(&[0.1f32, 0.4]).view(), arr1(&[0u8, 0]).view())?;
/// all.update(arr1(&[0.35f32, 0.8]).view(), arr1(&[1u8, 1]).view())?;
/// assert_eq!(auroc(all.scores(), all.targets())?, 0.75);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BinaryScores {
    scores: Vec<f64>,
    targets: Vec<usize>,
}

impl BinaryScores {
    /// Adds a batch.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Empty`], [`Error::NaN`], [`Error::Label`] for input that does not
    /// fit; nothing is added then.
    pub fn update<S: Score, L: Label>(&mut self, scores: ArrayView1<'_, S>, targets: ArrayView1<'_, L>) -> Result<()> {
        let (scores, positive) = input::binary(scores, targets)?;
        self.scores.extend(scores);
        self.targets.extend(positive.into_iter().map(usize::from));
        Ok(())
    }

    /// All scores so far.
    pub fn scores(&self) -> ArrayView1<'_, f64> {
        ArrayView1::from(&self.scores)
    }

    /// All 0/1 targets so far.
    pub fn targets(&self) -> ArrayView1<'_, usize> {
        ArrayView1::from(&self.targets)
    }
}

/// Class scores `(n, classes)` with class indices, collected over batches.
#[derive(Debug, Clone, PartialEq)]
pub struct MulticlassScores {
    scores: Array2<f64>,
    targets: Array1<usize>,
}

impl MulticlassScores {
    /// No case yet of `classes` classes.
    pub fn new(classes: usize) -> Self {
        MulticlassScores { scores: Array2::zeros((0, classes)), targets: Array1::zeros(0) }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Empty`], [`Error::NaN`], [`Error::Label`] for input that does not
    /// fit; nothing is added then.
    pub fn update<S: Score, L: Label>(&mut self, scores: ArrayView2<'_, S>, targets: ArrayView1<'_, L>) -> Result<()> {
        let (scores, targets) = input::multiclass(scores, targets)?;
        append(&mut self.scores, scores)?;
        self.targets.append(ndarray::Axis(0), ArrayView1::from(&targets)).map_err(|_| Error::Empty { what: "targets" })
    }

    /// All scores so far.
    pub fn scores(&self) -> ArrayView2<'_, f64> {
        self.scores.view()
    }

    /// All class indices so far.
    pub fn targets(&self) -> ArrayView1<'_, usize> {
        self.targets.view()
    }
}

/// Label scores with 0/1 targets, both `(n, labels)`, collected over batches.
#[derive(Debug, Clone, PartialEq)]
pub struct MultilabelScores {
    scores: Array2<f64>,
    targets: Array2<usize>,
}

impl MultilabelScores {
    /// No case yet of `labels` labels.
    pub fn new(labels: usize) -> Self {
        MultilabelScores { scores: Array2::zeros((0, labels)), targets: Array2::zeros((0, labels)) }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Empty`], [`Error::NaN`], [`Error::Label`] for input that does not
    /// fit; nothing is added then.
    pub fn update<S: Score, L: Label>(&mut self, scores: ArrayView2<'_, S>, targets: ArrayView2<'_, L>) -> Result<()> {
        let (scores, positive) = input::multilabel(scores, targets)?;
        append(&mut self.scores, scores)?;
        append(&mut self.targets, positive.mapv(usize::from))
    }

    /// All scores so far.
    pub fn scores(&self) -> ArrayView2<'_, f64> {
        self.scores.view()
    }

    /// All 0/1 targets so far.
    pub fn targets(&self) -> ArrayView2<'_, usize> {
        self.targets.view()
    }
}

fn append<T: Clone>(all: &mut Array2<T>, batch: Array2<T>) -> Result<()> {
    let (expected, got) = (vec![batch.nrows(), all.ncols()], batch.shape().to_vec());
    all.append(ndarray::Axis(0), batch.view()).map_err(|_| Error::Shape { what: "scores", expected, got })
}

impl Metric for BinaryScores {
    type Batch<'a> = (ArrayView1<'a, f64>, ArrayView1<'a, usize>);
    /// AUROC.
    type Value = f64;

    fn update(&mut self, (scores, targets): Self::Batch<'_>) -> Result<()> {
        self.update(scores, targets)
    }

    fn compute(&self) -> Result<f64> {
        crate::auroc(self.scores(), self.targets())
    }
}

impl Metric for MulticlassScores {
    type Batch<'a> = (ArrayView2<'a, f64>, ArrayView1<'a, usize>);
    /// AUROC of each class against the rest, `strict`.
    type Value = crate::PerClass;

    fn update(&mut self, (scores, targets): Self::Batch<'_>) -> Result<()> {
        self.update(scores, targets)
    }

    fn compute(&self) -> Result<crate::PerClass> {
        crate::multiclass_auroc(self.scores(), self.targets(), crate::Convention::Strict)
    }
}

impl Metric for MultilabelScores {
    type Batch<'a> = (ArrayView2<'a, f64>, ArrayView2<'a, usize>);
    /// AUROC of each label, `strict`.
    type Value = crate::PerClass;

    fn update(&mut self, (scores, targets): Self::Batch<'_>) -> Result<()> {
        self.update(scores, targets)
    }

    fn compute(&self) -> Result<crate::PerClass> {
        crate::multilabel_auroc(self.scores(), self.targets(), crate::Convention::Strict)
    }
}

impl Metric for ConfusionMatrix {
    /// Predicted and true labels.
    type Batch<'a> = (ArrayViewD<'a, u8>, ArrayViewD<'a, u8>);
    /// The counts.
    type Value = Array2<u64>;

    fn update(&mut self, (predictions, targets): Self::Batch<'_>) -> Result<()> {
        self.update(predictions, targets)
    }

    fn compute(&self) -> Result<Array2<u64>> {
        Ok(self.counts())
    }
}

impl Metric for BinaryCounts {
    /// Probabilities, judged at one half, and 0/1 targets.
    type Batch<'a> = (ArrayView1<'a, f64>, ArrayView1<'a, usize>);
    type Value = BinaryCounts;

    fn update(&mut self, (scores, targets): Self::Batch<'_>) -> Result<()> {
        self.update(scores, targets, 0.5)
    }

    fn compute(&self) -> Result<BinaryCounts> {
        Ok(*self)
    }
}

impl Metric for MultilabelCounts {
    /// Probabilities, judged at one half, and 0/1 targets.
    type Batch<'a> = (ArrayView2<'a, f64>, ArrayView2<'a, usize>);
    type Value = MultilabelCounts;

    fn update(&mut self, (scores, targets): Self::Batch<'_>) -> Result<()> {
        self.update(scores, targets, 0.5)
    }

    fn compute(&self) -> Result<MultilabelCounts> {
        Ok(self.clone())
    }
}

impl Metric for Calibration {
    /// Class probabilities and class indices.
    type Batch<'a> = (ArrayView2<'a, f64>, ArrayView1<'a, usize>);
    /// Expected calibration error.
    type Value = f64;

    fn update(&mut self, (probabilities, targets): Self::Batch<'_>) -> Result<()> {
        self.update_multiclass(probabilities, targets)
    }

    fn compute(&self) -> Result<f64> {
        self.expected_error()
    }
}
