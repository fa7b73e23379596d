//! What stands beside a score: controls, small training sets, shifts; as tables and as plots.

use dinorad_metrics::Interval;

use super::{ControlScores, Judgements, Outcome, ShiftCurve};
use crate::{
    Result,
    plot::{self, LinePlot, Marks, Series, XScale},
    probe::{Comparison, Judged, ProbeRun, SubsetCurve, SubsetPoint, Tested},
    report::{self, Block, Figure},
    run::MetricValue,
};

/// Rows of a table of settings; more are in `metrics.json`.
const SETTINGS: usize = 16;
/// Rows that are shown where there are more: the best on validation.
const BEST: usize = 8;

/// `0.912 (0.884–0.936)`, or a dash where the number is undefined.
pub(super) fn interval(value: Option<Interval>) -> String {
    value.map_or_else(|| "–".to_owned(), |i| format!("{:.3} ({:.3}–{:.3})", i.estimate, i.low, i.high))
}

/// `0.912`, or a dash.
fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"))
}

/// `0.912 ± 0.013 (0.890–0.934)` over draws.
fn over_draws(value: &MetricValue) -> String {
    let known: Vec<f64> = value.values.iter().flatten().copied().collect();
    let Some(mean) = value.mean else { return "–".into() };
    let (low, high) = known.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    match value.stdev {
        Some(sd) => format!("{mean:.3} ± {sd:.3} ({low:.3}–{high:.3})"),
        None => format!("{mean:.3}"),
    }
}

/// A table for stdout and for a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// What it shows.
    pub heading: String,
    /// Column heads.
    pub head: Vec<String>,
    /// Columns of words, from the left; the others are numbers.
    pub left: usize,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Rows {
    fn new<S: Into<String>>(heading: impl Into<String>, head: impl IntoIterator<Item = S>, left: usize) -> Self {
        Self { heading: heading.into(), head: head.into_iter().map(Into::into).collect(), left, rows: Vec::new() }
    }

    /// The table as a part of a report.
    pub(super) fn block(self) -> Block {
        let empty = report::Table::new(self.heading, self.head);
        Block::Table(self.rows.into_iter().fold(empty, report::Table::with_row))
    }
}

fn controls(run: &ProbeRun, controls: &ControlScores, own_test: Option<&Judged>) -> Rows {
    let test = run.test();
    let over = |of: fn(&Tested) -> Option<f64>| {
        let values: Vec<f64> = controls.shuffled.iter().map(|t| of(t).unwrap_or(f64::NAN)).collect();
        over_draws(&MetricValue::over_runs(&values))
    };
    let head = ["control", "test AUROC (95 % CI)", "test accuracy (95 % CI)"];
    let mut table = Rows::new("What the score is worth", head, 1);
    let rows = &mut table.rows;
    rows.push(vec!["this run".into(), interval(test.auroc), interval(test.accuracy)]);
    if !controls.shuffled.is_empty() {
        let what = format!("shuffled labels, {} seeds", controls.shuffled.len());
        rows.push(vec![what, over(|t| t.auroc), over(|t| t.accuracy)]);
    }
    rows.extend(controls.untrained.as_ref().map(|untrained| match untrained {
        Ok(run) => vec!["untrained encoder".into(), interval(run.test().auroc), interval(run.test().accuracy)],
        Err(why) => vec![format!("untrained encoder: {why}"), "–".into(), "–".into()],
    }));
    if let Some(own) = own_test {
        rows.push(vec!["test split of the training data set".into(), interval(own.auroc), interval(own.accuracy)]);
    }
    table
}

fn subset(curve: &SubsetCurve) -> Rows {
    let row = |point: &SubsetPoint| {
        let mut notices: Vec<&str> = point.draws.iter().filter_map(|d| d.notice.as_deref()).collect();
        notices.sort_unstable();
        notices.dedup();
        vec![
            format!("{}", point.x),
            format!("{:.0}", point.cases()),
            point.draws.len().to_string(),
            over_draws(&point.auroc()),
            over_draws(&point.accuracy()),
            notices.join("; "),
        ]
    };
    let x = if curve.name == "shots" { curve.unit } else { "fraction" };
    let heading =
        format!("Small training sets: mean ± standard deviation (smallest–largest) over draws; {}", curve.note);
    let mut table = Rows::new(heading, [x, "cases", "draws", "test AUROC", "test accuracy", ""], 0);
    table.rows.extend(curve.points.iter().map(row));
    table
}

