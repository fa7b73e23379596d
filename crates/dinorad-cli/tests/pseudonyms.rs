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

/// The text of every file below a folder with its name, without the bytes of pictures in pages.
fn texts(desk: &Desk, folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    written(&desk.path(folder), &mut files);
    let text = |path: &PathBuf| {
        let whole = String::from_utf8_lossy(&fs::read(path).unwrap()).to_uppercase();
        let mut text = String::new();
        for (i, piece) in whole.split("BASE64,").enumerate() {
            // what is behind the mark is a picture up to the quote
            text += if i == 0 { piece } else { piece.split_once('"').map_or("", |(_, rest)| rest) };
        }
        let name = path.strip_prefix(desk.path(folder)).unwrap().display().to_string();
        (name.clone(), format!("{}\n{text}", name.to_uppercase()))
    };
    files.iter().map(text).collect()
}

#[test]
fn pages_and_exports_of_plain_runs_and_stores_hold_no_name() {
    let desk = Desk::new();
    clinic(&desk);
    let data = "--dataset csv --root clinic/table.csv --image-size 28 --draws 20 --shots 1 --tries 1 --control-seeds 1";
    // no encoder of that folder's name, so the run's own folder and the command line hold one
    desk.run(&format!("eval knn {data} --k 1,3 --features store --out runs/DOE-JOHN"), &[], 1);
    desk.run(&format!("eval logreg {data} --features store --out runs/MRN0012345"), &[], 1);
    desk.run("embed clinic --image-size 28 --out embedded", &[], 1);
    let config = fs::read_to_string(desk.path("runs/DOE-JOHN/config.toml")).unwrap();
    assert!(config.contains("command = \"dinorad eval knn --dataset csv --root clinic/table.csv"), "{config}");
    fs::create_dir(desk.path("runs/DOE-half")).unwrap();
    let marker = fs::read_to_string(desk.path("runs/MRN0012345/dinorad-run.json")).unwrap();
    let failed = marker.replace("\"finished\"", "\"failed\", \"why\": \"clinic/DOE^JOHN\"");
    fs::write(desk.path("runs/DOE-half/dinorad-run.json"), failed).unwrap();

    // what is planted is there without the flag
    desk.run("report runs --out plain/report.html", &[], 1);
    let store = desk.store("embedded");
    desk.run("export --format csv --out plain/f.csv", &[&store], 0);
    for (name, text) in texts(&desk, "plain") {
        for word in ["DOE^JOHN-", "MRN0012345-"] {
            assert!(text.contains(word) || text.contains(&word.replace('^', "&#")), "`{word}` is not in {name}");
        }
    }
    desk.run("report runs --pseudonyms --out out/report.html", &[], 2).names(&["DINORAD_SALT"]);
    desk.run("export --pseudonyms --format csv --out out/f.csv", &[&store], 2).names(&["DINORAD_SALT"]);
    assert!(!desk.path("out").exists());
    desk.run("report runs --pseudonym-key key.csv", &[], 2).names(&["--pseudonyms"]);

    let said = desk.run_in("report runs --pseudonyms --out out/report.html", &[], 1, &SALT);
    let json = desk.run_in("report runs --pseudonyms --json --out out/again.html", &[], 1, &SALT);
    for (format, out) in [("csv", "out/f.csv"), ("npy", "out/npy"), ("parquet", "out/f.parquet")] {
        desk.run_in(&format!("export --pseudonyms --format {format} --out {out}"), &[&store], 0, &SALT);
    }
    let mut all = texts(&desk, "out");
    assert!(all.len() > 5, "{}", all.len());
    all.push(("what was said".into(), said.all().to_uppercase() + &json.all().to_uppercase()));
    for (name, text) in &all {
        for word in ["DOE", "JOHN", "MRN0012345", "CLINIC"] {
            let at = text.find(word).map(|at| text[..at + 20].chars().rev().take(120).collect::<Vec<_>>());
            let at: Option<String> = at.map(|chars| chars.into_iter().rev().collect());
            assert!(at.is_none(), "`{word}` is in {name}: {at:?}");
        }
    }
    let page = fs::read_to_string(desk.path("out/report.html")).unwrap();
    // words of a command are kept whole on a narrow screen
    let page = page.replace("<span>", "").replace("</span>", "");
    assert!(page.contains("case-") && page.contains("dinorad eval knn --dataset csv --root file-"), "no pseudonyms");
    assert!(page.contains("a run that failed"));

    // the pseudonyms are those of a run that was made with the flag, and are given once
    let eval = format!("eval knn {data} --k 1,3 --features hidden --pseudonyms --out hidden-run");
    desk.run_in(&eval, &[], 1, &SALT);
    let predictions = fs::read_to_string(desk.path("hidden-run/predictions.csv")).unwrap();
    let shown = page.split("case-").skip(1).filter(|rest| predictions.contains(&rest[..16])).count();
    assert!(shown > 0, "pages and runs give other pseudonyms");
    desk.run_in("embed clinic --pseudonyms --image-size 28 --out hidden-embedded", &[], 1, &SALT);
    let hidden = desk.store("hidden-embedded");
    desk.run("export --format csv --out once.csv", &[&hidden], 0);
    desk.run_in("export --pseudonyms --format csv --out twice.csv", &[&hidden], 0, &SALT);
    assert!(fs::read(desk.path("once.csv")).unwrap() == fs::read(desk.path("twice.csv")).unwrap());
    // and the numbers are the same
    let numbers = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(desk.path(name)).unwrap();
        text.lines().skip(1).map(|line| line.split_once(',').unwrap().1.to_owned()).collect()
    };
    assert_eq!(numbers("plain/f.csv"), numbers("out/f.csv"));
}

