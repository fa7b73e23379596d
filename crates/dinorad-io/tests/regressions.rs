//! Inputs that once broke a reader, by fuzz target: values or errors, in little time, and no panic.
//! `fuzz/README.md` tells where they come from.

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use dinorad_io::{
    Limits, ReadOptions, dicom, image, inspect_with, mat::MatFile, nifti, npy, read_labels, read_slice, read_volume,
};

/// What the fuzz targets allow.
fn options() -> ReadOptions {
    ReadOptions::default()
        .with_limits(Limits::default().with_voxel_bytes(64 << 20).with_file_bytes(64 << 20))
        .with_volume(0)
}

fn run(target: &str, path: &Path) {
    let options = options();
    let bytes = fs::read(path).unwrap();
    match target {
        "nifti" => {
            drop(nifti::read_bytes(&bytes, path, &options).map(|v| v.to_canonical()));
            drop(nifti::read_labels(path, &options));
            drop(nifti::read_slice(path, 0, &options));
        }
        "nrrd" | "metaimage" | "mgh" => {
            drop(read_volume(path, &options).map(|v| v.to_canonical()));
            drop((read_labels(path, &options), read_slice(path, 0, &options)));
            drop(inspect_with(path, true, &options).map(|i| i.to_string()));
        }
        "dicom_file" => {
            if let Ok(file) = dicom::DicomFile::from_bytes(bytes.clone(), path, &options) {
                let last = file.header().frames as usize - 1;
                drop((file.stored_frame(0), file.stored_frame(last), file.modality_frame(last), file.rgb_frame(0)));
            }
            drop(dicom::read_bytes(bytes, path, &options));
        }
        "dicom_series" => {
            let folder = tempfile::tempdir().unwrap();
            let mut rest = bytes.as_slice();
            for n in 0.. {
                let end = rest.windows(6).position(|w| w == b"<NEXT>");
                fs::write(folder.path().join(format!("{n:02}")), &rest[..end.unwrap_or(rest.len())]).unwrap();
                let Some(end) = end else { break };
                rest = &rest[end + 6..];
            }
            for info in dicom::find_series(folder.path(), &options).unwrap_or_default() {
                drop(dicom::read_series(folder.path(), &options.clone().with_series(info.uid)));
            }
            drop(inspect_with(folder.path(), true, &options).map(|i| i.to_string()));
        }
        "image" => drop(image::read_bytes(&bytes, path, &options).map(|i| i.to_gray())),
        "npy_npz" => {
            drop(npy::read_bytes(&bytes, path, &options));
            for name in npy::names(path).unwrap_or_default() {
                drop((npy::read_npz_header(path, &name), npy::read_npz_array(path, &name, &options)));
            }
        }
        "mat" => {
            if let Ok(file) = MatFile::open(path, &options) {
                for name in file.names() {
                    drop((file.describe(&name), file.array(&name)));
                }
            }
        }
        other => panic!("no reader for {other}"),
    }
}

#[test]
#[allow(clippy::explicit_write)] // print macros are captured
fn inputs_that_once_broke_a_reader() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let mut seen = 0;
    for target in fs::read_dir(&root).unwrap() {
        let target = target.unwrap().path();
        let name = target.file_name().unwrap().to_string_lossy().into_owned();
        for file in fs::read_dir(&target).unwrap() {
            let path = file.unwrap().path();
            let start = Instant::now();
            run(&name, &path);
            assert!(start.elapsed() < Duration::from_secs(10), "{} took {:?}", path.display(), start.elapsed());
            seen += 1;
        }
    }
    assert!(seen > 0, "no inputs under {}", root.display());
    writeln!(std::io::stdout(), "regressions  {seen} inputs").unwrap();
}
