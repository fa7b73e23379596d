//! The plots of a run, from its numbers and predictions: ROC, precision over recall, reliability, the
//! search, smaller training sets, shifts.

use std::collections::BTreeMap;

use dinorad_core::{Target, Task, TaskKind};
use dinorad_metrics::{Calibration, precision_recall_curve, roc_curve};
use ndarray::{Array1, ArrayView1};

use crate::{
    CurvePoint, MetricValue, Metrics, Predictions, Result, RunFolder, Search,
    folder::PREDICTIONS,
    plot::{LinePlot, Marks, PALETTE, Plot, Series, XScale},
};

/// Bins of the expected calibration error.
pub const BINS: usize = 15;

/// A plot of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedPlot {
    /// The name of its file, without ending.
    pub name: String,
    /// What it shows.
    pub plot: Plot,
    /// The sentence below it.
    pub caption: String,
    /// Whether it shows something that was varied around the run, not the run itself.
    pub varied: bool,
}

/// Every plot that a run's numbers and predictions allow.
///
/// # Errors
/// [`Error::File`](crate::Error::File), [`Error::Damaged`](crate::Error::Damaged),
/// [`Error::Metrics`](crate::Error::Metrics).
pub fn of_run(run: &RunFolder) -> Result<Vec<NamedPlot>> {
    let Some(metrics) = run.metrics() else { return Ok(Vec::new()) };
    let mut plots = Vec::new();
    if let (Some(predictions), Some(task)) = (run.predictions(PREDICTIONS)?, &metrics.task) {
        plots.extend(of_predictions(&predictions, task, metrics)?);
    }
    plots.extend(metrics.search.as_ref().and_then(of_search));
    let name = run.exhibits().encoder.as_ref().map_or_else(|| "this run".to_owned(), |card| card.name().to_owned());
    plots.extend(of_curves(&name, metrics));
    Ok(plots)
}

/// A class or finding that curves are drawn of.
struct Column<'a> {
    /// The ending of its scores' names: nothing for a binary task.
    ending: String,
    name: String,
    scores: ArrayView1<'a, f32>,
    truth: Array1<u8>,
}

/// Class 1 of two; else every class or finding.
fn columns<'a>(predictions: &'a Predictions, task: &'a Task) -> impl Iterator<Item = Column<'a>> {
    let p = &predictions.probabilities;
    let findings = task.kind == TaskKind::Multilabel;
    let binary = !findings && p.ncols() == 2;
    let all = if binary { 1..2 } else { 0..p.ncols() };
    let column = move |index: usize| {
        let truth = predictions.targets.iter().map(|target| match target {
            // a single finding reads back as a class
            Target::Class(class) => u8::from(*class == if findings { 1 } else { index }),
            Target::Labels(labels) => labels.get(index).copied().unwrap_or(0),
            Target::Unlabelled | Target::Mask(_) => 0,
        });
        let name = task.class_names.get(index).map_or_else(|| index.to_string(), String::clone);
        let ending = if binary || p.ncols() == 1 { String::new() } else { format!("_class_{index}") };
        Column { ending, name, scores: p.column(index), truth: truth.collect() }
    };
    all.map(column)
}

/// Those whose AUROC is defined and that have cases of both kinds, at most as many as there are colours.
fn drawn<'a>(predictions: &'a Predictions, task: &'a Task, scores: &BTreeMap<String, MetricValue>) -> Vec<Column<'a>> {
    let occurs = |c: &Column<'_>| {
        let both = [0, 1].iter().all(|kind| c.truth.iter().any(|t| t == kind));
        both && scores.get(&format!("auroc{}", c.ending)).is_some_and(|v| v.mean.is_some())
    };
    columns(predictions, task).filter(occurs).take(PALETTE.len()).collect()
}

/// ROC, precision over recall and reliability on test.
fn of_predictions(predictions: &Predictions, task: &Task, metrics: &Metrics) -> Result<Vec<NamedPlot>> {
    let none = BTreeMap::new();
    let scores = metrics.metrics.get("test").unwrap_or(&none);
    let labelled = labelled(predictions);
    let setting = metrics.setting_label.as_ref().map_or_else(String::new, |label| format!(", {label}"));
    let mut plots = Vec::new();
    let mut push = |name: &str, plot: Option<Plot>, caption: String| {
        plots.extend(plot.map(|plot| NamedPlot { name: name.into(), plot, caption, varied: false }));
    };
    push("roc", roc(&labelled, task, scores)?, format!("ROC on the test split{setting}."));
    let caption = format!("Precision over recall on the test split{setting}.");
    push("precision-recall", precision_recall(&labelled, task, scores)?, caption);
    let of = match (task.kind, labelled.probabilities.ncols()) {
        (TaskKind::Multilabel, _) => "every finding".to_owned(),
        (_, 2) => task.class_names.get(1).cloned().unwrap_or_else(|| "class 1".into()),
        _ => "the most probable class".into(),
    };
    let caption = format!("Do probabilities of {of} come true? Test split; bars: share of cases.");
    push("reliability", reliability(&labelled, task)?, caption);
    Ok(plots)
}

