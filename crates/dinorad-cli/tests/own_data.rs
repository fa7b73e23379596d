//! What a person does with data of their own: the model of a run on new files, features of other programs, series
//! named by a table.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{Desk, SMALL, binary, dicom, mean, metrics, nifti, table};
use serde_json::Value;

/// The bytes of every case's probabilities, by id.
fn probabilities(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let places: Vec<usize> = (0..head.len()).filter(|i| head[*i].starts_with("p_")).collect();
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[0].to_owned(), places.iter().map(|i| cells[*i].to_owned()).collect())
        })
        .collect()
}

#[test]
fn a_model_says_of_files_what_its_run_said() {
    let desk = Desk::new();
    binary(&desk, "xrays", [24, 12, 16], ["well", "sick"]);
    let test: Vec<String> = fs::read_to_string(desk.path("xrays/table.csv"))
        .unwrap()
        .lines()
        .filter(|line| line.ends_with(",test"))
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect();
    let paths: Vec<_> = test.iter().map(|name| desk.path("xrays").join(name)).collect();
    let paths: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
    for (head, options) in [
        ("knn", "--k 1,5 --keep-model"),
        ("logreg", "--c 0.01,1 --blocks 2 --avgpool --protocol paper"),
        ("linear", "--lr 0.01,0.1 --blocks 1,2 --epochs 3 --batch-size 8"),
    ] {
        let data = format!("--dataset csv --root xrays/table.csv {SMALL} --no-controls");
        desk.run(&format!("eval {head} {data} {options} --out {head}"), &[], 0);
        let of_run = fs::read_to_string(desk.path(head).join("predictions.csv")).unwrap();
        assert!(of_run.starts_with("sample_id,target,p_0,p_1,target_name\n"), "{of_run}");
        assert!(of_run.lines().nth(1).unwrap().ends_with(",well") || of_run.lines().nth(1).unwrap().ends_with(",sick"));
        // the band of the curve stands on as many draws as every interval
        let page = fs::read_to_string(desk.path(head).join("report.html")).unwrap();
        assert!(page.contains("95 % of 30 bootstrap resamples"), "{head}");
        // the whole file, truths included
        desk.run(&format!("predict --run {head} --part test --out {head}.csv"), &[], 0);
        assert_eq!(fs::read_to_string(desk.path(format!("{head}.csv"))).unwrap(), of_run, "{head}");
        // files, from nothing: no feature of them is in a store
        let said = desk.run(&format!("predict --run {head}"), &paths, 0);
        let (got, expected) = (probabilities(&said.stdout), probabilities(&of_run));
        assert_eq!(got.len(), 16);
        assert_eq!(got, expected, "{head}");
        assert!(said.stdout.lines().skip(1).all(|line| line.split(',').nth(1) == Some("")), "no truth is known");
        let json = desk.run(&format!("predict --run {head} --json"), &paths[..2], 0).json();
        let first = &json["predictions"][0];
        assert_eq!(first["sample_id"].as_str(), Some(test[0].as_str()));
        let named = first["probabilities"]["well"].as_f64().unwrap() as f32;
        assert_eq!(json["classes"].as_array().unwrap().len(), 2);
        let at = json["classes"].as_array().unwrap().iter().position(|c| c == "well").unwrap();
        assert_eq!(named, expected[&test[0]][at].parse::<f32>().unwrap());
    }
    // one broken file is told, the others are done
    fs::create_dir(desk.path("mixed")).unwrap();
    fs::copy(paths[0], desk.path("mixed/a.png")).unwrap();
    fs::write(desk.path("mixed/b.png"), &fs::read(paths[1]).unwrap()[..60]).unwrap();
    fs::copy(paths[2], desk.path("mixed/c.png")).unwrap();
    let said = desk.run("predict --run logreg mixed --out new.json", &[], 1);
    said.names(&["failed: b.png", "1 item failed"]);
    let new: Value = serde_json::from_slice(&fs::read(desk.path("new.json")).unwrap()).unwrap();
    assert_eq!(new["predictions"].as_array().unwrap().len(), 2);
    assert_eq!(new["failures"][0]["id"], "b.png");
    // what keeps no model says what helps, and an encoder that has changed is found out
    desk.run(&format!("eval knn --dataset csv --root xrays/table.csv {SMALL} --k 3 --no-controls --out bare"), &[], 0);
    desk.run("predict --run bare mixed", &[], 2).names(&["kNN", "--keep-model"]);
    desk.run("predict --run nowhere mixed", &[], 2);
    let config = desk.path("logreg/config.toml");
    let other = fs::read_to_string(&config).unwrap().replace("\"untrained\"", "\"untrained?seed=7\"");
    fs::write(&config, other).unwrap();
    desk.run("predict --run logreg mixed", &[], 2).names(&["weights"]);
}

