//! Cut and damaged files end in values or errors, never in a panic.
//!
//! Every golden file is cut at every 64th byte, and for each
//! format 2,000 single bytes, drawn from a fixed seed, are changed one at a time.

use std::{
    fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use dinorad_core::rng;
use dinorad_io::{Limits, ReadOptions, dicom, image, mat::MatFile, nifti, npy};
use rand::Rng;
use rayon::prelude::*;

/// No damaged header may make a reader take more than this.
fn options() -> ReadOptions {
    ReadOptions::default().with_limits(Limits { voxel_bytes: 64 << 20, file_bytes: 64 << 20 })
}

/// Golden files of a folder, and beneath it, in order.
fn files(family: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = dinorad_testkit::golden().join("io").join(family).join("files");
    let mut out = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                if !bytes.is_empty() {
                    out.push((path, bytes));
                }
            }
        }
    }
    out.sort();
    assert!(!out.is_empty(), "no files under {}", root.display());
    out
}

/// Reads bytes as a file of the format; readers that need a file get one in `scratch`.
fn read(family: &str, bytes: &[u8], path: &Path, scratch: &Path) {
    let options = options();
    match family {
        "nifti" => drop(nifti::read_bytes(bytes, path, &options)),
        "dicom" | "dicom_series" => {
            // compressed and plain, values and colours
            if let Ok(file) = dicom::DicomFile::from_bytes(bytes.to_vec(), path, &options) {
                drop(file.stored_frame(0));
            }
            drop(dicom::read_bytes(bytes.to_vec(), path, &options));
        }
        "image" => drop(image::read_bytes(bytes, path, &options)),
        "npy" => {
            drop(npy::read_bytes(bytes, path, &options));
            if bytes.starts_with(b"PK") {
                let file = written(bytes, scratch);
                for name in npy::names(&file).unwrap_or_default() {
                    drop(npy::read_npz_array(&file, &name, &options));
                }
                fs::remove_file(file).unwrap();
            }
        }
        "mat" => {
            let file = written(bytes, scratch);
            if let Ok(open) = MatFile::open(&file, &options) {
                for name in open.names() {
                    drop(open.array(&name));
                }
            }
            fs::remove_file(file).unwrap();
        }
        other => panic!("no reader for {other}"),
    }
}

fn written(bytes: &[u8], scratch: &Path) -> PathBuf {
    let file = tempfile::Builder::new().tempfile_in(scratch).unwrap();
    file.as_file().write_all(bytes).unwrap();
    file.into_temp_path().keep().unwrap()
}

/// Runs one damaged file and says which it was if the reader panics.
fn survives(family: &str, bytes: &[u8], path: &Path, what: &str, scratch: &Path) {
    let run = AssertUnwindSafe(|| read(family, bytes, path, scratch));
    assert!(catch_unwind(run).is_ok(), "{} {what} panicked", path.display());
}

#[allow(clippy::explicit_write)] // print macros are captured
fn check(family: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let files = files(family);
    let mut cuts: Vec<(usize, usize)> = Vec::new();
    for (n, (_, bytes)) in files.iter().enumerate() {
        cuts.extend((0..bytes.len()).step_by(64).map(|at| (n, at)));
    }
    let count = cuts.len();
    cuts.into_par_iter().for_each(|(n, at)| {
        let (path, bytes) = &files[n];
        survives(family, &bytes[..at], path, &format!("cut at {at}"), scratch.path());
    });
    let mut rng = rng::named(0, &format!("flipped bytes of {family}"));
    let flips: Vec<(usize, usize, u8)> = (0..2000)
        .map(|_| {
            let n = rng.random_range(0..files.len());
            let length = files[n].1.len();
            // headers are short: half of the draws go to the first kilobyte
            let at = if rng.random() { rng.random_range(0..length) } else { rng.random_range(0..length.min(1024)) };
            (n, at, rng.random_range(1..=255u8))
        })
        .collect();
    flips.into_par_iter().for_each(|(n, at, change)| {
        let (path, bytes) = &files[n];
        let mut bytes = bytes.clone();
        bytes[at] ^= change;
        survives(family, &bytes, path, &format!("byte {at} ^ {change}"), scratch.path());
    });
    writeln!(std::io::stdout(), "{family:<12} {count} cuts and 2000 changed bytes of {} files", files.len()).unwrap();
}

#[test]
fn nifti_files() {
    check("nifti");
}

#[test]
fn dicom_files() {
    check("dicom");
}

#[test]
fn slices_of_series() {
    check("dicom_series");
}

#[test]
fn image_files() {
    check("image");
}

#[test]
fn npy_files() {
    check("npy");
}

#[test]
fn mat_files() {
    check("mat");
}
