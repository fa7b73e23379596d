//! `dinorad eval` and `dinorad export` from outside: every head on small made data sets.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{Desk, SMALL, binary, files, golden, mean, metrics, nifti, table};
use serde_json::Value;

#[test]
fn every_head_makes_a_run_with_controls_and_curves() {
    let desk = Desk::new();
    binary(&desk, "xrays", [40, 20, 24], ["well", "sick"]);
    let data = format!("--dataset csv --root xrays/table.csv {SMALL}");
    for (head, options) in [
        ("knn", "--k 1,5,20"),
        ("logreg", "--c 0.01,1,100 --blocks 2 --avgpool"),
        ("linear", "--lr 0.01,0.1 --blocks 1,2 --epochs 5 --batch-size 8"),
    ] {
        let args = format!(
            "eval {head} {data} {options} --shots 1,4 --fraction 0.5,1 --tries 2 --shift noise,contrast --out {head}"
        );
        let said = desk.run(&args, &[], 0);
        let m = metrics(&desk, head);
        assert!(mean(&m, "test", "auroc") > 0.8, "{head}: {}", said.stdout);
        for name in ["accuracy", "average_precision", "sensitivity", "specificity", "f1", "brier", "ece", "kappa"] {
            mean(&m, "test", name);
        }
        assert_eq!(m["metrics"]["test_shuffled_labels"]["auroc"]["values"].as_array().unwrap().len(), 3);
        mean(&m, "test_untrained_encoder", "auroc");
        let shots = m["curves"]["shots"].as_array().unwrap();
        assert_eq!(shots.len(), 2);
        assert_eq!((&shots[1]["x"], &shots[1]["cases"]), (&4.0.into(), &8.0.into()));
        assert_eq!(shots[1]["metrics"]["auroc"]["values"].as_array().unwrap().len(), 2);
        let whole = &m["curves"]["fraction"][1]["metrics"]["auroc"]["mean"];
        assert!(head == "linear" || whole == &m["metrics"]["test"]["auroc"]["mean"], "{head}");
        for shift in ["noise", "contrast"] {
            let points = m["curves"][format!("shift_{shift}")].as_array().unwrap();
            assert_eq!(points.len(), 6);
            assert_eq!(points[0]["metrics"]["auroc"]["mean"], m["metrics"]["test"]["auroc"]["mean"]);
            assert!(points[5]["metrics"]["auroc"]["ci95"].is_array());
        }
        for words in ["shuffled", "seeds", "untrained", "draws", "severity", "best on val"] {
            assert!(said.stdout.contains(words), "{head}: `{words}` is not in\n{}", said.stdout);
        }
        // what a shot was, and by what settings were chosen: on the screen and in the file
        let notes = m["notices"].as_array().unwrap().iter().filter_map(|n| n.as_str());
        let notes: Vec<&str> = notes.filter(|n| n.contains("whole validation split (20 cases)")).collect();
        assert!(notes.len() == 2 && notes[0].starts_with("shots: shots are cases of every class"), "{notes:?}");
        let flat = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(notes.iter().all(|note| flat.contains(note)), "{head}: {notes:?}\n{}", said.stdout);
        let run = desk.path(head);
        for file in ["config.toml", "log.jsonl", "predictions.csv", "predictions-val.csv", "report.html"] {
            assert!(run.join(file).is_file(), "{head}: no {file}");
        }
        let plots: Vec<String> = files(&run.join("plots")).into_keys().collect();
        for plot in ["roc.svg", "auroc-by-shots.svg", "auroc-by-fraction.svg", "auroc-by-shift.svg"] {
            assert!(plots.iter().any(|p| p == plot), "{head}: {plots:?}");
        }
        let report = fs::read_to_string(run.join("report.html")).unwrap();
        assert!(report.contains("What the score is worth") && report.contains("Shifts of the test images"));
        assert_eq!(run.join("model.safetensors").is_file(), head != "knn");

        // the same once more, and without what costs
        desk.run(&args.replace(&format!("--out {head}"), "--overwrite --out again"), &[], 0);
        assert_eq!(metrics(&desk, "again"), m, "{head}");
        let bare = desk.run(&format!("eval {head} {data} {options} --no-controls --overwrite --out bare"), &[], 0);
        assert!(!bare.stdout.contains("shuffled"));
        let bare = metrics(&desk, "bare");
        assert_eq!(bare["metrics"]["test"], m["metrics"]["test"]);
        assert!(bare["metrics"].get("test_shuffled_labels").is_none() && bare.get("curves").is_none());
    }
}

