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
