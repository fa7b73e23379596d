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

use crate::{listing, output::say, table::table};

/// What to say about an encoder whose numbers are random.
pub(crate) const UNTRAINED: &str = "this encoder is UNTRAINED (random weights): its scores only show that everything \
works. For real features: --backbone facebook/dinov2-small";

/// A table for a terminal.
pub(crate) fn printed(rows: &Table) -> comfy_table::Table {
    let head: Vec<&str> = rows.columns().iter().map(String::as_str).collect();
    let mut table = table(&head, rows.words());
    for row in rows.rows() {
        table.add_row(row.clone());
    }
    table
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
pub(crate) fn folds(done: &[Outcome], scores: &FoldScores, out: &Path) -> Result<usize> {
    let runs: Vec<RunFolder> = done.iter().filter_map(|one| one.folder.clone()).collect();
    let rows = scores.table();
    let section = Section::new("Cross-validation").with(Exhibit::Table(rows.clone())).with_intro(format!(
        "Cases were cut into folds by patient and class; each fold was the test part once, the next one the \
         validation part. The interval is Student's with the variance corrected for training cases that folds share \
         (Nadeau and Bengio 2003; test to training cases {:.3}).",
        scores.test_to_train
    ));
    pages::report_after(section, &runs)?.with_title("Cross-validation").write(&out.join("report.html"))?;
    say!("{}", printed(&rows));
    let images: usize = done.iter().map(|d| d.made.images).sum();
    say!("{images} images encoded; written to {}", out.display());
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
        say!("{note}");
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
        say!("{convention}");
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
