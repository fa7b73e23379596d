//! Do probabilities mean what they say: Brier score, log loss, expected calibration error.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{Error, Label, Result, Score, error::parameter, input};

fn check_probabilities<'a>(values: impl Iterator<Item = &'a f64>, columns: usize) -> Result<()> {
    for (i, v) in values.enumerate() {
        if !(0.0..=1.0).contains(v) {
            return Err(Error::Probability { case: i / columns, column: i % columns, got: *v });
        }
    }
    Ok(())
}

/// Brier score of one finding: mean squared difference of probability and 0/1 target.
///
/// # Errors
/// [`Error::Probability`] outside 0..1; [`Error::Shape`], [`Error::Empty`], [`Error::NaN`],
/// [`Error::Label`] for input that does not fit.
///
/// # Examples
/// ```
/// use ndarray::arr1;
/// let brier = dinorad_metrics::brier_score(arr1(&[0.9, 0.4]).view(), arr1(&[1u8, 0]).view())?;
/// assert!((brier - 0.085).abs() < 1e-12);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Brier 1950, <https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2>.
pub fn brier_score<S: Score, L: Label>(probabilities: ArrayView1<'_, S>, targets: ArrayView1<'_, L>) -> Result<f64> {
    let (p, y) = input::binary(probabilities, targets)?;
    check_probabilities(p.iter(), 1)?;
    Ok(p.iter().zip(&y).map(|(p, y)| (p - f64::from(u8::from(*y))).powi(2)).sum::<f64>() / p.len() as f64)
}

/// Brier score of several classes: mean over cases of the sum over classes of the squared
/// difference of probability and one-hot target (0 to 2, twice the binary score for two classes).
///
/// # Errors
/// As [`brier_score`].
pub fn multiclass_brier_score<S: Score, L: Label>(
    probabilities: ArrayView2<'_, S>,
    targets: ArrayView1<'_, L>,
) -> Result<f64> {
    let (p, y) = input::multiclass(probabilities, targets)?;
    check_probabilities(p.iter(), p.ncols())?;
    let squared = p.indexed_iter().map(|((i, c), p)| (p - f64::from(u8::from(y[i] == c))).powi(2));
    Ok(squared.sum::<f64>() / y.len() as f64)
}

/// Mean negative log likelihood of one finding, in nats. Probabilities are kept 2^-52 away from 0
/// and 1, as scikit-learn does for f64.
///
/// # Errors
/// As [`brier_score`].
pub fn log_loss<S: Score, L: Label>(probabilities: ArrayView1<'_, S>, targets: ArrayView1<'_, L>) -> Result<f64> {
    let (p, y) = input::binary(probabilities, targets)?;
    check_probabilities(p.iter(), 1)?;
    let of = |p: f64, y: bool| {
        let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        if y { -p.ln() } else { -(1.0 - p).ln() }
    };
    Ok(p.iter().zip(&y).map(|(p, y)| of(*p, *y)).sum::<f64>() / p.len() as f64)
}

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Number of cases.
    pub count: u64,
    /// Mean confidence of its cases; 0 in an empty bin.
    pub confidence: f64,
    /// Part of its cases that came true; 0 in an empty bin.
    pub accuracy: f64,
}

/// Cases binned by confidence, over any number of batches: what calibration errors and reliability
/// diagrams are made of.
///
/// Edges are `linspace(0, 1, bins + 1)` in f32, an edge belongs to the bin above it and confidence
/// 1 has a bin of its own, as in torchmetrics 1.0.3.
///
/// # Examples
/// ```
/// use dinorad_metrics::Calibration;
/// use ndarray::arr1;
/// let mut calibration = Calibration::new(10)?;
/// calibration.update_binary(arr1(&[0.95, 0.85, 0.15]).view(), arr1(&[1u8, 1, 0]).view())?;
/// assert!((calibration.expected_error()? - 0.35 / 3.0).abs() < 1e-12);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Guo et al. 2017, arXiv:1706.04599.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    edges: Vec<f32>,
    counts: Vec<u64>,
    confidences: Vec<f64>,
    hits: Vec<u64>,
}

impl Calibration {
    /// No case yet in `bins` bins.
    ///
    /// # Errors
    /// [`Error::Parameter`] for none or more than 2^20 bins.
    pub fn new(bins: usize) -> Result<Self> {
        if !(1..=1 << 20).contains(&bins) {
            return Err(parameter("bins", bins, "1 to 2^20"));
        }
        let n = bins + 1;
        Ok(Calibration { edges: linspace(n), counts: vec![0; n], confidences: vec![0.0; n], hits: vec![0; n] })
    }

