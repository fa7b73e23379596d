//! `dinorad segment`: masks of scans, drawn and judged.

use std::path::Path;

use anyhow::{Result, bail};
use dinorad::{
    datasets::{MsdFolder, Pseudonyms, discover_inputs},
    eval::{
        experiment::{Existing, MaskPredictor, Watch},
        segmenting::{LengthUnit, MaskJudgement, MaskTable, evaluate_folders},
        write_atomic,
    },
    metrics::{BinaryCounts, BootstrapOptions, Interval, LesionOverlap},
    report::pages::Table,
};
use serde_json::{Map, Value, json};

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
    let model = MaskPredictor::open(&args.run, &args.hardware.device()?, &BARS)?.with_dicom_seg(args.dicom_seg)?;
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
            serde_json::to_string_pretty(&json!({
                "masks": done.drawn, "found": done.kept, "dicom_seg": done.dicom_seg,
                "without_dicom_seg": done.without_dicom_seg, "failures": done.failures,
            }))?
        );
    } else {
        let kept = if done.kept > 0 { format!(", {} were there already", done.kept) } else { String::new() };
        say!("{} masks drawn by {}{kept}: {}", done.drawn, args.run.display(), args.out.display());
        if args.dicom_seg {
            say!("{} of them as DICOM-SEG now, with the patient and the study of their series", done.dicom_seg);
        }
    }
    listing::notices(&done.doubts.notices());
    listing::without_dicom_seg(&done.without_dicom_seg);
    listing::failures(&done.failures);
    Ok(done.failures.len())
}

fn evaluate(args: &SegmentEvaluateArgs) -> Result<usize> {
    let lesions = args.lesions.then(|| LesionOverlap::share(args.lesion_overlap)).transpose()?;
    let how = MaskJudgement { class_names: names(&args.classes, &args.truth), tolerance: args.tolerance, lesions };
    let judged = evaluate_folders(&args.pred, &args.truth, how)?;
    let tables = judged.tables();
    if let Some(out) = &args.out {
        write_atomic(out, &MaskTable::all_to_csv(&tables)?, "segment")?;
    }
    let draws = BootstrapOptions { draws: args.bootstrap, ..BootstrapOptions::default() };
    let means = tables.iter().map(|table| table.means(&draws)).collect::<std::result::Result<Vec<_>, _>>()?;
    if args.json {
        let mut told = tables.iter().zip(&means).map(|(table, means)| as_json(table, means));
        let mut first = told.next().unwrap_or_default();
        if let Some(pictures) = told.next() {
            first.insert("pictures".into(), pictures.into());
        }
        first.insert("failures".into(), json!(judged.failures));
        say!("{}", serde_json::to_string_pretty(&first)?);
    } else {
        for (table, means) in tables.iter().zip(&means) {
            say!("{}", tell::printed(&rows(table, means)));
            if let Some(lesions) = lesions_of(table) {
                say!("{}", tell::printed(&lesions));
            }
            let empty = table.without_surface();
            if empty > 0 {
                say!("{empty} times one mask has a class and the other does not: Dice 0, and in no mean of distances");
            }
            let (what, unit) = match table.unit {
                LengthUnit::Millimetres => ("cases", "mm"),
                LengthUnit::Pixels => ("pictures, whose lengths are in pixels", "pixels"),
            };
            let (n, tolerance) = (table.cases.len(), table.tolerance_mm);
            say!("{n} {what}; surface Dice within {tolerance} {unit}");
            if let Some(overlap) = table.lesion_overlap {
                say!("lesions (26 neighbours) over all cases; one is found if {}", covered(overlap));
            }
            say!("intervals: bootstrap over cases, {} resamples", args.bootstrap);
        }
    }
    listing::failures(&judged.failures);
    Ok(judged.failures.len())
}

fn as_json(table: &MaskTable, means: &[(String, Interval)]) -> Map<String, Value> {
    let means: Map<String, Value> = means
        .iter()
        .map(|(name, i)| {
            (name.clone(), json!({ "mean": i.estimate, "ci95": (!i.is_point()).then_some([i.low, i.high]) }))
        })
        .collect();
    let mut told = Map::new();
    let mut put = |key: &str, value: Value| told.insert(key.to_owned(), value);
    put("cases", table.cases.len().into());
    put("classes", json!(table.class_names));
    put("unit", table.unit.short().into());
    put(&format!("tolerance_{}", table.unit.short()), table.tolerance_mm.into());
    put("means", means.into());
    put("one_mask_empty", table.without_surface().into());
    if let (Some(overlap), Some(lesions)) = (table.lesion_overlap, table.lesions()) {
        let of = |c: &BinaryCounts| {
            json!({
                "found": c.true_positives, "made_up": c.false_positives, "missed": c.false_negatives,
                "sensitivity": c.sensitivity(), "precision": c.precision(), "f1": c.f1(),
            })
        };
        let by_class: Map<String, Value> =
            table.class_names.iter().skip(1).cloned().zip(lesions.iter().map(of)).collect();
        put("lesions", json!({ "overlap": overlap.value(), "all": of(&summed(&lesions)), "by_class": by_class }));
    }
    told
}

fn summed(lesions: &[BinaryCounts]) -> BinaryCounts {
    lesions.iter().fold(BinaryCounts::default(), |sum, one| sum.plus(one))
}

/// What of a lesion must be covered, in words.
fn covered(overlap: LesionOverlap) -> String {
    match overlap.value() {
        0.0 => "a voxel of it is covered".to_owned(),
        share => format!("{share} of it are covered"),
    }
}

/// Lesions by class, where they are counted: of the classes that occur.
fn lesions_of(table: &MaskTable) -> Option<Table> {
    let (overlap, lesions) = (table.lesion_overlap?, table.lesions()?);
    let heading = format!("Lesions (26 neighbours) over all cases; one is found if {}", covered(overlap));
    let columns = ["class", "found", "missed", "made up", "sensitivity", "precision", "F1"];
    let row = |(name, c): (String, BinaryCounts)| {
        let share = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"));
        let counts = [c.true_positives, c.false_negatives, c.false_positives].map(|n| n.to_string());
        std::iter::once(name).chain(counts).chain([c.sensitivity(), c.precision(), c.f1()].map(share))
    };
    let all = std::iter::once(("all".to_owned(), summed(&lesions)));
    let named = table.class_names.iter().skip(1).cloned().zip(lesions.iter().copied());
    let there = named.filter(|(_, c)| c.total() > 0);
    Some(all.chain(there).fold(Table::new(heading, columns), |rows, one| rows.with_row(row(one))))
}

fn rows(table: &MaskTable, means: &[(String, Interval)]) -> Table {
    let (columns, keys) = match table.unit {
        LengthUnit::Millimetres => (
            ["Dice", "HD95 mm", "NSD", "ASSD mm", "volume error ml"],
            ["dice", "hd95_mm", "nsd", "assd_mm", "volume_error_ml"],
        ),
        LengthUnit::Pixels => (
            ["Dice", "HD95 pixels", "NSD", "ASSD pixels", "area error pixels"],
            ["dice", "hd95_px", "nsd", "assd_px", "area_error_px"],
        ),
    };
    let heading = match table.unit {
        LengthUnit::Millimetres => format!("Means over cases (95 % CI); surface Dice within {} mm", table.tolerance_mm),
        LengthUnit::Pixels => {
            format!("Means over pictures (95 % CI); surface Dice within {} pixels", table.tolerance_mm)
        }
    };
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
