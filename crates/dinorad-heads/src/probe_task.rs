//! What a linear probe answers.

use crate::Targets;

/// What a probe's logits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeTask {
    /// One logit, for class 1 of two; binary cross-entropy.
    Binary,
    /// A logit per class; cross-entropy.
    Multiclass(usize),
    /// A logit per finding; binary cross-entropy.
    Multilabel(usize),
}

impl ProbeTask {
    /// The task that targets stand for.
    pub fn of(targets: &Targets) -> Self {
        match targets {
            Targets::Classes { n_classes: 2, .. } => ProbeTask::Binary,
            Targets::Classes { n_classes, .. } => ProbeTask::Multiclass(*n_classes),
            Targets::Findings(labels) => ProbeTask::Multilabel(labels.ncols()),
        }
    }

    /// Number of logits.
    pub fn logits(self) -> usize {
        match self {
            ProbeTask::Binary => 1,
            ProbeTask::Multiclass(n) | ProbeTask::Multilabel(n) => n,
        }
    }
}
