//! NRRD, MetaImage and MGH as SimpleITK, pynrrd and nibabel read them. `tests/data/grids/make.py` made the
//! files and wrote down what these programs say.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dinorad_io::{
    Error, Format, Limits, Loaded, Placement, ReadOptions, Volume, detached_voxels, inspect, metaimage, mgh, nrrd,
    read, read_grid_header, read_labels, read_slice, read_volume, read_with, sniff, sniff_bytes,
};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/grids")
}

/// The cases that must load, or those that must not.
fn cases(good: bool) -> Vec<(PathBuf, Value)> {
    let cases = dinorad_testkit::json(&folder().join("expected.json"));
    let cases = cases.as_array().unwrap().iter().filter(|c| c["values"].is_array() == good);
    let out: Vec<_> = cases.map(|c| (folder().join("files").join(c["file"].as_str().unwrap()), c.clone())).collect();
    assert!(out.len() > 25, "{} cases", out.len());
    out
}

fn options(case: &Value) -> ReadOptions {
    match case["volume"].as_u64() {
        Some(v) => ReadOptions::default().with_volume(v as usize),
        None => ReadOptions::default(),
    }
}

fn check(volume: &Volume, case: &Value) {
    let id = &case["file"];
    let shape: Vec<usize> = case["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    assert_eq!(volume.data.shape(), shape, "{id}");
    for (got, want) in volume.data.iter().zip(case["values"].as_array().unwrap()) {
        // whole numbers and floats are the same; doubles are rounded once
        assert_eq!(*got, want.as_f64().unwrap() as f32, "{id}");
    }
    for (got, want) in volume
        .affine
        .rows()
        .iter()
        .flatten()
        .zip(case["affine"].as_array().unwrap().iter().flat_map(|r| r.as_array().unwrap()))
    {
        // text of 6 digits and more, floats of 24 bits in MGH; places lie some 30 mm off
        assert!((got - want.as_f64().unwrap()).abs() < 2e-5, "{id}: {:?} not {}", volume.affine.rows(), case["affine"]);
    }
    let placement = if case["placement"] == "header" { Placement::Header } else { Placement::Unknown };
    assert_eq!(volume.placement, placement, "{id}");
    let warnings = volume.warnings().join("; ");
    match case["warning"].as_str() {
        Some(word) => assert!(warnings.contains(word), "{id}: {warnings}"),
        None => assert_eq!(warnings, "", "{id}"),
    }
}

#[test]
fn values_and_places_are_those_of_other_programs() {
    for (path, case) in cases(true) {
        let Ok(Loaded::Volume(volume)) = read_with(&path, &options(&case)) else { panic!("{}", path.display()) };
        check(&volume, &case);
        let name = case["file"].as_str().unwrap();
        let format = sniff(&path).unwrap();
        assert!(format.is_grid());
        let (one, bytes) = (options(&case), fs::read(&path).unwrap());
        assert_eq!(sniff_bytes(&bytes[..bytes.len().min(4096)]), Some(format), "{name}");
        let (direct, memory, header) = match format {
            Format::Nrrd => (nrrd::read(&path, &one), nrrd::read_bytes(&bytes, &path, &one), nrrd::read_header(&path)),
            Format::MetaImage => (
                metaimage::read(&path, &one),
                metaimage::read_bytes(&bytes, &path, &one),
                metaimage::read_header(&path),
            ),
            _ => (mgh::read(&path, &one), mgh::read_bytes(&bytes, &path, &one), mgh::read_header(&path)),
        };
        check(&direct.unwrap(), &case);
        let header = header.unwrap();
        assert_eq!(header, read_grid_header(&path).unwrap());
        assert_eq!(header.datatype.numpy_name(), case["dtype"].as_str().unwrap(), "{name}");
        assert_eq!(header.detached, case["detached"].is_string(), "{name}");
        match case["detached"].as_str() {
            Some(there) => {
                let found = detached_voxels(&path).unwrap();
                assert_eq!(found.file_name().unwrap(), there, "{name}");
                assert!(matches!(memory, Err(Error::Elsewhere { .. })), "{name}");
            }
            None => {
                assert_eq!(detached_voxels(&path), None, "{name}");
                check(&memory.unwrap(), &case);
            }
        }
        // slice by slice, the same
        for (k, plane) in volume.data.outer_iter().enumerate() {
            assert_eq!(read_slice(&path, k, &one).unwrap(), plane, "{name}, slice {k}");
        }
        let error = read_slice(&path, volume.data.dim().0, &one).unwrap_err();
        assert!(matches!(error, Error::Missing { what: "slice", .. }), "{error}");
    }
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    for (path, case) in cases(false) {
        let error = read(&path).unwrap_err();
        let kind = format!("{error:?}");
        assert!(kind.starts_with(case["error"].as_str().unwrap()), "{kind}");
        assert!(error.to_string().contains(case["word"].as_str().unwrap()), "{error}");
        assert!(!kind.contains("DOE"), "{kind}");
        assert!(read_volume(&path, &ReadOptions::default()).is_err());
    }
}

#[test]
fn one_of_several_volumes() {
    let path = folder().join("files/list_first.nrrd");
    let error = read_volume(&path, &ReadOptions::default().with_volume(2)).unwrap_err();
    assert!(matches!(error, Error::Missing { what: "volume", .. }), "{error}");
    let seen = inspect(&path, false).unwrap();
    assert_eq!(seen.shape, [2, 3, 4, 5]);
    assert_eq!(seen.undecoded, None);
    assert!(seen.warnings.iter().any(|w| w.contains("2 volumes")), "{seen}");
}

#[test]
fn masks_are_whole_numbers() {
    let path = folder().join("files/itk_uint8.mha");
    let volume = read_volume(&path, &ReadOptions::default()).unwrap();
    let labels = read_labels(&path, &ReadOptions::default()).unwrap();
    assert_eq!(labels.data.mapv(f32::from), volume.data);
    assert_eq!(labels.affine, volume.affine);
    let error = read_labels(&folder().join("files/itk_float32.nrrd"), &ReadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Label { .. }), "{error}");
}