#[test]
fn models_of_findings_and_of_scans_are_kept_too() {
    let desk = Desk::new();
    let labels = ["effusion", "mass|effusion", "mass", "nodule|mass"];
    let split = |i: usize| {
        if i < 24 {
            "train"
        } else if i < 32 {
            "val"
        } else {
            "test"
        }
    };
    let rows: Vec<_> = (0..40).map(|i| (split(i), labels[i % 4].to_owned(), i / 2 % 2)).collect();
    table(&desk, "films", &rows);
    let data = format!("--dataset csv --root films/table.csv {SMALL} --no-controls");
    for (head, options) in [
        ("mlknn", "--k 3,7 --keep-model"),
        ("knn", "--k 5 --keep-model"),
        ("logreg", "--c 1"),
        ("linear", "--lr 0.1 --blocks 1 --epochs 3 --batch-size 8"),
    ] {
        let out = format!("films-{head}");
        desk.run(&format!("eval {head} {data} {options} --out {out}"), &[], 0);
        desk.run(&format!("predict --run {out} --part test --out {out}.csv"), &[], 0);
        let of_run = fs::read_to_string(desk.path(&out).join("predictions.csv")).unwrap();
        assert!(of_run.contains(",mass|nodule\n"), "{of_run}");
        assert_eq!(fs::read_to_string(desk.path(format!("{out}.csv"))).unwrap(), of_run, "{head}");
    }
    // scans: their slices pooled as in the run, also by an attention that was learned
    series(&desk, "scans", 24);
    series_table(&desk, "scans", "SeriesInstanceUID", 24);
    volumes(&desk, "volumes", 24);
    let linear = "--lr 0.1 --blocks 1 --epochs 3 --batch-size 8";
    for (data, head, how, more) in [
        ("scans", "logreg", "mean", "--c 1"),
        ("scans", "logreg", "top-2", "--c 1"),
        ("scans", "logreg", "attention", "--c 1 --attention-epochs 3"),
        ("scans", "linear", "max", linear),
        ("volumes", "logreg", "attention", "--c 1 --attention-epochs 3"),
        ("volumes", "knn", "mean", "--k 3 --keep-model"),
        ("volumes", "knn", "attention", "--k 3 --keep-model --attention-epochs 3"),
        ("volumes", "linear", "mean", linear),
    ] {
        let out = format!("{data}-{head}-{how}");
        let args = format!("--dataset csv --root {data} {SMALL} --no-controls --aggregate {how} {more}");
        desk.run(&format!("eval {head} {args} --out {out}"), &[], 0);
        let of_run = probabilities(&fs::read_to_string(desk.path(&out).join("predictions.csv")).unwrap());
        assert!(of_run.len() >= 4, "{out}");
        if data == "volumes" {
            // those of the test part alone: the last bit of a kNN's similarity depends on what is asked with it
            let files: Vec<_> = of_run.keys().map(|id| desk.path(data).join(id)).collect();
            let files: Vec<&Path> = files.iter().map(|path| path.as_path()).collect();
            assert_eq!(probabilities(&desk.run(&format!("predict --run {out}"), &files, 0).stdout), of_run, "{out}");
            continue;
        }
        // the table of labels is no image
        let all = probabilities(&desk.run(&format!("predict --run {out} {data}"), &[], 1).stdout);
        assert_eq!(all.len(), 24, "{out}");
        for (id, p) in of_run {
            assert_eq!(all[&id], p, "{out} {id}");
        }
    }
}

