//! DICOM pixels as this crate and dicom-object with dicom-pixeldata read them: the golden cases, then
//! damaged copies of them.
//!
//!     cargo run --release --features oracles --bin oracle_dicom -- 50000

use std::time::{Duration, Instant};

use dinorad_fuzz::{
    damage::{Random, damaged},
    differ::{self, Outcome, Tally},
    file, theirs,
};

fn main() {
    differ::quiet();
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(50_000);
    let golden = theirs::dicom_files();
    let mut tally = Tally::default();
    for path in &golden {
        let (ours, other) = (theirs::ours_dicom(path), theirs::dicom(path));
        tally.add(&ours, &other, || path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    tally.print("golden DICOM files");
    let mut tally = Tally::default();
    let (mut slow_here, mut slow_there) = (0, 0);
    for n in 0..count {
        let mut random = Random::new("oracle_dicom", n);
        let seed = &golden[random.below(golden.len())];
        let bytes = damaged(&std::fs::read(seed).unwrap_or_default(), &mut random);
        let path = file("one.dcm", &bytes);
        let began = Instant::now();
        let ours = theirs::ours_dicom(&path);
        slow_here += u64::from(began.elapsed() > Duration::from_secs(1));
        let name = seed.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // the other library makes room for what an element declares: up to 4 GB, and 20 seconds, for each such file
        if matches!(&ours, Outcome::Refused(why) if why.contains(" declares ")) {
            tally.note(
                "refused here, not tried there: an element declares more bytes than there are",
                format!("input {n}, of {name}"),
            );
            continue;
        }
        let began = Instant::now();
        let other = theirs::dicom(&path);
        slow_there += u64::from(began.elapsed() > Duration::from_secs(1));
        tally.add(&ours, &other, || format!("input {n}, of {name}"));
    }
    tally.print("damaged DICOM files");
    println!("longer than a second: {slow_here} here, {slow_there} there");
}
