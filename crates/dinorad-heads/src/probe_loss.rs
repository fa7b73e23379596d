//! Losses of many heads on one strip of rows, and their gradients.

use std::ops::Range;

use ndarray::Array2;
use pulp::{Simd, WithSimd};

use crate::{
    Error, ProbeTask, Result, Targets,
    fast_math::{exp, ln_1p},
    panel_kernels::STRIP,
};
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

    /// Weight of one value in the loss.
    pub(crate) fn scale(&self) -> f64 {
        f64::from(self.scale)
    }
}

/// Replaces the logits of a strip by the loss's gradient and sums up the losses.
pub(crate) struct StripLoss<'a> {
    pub(crate) answers: &'a Answers,
    /// The first row of the strip in the batch.
    pub(crate) first: usize,
    /// The columns that heads fill, one head after the other. Logits elsewhere are 0 and stay so.
    pub(crate) heads: &'a [Range<usize>],
    /// Eight rows of `stride` values.
    pub(crate) logits: &'a mut [f32],
    pub(crate) stride: usize,
    /// `stride` sums over the rows, not yet scaled; a head's loss is the sum over its columns.
    pub(crate) losses: &'a mut [f64],
    /// Room for `stride` values.
    pub(crate) scratch: &'a mut [f32],
}

impl WithSimd for StripLoss<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (k, scale) = (self.answers.k, self.answers.scale);
        self.losses.fill(0.0);
        for (row, logits) in self.logits.chunks_exact_mut(self.stride).take(STRIP).enumerate() {
            let row = self.first + row;
            for heads in self.heads {
                let (z, losses, scratch) =
                    (&mut logits[heads.clone()], &mut self.losses[heads.clone()], &mut self.scratch[heads.clone()]);
                match &self.answers.rows {
                    Kind::Findings(y) if row < y.nrows() => {
                        for head in scratch.chunks_exact_mut(k) {
                            head.iter_mut().zip(y.row(row)).for_each(|(to, y)| *to = *y);
                        }
                        binary(z, scratch, losses, scale);
                    }
                    Kind::Classes(y) if row < y.len() => softmax(z, k, y[row], losses, scale),
                    _ => z.fill(0.0),
                }
            }
        }
    }
}

/// Binary cross-entropy of every logit.
#[inline(always)]
fn binary(logits: &mut [f32], y: &[f32], losses: &mut [f64], scale: f32) {
    for ((z, y), loss) in logits.iter_mut().zip(y).zip(losses) {
        let e = exp(-z.abs());
        let p = 1.0 / (1.0 + e);
        *loss += f64::from(z.max(0.0) - *z * y + ln_1p(e));
        *z = (if *z >= 0.0 { p } else { e * p } - y) * scale;
    }
}

/// Cross-entropy of every head's `k` logits.
#[inline(always)]
fn softmax(logits: &mut [f32], k: usize, label: usize, losses: &mut [f64], scale: f32) {
    for (head, losses) in logits.chunks_exact_mut(k).zip(losses.chunks_exact_mut(k)) {
        let top = head.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        head.iter_mut().for_each(|z| *z -= top);
        losses[label] -= f64::from(head[label]);
    }
    // all heads at once: heads are short, vectors are not
    logits.iter_mut().for_each(|z| *z = exp(*z));
    for (head, losses) in logits.chunks_exact_mut(k).zip(losses.chunks_exact_mut(k)) {
        let sum: f32 = head.iter().sum();
        losses[label] += f64::from(sum).ln();
        head.iter_mut().for_each(|z| *z *= scale / sum);
        head[label] -= scale;
    }
}
