//! `dinorad report`: a page over runs, from their folders alone.

use anyhow::Result;
use dinorad::{
    core::in_full,
    datasets::Pseudonyms,
    eval::pseudonyms::renaming,
    report::{RunFolder, Skipped, pages, runs_below},
};
use serde_json::{Value, json};

use crate::{args::ReportArgs, output::say, table::narrow_table};

pub(crate) fn run(args: &ReportArgs) -> Result<usize> {
    args.names.around(|names| page(args, names))
}

fn page(args: &ReportArgs, names: Option<Pseudonyms>) -> Result<usize> {
    let walked = runs_below(&args.runs)?;
    let hidden = names.is_some();
    let walked = match &names {
        Some(names) => walked.renamed(&renaming(names))?,
        None => walked,
    };
    let report = pages::report(&walked.runs, &walked.skipped)?;
    match &args.title {
        Some(title) => report.with_title(title).write(&args.out)?,
        None => report.write(&args.out)?,
    }
    if args.json {
        let skipped: Vec<Value> = walked.skipped.iter().map(skipped).collect();
        let runs: Vec<Value> = walked.runs.iter().map(|run| shown(run, hidden)).collect();
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

/// A run that has another name is told by it, not by its path.
fn shown(run: &RunFolder, hidden: bool) -> Value {
    let described = run.description();
    json!({
        "run": if hidden { json!(run.name()) } else { json!(run.path()) },
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
