//! Scores sorted once, to be judged many times under different case weights.

use ndarray::{ArrayView1, ArrayView2, Axis};

use crate::{Error, Label, Result, Score, input};

/// The scores of one finding in ascending order with their targets.
///
/// Sorting is the expensive part of AUROC and average precision. A bootstrap sorts once and then
/// reads the order with the weights of each draw, in `O(n)`.
///
/// # Examples
/// ```
/// use dinorad_metrics::RankedScores;
/// use ndarray::arr1;
/// let ranked = RankedScores::new(arr1(&[0.1, 0.8, 0.8, 0.9]).view(), arr1(&[0u8, 0, 1, 1]).view())?;
/// assert_eq!(ranked.auroc(), Some(0.875));
/// assert_eq!(ranked.weighted_auroc(&[1, 0, 1, 2]), Some(1.0)); // a draw without the second case
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RankedScores {
    /// Case index times two, plus one if it is positive; by ascending score.
    order: Vec<u32>,
    /// End in `order` of every group of equal scores.
    ends: Vec<u32>,
    /// The score of every group.
    scores: Vec<f64>,
    positives: usize,
}

/// What one threshold accepts: everything with at least its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) score: f64,
    pub(crate) positives: u64,
    pub(crate) negatives: u64,
}

impl RankedScores {
    /// Sorts the scores of one finding.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Empty`], [`Error::NaN`], [`Error::Label`] for input that does not
    /// fit; [`Error::Parameter`] beyond 2^31 cases.
    pub fn new<S: Score, L: Label>(scores: ArrayView1<'_, S>, targets: ArrayView1<'_, L>) -> Result<Self> {
        let (scores, positive) = input::binary(scores, targets)?;
        Self::from_parts(&scores, &positive)
    }

    pub(crate) fn from_parts(scores: &[f64], positive: &[bool]) -> Result<Self> {
        if scores.len() > (u32::MAX / 2) as usize {
            return Err(crate::error::parameter("cases", scores.len(), "at most 2^31"));
        }
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_unstable_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]));
        let mut ends = Vec::new();
        let mut distinct = Vec::new();
        for (i, at) in order.iter().enumerate() {
            let score = scores[*at as usize];
            // == and not total_cmp: -0.0 ties with 0.0
            if distinct.last() != Some(&score) {
                distinct.push(score);
                ends.push(0);
            }
            if let Some(end) = ends.last_mut() {
                *end = i as u32 + 1;
            }
        }
        for at in &mut order {
            *at = 2 * *at + u32::from(positive[*at as usize]);
        }
        let positives = positive.iter().filter(|p| **p).count();
        Ok(RankedScores { order, ends, scores: distinct, positives })
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no case (never true for scores made by [`RankedScores::new`]).
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Number of positive cases.
    pub fn positives(&self) -> usize {
        self.positives
    }

    /// Number of negative cases.
    pub fn negatives(&self) -> usize {
        self.len() - self.positives
    }

    pub(crate) fn one_class(&self) -> Error {
        Error::OneClass { positives: self.positives(), negatives: self.negatives(), needed: 1 }
    }

    /// AUROC, ties counted half; `None` without positives or negatives.
    pub fn auroc(&self) -> Option<f64> {
        self.auroc_by(|_| 1)
    }

    /// AUROC with case `i` counted `weights[i]` times; `None` if positives or negatives have no
    /// weight, or there are too few weights.
    pub fn weighted_auroc(&self, weights: &[u32]) -> Option<f64> {
        if weights.len() < self.len() {
            return None;
        }
        self.auroc_by(|case| u64::from(weights[case]))
    }

    fn auroc_by(&self, weight: impl Fn(usize) -> u64) -> Option<f64> {
        // twice the number of pairs in order; u128, as weights may be anything
        let (mut twice, mut below, mut above) = (0u128, 0u64, 0u64);
        let mut start = 0;
        for end in &self.ends {
            let (mut positives, mut negatives) = (0u64, 0u64);
            for packed in &self.order[start..*end as usize] {
                let w = weight((packed >> 1) as usize);
                let positive = u64::from(packed & 1);
                positives += w * positive;
                negatives += w * (1 - positive);
            }
            twice += u128::from(positives) * u128::from(2 * below + negatives);
            below += negatives;
            above += positives;
            start = *end as usize;
        }
        let pairs = 2 * u128::from(below) * u128::from(above);
        (pairs > 0).then(|| twice as f64 / pairs as f64)
    }

    /// Average precision: the mean over positives of the precision at their score, without
    /// interpolation; `None` without positives.
    pub fn average_precision(&self) -> Option<f64> {
        precision_sum(&self.accepted(|_| 1))
    }

    /// Average precision with case `i` counted `weights[i]` times; `None` if positives have no
    /// weight, or there are too few weights.
    pub fn weighted_average_precision(&self, weights: &[u32]) -> Option<f64> {
        if weights.len() < self.len() {
            return None;
        }
        precision_sum(&self.accepted(|case| u64::from(weights[case])))
    }

    /// What each distinct score accepts as a threshold, from the highest score down.
    pub(crate) fn accepted(&self, weight: impl Fn(usize) -> u64) -> Vec<Accepted> {
        let (mut positives, mut negatives) = (0u64, 0u64);
        let mut out = Vec::with_capacity(self.ends.len());
        for (group, score) in self.scores.iter().enumerate().rev() {
            let start = if group == 0 { 0 } else { self.ends[group - 1] as usize };
            for packed in &self.order[start..self.ends[group] as usize] {
                let w = weight((packed >> 1) as usize);
                if packed & 1 == 1 { positives += w } else { negatives += w }
            }
            out.push(Accepted { score: *score, positives, negatives });
        }
        out
    }
}

fn precision_sum(accepted: &[Accepted]) -> Option<f64> {
    let total = accepted.last()?.positives;
    let (mut sum, mut before) = (0.0, 0);
    for a in accepted {
        if a.positives > before {
            let precision = a.positives as f64 / (a.positives + a.negatives) as f64;
            sum += (a.positives - before) as f64 * precision;
            before = a.positives;
        }
    }
    (total > 0).then(|| sum / total as f64)
}

/// A score of each class against the rest, `None` where it is not defined; `scores` is `(n, classes)`,
/// `targets` `(n,)` class indices.
pub(crate) fn each_class<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView1<'_, L>,
    score: impl Fn(&RankedScores) -> Option<f64>,
) -> Result<Vec<Option<f64>>> {
    let (scores, targets) = input::multiclass(scores, targets)?;
    let scores = input::softmax_unless_unit(scores);
    let class = |c: usize| {
        let positive: Vec<bool> = targets.iter().map(|t| *t == c).collect();
        Ok(score(&RankedScores::from_parts(&scores.column(c).to_vec(), &positive)?))
    };
    (0..scores.ncols()).map(class).collect()
}

/// The same of each label; `scores` and `targets` are `(n, labels)`.
pub(crate) fn each_label<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView2<'_, L>,
    score: impl Fn(&RankedScores) -> Option<f64>,
) -> Result<Vec<Option<f64>>> {
    let (scores, targets) = input::multilabel(scores, targets)?;
    let label = |(s, t): (ArrayView1<'_, f64>, ArrayView1<'_, bool>)| {
        Ok(score(&RankedScores::from_parts(&s.to_vec(), &t.to_vec())?))
    };
    scores.axis_iter(Axis(1)).zip(targets.axis_iter(Axis(1))).map(label).collect()
}