#[test]
fn findings_take_ml_knn_and_the_others() {
    let desk = Desk::new();
    let rows: Vec<(&str, String, usize)> = (0..60)
        .map(|i| {
            let split = if i < 36 {
                "train"
            } else if i < 48 {
                "val"
            } else {
                "test"
            };
            let label = ["effusion", "mass|effusion", "mass", "nodule|mass"][i % 4];
            (split, label.to_owned(), usize::from(label.contains("mass")))
        })
        .collect();
    table(&desk, "films", &rows);
    let data = format!("--dataset csv --root films/table.csv {SMALL} --no-controls");
    for (head, options) in
        [("mlknn", "--k 3,7 --smoothing 1,0.1"), ("knn", "--k 5"), ("logreg", "--c 1"), ("linear", "--epochs 3")]
    {
        for protocol in ["strict", "paper"] {
            let out = format!("{head}-{protocol}");
            desk.run(&format!("eval {head} {data} {options} --protocol {protocol} --out {out}"), &[], 0);
            let m = metrics(&desk, &out);
            for c in 0..3 {
                mean(&m, "test", &format!("auroc_class_{c}"));
            }
            assert!(m["convention"].as_str().unwrap().starts_with(protocol));
        }
    }
    binary(&desk, "classes", [12, 6, 6], ["a", "b"]);
    desk.run(&format!("eval mlknn --dataset csv --root classes/table.csv {SMALL} --k 3 --out no"), &[], 2).names(&[
        "ML-kNN",
        "multilabel",
        "class",
    ]);
}

