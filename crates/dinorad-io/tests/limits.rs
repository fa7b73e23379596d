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

fn png(side: u32, colour: u8, row: usize) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [&kind[..], data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
    };
    let header =
        [&side.to_be_bytes()[..], &side.to_be_bytes(), &[if row < side as usize { 1 } else { 8 }, colour, 0, 0, 0]]
            .concat();
    let mut pixels = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..side {
        std::io::Write::write_all(&mut pixels, &vec![0; row + 1]).unwrap();
    }
    let pixels = pixels.finish().unwrap();
    let parts = [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &pixels), chunk(b"IEND", b"")];
    parts.concat()
}

/// 40,000 x 40,000 pixels in a file of 2 MB that really holds them: refused by default, with the way on.
#[test]
fn a_very_large_picture_must_be_allowed() {
    let bytes = png(40_000, 0, 5000);
    match image::read_bytes(&bytes, "large.png".as_ref(), &ReadOptions::default()) {
        Err(e @ Error::Limit { needed: 6_400_000_000, .. }) => assert!(e.to_string().contains("`Limits::voxel_bytes`")),
        other => panic!("{:?}", other.map(|i| i.data.dim())),
    }
    let bytes = png(20_000, 0, 2500);
    match image::read_bytes(&bytes, "large.png".as_ref(), &ReadOptions::default()) {
        Err(e @ Error::Limit { needed: 1_600_000_000, limit, .. }) => {
            assert_eq!(limit, 1 << 30);
            assert!(e.to_string().contains("`Limits::picture_bytes`"), "{e}");
        }
        other => panic!("{:?}", other.map(|i| i.data.dim())),
    }
    let allowed = ReadOptions::default().with_limits(Limits::default().with_picture_bytes(40_000));
    assert!(image::read_bytes(&png(100, 0, 13), "small.png".as_ref(), &allowed).is_ok());
    let refused = image::read_bytes(&png(101, 0, 13), "small.png".as_ref(), &allowed);
    assert!(matches!(refused, Err(Error::Limit { needed: 40_804, limit: 40_000, .. })), "{refused:?}");
}

/// Pictures of every kind are under the limit of pictures; volumes are not.
#[test]
fn pictures_are_limited() {
    let few = ReadOptions::default().with_limits(Limits::default().with_picture_bytes(8));
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let cases = dinorad_testkit::json(&golden("image").join("cases.json"));
    let mut kinds = std::collections::BTreeSet::new();
    for case in cases["cases"].as_array().unwrap().iter().filter(|c| c["outcome"] == "ok") {
        let path = golden("image").join(case["file"].as_str().unwrap());
        if image::read(&path).unwrap().data.len() < 3 {
            continue;
        }
        is_limit(image::read_with(&path, &few));
        kinds.insert(dinorad_io::sniff(&path).unwrap().to_string());
    }
    is_limit(image::read_with(&data.join("image/gray8_le.tif"), &few));
    assert!(kinds.contains("PNG") && kinds.contains("JPEG"), "{kinds:?}");
    for name in
        ["dicom/files/ts_j2k_lossless.dcm", "dicom/files/ts_jpeg_baseline_gray.dcm", "dicom/files/ts_explicit_le.dcm"]
    {
        is_limit(dicom::read_file(&golden(name), &few));
        let file = dicom::DicomFile::open(&golden(name), &few).unwrap();
        is_limit(file.modality_frame(0));
        is_limit(file.stored_frame(0));
    }
    assert!(nifti::read(&sound("nifti"), &few).is_ok());
}
