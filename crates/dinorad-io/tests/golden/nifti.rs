use std::path::Path;

use dinorad_io::{Error, Placement, ReadOptions, Volume, nifti, read_with};
use dinorad_testkit::each;
use ndarray::{ArrayViewD, Axis};
use serde_json::Value;

use crate::common::{Family, bounded, compare, compare_affine, compare_stats, floats, id, sizes};

#[test]
fn nifti_files() {
    let mut family = Family::read("nifti");
    each(family.cases(), id, |case| {
        let path = family.folder.join(case["file"].as_str().unwrap());
        // by content, as a user would
        let loaded = bounded(case, || match read_with(&path, &ReadOptions::default()) {
            Ok(dinorad_io::Loaded::Volume(v)) => Ok(v),
            Ok(other) => panic!("{}: read as {other:?}", case["id"]),
            Err(e) => Err(e),
        });
        let outcome = match loaded {
            Ok(volume) if case["fdata"].is_string() => Ok(check(&family, case, &path, &volume)),
            Ok(volume) => {
                // nothing is recorded for it: whatever was read must be placed and finite in size
                assert!(volume.affine.inverse().is_ok(), "{}", case["id"]);
                Ok(0.0)
            }
            Err(Error::SeveralVolumes { volumes, .. }) => Ok(check_several(&family, case, &path, volumes)),
            Err(e) => Err(message(e, &path)),
        };
        family.judge(case, outcome);
    });
}

fn message(error: Error, path: &Path) -> String {
    let text = error.to_string();
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(text.contains(&*name), "the error does not name {name}: {text}");
    text.replace(&*path.parent().unwrap().to_string_lossy(), "")
}

fn check(family: &Family, case: &Value, path: &Path, volume: &Volume) -> f64 {
    let id = &case["id"];
    let tolerance = &family.json["tolerance"];
    let (rtol, atol) = (tolerance["fdata"]["rtol"].as_f64().unwrap(), tolerance["fdata"]["atol"].as_f64().unwrap());
    let affine_atol = tolerance["affine"]["atol"].as_f64().unwrap();
    let want = family.tensor(&case["fdata"]);
    let got = volume.to_ijk();
    let mut shape = got.shape().to_vec();
    let wanted = want.values.shape();
    while shape.len() > wanted.len() && shape.last() == Some(&1) {
        shape.pop();
    }
    while shape.len() < wanted.len() && wanted[shape.len()] == 1 {
        shape.push(1);
    }
    assert_eq!(shape, wanted, "{id}: shape");
    let mut worst = compare(id, "fdata", got.iter().map(|v| f64::from(*v)), want.values.iter(), atol, rtol);
    let values: Vec<f64> = got.iter().map(|v| f64::from(*v)).collect();
    if case["stats"].is_object() {
        compare_stats(id, &values, &case["stats"], 1e-6);
    }
    if case["affine"].is_null() {
        return worst;
    }
    let header = nifti::read_header(path).unwrap();
    worst = worst.max(match case["affine_source"].as_str().unwrap() {
        "none" => {
            assert_eq!(volume.placement, Placement::Unknown, "{id}");
            compare_affine(id, &volume.affine, &case["affine"], affine_atol)
        }
        "sform" => {
            assert_eq!(volume.placement, Placement::Sform(header.sform_code), "{id}");
            compare_affine(id, &volume.affine, &case["affine"], affine_atol)
        }
        "qform" => {
            assert_eq!(volume.placement, Placement::Qform(header.qform_code), "{id}");
            compare_affine(id, &volume.affine, &case["affine"], affine_atol)
        }
        other => panic!("{id}: affine from {other}"),
    });
    assert_eq!(u64::from(header.version), case["nifti_version"].as_u64().unwrap(), "{id}");
    assert_eq!(if header.big_endian { "big" } else { "little" }, case["endian"].as_str().unwrap(), "{id}");
    assert_eq!(header.datatype.numpy_name(), case["dtype"].as_str().unwrap(), "{id}");
    assert_eq!(i64::from(header.sform_code), case["sform_code"].as_i64().unwrap(), "{id}");
    assert_eq!(i64::from(header.qform_code), case["qform_code"].as_i64().unwrap(), "{id}");
    assert_eq!(header.dims, sizes(&case["shape"]).iter().map(|d| *d as u64).collect::<Vec<_>>(), "{id}: shape");
    let zooms = floats(&case["zooms"]);
    compare(id, "zooms", header.pixdim[1..].iter().take(zooms.len()).copied(), zooms.iter(), 1e-6, 1e-6);
    let codes: String = volume.axis_codes().iter().collect();
    assert_eq!(codes, case["axcodes"].as_str().unwrap(), "{id}");
    let canonical = &case["canonical"];
    if !canonical.is_null() {
        let turned = volume.to_canonical();
        let want = family.tensor(&canonical["fdata"]);
        let got = turned.to_ijk();
        let voxels = got.iter().map(|v| f64::from(*v));
        worst = worst.max(compare(id, "canonical", voxels, want.values.iter(), atol, rtol));
        worst = worst.max(compare_affine(id, &turned.affine, &canonical["affine"], affine_atol));
        let codes: String = turned.axis_codes().iter().collect();
        assert_eq!(codes, canonical["axcodes"].as_str().unwrap(), "{id}: canonical");
        let mut back = turned.as_stored();
        compare_affine(id, &back.affine, &case["affine"], affine_atol);
        back.affine = volume.affine;
        // NaN is not equal to itself
        let same = back.data.iter().zip(&volume.data).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        assert!(same && back.data.dim() == volume.data.dim(), "{id}: there and back");
    }
    worst
}

/// A file of several volumes must be refused as one, and each of its volumes must be there by
/// number: those of the fourth axis first, then those of the fifth and so on, as the file has them.
fn check_several(family: &Family, case: &Value, path: &Path, volumes: usize) -> f64 {
    let id = &case["id"];
    let shape = sizes(&case["shape"]);
    assert_eq!(volumes, shape[3..].iter().product::<usize>(), "{id}");
    let all = case["fdata"].is_string().then(|| &family.tensor(&case["fdata"]).values);
    let first = case["first_volume"].is_string().then(|| &family.tensor(&case["first_volume"]).values);
    let mut worst = 0f64;
    for n in 0..volumes {
        let volume = nifti::read(path, &ReadOptions::default().with_volume(n)).unwrap();
        let got = volume.to_ijk();
        assert_eq!(got.shape(), &shape[..3], "{id}");
        let mut check = |what: &str, want: ArrayViewD<'_, f64>| {
            assert_eq!(got.shape(), want.shape(), "{id}");
            worst = worst.max(compare(id, what, got.iter().map(|v| f64::from(*v)), want.iter(), 1e-6, 1e-6));
        };
        if let Some(all) = all {
            let (mut want, mut rest) = (all.view(), n);
            for length in &shape[3..] {
                want = want.index_axis_move(Axis(3), rest % length);
                rest /= length;
            }
            check("volume", want);
        }
        if let Some(first) = first.filter(|_| n == 0) {
            check("first volume", first.view());
        }
        if case["affine"].is_array() {
            compare_affine(id, &volume.affine, &case["affine"], 1e-4);
        }
    }
    let beyond = nifti::read(path, &ReadOptions::default().with_volume(volumes)).unwrap_err();
    assert!(matches!(beyond, Error::Missing { .. }), "{beyond}");
    worst
}