/// The cases with a truth.
fn labelled(predictions: &Predictions) -> Predictions {
    let known = |t: &Target| matches!(t, Target::Class(_) | Target::Labels(_));
    let rows: Vec<usize> = (0..predictions.ids.len()).filter(|i| known(&predictions.targets[*i])).collect();
    predictions.select(&rows)
}

/// ROC with AUROC and interval in the legend; `None` where no class has both kinds of cases.
///
/// # Errors
/// [`Error::Metrics`](crate::Error::Metrics).
pub fn roc(p: &Predictions, task: &Task, scores: &BTreeMap<String, MetricValue>) -> Result<Option<Plot>> {
    let mut curves = Vec::new();
    for column in drawn(p, task, scores) {
        let Some(value) = scores.get(&format!("auroc{}", column.ending)) else { continue };
        let roc = roc_curve(column.scores, column.truth.view())?;
        let points = roc.false_positive_rate.into_iter().zip(roc.true_positive_rate).collect();
        curves.push(Series::new(format!("{} {}", column.name, value.text()), points));
    }
    Ok((!curves.is_empty()).then_some(Plot::Roc { curves }))
}

/// Precision over recall with average precision in the legend; `None` as for [`roc`].
///
/// # Errors
/// As [`roc`].
pub fn precision_recall(p: &Predictions, task: &Task, scores: &BTreeMap<String, MetricValue>) -> Result<Option<Plot>> {
    let columns = drawn(p, task, scores);
    let share = |c: &Column<'_>| c.truth.iter().map(|t| f64::from(*t)).sum::<f64>() / c.truth.len().max(1) as f64;
    let prevalence = if let [only] = columns.as_slice() { Some(share(only)) } else { None };
    let mut curves = Vec::new();
    for column in &columns {
        let curve = precision_recall_curve(column.scores, column.truth.view())?;
        let ap = scores.get(&format!("average_precision{}", column.ending)).and_then(|v| v.mean);
        let name = ap.map_or_else(|| column.name.clone(), |ap| format!("{} AP {ap:.3}", column.name));
        // A threshold that takes one case more moves along recall first: steps, not slopes.
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(2 * curve.recall.len());
        for (recall, precision) in curve.recall.iter().zip(&curve.precision).rev().skip(1) {
            let before = points.last().map_or(0.0, |p| p.0);
            points.extend([(before, *precision), (*recall, *precision)]);
        }
        curves.push(Series::new(name, points));
    }
    Ok((!curves.is_empty()).then_some(Plot::PrecisionRecall { curves, prevalence }))
}