/// `n` volumes in NIfTI of four slices with a table of their labels.
fn volumes(desk: &Desk, root: &str, n: usize) {
    fs::create_dir(desk.path(root)).unwrap();
    let mut text = String::from("path,label,split\n");
    for i in 0..n {
        let mut bytes = nifti([14, 14, 4], [1.0, 1.0, 3.0], "scan");
        for (at, v) in bytes[352..].iter_mut().enumerate() {
            let stripe = if i % 2 == 1 { at % 14 / 2 % 2 } else { at / 14 % 14 / 2 % 2 };
            *v = if at / 196 == 2 { stripe as u8 * 200 } else { v.wrapping_mul(3 + i as u8) };
        }
        fs::write(desk.path(root).join(format!("scan-{i:02}.nii")), bytes).unwrap();
        let split = ["train", "train", "val", "test"][i / 2 % 4];
        text += &format!("scan-{i:02}.nii,{},{split}\n", ["well", "sick"][i % 2]);
    }
    fs::write(desk.path(root).join("labels.csv"), text).unwrap();
}

/// `n` series of three slices, two of every patient, in folders that do not name them.
fn series(desk: &Desk, root: &str, n: usize) {
    for i in 0..n {
        let folder = desk.path(root).join(format!("disc/{i:02}"));
        fs::create_dir_all(&folder).unwrap();
        for slice in 0..3 {
            let patient = format!("CANARY-{:03}", i / 2);
            let bytes = dicom(&patient, &format!("{}", 700 + i), slice, i / 2 % 2 == 1);
            fs::write(folder.join(format!("{slice}.dcm")), bytes).unwrap();
        }
    }
}

/// The table of their labels, by the header that is named.
fn series_table(desk: &Desk, root: &str, by: &str, n: usize) {
    let mut text = format!("{by};Finding;split\n");
    for i in 0..n {
        let split = ["train", "train", "val", "test"][i / 2 % 4];
        let split = if i / 2 >= n / 2 - 2 { "test" } else { split };
        let label = ["well", "sick"][i / 2 % 2];
        match by {
            "PatientID" if i % 2 == 1 => {}
            "PatientID" => text += &format!("CANARY-{:03};{label};{split}\n", i / 2),
            _ => text += &format!("1.2.9.{};{label};{split}\n", 700 + i),
        }
    }
    fs::write(desk.path(root).join("labels.csv"), text.replace("Finding", "label")).unwrap();
}

