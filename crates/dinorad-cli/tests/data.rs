//! Data sets by name, from outside: lists, tables of parts, check-ups, and the same command for every
//! kind of task.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{fs, path::Path};

use common::{Desk, files, golden};
use serde_json::Value;

fn tree(set: &str) -> std::path::PathBuf {
    golden("datasets").join(set).join("tree")
}

/// A copy of a folder on the desk, to be changed.
fn copied(desk: &Desk, from: &Path, to: &str) {
    let target = desk.path(to);
    fs::create_dir_all(&target).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let inside = format!("{to}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            copied(desk, &entry.path(), &inside);
        } else {
            fs::copy(entry.path(), desk.path(inside)).unwrap();
        }
    }
}

#[test]
fn every_data_set_is_listed() {
    let desk = Desk::new();
    let text = desk.run("datasets", &[], 0).stdout;
    let list = desk.run("datasets --json", &[], 0).json();
    let list = list.as_array().unwrap();
    assert!(list.len() >= 17, "{}", list.len());
    for set in list {
        for field in ["name", "modality", "task", "licence", "source", "layout"] {
            assert!(!set[field].as_str().unwrap().is_empty(), "{field} of {set}");
        }
        assert!(text.contains(set["name"].as_str().unwrap()));
    }
    let nih = list.iter().find(|s| s["name"] == "nih").unwrap();
    assert_eq!(nih["classes"].as_array().unwrap().len(), 15);
    assert_eq!(nih["published"][2], 25_596);
}

#[test]
fn one_command_judges_every_kind_of_task() {
    let desk = Desk::new();
    let sets = [
        ("nih", tree("nih"), "2d multilabel"),
        ("brain-tumor", tree("brain_tumor"), "2d multiclass"),
        ("sars-cov-2-ct", tree("sars_cov_2_ct"), "3d binary, pictures"),
        ("medmnist", golden("datasets/medmnist/volume3d.npz"), "3d binary, volumes"),
    ];
    for (name, root, what) in sets {
        for protocol in ["strict", "paper"] {
            let out = format!("{name}-{protocol}");
            let args = format!(
                "eval knn --dataset {name} --k 1,2 --image-size 28 --draws 20 --features features --strict-data \
                 --protocol {protocol} --out {out}"
            );
            desk.run(&args, &[Path::new("--root"), &root], 0);
            let metrics: Value =
                serde_json::from_slice(&fs::read(desk.path(&out).join("metrics.json")).unwrap()).unwrap();
            assert!(metrics["metrics"]["test"].is_object(), "{what}: {metrics}");
            let predictions = fs::read_to_string(desk.path(&out).join("predictions-k1.csv")).unwrap();
            assert!(predictions.starts_with("sample_id,target,p_0,p_1"), "{what}: {predictions}");
        }
    }
}

#[test]
fn bad_cases_are_listed_or_end_the_run() {
    let desk = Desk::new();
    copied(&desk, &tree("nih"), "nih");
    let picture = desk.path("nih/train/00000813_001.png");
    let bytes = fs::read(&picture).unwrap();
    fs::write(&picture, &bytes[..bytes.len() / 2]).unwrap();
    fs::remove_file(desk.path("nih/test/00026759_000.png")).unwrap();
    let knn = "eval knn --dataset nih --root nih --k 1 --image-size 28 --draws 20 --features features --out run";
    let said = desk.run(knn, &[], 1);
    said.names(&["train/00000813_001.png", "test/00026759_000.png", "2 items failed"]);
    assert!(desk.path("run/metrics.json").is_file());
    // a missing picture is found when the data set is opened, a damaged one when it is read
    desk.run(&format!("{knn}2 --strict-data"), &[], 2).names(&["00026759_000.png"]);
    fs::copy(tree("nih").join("test/00026759_000.png"), desk.path("nih/test/00026759_000.png")).unwrap();
    desk.run(&format!("{knn}3 --strict-data"), &[], 2).names(&["train/00000813_001.png"]);
    // the same for files
    let embed = "embed nih/train --image-size 28";
    desk.run(&format!("{embed} --out a"), &[], 1).names(&["00000813_001.png"]);
    desk.run(&format!("{embed} --out b --strict-data"), &[], 2).names(&["00000813_001.png"]);
}

