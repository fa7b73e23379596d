//! Curves of what was predicted: ROC, precision over recall, reliability.

use dinorad_core::{Target, Task, TaskKind};
use dinorad_metrics::{CALIBRATION_BINS, Calibration, precision_recall_curve, roc_curve};
use ndarray::{Array1, ArrayView1};

use super::Judged;
use crate::{
    Result,
    plot::{self, Series},
};

/// A class or finding that curves are drawn of.
struct Column<'a> {
    index: usize,
    name: String,
    scores: ArrayView1<'a, f32>,
    truth: Array1<u8>,
}

/// Class 1 of two; else every class or finding.
fn columns<'a>(judged: &'a Judged, task: &'a Task) -> impl Iterator<Item = Column<'a>> {
    let p = &judged.predictions.probabilities;
    let binary = task.kind != TaskKind::Multilabel && p.ncols() == 2;
    let all = if binary { 1..2 } else { 0..p.ncols() };
    let column = move |index: usize| {
        let truth = judged.predictions.targets.iter().map(|target| match target {
            Target::Class(class) => u8::from(*class == index),
            Target::Labels(labels) => labels.get(index).copied().unwrap_or(0),
            Target::Unlabelled | Target::Mask(_) => 0,
        });
        let name = task.class_names.get(index).map_or_else(|| index.to_string(), String::clone);
        Column { index: if binary { 0 } else { index }, name, scores: p.column(index), truth: truth.collect() }
    };
    all.map(column)
}

/// Those that have positive and negative cases, at most as many as there are colours.
fn drawn<'a>(judged: &'a Judged, task: &'a Task) -> Vec<Column<'a>> {
    let occurs = |c: &Column<'_>| judged.auroc_by_class.get(c.index).is_some_and(Option::is_some);
    columns(judged, task).filter(occurs).take(plot::PALETTE.len()).collect()
}

/// ROC with AUROC and interval in the legend; `None` where no class has both kinds of cases.
///
/// # Errors
/// [`Error::Report`](crate::Error::Report), [`Error::Metrics`](crate::Error::Metrics).
pub fn roc(judged: &Judged, task: &Task) -> Result<Option<String>> {
    let mut curves = Vec::new();
    for column in drawn(judged, task) {
        let Some(Some(i)) = judged.auroc_by_class.get(column.index) else { continue };
        let roc = roc_curve(column.scores, column.truth.view())?;
        let points = roc.false_positive_rate.into_iter().zip(roc.true_positive_rate).collect();
        curves.push(Series::new(format!("{} {:.3} ({:.3}–{:.3})", column.name, i.estimate, i.low, i.high), points));
    }
    if curves.is_empty() { Ok(None) } else { Ok(Some(plot::roc(&curves)?)) }
}

/// Precision over recall with average precision in the legend; `None` as for [`roc`].
///
/// # Errors
/// As [`roc`].
pub fn precision_recall(judged: &Judged, task: &Task) -> Result<Option<String>> {
    let columns = drawn(judged, task);
    let share = |c: &Column<'_>| c.truth.iter().map(|t| f64::from(*t)).sum::<f64>() / c.truth.len().max(1) as f64;
    let prevalence = if let [only] = columns.as_slice() { Some(share(only)) } else { None };
    let mut curves = Vec::new();
    for column in &columns {
        let curve = precision_recall_curve(column.scores, column.truth.view())?;
        let ap = judged.average_precision_by_class.get(column.index).copied().flatten();
        let name = ap.map_or_else(|| column.name.clone(), |ap| format!("{} AP {ap:.3}", column.name));
        // A threshold that takes one case more moves along recall first: steps, not slopes.
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(2 * curve.recall.len());
        for (recall, precision) in curve.recall.iter().zip(&curve.precision).rev().skip(1) {
            let before = points.last().map_or(0.0, |p| p.0);
            points.extend([(before, *precision), (*recall, *precision)]);
        }
        curves.push(Series::new(name, points));
    }
    if curves.is_empty() { Ok(None) } else { Ok(Some(plot::precision_recall(&curves, prevalence)?)) }
}

/// Reliability: of the probability of class 1 or of every finding, else of the most probable class;
/// `None` without cases or for values that are no probabilities.
///
/// # Errors
/// As [`roc`].
pub fn reliability(judged: &Judged, task: &Task) -> Result<Option<String>> {
    let p = &judged.predictions.probabilities;
    if p.nrows() == 0 || p.iter().any(|v| !(0.0..=1.0).contains(v)) {
        return Ok(None);
    }
    let mut calibration = Calibration::new(CALIBRATION_BINS)?;
    if task.kind == TaskKind::Multilabel || p.ncols() == 2 {
        for column in columns(judged, task) {
            calibration.update_binary(column.scores, column.truth.view())?;
        }
    } else {
        let classes = judged.predictions.targets.iter().map(|t| if let Target::Class(c) = t { Some(*c) } else { None });
        let Some(classes) = classes.collect::<Option<Array1<usize>>>() else { return Ok(None) };
        calibration.update_multiclass(p.view(), classes.view())?;
    }
    let bins = calibration.bins();
    let total: u64 = bins.iter().map(|b| b.count).sum();
    if total == 0 {
        return Ok(None);
    }
    let points = bins.iter().filter(|b| b.count > 0).map(|b| (b.confidence, b.accuracy)).collect();
    let edges = calibration.edges();
    let mut bars: Vec<(f64, f64, f64)> = Vec::with_capacity(CALIBRATION_BINS);
    for (i, bin) in bins.iter().enumerate() {
        let share = bin.count as f64 / total as f64;
        match (edges.get(i), edges.get(i + 1)) {
            (Some(&from), Some(&to)) => bars.push((f64::from(from), f64::from(to), share)),
            // confidence 1 has no width of its own
            _ => bars.iter_mut().last().into_iter().for_each(|last| last.2 += share),
        }
    }
    let name = format!("calibration error {:.3}", calibration.expected_error()?);
    Ok(Some(plot::reliability(&[Series::new(name, points)], &bars)?))
}
