//! NIfTI as this crate and the `nifti` crate read it: the golden cases, then damaged copies of them.
//!
//!     cargo run --release --features oracles --bin oracle_nifti -- 50000

use dinorad_fuzz::{
    damage::{Random, damaged},
    differ::{self, Tally},
    file, theirs,
};

fn main() {
    differ::quiet();
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(50_000);
    let golden = theirs::nifti_files();
    let (mut tally, mut again) = (Tally::default(), Tally::default());
    for path in &golden {
        let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (ours, other) = (theirs::ours_nifti(path), theirs::nifti(path));
        tally.add(&ours, &other, name);
        if let Some(path) = theirs::mended(path) {
            again.add(&ours, &theirs::nifti(&path), name);
        }
    }
    tally.print("golden NIfTI files");
    again.print("those whose slope is NaN, with a slope of 1 for the other library");
    let (mut tally, mut again) = (Tally::default(), Tally::default());
    for n in 0..count {
        let mut random = Random::new("oracle_nifti", n);
        let seed = &golden[random.below(golden.len())];
        let bytes = damaged(&std::fs::read(seed).unwrap_or_default(), &mut random);
        // the other library goes by the suffix
        let path = file(if bytes.starts_with(b"\x1f\x8b") { "one.nii.gz" } else { "one.nii" }, &bytes);
        let (ours, other) = (theirs::ours_nifti(&path), theirs::nifti(&path));
        let name = seed.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tally.add(&ours, &other, || format!("input {n}, of {name}"));
        if let Some(path) = theirs::mended(&path) {
            again.add(&ours, &theirs::nifti(&path), || format!("input {n}, of {name}"));
        }
    }
    tally.print("damaged NIfTI files");
    again.print("those whose slope is NaN, with a slope of 1 for the other library");
}
