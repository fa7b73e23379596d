//! `dinorad eval METHOD`: a data set and encoders to a run.

use anyhow::Result;
use dinorad::eval::experiment::{Existing, Planned, comparisons, report};

use crate::{args::EvalCommand, tell};

pub(crate) fn run(command: &EvalCommand) -> Result<usize> {
    let args = command.judge();
    let experiments = command.experiments()?;
    let mut runner = args.encoder.hardware.runner()?;
    runner.features = args.features.clone().unwrap_or(runner.features);
    runner.existing = if args.overwrite { Existing::Replace } else { Existing::Keep };
    let alone = experiments.len() == 1;
    let planned: Vec<Planned> = experiments
        .into_iter()
        .enumerate()
        .map(|(i, experiment)| {
            let name = folder_of(i, &experiment.encoder.source);
            let out = if alone { args.out.clone() } else { args.out.join(&name) };
            Planned { name, experiment, out }
        })
        .collect();
    if !alone {
        // The last of them shall not fail when the others have been judged for hours.
        runner.check(&planned)?;
    }
    let done = planned.iter().map(|one| runner.run(&one.experiment, &one.out)).collect::<Result<Vec<_>, _>>()?;
    let compared = comparisons(&done)?;
    let command = done.first().map_or_else(String::new, |d| format!("dinorad eval {}", d.method_name()));
    report(&command, &command, &done, &compared)?.write(&args.out.join("report.html"))?;
    tell::outcomes(&done, &compared, &args.out)
}

/// A folder name for one of several encoders.
fn folder_of(i: usize, id: &str) -> String {
    let last = id.rsplit(['/', '\\']).find(|p| !p.is_empty()).unwrap_or("encoder");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    format!("{}-{}", i + 1, last.chars().map(plain).collect::<String>())
}
