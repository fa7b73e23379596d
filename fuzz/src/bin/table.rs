//! Prints the table of `crates/dinorad-io/README.md`: what other libraries make of the golden cases.
//!
//!     cargo run --release --features oracles --bin table

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use dinorad_fuzz::{
    counted::{self, Counted},
    differ::{self, Outcome, difference},
    theirs,
};

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// What one library makes of one family.
#[derive(Default)]
struct Column {
    sound: usize,
    damaged: usize,
    refused: Vec<(String, String)>,
    other: Vec<(String, String)>,
    silent: Vec<(String, String)>,
    panics: Vec<(String, String)>,
    memory: (u64, String),
    slowest: (f64, String),
}

fn column(family: &str, ours: fn(&std::path::Path) -> Outcome, theirs: fn(&std::path::Path) -> Outcome) -> Column {
    let mut out = Column::default();
    let cases: Vec<(PathBuf, String)> = theirs::cases(family);
    for (path, expected) in cases.iter().filter(|(p, _)| p.is_file()) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mine = ours(path);
        let before = counted::start();
        let began = Instant::now();
        let other = theirs(path);
        let seconds = began.elapsed().as_secs_f64();
        let (_, held) = counted::since(before);
        if held > out.memory.0 {
            out.memory = (held, name.clone());
        }
        if seconds > out.slowest.0 {
            out.slowest = (seconds, name.clone());
        }
        if let Outcome::Panicked(place) = &other {
            out.panics.push((name.clone(), place.clone()));
        }
        match expected.as_str() {
            "ok" => {
                out.sound += 1;
                match (&mine, &other) {
                    (Outcome::Values(..), Outcome::Refused(why)) => out.refused.push((name, why.clone())),
                    (Outcome::Values(..), Outcome::Values(..)) => {
                        if let Some(kind) = difference(&mine, &other) {
                            out.other.push((name, kind));
                        }
                    }
                    (Outcome::Values(..), Outcome::Panicked(_)) => {}
                    _ => println!("{name}: this crate does not read it"),
                }
            }
            "error" => {
                out.damaged += 1;
                match (&mine, &other) {
                    (Outcome::Values(..), _) => println!("{name}: this crate reads its pixels"),
                    (_, Outcome::Values(..)) => out.silent.push((name, String::new())),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    out
}

fn list(what: &str, found: &[(String, String)]) {
    println!("\n{what}: {}", found.len());
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, kind) in found {
        kinds.entry(kind).or_default().push(name);
    }
    for (kind, names) in kinds {
        println!("  {:>3}  {kind}: {}", names.len(), names.join(", "));
    }
}

fn main() {
    differ::quiet();
    let columns = [
        ("nifti 0.18", column("nifti", theirs::ours_nifti, theirs::nifti)),
        ("dicom-object and dicom-pixeldata 0.10.1", column("dicom", theirs::ours_dicom, theirs::dicom)),
    ];
    println!("| | {} |", columns.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(" | "));
    println!("|---|---|---|");
    let row = |what: &str, cell: &dyn Fn(&Column) -> String| {
        println!("| {what} | {} |", columns.iter().map(|(_, c)| cell(c)).collect::<Vec<_>>().join(" | "));
    };
    row("sound files", &|c| c.sound.to_string());
    row("sound files refused", &|c| c.refused.len().to_string());
    row("sound files with other values", &|c| c.other.len().to_string());
    row("damaged files", &|c| c.damaged.to_string());
    row("damaged files read without a word", &|c| c.silent.len().to_string());
    row("panics", &|c| c.panics.len().to_string());
    row("most memory for a file", &|c| format!("{} MiB ({})", c.memory.0 >> 20, c.memory.1));
    row("longest for a file", &|c| format!("{:.1} s ({})", c.slowest.0, c.slowest.1));
    for (name, c) in &columns {
        println!("\n# {name}");
        list("sound files refused", &c.refused);
        list("sound files with other values", &c.other);
        list("damaged files read without a word", &c.silent);
        list("panics", &c.panics);
    }
}
