//! Probabilities beside truths, and every number that follows from them.

use std::sync::Arc;

use dinorad_core::{Task, TaskKind};
use dinorad_datasets::PatientKey;
use dinorad_heads::Targets;
use dinorad_metrics::{
    BootstrapOptions, Calibration, Convention, Interval, LabelIntervals, RankedScores, Resampling, average_precision,
    bootstrap_auroc, bootstrap_multilabel_auroc, multiclass_auroc, multilabel_auroc,
};
use ndarray::{Array1, Array2, ArrayView2};

use super::Labelled;
use crate::{Error, Predictions, Result};

/// Bins of the expected calibration error.
pub(super) const BINS: usize = 15;

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
pub struct Judged {
    /// Probabilities beside the truth.
    pub predictions: Predictions,
    /// Area under the ROC curve: of class 1, or the mean over classes or findings; `None` where
    /// undefined.
    pub auroc: Option<Interval>,
    /// AUROC by class or finding; one entry (class 1) for a binary task.
    pub auroc_by_class: Vec<Option<Interval>>,
    /// Share of cases, or of findings, that are right.
    pub accuracy: Option<Interval>,
    /// Average precision, balanced accuracy, F1, sensitivity, specificity, Brier score, calibration
    /// error, Cohen's kappa: as far as the task has them.
    pub others: Vec<NamedScore>,
    /// Average precision by class or finding; one entry (class 1) for a binary task.
    pub average_precision_by_class: Vec<Option<f64>>,
    /// Classes or findings without positives or negatives among these cases.
    pub absent: Vec<usize>,
    /// How much each slice counted in its scan, where that was not the same for all.
    pub slice_weights: Option<Arc<Vec<Vec<f32>>>>,
    /// Equal for all cases of a patient, by row.
    pub patients: Vec<Option<PatientKey>>,
}

/// Truths and probabilities in the forms the metrics take.
struct Rows<'a> {
    p: ArrayView2<'a, f32>,
    /// `(n, columns)` of 0 and 1; a single column for a binary task.
    truth: Array2<u8>,
    /// Scores of the same shape.
    scores: Array2<f32>,
    /// Class of every case, for tasks with one.
    classes: Option<Vec<usize>>,
    predicted: Vec<usize>,
}

impl<'a> Rows<'a> {
    fn new(p: ArrayView2<'a, f32>, truth: &Targets, predicted: Vec<usize>) -> Self {
        match truth {
            Targets::Classes { labels, .. } => {
                let classes: Vec<usize> = labels.iter().map(|l| *l as usize).collect();
                let columns: Vec<usize> = if p.ncols() == 2 { vec![1] } else { (0..p.ncols()).collect() };
                let shape = (p.nrows(), columns.len());
                let truth = Array2::from_shape_fn(shape, |(i, c)| u8::from(classes[i] == columns[c]));
                let scores = Array2::from_shape_fn(shape, |(i, c)| p[[i, columns[c]]]);
                Self { p, truth, scores, classes: Some(classes), predicted }
            }
            Targets::Findings(labels) => {
                Self { p, truth: labels.clone(), scores: p.to_owned(), classes: None, predicted }
            }
        }
    }

    /// For every case and column, whether it is called positive.
    fn called(&self, i: usize, c: usize) -> bool {
        match &self.classes {
            // a binary task has one column, that of class 1
            Some(_) => self.predicted[i] == if self.truth.ncols() == 1 { 1 } else { c },
            None => self.p[[i, c]] >= 0.5,
        }
    }

    /// True positives, false positives, false negatives, true negatives of every column.
    fn counts(&self, weights: &[u32]) -> Vec<[f64; 4]> {
        let mut counts = vec![[0f64; 4]; self.truth.ncols()];
        for (i, weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0) {
            for (c, counts) in counts.iter_mut().enumerate() {
                let at = match (self.called(i, c), self.truth[[i, c]] == 1) {
                    (true, true) => 0,
                    (true, false) => 1,
                    (false, true) => 2,
                    (false, false) => 3,
                };
                counts[at] += f64::from(*weight);
            }
        }
        counts
    }