    /// Adds probabilities of one finding: the confidence is the probability, also below one half.
    ///
    /// # Errors
    /// As [`brier_score`]; nothing is added then.
    pub fn update_binary<S: Score, L: Label>(
        &mut self,
        probabilities: ArrayView1<'_, S>,
        targets: ArrayView1<'_, L>,
    ) -> Result<()> {
        let (p, y) = input::binary(probabilities, targets)?;
        check_probabilities(p.iter(), 1)?;
        p.iter().zip(&y).for_each(|(p, y)| self.add(*p, *y));
        Ok(())
    }

    /// Adds class probabilities `(n, classes)`: the confidence is the largest, and it comes true if
    /// its class is the target.
    ///
    /// # Errors
    /// As [`brier_score`]; nothing is added then.
    pub fn update_multiclass<S: Score, L: Label>(
        &mut self,
        probabilities: ArrayView2<'_, S>,
        targets: ArrayView1<'_, L>,
    ) -> Result<()> {
        let (p, y) = input::multiclass(probabilities, targets)?;
        check_probabilities(p.iter(), p.ncols())?;
        for (row, target) in p.rows().into_iter().zip(y) {
            let best = input::argmax(row);
            self.add(row[best], best == target);
        }
        Ok(())
    }

    /// The bin that a confidence falls into.
    pub(crate) fn bin_of(&self, confidence: f64) -> usize {
        self.edges.partition_point(|e| f64::from(*e) <= confidence).saturating_sub(1)
    }

    fn add(&mut self, confidence: f64, hit: bool) {
        let bin = self.bin_of(confidence);
        self.counts[bin] += 1;
        self.confidences[bin] += confidence;
        self.hits[bin] += u64::from(hit);
    }

    /// The bin edges.
    pub fn edges(&self) -> &[f32] {
        &self.edges
    }

    /// The bins from low to high; the last one holds confidence 1.
    pub fn bins(&self) -> Vec<ReliabilityBin> {
        let bin = |i: usize| {
            let count = self.counts[i];
            if count == 0 {
                return ReliabilityBin::default();
            }
            let n = count as f64;
            ReliabilityBin { count, confidence: self.confidences[i] / n, accuracy: self.hits[i] as f64 / n }
        };
        (0..self.counts.len()).map(bin).collect()
    }

    /// Expected calibration error: mean over cases of the distance between a bin's accuracy and
    /// its confidence.
    ///
    /// # Errors
    /// [`Error::Empty`] without cases.
    pub fn expected_error(&self) -> Result<f64> {
        Ok(self.distances()?.iter().map(|(weight, apart)| weight * apart).sum())
    }

    /// Root of the mean over cases of that distance squared.
    ///
    /// # Errors
    /// [`Error::Empty`] without cases.
    pub fn root_mean_square_error(&self) -> Result<f64> {
        Ok(self.distances()?.iter().map(|(weight, apart)| weight * apart * apart).sum::<f64>().sqrt())
    }

    /// Maximum calibration error: the largest of those distances.
    ///
    /// # Errors
    /// [`Error::Empty`] without cases.
    pub fn maximum_error(&self) -> Result<f64> {
        Ok(self.distances()?.iter().fold(0.0, |m, (_, apart)| m.max(*apart)))
    }

    /// Weight of each occupied bin and its distance of accuracy and confidence.
    fn distances(&self) -> Result<Vec<(f64, f64)>> {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return Err(Error::Empty { what: "calibration" });
        }
        let occupied = self.bins().into_iter().filter(|b| b.count > 0);
        Ok(occupied.map(|b| (b.count as f64 / total as f64, (b.accuracy - b.confidence).abs())).collect())
    }
}

/// `n` edges from 0 to 1 in f32: from both ends to the middle, as torch computes them.
fn linspace(n: usize) -> Vec<f32> {
    let step = 1.0f32 / (n - 1) as f32;
    // one rounding from the upper end, as fused hardware gives torch
    let edge = |i: usize| if i < n / 2 { step * i as f32 } else { step.mul_add(-((n - 1 - i) as f32), 1.0) };
    (0..n).map(edge).collect()
}