fn shift(curves: &[ShiftCurve]) -> Rows {
    let head = ["shift", "severity", "test AUROC (95 % CI)", "test accuracy (95 % CI)"];
    let mut table = Rows::new("Shifts of the test images", head, 1);
    for curve in curves {
        for (severity, judged) in curve.points.iter().enumerate() {
            table.rows.push(vec![
                curve.shift.to_string(),
                if severity == 0 { "none".into() } else { severity.to_string() },
                interval(judged.auroc),
                interval(judged.accuracy),
            ]);
        }
    }
    table
}

/// One line a setting; the one chosen on validation is marked.
fn by_setting(run: &ProbeRun) -> Rows {
    let tests_all = run.method().tables_every_setting();
    let head = ["setting", "val AUROC", "test AUROC (95 % CI)", "test accuracy (95 % CI)", ""];
    let mut table = Rows::new("Settings", head, 1);
    let mut order: Vec<usize> = (0..run.of_setting().len()).collect();
    let score = |i: &usize| run.of_setting()[*i].val_auroc.unwrap_or(f64::NEG_INFINITY);
    if order.len() > SETTINGS {
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
        order.truncate(BEST);
        order.sort_unstable();
    }
    for i in order {
        let of = &run.of_setting()[i];
        let chosen = of.setting == *run.best();
        let test = of.test.as_ref().filter(|_| tests_all || chosen);
        table.rows.push(vec![
            of.setting.label.clone(),
            number(of.val_auroc),
            test.map_or_else(String::new, |t| interval(t.auroc)),
            test.map_or_else(String::new, |t| interval(t.accuracy)),
            match (chosen, run.val()) {
                (false, _) => String::new(),
                (true, Some(_)) => "best on val".to_owned(),
                (true, None) => "the only one".to_owned(),
            },
        ]);
    }
    if run.of_setting().len() > SETTINGS {
        let more = format!("… {} more in metrics.json", run.of_setting().len() - BEST);
        table.rows.push(vec![more, String::new(), String::new(), String::new(), String::new()]);
    }
    table
}

impl Outcome {
    /// Scores by setting.
    pub fn settings_table(&self) -> Option<Rows> {
        self.probe().map(by_setting)
    }

    /// The tables of small training sets and of shifts alone.
    pub fn tables_of_curves(&self) -> Vec<Rows> {
        let Judgements::Classes { subsets, shifts, .. } = &self.judgements else { return Vec::new() };
        let mut tables: Vec<Rows> = subsets.iter().map(subset).collect();
        if !shifts.is_empty() {
            tables.push(shift(shifts));
        }
        tables
    }

    /// How the cases of small training sets were drawn, and by what their settings were chosen.
    pub fn curve_notes(&self) -> Vec<String> {
        let Judgements::Classes { subsets, .. } = &self.judgements else { return Vec::new() };
        subsets.iter().map(|curve| format!("{}: {}", curve.name, curve.note)).collect()
    }

    /// What stands beside the score: controls, small training sets, shifts.
    pub fn tables(&self) -> Vec<Rows> {
        let Judgements::Classes { run, controls: of, own_test, .. } = &self.judgements else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        match of {
            Some(of) => tables.push(controls(run, of, own_test.as_ref())),
            None => {
                if let Some(own) = own_test {
                    let head = ["test split of the training data set", "AUROC (95 % CI)", "accuracy (95 % CI)"];
                    let mut table = Rows::new("The data set that was learned from", head, 1);
                    table.rows.push(vec![String::new(), interval(own.auroc), interval(own.accuracy)]);
                    tables.push(table);
                }
            }
        }
        tables.extend(self.tables_of_curves());
        tables
    }
}

