//! `dinorad run FILE`: the experiments that a file describes.

use anyhow::Result;
use dinorad::{
    core::in_full,
    datasets::Pseudonyms,
    eval::experiment::{Descriptions, Estimate, Existing, Outcome, Planned, Runner},
};

use crate::{args::RunArgs, keep_memory_for, listing, output::say, table::narrow_table, tell};

pub(crate) fn run(args: &RunArgs) -> Result<usize> {
    args.names.around(|names| run_all(args, names))
}

fn run_all(args: &RunArgs, names: Option<Pseudonyms>) -> Result<usize> {
    let mut runner = args.hardware.runner()?;
    runner.features = args.features.clone().unwrap_or(runner.features);
    runner.pseudonyms = names;
    runner.whole_models = args.keep_model;
    runner.existing = if args.overwrite { Existing::Replace } else { Existing::Refuse };
    let planned = Descriptions::read(&args.file, &args.set)?.planned(&args.out);
    runner.check(&planned)?;
    keep_memory_for(planned.iter().filter_map(|one| one.experiment.method.as_deref()));
    if args.dry_run {
        return dry(&runner, &planned);
    }
    let (mut done, mut failed) = (Vec::new(), 0);
    for one in &planned {
        match runner.run_planned(one) {
            Ok(Some(outcome)) => done.push(outcome),
            Ok(None) => listing::note(&format!("{} was done before: {}", one.name, one.out.display())),
            // One that fails does not stop the others.
            Err(error) if planned.len() > 1 => {
                eprintln!("error: {}: {}", one.name, in_full(&error));
                failed += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if done.is_empty() {
        return Ok(failed);
    }
    tell::page(&done, &args.out, args.title.as_deref())?;
    if args.json {
        return Ok(failed + tell::json(&done)?);
    }
    if planned.len() == 1 {
        return tell::outcomes(&done, &[None], &args.out);
    }
    say!("{}", summary(&done));
    say!("written to {}", args.out.display());
    for one in &done {
        listing::notices(&one.notices());
        listing::failures(&one.made.failures);
        failed += one.made.failures.len();
    }
    Ok(failed)
}

/// One line an experiment.
pub(crate) fn summary(done: &[Outcome]) -> comfy_table::Table {
    let mut rows = narrow_table(&["experiment", "data", "score on test (95 % CI)", "method"], 4);
    for one in done {
        rows.add_row([one.heading(), one.data_name(), one.headline(), one.method()]);
    }
    rows
}

/// What would run, and what it would cost at most.
fn dry(runner: &Runner<'_>, planned: &[Planned]) -> Result<usize> {
    let mut rows = narrow_table(&["experiment", "folder", "images", "encoding", "features", "memory"], 2);
    let mut all = Estimate::default();
    for one in planned {
        let of = runner.estimate(&one.experiment)?;
        rows.add_row([
            one.name.clone(),
            one.out.display().to_string(),
            of.images.to_string(),
            duration(of.seconds),
            bytes(of.disk),
            bytes(of.memory),
        ]);
        all.images += of.images;
        all.seconds += of.seconds;
        all.disk += of.disk;
        all.memory = all.memory.max(of.memory);
    }
    say!("{rows}");
    say!(
        "at most {} images, {} of encoding, {} of features on disk, {} of memory; what is in {} already is not encoded again",
        all.images,
        duration(all.seconds),
        bytes(all.disk),
        bytes(all.memory),
        runner.features.display()
    );
    Ok(0)
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
