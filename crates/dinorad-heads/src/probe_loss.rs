//! Losses of many heads on one strip of rows, and their gradients.

use std::ops::Range;

use dinorad_kernels::{
    probe::STRIP,
    scalar::{exp, ln_1p},
};
use ndarray::Array2;
use pulp::{Simd, WithSimd};

use crate::{Error, ProbeTask, Result, Targets};
use dinorad_nn::loss::Reduction;

/// The answers of one batch.
pub(crate) struct Answers {
    rows: Kind,
    /// Logits of a head.
    k: usize,
    /// Weight of one value in the loss.
    scale: f32,
}

enum Kind {
    /// `(rows, k)` of 0 and 1 for binary cross-entropy.
    Findings(Array2<f32>),
    /// Classes for cross-entropy.
    Classes(Vec<usize>),
}

impl Answers {
    /// Those of the rows at `batch`, which are within `y`.
    pub(crate) fn new(task: ProbeTask, y: &Targets, batch: &[usize], reduction: Reduction) -> Result<Self> {
        let (n, k) = (batch.len() as f32, task.logits());
        let (rows, scale) = match (task, y) {
            (ProbeTask::Binary, Targets::Classes { labels, .. }) => {
                (Kind::Findings(Array2::from_shape_fn((batch.len(), 1), |(i, _)| labels[batch[i]] as f32)), 1.0 / n)
            }
            (ProbeTask::Multiclass(_), Targets::Classes { labels, .. }) => {
                (Kind::Classes(batch.iter().map(|i| labels[*i] as usize).collect()), 1.0 / n)
            }
            (ProbeTask::Multilabel(_), Targets::Findings(labels)) => {
                let scale = match reduction {
                    Reduction::Mean => 1.0 / (n * k as f32),
                    Reduction::BatchSum => 1.0 / k as f32,
                };
                (
                    Kind::Findings(Array2::from_shape_fn((batch.len(), k), |(i, j)| f32::from(labels[[batch[i], j]]))),
                    scale,
                )
            }
            (_, other) => {
                let expected = if matches!(task, ProbeTask::Multilabel(_)) { "multilabel" } else { "class" };
                return Err(Error::TargetKind { head: "linear probe", expected, got: other.kind() });
            }
        };
        if let Kind::Classes(classes) = &rows
            && let Some(row) = classes.iter().position(|class| *class >= k)
        {
            let got = classes[row].to_string();
            return Err(Error::Label { row, got, expected: format!("a class below {k}") });
        }
        Ok(Answers { rows, k, scale })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        match &self.rows {
            Kind::Findings(y) => y.nrows(),
            Kind::Classes(y) => y.len(),
        }
    }

    /// Weight of one value in the loss.
    pub(crate) fn scale(&self) -> f64 {
        f64::from(self.scale)
    }
}

/// Replaces the logits of a panel's strip by the loss's gradient and adds up the losses.
pub(crate) struct StripLoss<'a> {
    pub(crate) answers: &'a Answers,
    /// The first row of the strip in the batch.
    pub(crate) first: usize,
    /// Eight rows of `stride` values.
    pub(crate) logits: &'a mut [f32],
    pub(crate) stride: usize,
    /// The columns that belong to heads. Those after them are 0 and stay so.
    pub(crate) used: Range<usize>,
    /// The place of the first of them within its head.
    pub(crate) phase: usize,
    /// A sum over the rows for every used column, not yet scaled; a head's loss is that of its
    /// columns. Empty where nobody asks for the loss.
    pub(crate) losses: &'a mut [f64],
    /// Room for the answers of the used columns.
    pub(crate) scratch: &'a mut Vec<f32>,
}

impl WithSimd for StripLoss<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (k, scale) = (self.answers.k, self.answers.scale);
        self.losses.fill(0.0);
        self.scratch.resize(self.used.len(), 0.0);
        for (row, logits) in self.logits.chunks_exact_mut(self.stride).take(STRIP).enumerate() {
            let (row, z) = (self.first + row, &mut logits[self.used.clone()]);
            match &self.answers.rows {
                Kind::Findings(y) if row < y.nrows() => {
                    let y = y.row(row);
                    let started = ((k - self.phase) % k).min(z.len());
                    let (started, whole) = self.scratch.split_at_mut(started);
                    started.iter_mut().zip(y.iter().skip(self.phase)).for_each(|(to, y)| *to = *y);
                    for head in whole.chunks_mut(k) {
                        head.iter_mut().zip(y).for_each(|(to, y)| *to = *y);
                    }
                    binary(z, self.scratch, self.losses, scale);
                }
                Kind::Classes(y) if row < y.len() => softmax(z, k, y[row], self.losses, scale),
                _ => z.fill(0.0),
            }
        }
    }
}

/// Binary cross-entropy of every logit.
#[inline(always)]
fn binary(logits: &mut [f32], y: &[f32], losses: &mut [f64], scale: f32) {
    for (loss, (z, y)) in losses.iter_mut().zip(logits.iter().zip(y)) {
        *loss += f64::from(z.max(0.0) - z * y + ln_1p(exp(-z.abs())));
    }
    for (z, y) in logits.iter_mut().zip(y) {
        let e = exp(-z.abs());
        let p = 1.0 / (1.0 + e);
        *z = (if *z >= 0.0 { p } else { e * p } - y) * scale;
    }
}

/// Cross-entropy of every head's `k` logits.
#[inline(always)]
fn softmax(logits: &mut [f32], k: usize, label: usize, losses: &mut [f64], scale: f32) {
    for (at, head) in logits.chunks_exact_mut(k).enumerate() {
        let top = head.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        head.iter_mut().for_each(|z| *z -= top);
        if let Some(loss) = losses.get_mut(at * k) {
            *loss -= f64::from(head[label]);
        }
    }
    // all heads at once: heads are short, vectors are not
    logits.iter_mut().for_each(|z| *z = exp(*z));
    for (at, head) in logits.chunks_exact_mut(k).enumerate() {
        let sum: f32 = head.iter().sum();
        if let Some(loss) = losses.get_mut(at * k) {
            *loss += f64::from(sum).ln();
        }
        head.iter_mut().for_each(|z| *z *= scale / sum);
        head[label] -= scale;
    }
}
