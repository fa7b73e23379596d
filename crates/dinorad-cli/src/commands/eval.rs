//! `dinorad eval METHOD`: a data set and encoders to a run.

use std::collections::BTreeMap;

use anyhow::Result;
use dinorad::{
    datasets::Pseudonyms,
    eval::{
        experiment::{CrossValidation, Existing, Experiment, Planned, Runner, Watch, comparisons},
        write_atomic,
    },
};

use crate::{
    args::{EvalCommand, JudgeArgs},
    keep_memory_for,
    progress::BARS,
    tell,
};

pub(crate) fn run(command: &EvalCommand) -> Result<usize> {
    command.judge().names.around(|names| judge(command.judge(), command.experiments()?, names))
}

/// What the experiments of `eval` and `finetune` run on.
pub(super) fn runner(args: &JudgeArgs, names: Option<Pseudonyms>) -> Result<Runner<'static>> {
    let mut runner = args.encoder.hardware.runner()?;
    runner.features = args.features.clone().unwrap_or(runner.features);
    runner.pseudonyms = names;
    runner.whole_models = args.keep_model;
    runner.existing = if args.overwrite { Existing::Replace } else { Existing::Refuse };
    Ok(runner)
}

/// Runs the experiments, compares them with the first, and tells of them.
pub(super) fn judge(args: &JudgeArgs, experiments: Vec<Experiment>, names: Option<Pseudonyms>) -> Result<usize> {
    let runner = runner(args, names)?;
    keep_memory_for(experiments.iter().filter_map(|one| one.method.as_deref()));
    if let Some(folds) = args.folds {
        return over_folds(args, &runner, &experiments, CrossValidation { folds, repeats: args.repeats });
    }
    let alone = experiments.len() == 1;
    let planned: Vec<Planned> = experiments
        .into_iter()
        .enumerate()
        .map(|(i, experiment)| {
            let name = folder_of(i, &experiment.encoder.source);
            let out = if alone { args.out.clone() } else { args.out.join(&name) };
            Planned::new(name, experiment, out)
        })
        .collect();
    if !alone {
        // The last of them shall not fail when the others have been judged for hours.
        runner.check(&planned)?;
    }
    let done = planned.iter().map(|one| runner.run(&one.experiment, &one.out)).collect::<Result<Vec<_>, _>>()?;
    let compared = comparisons(&done)?;
    if !alone {
        let told: BTreeMap<&str, _> =
            planned.iter().zip(&compared).filter_map(|(one, c)| Some((one.name.as_str(), c.as_ref()?))).collect();
        let text = serde_json::to_string_pretty(&told)?;
        write_atomic(&args.out.join("comparisons.json"), text.as_bytes(), "eval")?;
    }
    tell::page(&done, &args.out, args.title.as_deref())?;
    if args.json {
        return tell::json(&done);
    }
    tell::outcomes(&done, &compared, &args.out)
}

/// Every experiment once for each fold of its cases: `folds.json` and a report beside the runs.
fn over_folds(
    args: &JudgeArgs,
    runner: &Runner<'_>,
    experiments: &[Experiment],
    cross_validation: CrossValidation,
) -> Result<usize> {
    // Tables of parts hold names of files: under pseudonyms they are not kept.
    let hidden = tempfile::tempdir()?;
    let folder = |i: usize, experiment: &Experiment| match experiments {
        [_] => args.out.clone(),
        _ => args.out.join(folder_of(i, &experiment.encoder.source)),
    };
    // What cannot run leaves nothing behind, and the last encoder does not fail when the others have run.
    for (i, experiment) in experiments.iter().enumerate() {
        runner.check(&cross_validation.planned(experiment, &folder(i, experiment), hidden.path())?)?;
    }
    let mut failed = 0;
    for (i, experiment) in experiments.iter().enumerate() {
        let out = folder(i, experiment);
        let tables = if runner.pseudonyms.is_some() { hidden.path().to_owned() } else { out.join("folds") };
        let planned = cross_validation.planned(experiment, &out, &tables)?;
        let mut done = Vec::with_capacity(planned.len());
        for (n, one) in planned.iter().enumerate() {
            BARS.note(&format!("fold {} of {}", n + 1, planned.len()));
            done.push(runner.run(&one.experiment, &one.out)?);
        }
        let scores = cross_validation.scores(experiment, &done);
        write_atomic(&out.join("folds.json"), serde_json::to_string_pretty(&scores)?.as_bytes(), "eval")?;
        failed += tell::folds(&done, &scores, &out, args)?;
    }
    Ok(failed)
}

/// A folder name for one of several encoders.
fn folder_of(i: usize, id: &str) -> String {
    let last = id.rsplit(['/', '\\']).find(|p| !p.is_empty()).unwrap_or("encoder");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    format!("{}-{}", i + 1, last.chars().map(plain).collect::<String>())
}
