//! Layouts, discovery and doctor on the example data and on small trees made here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use dinorad_core::{Orientation, Split, Target, TaskKind};
use dinorad_datasets::{
    DatasetSpec, Error, InputKind, LoadOptions, Loader, OpenOptions, Pixels, Severity, Unit, discover, discover_inputs,
    doctor, open,
};
use dinorad_io::ReadOptions;
use dinorad_testkit::{data, folders, golden, json};

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

fn fixture(path: &str) -> PathBuf {
    golden().join("datasets").join(path)
}

/// A folder with the files of a list: `(name, content)`.
fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn png() -> Vec<u8> {
    fs::read(fixture("csv_manifest/images/im_211_0.png")).unwrap()
}

#[test]
fn medmnist_by_name_and_by_the_text_of_the_study() {
    let folder = data().join("medmnist");
    let set = open("PneumoniaMNIST", &folder, Split::Test, &OpenOptions::default()).unwrap();
    assert_eq!((set.len(), set.id(), set.task().kind), (624, "pneumoniamnist", TaskKind::Binary));
    assert_eq!(set.task().class_names, ["normal", "pneumonia"]);
    let positive = (0..set.len()).filter(|i| set.target(*i).unwrap() == Target::Class(1)).count();
    assert_eq!(positive, 390);
    let adrenal: DatasetSpec = format!("adrenalmnist3d_64:split=VAL:root={}", folder.display()).parse().unwrap();
    let set = adrenal.open(&OpenOptions::default()).unwrap();
    assert!(set.task().is_3d && set.len() == 98);
    let sample = set.sample(97).unwrap();
    assert_eq!(sample.pixels.shape(), [64, 1, 64, 64]);
    assert!(sample.pixels.values().all(|v| v == 0.0 || v == 255.0));
    assert!(matches!(set.sample(98), Err(Error::Index { index: 98, len: 98, .. })));
    // several files: one has to be named
    let text = open("medmnist", &folder, Split::Val, &OpenOptions::default()).err().unwrap().to_string();
    assert!(text.contains("pneumoniamnist") && text.contains("adrenalmnist3d_64"), "{text}");
}

#[test]
fn a_loader_over_a_data_set_is_the_same_at_any_number_of_threads() {
    let root = data().join("msd-hippocampus");
    let hash = |threads: usize| {
        let set = open("msd", &root, Split::Val, &OpenOptions::default()).unwrap();
        let options = LoadOptions { threads, ahead: threads + 1, ..Default::default() };
        let mut hasher = blake3::Hasher::new();
        let n = set.len();
        for item in Loader::new(n, &options, move |i| set.sample(i)) {
            let (i, sample) = item.unwrap();
            hasher.update(format!("{i} {} {:?}", sample.id, sample.target).as_bytes());
            sample.pixels.values().for_each(|v| {
                hasher.update(&v.to_le_bytes());
            });
        }
        hasher.finalize()
    };
    assert_eq!(hash(1), hash(4));
}

#[test]
fn orientation_turns_image_and_mask_together() {
    let root = data().join("msd-hippocampus");
    let canonical = OpenOptions::default().with_unit(Unit::Volumes);
    let stored = canonical.clone().with_orientation(Orientation::AsStored);
    let (a, b) = (
        open("msd", &root, Split::Test, &canonical).unwrap().sample(0).unwrap(),
        open("msd", &root, Split::Test, &stored).unwrap().sample(0).unwrap(),
    );
    // these volumes are stored RAS: both are the same, and a slice is the other one transposed
    assert_eq!(a.pixels.values().collect::<Vec<_>>(), b.pixels.values().collect::<Vec<_>>());
    let slice = |o: &OpenOptions| {
        let set = open("msd", &root, Split::Test, &o.clone().with_unit(Unit::Slices)).unwrap();
        let i = (0..set.len()).find(|i| matches!(set.target(*i), Ok(Target::Mask(m)) if m.iter().any(|v| *v > 0)));
        set.sample(i.unwrap()).unwrap()
    };
    let (a, b) = (slice(&canonical), slice(&stored));
    assert_eq!(a.id, b.id);
    let (Pixels::Image(x), Pixels::Image(y)) = (&a.pixels, &b.pixels) else { panic!("slices are images") };
    assert_eq!(x.data, y.data.view().permuted_axes([0, 2, 1]));
    let (Target::Mask(m), Target::Mask(n)) = (&a.target, &b.target) else { panic!("masks") };
    assert_eq!(*m, n.view().permuted_axes([0, 2, 1]));
    assert_eq!(a.patient, b.patient);
    // same file, other pixels: the content is the same, the preparation is not
    let sets = [&canonical, &stored].map(|o| open("msd", &root, Split::Test, o).unwrap());
    assert_eq!(sets[0].fingerprint(0).unwrap(), sets[1].fingerprint(0).unwrap());
    assert_ne!(sets[0].preparation(), sets[1].preparation());
}

