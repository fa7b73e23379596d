use std::path::{Path, PathBuf};

use dinorad_core::Affine;
use dinorad_io::{
    AnyArray, Error, ReadOptions, Volume,
    dicom::{self, DicomFile, SeriesReport},
};
use dinorad_testkit::each;
use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

use crate::common::{Family, bounded, compare, compare_affine, compare_stats, floats, id, line, sha256, sizes};

#[test]
fn dicom_series() {
    let mut family = Family::read("dicom_series");
    each(family.cases(), id, |case| {
        let folder = family.folder.join(case["file"].as_str().unwrap());
        let mut options = ReadOptions::default();
        if let Some(uid) = case["select_series_instance_uid"].as_str() {
            options = options.with_series(uid);
        }
        let outcome = match bounded(case, || dicom::read_series(&folder, &options)) {
            Ok((volume, report)) => Ok(check(&family, case, &folder, &volume, &report)),
            Err(e) => Err(refused(case, &folder, e)),
        };
        family.judge(case, outcome);
    });
}

fn refused(case: &Value, folder: &Path, error: Error) -> String {
    let text = error.to_string();
    let id = &case["id"];
    match &error {
        Error::SeveralSeries { series, .. } => {
            let want = case["series_found"].as_array().unwrap();
            let want = want.iter().map(|s| (s["series_instance_uid"].as_str().unwrap(), s["slices"].as_u64().unwrap()));
            let mut want: Vec<(String, usize)> = want.map(|(u, n)| (u.to_owned(), n as usize)).collect();
            want.sort();
            let found: Vec<(String, usize)> = series.iter().map(|(u, n)| (u.reveal().to_owned(), *n)).collect();
            assert_eq!(found, want, "{id}");
        }
        Error::Series { report, .. } => assert!(!report.problems.is_empty(), "{id}: no problem named"),
        Error::NoImages { .. } => {}
        other => panic!("{id}: {other:?}"),
    }
    text.replace(&*folder.parent().unwrap().to_string_lossy(), "")
}

fn names(folder: &Path, files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|f| f.strip_prefix(folder).unwrap().to_string_lossy().into_owned()).collect()
}

/// Distance between slices across their plane; with a tilted gantry the voxel axis is longer.
fn plane_distance(affine: &Affine) -> f64 {
    let m = affine.rows();
    let c = |n: usize| [m[0][n], m[1][n], m[2][n]];
    let (i, j, k) = (c(0), c(1), c(2));
    let n = [i[1] * j[2] - i[2] * j[1], i[2] * j[0] - i[0] * j[2], i[0] * j[1] - i[1] * j[0]];
    let length = n.iter().map(|v| v * v).sum::<f64>().sqrt();
    (n.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / length).abs()
}

fn check_geometry(id: &Value, want: &Value, volume: &Volume, atol: f64) -> f64 {
    let [_, row, column] = volume.spacing_mm();
    let spacing = [plane_distance(&volume.affine), row, column];
    let mut worst = compare(id, "spacing", spacing.into_iter(), floats(&want["spacing_zyx"]).iter(), atol, 0.0);
    worst = worst.max(compare_affine(id, &volume.affine, &want["affine_ras"], atol));
    let [x, y, z] = volume.affine.apply([0.0; 3]);
    compare(id, "origin", [-x, -y, z].into_iter(), floats(&want["origin_lps"]).iter(), atol, 0.0);
    let codes: String = volume.axis_codes().iter().collect();
    assert_eq!(codes, want["axcodes"].as_str().unwrap(), "{id}");
    worst
}

