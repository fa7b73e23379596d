//! The command `dinorad`: radiology files to judged DINOv2 features.
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

mod args;
mod build;
mod commands;
mod hardware;
mod listing;
mod output;
mod progress;
mod pseudonyms;
mod sheet;
mod table;
mod tell;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use dinorad::{
    core::method::{Input, Method},
    kernels::memory::Recycling,
};

/// Memory of a training step is kept for the next one, which asks for the same blocks; other work asks for
/// many sizes, and gives back what it had.
#[global_allocator]
static ALLOCATOR: Recycling = Recycling::off();

/// Keeps memory for steps to come, where one of the methods trains inside an encoder.
fn keep_memory_for<'m>(mut methods: impl Iterator<Item = &'m dyn Method>) {
    if methods.any(|method| method.input() == Input::Pixels) {
        keep_memory();
    }
}

/// Keeps memory for steps to come.
fn keep_memory() {
    ALLOCATOR.keep(true);
}

/// Exit codes: 0 done, 1 some items failed, 2 could not run.
fn main() -> ExitCode {
    let args = args::Args::parse();
    // Slices without content are the rule in volumes; that they became zero is said with -v only,
    // and so is what the HTTP client and the feature store log: it comes back to us and is told once.
    progress::be_quiet(args.quiet);
    // What is done is in its place whenever this is stopped: every file appears whole.
    let stopped = || {
        eprintln!("\nstopped; what is done is kept: run the same command again to resume");
        std::process::exit(130);
    };
    if let Err(error) = ctrlc::set_handler(stopped) {
        eprintln!("note: Ctrl-C ends this without a word: {error}");
    }
    let level = match args.verbose {
        true => "info,dinorad=debug",
        false => "warn,dinorad_transforms=error,dinorad_eval::store=error,ureq=off,rustls_platform_verifier=off",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
    match commands::run(&args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} {} failed", if failed == 1 { "item" } else { "items" });
            ExitCode::from(1)
        }
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
