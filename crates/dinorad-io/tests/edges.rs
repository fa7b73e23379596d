//! Headers and pixels off the beaten track, against nibabel and pydicom, or against what went in
//! where those two are wrong or silent. `tests/data/edges/make_edges.py` makes the files and says
//! of each case where its values come from.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use dinorad_core::Affine;
use dinorad_io::{Error, Interpolation, Limits, ReadOptions, dicom, dicom::DicomFile, nifti, npy};
use ndarray::{ArrayD, ArrayViewD, Axis};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/edges")
}

fn expected(key: &str) -> ArrayD<f64> {
    npy::read_npz_array(&folder().join("expected.npz"), key, &ReadOptions::default()).unwrap().to_f64()
}

/// The largest difference, or what is different altogether.
fn worst(got: ArrayViewD<'_, f32>, key: &str) -> Result<f64, String> {
    let want = expected(key);
    if got.shape() != want.shape() {
        return Err(format!("{key}: shape {:?}, expected {:?}", got.shape(), want.shape()));
    }
    let difference = |(g, w): (&f32, &f64)| {
        // as close as f32 can be
        let same = *g == *w as f32 || (g.is_nan() && w.is_nan());
        if same { 0.0 } else { (f64::from(*g) - w).abs() }
    };
    Ok(got.iter().zip(&want).map(difference).fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) }))
}

fn near(got: ArrayViewD<'_, f32>, key: &str, tolerance: f64) -> Result<(), String> {
    let off = worst(got, key)?;
    if off <= tolerance { Ok(()) } else { Err(format!("{key}: off by {off}")) }
}

fn same_affine(got: &Affine, want: &Value, what: &str) -> Result<(), String> {
    for (r, row) in got.rows().iter().enumerate() {
        for (c, v) in row.iter().enumerate() {
            let want = want[r][c].as_f64().unwrap();
            if (v - want).abs() > 1e-4 {
                return Err(format!("{what}[{r}][{c}] is {v}, expected {want}"));
            }
        }
    }
    Ok(())
}

fn tolerance(case: &Value) -> f64 {
    case["tolerance"].as_f64().unwrap_or(1e-6)
}

fn nifti_case(path: &Path, case: &Value) -> Result<Option<Error>, String> {
    let mut options = ReadOptions::default();
    if let Some(n) = case["volume"].as_u64() {
        options = options.with_volume(n as usize);
    }
    let volume = match nifti::read(path, &options) {
        Ok(volume) => volume,
        Err(e) => return Ok(Some(e)),
    };
    let key = case["key"].as_str().unwrap();
    near(volume.to_ijk().into_dyn().view(), key, tolerance(case))?;
    same_affine(&volume.affine, &case["affine"], "affine")?;
    let codes: String = volume.axis_codes().iter().collect();
    if codes != case["axcodes"].as_str().unwrap() {
        return Err(format!("axes {codes}, expected {}", case["axcodes"]));
    }
    let turned = volume.to_canonical();
    near(turned.to_ijk().into_dyn().view(), &format!("{key}.canonical"), tolerance(case))?;
    same_affine(&turned.affine, &case["canonical"], "canonical affine")?;
    let Some(text) = case["warning"].as_str() else { return Ok(None) };
    // what is known of the file's unit must not get lost on the way to another file
    let finer = volume.resample([1.0; 3], Interpolation::Nearest, &Limits::default()).unwrap();
    let written = tempfile::tempdir().unwrap();
    for (n, volume) in [volume, turned, finer].iter().enumerate() {
        let copy = written.path().join(format!("{n}.nii"));
        nifti::write_volume(&copy, volume).unwrap();
        for warned in [volume.warnings(), nifti::read(&copy, &options).unwrap().warnings()] {
            if !warned.iter().any(|w| w.contains(text)) {
                return Err(format!("no word of `{text}` in {warned:?}"));
            }
        }
    }
    Ok(None)
}

