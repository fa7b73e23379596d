//! Scores and settings in rows: the same tables for a page and for a terminal.

use std::collections::BTreeMap;

use dinorad_metrics::signed_text;

use super::{
    Table,
    cards::{count, number},
    exhibit::duration,
    scores::score_title,
};
use crate::{Comparison, CurvePoint, Made, MetricValue, Metrics};

/// Rows of a table of settings; more are in `metrics.json`.
const SETTINGS: usize = 16;
/// Rows that are shown where there are more: the best on validation.
const BEST: usize = 8;

/// Scores that a table of runs may have.
const SCORES: [&str; 5] = ["auroc", "accuracy", "average_precision", "dice_by_volume", "dice"];

/// The splits of `metrics.json` that are controls, with what they are.
const CONTROLS: [(&str, &str); 3] = [
    ("test_shuffled_labels", "shuffled labels"),
    ("test_untrained_encoder", "untrained encoder"),
    ("test_own_data_set", "test split of the training data set"),
];

/// What stands where a number is undefined or was not taken.
const NONE: &str = "–";

fn text(value: Option<&MetricValue>) -> String {
    value.map_or_else(|| NONE.to_owned(), MetricValue::text)
}

/// The head of a column of scores with their intervals.
fn head(split: &str, name: &str) -> String {
    format!("{split} {} (95 % CI)", score_title(name))
}

/// A row a setting that was tried, the chosen one marked; of many the best on validation.
pub fn settings(metrics: &Metrics) -> Option<Table> {
    let search = metrics.search.as_ref().filter(|search| !search.settings.is_empty())?;
    let accuracy = search.settings.iter().any(|s| s.get("test", "accuracy").is_some());
    let validated = search.settings.iter().any(|s| s.get("val", &search.score).is_some());
    let mut columns =
        vec!["setting".to_owned(), format!("val {}", score_title(&search.score)), head("test", &search.score)];
    columns.extend(accuracy.then(|| head("test", "accuracy")));
    columns.push(String::new());
    let width = columns.len();
    let mut order: Vec<usize> = (0..search.settings.len()).collect();
    let score = |i: &usize| {
        let of = search.settings.get(*i).and_then(|s| s.get("val", &search.score));
        of.and_then(|v| v.mean).unwrap_or(f64::NEG_INFINITY)
    };
    let many = order.len() > SETTINGS;
    if many {
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
        order.truncate(BEST);
        order.sort_unstable();
    }
    let mut table = Table::new("Settings that were tried", columns).with_words(1);
    for of in order.into_iter().filter_map(|i| search.settings.get(i)) {
        // the one that was chosen has been on test, whether or not all have
        let chosen = |name: &str| metrics.get("test", name).filter(|_| of.chosen);
        let test =
            |name: &str| of.get("test", name).or_else(|| chosen(name)).map_or_else(String::new, MetricValue::text);
        let mut row = vec![of.label.clone(), text(of.get("val", &search.score)), test(&search.score)];
        row.extend(accuracy.then(|| test("accuracy")));
        row.push(match (of.chosen, validated) {
            (false, _) => String::new(),
            (true, true) => "best on val".to_owned(),
            (true, false) => "the only one".to_owned(),
        });
        table = table.with_row(row);
    }
    if many {
        let more = format!("… {} more in metrics.json", count(search.settings.len() - BEST));
        table = table.with_row(std::iter::once(more).chain(vec![String::new(); width - 1]));
    }
    Some(table)
}

/// What the score is worth: the same where there is nothing to learn, or on the data it was learned from.
pub fn controls(metrics: &Metrics) -> Option<Table> {
    let score = |scores: &BTreeMap<String, MetricValue>, name: &str| -> String {
        let text = |v: &MetricValue| if v.values.len() > 1 { v.text_over_draws() } else { v.text() };
        scores.get(name).map_or_else(|| NONE.to_owned(), text)
    };
    let names: Vec<&str> = ["auroc", "accuracy", "dice_by_volume"]
        .into_iter()
        .filter(|name| metrics.get("test", name).is_some())
        .collect();
    let there: Vec<_> = CONTROLS.iter().filter_map(|(s, what)| Some((*what, metrics.metrics.get(*s)?))).collect();
    if there.is_empty() {
        return None;
    }
    let columns = std::iter::once("control".to_owned()).chain(names.iter().map(|name| head("test", name)));
    let mut table = Table::new("What the score is worth", columns).with_words(1);
    let test = metrics.metrics.get("test").map(|scores| ("this run", scores));
    for (what, scores) in test.into_iter().chain(there) {
        let seeds = scores.values().map(|v| v.values.len()).max().unwrap_or(1);
        let what = if seeds > 1 { format!("{what}, {seeds} seeds") } else { what.to_owned() };
        table = table.with_row(std::iter::once(what).chain(names.iter().map(|name| score(scores, name))));
    }
    Some(table)
}

