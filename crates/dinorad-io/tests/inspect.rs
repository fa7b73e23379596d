//! `inspect` describes whatever can be read, and keeps personal data to itself unless asked.

use std::path::PathBuf;

use dinorad_io::{Inspection, inspect};

/// Files and folders of the golden cases that must load, by family.
fn sound(family: &str) -> Vec<PathBuf> {
    let folder = dinorad_testkit::golden().join("io").join(family);
    let cases = dinorad_testkit::json(&folder.join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    let out: Vec<_> = cases.iter().filter(|c| c["outcome"] == "ok").collect();
    assert!(!out.is_empty(), "no cases of {family}");
    out.iter().map(|c| folder.join(c["file"].as_str().unwrap())).collect()
}

fn text_and_json(inspection: &Inspection) -> (String, serde_json::Value) {
    (inspection.to_string(), serde_json::to_value(inspection).unwrap())
}

#[test]
fn everything_that_loads_is_described() {
    for family in ["nifti", "dicom", "dicom_series", "image", "npy", "mat"] {
        for path in sound(family) {
            let (text, json) = text_and_json(&inspect(&path, false).unwrap_or_else(|e| panic!("{e}")));
            assert!(text.starts_with("format "), "{text}");
            assert!(json["format"].is_string(), "{}", path.display());
            let described = json["shape"].as_array().is_some_and(|s| !s.is_empty());
            let scalar = path.to_string_lossy().ends_with(".npy") || path.to_string_lossy().ends_with(".npz");
            let several = json["series"].as_array().is_some_and(|s| s.len() > 1);
            assert!(described || json["members"].is_array() || scalar || several, "{text}");
        }
    }
}

#[test]
fn personal_data_are_shown_on_request_only() {
    let mut named = 0;
    for path in sound("dicom") {
        let open = inspect(&path, true).unwrap();
        let (text, json) = text_and_json(&inspect(&path, false).unwrap());
        assert!(json.get("attributes").is_none());
        for key in ["PatientName", "PatientID", "PatientBirthDate", "StudyDate", "InstitutionName", "AccessionNumber"] {
            let Some(found) = open.attributes.iter().find(|a| a.name == key).filter(|a| a.value.len() > 3) else {
                continue;
            };
            named += 1;
            assert!(!text.contains(&found.value), "{key} in {text}");
            assert!(!json.to_string().contains(&found.value), "{key} in {json}");
        }
    }
    assert!(named > 0, "no file with personal data was tried");
}

/// Codecs that are not here, pixels that are damaged, the last of several volumes cut off: told apart from
/// warnings, so that a caller can tell.
#[test]
fn pixels_that_cannot_be_decoded_are_told() {
    let folder = dinorad_testkit::golden().join("io/dicom");
    let mut told = 0;
    for case in dinorad_testkit::json(&folder.join("cases.json"))["cases"].as_array().unwrap() {
        let path = folder.join(case["file"].as_str().unwrap());
        let Ok(seen) = inspect(&path, false) else { continue };
        let readable = dinorad_io::read(&path).is_ok() || seen.verdict.is_some();
        assert_eq!(seen.undecoded.is_none(), readable, "{}: {:?}", case["id"], seen.undecoded);
        let why = seen.undecoded.clone().unwrap_or_default();
        assert!(!seen.warnings.contains(&why));
        if !why.is_empty() {
            assert!(seen.to_string().contains(&format!("undecoded    {why}")), "{seen}");
            assert_eq!(serde_json::to_value(&seen).unwrap()["undecoded"], why);
            told += 1;
        }
    }
    assert!(told > 3, "{told} files with a header alone");

    let scratch = tempfile::tempdir().unwrap();
    let four = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/grids/files/list_last.nrrd");
    assert_eq!(inspect(&four, false).unwrap().undecoded, None);
    let header = "NRRD0004\ntype: uchar\ndimension: 4\nsizes: 2 2 2 3\nspacings: 1 1 1 nan\nencoding: raw\n\n";
    let mut nifti = vec![0u8; 352];
    nifti[..4].copy_from_slice(&348i32.to_le_bytes());
    for (n, d) in [4i16, 2, 2, 2, 3].iter().enumerate() {
        nifti[40 + 2 * n..42 + 2 * n].copy_from_slice(&d.to_le_bytes());
    }
    nifti[70] = 2;
    for n in 0..8 {
        nifti[76 + 4 * n..80 + 4 * n].copy_from_slice(&1f32.to_le_bytes());
    }
    nifti[344..348].copy_from_slice(b"n+1\0");
    for (name, header) in [("a.nrrd", header.as_bytes()), ("a.nii", &nifti)] {
        let path = scratch.path().join(name);
        for (voxels, good) in [(24, true), (23, false)] {
            std::fs::write(&path, [header, &vec![1; voxels]].concat()).unwrap();
            let seen = inspect(&path, false).unwrap();
            assert_eq!(seen.shape, [3, 2, 2, 2], "{name}");
            assert_eq!(seen.undecoded.is_none(), good, "{name}: {:?}", seen.undecoded);
        }
    }
}

#[test]
fn a_folder_that_is_not_one_volume_is_a_verdict() {
    let folder = dinorad_testkit::golden().join("io/dicom_series");
    let cases = dinorad_testkit::json(&folder.join("cases.json"));
    let mut verdicts = 0;
    for case in cases["cases"].as_array().unwrap().iter().filter(|c| c["outcome"] == "error") {
        if let Ok(inspection) = inspect(&folder.join(case["file"].as_str().unwrap()), false) {
            let problems = inspection.verdict.map_or(0, |v| v.problems.len());
            assert!(problems > 0 || inspection.series.len() > 1, "{}", case["id"]);
            verdicts += 1;
        }
    }
    assert!(verdicts > 0);
}