#[test]
fn series_are_named_by_a_table_of_patients_or_uids() {
    let desk = Desk::new();
    series(&desk, "scans", 16);
    let mut scores = Vec::new();
    for by in ["SeriesInstanceUID", "PatientID"] {
        series_table(&desk, "scans", by, 16);
        let doctor = desk.run("doctor --dataset csv --root scans", &[], 0);
        let args = format!("eval knn --dataset csv --root scans {SMALL} --k 1 --no-controls --out {by}");
        let said = desk.run(&args, &[], 0);
        let m = metrics(&desk, by);
        scores.push((mean(&m, "test", "auroc"), m["cases"].clone()));
        // nothing of a patient leaves: not on the screen, not in any file of the run, not in the store
        let mut told = format!("{}{}", doctor.all(), said.all()).into_bytes();
        for folder in [desk.path(by), desk.store("features")] {
            files_below(&folder, &mut told);
        }
        for canary in ["CANARY", "1.2.9.7"] {
            let found = told.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{by}: {canary} was told");
        }
        // patients are drawn whole: two series of each
        let cases = fs::read_to_string(desk.path(by).join("cases.csv")).unwrap();
        assert!(cases.contains("disc/06,test,1\ndisc/07,test,1\ndisc/12,test,2\ndisc/13,test,2\n"), "{cases}");
    }
    assert_eq!(scores[0], scores[1], "the same join by either column");
    assert_eq!(scores[0].0, 1.0);
    // lines and series without each other are counted, contradictions are in no score
    let labels = desk.path("scans/labels.csv");
    let text = fs::read_to_string(&labels).unwrap();
    let text = text.replace("CANARY-000;", "CANARY-900;") + "CANARY-003;well;train\n";
    fs::write(&labels, text).unwrap();
    let said = desk.run(&format!("eval knn --dataset csv --root scans {SMALL} --k 1 --no-controls --out odd"), &[], 1);
    let report = fs::read_to_string(desk.path("odd/report.html")).unwrap();
    assert!(report.contains("DICOM series have no line in the table"), "{}", said.all());
    assert!(report.contains("names no DICOM series"));
    said.names(&["the same PatientID as line"]);
    assert!(!said.all().contains("CANARY") && !report.contains("CANARY"));
    // nothing that fits is one error with a way on
    fs::write(&labels, "PatientID,label\nCANARY-1,a\nCANARY-2,b\n").unwrap();
    let said = desk.run(&format!("eval knn --dataset csv --root scans {SMALL} --k 1 --out none"), &[], 2);
    said.names(&["none of the 16 DICOM series", "PatientID", "leading zeros"]);
    assert!(!said.all().contains("CANARY"));
}

fn files_below(folder: &Path, out: &mut Vec<u8>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, out) } else { out.extend(fs::read(path).unwrap()) }
    }
}

#[test]
fn features_that_are_there_are_judged_as_those_of_the_store() {
    let desk = Desk::new();
    binary(&desk, "xrays", [24, 12, 16], ["well", "sick"]);
    let rest = "--bootstrap 30 --c 0.1,1 --control-seeds 1";
    desk.run(
        &format!("eval logreg --dataset csv --root xrays/table.csv {SMALL} --c 0.1,1 --control-seeds 1 --out store"),
        &[],
        0,
    );
    let expected = metrics(&desk, "store");
    let table_text = fs::read_to_string(desk.path("xrays/table.csv")).unwrap();
    fs::write(desk.path("labels.csv"), table_text.replace("path,", "id,")).unwrap();
    let alone = "--image-size 28 --bootstrap 30 --features alone --c 1 --no-controls --out alone-run";
    desk.run(&format!("eval logreg --dataset csv --root xrays/table.csv {alone}"), &[], 0);
    let store = desk.store("alone");
    for (form, out) in [("parquet", "f.parquet"), ("csv", "f.csv"), ("npy", "f-npy")] {
        desk.run(&format!("export --format {form} --out {out}"), &[&store], 0);
        let said = desk.run(&format!("eval logreg --embeddings {out} --labels labels.csv {rest} --out {form}"), &[], 0);
        let m = metrics(&desk, form);
        for part in ["val", "test", "test_shuffled_labels"] {
            assert_eq!(m["metrics"][part], expected["metrics"][part], "{form} {part}");
        }
        said.names(&["no untrained encoder"]);
        assert_eq!(
            fs::read_to_string(desk.path(form).join("predictions.csv")).unwrap(),
            fs::read_to_string(desk.path("store/predictions.csv")).unwrap()
        );
        assert!(
            fs::read_to_string(desk.path(form).join("report.html")).unwrap().contains(&format!("embeddings {out}"))
        );
    }
    // the store itself, and the data set that knows the labels
    desk.run(&format!("eval logreg --labels labels.csv {rest} --out same --embeddings"), &[&store], 0);
    desk.run(
        &format!("eval logreg --dataset csv --root xrays/table.csv --embeddings f.parquet {rest} --out named"),
        &[],
        0,
    );
    for run in ["same", "named"] {
        assert_eq!(metrics(&desk, run)["metrics"]["test"], expected["metrics"]["test"], "{run}");
    }
    desk.run("predict --run csv xrays", &[], 2).names(&["embeddings"]);
}