/// Scores of smaller training sets; `x` says what their sizes count.
pub fn small_sets(points: &[CurvePoint], x: &str) -> Table {
    let heading = "Small training sets: mean ± standard deviation (smallest–largest) over draws";
    let has = |name: &&str| points.iter().any(|point| point.metrics.contains_key(*name));
    let scores: Vec<&str> = SCORES.into_iter().filter(has).collect();
    let cases = points.iter().any(|point| point.cases.is_some());
    let mut columns = vec![x.to_owned()];
    columns.extend(cases.then(|| "cases".to_owned()));
    columns.push("draws".to_owned());
    columns.extend(scores.iter().map(|name| format!("test {}", score_title(name))));
    columns.push(String::new());
    points.iter().fold(Table::new(heading, columns), |table, point| {
        let score = |name: &str| point.metrics.get(name).map_or_else(|| NONE.to_owned(), MetricValue::text_over_draws);
        let draws = point.metrics.values().map(|v| v.values.len()).max().unwrap_or(0);
        let mut row = vec![point.x.to_string()];
        row.extend(cases.then(|| point.cases.map_or_else(String::new, |n| format!("{n:.0}"))));
        row.push(draws.to_string());
        row.extend(scores.iter().map(|name| score(name)));
        row.push(point.notices.join("; "));
        table.with_row(row)
    })
}

/// Scores under shifts of the test images, by severity.
pub fn shifts(metrics: &Metrics) -> Option<Table> {
    let columns = ["shift".to_owned(), "severity".to_owned(), head("test", "auroc"), head("test", "accuracy")];
    let mut table = Table::new("Shifts of the test images", columns).with_words(1);
    let of_shift = metrics.curves.iter().filter_map(|(name, points)| Some((name.strip_prefix("shift_")?, points)));
    for (shift, point) in of_shift.flat_map(|(shift, points)| points.iter().map(move |point| (shift, point))) {
        let score = |name: &str| text(point.metrics.get(name));
        let severity = if point.x == 0.0 { "none".to_owned() } else { point.x.to_string() };
        table = table.with_row([shift.to_owned(), severity, score("auroc"), score("accuracy")]);
    }
    (!table.rows().is_empty()).then_some(table)
}

/// One of several runs on the same cases.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// What it is called: its encoder, or its folder.
    pub name: String,
    /// How it was judged, with the setting that was chosen.
    pub method: String,
    /// Its numbers.
    pub metrics: &'a Metrics,
    /// How it differs from the first; `None` for the first, and where that cannot be said.
    pub compared: Option<Comparison>,
    /// How it went, where that is known.
    pub made: Option<&'a Made>,
}

/// Runs on the same cases, one line each; `what` they are, such as `Encoders`, and what `names` them.
pub fn beside(what: &str, names: &str, lines: &[Line<'_>]) -> Table {
    let scores: Vec<&str> =
        SCORES.into_iter().filter(|name| lines.iter().any(|l| l.metrics.get("test", name).is_some())).collect();
    let differences = lines.iter().any(|line| line.compared.is_some());
    let controls: Vec<&(&str, &str)> =
        CONTROLS[..2].iter().filter(|(s, _)| lines.iter().any(|l| l.metrics.metrics.contains_key(*s))).collect();
    // what they cost, where it differs: several methods, not several encoders under one
    let costs = lines.iter().any(|line| line.metrics.trained_parameters != lines[0].metrics.trained_parameters);
    let memory = costs && lines.iter().any(|line| line.made.is_some_and(|made| made.peak_memory_mb.is_some()));
    let mut columns = vec![names.to_owned(), "method and setting".to_owned()];
    columns.extend(scores.iter().map(|name| format!("{} (95 % CI)", score_title(name))));
    if differences {
        // of masks it is the mean over cases that is compared
        let of = score_title(if scores.contains(&"auroc") { "auroc" } else { "case_dice" });
        columns.extend([format!("{of} minus the first's"), "p".to_owned()]);
    }
    columns.extend(controls.iter().map(|(_, what)| (*what).to_owned()));
    if costs {
        columns.extend(["parameters trained".to_owned(), "time of the run".to_owned()]);
    }
    columns.extend(memory.then(|| "peak memory".to_owned()));
    let how = lines.iter().find_map(|line| line.compared.as_ref()).map(|c| format!(" ({})", c.method));
    let table = Table::new(format!("{what} on the same test cases{}", how.unwrap_or_default()), columns).with_words(2);
    lines.iter().fold(table, |table, line| {
        let mut row = vec![line.name.clone(), line.method.clone()];
        row.extend(scores.iter().map(|name| line.metrics.get("test", name).map_or_else(String::new, |v| v.text())));
        if differences {
            row.extend(line.compared.as_ref().map_or_else(Default::default, |c| [signed(c), p_value(c.p_value)]));
        }
        row.extend(controls.iter().map(|(split, _)| {
            let of = if scores.contains(&"auroc") { "auroc" } else { "dice_by_volume" };
            let value = line.metrics.get(split, of).and_then(|v| v.mean);
            value.map_or_else(|| NONE.to_owned(), number)
        }));
        let none = || NONE.to_owned();
        if costs {
            row.push(line.metrics.trained_parameters.map_or_else(none, count));
            row.push(line.made.and_then(|made| made.seconds).map_or_else(none, duration));
        }
        if memory {
            let peak = line.made.and_then(|made| made.peak_memory_mb);
            row.push(peak.map_or_else(none, |mb| format!("{} MB", count(mb.round() as usize))));
        }
        table.with_row(row)
    })
}

fn signed(c: &Comparison) -> String {
    let ends = |[low, high]: [f64; 2]| format!(" ({} to {})", signed_text(low), signed_text(high));
    format!("{}{}", signed_text(c.difference), c.ci95.map_or_else(String::new, ends))
}

fn p_value(p: Option<f64>) -> String {
    match p {
        None => "undefined".into(),
        Some(p) if p < 0.001 => "< 0.001".into(),
        Some(p) => format!("{p:.3}"),
    }
}