#[test]
fn tables_of_parts_are_written_and_used() {
    let desk = Desk::new();
    let root = tree("brain_tumor");
    let before = files(&root.join("train")).len();
    let csv = desk.run("splits brain-tumor", &[&root], 0).stdout;
    assert!(csv.starts_with("case,split,patient\n") && csv.contains("train/1.mat,train,"));
    assert!(!csv.contains("MR000001A"), "a patient's number was shown");
    let salted = desk.run_in("splits brain-tumor", &[&root], 0, &[("DINORAD_SALT", "a secret")]).stdout;
    let parts = |table: &str| -> Vec<String> {
        table.lines().filter_map(|l| l.rsplit_once(',')).map(|(part, _)| part.to_owned()).collect()
    };
    assert_eq!(parts(&salted), parts(&csv));
    let hashes = |table: &str| table.lines().skip(1).filter_map(|l| l.rsplit_once(',')).any(|(_, h)| csv.contains(h));
    assert!(!hashes(&salted), "the salt changes every hash");
    let said = desk.run("splits --shares 0.5,0.25,0.25 --seed 4 --out parts/cut.csv brain-tumor", &[&root], 0);
    assert!(said.stdout.contains("parts/cut.csv"));
    let cut = fs::read_to_string(desk.path("parts/cut.csv")).unwrap();
    assert_eq!(cut.lines().count(), 11);
    assert_eq!(cut.lines().filter(|l| l.contains(",test,")).count(), 2, "{cut}");
    assert_eq!(files(&root.join("train")).len(), before, "no file was moved");
    let knn = "eval knn --dataset brain-tumor --k 1 --image-size 28 --draws 20 --features features --out run --splits parts/cut.csv";
    desk.run(knn, &[Path::new("--root"), &root], 0);
    let predictions = fs::read_to_string(desk.path("run/predictions.csv")).unwrap();
    let judged: Vec<&str> = predictions.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(judged.len(), 2);
    assert!(judged.iter().all(|id| cut.contains(&format!("{id},test,"))), "{predictions}\n{cut}");

    desk.run("splits --folds 2 --out parts/cv.csv brain-tumor", &[&root], 0);
    assert!(desk.path("parts/cv-fold1.csv").is_file() && desk.path("parts/cv-fold2.csv").is_file());
    let few = desk.run("splits --protocol paper --few-shot 2 nih", &[&tree("nih")], 0).stdout;
    assert_eq!(few.lines().filter(|l| l.contains(",train,")).count(), 0, "no patient stands for a finding: {few}");
    let few = desk.run("splits --few-shot 1 --draw balanced nih", &[&tree("nih")], 0).stdout;
    assert!(few.lines().filter(|l| l.contains(",train,")).count() > 3);

    // a patient in two parts is refused by hash
    copied(&desk, &root, "torn");
    fs::copy(desk.path("torn/train/1.mat"), desk.path("torn/test/12.mat")).unwrap();
    let said = desk.run("splits brain-tumor torn", &[], 2);
    said.names(&["1 patient is both in train and test: "]);
    assert!(!said.all().contains("MR000001A"));
    desk.run("splits --protocol paper brain-tumor torn", &[], 0).names(&["note: 1 patient is both in"]);
}

#[test]
fn check_ups_come_with_a_picture() {
    let desk = Desk::new();
    for (name, set) in [("nih", "nih"), ("mc", "mc"), ("btcv", "btcv"), ("sars-cov-2-ct", "sars_cov_2_ct")] {
        let sheet = format!("{name}.png");
        let root = tree(set);
        let said = desk.run(&format!("doctor --dataset {name} --sheet {sheet} --root"), &[&root], 0);
        assert!(said.stdout.contains("prepared for the study") && said.stdout.contains("published"), "{}", said.stdout);
        let picture = image::open(desk.path(&sheet)).unwrap().to_rgb8();
        assert!(picture.width() > 700 && picture.pixels().any(|p| p.0 == [20; 3]), "letters on {name}");
    }
    let json = desk.run("doctor --dataset mc --json --root", &[&tree("mc")], 0).json();
    assert_eq!(json["layout"], "prepared for the study");
    assert_eq!(json["splits"][0]["study_count"], 4);
    // nothing that fits: what was looked for
    fs::create_dir(desk.path("empty")).unwrap();
    let said = desk.run("doctor --dataset nih --root empty", &[], 1);
    assert!(said.stdout.contains("Data_Entry_2017") && said.stdout.contains("labels.csv"), "{}", said.stdout);
}