fn gray_case(path: &Path, case: &Value) -> Result<Option<Error>, String> {
    let file = match DicomFile::open(path, &ReadOptions::default()) {
        Ok(file) => file,
        Err(e) => return Ok(Some(e)),
    };
    let key = case["key"].as_str().unwrap();
    let mut frames = Vec::new();
    for n in 0..file.header().frames as usize {
        match file.modality_frame(n) {
            Ok(frame) => frames.push(frame.into_dyn()),
            Err(e) => return Ok(Some(e)),
        }
    }
    let views: Vec<_> = frames.iter().map(|f| f.view()).collect();
    let all = if let [one] = views.as_slice() { one.to_owned() } else { ndarray::stack(Axis(0), &views).unwrap() };
    near(all.view(), key, tolerance(case))?;
    let windows = file.header().frame(0).windows;
    let count = case["voi"].as_u64().unwrap_or(0) as usize;
    if windows.len() != count {
        return Err(format!("{} windows and tables, expected {count}", windows.len()));
    }
    for (n, window) in windows.iter().enumerate() {
        near(all.mapv(|v| window.apply(v)).view(), &format!("{key}.voi{n}"), 1e-5)?;
        if let Some(name) = case["names"][n].as_str()
            && window.name().map(|n| n.reveal()) != Some(name)
        {
            return Err(format!("window {n} is called {:?}", window.name()));
        }
    }
    Ok(None)
}

fn colour_case(path: &Path, case: &Value) -> Result<Option<Error>, String> {
    let file = match DicomFile::open(path, &ReadOptions::default()) {
        Ok(file) => file,
        Err(e) => return Ok(Some(e)),
    };
    let mut frames = Vec::new();
    for n in 0..file.header().frames as usize {
        match file.rgb_frame(n) {
            // (colour, row, column) to (row, column, colour)
            Ok(frame) => frames.push(frame.permuted_axes([1, 2, 0]).into_dyn()),
            Err(e) => return Ok(Some(e)),
        }
    }
    let views: Vec<_> = frames.iter().map(|f| f.view()).collect();
    let all = if let [one] = views.as_slice() { one.to_owned() } else { ndarray::stack(Axis(0), &views).unwrap() };
    near(all.view(), case["key"].as_str().unwrap(), tolerance(case))?;
    Ok(None)
}

fn volume_case(path: &Path, case: &Value) -> Result<Option<Error>, String> {
    let volume = if path.is_dir() {
        dicom::read_series(path, &ReadOptions::default()).map(|(v, r)| (v, r.warnings))
    } else {
        dicom::read_file(path, &ReadOptions::default()).map(|l| match l {
            dinorad_io::Loaded::Volume(v) => (v, Vec::new()),
            other => panic!("{}: {other:?}", path.display()),
        })
    };
    let (volume, warnings) = match volume {
        Ok(volume) => volume,
        Err(e) => return Ok(Some(e)),
    };
    near(volume.data.view().into_dyn(), case["key"].as_str().unwrap(), tolerance(case))?;
    same_affine(&volume.affine, &case["affine"], "affine")?;
    match case["warning"].as_str() {
        Some(text) if !warnings.iter().any(|w| w.contains(text)) => Err(format!("no word of `{text}` in {warnings:?}")),
        _ => Ok(None),
    }
}

#[test]
#[allow(clippy::explicit_write)] // print macros are captured
fn values_and_places_off_the_beaten_track() {
    let cases = dinorad_testkit::json(&folder().join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for case in cases {
        let path = folder().join(case["file"].as_str().unwrap());
        let outcome = match case["kind"].as_str().unwrap() {
            "nifti" => nifti_case(&path, case),
            "gray" => gray_case(&path, case),
            "rgb" => colour_case(&path, case),
            "volume" => volume_case(&path, case),
            other => panic!("no such kind: {other}"),
        };
        let verdict = match (outcome, case["error"].as_str()) {
            (Ok(None), None) => Ok(()),
            (Ok(Some(e)), Some(text)) if e.to_string().contains(text) => {
                refused += 1;
                Ok(())
            }
            (Ok(Some(e)), text) => Err(format!("refused with `{e}`, expected {text:?}")),
            (Ok(None), Some(text)) => Err(format!("read, expected an error with `{text}`")),
            (Err(what), _) => Err(what),
        };
        if let Err(what) = verdict {
            wrong.push(format!("{}: {what}", case["file"].as_str().unwrap()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    writeln!(std::io::stdout(), "edges        {} files, {refused} of them refused by name", cases.len()).unwrap();
}