#[test]
fn class_folders_with_and_without_splits() {
    let bytes = png();
    let files: Vec<(String, &[u8])> = (0..20)
        .flat_map(|i| ["cat 2", "cat 10"].map(|c| (format!("{c}/{i}.png"), bytes.as_slice())))
        .chain([("cat 2/.DS_Store".to_owned(), &b"junk"[..])])
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), *b)).collect();
    let dir = tree(&files);
    let sets = SPLITS.map(|s| open("folder", dir.path(), s, &OpenOptions::default()).unwrap());
    assert_eq!(sets[0].task().class_names, ["cat 2", "cat 10"]);
    assert_eq!(sets.each_ref().map(|s| s.len()), [24, 8, 8]);
    for set in &sets {
        let ones = (0..set.len()).filter(|i| set.target(*i).unwrap() == Target::Class(1)).count();
        assert_eq!(ones * 2, set.len(), "classes keep their shares");
    }
    let whole = open("folder", dir.path(), Split::Train, &OpenOptions::default().with_divide(None)).unwrap();
    assert_eq!((whole.len(), whole.sample_id(2)), (40, "cat 2/2.png".to_owned()));
    let split = tree(&[("train/a/1.png", &bytes), ("train/b/1.png", &bytes), ("test/a/2.png", &bytes)]);
    assert_eq!(open("folder", split.path(), Split::Train, &OpenOptions::default()).unwrap().len(), 2);
    assert_eq!(open("folder", split.path(), Split::Test, &OpenOptions::default()).unwrap().len(), 1);
    let none = open("folder", split.path(), Split::Val, &OpenOptions::default());
    assert!(matches!(none.err(), Some(Error::NoSplit { .. })));
}

#[test]
fn patients_in_two_splits_are_refused_and_never_named() {
    let bytes = png();
    let table = b"path,label,split,patient\na.png,x,train,MRN-0001234\nb.png,y,test,MRN-0001234\nc.png,y,val,p2\n";
    let dir = tree(&[("a.png", &bytes), ("b.png", &bytes), ("c.png", &bytes), ("list.csv", table)]);
    let e = open("csv", dir.path(), Split::Train, &OpenOptions::default()).err().unwrap();
    assert!(matches!(&e, Error::Overlap { patients, .. } if patients.len() == 1), "{e}");
    assert!(!format!("{e:?} {e}").contains("0001234"));
    let set = open("csv", dir.path(), Split::Train, &OpenOptions::paper()).unwrap();
    let hash = set.sample(0).unwrap().patient.unwrap();
    assert_eq!(hash.len(), 16);
    let other = open("csv", dir.path(), Split::Train, &OpenOptions::paper().with_salt("mine")).unwrap();
    assert_ne!(Some(hash), other.patient(0));
    let report = doctor("csv", dir.path()).unwrap();
    assert!(report.findings.iter().any(|f| f.check == "patient-overlap" && f.severity == Severity::Error));
}

#[test]
fn binary_masks_of_255_are_foreground() {
    let folder = fixture("shenzhen/tree/masks");
    let name = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let table = format!("path,mask\n{name},{name}\n");
    let mask = fs::read(folder.join(&name)).unwrap();
    let dir = tree(&[(name.as_str(), &mask), ("list.csv", table.as_bytes())]);
    let set = open("csv", dir.path(), Split::Train, &OpenOptions::default().with_divide(None)).unwrap();
    assert_eq!(set.task().class_names, ["background", "foreground"]);
    let Target::Mask(mask) = set.target(0).unwrap() else { panic!("no mask") };
    assert!(mask.iter().all(|v| *v < 2) && mask.iter().any(|v| *v == 1));
}

