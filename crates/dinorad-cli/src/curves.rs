//! What stands beside a score: controls, small training sets, shifts; as tables and as plots.

use anyhow::Result;
use comfy_table::Table;
use dinorad::{
    eval::{
        plot::{self, LinePlot, Marks, Series, XScale},
        probe::{SubsetCurve, SubsetPoint},
        report::{self, Block, Figure},
        run::MetricValue,
    },
    metrics::signed_text,
};

use crate::{
    judge::{Controls, Done, ShiftCurve},
    summary::{interval, number},
    table::table,
};

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

/// Head and rows of a table, for stdout and for the report.
struct Rows {
    heading: String,
    head: Vec<&'static str>,
    left: usize,
    rows: Vec<Vec<String>>,
}

impl Rows {
    fn table(self) -> Table {
        let mut table = table(&self.head, self.left);
        for row in self.rows {
            table.add_row(row);
        }
        table
    }

    fn block(self) -> Block {
        let empty = report::Table::new(self.heading, self.head);
        Block::Table(self.rows.into_iter().fold(empty, report::Table::with_row))
    }
}

fn controls(done: &Done, controls: &Controls) -> Rows {
    let test = done.run.test();
    let over = |of: fn(&dinorad::eval::probe::Tested) -> Option<f64>| {
        let values: Vec<f64> = controls.shuffled.iter().map(|t| of(t).unwrap_or(f64::NAN)).collect();
        over_draws(&MetricValue::over_runs(&values))
    };
    let mut rows = vec![
        vec!["this run".into(), interval(test.auroc), interval(test.accuracy)],
        vec![format!("shuffled labels, {} seeds", controls.shuffled.len()), over(|t| t.auroc), over(|t| t.accuracy)],
    ];
    rows.push(match &controls.untrained {
        Ok(run) => vec!["untrained encoder".into(), interval(run.test().auroc), interval(run.test().accuracy)],
        Err(why) => vec![format!("untrained encoder: {why}"), "–".into(), "–".into()],
    });
    if let Some(own) = &done.own_test {
        rows.push(vec!["test split of the training data set".into(), interval(own.auroc), interval(own.accuracy)]);
    }
    Rows {
        heading: "What the score is worth".into(),
        head: vec!["control", "test AUROC (95 % CI)", "test accuracy (95 % CI)"],
        left: 1,
        rows,
    }
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
    Rows {
        heading: "Small training sets: mean ± standard deviation (smallest–largest) over draws".into(),
        head: vec![
            if curve.name == "shots" { "shots per class" } else { "fraction" },
            "cases",
            "draws",
            "test AUROC",
            "test accuracy",
            "",
        ],
        left: 0,
        rows: curve.points.iter().map(row).collect(),
    }
}

fn shift(curves: &[ShiftCurve]) -> Rows {
    let mut rows = Vec::new();
    for curve in curves {
        for (severity, judged) in curve.points.iter().enumerate() {
            rows.push(vec![
                curve.shift.to_string(),
                if severity == 0 { "none".into() } else { severity.to_string() },
                interval(judged.auroc),
                interval(judged.accuracy),
            ]);
        }
    }
    Rows {
        heading: "Shifts of the test images".into(),
        head: vec!["shift", "severity", "test AUROC (95 % CI)", "test accuracy (95 % CI)"],
        left: 1,
        rows,
    }
}

/// Tables for stdout.
pub(crate) fn tables(done: &Done) -> Vec<Table> {
    let mut tables = Vec::new();
    match &done.controls {
        Some(of) => tables.push(controls(done, of).table()),
        None => {
            if let Some(own) = &done.own_test {
                let mut table =
                    table(&["test split of the training data set", "AUROC (95 % CI)", "accuracy (95 % CI)"], 1);
                table.add_row([String::new(), interval(own.auroc), interval(own.accuracy)]);
                tables.push(table);
            }
        }
    }
    tables.extend(done.subsets.iter().map(|curve| subset(curve).table()));
    if !done.shifts.is_empty() {
        tables.push(shift(&done.shifts).table());
    }
    tables
}