#[test]
fn several_encoders_are_one_table() {
    let desk = Desk::new();
    binary(&desk, "xrays", [30, 16, 30], ["well", "sick"]);
    let weights = golden("backbone/hf_dinov2");
    let ids = ["untrained:tiny?seed=1", "untrained:tiny?seed=2", "untrained:tiny?seed=3"];
    let args = format!(
        "eval knn --dataset csv --root xrays/table.csv {SMALL} --k 5 --out four --backbone {} --backbone {} --backbone",
        ids[..2].join(","),
        ids[2]
    );
    let said = desk.run(&args, &[&weights], 0);
    let folders: Vec<String> =
        fs::read_dir(desk.path("four")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    for start in ["1-", "2-", "3-", "4-"] {
        let folder = folders.iter().find(|f| f.starts_with(start)).unwrap_or_else(|| panic!("{folders:?}"));
        let m = metrics(&desk, &format!("four/{folder}"));
        mean(&m, "test", "auroc");
        mean(&m, "test_untrained_encoder", "auroc");
        let compared: Value = serde_json::from_slice(&fs::read(desk.path("four/comparisons.json")).unwrap()).unwrap();
        let one = compared.get(folder);
        assert_eq!(one.is_some(), start != "1-");
        if let Some(one) = one {
            assert_eq!(one["method"], "DeLong");
            assert!((0.0..=1.0).contains(&one["p_value"].as_f64().unwrap()));
        }
    }
    for words in [ids[0], ids[1], ids[2], "hf_dinov2", "AUROC minus the first's"] {
        assert!(said.stdout.contains(words), "`{words}` is not in\n{}", said.stdout);
    }
    assert!(fs::read_to_string(desk.path("four/report.html")).unwrap().contains("All encoders"));
    desk.run("embed xrays --out store --backbone untrained:tiny,untrained:tiny?seed=2", &[], 2)
        .names(&["one --backbone"]);
}

#[test]
fn the_test_split_does_not_reach_the_search() {
    let desk = Desk::new();
    binary(&desk, "real", [36, 18, 20], ["well", "sick"]);
    // the same train and validation; another test split with other pictures and labels
    fs::create_dir(desk.path("other")).unwrap();
    let mut text = String::new();
    for line in fs::read_to_string(desk.path("real/table.csv")).unwrap().lines() {
        let name = line.split(',').next().unwrap();
        if line.ends_with("test") {
            let picture = image::GrayImage::from_fn(28, 28, |x, _| image::Luma([if x == 3 { 255 } else { 0 }]));
            picture.save(desk.path("other").join(name)).unwrap();
            text += &format!("{name},sick,test\n");
        } else {
            if name.ends_with("png") {
                fs::copy(desk.path("real").join(name), desk.path("other").join(name)).unwrap();
            }
            text += &format!("{line}\n");
        }
    }
    fs::write(desk.path("other/table.csv"), text).unwrap();
    for (head, options) in [("knn", "--k 1,5"), ("logreg", ""), ("linear", "--epochs 4 --blocks 1,2")] {
        for protocol in ["strict", "paper"] {
            let run = |data: &str| {
                let args = format!("eval {head} --dataset csv --root {data}/table.csv {SMALL} {options} --no-controls");
                let out = format!("{data}-{head}-{protocol}");
                desk.run(&format!("{args} --protocol {protocol} --out {out}"), &[], 0);
                let m = metrics(&desk, &out);
                let model = fs::read(desk.path(&out).join("model.safetensors")).ok();
                let val = fs::read(desk.path(&out).join("predictions-val.csv")).unwrap();
                (m["metrics"]["val"].clone(), m["setting"].clone(), m["model"].clone(), model, val, m)
            };
            let (real, other) = (run("real"), run("other"));
            assert!(real.5["metrics"]["test"] != other.5["metrics"]["test"]);
            assert_eq!((&real.0, &real.1, &real.2), (&other.0, &other.1, &other.2), "{head} {protocol}");
            assert!(real.3 == other.3 && real.4 == other.4, "{head} {protocol}");
            assert!(real.2.as_str().unwrap().len() == 64);
            // one class alone in test: no AUROC, and a word about it
            assert_eq!(other.5["metrics"]["test"]["auroc"]["mean"], Value::Null);
            assert!(other.5["notices"][0].as_str().unwrap().contains("well"), "{}", other.5["notices"]);
        }
    }
}

#[test]
fn what_cannot_be_judged_is_said() {
    let desk = Desk::new();
    let eval = |head: &str, data: &str, more: &str, code| {
        desk.run(
            &format!("eval {head} --dataset csv --root {data}/table.csv {SMALL} {more} --overwrite --out run"),
            &[],
            code,
        )
    };
    let rows = |spec: &[(&'static str, &str, usize)]| -> Vec<(&'static str, String, usize)> {
        spec.iter().flat_map(|(split, label, n)| (0..*n).map(|i| (*split, (*label).to_owned(), i % 2))).collect()
    };
    table(
        &desk,
        "one",
        &rows(&[("train", "a", 12), ("val", "a", 3), ("val", "b", 3), ("test", "a", 3), ("test", "b", 3)]),
    );
    eval("logreg", "one", "", 2).names(&["all 12 training cases", "class `a`"]);
    eval("knn", "one", "--k 1", 2).names(&["all 12 training cases", "class `a`"]);
    table(&desk, "empty", &rows(&[("train", "a", 6), ("train", "b", 6), ("val", "a", 3), ("val", "b", 3)]));
    eval("knn", "empty", "--k 1", 2).names(&["test"]);
    table(&desk, "noval", &rows(&[("train", "a", 6), ("train", "b", 6), ("test", "a", 3), ("test", "b", 3)]));
    eval("linear", "noval", "--epochs 2", 2).names(&["validation split", "16 settings"]);
    eval("linear", "noval", "--epochs 2 --lr 0.01 --blocks 1 --avgpool with --no-controls", 0);
    binary(&desk, "xrays", [12, 6, 6], ["a", "b"]);
    eval("knn", "xrays", "--k 5,13", 2).names(&["k = 13", "12"]);
    eval("linear", "xrays", "--blocks 1,9", 2).names(&["9"]);
    eval("knn", "xrays", "--aggregate attention", 2).names(&["--aggregate attention", "single images"]);
    eval("knn", "xrays", "--aggregate median", 2).names(&["median", "attention"]);
    eval("knn", "xrays", "--shift fog", 2).names(&["fog", "noise"]);
    eval("knn", "xrays", "--refit both", 2).names(&["--refit"]);
    eval("knn", "xrays", "--fraction 2", 2).names(&["--fraction 2"]);
    eval("linear", "xrays", "--init gone.npz", 2).names(&["gone.npz"]);
    desk.run("eval knn --out run", &[], 2).names(&["--dataset"]);

    // an encoder that gives NaN: no case has features, and no score comes out
    let source = golden("backbone/hf_dinov2");
    fs::create_dir(desk.path("nan")).unwrap();
    fs::copy(source.join("config.json"), desk.path("nan/config.json")).unwrap();
    let mut weights = fs::read(source.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    weights[8 + header..].chunks_exact_mut(4).for_each(|v| v.copy_from_slice(&f32::NAN.to_le_bytes()));
    fs::write(desk.path("nan/model.safetensors"), weights).unwrap();
    eval("knn", "xrays", "--k 1 --backbone nan", 2).names(&["train split", "not finite"]);
    // few shots: neighbours beyond the draw are cut, and that is said
    let said = eval("knn", "xrays", "--k 5 --shots 1,7 --tries 1 --no-controls", 0);
    assert!(said.stdout.contains("k = 5 became 2") && said.stdout.contains("a: 7 shots asked for"), "{}", said.stdout);
}

#[test]
fn nobody_waits_for_the_encoder_to_hear_of_a_mistake() {
    let desk = Desk::new();
    binary(&desk, "xrays", [12, 6, 6], ["a", "b"]);
    let eval = |head: &str, more: &str| {
        let said =
            desk.run(&format!("eval {head} --dataset csv --root xrays/table.csv {SMALL} {more} --out run"), &[], 2);
        assert!(!desk.path("features").exists(), "{head} {more} encoded something: {}", said.stderr);
        assert!(!desk.path("run").exists(), "{head} {more} left a folder");
        said
    };
    eval("knn", "--k 5,13,40").names(&["k = 13, 40", "12 training cases", "at most 12"]);
    eval("mlknn", "").names(&["ML-kNN", "eval knn"]);
    eval("knn", "--k 1 --std 1,0,1 --mean 0,0,0").names(&["--std", "above 0"]);
    eval("knn", "--k 1 --tries 0").names(&["--tries"]);
    eval("linear", "--iterations 0").names(&["--iterations"]);
    eval("linear", "--momentum 1").names(&["--momentum", "below 1"]);
    eval("linear", "--init gone.npz").names(&["--init", "gone.npz"]);
    fs::write(desk.path("cut.npz"), b"PK\x03\x04").unwrap();
    eval("linear", "--init cut.npz").names(&["--init", "cut.npz"]);
    eval("linear", "--blocks 9").names(&["untrained:tiny", "9 blocks", "--blocks", "every encoder takes 1"]);
    // the second of two encoders, too
    eval("knn", "--k 1 --backbone untrained,./gone").names(&["./gone"]);
    let resnet = golden("backbone/d4r_resnet/weights.pth");
    let two = format!("--epochs 1 --backbone untrained,{}", resnet.display());
    eval("linear", &two).names(&["no patch tokens", "tokens.blocks", "every encoder takes 1"]);
    eval("knn", "--k 1 --backbone dinov2-smal").names(&["did you mean `dinov2-small`?"]);
    eval("knn", "--k 1 --backbone untrained:dinov2-smal?seed=2").names(&["did you mean `untrained:dinov2-small`?"]);

    // a patient on both sides would make every score too good
    let text = fs::read_to_string(desk.path("xrays/table.csv")).unwrap();
    let patients = text.lines().enumerate().map(|(i, line)| match i {
        0 => format!("{line},patient\n"),
        _ => format!("{line},MRN-{}\n", i % 20),
    });
    fs::write(desk.path("xrays/table.csv"), patients.collect::<String>()).unwrap();
    let said = eval("knn", "--k 1");
    said.names(&["4 patients are both in train and test", "dinorad splits"]);
    assert!(!said.all().contains("MRN-"));
    desk.run("splits csv xrays/table.csv --shares 0.5,0.25,0.25 --out parts.csv", &[], 0);
    let apart =
        format!("eval knn --dataset csv --root xrays/table.csv {SMALL} --no-controls --splits parts.csv --out run");
    desk.run(&format!("{apart} --k 1"), &[], 0);
}

#[test]
fn the_usual_neighbours_fit_the_training_cases() {
    let desk = Desk::new();
    binary(&desk, "xrays", [12, 6, 6], ["a", "b"]);
    let run = format!("eval knn --dataset csv --root xrays/table.csv {SMALL} --no-controls --out run");
    desk.run(&run, &[], 0).names(&["k = 20, 50, 100, 200 became 12: 12 training cases"]);
    assert!(desk.path("run/predictions-k12.csv").is_file() && desk.path("run/predictions-k5.csv").is_file());

    // another run in the same folder: nothing of the first one stays but the log
    fs::write(desk.path("run/notes.txt"), "mine").unwrap();
    desk.run(&format!("{run} --k 3"), &[], 2).names(&["another experiment", "--overwrite"]);
    desk.run(&format!("{run} --k 3 --overwrite"), &[], 0);
    let left = files(&desk.path("run").join("plots"));
    assert!(!left.is_empty() && !left.contains_key("auroc-by-k.svg"), "one k makes no curve");
    let names: Vec<_> = fs::read_dir(desk.path("run")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let predictions = names.iter().filter(|n| n.to_string_lossy().starts_with("predictions-k")).count();
    assert_eq!(predictions, 1, "{names:?}");
    assert!(desk.path("run/notes.txt").is_file());
    assert_eq!(fs::read_to_string(desk.path("run/log.jsonl")).unwrap().lines().count(), 2);
}

#[test]
fn scales_and_doubts_reach_the_run_and_its_report() {
    let desk = Desk::new();
    let folder = desk.path("scans");
    fs::create_dir(&folder).unwrap();
    let mut table = "path,label,split\n".to_owned();
    for (n, split) in ["train", "train", "train", "train", "val", "val", "test", "test"].into_iter().enumerate() {
        let mut bytes = nifti([14, 14, 4], [1.0, 1.0, 3.0], "scan");
        // as HU: ten times what is stored, less 1100, and a voxel of its own for each scan
        bytes[112..116].copy_from_slice(&10f32.to_le_bytes());
        bytes[116..120].copy_from_slice(&(-1100f32).to_le_bytes());
        bytes[352] = n as u8;
        fs::write(folder.join(format!("{n}.nii")), bytes).unwrap();
        table += &format!("{n}.nii,{},{split}\n", ["ill", "well"][n % 2]);
    }
    fs::write(folder.join("table.csv"), table).unwrap();
    let run = format!("eval knn --dataset csv --root scans/table.csv {SMALL} --no-controls --k 1");
    let guessed = "no modality is told, values below -500 were taken for HU (8 cases, among them 0.nii, 1.nii, 2.nii)";
    desk.run(&format!("{run} --out auto"), &[], 0).names(&[&format!("note: {guessed}")]);
    let notices = metrics(&desk, "auto")["notices"].to_string();
    assert!(notices.contains(guessed), "{notices}");
    let read = |path: &str| fs::read_to_string(desk.path(path)).unwrap();
    assert!(read("auto/report.html").contains(guessed));
    assert!(read("auto/config.toml").contains("intensity = \"auto\""));
    // features that are found say it again, and other scales have features of their own
    desk.run(&format!("{run} --out again"), &[], 0).names(&[guessed]);
    let plain = desk.run(&format!("{run} --out plain --intensity none"), &[], 0);
    assert!(!plain.all().contains("taken for HU") && plain.stdout.contains("32 images encoded"), "{}", plain.all());
    let paper = format!("{run} --out paper --protocol paper");
    desk.run(&paper, &[], 0);
    assert!(read("paper/config.toml").contains("intensity = \"none\""));
    desk.run(&format!("{run} --out wrong --intensity lungs"), &[], 2).names(&["--intensity", "`lungs`"]);
}

#[test]
fn folds_judge_every_case_once() {
    let desk = Desk::new();
    binary(&desk, "xrays", [24, 8, 8], ["ill", "well"]);
    // three pictures of each patient; the parts of the table no longer count
    let text = fs::read_to_string(desk.path("xrays/table.csv")).unwrap();
    let with_patients = text.lines().enumerate().map(|(i, line)| {
        let fields: Vec<&str> = line.split(',').collect();
        match i {
            0 => "file,finding,who\n".to_owned(),
            _ => format!("{},{},p{}\n", fields[0], fields[1], (i - 1) / 3),
        }
    });
    assert!(text.starts_with("path,label"), "{text}");
    fs::write(desk.path("xrays/table.csv"), with_patients.collect::<String>()).unwrap();
    let run = format!("eval knn --dataset csv --root xrays/table.csv {SMALL} --no-controls --k 3 --out cv");
    let columns = "--path-column file --label-column finding --patient-column who";
    desk.run(&format!("{run} --folds 4"), &[], 2).names(&["column `path` is missing", "--path-column file"]);
    let said = desk.run(&format!("{run} {columns} --folds 4 --repeats 2"), &[], 0);
    let scores: Value = serde_json::from_str(&fs::read_to_string(desk.path("cv/folds.json")).unwrap()).unwrap();
    assert_eq!((scores["folds"].as_u64(), scores["repeats"].as_u64()), (Some(4), Some(2)));
    let accuracy = &scores["metrics"]["accuracy"];
    let values: Vec<f64> = accuracy["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(values.len(), 8);
    // the numbers are those of the runs
    for (n, value) in values.iter().enumerate() {
        let path = format!("cv/repeat-{}-fold-{}/metrics.json", n / 4 + 1, n % 4 + 1);
        let of_run: Value = serde_json::from_str(&fs::read_to_string(desk.path(&path)).unwrap()).unwrap();
        assert_eq!(of_run["metrics"]["test"]["accuracy"]["mean"].as_f64(), Some(*value), "{path}");
    }
    let mean = values.iter().sum::<f64>() / 8.0;
    assert!((accuracy["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!(accuracy["ci95"][0].as_f64().unwrap() <= mean && mean <= accuracy["ci95"][1].as_f64().unwrap());
    // train 2 of 4 folds: one test case for two that were learned from
    assert_eq!(scores["test_to_train"].as_f64(), Some(0.5));
    assert!(said.stdout.contains("accuracy") && said.stdout.contains(&format!("{mean:.3}")), "{}", said.stdout);
    // every case was judged once in each repeat, no patient in two parts of a fold
    for repeat in 1..=2 {
        let mut tested = Vec::new();
        for fold in 1..=4 {
            let parts = fs::read_to_string(desk.path(format!("cv/folds/repeat-{repeat}-fold-{fold}.csv"))).unwrap();
            let mut part_of: BTreeMap<String, String> = BTreeMap::new();
            for line in parts.lines().skip(1) {
                let fields: Vec<&str> = line.split(',').collect();
                let patient = fields[2].to_owned();
                let before = part_of.insert(patient, fields[1].to_owned());
                assert!(before.is_none_or(|before| before == fields[1]), "{line}");
                if fields[1] == "test" {
                    tested.push(fields[0].to_owned());
                }
            }
        }
        tested.sort();
        let n = tested.len();
        tested.dedup();
        assert_eq!((tested.len(), n), (40, 40));
    }
    // scores by their names for people, in the order of every other table
    let table: Vec<&str> = said.stdout.lines().filter_map(|line| line.split("  ").next()).collect();
    let place =
        |name: &str| table.iter().position(|cell| cell.trim() == name).unwrap_or_else(|| panic!("{name}: {table:?}"));
    assert!(place("AUROC") < place("accuracy") && place("accuracy") < place("balanced accuracy"), "{table:?}");
    // a folder of folds is no run, and says what is
    desk.run("predict --run cv xrays", &[], 2)
        .names(&["cv is no run", "the 8 runs in it are repeat-1-fold-1 to repeat-2-fold-4"]);
    let page = fs::read_to_string(desk.path("cv/report.html")).unwrap();
    assert!(page.contains("Cross-validation") && page.contains("Nadeau"));
    // other names of cases under pseudonyms: no table of parts is kept
    let hidden = format!("{run}-hidden {columns} --folds 3 --pseudonyms");
    desk.run_in(&hidden, &[], 0, &[("DINORAD_SALT", "a salt of our own")]);
    assert!(!desk.path("cv-hidden/folds").exists());
    // what cannot run leaves nothing behind
    let gone = format!("{run}-gone {columns}");
    desk.run(&format!("{gone} --folds 2"), &[], 2).names(&["3 or more"]);
    desk.run(&format!("{gone} --folds 4 --backbone ./gone.safetensors"), &[], 2).names(&["./gone.safetensors"]);
    desk.run(&format!("{gone} --folds 90"), &[], 2).names(&["90 of 14 patients"]);
    assert!(!desk.path("cv-gone").exists());
    desk.run("eval knn --dataset csv --root none.csv --folds 4 --out none", &[], 2)
        .names(&["none.csv: the table does not exist"]);
}

#[test]
fn what_lacks_cases_or_changes_them_is_told_in_words() {
    let desk = Desk::new();
    binary(&desk, "xrays", [24, 8, 8], ["ill", "well"]);
    let data = format!("--root xrays/table.csv --dataset csv {SMALL} --no-controls");
    desk.run(&format!("eval knn {data} --k 3 --shots 2,99 --tries 1 --out a"), &[], 0);
    let told = metrics(&desk, "a")["curves"]["shots"][1]["notices"].to_string();
    assert!(told.contains("ill: 99 shots asked for, 12 available"), "{told}");
    // other parts of the same pictures: no case of a set is where it was
    let text = fs::read_to_string(desk.path("xrays/table.csv")).unwrap();
    let text = text.replace(",val", ",was-val").replace(",test", ",val").replace(",was-val", ",test");
    fs::write(desk.path("xrays/table.csv"), text).unwrap();
    let said = desk.run(&format!("eval knn {data} --k 3 --out b"), &[], 0);
    said.names(&["the list of set `csv-val` in the feature store named other cases before", "nothing is to be done"]);
    assert!(said.stdout.contains("0 images encoded"), "{}", said.stdout);
}

#[test]
fn data_sets_that_share_labels_judge_each_other() {
    let desk = Desk::new();
    binary(&desk, "here", [30, 16, 20], ["Normal", "Pneumonia"]);
    let rows: Vec<(&str, String, usize)> = (0..36)
        .map(|i| ("test", ["pneumonia", "no finding", "Fracture"][i % 3].to_owned(), usize::from(i % 3 == 0)))
        .chain([("train", "Fracture".to_owned(), 0), ("train", "pneumonia".to_owned(), 0)])
        .collect();
    table(&desk, "there", &rows);
    let eval =
        format!("eval logreg --train csv:root=here/table.csv --test csv:root=there/table.csv {SMALL} --c 1 --out run");
    desk.run(&eval, &[], 2).names(&["`Pneumonia` (training) and `pneumonia` (test)", "--fold-labels"]);
    let said = desk.run(&format!("{eval} --fold-labels"), &[], 0);
    said.names(&["only in the test data set", "Fracture"]);
    let m = metrics(&desk, "run");
    let passed_over = m["not_judged"].as_array().unwrap();
    assert_eq!((passed_over.len(), m["cases"]["test"]["n"].as_u64()), (12, Some(24)), "{passed_over:?}");
    assert!(passed_over[0]["reason"].as_str().unwrap().contains("Fracture"));
    said.names(&["12 cases are not judged", "Fracture"]);
    // 12 fractures are of neither class
    assert_eq!(fs::read_to_string(desk.path("run/predictions.csv")).unwrap().lines().count(), 25);
    assert!(mean(&m, "test", "auroc") > 0.8 && mean(&m, "test_own_data_set", "auroc") > 0.8, "{m}");
    assert!(said.stdout.contains("training"), "the test split of the training data set");

    table(&desk, "bones", &[("train", "ulna".into(), 0), ("test", "ulna".into(), 0), ("test", "radius".into(), 1)]);
    let nothing = format!("eval knn --train csv:root=here/table.csv --test csv:root=bones/table.csv {SMALL} --out no");
    desk.run(&nothing, &[], 2).names(&["no label is shared", "Normal, Pneumonia", "radius", "ulna"]);
    desk.run(&format!("eval knn --train csv {SMALL} --out no"), &[], 2).names(&["csv:root=PATH"]);
    let both = format!("eval knn --train csv:root=here/table.csv --dataset csv --root here/table.csv {SMALL} --out no");
    desk.run(&both, &[], 2).names(&["--train stands for"]);
}

#[test]
fn augmented_views_are_encoded_and_repeat() {
    let desk = Desk::new();
    binary(&desk, "xrays", [16, 8, 12], ["well", "sick"]);
    let args = format!(
        "eval linear --augment --dataset csv --root xrays/table.csv {SMALL} --lr 0.05 --blocks 1 --avgpool with \
         --epochs 3 --batch-size 8 --protocol paper"
    );
    desk.run(&format!("{args} --out one --control-seeds 1"), &[], 0);
    desk.run(&format!("{args} --out two --control-seeds 1"), &[], 0);
    assert_eq!(metrics(&desk, "one"), metrics(&desk, "two"));
    desk.run(&format!("{} --out plain --no-controls", args.replace("--augment ", "")), &[], 0);
    assert_ne!(metrics(&desk, "one")["model"], metrics(&desk, "plain")["model"]);
}

#[test]
fn scans_are_pooled_in_every_way() {
    let desk = Desk::new();
    fs::create_dir(desk.path("scans")).unwrap();
    let mut text = String::from("path,label,split\n");
    for i in 0..28_usize {
        let split = if i < 16 {
            "train"
        } else if i < 22 {
            "val"
        } else {
            "test"
        };
        let mut bytes = nifti([14, 14, 4], [1.0, 1.0, 3.0], "scan");
        // one slice tells
        for (at, v) in bytes[352..].iter_mut().enumerate() {
            let (slice, row, column) = (at / 196, at / 14 % 14, at % 14);
            let stripe = if i % 2 == 1 { column / 2 % 2 } else { row / 2 % 2 };
            *v = if slice == 2 { stripe as u8 * 200 } else { v.wrapping_mul(3 + i as u8) };
        }
        fs::write(desk.path("scans").join(format!("scan-{i:02}.nii")), bytes).unwrap();
        text += &format!("scan-{i:02}.nii,{},{split}\n", ["well", "sick"][i % 2]);
    }
    fs::write(desk.path("scans/table.csv"), text).unwrap();
    let data = format!("--dataset csv --root scans/table.csv {SMALL} --no-controls");
    let mut seen = Vec::new();
    for how in ["mean", "max", "top-k", "top-2", "attention"] {
        let args = format!("eval logreg {data} --c 1 --aggregate {how} --attention-epochs 10 --shots 4 --tries 1");
        desk.run(&format!("{args} --out {how}"), &[], 0);
        let m = metrics(&desk, how);
        mean(&m, "test", "accuracy");
        seen.push(m["model"].clone());
    }
    seen.sort_by_key(Value::to_string);
    seen.dedup();
    assert!(seen.len() >= 4, "{seen:?}");
    desk.run(&format!("eval linear {data} --augment --aggregate max --out no"), &[], 2)
        .names(&["augmented views", "mean"]);
}

#[test]
fn features_are_exported_with_their_labels() {
    let desk = Desk::new();
    binary(&desk, "xrays", [10, 4, 6], ["well", "sick"]);
    desk.run(
        &format!("eval logreg --dataset csv --root xrays/table.csv {SMALL} --c 1 --avgpool --no-controls --out run"),
        &[],
        0,
    );
    // one encoder, one preprocessing: one store, with a set for each part
    let store = desk.store("features");
    let train = format!("features/{} --set csv-train", store.file_name().unwrap().to_string_lossy());
    desk.run("export features --set csv-other --out no.parquet", &[], 2).names(&["csv-other", "csv-train", "csv-val"]);
    let said = desk.run("export features --out all.csv --format csv", &[], 0);
    assert!(said.stdout.contains("20 rows"), "{}", said.stdout);
    let labels = "--labels csv:root=xrays/table.csv";
    let said = desk.run(&format!("export {train} {labels} --format csv --out t/features.csv"), &[], 0);
    assert!(said.stdout.contains("10 rows"), "{}", said.stdout);
    let text = fs::read_to_string(desk.path("t/features.csv")).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(head[..4], ["id", "split", "label", "avgpool_0"]);
    assert_eq!(head.len(), 3 + 2 * 192);
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split(',').collect()).collect();
    assert_eq!(rows.len(), 10);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row[0], format!("image-{i:03}.png"));
        // classes are sorted by name: sick 0, well 1
        assert_eq!((row[1], row[2]), ("train", if i % 2 == 0 { "1" } else { "0" }));
        assert!(row[3..].iter().all(|v| v.parse::<f32>().unwrap().is_finite()));
    }

    desk.run(&format!("export {train} {labels} --format npy --out arrays"), &[], 0);
    let arrays = files(&desk.path("arrays"));
    assert_eq!(arrays.keys().collect::<Vec<_>>(), ["avgpool.npy", "cls.npy", "ids.json", "labels.npy"]);
    let cls = &arrays["cls.npy"];
    assert!(cls.starts_with(b"\x93NUMPY\x01\x00") && cls.len() == 128 + 10 * 192 * 4);
    assert!(String::from_utf8_lossy(&cls[10..128]).contains("'shape': (10, 192)"));
    let first = f32::from_le_bytes(cls[128..132].try_into().unwrap());
    assert_eq!(first.to_bits(), rows[0][3 + 192].parse::<f32>().unwrap().to_bits());

    desk.run(&format!("export {train} {labels} --out table.parquet"), &[], 0);
    let parquet = fs::read(desk.path("table.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    desk.run(&format!("export {train} --per-shard --format parquet --features cls --out parts"), &[], 0);
    assert_eq!(files(&desk.path("parts")).keys().collect::<Vec<_>>(), ["part-00000.parquet"]);
    desk.run(&format!("export {train} --features nothing --out no.parquet"), &[], 2).names(&["nothing", "cls"]);
    desk.run(&format!("export {train} --format xml --out no"), &[], 2).names(&["xml", "parquet"]);
    desk.run("export xrays --out no.parquet", &[], 2).names(&["no finished feature store"]);
    assert!(!Path::new(&desk.path("no.parquet")).exists());
}
