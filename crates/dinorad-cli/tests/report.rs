//! `dinorad report` and `dinorad compare` on runs of another day, without data or encoder at hand.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::Desk;
use serde_json::Value;

/// Runs that another writer has made, and what other programs say of them.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dinorad-report/tests/runs")
}

/// The runs alone, copied to where a user has them.
fn desk() -> Desk {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy(&path, &to);
            } else {
                fs::copy(&path, &to).unwrap();
            }
        }
    }
    let desk = Desk::new();
    for name in ["2026-03-01-knn", "2026-03-02-logreg"] {
        copy(&fixtures().join(name), &desk.path("runs").join(name));
    }
    desk
}

#[test]
fn a_page_is_made_of_folders() {
    let desk = desk();
    let said = desk.run("report runs --out page.html", &[], 0);
    for words in ["2026-03-01-knn", "microsoft/rad-dino", "logreg", "AUROC 0.", "2 runs; written to page.html"] {
        assert!(said.stdout.contains(words), "`{words}` is not in\n{}", said.stdout);
    }
    let page = fs::read_to_string(desk.path("page.html")).unwrap();
    assert!(page.contains("facebook/dinov2-small") && page.contains("logistic regression, C = 1.0000e-2"));
    assert_eq!(page.matches("data:image/png;base64,").count(), 4);
    // the same folders, the same page; one run by itself, too
    desk.run("report runs/2026-03-01-knn runs/2026-03-02-logreg -o again.html", &[], 0);
    assert_eq!(fs::read_to_string(desk.path("again.html")).unwrap(), page);
    let json = desk.run("report runs/2026-03-01-knn --json", &[], 0).json();
    assert_eq!(json["page"], "report.html");
    assert_eq!((&json["runs"][0]["setting"]["k"], json["runs"].as_array().unwrap().len()), (&20.into(), 1));
    assert!(json["runs"][0]["test"]["auroc"]["ci95"].is_array());
    let page = fs::read_to_string(desk.path("report.html")).unwrap();
    assert!(page.contains("Chest X-rays of the ward: facebook/dinov2-small") && page.contains("Weights of slices"));
}

#[test]
fn what_cannot_be_shown_is_told() {
    let desk = desk();
    desk.run("report nowhere", &[], 2).names(&["nowhere"]);
    fs::create_dir(desk.path("empty")).unwrap();
    desk.run("report empty", &[], 2).names(&["empty", "is no run"]);
    fs::write(desk.path("empty/config.toml"), "").unwrap();
    fs::write(desk.path("empty/metrics.json"), "{}").unwrap();
    desk.run("report empty", &[], 2).names(&["version 1", "run the experiment again"]);
    let cut = desk.path("runs/2026-03-02-logreg/metrics.json");
    fs::write(&cut, &fs::read(&cut).unwrap()[..200]).unwrap();
    desk.run("report runs", &[], 1).names(&["not shown", "metrics.json is damaged"]);
    let page = fs::read_to_string(desk.path("report.html")).unwrap();
    assert!(page.contains("Runs without results") && page.contains("is damaged"));
    desk.run("compare runs/2026-03-01-knn runs/2026-03-02-logreg", &[], 2).names(&["metrics.json is damaged"]);
}

#[test]
fn two_runs_are_compared_by_their_folders() {
    let desk = desk();
    let said = desk.run("compare runs/2026-03-01-knn runs/2026-03-02-logreg --draws 500", &[], 0);
    for words in [
        "DeLong",
        "paired bootstrap over patients",
        "paired permutation of patients",
        "153 cases of 153 patients compared; 6 only in the first, 4 only in the",
        "left out whose truths differ",
        "encoder.source",
        "\"microsoft/rad-dino\"",
        "chosen k",
    ] {
        assert!(said.stdout.contains(words), "`{words}` is not in\n{}", said.stdout);
    }
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{}", said.stdout);
    let json = desk.run("compare runs/2026-03-01-knn runs/2026-03-02-logreg --json", &[], 0).json();
    let text = fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["cases"], expected["cases"]);
    let (p, other) = (&json["scores"][0]["tests"][0]["p_value"], &expected["auroc"]["delong"]["p_value"]);
    assert!((p.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-9, "{p} against {other}");
    desk.run("compare runs/2026-03-01-knn runs", &[], 2).names(&["runs is no run"]);
}

#[test]
fn exported_ids_are_no_formulas() {
    let desk = Desk::new();
    fs::create_dir(desk.path("scans")).unwrap();
    for name in ["=1+1.png", "@a.png", "b.png"] {
        fs::write(desk.path("scans").join(name), common::png(28, 28, 7)).unwrap();
    }
    desk.run("embed scans --backbone untrained:tiny --image-size 28 --out features", &[], 0);
    let store = desk.store("features");
    desk.run("export --format csv --out f.csv", &[&store], 0);
    let text = fs::read_to_string(desk.path("f.csv")).unwrap();
    let mut ids: Vec<&str> = text.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["'=1+1.png", "'@a.png", "b.png"]);
}
