//! `dinorad segment`: masks of scans, drawn and judged.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};
use dinorad::{
    datasets::{MsdFolder, Pseudonyms, discover_inputs},
    eval::{
        experiment::{Existing, MaskPredictor, Watch},
        segmenting::{MaskTable, evaluate_folders},
        write_atomic,
    },
    metrics::BootstrapOptions,
    report::pages::Table,
};
use serde_json::json;

use crate::{
    args::{SegmentCommand, SegmentEvaluateArgs, SegmentPredictArgs, SegmentTrainArgs},
    keep_memory, keep_memory_for, listing,
    output::say,
    progress::{BARS, Bar},
    tell,
};

pub(crate) fn run(command: &SegmentCommand) -> Result<usize> {
    match command {
        SegmentCommand::Train(args) => args.names.around(|names| train(args, names)),
        SegmentCommand::Predict(args) => args.names.around(|names| predict(args, names)),
        SegmentCommand::Evaluate(args) => evaluate(args),
    }
}

fn train(args: &SegmentTrainArgs, names: Option<Pseudonyms>) -> Result<usize> {
    let experiment = args.experiment()?;
    let mut runner = args.encoder.hardware.runner()?;
    runner.pseudonyms = names;
    runner.existing = if args.overwrite { Existing::Replace } else { Existing::Refuse };
    keep_memory_for(experiment.method.as_deref().into_iter());
    let done = [runner.run(&experiment, &args.out)?];
    tell::page(&done, &args.out, args.title.as_deref())?;
    if args.json {
        return tell::json(&done);
    }
    tell::outcomes(&done, &[None], &args.out)
}

fn predict(args: &SegmentPredictArgs, names: Option<Pseudonyms>) -> Result<usize> {
    if let Some(missing) = args.inputs.iter().find(|path| !path.exists()) {
        bail!("{}: no such file or folder", missing.display());
    }
    keep_memory();
    let model = MaskPredictor::open(&args.run, &args.hardware.device()?, &BARS)?;
    let found = {
        let _bar = Bar::spinner("looking through the files");
        discover_inputs(&args.inputs)
    };
    for notice in found.notices(names.is_none()) {
        BARS.note(&notice);
    }
    if found.inputs.is_empty() {
        bail!("nothing to draw masks of below the given paths");
    }
    let done = model.predict(found, &args.out, names, &BARS)?;
    if args.json {
        say!(
            "{}",
            serde_json::to_string_pretty(
                &json!({ "masks": done.drawn, "found": done.kept, "failures": done.failures })
            )?
        );
    } else {
        let kept = if done.kept > 0 { format!(", {} were there already", done.kept) } else { String::new() };
        say!("{} masks drawn by {}{kept}: {}", done.drawn, args.run.display(), args.out.display());
    }
    listing::notices(&done.doubts.notices());
    listing::failures(&done.failures);
    Ok(done.failures.len())
}

fn evaluate(args: &SegmentEvaluateArgs) -> Result<usize> {
    let names = names(&args.classes, &args.truth);
    let (table, failures) = evaluate_folders(&args.pred, &args.truth, names, args.tolerance)?;
    if let Some(out) = &args.out {
        write_atomic(out, &table.to_csv()?, "segment")?;
    }
    let draws = BootstrapOptions { draws: args.bootstrap, ..BootstrapOptions::default() };
    let means = table.means(&draws)?;
    if args.json {
        let means: BTreeMap<&str, _> = means
            .iter()
            .map(|(name, i)| {
                (name.as_str(), json!({ "mean": i.estimate, "ci95": (!i.is_point()).then_some([i.low, i.high]) }))
            })
            .collect();
        let told = json!({
            "cases": table.cases.len(), "classes": table.class_names, "tolerance_mm": table.tolerance_mm,
            "means": means, "one_mask_empty": table.without_surface(), "failures": failures,
        });
        say!("{}", serde_json::to_string_pretty(&told)?);
    } else {
        say!("{}", tell::printed(&rows(&table, &means)));
        let empty = table.without_surface();
        if empty > 0 {
            say!("{empty} times one mask has a class and the other does not: Dice 0, and in no mean of distances");
        }
        say!("{} cases; intervals: bootstrap over cases, {} resamples", table.cases.len(), args.bootstrap);
    }
    listing::failures(&failures);
    Ok(failures.len())
}

fn rows(table: &MaskTable, means: &[(String, dinorad::metrics::Interval)]) -> Table {
    let columns = ["Dice", "HD95 mm", "NSD", "ASSD mm", "volume error ml"];
    let keys = ["dice", "hd95_mm", "nsd", "assd_mm", "volume_error_ml"];
    let heading = format!("Means over cases (95 % CI); surface Dice within {} mm", table.tolerance_mm);
    let rows = Table::new(heading, std::iter::once("class").chain(columns));
    let cell = |name: String| {
        let found = means.iter().find(|(of, _)| *of == name);
        match found.map(|(_, i)| i) {
            None => "–".to_owned(),
            // draws that are all equal, as those of a single case, say nothing about chance
            Some(i) if i.is_point() => format!("{:.3}", i.estimate),
            Some(i) => format!("{:.3} ({:.3}–{:.3})", i.estimate, i.low, i.high),
        }
    };
    let line = |rows: Table, (name, ending): (String, String)| {
        rows.with_row(std::iter::once(name).chain(keys.iter().map(|key| cell(format!("{key}{ending}")))))
    };
    // labels that no mask has are no classes
    let there = |class: &usize| means.iter().any(|(of, _)| *of == format!("dice_class_{class}"));
    let classes = table.class_names.iter().enumerate().skip(1).filter(|(class, _)| there(class));
    let all = std::iter::once(("all".to_owned(), String::new()));
    all.chain(classes.map(|(c, name)| (name.clone(), format!("_class_{c}")))).fold(rows, line)
}

/// Names of the classes, background first: as they were given, else of a `dataset.json` beside the truth.
fn names(given: &[String], truth: &Path) -> Vec<String> {
    if !given.is_empty() {
        return std::iter::once("background".to_owned()).chain(given.iter().cloned()).collect();
    }
    let beside = truth.parent().into_iter().chain([truth]).find(|folder| folder.join("dataset.json").is_file());
    let folder = beside.and_then(|folder| MsdFolder::read(folder).ok());
    let plain = |folder: &MsdFolder| folder.label_ids.iter().enumerate().all(|(i, id)| usize::from(*id) == i);
    folder.filter(plain).map_or_else(Vec::new, |folder| folder.class_names)
}