/// An array as numpy writes it: doubles, column after column, no ids.
fn numpy(rows: &[Vec<f64>]) -> Vec<u8> {
    let (n, dim) = (rows.len(), rows[0].len());
    let mut header = format!("{{'descr': '<f8', 'fortran_order': True, 'shape': ({n}, {dim}), }}").into_bytes();
    header.resize((10 + header.len() + 1).next_multiple_of(64) - 11, b' ');
    header.push(b'\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header);
    (0..dim).for_each(|d| rows.iter().for_each(|row| out.extend(row[d].to_le_bytes())));
    out
}

#[test]
fn features_of_another_program_are_judged() {
    let desk = Desk::new();
    let n = 60;
    let rows: Vec<Vec<f64>> = (0..n)
        .map(|i| (0..5).map(|d| f64::from(i % 2) * 0.8 + f64::from((i * 37 + d * 11) % 17) / 17.0).collect())
        .collect();
    fs::write(desk.path("features.npy"), numpy(&rows)).unwrap();
    let mut labels = "Study ID,class\n".to_owned();
    let mut wide = "name;a;b;c;d;e\n".to_owned();
    for (i, row) in rows.iter().enumerate() {
        labels += &format!("case {i},{}\n", ["benign", "malignant"][i % 2]);
        let numbers: Vec<String> = row.iter().map(f64::to_string).collect();
        wide += &format!("case {i};{}\n", numbers.join(";"));
    }
    fs::write(desk.path("labels.csv"), &labels).unwrap();
    fs::write(desk.path("wide.csv"), wide.replace("name;", "id;")).unwrap();
    // rows without ids are those of the table, line by line
    let args = "--labels labels.csv --label-column class --bootstrap 30 --c 1 --no-controls";
    desk.run(&format!("eval logreg --embeddings features.npy {args} --out array"), &[], 0);
    let m = metrics(&desk, "array");
    assert!(mean(&m, "test", "auroc") > 0.9);
    // and columns without numbers are features too
    let args = "--labels labels.csv --label-column class --bootstrap 30 --c 1 --no-controls";
    desk.run(&format!("eval logreg --embeddings wide.csv {args} --path-column Study --out no"), &[], 2)
        .names(&["column `Study` is missing"]);
    let named = format!("{args} --out wide");
    desk.run(&format!("eval logreg --embeddings wide.csv --path-column {} {named}", "StudyID"), &[], 2);
    fs::write(desk.path("labels.csv"), labels.replace("Study ID", "id")).unwrap();
    desk.run(&format!("eval logreg --embeddings wide.csv {named}"), &[], 0);
    assert_eq!(
        m["metrics"]["val"].as_object().unwrap().len(),
        metrics(&desk, "wide")["metrics"]["val"].as_object().unwrap().len()
    );
    assert!(mean(&metrics(&desk, "wide"), "test", "auroc") > 0.9);
    // a row too few is told
    fs::write(desk.path("features.npy"), numpy(&rows[1..])).unwrap();
    desk.run("eval logreg --embeddings features.npy --labels labels.csv --label-column class --out few", &[], 2)
        .names(&["59 rows", "60 lines"]);
    // what needs images is told before anything runs
    desk.run(&format!("eval logreg --embeddings wide.csv {args} --shift noise --out shifted"), &[], 2)
        .names(&["--shift", "no encoder"]);
    assert!(desk.path("wide/report.html").is_file());
}