/// Reliability: of the probability of class 1 or of every finding, else of the most probable class;
/// `None` without cases or for values that are no probabilities.
///
/// # Errors
/// As [`roc`].
pub fn reliability(predictions: &Predictions, task: &Task) -> Result<Option<Plot>> {
    let p = &predictions.probabilities;
    if p.nrows() == 0 || p.iter().any(|v| !(0.0..=1.0).contains(v)) {
        return Ok(None);
    }
    let mut calibration = Calibration::new(BINS)?;
    if task.kind == TaskKind::Multilabel || p.ncols() == 2 {
        for column in columns(predictions, task) {
            calibration.update_binary(column.scores, column.truth.view())?;
        }
    } else {
        let classes = predictions.targets.iter().map(|t| if let Target::Class(c) = t { Some(*c) } else { None });
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
    let mut bars: Vec<(f64, f64, f64)> = Vec::with_capacity(BINS);
    for (i, bin) in bins.iter().enumerate() {
        let share = bin.count as f64 / total as f64;
        match (edges.get(i), edges.get(i + 1)) {
            (Some(&from), Some(&to)) => bars.push((f64::from(from), f64::from(to), share)),
            // confidence 1 has no width of its own
            _ => bars.iter_mut().last().into_iter().for_each(|last| last.2 += share),
        }
    }
    let name = format!("calibration error {:.3}", calibration.expected_error()?);
    Ok(Some(Plot::Reliability { curves: vec![Series::new(name, points)], bars }))
}

/// Scores of the settings that were tried, over the value that they are drawn by.
fn of_search(search: &Search) -> Option<NamedPlot> {
    let axis = search.axis.as_ref()?;
    let rest = |values: &BTreeMap<String, f64>| -> String {
        let others = values.iter().filter(|(name, _)| **name != axis.value);
        others.map(|(name, v)| format!("{name} {v}")).collect::<Vec<_>>().join(", ")
    };
    let mut kinds: Vec<String> = search.settings.iter().map(|s| rest(&s.values)).collect();
    kinds.sort();
    kinds.dedup();
    let many = kinds.len() > 1;
    let mut series: Vec<Series> = Vec::new();
    let mut push = |line: String, x: f64, y: Option<f64>| {
        let Some(y) = y else { return };
        match series.iter_mut().find(|s| s.name == line) {
            Some(s) => s.points.push((x, y)),
            None => series.push(Series::new(line, vec![(x, y)])),
        }
    };
    for of in &search.settings {
        let Some(&x) = of.values.get(&axis.value) else { continue };
        let score = |split: &str| of.get(split, &search.score).and_then(|v| v.mean);
        let line = if many { format!("validation, {}", rest(&of.values)) } else { "validation".to_owned() };
        push(line, x, score("val"));
        if !many {
            push("test".into(), x, score("test"));
        }
    }
    if !series.iter().any(|s| s.points.len() > 1) {
        return None;
    }
    let positive = series.iter().flat_map(|s| &s.points).all(|(x, _)| *x > 0.0);
    let name = super::pages::score_title(&search.score);
    let axes = LinePlot {
        x_label: axis.label.clone(),
        y_label: name.clone(),
        y_range: None,
        x_scale: if positive { XScale::Log } else { XScale::Linear },
        marks: Marks::Dots,
    };
    let on_test = series.iter().any(|s| s.name == "test");
    let diagnostic = if on_test { " That of test is shown for diagnosis: nothing was chosen by it." } else { "" };
    Some(NamedPlot {
        name: axis.plot.clone(),
        plot: Plot::Lines { axes, series },
        caption: format!("{name} by setting; the one that is best on validation is reported.{diagnostic}"),
        varied: false,
    })
}

/// The curves of smaller training sets and of shifts.
fn of_curves(name: &str, metrics: &Metrics) -> Vec<NamedPlot> {
    let auroc = |point: &CurvePoint| point.metrics.get("auroc").cloned();
    let mut plots = Vec::new();
    for (curve, x_label) in [("shots", "training cases per class"), ("fraction", "fraction of the training cases")] {
        let Some(points) = metrics.curves.get(curve) else { continue };
        let (mut line, mut band) = (Vec::new(), Vec::new());
        for point in points {
            let Some(MetricValue { mean: Some(mean), stdev, .. }) = auroc(point) else { continue };
            let sd = stdev.unwrap_or(0.0);
            line.push((point.x, mean));
            band.push((point.x, (mean - sd).max(0.0), (mean + sd).min(1.0)));
        }
        if line.len() < 2 {
            continue;
        }
        let mut series = vec![Series::new(name, line.clone()).with_band(band)];
        let whole = metrics.get("test", "auroc").and_then(|v| v.mean);
        if let (Some(whole), Some((low, _)), Some((high, _))) = (whole, line.first(), line.last()) {
            series.push(Series::new("all training cases", vec![(*low, whole), (*high, whole)]));
        }
        let axes = LinePlot {
            x_label: x_label.into(),
            y_label: "test AUROC".into(),
            y_range: None,
            x_scale: XScale::Log,
            marks: Marks::Dots,
        };
        plots.push(NamedPlot {
            name: format!("auroc-by-{curve}"),
            plot: Plot::Lines { axes, series },
            caption: "AUROC on the test split; the band is one standard deviation over draws to each side.".into(),
            varied: true,
        });
    }
    let shifts = metrics.curves.iter().filter_map(|(name, points)| Some((name.strip_prefix("shift_")?, points)));
    let series: Vec<Series> = shifts
        .map(|(shift, points)| {
            let (mut line, mut band) = (Vec::new(), Vec::new());
            for point in points {
                let Some(MetricValue { mean: Some(mean), ci95, .. }) = auroc(point) else { continue };
                line.push((point.x, mean));
                band.extend(ci95.map(|[low, high]| (point.x, low, high)));
            }
            Series::new(shift, line).with_band(band)
        })
        .collect();
    if series.iter().any(|s| s.points.len() > 1) {
        let axes = LinePlot { marks: Marks::Dots, ..LinePlot::new("severity of the shift (0: none)", "test AUROC") };
        plots.push(NamedPlot {
            name: "auroc-by-shift".into(),
            plot: Plot::Lines { axes, series },
            caption: "AUROC of the same model on ever worse images of the test split; bands are 95 % intervals.".into(),
            varied: true,
        });
    }
    plots
}
