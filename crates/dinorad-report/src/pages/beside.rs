//! Runs beside each other: those that judge the same cases, one line each.

use std::collections::{BTreeMap, BTreeSet};

use dinorad_core::TaskKind;
use dinorad_metrics::BootstrapOptions;

use super::{
    Exhibit, Figure, Section,
    labels::{encoder_name, method},
    tables::{self, Line},
};
use crate::{
    Comparison, LearningCurve, Made, Predictions, Result, RunFolder,
    compare::{pairs, same_task},
    figures::learning_plots,
    folder::PREDICTIONS,
    mask_pairs::MaskPairs,
};

/// A run and how it went.
type One<'a> = (&'a RunFolder, &'a Made);

/// A section for every group of at least two runs that judge the same test cases.
pub(super) fn sections(runs: &[RunFolder], made: &[Made]) -> Result<Vec<Section>> {
    let mut groups: Vec<(&RunFolder, Vec<One<'_>>)> = Vec::new();
    for one @ (run, _) in
        runs.iter().zip(made).filter(|(run, _)| run.metrics().is_some_and(|m| m.metrics.contains_key("test")))
    {
        match groups.iter_mut().find(|(first, _)| same_cases(first, run)) {
            Some((_, group)) => group.push(one),
            None => groups.push((run, vec![one])),
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
    let Ok(task) = same_task(a, b) else { return false };
    if task.kind == TaskKind::Segmentation {
        // who learned from fewer scans has a split of its own; the test cases are what counts
        let ids =
            |run: &RunFolder| run.dice_of_cases().ok().flatten().map(|of| of.into_keys().collect::<BTreeSet<String>>());
        return match (ids(a), ids(b)) {
            (Some(of_a), Some(of_b)) => a.description().data() == b.description().data() && of_a == of_b,
            // slices judged all together, without a table of cases
            (None, None) => data(a) == data(b) && n(a) == n(b),
            _ => false,
        };
    }
    data(a) == data(b) && n(a) == n(b)
}

fn section(group: &[One<'_>], alone: bool) -> Result<Section> {
    let differ = |of: &dyn Fn(&RunFolder) -> String| {
        group.split_first().is_some_and(|(first, others)| others.iter().any(|(run, _)| of(run) != of(first.0)))
    };
    let names = |run: &RunFolder| encoder_name(run).unwrap_or_default();
    let methods = |run: &RunFolder| {
        let method = run.exhibits().method.as_deref().or_else(|| run.description().method());
        method.unwrap_or_default().to_owned()
    };
    // Runs that differ in neither are told apart by their folders.
    let folders = !differ(&|run| names(run) + &methods(run));
    let first = group.first().map(|(run, _)| tested(run)).transpose()?.flatten();
    let mut compared = Vec::new();
    for (run, _) in group.iter().skip(1) {
        compared.push(compared_with(group.first().map(|(run, _)| *run), first.as_ref(), run)?);
    }
    let what = if differ(&methods) || folders { "Runs" } else { "Encoders" };
    let mut lines = Vec::new();
    for ((run, made), compared) in group.iter().zip(std::iter::once(None).chain(compared)) {
        let Some(metrics) = run.metrics() else { continue };
        let name = if folders { run.name() } else { names(run) };
        lines.push(Line { name, method: method(run), metrics, compared, made: Some(made) });
    }
    let table = tables::beside(what, if folders { "run" } else { "encoder" }, &lines);
    let data = group.first().and_then(|(run, _)| run.description().data());
    let title = match (alone, data) {
        (true, _) | (_, None) => format!("All {}", what.to_lowercase()),
        (false, Some(data)) => format!("All {} on {data}", what.to_lowercase()),
    };
    let section = Section::new(title).with(Exhibit::Table(table));
    Ok(match learning(group, folders || !differ(&methods)) {
        Some(curves) => section.with(curves),
        None => section,
    })
}

/// The trainings that were chosen, of all runs that were trained by steps; `folders` tells them apart.
fn learning(group: &[One<'_>], folders: bool) -> Option<Exhibit> {
    let curve = |(run, _): &One<'_>| -> Option<(String, LearningCurve)> {
        let all = &run.metrics()?.learning;
        let of = all.iter().find(|curve| curve.chosen).or(all.first())?;
        Some((if folders { run.name() } else { method(run) }, of.clone()))
    };
    let curves: Vec<(String, LearningCurve)> = group.iter().filter_map(curve).collect();
    let first = group.iter().find_map(|(run, _)| run.metrics())?;
    let lines: Vec<(String, &LearningCurve)> = curves.iter().map(|(name, curve)| (name.clone(), curve)).collect();
    if lines.len() < 2 {
        return None;
    }
    let plots = learning_plots(&lines, first);
    let figures = plots.into_iter().map(|plot| Figure::drawn(plot.plot, plot.caption)).collect();
    Some(Exhibit::Figures { heading: "Learning curves".into(), figures })
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
    let Some(first) = first else { return Ok(None) };
    if let Ok(task) = same_task(first, run)
        && task.kind == TaskKind::Segmentation
    {
        let Some(pairs) = MaskPairs::new(run, first, task)? else { return Ok(None) };
        let tests = pairs.tests(&BootstrapOptions::default())?;
        let test = tests.into_iter().find(|test| test.name == "case_dice").and_then(|test| test.bootstrap);
        return Ok(test.map(|test| Comparison {
            difference: test.difference,
            ci95: test.interval,
            p_value: test.p_value,
            method: format!("paired bootstrap over {}", pairs.unit()),
            cases: pairs.cases,
        }));
    }
    let Some(of_first) = of_first else { return Ok(None) };
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
