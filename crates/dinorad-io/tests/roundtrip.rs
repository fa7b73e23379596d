//! Volume to NIfTI and back, and what nibabel makes of our files: asked anew where Python with
//! nibabel is there (`$DINORAD_PYTHON`, default `python3`), else the stored answers, which hold
//! for files of the stored checksum.

use std::{io::Write, path::Path, process::Command};

use dinorad_core::Affine;
use dinorad_io::{Placement, ReadOptions, Volume, nifti};
use ndarray::Array3;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Volumes whose affines are straight, oblique, flipped, sheared and taken from another file.
fn volumes(folder: &Path) -> Vec<(&'static str, Volume)> {
    let data = |d, h, w| Array3::from_shape_fn((d, h, w), |(k, j, i)| (k * 100 + j * 10 + i) as f32 * 0.25 - 30.0);
    let affine = |rows: [[f64; 4]; 3]| Affine::new([rows[0], rows[1], rows[2], [0.0, 0.0, 0.0, 1.0]]).unwrap();
    // 30 degrees about x, then 20 about z
    let (s, c) = (30f64.to_radians().sin(), 30f64.to_radians().cos());
    let (t, e) = (20f64.to_radians().sin(), 20f64.to_radians().cos());
    let oblique = affine([
        [-0.5 * e, -0.75 * -t * c, 3.0 * t * s, 12.5],
        [-0.5 * t, -0.75 * e * c, 3.0 * -e * s, -7.25],
        [0.0, -0.75 * s, 3.0 * c, 100.0],
    ]);
    let sheared = affine([[1.0, 0.0, 0.2, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 5.0]]);
    let flipped = affine([[-0.8, 0.0, 0.0, 90.0], [0.0, -0.8, 0.0, 80.0], [0.0, 0.0, 2.5, -40.0]]);
    let mut from_dicom = Volume::new(data(4, 5, 6), flipped);
    from_dicom.placement = Placement::Dicom;
    // qform and sform of this one differ, and both must survive
    let source = dinorad_testkit::golden().join("io/nifti/files/sform_and_qform_differ.nii");
    let copied = nifti::read(&source, &ReadOptions::default()).unwrap();
    let canonical = from_dicom.to_canonical();
    assert!(folder.is_dir());
    vec![
        ("straight.nii", Volume::new(data(3, 4, 5), Affine::from_spacing_mm([0.5, 0.7, 2.0]))),
        ("oblique.nii", Volume::new(data(5, 4, 3), oblique)),
        ("sheared.nii", Volume::new(data(2, 3, 4), sheared)),
        ("from_dicom.nii", from_dicom),
        ("canonical.nii", canonical),
        ("copied.nii", copied),
        ("long_axis.nii", Volume::new(Array3::from_elem((1, 1, 40_000), 1.5), Affine::identity())),
    ]
}

/// Labels that differ from voxel to voxel.
fn mask(like: &Volume) -> Array3<u8> {
    let mut n = 0usize;
    Array3::from_shape_simple_fn(like.data.dim(), || {
        n += 1;
        (n * n % 251) as u8
    })
}