    /// Accuracy, mean sensitivity, mean specificity, mean F1, kappa, Brier score.
    fn weighted(&self, weights: &[u32], present: &[bool]) -> Vec<Option<f64>> {
        let counts = self.counts(weights);
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let ratio = |a: f64, b: f64| (b > 0.0).then(|| a / b);
        // Every draw averages the same columns: one that loses a column gives no mean.
        let mean = |of: &dyn Fn(&[f64; 4]) -> Option<f64>| -> Option<f64> {
            let values: Option<Vec<f64>> =
                counts.iter().zip(present).filter(|(_, p)| **p).map(|(c, _)| of(c)).collect();
            values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / v.len() as f64)
        };
        let right: f64 = match &self.classes {
            Some(classes) => {
                let hits = classes.iter().zip(&self.predicted).zip(weights).filter(|((t, p), _)| t == p);
                hits.map(|(_, w)| f64::from(*w)).sum()
            }
            None => counts.iter().map(|c| c[0] + c[3]).sum::<f64>() / counts.len().max(1) as f64,
        };
        let sensitivity = mean(&|c| ratio(c[0], c[0] + c[2]));
        let specificity = mean(&|c| ratio(c[3], c[3] + c[1]));
        let f1 = mean(&|c| ratio(2.0 * c[0], 2.0 * c[0] + c[1] + c[2]));
        vec![ratio(right, total), sensitivity, specificity, f1, self.kappa(weights), self.brier(weights, total)]
    }

    fn kappa(&self, weights: &[u32]) -> Option<f64> {
        let classes = self.classes.as_ref()?;
        let k = self.p.ncols();
        let (mut truth, mut called) = (vec![0f64; k], vec![0f64; k]);
        let (mut agree, mut n) = (0f64, 0f64);
        for ((t, p), w) in classes.iter().zip(&self.predicted).zip(weights) {
            let w = f64::from(*w);
            truth[*t] += w;
            called[*p] += w;
            agree += if t == p { w } else { 0.0 };
            n += w;
        }
        let chance = truth.iter().zip(&called).map(|(t, c)| t * c).sum::<f64>() / (n * n);
        (n > 0.0 && chance < 1.0).then(|| (agree / n - chance) / (1.0 - chance))
    }

    /// Mean squared difference: over cases for a binary task, summed over classes for several, mean
    /// over findings.
    fn brier(&self, weights: &[u32], total: f64) -> Option<f64> {
        let mut sum = 0f64;
        for (i, w) in weights.iter().enumerate().filter(|(_, w)| **w > 0) {
            let row: f64 = (0..self.truth.ncols())
                .map(|c| (f64::from(self.scores[[i, c]]) - f64::from(self.truth[[i, c]])).powi(2))
                .sum();
            sum += f64::from(*w) * row;
        }
        let per = if self.classes.is_some() { 1.0 } else { self.truth.ncols() as f64 };
        (total > 0.0).then(|| sum / total / per)
    }
}

/// The number that settings are chosen by: AUROC, or its mean over the classes or findings that
/// occur; `None` where it is undefined or a probability is not a number.
///
/// # Errors
/// [`Error::Heads`] for truths that are none, [`Error::Metrics`].
pub fn quick_auroc(cases: &Labelled, p: ArrayView2<'_, f32>, task: &Task) -> Result<Option<f64>> {
    if p.iter().any(|v| !v.is_finite()) {
        return Ok(None);
    }
    let value = match &cases.answers(task.n_classes())? {
        Targets::Classes { labels, n_classes: 2 } => {
            let labels: Array1<u8> = labels.iter().map(|l| *l as u8).collect();
            RankedScores::new(p.column(1), labels.view())?.auroc().unwrap_or(f64::NAN)
        }
        Targets::Classes { labels, .. } => {
            multiclass_auroc(p, Array1::from(labels.clone()).view(), Convention::Strict)?.mean
        }
        Targets::Findings(labels) => multilabel_auroc(p, labels.view(), Convention::Strict)?.mean,
    };
    Ok(value.is_finite().then_some(value))
}

/// Share of cases, or of findings at one half, that are right.
///
/// # Errors
/// [`Error::Heads`] for truths that are none.
pub fn quick_accuracy(cases: &Labelled, p: ArrayView2<'_, f32>, task: &Task) -> Result<Option<f64>> {
    if p.iter().any(|v| !v.is_finite()) {
        return Ok(None);
    }
    let truth = cases.answers(task.n_classes())?;
    let predicted = Predictions::new(cases.ids.clone(), cases.targets.clone(), p.to_owned())?.classes();
    let rows = Rows::new(p, &truth, predicted);
    let present = vec![true; rows.truth.ncols()];
    Ok(rows.weighted(&vec![1; cases.len()], &present).swap_remove(0))
}