#[test]
fn folders_of_dicom() {
    let root = data().join("dicom");
    let set = open("dicom", &root, Split::Train, &OpenOptions::default()).unwrap();
    let ids: Vec<String> = (0..set.len()).map(|i| set.sample_id(i)).collect();
    assert!(ids.contains(&"made-ct-abdomen".to_owned()) && ids.contains(&"phantom-mr-t1post".to_owned()), "{ids:?}");
    let ct = set.sample(ids.iter().position(|i| i == "made-ct-abdomen").unwrap()).unwrap();
    let Pixels::Volume(volume) = &ct.pixels else { panic!("a series is a volume") };
    assert_eq!(volume.data.dim(), (20, 128, 128));
    assert_eq!(volume.modality.as_deref(), Some("CT"));
    assert_eq!(volume.axis_codes(), ['R', 'A', 'S']);
    for (got, want) in volume.spacing_mm().iter().zip([5.0, 2.75, 2.75]) {
        assert!((got - want).abs() < 1e-9);
    }
    let corner = volume.data.slice(ndarray::s![.., ..6, ..6]).mean().unwrap();
    assert!((corner + 1000.0).abs() < 10.0, "air is {corner} HU");
    // the aorta at (10, 30) mm LPS: column 67 from the right, row 74 from the front, stored LPS
    let aorta = volume.data[[10, 127 - 74, 127 - 67]];
    assert!((100.0..270.0).contains(&aorta), "aorta is {aorta} HU");
    assert!(ct.target == Target::Unlabelled && ct.patient.is_none_or(|p| p.len() == 16));
}

#[test]
fn discovery_lists_good_and_bad() {
    let bytes = png();
    let dir = tree(&[
        ("10.png", &bytes),
        ("2.png", &bytes),
        ("notes.txt", b"dictated but not read"),
        ("empty.nii.gz", b""),
        (".DS_Store", b"junk"),
        ("deep/er/._2.png", b"junk"),
    ]);
    fs::copy(fixture("medmnist/volume3d.npz"), dir.path().join("v.npz")).unwrap();
    fs::copy(fixture("medmnist/bad_count.npz"), dir.path().join("w.npz")).unwrap();
    for (n, file) in fs::read_dir(data().join("dicom/phantom-mr-t1post")).unwrap().enumerate() {
        fs::create_dir_all(dir.path().join("study/mr")).unwrap();
        fs::copy(file.unwrap().path(), dir.path().join(format!("study/mr/{n}"))).unwrap();
    }
    let inputs = discover(&[dir.path().to_owned(), "/does/not/exist".into()]);
    let ids: Vec<&str> = inputs.iter().map(|i| i.id.as_str()).collect();
    let expected = [
        "2.png",
        "10.png",
        "empty.nii.gz",
        "notes.txt",
        "study/mr",
        "v.npz/train/000000",
        "v.npz/train/000001",
        "v.npz/train/000002",
        "v.npz/val/000000",
        "v.npz/val/000001",
        "v.npz/test/000000",
        "v.npz/test/000001",
        "w.npz",
        "exist",
    ];
    let mut sorted = (ids.clone(), expected.to_vec());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
    let position = |id| ids.iter().position(|i| *i == id).unwrap();
    assert!(position("2.png") < position("10.png"));
    for input in &inputs {
        let good = !["empty.nii.gz", "notes.txt", "w.npz", "exist"].contains(&input.id.as_str());
        assert_eq!(input.bad().is_none(), good, "{input:?}");
        assert_eq!(input.load(&ReadOptions::default()).is_ok(), good, "{input:?}");
        assert_eq!(input.fingerprint().ok(), input.fingerprint().ok());
        assert_eq!(input.fingerprint().is_ok(), good);
    }
    assert_eq!(inputs[position("empty.nii.gz")].bad(), Some("the file is empty"));
    let InputKind::Series { files, .. } = &inputs[position("study/mr")].kind else { panic!("no series") };
    assert_eq!(files.len(), 22);
    let hashes: std::collections::BTreeSet<_> = inputs.iter().filter_map(|i| i.fingerprint().ok()).collect();
    assert_eq!(hashes.len(), 9, "2.png and 10.png are the same file, the rest differ");
    // one file by itself
    let one = discover(&[dir.path().join("2.png")]);
    assert_eq!((one.len(), one[0].id.as_str()), (1, "2.png"));
}

