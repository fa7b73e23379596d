//! Every hippocampus pair under `$DINORAD_DATA/msd-hippocampus` (default: the pairs in
//! `examples/data`) against what nibabel says of it. The expected file covers all 260 pairs;
//! `tests/data/hippocampus_expected.py` makes it.

use std::{collections::BTreeMap, io::Write, path::Path};

use dinorad_core::Affine;
use dinorad_io::{ReadOptions, nifti};
use serde_json::Value;

fn floats(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn affine_error(got: &Affine, want: &Value) -> f64 {
    let want: Vec<f64> = want.as_array().unwrap().iter().flat_map(floats).collect();
    got.rows().iter().flatten().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
#[allow(clippy::explicit_write)] // print macros are captured
fn hippocampus_pairs_equal_nibabel() {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hippocampus_expected.json");
    let expected = dinorad_testkit::json(&expected);
    let root = dinorad_testkit::data().join("msd-hippocampus");
    let options = ReadOptions::default();
    let (mut pairs, mut absent, mut worst) = (0, 0, 0f64);
    for (name, want) in expected["cases"].as_object().unwrap() {
        let image = root.join("imagesTr").join(name);
        if !image.is_file() {
            absent += 1;
            continue;
        }
        pairs += 1;
        let volume = nifti::read(&image, &options).unwrap();
        let shape: Vec<u64> = want["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
        let (d, h, w) = volume.data.dim();
        assert_eq!(vec![w as u64, h as u64, d as u64], shape, "{name}");
        let zooms = floats(&want["zooms"]);
        let spacing = volume.spacing_mm();
        for (a, z) in zooms.iter().enumerate() {
            assert!((spacing[2 - a] - z).abs() < 1e-5, "{name}: spacing");
        }
        worst = worst.max(affine_error(&volume.affine, &want["affine"]));
        let codes: String = volume.axis_codes().iter().collect();
        assert_eq!(codes, want["axcodes"].as_str().unwrap(), "{name}");
        let values = volume.data.iter().map(|v| f64::from(*v));
        let (low, high, sum) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY, 0.0), |(a, b, s), v| (a.min(v), b.max(v), s + v));
        // images are stored as integers or as f32: what we hold is exact
        assert_eq!((Some(low), Some(high)), (want["min"].as_f64(), want["max"].as_f64()), "{name}");
        let total = want["sum"].as_f64().unwrap();
        assert!((sum - total).abs() <= 1e-9 * total.abs(), "{name}: sum {sum}, expected {total}");

        let labels = nifti::read_labels(&root.join("labelsTr").join(name), &options).unwrap();
        worst = worst.max(affine_error(&labels.affine, &want["label_affine"]));
        let shape = want["label_shape"].as_array().unwrap().iter().rev().map(|v| v.as_u64().unwrap() as usize);
        assert_eq!(labels.data.shape(), shape.collect::<Vec<_>>(), "{name}: labels");
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for v in &labels.data {
            *counts.entry(v.to_string()).or_insert(0) += 1;
        }
        let wanted = want["labels"].as_object().unwrap().iter().map(|(k, n)| (k.clone(), n.as_u64().unwrap()));
        assert_eq!(counts, wanted.collect::<BTreeMap<_, _>>(), "{name}: labels");
    }
    // files that the expected file does not know would not be tested
    let files = std::fs::read_dir(root.join("imagesTr")).unwrap().map(|e| e.unwrap().file_name());
    let files = files.filter(|n| n.to_string_lossy().ends_with(".nii.gz") && !n.to_string_lossy().starts_with('.'));
    assert_eq!(files.count(), pairs, "files without expected values");
    assert!(pairs > 0, "no pairs under {}", root.display());
    assert!(worst <= 1e-4, "affines differ by {worst}");
    writeln!(
        std::io::stdout(),
        "hippocampus  {pairs} pairs equal nibabel, {absent} not there, affines within {worst:.1e} mm"
    )
    .unwrap();
}
