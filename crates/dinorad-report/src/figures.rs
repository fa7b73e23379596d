//! The plots of a run, from its numbers and predictions: ROC, precision over recall, reliability, the
//! search, smaller training sets, shifts.

use std::collections::{BTreeMap, BTreeSet};

use dinorad_core::{Target, Task, TaskKind};
use dinorad_metrics::{BootstrapOptions, Calibration, Resampling, at_youden, precision_recall_curve, roc_curve};
use ndarray::{Array1, ArrayView1};

use crate::{
    CurvePoint, LearningCurve, MetricValue, Metrics, Predictions, Result, RunFolder, Search,
    folder::PREDICTIONS,
    pages::score_title,
    plot::{LinePlot, Marks, PALETTE, Plot, Series, XScale},
};

/// What scores on test are called where settings are searched.
const DIAGNOSTIC: &str = "test (diagnostic)";

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
        let operating = Operating::of(run, &predictions, task)?;
        let groups = groups(run, &predictions)?;
        plots.extend(of_predictions(&predictions, task, metrics, (&groups, operating.as_ref()))?);
    }
    plots.extend(metrics.search.as_ref().and_then(of_search));
    plots.extend(of_learning(metrics));
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
fn of_predictions(
    predictions: &Predictions,
    task: &Task,
    metrics: &Metrics,
    (groups, operating): (&Groups, Option<&Operating>),
) -> Result<Vec<NamedPlot>> {
    let none = BTreeMap::new();
    let scores = metrics.metrics.get("test").unwrap_or(&none);
    let labelled = labelled(predictions);
    let setting = metrics.setting_label.as_ref().map_or_else(String::new, |label| format!(", {label}"));
    let mut plots = Vec::new();
    let mut push = |name: &str, plot: Option<Plot>, caption: String| {
        plots.extend(plot.map(|plot| NamedPlot { name: name.into(), plot, caption, varied: false }));
    };
    let mut drawn = roc(&labelled, task, scores)?;
    let mut caption = format!("ROC on the test split{setting}.");
    if let Some(Plot::Roc { curves, marked }) = &mut drawn {
        let draws = draws_of(scores);
        if banded(&labelled, task, scores, groups, draws, curves)? {
            let unit = if groups.patients { "patients" } else { "cases" };
            caption += &format!(" Bands: 95 % of {draws} bootstrap resamples of {unit}.");
        }
        if let Some(at) = operating {
            let (x, y) = (1.0 - at.specificity, at.sensitivity);
            marked.push(Series::new(format!("threshold {:.3}", at.threshold), vec![(x, y)]));
            caption += " Dot: the threshold that was chosen on validation, by Youden's index.";
        }
    }
    push("roc", drawn, caption);
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

/// The most lines of a ROC that have a band.
const BANDS: usize = 3;
/// Places on the axis at which a band is known.
const BAND_STEPS: usize = 40;

/// How often a run drew its cases for the intervals of these scores, so that all of a page stands on as many
/// draws; the usual number for a run without intervals.
pub(crate) fn draws_of(scores: &BTreeMap<String, MetricValue>) -> usize {
    let drawn = |value: &MetricValue| Some(value.draws? + value.undefined.unwrap_or(0)).filter(|draws| *draws > 0);
    scores.values().find_map(drawn).unwrap_or(BootstrapOptions::default().draws)
}

/// Which cases are drawn together.
pub(crate) struct Groups {
    /// Whether the groups are patients.
    pub(crate) patients: bool,
    /// Of every row of the predictions.
    of_row: Vec<usize>,
}

impl Groups {
    /// How many of them rows belong to.
    pub(crate) fn count(&self, rows: impl Iterator<Item = usize>) -> usize {
        rows.filter_map(|row| self.of_row.get(row)).collect::<BTreeSet<_>>().len()
    }

    pub(crate) fn resampling(&self, rows: &[usize]) -> Result<Resampling> {
        let keys: Vec<usize> = rows.iter().filter_map(|row| self.of_row.get(*row)).copied().collect();
        Ok(Resampling::by_group(&keys)?)
    }
}

/// The patients of the rows of predictions on test, else every row by itself.
pub(crate) fn groups(run: &RunFolder, predictions: &Predictions) -> Result<Groups> {
    let cases = run.cases()?;
    let patients = cases.as_ref().and_then(|cases| cases.patients("test"));
    let known = patients.and_then(|of| predictions.ids.iter().map(|id| of.get(id.as_str()).copied()).collect());
    Ok(match known {
        Some(of_row) => Groups { patients: true, of_row },
        None => Groups { patients: false, of_row: (0..predictions.ids.len()).collect() },
    })
}

/// A threshold that validation chose, and what it gives on test: of tasks with two classes.
pub(crate) struct Operating {
    pub(crate) threshold: f64,
    pub(crate) sensitivity: f64,
    pub(crate) specificity: f64,
    /// Of the test part, by row with a truth.
    pub(crate) called: Vec<(usize, bool, bool)>,
}

impl Operating {
    /// `None` for other tasks, without a validation part, and where a part shows one class alone.
    pub(crate) fn of(run: &RunFolder, test: &Predictions, task: &Task) -> Result<Option<Self>> {
        let two = |p: &Predictions| task.kind != TaskKind::Multilabel && p.probabilities.ncols() == 2;
        let Some(val) = run.predictions(&format!("{PREDICTIONS}-val"))?.filter(|val| two(val) && two(test)) else {
            return Ok(None);
        };
        let val = labelled(&val);
        let Some(of_val) = columns(&val, task).next() else { return Ok(None) };
        let both = |truth: &Array1<u8>| [0, 1].iter().all(|kind| truth.iter().any(|t| t == kind));
        if !both(&of_val.truth) {
            return Ok(None);
        }
        let threshold = at_youden(of_val.scores, of_val.truth.view())?.threshold;
        let called: Vec<(usize, bool, bool)> = test
            .targets
            .iter()
            .enumerate()
            .filter_map(|(row, target)| match target {
                Target::Class(class) => {
                    let p = test.probabilities.get((row, 1)).map_or(f64::NAN, |p| f64::from(*p));
                    Some((row, *class == 1, p > threshold))
                }
                _ => None,
            })
            .collect();
        let share = |of: bool| {
            let all = called.iter().filter(|(_, truth, _)| *truth == of).count();
            let right = called.iter().filter(|(_, truth, said)| *truth == of && said == truth).count();
            (all > 0).then(|| right as f64 / all as f64)
        };
        let (Some(sensitivity), Some(specificity)) = (share(true), share(false)) else { return Ok(None) };
        Ok(Some(Self { threshold, sensitivity, specificity, called }))
    }
}

/// Puts bands around the lines of a ROC; whether it has any.
fn banded(
    labelled: &Predictions,
    task: &Task,
    scores: &BTreeMap<String, MetricValue>,
    groups: &Groups,
    draws: usize,
    curves: &mut [Series],
) -> Result<bool> {
    if curves.is_empty() || curves.len() > BANDS || groups.of_row.len() != labelled.ids.len() {
        return Ok(false);
    }
    let rows: Vec<usize> = (0..labelled.ids.len()).collect();
    let resampling = groups.resampling(&rows)?;
    if resampling.groups() < 3 {
        return Ok(false);
    }
    let options = BootstrapOptions { draws, ..BootstrapOptions::default() };
    for (curve, column) in curves.iter_mut().zip(drawn(labelled, task, scores)) {
        let mut order = rows.clone();
        order.sort_by(|a, b| column.scores[*b].total_cmp(&column.scores[*a]));
        let heights = |weights: &[u32]| heights(&order, &column, weights);
        let found = resampling.bootstrap_many(&options, heights)?;
        let band = found.into_iter().enumerate().filter_map(|(i, interval)| {
            let interval = interval?;
            Some((i as f64 / BAND_STEPS as f64, interval.low, interval.high))
        });
        *curve = std::mem::replace(curve, Series::new("", Vec::new())).with_band(band.collect());
    }
    Ok(true)
}

/// The true positive rates of weighted cases at evenly spaced false positive rates.
fn heights(order: &[usize], column: &Column<'_>, weights: &[u32]) -> Vec<Option<f64>> {
    let sum =
        |kind: u8| -> f64 { order.iter().filter(|i| column.truth[**i] == kind).map(|i| f64::from(weights[*i])).sum() };
    let (positives, negatives) = (sum(1), sum(0));
    if positives == 0.0 || negatives == 0.0 {
        return vec![None; BAND_STEPS + 1];
    }
    let mut points = vec![(0.0, 0.0)];
    let (mut x, mut y) = (0.0, 0.0);
    for (n, &i) in order.iter().enumerate() {
        let weight = f64::from(weights[i]);
        if column.truth[i] == 1 {
            y += weight / positives
        } else {
            x += weight / negatives
        }
        // equal scores are one point
        if order.get(n + 1).is_none_or(|next| column.scores[*next] != column.scores[i]) {
            points.push((x, y));
        }
    }
    let mut out = Vec::with_capacity(BAND_STEPS + 1);
    let mut at = 0;
    for step in 0..=BAND_STEPS {
        let wanted = step as f64 / BAND_STEPS as f64;
        while at + 1 < points.len() && points[at + 1].0 <= wanted + 1e-12 {
            at += 1;
        }
        let (x0, y0) = points[at];
        out.push(Some(match points.get(at + 1) {
            Some(&(x1, y1)) if x1 > x0 => y0 + (y1 - y0) * (wanted - x0) / (x1 - x0),
            _ => y0,
        }));
    }
    out
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
    Ok((!curves.is_empty()).then_some(Plot::Roc { curves, marked: Vec::new() }))
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
            push(DIAGNOSTIC.into(), x, score("test"));
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
    let on_test = series.iter().any(|s| s.name == DIAGNOSTIC);
    let diagnostic =
        if on_test { " Diagnostic: the scores on test are shown, nothing was chosen by them." } else { "" };
    Some(NamedPlot {
        name: axis.plot.clone(),
        plot: Plot::Lines { axes, series },
        caption: format!("{name} by setting; the one that is best on validation is reported.{diagnostic}"),
        varied: false,
    })
}

/// Losses and validation scores over a training, by setting.
fn of_learning(metrics: &Metrics) -> Vec<NamedPlot> {
    let several = metrics.learning.len() > 1;
    let lines: Vec<(String, &LearningCurve)> = metrics
        .learning
        .iter()
        .map(|curve| {
            let chosen = if several && curve.chosen { " (chosen)" } else { "" };
            (format!("{}{chosen}", curve.label), curve)
        })
        .collect();
    learning_plots(&lines, metrics)
}

/// Plots of named trainings; `scored` says by what they were validated.
pub(crate) fn learning_plots(lines: &[(String, &LearningCurve)], scored: &Metrics) -> Vec<NamedPlot> {
    let by = lines.first().map_or("step", |(_, curve)| curve.by.as_str());
    let score = scored.search.as_ref().map_or_else(|| "score".to_owned(), |s| super::pages::score_title(&s.score));
    let series = |of: fn(&LearningCurve) -> &Vec<(f64, f64)>| -> Vec<Series> {
        let drawn = lines.iter().filter(|(_, curve)| of(curve).len() > 1).take(PALETTE.len());
        drawn.map(|(name, curve)| Series::new(name, of(curve).clone())).collect()
    };
    let plot = |name: &str, y_label: String, marks: Marks, series: Vec<Series>, caption: String| {
        let axes = LinePlot { marks, ..LinePlot::new(by, y_label) };
        let plot = Plot::Lines { axes, series };
        (name.to_owned(), plot, caption)
    };
    let all = [
        plot(
            "training-loss",
            "training loss".to_owned(),
            Marks::None,
            series(|curve| &curve.losses),
            format!("Training loss by {by}; of a long training the mean over stretches."),
        ),
        plot(
            "validation-by-step",
            format!("validation {score}"),
            Marks::Dots,
            series(|curve| &curve.scores),
            format!("{score} on validation by {by}: the weights of the best {by} are kept."),
        ),
    ];
    let drawn = |plot: &Plot| matches!(plot, Plot::Lines { series, .. } if !series.is_empty());
    let named = |(name, plot, caption)| NamedPlot { name, plot, caption, varied: false };
    all.into_iter().filter(|(_, plot, _)| drawn(plot)).map(named).collect()
}

/// The curves of smaller training sets and of shifts.
fn of_curves(name: &str, metrics: &Metrics) -> Vec<NamedPlot> {
    let auroc = |point: &CurvePoint| point.metrics.get("auroc").cloned();
    let mut plots = Vec::new();
    let all = [
        ("shots", "training cases per class", "auroc"),
        ("fraction", "fraction of the training cases", "auroc"),
        ("volumes", "training volumes", "dice_by_volume"),
        ("patches", "training patches", "dice_by_volume"),
    ];
    for (curve, x_label, score) in all {
        let title = score_title(score);
        let Some(points) = metrics.curves.get(curve) else { continue };
        let (mut line, mut band) = (Vec::new(), Vec::new());
        for point in points {
            let Some(MetricValue { mean: Some(mean), stdev, .. }) = point.metrics.get(score) else { continue };
            let (mean, stdev) = (*mean, *stdev);
            let sd = stdev.unwrap_or(0.0);
            line.push((point.x, mean));
            band.push((point.x, (mean - sd).max(0.0), (mean + sd).min(1.0)));
        }
        if line.len() < 2 {
            continue;
        }
        let mut series = vec![Series::new(name, line.clone()).with_band(band)];
        let whole = metrics.get("test", score).and_then(|v| v.mean);
        if let (Some(whole), Some((low, _)), Some((high, _))) = (whole, line.first(), line.last()) {
            series.push(Series::new("all training cases", vec![(*low, whole), (*high, whole)]));
        }
        let axes = LinePlot {
            x_label: x_label.into(),
            y_label: format!("test {title}"),
            y_range: None,
            x_scale: XScale::Log,
            marks: Marks::Dots,
        };
        plots.push(NamedPlot {
            name: format!("{}-by-{curve}", score.split('_').next().unwrap_or(score)),
            plot: Plot::Lines { axes, series },
            caption: format!("{title} on the test split; the band is one standard deviation over draws to each side."),
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