#[test]
fn ids_of_several_paths_count_from_the_folder_they_share() {
    let dicom = data().join("dicom");
    let dir =
        tree(&[("scans/P1/a.png", b"a"), ("scans/P2/a.png", b"b"), ("scans/P2/deep/a.png", b"c"), ("b.png", b"d")]);
    for patient in ["P3", "P4"] {
        let folder = dir.path().join("scans").join(patient);
        fs::create_dir_all(folder.join("S1")).unwrap();
        for file in fs::read_dir(dicom.join("phantom-mr-t1post")).unwrap().map(|f| f.unwrap()) {
            fs::copy(file.path(), folder.join("S1").join(file.file_name())).unwrap();
        }
    }
    let ids = |paths: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(|p| dir.path().join(p)).collect();
        let mut ids: Vec<String> = discover(&paths).into_iter().map(|i| i.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&["scans/P1", "scans/P2"]), ["P1/a.png", "P2/a.png", "P2/deep/a.png"]);
    assert_eq!(ids(&["scans/P3", "scans/P4"]), ["P3/S1", "P4/S1"]);
    // the series fills the folders named
    assert_eq!(ids(&["scans/P3/S1", "scans/P4/S1"]), ["P3/S1", "P4/S1"]);
    assert_eq!(ids(&["scans/P3/S1"]), ["S1"]);
    assert_eq!(ids(&["b.png", "scans/P1/a.png"]), ["a.png", "b.png"]);
    assert_eq!(ids(&["scans/P2/a.png", "scans/P1/a.png"]), ["P1/a.png", "P2/a.png"]);
    assert_eq!(ids(&["b.png", "scans/P1"]), ["b.png", "scans/P1/a.png"]);
    // named twice, or one within the other: once
    assert_eq!(ids(&["scans/P2", "./scans/P2"]), ["a.png", "deep/a.png"]);
    assert_eq!(ids(&["scans/P2", "scans/P2/deep"]), ["P2/a.png", "P2/deep/a.png"]);
    assert_eq!(ids(&["scans/P1", "scans/P1/a.png"]), ["P1/a.png"]);
    // a patient's number is hashed as a data set does
    let input = &discover(&[dir.path().join("scans/P3")])[0];
    let set =
        open("dicom", &dir.path().join("scans/P3"), Split::Train, &OpenOptions::default().with_salt("s")).unwrap();
    assert!(set.patient(0).is_some());
    assert_eq!(input.patient("s"), set.patient(0));
    assert_ne!(input.patient("t"), set.patient(0));
    assert_eq!(input.fingerprint().unwrap(), set.fingerprint(0).unwrap());
}

#[test]
fn results_are_passed_over() {
    let cache = b"Signature: 8a477f597d28d172789f06886806bc55".as_slice();
    let dir = tree(&[
        ("a/one.png", b"1"),
        ("b/two.png", b"2"),
        ("features/0a/dinorad-store.json", b"{}"),
        ("features/0a/shard-0.safetensors", b"x"),
        ("features/old/manifest.json", b"{}"),
        ("features/old/shard-00000.safetensors", b"x"),
        ("runs/x/dinorad-run.json", b"{}"),
        ("runs/x/plots/a.png", b"x"),
        ("a/cache/CACHEDIR.TAG", cache),
        ("a/cache/a.png", b"x"),
        ("manifest.json", b"{}"),
    ]);
    let found = discover_inputs(&[dir.path().to_owned()]);
    let mut ids: Vec<&str> = found.inputs.iter().map(|i| i.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a/one.png", "b/two.png", "manifest.json"]);
    let said = found.notice().unwrap();
    assert!(said.contains("2 feature stores, 1 run, 1 cache passed over"), "{said}");
    let inside = discover_inputs(&[dir.path().join("features")]);
    assert!(inside.inputs.len() == 1 && inside.inputs[0].bad().is_some_and(|why| why.contains("results")));
    assert!(discover_inputs(&[dir.path().join("b")]).notice().is_none());
    // a data set of folders has no class called `cache`
    fs::remove_dir_all(dir.path().join("features")).unwrap();
    fs::remove_dir_all(dir.path().join("runs")).unwrap();
    fs::rename(dir.path().join("a/cache"), dir.path().join("cache")).unwrap();
    let set = open("folder", dir.path(), Split::Train, &OpenOptions::default().with_divide(None)).unwrap();
    assert_eq!(set.task().class_names, ["a", "b"]);
}

#[test]
fn two_series_in_one_folder_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    for series in ["phantom-mr-t1post", "phantom-mr-flairreg"] {
        for file in fs::read_dir(data().join("dicom").join(series)).unwrap() {
            let file = file.unwrap();
            let name = format!("{series}-{}", file.file_name().to_string_lossy());
            fs::copy(file.path(), dir.path().join(name)).unwrap();
        }
    }
    let inputs = discover(&[dir.path().to_owned()]);
    assert_eq!(inputs.len(), 2, "{inputs:?}");
    let loaded: Vec<_> = inputs.iter().map(|i| i.load(&ReadOptions::default()).unwrap()).collect();
    assert_eq!(loaded[0].shape(), loaded[1].shape());
    assert_ne!(inputs[0].fingerprint().unwrap(), inputs[1].fingerprint().unwrap());
}

