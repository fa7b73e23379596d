//! One file per command.

mod compare;
mod completions;
mod datasets;
mod distill;
mod doctor;
mod embed;
mod eval;
mod export;
mod finetune;
mod inspect;
mod models;
mod pca;
mod predict;
mod pretrain;
mod quickstart;
mod report;
mod run;
mod segment;
mod splits;
mod store;
mod unlabelled;

use anyhow::{Context, Result};

use crate::args::{Args, Command, as_typed};

/// Runs the command and tells how many items failed.
pub(crate) fn run(args: &Args) -> Result<usize> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("--threads")?;
    }
    match &args.command {
        Command::Quickstart(a) => quickstart::run(a).map_err(as_typed),
        Command::Embed(a) => embed::run(a).map_err(as_typed),
        Command::Eval(a) => eval::run(a).map_err(as_typed),
        Command::Finetune(a) => finetune::run(a).map_err(as_typed),
        Command::Pretrain(a) => pretrain::run(a),
        Command::Distill(a) => distill::run(a),
        Command::Predict(a) => predict::run(a),
        Command::Segment(a) => segment::run(a).map_err(as_typed),
        Command::Run(a) => run::run(a),
        Command::Report(a) => report::run(a),
        Command::Compare(a) => compare::run(a),
        Command::Export(a) => export::run(a),
        Command::Store(a) => store::run(a),
        Command::Pca(a) => pca::run(a).map_err(as_typed),
        Command::Inspect(a) => inspect::run(a),
        Command::Models(a) => models::run(a),
        Command::Doctor(a) => doctor::run(a),
        Command::Datasets(a) => datasets::run(a),
        Command::Splits(a) => splits::run(a),
        Command::Completions(a) => completions::completions(a),
        Command::Man(a) => completions::man(a),
    }
}
