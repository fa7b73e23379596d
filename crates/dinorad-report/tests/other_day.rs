//! Runs of another day, which another writer has made, without data or encoder at hand; their paired
//! tests against scikit-learn, SciPy and NumPy (`runs/make_runs.py`).

use std::{fs, path::PathBuf};

use dinorad_metrics::BootstrapOptions;
use dinorad_report::{RunFolder, RunWriter, compare_runs, pages, runs_below};
use serde_json::Value;

fn runs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/runs")
}

fn both() -> [RunFolder; 2] {
    ["2026-03-01-knn", "2026-03-02-logreg"].map(|name| RunFolder::open(&runs().join(name)).unwrap())
}

fn expected() -> Value {
    serde_json::from_str(&fs::read_to_string(runs().join("expected.json")).unwrap()).unwrap()
}

#[test]
fn paired_tests_agree_with_others() {
    let [a, b] = both();
    let expected = expected();
    let draws = BootstrapOptions { draws: 4000, ..BootstrapOptions::default() };
    let found = serde_json::to_value(compare_runs(&a, &b, &draws).unwrap()).unwrap();
    assert_eq!(found["cases"], expected["cases"]);
    let near = |what: &str, got: &Value, want: &Value, tolerance: f64| {
        let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
        println!("{what}: {got} against {want}, apart {:.1e}", (got - want).abs());
        assert!((got - want).abs() <= tolerance, "{what}: {got} against {want}");
    };
    let (auroc, accuracy) = (&found["scores"][0], &found["scores"][1]);
    for side in ["a", "b"] {
        near(&format!("AUROC of {side}"), &auroc[side], &expected["auroc"][side], 1e-12);
        near(&format!("accuracy of {side}"), &accuracy[side], &expected["accuracy"][side], 1e-12);
    }
    let delong = &auroc["tests"][0];
    assert_eq!(delong["method"], "DeLong");
    near("DeLong's difference", &delong["difference"], &expected["auroc"]["delong"]["difference"], 1e-12);
    near("DeLong's low end", &delong["interval"][0], &expected["auroc"]["delong"]["low"], 1e-9);
    near("DeLong's high end", &delong["interval"][1], &expected["auroc"]["delong"]["high"], 1e-9);
    near("DeLong's p", &delong["p_value"], &expected["auroc"]["delong"]["p_value"], 1e-9);
    // Draws of another generator: apart by the error of 4,000 draws of a percentile and of a share.
    for (score, expected) in [(auroc, &expected["auroc"]), (accuracy, &expected["accuracy"])] {
        let tests = score["tests"].as_array().unwrap();
        let of = |name: &str| tests.iter().find(|t| t["method"].as_str().unwrap().starts_with(name)).unwrap();
        near("bootstrap's low end", &of("paired bootstrap")["interval"][0], &expected["bootstrap"]["low"], 0.008);
        near("bootstrap's high end", &of("paired bootstrap")["interval"][1], &expected["bootstrap"]["high"], 0.008);
    }
    let swapped = &auroc["tests"][2];
    assert_eq!(swapped["method"], "paired permutation of patients");
    near("permutation's difference", &swapped["difference"], &expected["auroc"]["permutation"]["difference"], 1e-12);
    near("permutation's p", &swapped["p_value"], &expected["auroc"]["permutation"]["p_value"], 0.02);
    near("permutation of answers", &accuracy["tests"][1]["p_value"], &expected["accuracy"]["mcnemar"], 0.02);
}

#[test]
fn descriptions_are_told_apart() {
    let [a, b] = both();
    let compared = compare_runs(&a, &b, &BootstrapOptions { draws: 10, ..BootstrapOptions::default() }).unwrap();
    let keys: Vec<&str> = compared.differences.iter().map(|d| d.key.as_str()).collect();
    let wanted =
        ["chosen C", "chosen k", "encoder.digest", "encoder.source", "method.c", "method.k", "method.name", "shifts"];
    assert_eq!(keys, wanted);
    assert_eq!(compared.differences[3].b.as_deref(), Some("\"microsoft/rad-dino\""));
    assert_eq!(
        compared.cases.to_string(),
        "153 cases of 153 patients compared; 6 only in the first, 4 only in the second; 1 left out whose truths differ"
    );
    // the other way round
    let turned = compare_runs(&b, &a, &BootstrapOptions { draws: 10, ..BootstrapOptions::default() }).unwrap();
    let difference = |c: &dinorad_report::RunComparison| c.scores[0].tests[0].difference;
    assert_eq!(difference(&turned), -difference(&compared));
    assert_eq!((turned.cases.only_a, turned.cases.patients), (4, None), "the second knows no patients");
}

#[test]
fn runs_that_do_not_go_together_are_refused() {
    let [a, _] = both();
    let root = tempfile::tempdir().unwrap();
    let other = |name: &str, edit: &dyn Fn(&mut dinorad_report::Metrics), ids: &str| {
        let run = RunWriter::create(&root.path().join(name), dinorad_report::Existing::Refuse).unwrap();
        let mut metrics = a.metrics().unwrap().clone();
        edit(&mut metrics);
        run.metrics(&metrics).unwrap();
        let mut p = a.predictions("predictions").unwrap().unwrap();
        p.ids.iter_mut().for_each(|id| *id = format!("{ids}{id}"));
        run.predictions("predictions", &p).unwrap();
        let mut run = run;
        run.config(a.config()).unwrap();
        run.finish().unwrap()
    };
    let told = |run: &RunFolder| compare_runs(&a, run, &BootstrapOptions::default()).unwrap_err().to_string();
    let stranger = other("stranger", &|_| (), "other/");
    assert!(told(&stranger).contains("of 160 and 160 test cases none is judged by both"), "{}", told(&stranger));
    let names = other("names", &|m| m.task.as_mut().unwrap().class_names[1] = "effusion".into(), "");
    assert!(told(&names).contains("their classes differ: normal, pneumonia and normal, effusion"), "{}", told(&names));
    let kind = other("kind", &|m| m.task.as_mut().unwrap().kind = dinorad_core::TaskKind::Multiclass, "");
    assert!(told(&kind).contains("one is binary, the other multiclass"), "{}", told(&kind));
}

#[test]
fn one_page_for_both() {
    let walked = runs_below(&[runs()]).unwrap();
    assert_eq!((walked.runs.len(), walked.skipped.len()), (2, 0));
    let html = pages::report(&walked.runs, &walked.skipped).unwrap().to_html().unwrap();
    for words in [
        "2 runs",
        "facebook/dinov2-small",
        "microsoft/rad-dino",
        "kNN, k = 20",
        "logistic regression, C = 1.0000e-2",
        "2026-03-01T14:05:00Z to 2026-03-02T09:30:00Z",
        "0.2.0 (0123abc)",
        "Chest X-rays of the ward",
        "The slices that weighed most.",
        "chest/0999.png",
        "71.4 s",
    ] {
        assert!(html.contains(words), "`{words}` is not on the page");
    }
    // To look at: DINORAD_SAMPLE_REPORT=report.html cargo test -p dinorad-report one_page
    if let Some(path) = std::env::var_os("DINORAD_SAMPLE_REPORT") {
        fs::write(path, html).unwrap();
    }
}
