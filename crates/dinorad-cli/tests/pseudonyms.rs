//! `--pseudonyms`: nothing that is written holds a name of a file or folder.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Desk, png};

/// Folders named after patients, as they come from a disk of a clinic; one file cannot be read.
fn clinic(desk: &Desk) {
    let mut text = String::from("path,label,split,patient\n");
    for i in 0..48 {
        let folder = format!("clinic/DOE^JOHN-{}", i / 2);
        fs::create_dir_all(desk.path(&folder)).unwrap();
        let name = format!("MRN0012345-{i:02}.png");
        let bytes = if i == 5 { b"no picture".to_vec() } else { png(20, 24, i + 1) };
        fs::write(desk.path(&folder).join(&name), bytes).unwrap();
        let split = ["train", "train", "val", "test"][i as usize / 2 % 4];
        text +=
            &format!("DOE^JOHN-{}/{name},{},{split},DOE^JOHN-{}\n", i / 2, ["well", "sick"][i as usize / 8 % 2], i / 2);
    }
    fs::write(desk.path("clinic/table.csv"), text).unwrap();
}

fn written(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { written(&path, out) } else { out.push(path) }
    }
}

/// Fails if a file below `folders`, or its name, holds one of the planted words.
fn assert_no_name(desk: &Desk, folders: &[&str]) {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| written(&desk.path(folder), &mut files));
    assert!(files.len() > 5, "{files:?}");
    for path in files {
        let name = path.strip_prefix(desk.path("")).unwrap().display().to_string();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(name.as_bytes());
        for word in ["DOE", "JOHN", "MRN0012345", "clinic"] {
            let found = bytes.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word.as_bytes()));
            assert!(!found, "`{word}` is in {name}");
        }
    }
}

const SALT: [(&str, &str); 1] = [("DINORAD_SALT", "a secret of the house")];

#[test]
fn no_file_of_a_run_or_a_store_holds_a_name() {
    let desk = Desk::new();
    clinic(&desk);
    let eval = "eval knn --dataset csv --root clinic/table.csv --image-size 28 --draws 20 --k 1,3 --shots 1 --tries 1 \
                --shift noise --control-seeds 1 --features store";
    desk.run(&format!("{eval} --pseudonyms --out run"), &[], 2).names(&["DINORAD_SALT"]);
    assert!(!desk.path("run").exists());
    let said = desk.run_in(&format!("{eval} --pseudonyms --out run"), &[], 1, &SALT);
    assert!(!said.all().contains("DOE"), "{}", said.all());
    desk.run_in("embed clinic --pseudonyms --image-size 28 --out embedded", &[], 1, &SALT);
    assert_no_name(&desk, &["run", "store", "embedded"]);

    // what is made of them holds none either
    desk.run("report run --out page/report.html", &[], 0);
    desk.run(&format!("export {} --format csv --out table/features.csv", desk.store("embedded").display()), &[], 0);
    fs::copy(desk.path("run/metrics.json"), desk.path("page/metrics.json")).unwrap();
    let mut files = Vec::new();
    ["page", "table"].iter().for_each(|folder| written(&desk.path(folder), &mut files));
    for path in files {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).to_uppercase();
        assert!(!text.contains("DOE") && !text.contains("MRN0012345"), "{}", path.display());
    }

    // the numbers are those of the run under the user's own names
    desk.run(&format!("{eval} --out plain"), &[], 1);
    let metrics = |run: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(desk.path(run).join("metrics.json")).unwrap()).unwrap()
    };
    assert_eq!(metrics("plain")["metrics"], metrics("run")["metrics"]);
    assert!(fs::read_to_string(desk.path("plain/predictions.csv")).unwrap().contains("DOE^JOHN"));
    // the same secret gives the same pseudonyms, another one others
    desk.run_in(&format!("{eval} --pseudonyms --out again"), &[], 1, &SALT);
    desk.run_in(&format!("{eval} --pseudonyms --out other"), &[], 1, &[("DINORAD_SALT", "another")]);
    let predictions = |run: &str| fs::read(desk.path(run).join("predictions.csv")).unwrap();
    assert!(predictions("run") == predictions("again") && predictions("run") != predictions("other"));
}

#[test]
fn a_run_that_fails_leaves_no_name() {
    let desk = Desk::new();
    clinic(&desk);
    let eval = "eval linear --dataset csv --root clinic/table.csv --image-size 28 --draws 20 --epochs 1 --strict-data \
                --features store --pseudonyms --out run";
    let said = desk.run_in(eval, &[], 2, &SALT);
    assert!(!said.all().contains("DOE") && !said.all().contains("MRN"), "{}", said.all());
    if desk.path("run").exists() {
        let mut files = Vec::new();
        written(&desk.path("run"), &mut files);
        files.iter().for_each(|f| assert!(!String::from_utf8_lossy(&fs::read(f).unwrap()).contains("DOE")));
    }
}
