//! `dinorad quickstart`: the whole flow once, on data that lies in the repository.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use dinorad::eval::experiment::{Descriptions, Existing};

use crate::{args::QuickstartArgs, listing, output::say, tell};

/// What is run. The data of its descriptions lie in [`DATA`].
const QUICK: &str = include_str!("../../../../experiments/quick.toml");
const DATA: &str = "../examples/data";

/// `examples/data` of the clone: below the current folder, or beside the folder that this program
/// was built into.
pub(crate) fn default_data() -> Option<PathBuf> {
    let inside = Path::new("examples/data");
    if inside.is_dir() {
        return Some(inside.to_owned());
    }
    let program = std::env::current_exe().ok()?;
    program.ancestors().map(|a| a.join(inside)).find(|p| p.is_dir())
}

pub(crate) fn run(args: &QuickstartArgs) -> Result<usize> {
    let started = Instant::now();
    let data = match &args.data {
        Some(data) => data.clone(),
        None => default_data().context(
            "examples/data was not found: run this inside a clone of the repository, or name the folder with --data",
        )?,
    };
    for needed in ["medmnist/pneumoniamnist.npz", "medmnist/adrenalmnist3d_64.npz", "msd-hippocampus", "dicom"] {
        if !data.join(needed).exists() {
            bail!("{}: the quickstart's data is not complete, {needed} is missing", data.display());
        }
    }
    let mut sets = vec![format!("seed={}", args.seed)];
    sets.extend(args.backbone.as_ref().map(|source| format!("encoder.source={source}")));
    let mut runner = args.hardware.runner()?;
    runner.batch = runner.batch.max(32);
    runner.features = args.out.join("features");
    // It is run to be looked at; what an earlier one left is of no use to anybody.
    runner.existing = Existing::Replace;
    let mut descriptions = Descriptions::parse(QUICK, Path::new("quick.toml"), &sets)?;
    for (_, experiment) in &mut descriptions.experiments {
        let inside = experiment.data.root.strip_prefix(DATA).map(Path::to_owned);
        experiment.data.root = data.join(inside.unwrap_or_else(|_| experiment.data.root.clone()));
    }
    let mut done = Vec::new();
    for one in descriptions.planned(&args.out) {
        done.push(runner.run(&one.experiment, &one.out).with_context(|| one.name.clone())?);
    }
    let page = tell::page(&done, &args.out, Some("dinorad quickstart"))?;
    if args.json {
        return tell::json(&done);
    }
    say!("{}", super::run::summary(&done));
    say!("done in {:.0} s; open {}", started.elapsed().as_secs_f64(), page.display());
    if done.first().is_some_and(|one| one.spec.is_untrained()) {
        say!("{}", tell::UNTRAINED);
    }
    let mut failed = 0;
    for one in &done {
        listing::failures(&one.made.failures);
        failed += one.made.failures.len();
    }
    Ok(failed)
}
