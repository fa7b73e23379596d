//! From a table of predictions with patients to `metrics.json` and the report's table, against the
//! numbers of scikit-learn, statsmodels and long bootstraps (`dinorad-metrics/tests/data/scores`, whose
//! script says how they were made). Ends of intervals may be off by six of the Monte Carlo errors that
//! the files state.

use std::{collections::BTreeMap, fs, path::PathBuf};

use dinorad_core::{Protocol, Target, Task, TaskKind, rng};
use dinorad_eval::{
    Predictions,
    probe::{
        Context, Head, Judged, Labelled, LogisticHead, ProbeOptions, Refit, Splits, compare, judge, quick_accuracy,
        quick_auroc, shuffled_labels,
    },
    report::{Block, EncoderCard, Report, Section, Training},
    run::{MetricsFile, RunFolder},
    segment::{SegmentCase, overlaps},
};
use dinorad_metrics::{BootstrapOptions, run_scores};
use ndarray::Array2;
use rand::Rng;
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dinorad-metrics/tests/data/scores")
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder().join(format!("{name}.json"))).unwrap()).unwrap()
}

fn runs() -> BTreeMap<String, Value> {
    let names = fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut runs: BTreeMap<String, Value> =
        names.filter_map(|n| n.strip_suffix(".json").map(|n| (n.to_owned(), read(n)))).collect();
    runs.retain(|_, case| case.get("probabilities").is_some());
    assert!(runs.len() >= 15, "{}", runs.len());
    runs
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn options(case: &Value) -> BootstrapOptions {
    BootstrapOptions { draws: case["draws"].as_u64().unwrap() as usize, seed: 11, level: 0.95 }
}

fn task(case: &Value) -> Task {
    let kind = serde_json::from_value(case["task"].clone()).unwrap();
    let classes = case["probabilities"][0].as_array().unwrap().len();
    Task { kind, class_names: (0..classes).map(|c| format!("kind {c}")).collect(), is_3d: false }
}

/// The cases and their probabilities, through `predictions.csv`.
fn table(case: &Value, probabilities: &str, run: &RunFolder) -> (Labelled, Array2<f32>) {
    let rows: Vec<Vec<f64>> = case[probabilities].as_array().unwrap().iter().map(numbers).collect();
    let p = Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j] as f32);
    let targets = case["targets"].as_array().unwrap().iter().map(|t| match t.as_u64() {
        Some(class) => Target::Class(class as usize),
        None => Target::Labels(numbers(t).iter().map(|l| *l as u8).collect()),
    });
    let ids = (0..rows.len()).map(|i| format!("case-{i:03}")).collect();
    run.write_predictions("predictions", &Predictions::new(ids, targets.collect(), p).unwrap()).unwrap();
    let Predictions { ids, targets, probabilities, .. } = run.read_predictions("predictions").unwrap();
    let mut cases = Labelled::new(ids, targets, Array2::zeros((rows.len(), 1))).unwrap();
    if let Some(patients) = case["patients"].as_array() {
        cases.patients = patients.iter().map(|p| p.as_str().map(str::to_owned)).collect();
    }
    (cases, probabilities)
}

fn judged(case: &Value, probabilities: &str, run: &RunFolder) -> Judged {
    let (cases, p) = table(case, probabilities, run);
    judge(&cases, p, &task(case), &options(case)).unwrap()
}

fn same(what: &str, got: &Value, want: &Value) {
    match (got.as_f64(), want.as_f64()) {
        (None, None) => assert!(got.is_null() && want.is_null(), "{what}: {got}, expected {want}"),
        (Some(got), Some(want)) => assert!((got - want).abs() <= 1e-9, "{what}: {got}, expected {want}"),
        _ => panic!("{what}: {got}, expected {want}"),
    }
}

fn near(what: &str, got: f64, want: &Value, error: &Value) {
    let (want, error) = (want.as_f64().unwrap(), error.as_f64().unwrap());
    assert!((got - want).abs() <= 6.0 * error + 1e-9, "{what}: {got}, expected {want} with an error of {error}");
}

