//! What lies beside the files that are meant: one stranger changes nothing but itself.

use std::{fs, path::Path};

use dinorad_core::Split;
use dinorad_datasets::{
    Bad, DiscoverOptions, Error, InputKind, OpenOptions, Pixels, discover, discover_inputs, discover_with, open,
};
use dinorad_io::ReadOptions;

fn png() -> Vec<u8> {
    fs::read(dinorad_testkit::golden().join("datasets/csv_manifest/images/im_211_0.png")).unwrap()
}

/// Pictures at these paths.
fn pictures<'a>(paths: impl IntoIterator<Item = &'a str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in paths {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png()).unwrap();
    }
    dir
}

const SPLITS: [&str; 6] =
    ["train/ill/0.png", "train/well/1.png", "val/ill/2.png", "val/well/3.png", "test/ill/4.png", "test/well/5.png"];

#[test]
fn a_folder_beside_splits_is_no_class() {
    for stranger in ["notes/readme.png", "masks/ill/0.png", "old/deep/er/0.png"] {
        let dir = pictures(SPLITS.into_iter().chain([stranger]));
        let set = open("folder", dir.path(), Split::Train, &OpenOptions::default()).unwrap();
        assert_eq!((set.task().class_names.clone(), set.len()), (vec!["ill".to_owned(), "well".to_owned()], 2));
        let name = stranger.split('/').next().unwrap();
        assert!(set.warnings().iter().any(|w| w.contains(name) && w.contains("no split")), "{:?}", set.warnings());
    }
    let plain = pictures(SPLITS);
    assert!(open("folder", plain.path(), Split::Val, &OpenOptions::default()).unwrap().warnings().is_empty());
}

#[test]
fn a_class_may_be_called_like_a_split() {
    let dir = pictures(["test/0.png", "control/1.png", "test/2.png", "control/3.png"]);
    let set = open("folder", dir.path(), Split::Train, &OpenOptions::default().with_divide(None)).unwrap();
    assert_eq!(set.task().class_names, ["control", "test"]);
}

#[test]
fn lists_of_nnu_net_1_find_the_files_of_channels() {
    let dir = tempfile::tempdir().unwrap();
    let from = dinorad_testkit::data().join("msd-hippocampus");
    let listed: serde_json::Value = dinorad_testkit::json(&from.join("dataset.json"));
    let cases: Vec<serde_json::Value> = listed["training"].as_array().unwrap().iter().take(5).cloned().collect();
    for sub in ["imagesTr", "labelsTr"] {
        fs::create_dir_all(dir.path().join(sub)).unwrap();
    }
    for case in &cases {
        let (image, label) = (case["image"].as_str().unwrap(), case["label"].as_str().unwrap());
        for channel in ["_0000", "_0001"] {
            let to = image.replace(".nii.gz", &format!("{channel}.nii.gz"));
            fs::copy(from.join(image), dir.path().join(to)).unwrap();
        }
        fs::copy(from.join(label), dir.path().join(label)).unwrap();
    }
    let json = serde_json::json!({
        "name": "own", "modality": {"0": "T1", "1": "T2"}, "labels": listed["labels"], "training": cases,
        "numTraining": 5, "test": [],
    });
    fs::write(dir.path().join("dataset.json"), json.to_string()).unwrap();
    for channel in [0, 1] {
        let options = OpenOptions::default().with_divide(None).with_channel(channel).with_bad(Bad::Stop);
        let set = open("nnunet", dir.path(), Split::Train, &options).unwrap();
        assert!(set.len() >= 5);
        let source = set.source(0).unwrap();
        assert!(source.to_string_lossy().ends_with(&format!("_000{channel}.nii.gz")), "{}", source.display());
        set.sample(0).unwrap();
    }
}

fn npy(path: &Path, shape: &str, values: usize) {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
    let padded = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded.len() as u16).to_le_bytes());
    bytes.extend(padded.as_bytes());
    bytes.extend((0..values).map(|n| (n * 7 % 251) as u8));
    fs::write(path, bytes).unwrap();
}