/// Probabilities beside their truths, with all scores that the task has and their bootstrap
/// intervals: patients are drawn where every case names one.
///
/// # Errors
/// [`Error::Metrics`] for probabilities that are none, [`Error::Shape`].
pub fn judge(cases: &Labelled, probabilities: Array2<f32>, task: &Task, draws: &BootstrapOptions) -> Result<Judged> {
    if probabilities.ncols() != task.n_classes() {
        let expected = format!("(n, {})", task.n_classes());
        return Err(Error::shape("probabilities", expected, probabilities.shape()));
    }
    let predictions = Predictions::new(cases.ids.clone(), cases.targets.clone(), probabilities)?;
    let p = predictions.probabilities.view();
    let resampling = cases.resampling()?;
    let truth = cases.answers(task.n_classes())?;
    let rows = Rows::new(p, &truth, predictions.classes());
    let (auroc, auroc_by_class) = aurocs(&rows, &resampling, draws)?;
    let positives: Vec<usize> =
        rows.truth.columns().into_iter().map(|c| c.iter().filter(|v| **v == 1).count()).collect();
    let absent: Vec<usize> = match &truth {
        Targets::Classes { n_classes: 2, .. } => {
            let counts = truth.positives();
            (0..2).filter(|c| counts[*c] == 0).collect()
        }
        _ => (0..positives.len()).filter(|c| positives[*c] == 0 || positives[*c] == cases.len()).collect(),
    };
    let present: Vec<bool> = positives.iter().map(|n| *n > 0 && *n < cases.len()).collect();
    let mut intervals = resampling.bootstrap_many(draws, |weights| rows.weighted(weights, &present))?.into_iter();
    let accuracy = intervals.next().flatten();
    let mut others = Vec::new();
    let ranked = rows
        .scores
        .columns()
        .into_iter()
        .zip(rows.truth.columns())
        .map(|(s, t)| Ok(RankedScores::new(s, t)?))
        .collect::<Result<Vec<_>>>()?;
    let mean_precision = |weights: &[u32]| {
        let values: Option<Vec<f64>> = ranked
            .iter()
            .zip(&present)
            .filter(|(_, present)| **present)
            .map(|(ranked, _)| ranked.weighted_average_precision(weights))
            .collect();
        vec![values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / v.len() as f64)]
    };
    let with_interval = |name: &str, interval: Option<Interval>| NamedScore {
        name: name.to_owned(),
        value: interval.map(|i| i.estimate),
        interval,
    };
    let precision = resampling.bootstrap_many(draws, mean_precision)?.into_iter().next().flatten();
    others.push(with_interval("average_precision", precision));
    for name in ["sensitivity", "specificity", "f1", "kappa", "brier"] {
        let interval = intervals.next().flatten();
        // Findings have no agreement of one label with another.
        if name != "kappa" || task.kind != TaskKind::Multilabel {
            others.push(with_interval(name, interval));
        }
    }
    if task.kind != TaskKind::Multilabel {
        let (sensitivity, specificity) = (others[1].value, others[2].value);
        let value =
            if task.n_classes() == 2 { sensitivity.zip(specificity).map(|(a, b)| (a + b) / 2.0) } else { sensitivity };
        others.push(NamedScore { name: "balanced_accuracy".into(), value, interval: None });
    }
    others.push(NamedScore { name: "ece".into(), value: calibration_error(&rows), interval: None });
    let average_precision_by_class = rows
        .scores
        .columns()
        .into_iter()
        .zip(rows.truth.columns())
        .zip(&present)
        .map(|((s, t), present)| present.then(|| average_precision(s, t).ok()).flatten())
        .collect();
    Ok(Judged {
        auroc,
        auroc_by_class,
        accuracy,
        others,
        average_precision_by_class,
        absent,
        slice_weights: cases.slice_weights.clone(),
        patients: cases.patients.clone(),
        predictions,
    })
}

fn aurocs(
    rows: &Rows<'_>,
    resampling: &Resampling,
    draws: &BootstrapOptions,
) -> Result<(Option<Interval>, Vec<Option<Interval>>)> {
    if rows.truth.ncols() == 1 {
        let one = match bootstrap_auroc(rows.scores.column(0), rows.truth.column(0), resampling, draws) {
            Ok(interval) => Some(interval),
            // a metric of one class alone is absent, not an error
            Err(dinorad_metrics::Error::OneClass { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        return Ok((one, vec![one]));
    }
    let LabelIntervals { labels, mean, .. } =
        bootstrap_multilabel_auroc(rows.scores.view(), rows.truth.view(), resampling, draws)?;
    Ok((mean, labels))
}

/// Expected calibration error over 15 bins: of class 1, of the class named, or of all findings.
fn calibration_error(rows: &Rows<'_>) -> Option<f64> {
    let mut calibration = Calibration::new(BINS).ok()?;
    match &rows.classes {
        Some(classes) if rows.truth.ncols() > 1 => {
            calibration.update_multiclass(rows.p, Array1::from(classes.clone()).view()).ok()?;
        }
        _ => {
            for (scores, truth) in rows.scores.columns().into_iter().zip(rows.truth.columns()) {
                calibration.update_binary(scores, truth).ok()?;
            }
        }
    }
    calibration.expected_error().ok()
}
