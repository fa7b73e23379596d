//! `dinorad report`: a page over runs, from their folders alone.

use anyhow::Result;
use dinorad::{
    core::in_full,
    report::{RunFolder, Skipped, pages, runs_below},
};
use serde_json::{Value, json};

use crate::{args::ReportArgs, output::say, table::narrow_table};

pub(crate) fn run(args: &ReportArgs) -> Result<usize> {
    let walked = runs_below(&args.runs)?;
    pages::report(&walked.runs, &walked.skipped)?.write(&args.out)?;
    if args.json {
        let skipped: Vec<Value> = walked.skipped.iter().map(skipped).collect();
        let runs: Vec<Value> = walked.runs.iter().map(shown).collect();
        say!("{}", serde_json::to_string_pretty(&json!({ "page": args.out, "runs": runs, "skipped": skipped }))?);
    } else {
        let mut table = narrow_table(&["run", "data", "encoder", "method", "score on test"], 5);
        for run in &walked.runs {
            let described = run.description();
            table.add_row([
                run.name(),
                described.data().unwrap_or_default(),
                described.encoder().unwrap_or_default().to_owned(),
                described.method().unwrap_or_default().to_owned(),
                run.headline().unwrap_or_default(),
            ]);
        }
        say!("{table}");
        say!("{} runs; written to {}", walked.runs.len(), args.out.display());
    }
    for one in &walked.skipped {
        eprintln!("not shown: {}", in_full(&one.error));
    }
    Ok(walked.skipped.len())
}

fn shown(run: &RunFolder) -> Value {
    let described = run.description();
    json!({
        "run": run.path(),
        "data": described.data(),
        "encoder": described.encoder(),
        "method": described.method(),
        "setting": run.metrics().map(|m| &m.setting),
        "test": run.metrics().and_then(|m| m.metrics.get("test")),
    })
}

fn skipped(one: &Skipped) -> Value {
    json!({ "run": one.path, "why": in_full(&one.error) })
}
