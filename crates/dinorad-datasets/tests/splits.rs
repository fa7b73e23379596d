//! Parts of data sets: as published, as the study cut them, by patient, from tables.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use common::{copy, edit, files, name, prepared};
use dinorad_core::{Split, Target};
use dinorad_datasets::{
    Bad, Dataset, Draw, Error, LoadOptions, Loader, OpenOptions, Pixels, SplitTable, Uncertain, Unit, fold_paths, open,
};
use dinorad_transforms::{
    Filter, StreamKey,
    presets::{IMAGENET_MEAN, IMAGENET_STD, classification_train},
};

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

fn made(make: impl Fn(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    dir
}

fn ids(set: &dyn Dataset) -> Vec<String> {
    (0..set.len()).map(|i| set.sample_id(i)).collect()
}

fn lengths(name: &str, root: &Path, options: &OpenOptions) -> [usize; 3] {
    SPLITS.map(|s| open(name, root, s, options).map_or(0, |set| set.len()))
}

/// Every set as downloaded, with its maker.
fn downloads() -> Vec<(&'static str, Box<dyn Fn(&Path)>)> {
    vec![
        ("nih", Box::new(common::nih)),
        ("chexpert", Box::new(common::chexpert)),
        ("mc", Box::new(common::mc)),
        ("shenzhen", Box::new(common::shenzhen)),
        ("sars-cov-2-ct", Box::new(common::sars)),
        ("brain-tumor", Box::new(common::brain_tumor)),
        ("btcv", Box::new(common::btcv)),
        ("btcv-slice", Box::new(common::btcv)),
        ("amos", Box::new(common::amos)),
        ("msd-heart", Box::new(|to| common::decathlon(to, "LeftAtrium", &["background", "left atrium"]))),
        ("msd-hipp", Box::new(|to| common::decathlon(to, "Hippocampus", &["background", "Anterior", "Posterior"]))),
        ("msd-spleen", Box::new(|to| common::decathlon(to, "Spleen", &["background", "spleen"]))),
    ]
}

#[test]
fn one_name_serves_both_forms() {
    let forms = [
        ("nih", "nih"),
        ("chexpert", "chexpert"),
        ("mc", "mc"),
        ("shenzhen", "shenzhen"),
        ("sars-cov-2-ct", "sars_cov_2_ct"),
        ("brain-tumor", "brain_tumor"),
        ("btcv", "btcv"),
        ("btcv-slice", "btcv_slice"),
        ("amos", "amos"),
        ("msd-heart", "msd_heart"),
        ("msd-hipp", "msd_hipp"),
        ("msd-spleen", "msd_spleen"),
    ];
    for ((set, make), (same, folder)) in downloads().into_iter().zip(forms) {
        assert_eq!(set, same);
        let (raw, tree) = (made(make), made(|to| prepared(folder, to)));
        for options in [OpenOptions::default(), OpenOptions::paper()] {
            let a = open(set, raw.path(), Split::Train, &options).unwrap_or_else(|e| panic!("{set}: {e}"));
            let b = open(set, tree.path(), Split::Train, &options).unwrap();
            assert_ne!(a.layout(), b.layout(), "{set}");
            assert_eq!(a.task().kind, b.task().kind, "{set}");
            // Decathlon's own file names its classes
            let own_names = set.starts_with("msd-");
            assert!(own_names || a.task().class_names == b.task().class_names, "{set}");
            for i in 0..a.len() {
                let sample = a.sample(i).unwrap_or_else(|e| panic!("{set}: {e}"));
                assert_eq!(sample.target, a.target(i).unwrap());
            }
        }
    }
}

#[test]
fn cases_of_a_download_are_in_one_part_each_and_patients_apart() {
    for (set, make) in downloads() {
        let root = made(make);
        for options in [OpenOptions::paper(), OpenOptions::default(), OpenOptions::default().with_seed(3)] {
            let table = SplitTable::of(set, root.path(), &options.clone().with_unit(Unit::Volumes)).unwrap();
            let cases: BTreeSet<&String> = table.rows.iter().map(|r| &r.case).collect();
            assert_eq!(cases.len(), table.rows.len(), "{set}: a case in two parts");
            assert!(table.overlaps().is_empty(), "{set} {:?}", options.protocol);
            assert!(table.count(Split::Train) > 0 && table.count(Split::Val) > 0, "{set}: {table:?}");
        }
    }
}

#[test]
fn the_study_cuts_downloads_as_it_did() {
    let root = made(common::mc);
    // every third of eight in order of names is test, then every fourth of the other five val
    let names = |split| ids(&*open("mc", root.path(), split, &OpenOptions::paper()).unwrap());
    let short = |split| -> Vec<String> {
        names(split).iter().map(|n| n.rsplit('/').next().unwrap()[7..11].to_owned()).collect()
    };
    assert_eq!(short(Split::Test), ["0007", "0216", "0242"]);
    assert_eq!(short(Split::Val), ["0103", "0302"]);
    assert_eq!(short(Split::Train), ["0150", "0218", "0231"]);

    // the last twelfth of the list, in the order of the table; the publisher's test part stands
    let root = made(common::nih);
    assert_eq!(lengths("nih", root.path(), &OpenOptions::paper()), [10, 1, 5]);
    let test = ids(&*open("nih", root.path(), Split::Test, &OpenOptions::default()).unwrap());
    assert!(test[0].ends_with("images/00004823_000.png"), "{test:?}");
    assert_eq!(test.len(), 5);

    // even positions of Training are val; Testing is test and has no labels
    let root = made(common::btcv);
    assert_eq!(lengths("btcv", root.path(), &OpenOptions::paper()), [2, 3, 2]);
    let test = open("btcv", root.path(), Split::Test, &OpenOptions::paper()).unwrap();
    assert_eq!(test.target(0).unwrap(), Target::Unlabelled);
    let strict = open("btcv", root.path(), Split::Test, &OpenOptions::default()).unwrap();
    assert!(matches!(strict.target(0).unwrap(), Target::Mask(_)));
    let none = open("btcv-slice", root.path(), Split::Test, &OpenOptions::paper());
    assert!(matches!(none.err(), Some(Error::NoSplit { .. })));

    // all pictures of a patient go together
    let root = made(common::brain_tumor);
    let sets = SPLITS.map(|s| open("brain-tumor", root.path(), s, &OpenOptions::paper()).unwrap());
    assert_eq!(sets.iter().map(|s| s.len()).sum::<usize>(), 10);
}

#[test]
fn slices_of_a_download_are_those_of_its_volumes() {
    let root = made(common::amos);
    for (set, unit) in [("amos", Unit::Slices), ("amos", Unit::Volumes)] {
        let options = OpenOptions::default().with_unit(unit);
        let all: Vec<_> = SPLITS.iter().map(|s| open(set, root.path(), *s, &options).unwrap()).collect();
        let n: usize = all.iter().map(|s| s.len()).sum();
        // six volumes of 6, 7, 8 slices twice and two of 6 and 7
        assert_eq!(n, if unit == Unit::Slices { 2 * (6 + 7 + 8) + all[2].len() } else { 8 });
        let cases: BTreeSet<String> = (0..all[0].len()).map(|i| all[0].case(i)).collect();
        assert!(cases.iter().all(|c| c.starts_with("amos_") && c.len() == 9), "{cases:?}");
    }
    // the volume decoded once serves all of its slices: nothing changes when memory is short
    let set = |bytes| open("amos", root.path(), Split::Train, &OpenOptions::default().with_cache_bytes(bytes)).unwrap();
    let (rich, poor) = (set(1 << 30), set(0));
    for i in (0..rich.len()).rev() {
        assert_eq!(rich.sample(i).unwrap(), poor.sample(i).unwrap());
    }
}

#[test]
fn tables_are_written_and_read_back() {
    for (set, make) in downloads() {
        let root = made(make);
        let before: BTreeSet<_> = files(root.path(), "").into_iter().collect();
        let options = OpenOptions::default().with_unit(Unit::Volumes);
        let table = SplitTable::of(set, root.path(), &options).unwrap();
        let desk = tempfile::tempdir().unwrap();
        let path = desk.path().join("new/splits.csv");
        table.write(&path).unwrap();
        assert_eq!(files(desk.path(), "").len(), 1, "nothing is left beside the table");
        let back = SplitTable::read(&path).unwrap();
        assert_eq!(back.to_csv(), table.to_csv());
        assert_eq!(files(root.path(), "").into_iter().collect::<BTreeSet<_>>(), before, "no file was moved");
        for split in SPLITS {
            let own = open(set, root.path(), split, &options);
            let from_table = open(set, root.path(), split, &options.clone().with_splits(&path));
            match (own, from_table) {
                (Ok(a), Ok(b)) => {
                    assert_eq!(ids(&*a), ids(&*b), "{set} {split}");
                    assert_eq!(a.fingerprint(0).unwrap(), b.fingerprint(0).unwrap());
                    assert_eq!((a.task(), a.split(), a.preparation()), (b.task(), b.split(), b.preparation()));
                }
                (a, b) => assert!(a.is_err() && b.is_err(), "{set} {split}"),
            }
        }
        // another cut of everything, by patient
        let cut = SplitTable::recut(set, root.path(), &options, [0.5, 0.25, 0.25]).unwrap();
        assert_eq!(cut.rows.len(), table.rows.len());
        cut.check_patients(root.path()).unwrap();
        assert_eq!(cut, SplitTable::recut(set, root.path(), &options, [0.5, 0.25, 0.25]).unwrap());
        cut.write(&path).unwrap();
        let cases = |s| {
            let set = open(set, root.path(), s, &options.clone().with_splits(&path));
            set.map_or(0, |set| (0..set.len()).map(|i| set.case(i)).collect::<BTreeSet<_>>().len())
        };
        assert_eq!(SPLITS.map(cases), SPLITS.map(|s| cut.count(s)), "{set}");
    }
}

#[test]
fn a_table_of_volumes_serves_their_slices() {
    let root = made(|to| common::decathlon(to, "Spleen", &["background", "spleen"]));
    let desk = tempfile::tempdir().unwrap();
    let path = desk.path().join("s.csv");
    let volumes = OpenOptions::default().with_unit(Unit::Volumes);
    SplitTable::of("msd-spleen", root.path(), &volumes).unwrap().write(&path).unwrap();
    for split in SPLITS {
        let own = open("msd-spleen", root.path(), split, &OpenOptions::default()).unwrap();
        let table = open("msd-spleen", root.path(), split, &OpenOptions::default().with_splits(&path)).unwrap();
        assert_eq!(ids(&*own), ids(&*table));
    }
    // a few slices, evenly spaced, as the study drew them
    let table = SplitTable::read(&path).unwrap();
    let few = table.with_train_drawn("msd-spleen", root.path(), &OpenOptions::default(), Draw::Positions { n: 5 });
    few.unwrap().write(&path).unwrap();
    let train = open("msd-spleen", root.path(), Split::Train, &OpenOptions::default().with_splits(&path)).unwrap();
    assert_eq!(train.len(), 5);
    assert!(ids(&*train).iter().all(|id| id.contains('_')));
}

#[test]
fn wrong_tables_are_named() {
    let root = made(common::csv);
    let desk = tempfile::tempdir().unwrap();
    let path = desk.path().join("s.csv");
    let try_with = |text: &str| {
        fs::write(&path, text).unwrap();
        let set = open("csv", root.path(), Split::Train, &OpenOptions::default().with_splits(&path));
        set.err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(try_with("case,split\npictures/0.png,train\n"), "");
    for (text, needle) in [
        ("case,split\npictures/0.png,train\npictures/0.png,val\n", "line 3"),
        ("case,split\npictures/0.png,fold0\n", "fold0"),
        ("case,part\npictures/0.png,train\n", "split"),
        ("case,split\npictures/99.png,train\n", "pictures/99.png"),
        ("case,split\npictures/0.png,val\n", "no train split"),
    ] {
        let error = try_with(text);
        assert!(error.contains(needle) && error.contains("s.csv"), "{text}: {error}");
    }
    // patients in two parts: refused with their hashes, never their names
    let root = made(|to| {
        common::csv(to);
        edit(&to.join("cases.csv"), "train,patient 1", "train,patient 0");
    });
    fs::write(&path, "case,split\npictures/0.png,train\npictures/1.png,test\n").unwrap();
    let options = OpenOptions::default().with_splits(&path);
    let e = open("csv", root.path(), Split::Train, &options).err().unwrap();
    let Error::Overlap { patients, .. } = &e else { panic!("{e}") };
    assert!(patients.len() == 1 && e.to_string().contains(&patients[0]) && !e.to_string().contains("patient 0"), "{e}");
    let paper = OpenOptions::paper().with_splits(&path);
    assert_eq!(open("csv", root.path(), Split::Train, &paper).unwrap().len(), 1, "paper allows it");
}

#[test]
fn a_prepared_tree_that_tears_patients_apart_is_found() {
    let root = made(|to| {
        prepared("msd_hipp", to);
        let slice = &files(&to.join("train"), ".npy")[0];
        fs::rename(slice, to.join("test").join(name(slice))).unwrap();
    });
    let table = SplitTable::of("msd-hipp", root.path(), &OpenOptions::default()).unwrap();
    let e = table.check_patients(root.path()).err().unwrap();
    assert!(matches!(&e, Error::Overlap { patients, .. } if patients.len() == 1), "{e}");
    SplitTable::recut("msd-hipp", root.path(), &OpenOptions::default(), [0.6, 0.2, 0.2])
        .unwrap()
        .check_patients(root.path())
        .unwrap();
}

#[test]
fn folds_and_few_shots() {
    let root = made(common::csv);
    let options = OpenOptions::default();
    let table = SplitTable::of("csv", root.path(), &options).unwrap();
    let folds = table.folds(2, 0).unwrap();
    for fold in &folds {
        assert_eq!(SPLITS.map(|s| fold.count(s)), [2, 2, 2]);
        fold.check_patients(root.path()).unwrap();
    }
    let val = |t: &SplitTable| -> BTreeSet<String> {
        t.rows.iter().filter(|r| r.split == Split::Val).map(|r| r.case.clone()).collect()
    };
    assert!(val(&folds[0]).is_disjoint(&val(&folds[1])));
    let paths = fold_paths("out/splits.csv".as_ref(), 2);
    assert_eq!(paths, [Path::new("out/splits-fold1.csv"), Path::new("out/splits-fold2.csv")]);
    let one = table.with_train_drawn("csv", root.path(), &options, Draw::Balanced { shots: 1, seed: 1 }).unwrap();
    assert_eq!(SPLITS.map(|s| one.count(s)), [2, 2, 2], "one of each of two classes");
    assert!(table.with_train_drawn("csv", root.path(), &options, Draw::Balanced { shots: 2, seed: 1 }).is_err());
    // a draw by findings on a set of findings
    let root = made(common::nih);
    let table = SplitTable::of("nih", root.path(), &OpenOptions::paper()).unwrap();
    let balanced = Draw::Balanced { shots: 1, seed: 0 };
    let few = table.with_train_drawn("nih", root.path(), &OpenOptions::paper(), balanced).unwrap();
    assert!((1..=10).contains(&few.count(Split::Train)) && few.count(Split::Test) == 5);
    assert_eq!(Draw::of_study("NIHChestXray", 4), Draw::Patients { shots: 4 });
    assert_eq!(Draw::of_study("MC", 4), Draw::Positions { n: 4 });
}

#[test]
fn every_case_is_tested_once_and_no_patient_twice() {
    // 60 cases of 20 patients with 1 to 5 cases each
    let dir = tempfile::tempdir().unwrap();
    let picture = std::fs::read(dinorad_testkit::golden().join("datasets/csv_manifest/images/im_211_0.png")).unwrap();
    let mut text = "path,label,patient\n".to_owned();
    let (mut n, mut of) = (0, BTreeMap::new());
    for patient in 0..20 {
        for _ in 0..=patient % 5 {
            std::fs::write(dir.path().join(format!("{n}.png")), &picture).unwrap();
            text += &format!("{n}.png,{},p{patient}\n", ["ill", "well"][patient % 2]);
            of.insert(format!("{n}.png"), patient);
            n += 1;
        }
    }
    std::fs::write(dir.path().join("table.csv"), text).unwrap();
    let table = SplitTable::of("csv", dir.path(), &OpenOptions::default()).unwrap();
    let folds = table.cross_validation(5, 7).unwrap();
    let mut tested: BTreeMap<String, usize> = BTreeMap::new();
    for fold in &folds {
        fold.check_patients(dir.path()).unwrap();
        let patients =
            |split| -> BTreeSet<usize> { fold.rows.iter().filter(|r| r.split == split).map(|r| of[&r.case]).collect() };
        let [train, val, test] = SPLITS.map(patients);
        assert!(train.is_disjoint(&val) && train.is_disjoint(&test) && val.is_disjoint(&test));
        assert!(!train.is_empty() && !val.is_empty() && !test.is_empty());
        assert_eq!(SPLITS.map(|s| fold.count(s)).iter().sum::<usize>(), n);
        for row in fold.rows.iter().filter(|r| r.split == Split::Test) {
            *tested.entry(row.case.clone()).or_default() += 1;
        }
    }
    assert!(tested.len() == n && tested.values().all(|times| *times == 1), "{tested:?}");
    // seeded
    let texts =
        |seed| -> Vec<String> { table.cross_validation(5, seed).unwrap().iter().map(SplitTable::to_csv).collect() };
    assert_eq!(texts(7), texts(7));
    assert_ne!(texts(7), texts(8));
    assert!(table.cross_validation(2, 0).is_err() && table.cross_validation(21, 0).is_err());
}

#[test]
fn uncertain_findings_of_a_download() {
    let root = made(common::chexpert);
    let set = |rule| open("chexpert", root.path(), Split::Train, &OpenOptions::default().with_uncertain(rule)).unwrap();
    let (extra, zeros, ones, ignore) =
        (set(Uncertain::ExtraClass), set(Uncertain::Zeros), set(Uncertain::Ones), set(Uncertain::Ignore));
    assert_eq!([extra.len(), zeros.len(), ones.len()], [7; 3], "lateral views are left out");
    assert!(ignore.len() < 7 && !ignore.warnings().is_empty());
    let unsure = (0..7).find(|i| extra.raw_label(*i).unwrap().contains("-1")).unwrap();
    let labels = |set: &dyn Dataset| match set.target(unsure).unwrap() {
        Target::Labels(l) => l,
        other => panic!("{other:?}"),
    };
    assert_eq!(labels(&*extra)[5], 1);
    assert_eq!(labels(&*extra)[..5], labels(&*zeros));
    assert_ne!(labels(&*zeros), labels(&*ones));
    assert!(extra.raw_label(unsure).unwrap().contains("Edema=-1.0"));
}

#[test]
fn bad_cases_end_the_opening_or_are_listed() {
    let root = made(|to| {
        common::nih(to);
        fs::remove_file(&files(&to.join("images_001"), ".png")[0]).unwrap();
    });
    let options = OpenOptions::paper();
    let e = open("nih", root.path(), Split::Train, &options).err().unwrap();
    assert!(matches!(&e, Error::Absent { .. }) || open("nih", root.path(), Split::Test, &options).is_err(), "{e}");
    let lenient = SPLITS.map(|s| open("nih", root.path(), s, &options.clone().with_bad(Bad::Skip)).unwrap());
    // which part an unreadable case would be in is not known: train and val both tell of it
    let told: BTreeSet<String> = lenient.iter().flat_map(|s| s.left_out()).map(|e| e.to_string()).collect();
    assert!(told.len() == 1 && told.first().unwrap().contains("images_001"), "{told:?}");
    assert_eq!(lenient.iter().map(|s| s.len()).sum::<usize>(), 15);
}

#[test]
fn dicom_patients_are_hashed_and_x_rays_are_cases() {
    let root = made(common::dicom);
    let set = open("dicom", root.path(), Split::Train, &OpenOptions::default()).unwrap();
    assert_eq!(set.len(), 2);
    let hashes: Vec<_> = (0..2).map(|i| set.patient(i)).collect();
    for hash in hashes.iter().flatten() {
        assert!(hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    }
    let other = open("dicom", root.path(), Split::Train, &OpenOptions::default().with_salt("mine")).unwrap();
    assert!(hashes[0].is_none() || other.patient(0) != hashes[0]);
    // one slice by itself is a picture
    let one = tempfile::tempdir().unwrap();
    copy(&files(&root.path().join("study 1/t1"), "")[0], &one.path().join("a/xray"));
    let set = open("dicom", one.path(), Split::Train, &OpenOptions::default()).unwrap();
    assert!(set.len() == 1 && matches!(set.sample(0).unwrap().pixels, Pixels::Image(_)));
}

#[test]
fn augmented_samples_are_the_same_bytes_at_one_and_four_threads() {
    let root = made(common::nih);
    let train = classification_train(32, Filter::BicubicAntialias, IMAGENET_MEAN, IMAGENET_STD);
    let bytes = |threads: usize, epoch: u64| -> Vec<u32> {
        let set = open("nih", root.path(), Split::Train, &OpenOptions::paper()).unwrap();
        let train = train.clone();
        let options = LoadOptions { threads, ahead: threads + 2, bad: Bad::Stop };
        let loader = Loader::new(set.len(), &options, move |i| {
            let Pixels::Image(image) = set.sample(i)?.pixels else { panic!("pictures") };
            let key = StreamKey { seed: 5, epoch, sample: i as u64 };
            train.augment(image.data, key).map_err(|e| Error::Parameter { what: "augmentation", why: e.to_string() })
        });
        loader.flat_map(|item| item.unwrap().1.into_iter().map(f32::to_bits)).collect()
    };
    assert_eq!(bytes(1, 0), bytes(4, 0));
    assert_ne!(bytes(4, 0), bytes(4, 1), "another epoch, another draw");
}
