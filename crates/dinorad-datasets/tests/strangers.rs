//! What lies beside the files that are meant: one stranger changes nothing but itself.

#[path = "../../dinorad-io/tests/support/mod.rs"]
mod support;

use std::{fs, path::Path};

use dinorad_core::Split;
use dinorad_datasets::{
    Bad, DiscoverOptions, Error, InputKind, OpenOptions, Pixels, Unit, discover, discover_inputs, discover_with, open,
    open_unlabelled,
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

/// A NRRD file of 4 x 3 x 2 voxels.
fn nrrd(path: &Path, value: impl Fn(u8) -> u8) {
    let head = "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n\
                space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\nencoding: raw\n\n";
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [head.as_bytes(), &(0..24).map(value).collect::<Vec<u8>>()].concat()).unwrap();
}

const OF_NNU_NET_2: &str =
    r#""channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "organ": 1}, "numTraining": 2"#;

#[test]
fn nnu_net_2_with_files_of_another_ending() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (part, name) in [("Tr", "a_0000_b"), ("Tr", "c"), ("Ts", "d_0000")] {
        for channel in 0..2 {
            nrrd(&at(&format!("images{part}/{name}_{channel:04}.nrrd")), |n| n + 100 * channel as u8);
        }
        nrrd(&at(&format!("labels{part}/{name}.nrrd")), |n| n % 2);
    }
    fs::write(at("dataset.json"), format!(r#"{{{OF_NNU_NET_2}, "file_ending": ".nrrd"}}"#)).unwrap();
    for channel in [0, 1] {
        for unit in [Unit::Volumes, Unit::Slices] {
            let options =
                OpenOptions::default().with_divide(None).with_channel(channel).with_bad(Bad::Stop).with_unit(unit);
            let set = open("nnunet", dir.path(), Split::Train, &options).unwrap();
            assert_eq!(set.len(), if unit == Unit::Volumes { 2 } else { 4 });
            let id = if unit == Unit::Volumes { "a_0000_b" } else { "a_0000_b_000" };
            assert_eq!(set.sample_id(0), id);
            let source = set.source(0).unwrap();
            assert!(source.ends_with(format!("a_0000_b_{channel:04}.nrrd")), "{}", source.display());
            set.sample(0).unwrap();
        }
        let test = open_unlabelled(dir.path(), &OpenOptions::default().with_channel(channel)).unwrap();
        let source = test.source(0).unwrap();
        assert!(source.ends_with(format!("d_0000_{channel:04}.nrrd")), "{}", source.display());
        let Pixels::Volume(volume) = test.sample(0).unwrap().pixels else { panic!("no volume") };
        assert!(volume.data.iter().all(|v| (*v >= 100.0) == (channel == 1)));
    }
}

#[test]
fn nnu_net_2_with_a_table_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for case in ["one", "two"] {
        nrrd(&at(&format!("scans/{case}/t1.nrrd")), |n| n);
        nrrd(&at(&format!("scans/{case}/t2.nrrd")), |n| n + 100);
        nrrd(&at(&format!("truth/{case}.nrrd")), |n| n % 2);
    }
    let case = |name: &str| {
        format!(
            r#""{name}": {{"images": ["scans/{name}/t1.nrrd", "scans/{name}/t2.nrrd"], "label": "truth/{name}.nrrd"}}"#
        )
    };
    let write = |cases: &str| {
        let text = format!(r#"{{{OF_NNU_NET_2}, "file_ending": ".nrrd", "dataset": {{{cases}}}}}"#);
        fs::write(at("dataset.json"), text).unwrap();
    };
    write(&[case("one"), case("two")].join(", "));
    for (channel, file) in [(0, "t1.nrrd"), (1, "t2.nrrd")] {
        let options = OpenOptions::default().with_divide(None).with_channel(channel).with_bad(Bad::Stop);
        let set = open("nnunet", dir.path(), Split::Train, &options.with_unit(Unit::Volumes)).unwrap();
        assert_eq!((set.len(), set.sample_id(1)), (2, "two".to_owned()));
        assert!(set.source(1).unwrap().ends_with(Path::new("two").join(file)));
        set.sample(1).unwrap();
    }
    let told = |cases: &str| {
        write(cases);
        let options = OpenOptions::default().with_divide(None).with_bad(Bad::Stop);
        open("nnunet", dir.path(), Split::Train, &options).err().unwrap().to_string()
    };
    assert!(told(r#""x": {"label": "truth/one.nrrd"}"#).contains("no list of `images`"));
    assert!(told(r#""x": {"images": ["scans/one/t1.nrrd"]}"#).contains("no label"));
    assert!(told(r#""x": {"images": ["../a.nrrd"], "label": "truth/one.nrrd"}"#).contains("leaves the folder"));
}

#[test]
fn regions_of_nnu_net_2_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"channel_names": {"0": "T1"}, "labels": {"background": 0, "whole": [1, 2], "core": 2}, "file_ending": ".nii.gz"}"#;
    fs::write(dir.path().join("dataset.json"), json).unwrap();
    let error = open("nnunet", dir.path(), Split::Train, &OpenOptions::default()).err().unwrap().to_string();
    assert!(error.contains("`whole` is a list of ids"), "{error}");
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

/// Slices of a CT or MR series, each (file, height in mm, echo).
fn write_series(folder: &Path, series: &str, slices: &[(&str, f64, u32)]) {
    let us = |v: u16| v.to_le_bytes().to_vec();
    for (n, (name, height, echo)) in slices.iter().enumerate() {
        let text = |t: String| t.into_bytes();
        let pixels: Vec<u8> = (0..64u16).flat_map(|v| (v * 3 + 100 * n as u16).to_le_bytes()).collect();
        let elements: Vec<(u32, &[u8; 2], Vec<u8>)> = vec![
            (0x0008_0016, b"UI", text("1.2.840.10008.5.1.4.1.1.4".into())),
            (0x0008_0018, b"UI", text(format!("1.9.{series}.{n}"))),
            (0x0008_0060, b"CS", text("MR".into())),
            (0x0018_0050, b"DS", text("2".into())),
            (0x0018_0086, b"IS", text(echo.to_string())),
            (0x0020_000E, b"UI", text(format!("1.2.{series}"))),
            (0x0020_0013, b"IS", text(n.to_string())),
            (0x0020_0032, b"DS", text(format!("0\\0\\{height}"))),
            (0x0020_0037, b"DS", text("1\\0\\0\\0\\1\\0".into())),
            (0x0028_0002, b"US", us(1)),
            (0x0028_0004, b"CS", text("MONOCHROME2".into())),
            (0x0028_0010, b"US", us(8)),
            (0x0028_0011, b"US", us(8)),
            (0x0028_0030, b"DS", text("1\\1".into())),
            (0x0028_0100, b"US", us(16)),
            (0x0028_0101, b"US", us(16)),
            (0x0028_0102, b"US", us(15)),
            (0x0028_0103, b"US", us(0)),
            (0x7FE0_0010, b"OW", pixels),
        ];
        let bytes: Vec<u8> = elements.iter().flat_map(|(tag, vr, v)| support::element(*tag, vr, v)).collect();
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, support::file("1.2.840.10008.1.2.1", &bytes)).unwrap();
    }
}

#[test]
fn one_echo_of_several() {
    let dir = tempfile::tempdir().unwrap();
    let two: Vec<(String, f64, u32)> =
        (0..8).map(|n| (format!("both/{n}.dcm"), 2.0 * f64::from(n / 2), n % 2 + 1)).collect();
    let two: Vec<(&str, f64, u32)> = two.iter().map(|(name, h, e)| (name.as_str(), *h, *e)).collect();
    write_series(dir.path(), "1", &two);
    write_series(dir.path(), "2", &[("plain/0.dcm", 0.0, 1), ("plain/1.dcm", 2.0, 1), ("plain/2.dcm", 4.0, 1)]);
    let found = |options: DiscoverOptions| {
        let found = discover_with(&[dir.path().to_owned()], &options);
        let ids: Vec<String> = found.inputs.iter().map(|input| input.id.clone()).collect();
        (ids, found.notices(true).join("; "))
    };
    let (ids, notices) = found(DiscoverOptions::default());
    assert_eq!(ids, ["both/echo-1", "both/echo-2", "plain"]);
    assert_eq!(notices, "1 series hold several stacks, 2 in all: each is a case (such as both/echo-1)");
    // a series without echoes stays
    let (ids, notices) = found(DiscoverOptions::default().with_echo(2));
    assert_eq!(ids, ["both/echo-2", "plain"]);
    assert!(notices.contains("1 stack of another echo was passed over"), "{notices}");
    // undivided it is one case, which says why it cannot be read
    let whole = discover_with(&[dir.path().to_owned()], &DiscoverOptions::default().with_divide_series(false));
    assert_eq!(whole.inputs.len(), 2);
    assert!(whole.inputs[0].load(&ReadOptions::default()).is_err());
    assert_eq!(found(DiscoverOptions::default().with_divide_series(false)).1, "");
}

#[test]
fn a_series_is_read_without_the_others_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    for series in 0..6 {
        let names: Vec<String> = (0..3).map(|n| format!("{series}_{n}.dcm")).collect();
        let slices: Vec<(&str, f64, u32)> =
            names.iter().enumerate().map(|(n, name)| (name.as_str(), n as f64, 1)).collect();
        write_series(dir.path(), &series.to_string(), &slices);
    }
    let found = discover(&[dir.path().to_owned()]);
    assert_eq!(found.len(), 6);
    // every file of every other series gone: nothing but its own is looked at
    for (n, input) in found.iter().enumerate() {
        let InputKind::Series { files, .. } = &input.kind else { panic!("{input:?}") };
        for other in found.iter().skip(n + 1) {
            let InputKind::Series { files, .. } = &other.kind else { panic!("{other:?}") };
            for file in files {
                fs::rename(file, file.with_extension("away")).unwrap();
            }
        }
        assert!(matches!(input.load(&ReadOptions::default()), Ok(Pixels::Volume(v)) if v.data.dim() == (3, 8, 8)));
        input.fingerprint().unwrap();
        for file in files {
            fs::remove_file(file).unwrap();
        }
        for other in found.iter().skip(n + 1) {
            let InputKind::Series { files, .. } = &other.kind else { panic!("{other:?}") };
            for file in files {
                fs::rename(file.with_extension("away"), file).unwrap();
            }
        }
    }
}
