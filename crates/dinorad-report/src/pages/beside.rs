//! Runs beside each other: those that judge the same cases, one line each.

use std::collections::BTreeMap;

use dinorad_metrics::BootstrapOptions;

use super::{
    Exhibit, Section,
    labels::{encoder_name, method},
    tables::{self, Line},
};
use crate::{
    Comparison, Predictions, Result, RunFolder,
    compare::{pairs, same_task},
    folder::PREDICTIONS,
};

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
    let what = if differ(&methods) || folders { "Runs" } else { "Encoders" };
    let mut lines = Vec::new();
    for (run, compared) in group.iter().zip(std::iter::once(None).chain(compared)) {
        let Some(metrics) = run.metrics() else { continue };
        let name = if folders { run.name() } else { names(run) };
        lines.push(Line { name, method: method(run), metrics, compared });
    }
    let table = tables::beside(what, if folders { "run" } else { "encoder" }, &lines);
    let data = group.first().and_then(|run| run.description().data());
    let title = match (alone, data) {
        (true, _) | (_, None) => format!("All {}", what.to_lowercase()),
        (false, Some(data)) => format!("All {} on {data}", what.to_lowercase()),
    };
    Ok(Section::new(title).with(Exhibit::Table(table)))
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