/// Name, SVG and caption of the plots of curves.
pub(crate) fn plots(done: &Done) -> Result<Vec<(String, String, String)>> {
    let mut plots = Vec::new();
    for curve in &done.subsets {
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
        let whole = done.run.test().auroc.map(|i| i.estimate);
        let mut series = vec![Series::new(done.spec.id.clone(), line.clone()).with_band(band)];
        if let (Some(whole), Some((low, _)), Some((high, _))) = (whole, line.first(), line.last()) {
            series.push(Series::new("all training cases", vec![(*low, whole), (*high, whole)]));
        }
        let options = LinePlot {
            x_label: if curve.name == "shots" { "training cases per class" } else { "fraction of the training cases" }
                .into(),
            y_label: "test AUROC".into(),
            y_range: None,
            x_scale: XScale::Log,
            marks: Marks::Dots,
        };
        let caption = "AUROC on the test split; the band is one standard deviation over draws to each side.";
        plots.push((format!("auroc-by-{}", curve.name), plot::lines(&options, &series)?, caption.to_owned()));
    }
    let series: Vec<Series> = done
        .shifts
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
pub(crate) fn blocks(done: &Done) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    if let Some(of) = &done.controls {
        blocks.push(controls(done, of).block());
    }
    let figures: Vec<Figure> = plots(done)?.into_iter().map(|(_, svg, caption)| Figure::plot(svg, caption)).collect();
    if !figures.is_empty() {
        blocks.push(Block::Figures { heading: "Fewer cases, worse images".into(), figures });
    }
    blocks.extend(done.subsets.iter().map(|curve| subset(curve).block()));
    if !done.shifts.is_empty() {
        blocks.push(shift(&done.shifts).block());
    }
    blocks.push(Block::Timings(done.timings.clone()));
    Ok(blocks)
}

/// One line an encoder, compared with the first.
pub(crate) fn by_encoder(done: &[Done]) -> Table {
    encoders(done).table()
}

/// The same for a report.
pub(crate) fn encoder_block(done: &[Done]) -> Block {
    encoders(done).block()
}

fn encoders(done: &[Done]) -> Rows {
    let with_controls = done.iter().any(|d| d.controls.is_some());
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
    let rows = done
        .iter()
        .map(|one| {
            let test = one.run.test();
            let precision = test.others.iter().find(|s| s.name == "average_precision").and_then(|s| s.interval);
            let mut row = vec![
                one.spec.id.clone(),
                one.run.best().label.clone(),
                interval(test.auroc),
                interval(test.accuracy),
                interval(precision),
            ];
            match &one.comparison {
                Some(c) => {
                    let ends = c.ci95.map_or_else(String::new, |[low, high]| {
                        format!(" ({} to {})", signed_text(low), signed_text(high))
                    });
                    row.push(format!("{}{ends}", signed_text(c.difference)));
                    row.push(match c.p_value {
                        None => "undefined".into(),
                        Some(p) if p < 0.001 => "< 0.001".into(),
                        Some(p) => format!("{p:.3}"),
                    });
                }
                None => row.extend([String::new(), String::new()]),
            }
            if with_controls {
                match &one.controls {
                    Some(controls) => {
                        let values: Vec<f64> = controls.shuffled.iter().map(|t| t.auroc.unwrap_or(f64::NAN)).collect();
                        row.push(number(MetricValue::over_runs(&values).mean));
                        let untrained = controls.untrained.as_ref().ok().and_then(|run| run.test().auroc);
                        row.push(number(untrained.map(|i| i.estimate)));
                    }
                    None => row.extend([String::new(), String::new()]),
                }
            }
            row
        })
        .collect();
    let method = done.iter().find_map(|d| d.comparison.as_ref()).map(|c| format!(" ({})", c.method));
    Rows { heading: format!("Encoders on the same test cases{}", method.unwrap_or_default()), head, left: 2, rows }
}