#[test]
fn who_is_who_is_written_only_where_it_is_asked_for() {
    let desk = Desk::new();
    clinic(&desk);
    let eval = "eval knn --dataset csv --root clinic/table.csv --image-size 28 --draws 20 --k 1 --no-controls";
    desk.run_in(&format!("{eval} --pseudonyms --features store --out run"), &[], 1, &SALT);
    assert!(
        texts(&desk, "").iter().filter(|(name, _)| !name.starts_with("clinic")).all(|(_, text)| !text.contains("DOE"))
    );
    desk.run_in(
        &format!("{eval} --pseudonyms --pseudonym-key keys/key.csv --features store2 --out run2"),
        &[],
        1,
        &SALT,
    );
    assert!(
        !fs::read_dir(desk.path("run2")).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("key"))
    );
    let key = fs::read_to_string(desk.path("keys/key.csv")).unwrap();
    let rows: Vec<(&str, &str)> = key.lines().skip(1).map(|line| line.split_once(',').unwrap()).collect();
    let predictions = fs::read_to_string(desk.path("run2/predictions.csv")).unwrap();
    for line in predictions.lines().skip(1) {
        let id = line.split(',').next().unwrap();
        let (_, name) = rows.iter().find(|(pseudonym, _)| *pseudonym == id).unwrap();
        assert!(name.contains("DOE^JOHN") && name.contains("MRN0012345"), "{name}");
    }
    // the other commands add to it; a file that is something else stays what it is
    desk.run_in("embed clinic --image-size 28 --out e --pseudonyms --pseudonym-key keys/key.csv", &[], 1, &SALT);
    desk.run(&format!("{eval} --features store --out plain"), &[], 1);
    desk.run_in("report plain --pseudonyms --pseudonym-key keys/key.csv --out p.html", &[], 0, &SALT);
    let more = fs::read_to_string(desk.path("keys/key.csv")).unwrap();
    assert!(more.lines().count() > key.lines().count() && key.lines().all(|line| more.contains(line)));
    let table = fs::read(desk.path("clinic/table.csv")).unwrap();
    let store = desk.store("e");
    let other = "export --format csv --out f.csv --pseudonyms --pseudonym-key clinic/table.csv";
    desk.run_in(other, &[&store], 2, &SALT).names(&["table.csv", "no key table"]);
    assert!(!desk.path("f.csv").exists() && fs::read(desk.path("clinic/table.csv")).unwrap() == table);
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
