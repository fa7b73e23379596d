//! Time and memory of reading a CT of 300 slices of 512 x 512, as DICOM and as NIfTI.
//! `tests/data/make_ct.py FOLDER` makes it and prints what pydicom and nibabel take; then
//!
//! ```sh
//! cargo run -p dinorad-io --release --example large_ct -- FOLDER
//! ```

use std::{env, error::Error, fs, path::PathBuf, time::Instant};

use dinorad_io::{ReadOptions, Volume, dicom, nifti};

fn status(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find(|l| l.starts_with(field))?.split_whitespace().nth(1)?.parse::<u64>().ok().map(|k| k * 1024)
}

fn best_of_three(name: &str, read: impl Fn() -> Result<Volume, dinorad_io::Error>) -> Result<Volume, Box<dyn Error>> {
    let mut best = f64::INFINITY;
    let mut last = None;
    for _ in 0..3 {
        drop(last.take());
        let _ = fs::write("/proc/self/clear_refs", "5");
        let before = status("VmRSS").unwrap_or(0);
        let start = Instant::now();
        let volume = read()?;
        best = best.min(start.elapsed().as_secs_f64());
        let voxels = volume.data.len() as u64 * 4;
        if let Some(peak) = status("VmHWM") {
            let times = peak.saturating_sub(before) as f64 / voxels as f64;
            println!("{name} {times:.2} x the f32 volume");
        }
        last = Some(volume);
    }
    println!("{name} {best:.3} s");
    last.ok_or_else(|| "nothing was read".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::args_os().nth(1).map(PathBuf::from).ok_or("name the folder that make_ct.py wrote")?;
    let options = ReadOptions::default();
    let a = best_of_three("DICOM", || Ok(dicom::read_series(&root.join("ct"), &options)?.0))?;
    let b = best_of_three("NIfTI", || nifti::read(&root.join("ct.nii.gz"), &options))?;
    println!("{:?} voxels, equal: {}", a.data.dim(), a.data == b.data);
    Ok(())
}
