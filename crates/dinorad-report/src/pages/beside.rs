//! Runs beside each other: those that judge the same cases, one line each.

use std::collections::BTreeMap;

use dinorad_metrics::BootstrapOptions;

use super::{
    Block, Section, Table,
    cards::number,
    runs::{encoder_name, method},
};
use crate::{
    Comparison, MetricValue, Predictions, Result, RunFolder,
    compare::{pairs, same_task},
    folder::PREDICTIONS,
};

/// Scores that a table of runs may have.
const SCORES: [&str; 5] = ["auroc", "accuracy", "average_precision", "dice_by_volume", "dice"];

/// A section for every group of at least two runs that judge the same test cases.
pub(super) fn sections(runs: &[RunFolder]) -> Result<Vec<Section>> {
    let mut groups: Vec<(&RunFolder, Vec<&RunFolder>)> = Vec::new();
    for run in runs.iter().filter(|run| run.metrics().is_some_and(|m| m.metrics.contains_key("test"))) {
        match groups.iter_mut().find(|(first, _)| same_cases(first, run)) {
            Some((_, group)) => group.push(run),
            None => groups.push((run, vec![run])),
        }
    }
    let several: Vec<_> = groups.into_iter().map(|(_, group)| group).filter(|group| group.len() > 1).collect();
    let alone = several.len() == 1;
    several.iter().map(|group| section(group, alone)).collect()
}

/// Whether two runs answer the same task on the same part of the same data.
fn same_cases(a: &RunFolder, b: &RunFolder) -> bool {
    let data = |run: &RunFolder| {
        let d = run.description();
        let splits = d.text("data.splits_digest").map(str::to_owned);
        (d.data(), splits, d.protocol().map(str::to_owned))
    };
    let n = |run: &RunFolder| run.metrics().and_then(|m| m.cases.get("test")).map(|c| (c.n, c.positives.clone()));
    data(a) == data(b) && n(a) == n(b) && same_task(a, b).is_ok()
}

fn section(group: &[&RunFolder], alone: bool) -> Result<Section> {
    let differ = |of: &dyn Fn(&RunFolder) -> String| {
        group.split_first().is_some_and(|(first, others)| others.iter().any(|run| of(run) != of(first)))
    };
    let names = |run: &RunFolder| encoder_name(run).unwrap_or_default();
    let methods = |run: &RunFolder| {
        let method = run.exhibits().method.as_deref().or_else(|| run.description().method());
        method.unwrap_or_default().to_owned()
    };
    // Runs that differ in neither are told apart by their folders.
    let folders = !differ(&|run| names(run) + &methods(run));
    let first = group.first().map(|run| tested(run)).transpose()?.flatten();
    let mut compared = Vec::new();
    for run in group.iter().skip(1) {
        compared.push(compared_with(group.first().copied(), first.as_ref(), run)?);
    }
    let test = |run: &RunFolder, name: &str| -> Option<MetricValue> { run.metrics()?.get("test", name).cloned() };
    let scores: Vec<&str> =
        SCORES.into_iter().filter(|name| group.iter().any(|run| test(run, name).is_some())).collect();
    let has = |split: &str| group.iter().any(|run| run.metrics().is_some_and(|m| m.metrics.contains_key(split)));
    let (shuffled, untrained) = (has("test_shuffled_labels"), has("test_untrained_encoder"));
    let differences = compared.iter().any(Option::is_some);

    let mut head = vec![if folders { "run" } else { "encoder" }.to_owned(), "method and setting".to_owned()];
    head.extend(scores.iter().map(|name| format!("{} (95 % CI)", super::score_title(name))));
    if differences {
        head.extend(["AUROC minus the first's".to_owned(), "p".to_owned()]);
    }
    head.extend(shuffled.then(|| "shuffled labels".to_owned()));
    head.extend(untrained.then(|| "untrained".to_owned()));
    let how = compared.iter().flatten().next().map(|c| format!(" ({})", c.method));
    let what = if differ(&methods) || folders { "Runs" } else { "Encoders" };
    let mut table = Table::new(format!("{what} on the same test cases{}", how.unwrap_or_default()), head);
    let none = None;
    for (run, comparison) in group.iter().zip(std::iter::once(&none).chain(&compared)) {
        let mut row = vec![if folders { run.name() } else { names(run) }, method(run)];
        row.extend(scores.iter().map(|name| test(run, name).map_or_else(String::new, |v| v.text())));
        if differences {
            row.extend(match comparison {
                Some(c) => [signed(c), p_value(c.p_value)],
                None => [String::new(), String::new()],
            });
        }
        let control = |split: &str| {
            let value = run.metrics().and_then(|m| m.get(split, "auroc")).and_then(|v| v.mean);
            value.map_or_else(|| "–".to_owned(), number)
        };
        row.extend(shuffled.then(|| control("test_shuffled_labels")));
        row.extend(untrained.then(|| control("test_untrained_encoder")));
        table = table.with_row(row);
    }
    let data = group.first().and_then(|run| run.description().data());
    let title = match (alone, data) {
        (true, _) | (_, None) => format!("All {}", what.to_lowercase()),
        (false, Some(data)) => format!("All {} on {data}", what.to_lowercase()),
    };
    Ok(Section::new(title).with(Block::Table(table)))
}

fn tested(run: &RunFolder) -> Result<Option<Predictions>> {
    run.predictions(PREDICTIONS)
}

/// How a run differs from the first of its group: as it says itself, else by the two predictions.
fn compared_with(
    first: Option<&RunFolder>,
    of_first: Option<&Predictions>,
    run: &RunFolder,
) -> Result<Option<Comparison>> {
    let (Some(first), Some(of_first)) = (first, of_first) else { return Ok(None) };
    let name = encoder_name(first).unwrap_or_default();
    let known: Option<&BTreeMap<String, Comparison>> = run.metrics().map(|m| &m.comparisons);
    if let Some(known) = known.and_then(|all| all.get(&format!("auroc minus that of {name}"))) {
        return Ok(Some(known.clone()));
    }
    let (Some(of_run), Ok(task)) = (tested(run)?, same_task(first, run)) else { return Ok(None) };
    // patients as the first run knows them; the difference is this run's minus the first's
    let Some(pairs) = pairs(first, of_first, &of_run, task)? else { return Ok(None) };
    Ok(pairs.auroc(&BootstrapOptions::default())?.map(Comparison::turned))
}

fn signed(c: &Comparison) -> String {
    let text = |v: f64| {
        let text = format!("{v:+.3}");
        if text == "-0.000" { "+0.000".into() } else { text }
    };
    format!("{} ({} to {})", text(c.difference), text(c.ci95[0]), text(c.ci95[1]))
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}
