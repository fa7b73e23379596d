//! What stands beside a score: controls, small training sets, shifts; as tables and as plots.

use dinorad_metrics::{Interval, signed_text};
use dinorad_report::MetricValue;

use super::{ControlScores, Judgements, Outcome, ShiftCurve};
use crate::probe::{Comparison, Judged, ProbeRun, SubsetCurve, SubsetPoint, Tested};

/// Rows of a table of settings; more are in `metrics.json`.
const SETTINGS: usize = 16;
/// Rows that are shown where there are more: the best on validation.
const BEST: usize = 8;

/// `0.912 (0.884–0.936)`, or a dash where the number is undefined.
pub(super) fn interval(value: Option<Interval>) -> String {
    let Some(i) = value else { return MetricValue::default().text() };
    let alone = MetricValue::single(i.estimate);
    if i.is_point() { alone.text() } else { alone.with_ci95(i.low, i.high).text() }
}

/// `0.912`, or a dash.
fn number(value: Option<f64>) -> String {
    MetricValue::single(value.unwrap_or(f64::NAN)).text()
}

/// A table for stdout.
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
}

fn controls(run: &ProbeRun, controls: &ControlScores, own_test: Option<&Judged>) -> Rows {
    let test = run.test();
    let over = |of: fn(&Tested) -> Option<f64>| {
        let values: Vec<f64> = controls.shuffled.iter().map(|t| of(t).unwrap_or(f64::NAN)).collect();
        MetricValue::over_runs(&values).text_over_draws()
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
            point.auroc().text_over_draws(),
            point.accuracy().text_over_draws(),
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
                let ends = |[low, high]: [f64; 2]| format!(" ({} to {})", signed_text(low), signed_text(high));
                row.push(format!("{}{}", signed_text(c.difference), c.ci95.map_or_else(String::new, ends)));
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