/// Name, SVG and caption of the plots of curves.
pub(super) fn plots(done: &Outcome) -> Result<Vec<(String, String, String)>> {
    let mut plots = Vec::new();
    let Judgements::Classes { run, subsets, shifts, .. } = &done.judgements else { return Ok(plots) };
    for curve in subsets {
        let (mut line, mut band) = (Vec::new(), Vec::new());
        for point in &curve.points {
            let value = point.auroc();
            let Some(mean) = value.mean else { continue };
            let sd = value.stdev.unwrap_or(0.0);
            line.push((point.x, mean));
            band.push((point.x, (mean - sd).max(0.0), (mean + sd).min(1.0)));
        }
        if line.len() < 2 {
            continue;
        }
        let whole = run.test().auroc.map(|i| i.estimate);
        let mut series = vec![Series::new(done.spec.id.clone(), line.clone()).with_band(band)];
        if let (Some(whole), Some((low, _)), Some((high, _))) = (whole, line.first(), line.last()) {
            series.push(Series::new("all training cases", vec![(*low, whole), (*high, whole)]));
        }
        let options = LinePlot {
            x_label: if curve.name == "shots" { format!("training {}", curve.unit) } else { curve.unit.into() },
            y_label: "test AUROC".into(),
            y_range: None,
            x_scale: XScale::Log,
            marks: Marks::Dots,
        };
        let caption = format!(
            "AUROC on the test split; the band is one standard deviation over draws to each side; {}.",
            curve.note
        );
        plots.push((format!("auroc-by-{}", curve.name), plot::lines(&options, &series)?, caption));
    }
    let series: Vec<Series> = shifts
        .iter()
        .map(|curve| {
            let points = curve.points.iter().enumerate().filter_map(|(x, judged)| Some((x as f64, judged.auroc?)));
            let (line, band) = points.map(|(x, i)| ((x, i.estimate), (x, i.low, i.high))).unzip();
            Series::new(curve.shift.to_string(), line).with_band(band)
        })
        .collect();
    if series.iter().any(|s| s.points.len() > 1) {
        let options = LinePlot {
            x_label: "severity of the shift (0: none)".into(),
            y_label: "test AUROC".into(),
            y_range: None,
            x_scale: XScale::Linear,
            marks: Marks::Dots,
        };
        let caption = "AUROC of the same model on ever worse images of the test split; bands are 95 % intervals.";
        plots.push(("auroc-by-shift".into(), plot::lines(&options, &series)?, caption.to_owned()));
    }
    Ok(plots)
}

/// Tables and plots for a report's section.
pub(super) fn blocks(done: &Outcome) -> Result<Vec<Block>> {
    let mut tables = done.tables();
    let mut blocks = Vec::new();
    // The controls come first: they say how to read all that follows.
    if matches!(&done.judgements, Judgements::Classes { controls: Some(_), .. }) {
        blocks.push(tables.remove(0).block());
    }
    let figures: Vec<Figure> = plots(done)?.into_iter().map(|(_, svg, caption)| Figure::plot(svg, caption)).collect();
    if !figures.is_empty() {
        blocks.push(Block::Figures { heading: "Fewer cases, worse images".into(), figures });
    }
    blocks.extend(tables.into_iter().map(Rows::block));
    blocks.push(Block::Timings(done.timings.clone()));
    Ok(blocks)
}

/// One line an encoder, compared with the first.
pub fn encoders(done: &[Outcome], compared: &[Option<Comparison>]) -> Rows {
    let method = compared.iter().flatten().next().map_or_else(String::new, |c| format!(" ({})", c.method));
    let controls = |one: &Outcome| match &one.judgements {
        Judgements::Classes { controls: Some(controls), .. } => {
            let values: Vec<f64> = controls.shuffled.iter().map(|t| t.auroc.unwrap_or(f64::NAN)).collect();
            let untrained = controls.untrained.as_ref().and_then(|of| of.as_ref().ok());
            let untrained = untrained.and_then(|run| run.test().auroc).map(|i| i.estimate);
            Some([number(MetricValue::over_runs(&values).mean), number(untrained)])
        }
        _ => None,
    };
    let with_controls = done.iter().any(|one| controls(one).is_some());
    let mut head = vec![
        "encoder",
        "setting",
        "AUROC (95 % CI)",
        "accuracy (95 % CI)",
        "average precision",
        "AUROC minus the first's",
        "p",
    ];
    if with_controls {
        head.extend(["shuffled labels", "untrained"]);
    }
    let mut table = Rows::new(format!("Encoders on the same test cases{method}"), head, 2);
    for (one, compared) in done.iter().zip(compared.iter().chain(std::iter::repeat(&None))) {
        let Some(run) = one.probe() else { continue };
        let test = run.test();
        let precision = test.others.iter().find(|s| s.name == "average_precision").and_then(|s| s.interval);
        let mut row = vec![
            one.spec.id.clone(),
            run.best().label.clone(),
            interval(test.auroc),
            interval(test.accuracy),
            interval(precision),
        ];
        match compared {
            Some(c) => {
                let ends = c.ci95.map_or_else(String::new, |[low, high]| format!(" ({low:+.3} to {high:+.3})"));
                row.push(format!("{:+.3}{ends}", c.difference));
                row.push(match c.p_value {
                    None => "undefined".into(),
                    Some(p) if p < 0.001 => "< 0.001".into(),
                    Some(p) => format!("{p:.3}"),
                });
            }
            None => row.extend([String::new(), String::new()]),
        }
        if with_controls {
            row.extend(controls(one).unwrap_or_default());
        }
        table.rows.push(row);
    }
    table
}
