//! DICOM pixels as this crate and dicom-object with dicom-pixeldata read them: the golden cases, then
//! damaged copies of them.
//!
//!     cargo run --release --no-default-features --features oracles --bin oracle_dicom -- 50000
//!
//! The other library makes room for what an element declares, up to 4 GB, and takes seconds for it: it reads in a
//! process of its own, of 256 MB, and has 2 seconds for a file. Files without an answer are counted.

use std::time::{Duration, Instant};

use dinorad_fuzz::{
    apart::{self, Apart},
    damage::{Random, damaged},
    differ::{self, Tally},
    file, theirs,
};

fn main() {
    differ::quiet();
    let first = std::env::args().nth(1);
    if first.as_deref() == Some(apart::APART) {
        return apart::serve(theirs::dicom);
    }
    let count: u64 = first.and_then(|n| n.parse().ok()).unwrap_or(50_000);
    let golden = theirs::dicom_files();
    let mut other = Apart::new(Duration::from_secs(2), 256_000);
    let mut tally = Tally::default();
    for path in &golden {
        let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match other.ask(path) {
            Ok(theirs) => tally.add(&theirs::ours_dicom(path), &theirs, name),
            Err(why) => tally.note(why, name()),
        }
    }
    tally.print("golden DICOM files");
    let mut tally = Tally::default();
    let mut slow_here = 0;
    for n in 0..count {
        let mut random = Random::new("oracle_dicom", n);
        let seed = &golden[random.below(golden.len())];
        let bytes = damaged(&std::fs::read(seed).unwrap_or_default(), &mut random);
        let path = file("one.dcm", &bytes);
        let began = Instant::now();
        let ours = theirs::ours_dicom(&path);
        slow_here += u64::from(began.elapsed() > Duration::from_secs(1));
        let name = || format!("input {n}, of {}", seed.file_name().unwrap_or_default().to_string_lossy());
        match other.ask(&path) {
            Ok(theirs) => tally.add(&ours, &theirs, name),
            Err(why) => tally.note(&format!("{why}; {} here", ours.word()), name()),
        }
        if (n + 1) % 1000 == 0 {
            eprintln!("{} of {count}", n + 1);
        }
    }
    tally.print("damaged DICOM files");
    println!("longer than a second here: {slow_here}");
}