/// An interval of `metrics.json`: of the draws, or Newcombe's for an AUROC whose draws are all equal.
fn check_interval(what: &str, got: &Value, want: &Value, newcombe: Option<&Value>, draws: usize) {
    if want.is_null() {
        assert!(got.get("ci95").is_none() && got.get("draws").is_none(), "{what}: {got}");
        return;
    }
    let ends = numbers(&got["ci95"]);
    match newcombe.filter(|_| want["low"] == want["high"]) {
        Some(newcombe) => {
            assert_eq!(got["interval"], "newcombe", "{what}");
            same(what, &got["ci95"][0], &newcombe[0]);
            same(what, &got["ci95"][1], &newcombe[1]);
        }
        None => {
            assert_eq!(got["interval"], "bootstrap", "{what}");
            near(&format!("{what}, low"), ends[0], &want["low"], &want["low_error"]);
            near(&format!("{what}, high"), ends[1], &want["high"], &want["high_error"]);
        }
    }
    let (defined, undefined) = (got["draws"].as_u64().unwrap(), got["undefined"].as_u64().unwrap());
    assert_eq!(defined + undefined, draws as u64, "{what}");
    near(&format!("{what}, undefined"), undefined as f64 / draws as f64, &want["undefined"], &want["undefined_error"]);
}

#[test]
fn every_key_of_metrics_json() {
    let root = tempfile::tempdir().unwrap();
    for (name, case) in runs() {
        let run = RunFolder::create(&root.path().join(&name)).unwrap();
        let (judged, task) = (judged(&case, "probabilities", &run), task(&case));
        let mut file = MetricsFile::new(1, "strict");
        judged.write_into(&mut file, "test");
        run.write_metrics(&file).unwrap();
        let json: Value = serde_json::from_slice(&fs::read(run.path().join("metrics.json")).unwrap()).unwrap();
        let mut left = json["metrics"]["test"].as_object().unwrap().clone();
        let mut take = |key: &str| left.remove(key).unwrap_or_else(|| panic!("{name}: no {key}"));

        let expected = &case["expected"];
        let (intervals, newcombe) = (&expected["intervals"], &expected["newcombe_by_class"]);
        let mean_of = |end: usize| {
            let ends: Vec<f64> = newcombe.as_array().unwrap().iter().filter_map(|n| n[end].as_f64()).collect();
            ends.iter().sum::<f64>() / ends.len().max(1) as f64
        };
        let newcombe_mean = serde_json::json!([mean_of(0), mean_of(1)]);
        let draws = options(&case).draws;
        for rule in run_scores(task.kind) {
            let (what, got) = (format!("{name}, {}", rule.name), take(rule.name));
            same(&what, &got["mean"], &expected[rule.name]);
            same(&what, &got["values"][0], &expected[rule.name]);
            let drawn = if rule.interval { &intervals[rule.name] } else { &Value::Null };
            check_interval(&what, &got, drawn, (rule.name == "auroc").then_some(&newcombe_mean), draws);
        }
        if task.n_classes() > 2 || task.kind == TaskKind::Multilabel {
            for c in 0..task.n_classes() {
                let key = format!("auroc_class_{c}");
                let got = take(&key);
                same(&format!("{name}, {key}"), &got["mean"], &expected["auroc_by_class"][c]);
                check_interval(&format!("{name}, {key}"), &got, &intervals[&key], Some(&newcombe[c]), draws);
                let key = format!("average_precision_class_{c}");
                same(&format!("{name}, {key}"), &take(&key)["mean"], &expected["average_precision_by_class"][c]);
            }
        }
        assert_eq!(take("cases")["mean"].as_f64().unwrap() as usize, case["targets"].as_array().unwrap().len());
        for c in 0..task.n_classes() {
            let positives = take(&format!("positives_class_{c}"));
            assert_eq!(positives["mean"].as_f64(), expected["positives"][c].as_f64(), "{name}");
        }
        same(&name, &take("majority_accuracy")["mean"], &expected["majority_accuracy"]);
        assert!(left.is_empty(), "{name}: without a witness: {:?}", left.keys());
        // what settings are chosen by is the same number
        let (cases, p) = table(&case, "probabilities", &run);
        let quick = |value: Option<f64>| serde_json::to_value(value).unwrap();
        same(&name, &quick(quick_auroc(&cases, p.view(), &task).unwrap()), &expected["auroc"]);
        same(&name, &quick(quick_accuracy(&cases, p.view(), &task).unwrap()), &expected["accuracy"]);
    }
}

/// The cells of every row of a page's tables of scores.
fn rows(html: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for row in html.split("<tr>").skip(1) {
        let row = row.split("</tr>").next().unwrap();
        let cells = row.split("<td").skip(1).map(|cell| {
            let text = cell.split_once('>').unwrap().1.split("</td>").next().unwrap();
            text.replace("&#39;", "'").replace("&#x27;", "'").replace('\u{202f}', "").trim().to_owned()
        });
        rows.push(cells.collect::<Vec<_>>());
    }
    rows.retain(|r: &Vec<String>| r.len() == 5);
    rows
}

