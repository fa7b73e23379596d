//! Time and memory of reading a CT of 300 slices of 512 x 512. `tests/data/make_ct.py FOLDER` makes
//! it and prints what pydicom and nibabel take; then
//! `DINORAD_CT=FOLDER cargo test -p dinorad-io --release --test speed -- --ignored --nocapture`.

use std::{fs, path::PathBuf, time::Instant};

use dinorad_io::{ReadOptions, Volume, dicom, nifti};

fn status(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find(|l| l.starts_with(field))?.split_whitespace().nth(1)?.parse::<u64>().ok().map(|k| k * 1024)
}

fn best_of_three(name: &str, read: impl Fn() -> Volume) -> Volume {
    let mut best = f64::INFINITY;
    let mut last = None;
    for _ in 0..3 {
        drop(last.take());
        let _ = fs::write("/proc/self/clear_refs", "5");
        let before = status("VmRSS").unwrap_or(0);
        let start = Instant::now();
        let volume = read();
        best = best.min(start.elapsed().as_secs_f64());
        let voxels = volume.data.len() as u64 * 4;
        if let Some(peak) = status("VmHWM") {
            let times = peak.saturating_sub(before) as f64 / voxels as f64;
            assert!(times <= 1.5, "{name}: {times:.2} times the memory of the volume");
            println!("{name} {times:.2} x the f32 volume");
        }
        last = Some(volume);
    }
    println!("{name} {best:.3} s");
    last.unwrap()
}

#[test]
#[ignore = "needs the CT that tests/data/make_ct.py makes, in $DINORAD_CT"]
fn a_large_ct() {
    let root = PathBuf::from(std::env::var_os("DINORAD_CT").expect("$DINORAD_CT"));
    let options = ReadOptions::default();
    let a = best_of_three("DICOM", || dicom::read_series(&root.join("ct"), &options).unwrap().0);
    let b = best_of_three("NIfTI", || nifti::read(&root.join("ct.nii.gz"), &options).unwrap());
    assert_eq!(a.data.dim(), (300, 512, 512));
    assert_eq!(a.data, b.data);
    for (x, y) in a.affine.rows().iter().flatten().zip(b.affine.rows().iter().flatten()) {
        assert!((x - y).abs() < 1e-4);
    }
}