fn check(family: &Family, case: &Value, folder: &Path, volume: &Volume, report: &SeriesReport) -> f64 {
    let id = &case["id"];
    assert!(report.problems.is_empty(), "{id}: {report}");
    let tolerance = &family.json["tolerance"];
    let number = |a: &str, b: &str| tolerance[a][b].as_f64().unwrap();
    let want = &family.tensor(&case["volume"]).values;
    assert_eq!(volume.data.shape(), want.shape(), "{id}");
    let values: Vec<f64> = volume.data.iter().map(|v| f64::from(*v)).collect();
    let (atol, rtol) = (number("volume", "atol"), number("volume", "rtol"));
    let mut worst = compare(id, "volume", values.iter().copied(), want.iter(), atol, rtol);
    compare_stats(id, &values, &case["stats"], 1e-3);
    let atol = case["geometry_atol"].as_f64().unwrap_or(number("geometry", "atol"));
    worst = worst.max(check_geometry(id, case, volume, atol));
    assert_eq!(report.series_uid.reveal(), case["series_instance_uid"].as_str().unwrap(), "{id}");
    let order: Vec<&str> = case["order"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(names(folder, &report.files), order, "{id}");
    let skipped: Vec<PathBuf> = report.skipped.iter().map(|s| s.file.clone()).collect();
    let skipped = names(folder, &skipped);
    for name in case["skipped"].as_array().into_iter().flatten() {
        assert!(skipped.iter().any(|s| s == name.as_str().unwrap()), "{id}: {name} is not reported: {skipped:?}");
    }
    let canonical = volume.to_canonical();
    let (d, h, w) = canonical.data.dim();
    assert_eq!(vec![w, h, d], sizes(&case["canonical"]["shape"]), "{id}");
    worst.max(compare_affine(id, &canonical.affine, &case["canonical"]["affine"], atol))
}

/// The series under `dicom` of `$DINORAD_DATA`, with what the golden cases and
/// `tests/data/series_expected.json` say of them; at least one must be there.
#[test]
fn real_dicom_series() {
    let expected = dinorad_testkit::json(&dinorad_testkit::golden().join("io/real_dicom.json"));
    let more = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/series_expected.json");
    let more = dinorad_testkit::json(&more);
    let expected = [&expected, &more].map(|e| e["series"].as_object().unwrap());
    let root = dinorad_testkit::data().join("dicom");
    for entry in std::fs::read_dir(&root).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !expected.iter().any(|e| e.contains_key(&name)) {
            line(format!("real dicom   {name:<40} nothing is expected of it"));
        }
    }
    let mut found = 0;
    for (name, want) in expected.into_iter().flatten() {
        let folder = root.join(name);
        if !folder.is_dir() {
            line(format!("real dicom   {name:<40} not under {}", root.display()));
            continue;
        }
        found += 1;
        let id = Value::from(name.as_str());
        let (volume, report) = dicom::read_series(&folder, &ReadOptions::default()).unwrap();
        assert!(report.problems.is_empty());
        let order: Vec<&str> = want["order"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        assert_eq!(names(&folder, &report.files), order, "{name}");
        assert_eq!(order.len() as u64, want["files"].as_u64().unwrap());
        assert_eq!(volume.data.shape(), sizes(&want["stats"]["shape"]), "{name}");
        let values: Vec<f64> = volume.data.iter().map(|v| f64::from(*v)).collect();
        compare_stats(&id, &values, &want["stats"], 1e-6);
        let worst = check_geometry(&id, want, &volume, 1e-4);
        // stored values, in the order of the volume
        let mut raw = Vec::new();
        for path in &report.files {
            let file = DicomFile::open(path, &ReadOptions::default()).unwrap();
            let h = file.header();
            assert_eq!(h.transfer_syntax, want["transfer_syntax_uid"].as_str().unwrap(), "{name}");
            assert_eq!(u64::from(h.bits_stored), want["bits_stored"].as_u64().unwrap(), "{name}");
            assert_eq!(u64::from(h.signed), want["pixel_representation"].as_u64().unwrap(), "{name}");
            let frame = file.stored_frame(0).unwrap();
            assert_eq!(frame.dtype(), want["raw_dtype"].as_str().unwrap(), "{name}");
            raw.extend(frame.to_f64());
        }
        let shape = IxDyn(volume.data.shape());
        let raw = match want["raw_dtype"].as_str().unwrap() {
            "int16" => AnyArray::I16(ArrayD::from_shape_vec(shape, raw.iter().map(|v| *v as i16).collect()).unwrap()),
            "uint16" => AnyArray::U16(ArrayD::from_shape_vec(shape, raw.iter().map(|v| *v as u16).collect()).unwrap()),
            other => panic!("{name}: stored as {other}"),
        };
        assert_eq!(sha256(&raw), want["raw_sha256_le"].as_str().unwrap(), "{name}");
        line(format!("real dicom   {name:<40} max abs error {worst:.3e}"));
    }
    assert!(found > 0, "no series under {}", root.display());
}
