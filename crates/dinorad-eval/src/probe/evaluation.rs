//! Probabilities beside truths, and every number that follows from them.

use std::sync::Arc;

use dinorad_core::Task;
use dinorad_datasets::PatientKey;
use dinorad_heads::Targets;
use dinorad_metrics::{BootstrapOptions, Interval, RunScore, ScoreReport, TaskScores};
use ndarray::{Array2, ArrayView1, ArrayView2};

use super::Labelled;
use crate::{Error, Predictions, Result};

/// One number and, where it has one, its interval.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedScore {
    /// Its name in `metrics.json`.
    pub name: String,
    /// The value; `None` where it is undefined.
    pub value: Option<f64>,
    /// Bootstrap interval over cases.
    pub interval: Option<Interval>,
}

/// Predictions and their numbers.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Probabilities beside the truth.
    pub predictions: Predictions,
    /// Area under the ROC curve: of class 1, or the mean over classes or findings; `None` where
    /// undefined.
    pub auroc: Option<Interval>,
    /// AUROC by class or finding; one entry (class 1) for a binary task.
    pub auroc_by_class: Vec<Option<Interval>>,
    /// Share of cases, or of findings, that are right.
    pub accuracy: Option<Interval>,
    /// Every other score of the task, in the order of [`dinorad_metrics::RUN_SCORES`].
    pub others: Vec<NamedScore>,
    /// Average precision by class or finding; one entry (class 1) for a binary task.
    pub average_precision_by_class: Vec<Option<f64>>,
    /// Its intervals, where it has one.
    pub average_precision_intervals: Vec<Option<Interval>>,
    /// Classes or findings without positives or negatives among these cases.
    pub absent: Vec<usize>,
    /// Cases of every class, or positives of every finding.
    pub positives: Vec<usize>,
    /// The accuracy of always giving the most frequent answer.
    pub majority_accuracy: f64,
    /// Whether every case was given the same probabilities.
    pub constant: bool,
    /// How much each slice counted in its scan, where that was not the same for all.
    pub slice_weights: Option<Arc<Vec<Vec<f32>>>>,
    /// Equal for all cases of a patient, by row.
    pub patients: Vec<Option<PatientKey>>,
}

/// The scores of probabilities `(n, classes)`, not yet drawn.
pub(super) fn scores_of(truth: &Targets, p: ArrayView2<'_, f32>) -> Result<TaskScores> {
    Ok(match truth {
        Targets::Classes { labels, .. } => TaskScores::of_classes(p, ArrayView1::from(labels))?,
        Targets::Findings(labels) => TaskScores::of_findings(p, labels.view())?,
    })
}

/// A score of many runs in a hurry: `None` where it is undefined or a probability is not a number.
fn quick(cases: &Labelled, p: ArrayView2<'_, f32>, task: &Task, score: RunScore) -> Result<Option<f64>> {
    if p.iter().any(|v| !v.is_finite()) {
        return Ok(None);
    }
    Ok(scores_of(&cases.answers(task.n_classes())?, p)?.value(score))
}

/// The number that settings are chosen by: AUROC, or its mean over the classes or findings that
/// occur; `None` where it is undefined or a probability is not a number.
///
/// # Errors
/// [`Error::Heads`] for truths that are none, [`Error::Metrics`].
pub fn quick_auroc(cases: &Labelled, p: ArrayView2<'_, f32>, task: &Task) -> Result<Option<f64>> {
    quick(cases, p, task, RunScore::Auroc)
}

/// Share of cases, or of findings called above one half, that are right.
///
/// # Errors
/// As [`quick_auroc`].
pub fn quick_accuracy(cases: &Labelled, p: ArrayView2<'_, f32>, task: &Task) -> Result<Option<f64>> {
    quick(cases, p, task, RunScore::Accuracy)
}

/// Probabilities beside their truths, with all scores that the task has and their bootstrap
/// intervals: patients are drawn where every case names one.
///
/// # Errors
/// [`Error::Metrics`] for probabilities that are none, [`Error::Shape`].
pub fn judge(
    cases: &Labelled,
    probabilities: Array2<f32>,
    task: &Task,
    draws: &BootstrapOptions,
) -> Result<Evaluation> {
    if probabilities.ncols() != task.n_classes() {
        let expected = format!("(n, {})", task.n_classes());
        return Err(Error::shape("probabilities", expected, probabilities.shape()));
    }
    let predictions =
        Predictions::new(cases.ids.clone(), cases.targets.clone(), probabilities)?.with_names(task.class_names.clone());
    let scores = scores_of(&cases.answers(task.n_classes())?, predictions.probabilities.view())?;
    let (positives, majority_accuracy, constant) =
        (scores.positives(), scores.majority_accuracy(), scores.is_constant());
    let ScoreReport { scores, auroc_by_class, average_precision_by_class, average_precision_intervals, absent } =
        scores.report(&cases.resampling()?, draws)?;
    let (mut auroc, mut accuracy, mut others) = (None, None, Vec::new());
    for score in scores {
        match score.rule.score {
            RunScore::Auroc => auroc = score.interval,
            RunScore::Accuracy => accuracy = score.interval,
            _ => others.push(NamedScore {
                name: score.rule.name.to_owned(),
                value: score.value,
                interval: score.interval,
            }),
        }
    }
    Ok(Evaluation {
        auroc,
        auroc_by_class,
        accuracy,
        others,
        average_precision_by_class,
        average_precision_intervals,
        absent,
        positives,
        majority_accuracy,
        constant,
        slice_weights: cases.slice_weights.clone(),
        patients: cases.patients.clone(),
        predictions,
    })
}
