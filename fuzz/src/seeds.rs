//! Sound and damaged files to start from: the golden cases and those of the tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::readers::SEPARATOR;

/// Larger files are left out: most of their bytes are voxels.
const LARGEST: u64 = 128 << 10;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("")).to_owned()
}

/// The golden cases of the readers: those of `$DINORAD_GOLDEN` where it is set.
pub fn golden() -> PathBuf {
    std::env::var_os("DINORAD_GOLDEN").map_or_else(|| root().join("tests/golden"), PathBuf::from).join("io")
}

/// All files below a folder, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return out };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

fn ends(path: &Path, suffixes: &[&str]) -> bool {
    suffixes.iter().any(|s| path.to_string_lossy().ends_with(s))
}

/// The inputs that a target starts from.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let (io, tests) = (golden(), root().join("crates/dinorad-io/tests"));
    let data = tests.join("data");
    let of = |folder: PathBuf, suffixes: &[&str]| -> Vec<PathBuf> {
        files(&folder).into_iter().filter(|p| suffixes.is_empty() || ends(p, suffixes)).collect()
    };
    let mut paths = match target {
        "nifti" => [of(io.join("nifti/files"), &[]), of(data.join("edges/nifti"), &[])].concat(),
        "nrrd" => of(data.join("grids/files"), &[".nrrd", ".nhdr"]),
        "metaimage" => of(data.join("grids/files"), &[".mha", ".mhd"]),
        "mgh" => of(data.join("grids/files"), &[".mgh", ".mgz"]),
        "dicom_file" => {
            let slices = of(io.join("dicom_series/files"), &[]).into_iter().step_by(8).collect();
            [
                of(io.join("dicom/files"), &[]),
                slices,
                of(data.join("codecs"), &[".dcm"]),
                of(data.join("edges/dicom"), &[]),
            ]
            .concat()
        }
        "image" => [of(io.join("image/files"), &[]), of(data.join("image"), &[".png", ".jpg", ".tif"])].concat(),
        "npy_npz" => of(io.join("npy/files"), &[]),
        "mat" => {
            [of(io.join("mat/files"), &[]), of(data.join("bombs"), &[".mat"]), of(data.join("elsewhere"), &[".mat"])]
                .concat()
        }
        _ => Vec::new(),
    };
    paths.extend(files(&tests.join("regressions").join(target)));
    let small = |p: &PathBuf| fs::metadata(p).is_ok_and(|m| (1..=LARGEST).contains(&m.len()));
    let mut out: Vec<Vec<u8>> = paths.iter().filter(|p| small(p)).filter_map(|p| fs::read(p).ok()).collect();
    if target == "dicom_series" {
        let folders = fs::read_dir(io.join("dicom_series/files")).into_iter().flatten().flatten().map(|e| e.path());
        let mut folders: Vec<PathBuf> = folders.filter(|p| p.is_dir()).collect();
        folders.sort();
        for folder in folders {
            let slices: Vec<Vec<u8>> = files(&folder).iter().take(16).filter_map(|p| fs::read(p).ok()).collect();
            out.push(slices.join(SEPARATOR));
        }
    }
    out
}
