//! A caller's limits hold for every reader, and what is not damaged is then `Error::Limit`.

use std::path::PathBuf;

use dinorad_io::{Error, Limits, ReadOptions, dicom, image, mat::MatFile, nifti, npy, read_with};

fn golden(path: &str) -> PathBuf {
    dinorad_testkit::golden().join("io").join(path)
}

/// The first case of a family that must load.
fn sound(family: &str) -> PathBuf {
    let cases = dinorad_testkit::json(&golden(family).join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    let case = cases.iter().find(|c| c["outcome"] == "ok").expect("a case that loads");
    golden(family).join(case["file"].as_str().unwrap())
}

fn few() -> ReadOptions {
    ReadOptions::default().with_limits(Limits { voxel_bytes: 8, ..Limits::default() })
}

fn is_limit<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Err(Error::Limit { needed, limit: 8, .. }) => assert!(needed > 8),
        other => panic!("{other:?}"),
    }
}

#[test]
fn voxels_are_limited() {
    is_limit(nifti::read(&sound("nifti"), &few()));
    is_limit(dicom::read_file(&sound("dicom"), &few()));
    is_limit(dicom::read_series(&sound("dicom_series"), &few()));
    is_limit(image::read_with(&sound("image"), &few()));
    is_limit(MatFile::open(&sound("mat"), &few()).unwrap().array("cjdata/image"));
    is_limit(read_with(&golden("npy/files/c_float64.npy"), &few()));
    is_limit(npy::read_npz_array(&golden("npy/files/npz_deflate.npz"), "train_images", &few()));
}

#[test]
fn files_are_limited() {
    let small = ReadOptions::default().with_limits(Limits { file_bytes: 64, ..Limits::default() });
    for family in ["dicom", "image"] {
        let error = read_with(&sound(family), &small).unwrap_err();
        assert!(matches!(error, Error::Limit { limit: 64, .. }), "{error:?}");
    }
}

/// 250 bytes that declare 4 GB: refused at once, without room being made for them.
#[test]
fn a_small_dicom_that_claims_four_gigabytes() {
    let mut bytes = vec![0u8; 128];
    bytes.extend(b"DICM");
    bytes.extend([2, 0, 0x10, 0, b'U', b'I', 20, 0]);
    bytes.extend(b"1.2.840.10008.1.2.1\0");
    bytes.extend([0xE0, 0x7F, 0x10, 0, b'O', b'W', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF]);
    bytes.resize(250, 0);
    let start = std::time::Instant::now();
    let error = dicom::read_bytes(bytes, "claims.dcm".as_ref(), &ReadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(start.elapsed().as_millis() < 100);
}