#[test]
fn doctor_counts_the_duplicates_of_pneumonia_mnist() {
    let report = doctor("pneumoniamnist", &data().join("medmnist")).unwrap();
    let counts: Vec<usize> = report.splits.iter().map(|s| s.count).collect();
    assert_eq!(counts, [4708, 524, 624]);
    assert_eq!(report.splits[0].class_counts["normal"], 1214);
    let surplus = |split: Split, class: usize| -> usize {
        let set = open("pneumoniamnist", &data().join("medmnist"), split, &OpenOptions::default()).unwrap();
        let label = |id: &str| {
            let index: usize = id.rsplit('/').next().unwrap().parse().unwrap();
            set.target(index).unwrap()
        };
        let groups = report.duplicates_within.iter().chain(&report.duplicates_across);
        groups
            .map(|d| d.samples.iter().filter(|(s, id)| *s == split && label(id) == Target::Class(class)).count())
            .map(|n| n.saturating_sub(1))
            .sum()
    };
    // what the data's README says
    assert_eq!((surplus(Split::Train, 0), surplus(Split::Train, 1)), (1, 17));
    assert_eq!(surplus(Split::Test, 0) + surplus(Split::Test, 1), 3);
    let leaked: usize = report
        .duplicates_across
        .iter()
        .filter(|d| d.samples.iter().any(|(s, _)| *s == Split::Train))
        .map(|d| d.samples.iter().filter(|(s, _)| *s == Split::Val).count())
        .sum();
    assert_eq!(leaked, 8);
    assert!(!report.is_healthy());
    assert!(report.to_string().contains("duplicate-across-splits"));
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(value["splits"][1]["count"], 524);
}

#[test]
fn doctor_finds_each_fault_and_invents_none() {
    for folder in folders(&fixture("")).iter().filter(|f| f.join("expected.json").is_file()) {
        let name = json(&folder.join("expected.json"))["dataset"].as_str().unwrap().to_owned();
        let report = doctor(&name, &folder.join("tree")).unwrap();
        let errors: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        assert!(report.splits.iter().all(|s| s.count > 0 && s.unreadable.is_empty()));
    }
    let folder = fixture("edge");
    for case in json(&folder.join("cases.json"))["cases"].as_array().unwrap() {
        let root = folder.join(case["root"].as_str().unwrap());
        let split: Split = case["split"].as_str().unwrap().parse().unwrap();
        let report = doctor(case["dataset"].as_str().unwrap(), &root).unwrap();
        let of_split: BTreeMap<&str, Severity> = report
            .findings
            .iter()
            .filter(|f| f.split == Some(split) || f.split.is_none())
            .map(|f| (f.check, f.severity))
            .collect();
        let found = of_split.values().any(|s| *s == Severity::Error) || of_split.contains_key("no-split");
        match case["outcome"].as_str().unwrap() {
            "error" => assert!(found, "{}: nothing found: {report}", case["id"]),
            "ok" => assert!(!of_split.values().any(|s| *s == Severity::Error), "{}: {report}", case["id"]),
            _ => {}
        }
    }
}

#[test]
fn hostile_names_and_texts() {
    for name in ["", "imagenet", "msd2", "../msd"] {
        let e = open(name, Path::new("/nowhere"), Split::Train, &OpenOptions::default()).err().unwrap();
        assert!(matches!(e, Error::Unknown { .. }), "{e}");
    }
    for info in dinorad_datasets::infos() {
        let e = open(info.name, Path::new("/nowhere"), Split::Train, &OpenOptions::default()).err().unwrap();
        assert!(e.to_string().contains("nowhere"), "{}: {e}", info.name);
    }
}