#[test]
fn free_text_is_shown_on_request_only() {
    for name in ["keys.nrrd", "intensity.mha"] {
        let path = folder().join("files").join(name);
        let shown = inspect(&path, true).unwrap().to_string();
        assert!(shown.contains("DOE^JOHN"), "{shown}");
        let seen = inspect(&path, false).unwrap();
        assert!(!seen.to_string().contains("DOE"), "{seen}");
        assert!(!serde_json::to_string(&seen).unwrap().contains("DOE"));
        assert!(seen.to_string().contains("-endian"), "{seen}");
    }
}

#[test]
fn a_limit_is_a_limit() {
    let few = ReadOptions::default().with_limits(Limits::default().with_voxel_bytes(200));
    for name in ["itk_uint8.nrrd", "itk_uint8.mha", "uint8.mgh", "int16.mgz", "apart_packed.mhd"] {
        let error = read_with(&folder().join("files").join(name), &few).unwrap_err();
        assert!(matches!(error, Error::Limit { needed: 240, limit: 200, .. }), "{error}");
    }
}

/// A header may not lead to a file outside its folder, and one that lies below is read.
#[test]
fn detached_voxels_lie_in_the_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let (inner, outer) = (scratch.path().join("in"), scratch.path().join("secret.raw"));
    fs::create_dir_all(inner.join("sub")).unwrap();
    fs::write(&outer, [7; 8]).unwrap();
    fs::write(inner.join("sub/voxels.raw"), [9; 8]).unwrap();
    let outside = outer.to_str().unwrap();
    for (name, good) in [
        ("sub/voxels.raw", true),
        ("../secret.raw", false),
        ("sub/../../secret.raw", false),
        (outside, false),
        ("", false),
    ] {
        let nhdr = format!("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {name}\n");
        let mhd = format!("NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {name}\n");
        for (file, text) in [("a.nhdr", nhdr), ("a.mhd", mhd)] {
            let path = inner.join(file);
            fs::write(&path, text).unwrap();
            match read_volume(&path, &ReadOptions::default()) {
                Ok(v) => assert!(good && v.data.iter().all(|v| *v == 9.0), "{file} {name}"),
                Err(e) => assert!(!good && matches!(e, Error::Elsewhere { .. }), "{file} {name}: {e}"),
            }
            assert_eq!(detached_voxels(&path).is_some(), good, "{file} {name}");
        }
    }
}

/// Texts and numbers that begin like one of these formats and are none.
#[test]
fn strangers_are_not_taken_for_volumes() {
    for text in [
        "",
        "a = 1\nb = 2\n",
        "[section]\nNDims = 3\n",
        "# NDims = 3\n",
        "NDims = 3\nDimSize = 2 2 2\n",
        "NRRD\n",
        "\0\0\0\x01",
    ] {
        assert_eq!(sniff_bytes(text.as_bytes()), None, "{text:?}");
    }
    let mgh = fs::read(folder().join("files/uint8.mgh")).unwrap();
    for (at, value) in [(3, 2), (7, 0), (23, 11), (29, 2), (30, 0x7f), (4, 0x7f)] {
        let mut other = mgh.clone();
        other[at] = value;
        if at == 30 {
            other[31] = 0xff;
        }
        assert_eq!(sniff_bytes(&other), None, "byte {at}");
    }
}
