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
    ReadOptions::default().with_limits(Limits::default().with_voxel_bytes(8))
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
    let small = ReadOptions::default().with_limits(Limits::default().with_file_bytes(64));
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

/// 40,000 x 40,000 pixels in a file of 2 MB that really holds them: refused by default.
#[test]
fn a_very_large_picture_must_be_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.png");
    let rows = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [&kind[..], data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
    };
    let side = 40_000u32.to_be_bytes();
    let header = [&side[..], &side, &[1, 0, 0, 0, 0]].concat();
    let mut pixels = rows;
    for _ in 0..40_000 {
        std::io::Write::write_all(&mut pixels, &[0; 5001]).unwrap();
    }
    let pixels = pixels.finish().unwrap();
    let parts = [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &pixels), chunk(b"IEND", b"")];
    std::fs::write(&path, parts.concat()).unwrap();
    match image::read(&path) {
        Err(Error::Limit { needed: 6_400_000_000, limit, .. }) => assert_eq!(limit, 4 << 30),
        other => panic!("{:?}", other.map(|i| i.data.dim())),
    }
}
