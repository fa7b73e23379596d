//! `dinorad splits`: which case is in which part, as a table.

use anyhow::{Context, Result, bail};
use dinorad::{
    core::{Protocol, Split},
    datasets::{Draw, SplitTable, Unit, find, fold_paths},
    eval::experiment::options_of,
};

use crate::{
    args::{DrawRule, SplitsArgs},
    listing,
    output::say,
    table::table,
};

pub(crate) fn run(args: &SplitsArgs) -> Result<usize> {
    let protocol: Protocol = args.protocol.parse()?;
    let base = options_of(protocol).with_columns(args.columns.chosen());
    // parts are made of volumes; only the study's draw counts slices
    let options = base.with_seed(args.seed).with_unit(Unit::Volumes);
    let (name, root) = (args.dataset.as_str(), args.root.as_path());
    let mut splits = match args.shares.as_deref() {
        None => SplitTable::of(name, root, &options)?,
        Some([train, val, test]) if [train, val, test].iter().any(|share| **share > 1.0) => {
            let whole = train + val + test;
            let [a, b, c] = [train, val, test].map(|share| format!("{:.4}", share / whole));
            let plain = |share: &str| share.trim_end_matches('0').trim_end_matches('.').to_owned();
            bail!("--shares are parts of 1: {},{},{}", plain(&a), plain(&b), plain(&c));
        }
        Some([train, val, test]) => SplitTable::recut(name, root, &options, [*train, *val, *test])?,
        Some(other) => bail!("--shares wants three numbers, got {}", other.len()),
    };
    match protocol {
        Protocol::Strict => splits.check_patients(root)?,
        Protocol::Paper => {
            for (a, b, patients) in splits.overlaps() {
                let n = patients.len();
                let are = if n == 1 { "patient is" } else { "patients are" };
                listing::note(&format!("{n} {are} both in {a} and {b}: {}", patients.join(", ")));
            }
        }
    }
    let draw = match (args.few_shot, args.sample) {
        (Some(shots), _) => Some(match args.draw {
            DrawRule::Study => Draw::of_study(name, shots),
            DrawRule::Balanced => Draw::Balanced { shots, seed: args.seed },
        }),
        (None, Some(n)) => Some(Draw::Positions { n }),
        (None, None) => None,
    };
    if let Some(draw) = draw {
        let unit = if matches!(draw, Draw::Positions { .. }) { Unit::Slices } else { Unit::Volumes };
        splits = splits.with_train_drawn(name, root, &options.with_unit(unit), draw)?;
    }
    if let Some(k) = args.folds {
        let out = args.out.as_deref().context("--folds writes several tables: name them with --out")?;
        let folds = splits.folds(k, args.seed)?;
        for (path, fold) in fold_paths(out, k).iter().zip(&folds) {
            fold.write(path)?;
            summary(fold, &path.display().to_string())?;
        }
        return Ok(0);
    }
    match &args.out {
        Some(out) => {
            splits.write(out)?;
            summary(&splits, &out.display().to_string())?;
        }
        None if args.json => {
            let rows = splits.rows.iter().map(
                |row| serde_json::json!({ "case": row.case, "split": row.split.to_string(), "patient": row.patient }),
            );
            say!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
        }
        None => say!("{}", splits.to_csv().trim_end()),
    }
    if let Some(info) = find(name)
        && let (Some(published), Protocol::Paper, None, None) = (info.published, protocol, &args.shares, draw)
    {
        listing::note(&format!("published are {} / {} / {}", published[0], published[1], published[2]));
    }
    Ok(0)
}

fn summary(splits: &SplitTable, title: &str) -> Result<()> {
    let mut counts = table(&[title, "cases", "patients"], 1);
    for split in [Split::Train, Split::Val, Split::Test] {
        let patients: std::collections::BTreeSet<_> =
            splits.rows.iter().filter(|r| r.split == split).filter_map(|r| r.patient.as_ref()).collect();
        let patients = if patients.is_empty() { "–".to_owned() } else { patients.len().to_string() };
        counts.add_row([split.to_string(), splits.count(split).to_string(), patients]);
    }
    say!("{counts}");
    Ok(())
}
