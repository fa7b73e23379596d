//! What came of experiments, on stdout and stderr.

use std::path::{Path, PathBuf};

use anyhow::Result;
use dinorad::{
    eval::experiment::{FoldScores, Outcome, encoders},
    report::{
        Comparison, RunFolder,
        pages::{self, Exhibit, Section, Table},
    },
};
use serde_json::{Value, json};

use crate::{
    args::JudgeArgs,
    listing,
    output::say,
    table::{told, width, wrapped},
};

/// What to say about an encoder whose numbers are random.
pub(crate) const UNTRAINED: &str = "this encoder is UNTRAINED (random weights): its scores only show that everything \
works. For real features: --backbone facebook/dinov2-small";

/// A table for a terminal.
pub(crate) fn printed(rows: &Table) -> String {
    printed_at(rows, width())
}

/// The same in lines of `width` columns.
fn printed_at(rows: &Table, width: usize) -> String {
    let head: Vec<&str> = rows.columns().iter().map(String::as_str).collect();
    told(&head, rows.words(), rows.rows(), width)
}

/// What came out, as JSON: a list of runs with their numbers.
pub(crate) fn json(done: &[Outcome]) -> Result<usize> {
    let runs: Vec<Value> = done
        .iter()
        .map(|one| {
            let metrics = one.metrics();
            json!({
                "run": one.folder.as_ref().map(RunFolder::path), "data": one.data_name(), "encoder": one.spec.id,
                "method": one.method_name(), "setting": metrics.setting, "images": one.made.images,
                "metrics": metrics.metrics, "notices": one.notices(), "failures": one.made.failures,
            })
        })
        .collect();
    say!("{}", serde_json::to_string_pretty(&runs)?);
    let mut failed = 0;
    for one in done {
        listing::failures(&one.made.failures);
        failed += one.made.failures.len();
    }
    Ok(failed)
}

/// Writes a page about runs, from their folders, into `out`; where it lies. Without a title it is called by
/// what it shows.
pub(crate) fn page(done: &[Outcome], out: &Path, title: Option<&str>) -> Result<PathBuf> {
    let runs: Vec<RunFolder> = done.iter().filter_map(|one| one.folder.clone()).collect();
    let page = out.join("report.html");
    let report = pages::report(&runs, &[])?;
    match title {
        Some(title) => report.with_title(title).write(&page)?,
        None => report.write(&page)?,
    }
    Ok(page)
}

/// The scores over folds on stdout and on a page with every fold; how many cases failed.
pub(crate) fn folds(done: &[Outcome], scores: &FoldScores, out: &Path, args: &JudgeArgs) -> Result<usize> {
    let runs: Vec<RunFolder> = done.iter().filter_map(|one| one.folder.clone()).collect();
    let rows = scores.table();
    let section = Section::new("Cross-validation").with(Exhibit::Table(rows.clone())).with_intro(format!(
        "Cases were cut into folds by patient and class; each fold was the test part once, the next one the \
         validation part. The interval is Student's with the variance corrected for training cases that folds share \
         (Nadeau and Bengio 2003; test to training cases {:.3}).",
        scores.test_to_train
    ));
    pages::report_after(section, &runs)?
        .with_title(args.title.as_deref().unwrap_or("Cross-validation"))
        .write(&out.join("report.html"))?;
    let images: usize = done.iter().map(|d| d.made.images).sum();
    if args.json {
        say!("{}", serde_json::to_string_pretty(scores)?);
    } else {
        say!("{}", printed(&rows));
        say!("{images} images encoded; written to {}", out.display());
    }
    // a case fails in every fold
    let mut failures = Vec::new();
    let mut notices = Vec::new();
    for one in done {
        failures.extend(one.made.failures.iter().filter(|f| !failures.contains(*f)).cloned().collect::<Vec<_>>());
        // every fold has other parts: that one takes the place of another says nothing
        let of_store = |n: &String| n.starts_with("the list of set ");
        notices.extend(one.notices().into_iter().filter(|n| !of_store(n) && !notices.contains(n)).collect::<Vec<_>>());
    }
    listing::notices(&notices);
    listing::failures(&failures);
    Ok(failures.len())
}

/// What the tables of small training sets leave open: how cases were drawn, how settings were chosen.
fn notes(one: &Outcome) -> Result<()> {
    for note in one.curve_notes() {
        say!("{}", wrapped(&note, width(), 2));
    }
    Ok(())
}

/// Tables on stdout, notes on stderr; how many cases failed.
pub(crate) fn outcomes(done: &[Outcome], compared: &[Option<Comparison>], out: &Path) -> Result<usize> {
    match done {
        [one] => {
            if let Some(rows) = one.settings_table() {
                say!("{}", printed(&rows));
            }
            for rows in one.tables() {
                say!("{}", printed(&rows));
            }
            notes(one)?;
        }
        several => {
            say!("{}", printed(&encoders(several, compared)));
            for one in several {
                let beside = one.tables_of_curves();
                if !beside.is_empty() {
                    say!("{}", one.spec.id);
                }
                for rows in beside {
                    say!("{}", printed(&rows));
                }
                notes(one)?;
            }
        }
    }
    if let Some(convention) = done.first().map(Outcome::convention) {
        say!("{}", wrapped(&convention, width(), 2));
    }
    let images: usize = done.iter().map(|d| d.made.images).sum();
    say!("{images} images encoded; written to {}", out.display());
    let mut failed = 0;
    for one in done {
        listing::notices(&one.notices());
        listing::failures(&one.made.failures);
        failed += one.made.failures.len();
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What people see, line for line: a change of it is a change of this file.
    fn looks_like(rows: &Table, width: usize, golden: &str, name: &str) {
        let text = format!("{}\n", printed_at(rows, width));
        if std::env::var_os("DINORAD_BLESS").is_some() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables").join(name);
            std::fs::write(path, &text).unwrap();
            return;
        }
        assert_eq!(text, golden, "{name}");
        assert!(text.lines().all(|line| line.chars().count() <= width), "{name}");
    }

    #[test]
    fn tables_read_well_at_80_columns() {
        let settings = Table::new(
            "Settings that were tried",
            ["setting", "val AUROC", "test AUROC (95 % CI)", "test accuracy (95 % CI)", ""],
        )
        .with_words(1)
        .with_row(["k = 5", "0.901", "0.874 (0.846–0.901)", "0.830 (0.801–0.858)", ""])
        .with_row(["k = 20", "0.923", "0.912 (0.884–0.936)", "0.851 (0.823–0.878)", "best on val"])
        .with_row(["lr 0.01, 4 blocks, with the mean patch token", "0.911", "", "", ""]);
        looks_like(&settings, 80, include_str!("../tests/tables/settings.txt"), "settings.txt");
        let encoders = Table::new(
            "Encoders on the same test cases",
            ["encoder", "method and setting", "AUROC (95 % CI)", "accuracy (95 % CI)", "AUROC minus the first's", "p"],
        )
        .with_words(2)
        .with_row(["facebook/dinov2-small", "kNN, k = 20", "0.912 (0.884–0.936)", "0.851 (0.823–0.878)", "", ""])
        .with_row([
            "microsoft/rad-dino",
            "kNN on the mean of slices, k = 5",
            "0.934 (0.911–0.955)",
            "0.872 (0.846–0.897)",
            "+0.022 (−0.003 to +0.047)",
            "0.081",
        ]);
        looks_like(&encoders, 80, include_str!("../tests/tables/encoders.txt"), "encoders.txt");
        looks_like(&encoders, 140, include_str!("../tests/tables/encoders-wide.txt"), "encoders-wide.txt");
    }
}