#[test]
fn axes_of_arrays() {
    let dir = tempfile::tempdir().unwrap();
    let load = |shape: &str, values: usize| {
        let path = dir.path().join("a.npy");
        npy(&path, shape, values);
        discover(&[path]).remove(0).load(&ReadOptions::default())
    };
    let image = |pixels: Pixels| if let Pixels::Image(i) = pixels { i.data } else { panic!("{pixels:?}") };
    let plain = image(load("(40, 30)", 1200).unwrap());
    assert_eq!(plain.dim(), (1, 40, 30));
    assert_eq!(image(load("(40, 30, 1)", 1200).unwrap()), plain);
    assert_eq!(image(load("(40, 30, 3)", 3600).unwrap()).dim(), (3, 40, 30));
    assert!(matches!(load("(5, 40, 30)", 6000).unwrap(), Pixels::Volume(v) if v.data.dim() == (5, 40, 30)));
    for shape in ["(64, 64, 5)", "(64, 48, 4)", "(64, 48, 2)"] {
        let n: usize = shape.trim_matches(['(', ')']).split(", ").map(|d| d.parse::<usize>().unwrap()).product();
        let error = load(shape, n).unwrap_err();
        assert!(matches!(error, Error::Layout { .. }) && error.to_string().contains("first axis"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn links_and_locked_folders_cost_themselves() {
    let dir = pictures(["a.png", "b.png", "sub/c.png"]);
    std::os::unix::fs::symlink("../objects/not-fetched.png", dir.path().join("d.png")).unwrap();
    std::os::unix::fs::symlink(".", dir.path().join("round")).unwrap();
    let inputs = discover(&[dir.path().to_owned()]);
    let good: Vec<&str> = inputs.iter().filter(|i| i.bad().is_none()).map(|i| i.id.as_str()).collect();
    assert_eq!(good, ["a.png", "b.png", "sub/c.png"]);
    assert!(inputs.iter().any(|i| i.id == "d.png" && i.bad().is_some()), "{inputs:?}");
}

#[test]
fn series_of_a_disc() {
    let from = dinorad_testkit::data().join("dicom");
    let dir = tempfile::tempdir().unwrap();
    // the files of every series dealt out to two folders
    let mut dealt = 0;
    for input in discover(&[from]) {
        let InputKind::Series { files, .. } = &input.kind else { continue };
        dealt += 1;
        for (n, file) in files.iter().enumerate() {
            let folder = dir.path().join(["A", "B"][n % 2]);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(file, folder.join(format!("{dealt}-{n:04}.dcm"))).unwrap();
        }
    }
    assert!(dealt >= 2, "{dealt}");
    let found = discover_inputs(&[dir.path().to_owned()]);
    let sizes: Vec<usize> = found
        .inputs
        .iter()
        .map(|i| if let InputKind::Series { files, .. } = &i.kind { files.len() } else { 0 })
        .collect();
    assert_eq!((sizes.len(), found.notices(true)), (dealt, Vec::new()), "{:?}", found.inputs);
    for input in &found.inputs {
        assert!(matches!(input.load(&ReadOptions::default()).unwrap(), Pixels::Volume(_)), "{}", input.id);
    }
    // one slice cut short: its series is refused, and named; the others stay
    let InputKind::Series { files, .. } = &found.inputs[0].kind else { panic!() };
    let bytes = fs::read(&files[1]).unwrap();
    fs::write(&files[1], &bytes[..bytes.len() - 300]).unwrap();
    let after = discover_with(&[dir.path().to_owned()], &DiscoverOptions::default());
    let bad: Vec<_> = after.inputs.iter().filter_map(|i| i.bad()).collect();
    assert_eq!((bad.len(), after.inputs.len()), (1, dealt));
    assert!(bad[0].contains(files[1].file_name().unwrap().to_str().unwrap()), "{bad:?}");
}
