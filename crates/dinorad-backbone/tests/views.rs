//! Tensors that are views: a PyTorch file keeps the storage and says where in it each tensor lies.

use std::{collections::BTreeMap, path::PathBuf};

use dinorad_backbone::{
    WeightFile,
    candle::{DType, Device},
};
use dinorad_testkit as testkit;

/// Files that `make_views.py` wrote with PyTorch beside its own reading of them.
fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/views")
}

fn open(name: &str) -> WeightFile {
    let path = data().join(name);
    WeightFile::open(&path, std::slice::from_ref(&path)).unwrap_or_else(|e| panic!("{e}"))
}

/// Every tensor of a file as torch read it, under the names that it has in `file`.
fn check(file: &WeightFile, names: impl Fn(&str) -> String) {
    let expected = testkit::tensors(&data().join("expected.safetensors"));
    let expected: BTreeMap<String, _> = expected.into_iter().map(|(name, t)| (names(&name), t)).collect();
    assert!(expected.len() >= 18);
    assert_eq!(file.names().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, want) in expected {
        let got = file.tensor(&name, &Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(got.dims(), want.values.shape(), "{name}");
        let safetensors_name = format!("{:?}", want.dtype).to_lowercase();
        assert_eq!(got.dtype().as_str(), safetensors_name, "{name}");
        let got: Vec<f64> = got.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let want: Vec<f64> = want.values.iter().copied().collect();
        assert_eq!(got, want, "{name}: not bit for bit what torch reads");
    }
}

#[test]
fn views_in_zip_archives() {
    check(&open("flat_zip.pth"), str::to_owned);
    check(&open("flat_zip_protocol4.pth"), str::to_owned);
}

#[test]
fn views_in_files_from_before_version_1_6() {
    check(&open("flat_plain.pth"), str::to_owned);
}

#[test]
fn views_in_dictionaries_within_dictionaries() {
    for name in ["nested_zip.pth", "nested_plain.pth"] {
        let file = open(name);
        let full: Vec<String> = file.names().map(str::to_owned).collect();
        let (backbone, head) = ("model.backbone.", "model.head.");
        assert!(
            [backbone, head].iter().all(|part| full.iter().filter(|n| n.starts_with(part)).count() == 9),
            "{full:?}"
        );
        check(&file, |plain| {
            let found = full.iter().find(|n| [backbone, head].iter().any(|part| n.strip_prefix(part) == Some(plain)));
            found.unwrap_or_else(|| panic!("{name}: no tensor `{plain}`")).clone()
        });
    }
}

/// Both tensors of a pair lie in one storage: neither may be taken for the whole of it.
#[test]
fn tensors_that_share_a_storage_stay_apart() {
    let file = open("flat_zip.pth");
    let values =
        |name: &str| -> Vec<f32> { file.tensor(name, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap() };
    let whole = values("whole");
    assert_eq!(values("late"), whole[7..19]);
    assert_eq!(values("stepped"), (0..24).step_by(2).map(|i| whole[i]).collect::<Vec<_>>());
    let transposed: Vec<f32> =
        (0..6).flat_map(|c| (0..5).map(move |r| (r, c))).map(|(r, c)| whole[20 + 6 * r + c]).collect();
    assert_eq!(values("transposed"), transposed);
    assert_eq!(values("repeated"), [whole[29]; 12]);
    assert_eq!(values("row_of_another"), values("another")[21..28]);
}