fn check(name: &str, answer: &Value, volume: &Volume, values: &[f64]) {
    let (d, h, w) = volume.data.dim();
    let shape: Vec<u64> = answer["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
    assert_eq!(shape, [w as u64, h as u64, d as u64], "{name}");
    let rows = volume.affine.rows();
    for (r, row) in answer["affine"].as_array().unwrap().iter().enumerate() {
        for (c, v) in row.as_array().unwrap().iter().enumerate() {
            // NIfTI-1 stores f32
            let difference = (v.as_f64().unwrap() - rows[r][c]).abs();
            assert!(difference <= 1e-6 * rows[r][c].abs().max(1.0), "{name}: affine[{r}][{c}]");
        }
    }
    // nibabel's array is [i, j, k] in C order
    let at = |n: usize| (n % d) * h * w + (n / d % h) * w + n / (d * h);
    let sum: f64 = (0..values.len()).map(|n| values[at(n)] * (n as f64 + 1.0)).sum();
    let want = answer["weighted_sum"].as_f64().unwrap();
    assert!((sum - want).abs() <= 1e-9 * want.abs().max(1.0), "{name}: {sum}, nibabel {want}");
}

#[test]
#[allow(clippy::explicit_write)] // print macros are captured
fn written_files_are_what_nibabel_reads() {
    let folder = tempfile::tempdir().unwrap();
    let volumes = volumes(folder.path());
    let mut written = Vec::new();
    for (name, volume) in &volumes {
        let path = folder.path().join(name);
        nifti::write_volume(&path, volume).unwrap();
        let back = nifti::read(&path, &ReadOptions::default()).unwrap();
        assert_eq!(back.data, volume.data, "{name}");
        let labels = mask(volume);
        let mask_path = folder.path().join(format!("mask_{name}"));
        nifti::write_mask(&mask_path, &labels, volume).unwrap();
        let read = nifti::read_labels(&mask_path, &ReadOptions::default()).unwrap();
        assert_eq!(read.data, labels, "{name}");
        assert_eq!(read.affine, back.affine, "{name}: the mask lies on its volume");
        let packed = folder.path().join(format!("{name}.gz"));
        nifti::write_volume(&packed, volume).unwrap();
        let packed = nifti::read(&packed, &ReadOptions::default()).unwrap();
        assert_eq!((packed.data, packed.affine), (back.data, back.affine), "{name}: compressed");
        written.push((path, volume, volume.data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()));
        written.push((mask_path, volume, labels.iter().map(|v| f64::from(*v)).collect()));
    }
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let python = std::env::var("DINORAD_PYTHON").unwrap_or_else(|_| "python3".into());
    let run = Command::new(&python)
        .arg(data.join("roundtrip_expected.py"))
        .args(written.iter().map(|(p, _, _)| p.as_os_str()))
        .output();
    let (answers, source): (Value, _) = match run {
        Ok(out) if out.status.success() => (serde_json::from_slice(&out.stdout).unwrap(), "nibabel itself"),
        _ => (dinorad_testkit::json(&data.join("roundtrip_expected.json")), "nibabel's stored answers"),
    };
    for (path, volume, values) in &written {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let answer = &answers[&name];
        assert!(answer.is_object(), "{name}: no answer");
        let mut sum = String::new();
        for b in Sha256::digest(std::fs::read(path).unwrap()) {
            sum.push_str(&format!("{b:02x}"));
        }
        assert_eq!(answer["sha256"], sum.as_str(), "{name}: another file than nibabel was asked about");
        check(&name, answer, volume, values);
        if name.ends_with("copied.nii") {
            let header = nifti::read_header(path).unwrap();
            let source =
                nifti::read_header(&dinorad_testkit::golden().join("io/nifti/files/sform_and_qform_differ.nii"));
            let source = source.unwrap();
            assert_eq!((header.sform_code, header.qform_code), (source.sform_code, source.qform_code));
            assert_eq!((header.srow, header.quatern, header.qoffset), (source.srow, source.quatern, source.qoffset));
        }
        if !name.contains("sheared") && !name.contains("copied") {
            // where the axes are at right angles, the qform says the same as the sform
            let of = |key: &str| answer[key].as_array().unwrap().iter().flat_map(|r| r.as_array().unwrap().clone());
            for (a, b) in of("affine").zip(of("qform")) {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                assert!((a - b).abs() < 1e-4, "{name}: qform {b}, sform {a}");
            }
        }
    }
    writeln!(std::io::stdout(), "round trip   {} files, compared with {source}", written.len()).unwrap();
}

#[test]
fn a_mask_of_another_shape_is_refused_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let like = Volume::new(Array3::zeros((2, 2, 2)), Affine::identity());
    let path = folder.path().join("mask.nii.gz");
    assert!(nifti::write_mask(&path, &Array3::zeros((2, 2, 3)), &like).is_err());
    assert!(nifti::write_volume(&folder.path().join("no/such/folder.nii"), &like).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The same series as DICOM and as NIfTI gives the same volume.
#[test]
fn nifti_and_dicom_agree() {
    let folder = tempfile::tempdir().unwrap();
    let cases = dinorad_testkit::json(&dinorad_testkit::golden().join("io/dicom_series/cases.json"));
    let mut compared = 0;
    for case in cases["cases"].as_array().unwrap().iter().filter(|c| c["outcome"] == "ok") {
        if case["select_series_instance_uid"].is_string() {
            continue;
        }
        let series = dinorad_testkit::golden().join("io/dicom_series").join(case["file"].as_str().unwrap());
        let (volume, _) = dinorad_io::dicom::read_series(&series, &ReadOptions::default()).unwrap();
        let path = folder.path().join("series.nii.gz");
        nifti::write_volume(&path, &volume).unwrap();
        let back = nifti::read(&path, &ReadOptions::default()).unwrap();
        assert_eq!(back.data, volume.data, "{}", case["id"]);
        for (a, b) in back.affine.rows().iter().flatten().zip(volume.affine.rows().iter().flatten()) {
            assert!((a - b).abs() < 1e-4, "{}", case["id"]);
        }
        let (a, b) = (back.to_canonical(), volume.to_canonical());
        assert_eq!(a.data, b.data, "{}", case["id"]);
        compared += 1;
    }
    assert!(compared > 0);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Any shape, values, and axes at right angles or not: what is written is what is read.
    #[test]
    fn any_volume_comes_back(
        shape in (1usize..6, 1usize..6, 1usize..6),
        seed in proptest::prelude::any::<u64>(),
        entries in proptest::array::uniform12(-50.0f32..50.0),
        packed in proptest::prelude::any::<bool>(),
    ) {
        use rand::Rng;
        let mut rng = dinorad_core::rng::named(seed, "voxels");
        // NIfTI-1 stores affines as f32: draw them so
        let e = entries.map(f64::from);
        let rows = [[e[0], e[1], e[2], e[3]], [e[4], e[5], e[6], e[7]], [e[8], e[9], e[10], e[11]], [0.0, 0.0, 0.0, 1.0]];
        let affine = Affine::new(rows).unwrap();
        proptest::prop_assume!(affine.inverse().is_ok());
        let volume = Volume::new(Array3::from_shape_simple_fn(shape, || rng.random_range(-1e6f32..1e6)), affine);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if packed { "v.nii.gz" } else { "v.nii" });
        nifti::write_volume(&path, &volume).unwrap();
        let back = nifti::read(&path, &ReadOptions::default()).unwrap();
        proptest::prop_assert_eq!(&back.data, &volume.data);
        proptest::prop_assert_eq!(back.affine, volume.affine);
        let there_and_back = back.to_canonical().as_stored();
        proptest::prop_assert_eq!(there_and_back.data, volume.data);
    }
}
