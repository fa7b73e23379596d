//! Cut and damaged files end in values or errors, never in a panic.
//!
//! Every golden file, and every file of `tests/data`, is cut at every 64th byte, and for each format
//! 2,000 single bytes, drawn from a fixed seed, are changed one at a time. `DINORAD_FLIPS=2000`
//! changes so many bytes of every single file instead, which takes a quarter of an hour.

use std::{
    fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use dinorad_core::rng;
use dinorad_io::{
    Limits, ReadOptions, detached_voxels, dicom, image, mat::MatFile, metaimage, mgh, nifti, npy, nrrd, read_labels,
    read_slice,
};
use rand::Rng;
use rayon::prelude::*;

/// No damaged header may make a reader take more than this.
fn options() -> ReadOptions {
    ReadOptions::default().with_limits(Limits::default().with_voxel_bytes(64 << 20).with_file_bytes(64 << 20))
}

/// Golden files of a folder, and beneath it, and those of `tests/data` of the same format, in order.
fn files(family: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = dinorad_testkit::golden().join("io").join(family).join("files");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut out = Vec::new();
    let grids = data.join("grids/files");
    let mut folders = vec![if family == "grids" { grids } else { root.clone() }];
    match family {
        "nifti" => folders.push(data.join("edges/nifti")),
        "dicom" => folders.extend([data.join("edges/dicom"), data.join("codecs")]),
        "dicom_series" => folders.push(data.join("edges/series")),
        "image" => folders.push(data.join("image")),
        _ => {}
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                let made = path.extension().is_some_and(|e| e == "json" || e == "npz" || e == "py");
                if !bytes.is_empty() && (family == "npy" || !made) {
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
        // cut and changed anywhere, a file keeps its first letters, or is none of these
        "grids" => {
            let options = options.with_volume(1);
            drop(nrrd::read_bytes(bytes, path, &options));
            drop(metaimage::read_bytes(bytes, path, &options));
            drop(mgh::read_bytes(bytes, path, &options));
            let file = written(bytes, scratch);
            drop((detached_voxels(&file), read_slice(&file, 1, &options), read_labels(&file, &options)));
            fs::remove_file(file).unwrap();
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
    let each: Option<usize> = std::env::var("DINORAD_FLIPS").ok().map(|n| n.parse().unwrap());
    let flips: Vec<(usize, usize, u8)> = (0..each.map_or(2000, |n| n * files.len()))
        .map(|k| {
            let n = each.map_or_else(|| rng.random_range(0..files.len()), |each| k / each);
            let length = files[n].1.len();
            // headers are short: half of the draws go to the first kilobyte
            let at = if rng.random() { rng.random_range(0..length) } else { rng.random_range(0..length.min(1024)) };
            (n, at, rng.random_range(1..=255u8))
        })
        .collect();
    let changed = flips.len();
    flips.into_par_iter().for_each(|(n, at, change)| {
        let (path, bytes) = &files[n];
        let mut bytes = bytes.clone();
        bytes[at] ^= change;
        survives(family, &bytes, path, &format!("byte {at} ^ {change}"), scratch.path());
    });
    writeln!(std::io::stdout(), "{family:<12} {count} cuts and {changed} changed bytes of {} files", files.len())
        .unwrap();
}

#[test]
fn nifti_files() {
    check("nifti");
}

#[test]
fn nrrd_metaimage_and_mgh_files() {
    check("grids");
}

#[test]
fn dicom_files() {
    check("dicom");
}

#[test]
fn slices_of_series() {
    check("dicom_series");
}

/// A folder in which one slice is damaged is a volume or an error, too.
#[test]
#[allow(clippy::explicit_write)] // print macros are captured
fn folders_with_a_damaged_slice() {
    let cases = dinorad_testkit::json(&dinorad_testkit::golden().join("io/dicom_series/cases.json"));
    let root = dinorad_testkit::golden().join("io/dicom_series");
    let mut rng = rng::named(0, "damaged slices");
    let mut read = 0;
    for case in cases["cases"].as_array().unwrap().iter().filter(|c| c["outcome"] == "ok") {
        let folder = root.join(case["file"].as_str().unwrap());
        let scratch = tempfile::tempdir().unwrap();
        let mut slices = Vec::new();
        for (n, entry) in walkdir::WalkDir::new(&folder).sort_by_file_name().into_iter().enumerate() {
            let entry = entry.unwrap();
            if entry.file_type().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                let path = scratch.path().join(n.to_string());
                fs::write(&path, &bytes).unwrap();
                slices.push((path, bytes));
            }
        }
        for _ in 0..40 {
            let (path, bytes) = &slices[rng.random_range(0..slices.len())];
            if bytes.is_empty() {
                continue;
            }
            let mut bad = bytes.clone();
            let at = rng.random_range(0..bad.len().min(1024));
            if rng.random() {
                bad.truncate(at);
            } else {
                bad[at] ^= rng.random_range(1..=255u8);
            }
            fs::write(path, &bad).unwrap();
            let run = AssertUnwindSafe(|| drop(dicom::read_series(scratch.path(), &options())));
            assert!(catch_unwind(run).is_ok(), "{} with byte {at} damaged panicked", path.display());
            fs::write(path, bytes).unwrap();
            read += 1;
        }
    }
    assert!(read > 0);
    writeln!(std::io::stdout(), "folders      {read} with a damaged slice").unwrap();
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