#[test]
fn the_table_of_a_report_says_what_metrics_json_says() {
    let root = tempfile::tempdir().unwrap();
    let three = |v: &Value| v.as_f64().map_or("undefined".to_owned(), |v| format!("{v:.3}"));
    for (name, case) in runs() {
        let run = RunFolder::create(&root.path().join(&name)).unwrap();
        let (judged, task) = (judged(&case, "probabilities", &run), task(&case));
        let mut file = MetricsFile::new(1, "strict");
        judged.write_into(&mut file, "test");
        let json = serde_json::to_value(&file).unwrap();
        let test = &json["metrics"]["test"];
        let section = Section::new("made").with(Block::Scores(judged.scores(&task)));
        let page = Report::new("scores", EncoderCard::new("none", Training::Pretrained)).with_section(section);
        let mut left: BTreeMap<String, Vec<String>> =
            rows(&page.to_html().unwrap()).into_iter().map(|r| (r[0].clone(), r)).collect();
        let mut keys: Vec<(String, String)> =
            run_scores(task.kind).map(|rule| (rule.title.to_owned(), rule.name.to_owned())).collect();
        if test.get("auroc_class_0").is_some() {
            keys.extend((0..task.n_classes()).map(|c| (format!("AUROC, kind {c}"), format!("auroc_class_{c}"))));
        }
        for (title, key) in keys {
            let row = left.remove(&title).unwrap_or_else(|| panic!("{name}: no row `{title}`"));
            let number = &test[&key];
            let ends = number["ci95"]
                .as_array()
                .map_or(String::new(), |ends| ends.iter().map(&three).collect::<Vec<_>>().join(" – "));
            assert_eq!(
                row[1..4],
                [three(&number["mean"]), ends, test["cases"]["mean"].as_f64().unwrap().to_string()],
                "{name}, {title}"
            );
            assert_eq!(row[4].contains("Newcombe"), number["interval"] == "newcombe", "{name}, {title}: {}", row[4]);
            if key == "accuracy" {
                assert!(row[4].contains(&three(&test["majority_accuracy"]["mean"])), "{name}: {}", row[4]);
            }
        }
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

#[test]
fn two_runs_are_compared_as_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let mut methods = BTreeMap::new();
    for (name, case) in runs() {
        let Some(expected) = case.get("comparison") else { continue };
        let run = RunFolder::create(&root.path().join(&name)).unwrap();
        let (a, b) = (judged(&case, "probabilities", &run), judged(&case, "other", &run));
        let found = compare(&a, &b, &task(&case), &options(&case)).unwrap().unwrap();
        let unit = if case["patients"].is_array() { "patients" } else { "cases" };
        let method = match expected["method"].as_str().unwrap() {
            "DeLong" => "DeLong".to_owned(),
            other => format!("{other} over {unit}"),
        };
        assert_eq!((&found.method, found.cases), (&method, a.predictions.ids.len()), "{name}");
        *methods.entry(method).or_insert(0) += 1;
        same(&name, &found.difference.into(), &expected["difference"]);
        if expected["p_value"].is_null() {
            assert_eq!((found.p_value, found.ci95), (None, None), "{name}");
            continue;
        }
        near(&format!("{name}, p"), found.p_value.unwrap(), &expected["p_value"], &expected["p_error"]);
        let [low, high] = found.ci95.unwrap();
        near(&name, low, &expected["low"], &expected["error"]);
        near(&name, high, &expected["high"], &expected["error"]);
    }
    assert_eq!(methods.len(), 3, "{methods:?}");
}

#[test]
fn masks_are_judged_by_pixel_and_by_volume() {
    let case = read("masks");
    let (size, expected) = (case["size"].as_u64().unwrap() as usize, &case["expected"]);
    let mask = |v: &Value| Array2::from_shape_vec((size, size), numbers(v).iter().map(|l| *l as u8).collect()).unwrap();
    let volumes = case["volumes"].as_array().unwrap();
    let cases: Vec<SegmentCase> = volumes
        .iter()
        .enumerate()
        .map(|(i, volume)| SegmentCase {
            id: format!("slice {i}"),
            volume: volume.as_str().unwrap().to_owned(),
            patches: Array2::zeros((1, 1)),
            grid: (1, 1),
            mask: mask(&case["truth"][i]),
        })
        .collect();
    let predicted: Vec<Array2<u8>> = (0..cases.len()).map(|i| mask(&case["predicted"][i])).collect();
    let classes = case["classes"].as_u64().unwrap() as usize;
    let task =
        Task { kind: TaskKind::Segmentation, class_names: (0..classes).map(|c| c.to_string()).collect(), is_3d: false };
    let got = overlaps(&cases, &predicted, &task, &options(&case)).unwrap();
    let value = |v: Option<f64>| serde_json::to_value(v).unwrap();
    same("Dice", &value(got.dice), &expected["dice"]);
    same("Jaccard", &value(got.jaccard), &expected["jaccard"]);
    for c in 0..classes {
        same("Dice of a class", &value(got.dice_by_class[c]), &expected["dice_by_class"][c]);
        same("Jaccard of a class", &value(got.jaccard_by_class[c]), &expected["jaccard_by_class"][c]);
    }
    let by_volume = got.dice_by_volume.unwrap();
    same("Dice by volume", &by_volume.estimate.into(), &expected["dice_by_volume"]);
    let interval = &expected["interval"];
    near("Dice by volume, low", by_volume.low, &interval["low"], &interval["low_error"]);
    near("Dice by volume, high", by_volume.high, &interval["high"], &interval["high_error"]);
    let known = expected["dice_of_volumes"].as_object().unwrap().values().filter(|v| v.is_number()).count();
    assert_eq!(got.volumes, known);
    assert!(overlaps(&cases, &predicted[1..], &task, &options(&case)).is_err());
}

#[test]
fn intervals_say_what_they_stand_on() {
    let root = tempfile::tempdir().unwrap();
    let notices = |name: &str| {
        let (case, run) = (read(name), RunFolder::create(root.path()).unwrap());
        let judged = judged(&case, "probabilities", &run);
        (judged.notices(&task(&case)), judged)
    };
    // 14 findings of 2 positives each: a draw keeps all of them in about one case of eight
    let (told, judged) = notices("multilabel_rare");
    let auroc = judged.auroc.unwrap();
    assert!(auroc.draws < 1000 && auroc.undefined > 4000, "{auroc:?}");
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert!(told.contains(&format!("{} of 5000", auroc.draws)), "{told}");
    for name in ["AUROC", "average precision", "sensitivity", "AUROC of kind 13"] {
        assert!(told.contains(name), "{told}");
    }
    assert!(!told.contains("accuracy") && !told.contains("brier"), "{told}");
    // a prediction that is the same for all
    let (told, judged) = notices("binary_constant");
    assert!(told.len() == 1 && told[0].contains("same for every case"), "{told:?}");
    let auroc = judged.auroc.unwrap();
    assert!(auroc.estimate == 0.5 && auroc.low < 0.4 && auroc.high > 0.6, "{auroc:?}");
    for name in ["binary_patients", "multiclass_absent", "multilabel_patients", "binary_imbalanced"] {
        assert_eq!(notices(name).0, Vec::<String>::new(), "{name}");
    }
}

/// Where a model is trained on train and validation together, labels that were left alone in either
/// would teach it.
#[test]
fn the_control_shuffles_validation_too() {
    let task = Task { kind: TaskKind::Binary, class_names: vec!["a".into(), "b".into()], is_3d: false };
    let cases = |name: &str, n: usize, seed: u64| {
        let mut rng = rng::stream(seed, 0, 0);
        let targets = (0..n).map(|i| Target::Class(i % 2)).collect();
        let x = Array2::from_shape_fn((n, 2), |(i, c)| ((i % 2) * (1 - c)) as f32 + rng.random_range(-0.4f32..0.4));
        Labelled::new((0..n).map(|i| format!("{name}{i}")).collect(), targets, x).unwrap()
    };
    let (few, many, test) = (cases("a", 8, 1), cases("b", 400, 2), cases("c", 200, 3));
    let head = Head::Logreg(LogisticHead { strengths: vec![1.0], ..LogisticHead::default() });
    let options = ProbeOptions { refit: Refit::TrainVal, ..ProbeOptions::new(Protocol::Paper) };
    let seeds: Vec<u64> = (0..10).collect();
    for (train, val) in [(&few, &many), (&many, &few)] {
        let splits = Splits { train, val: Some(val), test: &test };
        let control = shuffled_labels(&head, &splits, &task, &options, &seeds, &Context::PLAIN).unwrap();
        let aurocs: Vec<f64> = control.iter().map(|t| t.auroc.unwrap()).collect();
        assert!(aurocs.iter().any(|a| *a < 0.9), "{aurocs:?}");
        let mean = aurocs.iter().sum::<f64>() / aurocs.len() as f64;
        assert!((mean - 0.5).abs() < 0.35, "{aurocs:?}");
    }
}
