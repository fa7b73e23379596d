//! From a table of predictions with patients to `metrics.json` and the report's table, against the
//! numbers of scikit-learn, statsmodels and long bootstraps (`dinorad-metrics/tests/data/scores`, whose
//! script says how they were made). Ends of intervals may be off by six of the Monte Carlo errors that
//! the files state.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_core::{Protocol, Target, Task, TaskKind, rng};
use dinorad_datasets::{Dataset, PatientKey};
use dinorad_eval::{
    Predictions,
    probe::{
        Context, Evaluation, Labelled, ProbeOptions, Refit, Splits, compare, judge, quick_accuracy, quick_auroc,
        shuffled_labels,
    },
    segment::{MaskedSlices, overlaps},
};
use dinorad_heads::methods::logreg::LogregMethod;
use dinorad_metrics::{BootstrapOptions, run_scores};
use dinorad_report::{Existing, Metrics, RunFolder, RunWriter, pages};
use ndarray::{Array2, Array3, Axis};
use rand::Rng;
use serde_json::Value;
use support::{Slices, store_of};

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

/// A finished run of these predictions, and of these numbers where there are any.
fn written(folder: &Path, predictions: &Predictions, metrics: Option<&Metrics>) -> RunFolder {
    let mut run = RunWriter::create(folder, Existing::Replace).unwrap();
    run.config(&BTreeMap::from([("protocol", "strict")])).unwrap();
    run.predictions("predictions", predictions).unwrap();
    if let Some(metrics) = metrics {
        run.metrics(metrics).unwrap();
    }
    run.finish().unwrap()
}

/// The cases and their probabilities, through `predictions.csv`.
fn table(case: &Value, probabilities: &str, folder: &Path) -> (Labelled, Array2<f32>) {
    let rows: Vec<Vec<f64>> = case[probabilities].as_array().unwrap().iter().map(numbers).collect();
    let p = Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j] as f32);
    let targets = case["targets"].as_array().unwrap().iter().map(|t| match t.as_u64() {
        Some(class) => Target::Class(class as usize),
        None => Target::Labels(numbers(t).iter().map(|l| *l as u8).collect()),
    });
    let ids = (0..rows.len()).map(|i| format!("case-{i:03}")).collect();
    let run = written(folder, &Predictions::new(ids, targets.collect(), p).unwrap(), None);
    let Predictions { ids, targets, probabilities, .. } = run.predictions("predictions").unwrap().unwrap();
    let mut cases = Labelled::new(ids, targets, Array2::zeros((rows.len(), 1))).unwrap();
    if let Some(patients) = case["patients"].as_array() {
        cases.patients = patients.iter().map(|p| p.as_str().map(PatientKey::of)).collect();
    }
    (cases, probabilities)
}

fn judged(case: &Value, probabilities: &str, folder: &Path) -> Evaluation {
    let (cases, p) = table(case, probabilities, folder);
    judge(&cases, p, &task(case), &options(case)).unwrap()
}

/// The numbers of a judgement and what they were taken on, as a run writes them.
fn metrics(judged: &Evaluation, task: &Task) -> Metrics {
    let mut metrics = Metrics::new("strict");
    metrics.task = Some(task.clone());
    judged.write_into(&mut metrics, "test");
    metrics.count("test", &judged.predictions, task);
    metrics
}

/// `metrics.json` as it lies in a run's folder.
fn json(run: &RunFolder) -> Value {
    serde_json::from_slice(&fs::read(run.path().join("metrics.json")).unwrap()).unwrap()
}

/// How all cases get the same: their probabilities, or what is called by them, or neither.
fn constant(case: &Value) -> Option<&'static str> {
    let rows: Vec<Vec<f64>> = case["probabilities"].as_array().unwrap().iter().map(numbers).collect();
    let called = |row: &Vec<f64>| -> Vec<bool> {
        let most = row.iter().copied().fold(f64::MIN, f64::max);
        match case["task"] == "multilabel" {
            true => row.iter().map(|p| *p > 0.5).collect(),
            false => (0..row.len()).map(|c| row.iter().position(|p| *p == most) == Some(c)).collect(),
        }
    };
    match case["expected"]["constant"].as_bool().unwrap() {
        true => Some("probabilities"),
        false => rows.windows(2).all(|pair| called(&pair[0]) == called(&pair[1])).then_some("answer"),
    }
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

/// An interval of `metrics.json`: of the draws or, where they are all equal, by the method named between the
/// ends `edge`; without such ends there is none.
fn check_interval(what: &str, got: &Value, want: &Value, (method, edge): (&str, &Value), draws: usize) {
    let point = !want.is_null() && want["low"] == want["high"];
    if want.is_null() || point && edge.is_null() {
        assert!(got.get("ci95").is_none() && got.get("draws").is_none(), "{what}: {got}");
        return;
    }
    let ends = numbers(&got["ci95"]);
    if point {
        assert_eq!(got["interval"], method, "{what}");
        same(what, &got["ci95"][0], &edge[0]);
        same(what, &got["ci95"][1], &edge[1]);
    } else {
        assert_eq!(got["interval"], "bootstrap", "{what}");
        near(&format!("{what}, low"), ends[0], &want["low"], &want["low_error"]);
        near(&format!("{what}, high"), ends[1], &want["high"], &want["high_error"]);
    }
    let (defined, undefined) = (got["draws"].as_u64().unwrap(), got["undefined"].as_u64().unwrap());
    assert_eq!(defined + undefined, draws as u64, "{what}");
    near(&format!("{what}, undefined"), undefined as f64 / draws as f64, &want["undefined"], &want["undefined_error"]);
}

#[test]
fn every_key_of_metrics_json() {
    let root = tempfile::tempdir().unwrap();
    for (name, case) in runs() {
        let folder = root.path().join(&name);
        let (judged, task) = (judged(&case, "probabilities", &folder), task(&case));
        let run = written(&folder, &judged.predictions, Some(&metrics(&judged, &task)));
        let json = json(&run);
        for table in ["metrics", "cases"] {
            assert!(json[table].as_object().unwrap().keys().eq(["test"]), "{name}: {json}");
        }
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
            let edge = match rule.name {
                "auroc" => ("newcombe", &newcombe_mean),
                share => ("wilson", &expected["wilson"][share]),
            };
            check_interval(&what, &got, drawn, edge, draws);
        }
        if task.n_classes() > 2 || task.kind == TaskKind::Multilabel {
            for c in 0..task.n_classes() {
                let key = format!("auroc_class_{c}");
                let got = take(&key);
                same(&format!("{name}, {key}"), &got["mean"], &expected["auroc_by_class"][c]);
                check_interval(&format!("{name}, {key}"), &got, &intervals[&key], ("newcombe", &newcombe[c]), draws);
                let key = format!("average_precision_class_{c}");
                let got = take(&key);
                same(&format!("{name}, {key}"), &got["mean"], &expected["average_precision_by_class"][c]);
                check_interval(&format!("{name}, {key}"), &got, &intervals[&key], ("none", &Value::Null), draws);
            }
        }
        assert!(left.is_empty(), "{name}: without a witness: {:?}", left.keys());
        // what they were taken on
        let mut left = json["cases"]["test"].as_object().unwrap().clone();
        let n = case["targets"].as_array().unwrap().len();
        assert_eq!(left.remove("n"), Some(n.into()), "{name}");
        assert_eq!(left.remove("positives").as_ref(), Some(&expected["positives"]), "{name}");
        same(&name, &left.remove("majority_accuracy").unwrap(), &expected["majority_accuracy"]);
        assert_eq!(left.remove("constant"), constant(&case).map(Value::from), "{name}");
        assert!(left.is_empty(), "{name}: without a witness: {:?}", left.keys());
        // the judgement itself says the same
        assert_eq!(Value::from(judged.positives.clone()), expected["positives"], "{name}");
        same(&name, &judged.majority_accuracy.into(), &expected["majority_accuracy"]);
        assert_eq!(Value::from(judged.constant), expected["constant"], "{name}");
        // what settings are chosen by is the same number
        let (cases, p) = table(&case, "probabilities", &folder);
        let quick = |value: Option<f64>| serde_json::to_value(value).unwrap();
        same(&name, &quick(quick_auroc(&cases, p.view(), &task).unwrap()), &expected["auroc"]);
        same(&name, &quick(quick_accuracy(&cases, p.view(), &task).unwrap()), &expected["accuracy"]);
    }
}

/// The cells of every row of the table below a heading of a page; none where there is no such heading.
fn rows(html: &str, heading: &str) -> Vec<Vec<String>> {
    let Some((_, below)) = html.split_once(&format!("<h3>{heading}</h3>")) else { return Vec::new() };
    let body = below.split("</table>").next().unwrap().split_once("<tbody>").unwrap().1;
    let mut rows = Vec::new();
    for row in body.split("<tr>").skip(1) {
        let row = row.split("</tr>").next().unwrap();
        let cells = row.split("<td").skip(1).map(|cell| {
            let text = cell.split_once('>').unwrap().1.split("</td>").next().unwrap();
            text.replace("&#39;", "'").replace("&#x27;", "'").replace('\u{202f}', "").trim().to_owned()
        });
        rows.push(cells.collect::<Vec<_>>());
    }
    rows
}

#[test]
fn the_table_of_a_report_says_what_metrics_json_says() {
    let root = tempfile::tempdir().unwrap();
    let number = |v: f64| format!("{v:.3}");
    let three = |v: &Value| v.as_f64().map_or("undefined".to_owned(), number);
    let dash = |v: &Value| v.as_f64().map_or("–".to_owned(), number);
    let ends = |v: &Value, between: &str| {
        v["ci95"].as_array().map(|ends| ends.iter().map(three).collect::<Vec<_>>().join(between))
    };
    let (mut newcombe, mut wilson, mut of_classes, mut of_precision) = (0, 0, 0, 0);
    for (name, case) in runs() {
        let folder = root.path().join(&name);
        let (judged, task) = (judged(&case, "probabilities", &folder), task(&case));
        let run = written(&folder, &judged.predictions, Some(&metrics(&judged, &task)));
        let json = json(&run);
        let (test, counts) = (&json["metrics"]["test"], &json["cases"]["test"]);
        let html = pages::report(&[run], &[]).unwrap().to_html().unwrap();
        let mut left: BTreeMap<String, Vec<String>> =
            rows(&html, "Scores").into_iter().map(|r| (r[0].clone(), r)).collect();
        for rule in run_scores(task.kind) {
            let (title, number) = (rule.title, &test[rule.name]);
            let row = left.remove(title).unwrap_or_else(|| panic!("{name}: no row `{title}`"));
            assert_eq!(
                row[1..4],
                [three(&number["mean"]), ends(number, " – ").unwrap_or_default(), counts["n"].to_string()],
                "{name}, {title}"
            );
            let note = row[4].as_str();
            assert!(note.starts_with(rule.convention), "{name}, {title}: {note}");
            for (method, seen) in [("Newcombe", &mut newcombe), ("Wilson", &mut wilson)] {
                let named = note.contains(&format!("interval after {method}"));
                assert_eq!(named, number["interval"] == method.to_lowercase(), "{name}, {title}: {note}");
                *seen += usize::from(named);
            }
            if rule.name == "accuracy" {
                let commonest = format!("{} for the commonest answer", three(&counts["majority_accuracy"]));
                assert!(note.contains(&commonest), "{name}: {note}");
            }
        }
        assert!(left.is_empty(), "{name}: {left:?}");

        let what = if task.kind == TaskKind::Multilabel { "finding" } else { "class" };
        let by_class = rows(&html, &format!("By {what}, test split"));
        let classes = if test.get("auroc_class_0").is_some() { task.n_classes() } else { 0 };
        assert_eq!(by_class.len(), classes, "{name}: {by_class:?}");
        for (c, row) in by_class.iter().enumerate() {
            let (auroc, precision) = (&test[format!("auroc_class_{c}")], &test[format!("average_precision_class_{c}")]);
            let told =
                |v: &Value| dash(&v["mean"]) + &ends(v, "–").map_or_else(String::new, |ends| format!(" ({ends})"));
            let cells = [format!("kind {c}"), told(auroc), told(precision)];
            of_precision += usize::from(precision.get("ci95").is_some());
            assert_eq!(row[..3], cells, "{name}");
            let note = row.get(3).map_or("", String::as_str);
            assert_eq!(
                note.contains("AUROC: interval after Newcombe"),
                auroc["interval"] == "newcombe",
                "{name}: {row:?}"
            );
            of_classes += usize::from(note.contains("Newcombe"));
        }

        let mut taken = vec!["test".to_owned(), counts["n"].to_string()];
        taken.extend(counts["positives"].as_array().unwrap().iter().map(Value::to_string));
        taken.extend([three(&counts["majority_accuracy"]), three(&test["accuracy"]["mean"])]);
        taken.push(match counts["constant"].as_str() {
            Some("probabilities") => "constant: the same probabilities for every case".to_owned(),
            Some(_) => "the same answer for every case".to_owned(),
            None => String::new(),
        });
        assert_eq!(rows(&html, "What the scores were taken on"), [taken], "{name}");
    }
    assert!(newcombe > 0 && wilson > 0 && of_classes > 0, "{newcombe} {wilson} {of_classes}");
    assert!(of_precision > 0, "no class has an interval of its average precision");
}

#[test]
fn two_runs_are_compared_as_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let mut methods = BTreeMap::new();
    for (name, case) in runs() {
        let Some(expected) = case.get("comparison") else { continue };
        let folder = root.path().join(&name);
        let (a, b) = (judged(&case, "probabilities", &folder), judged(&case, "other", &folder));
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
    let masks = |what: &str| -> Vec<Array2<u8>> { case[what].as_array().unwrap().iter().map(mask).collect() };
    let volumes: Vec<String> =
        case["volumes"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
    let classes = case["classes"].as_u64().unwrap() as usize;
    let task =
        Task { kind: TaskKind::Segmentation, class_names: (0..classes).map(|c| c.to_string()).collect(), is_3d: false };
    let set = Arc::new(Slices { task: task.clone(), volumes, truth: masks("truth") });
    let root = tempfile::tempdir().unwrap();
    let cases = MaskedSlices::new(store_of(&*set, root.path()), set.clone()).unwrap();
    let predicted = masks("predicted");
    assert!((0..predicted.len()).all(|i| cases.id(i) == set.sample_id(i) && cases.mask_of(i).unwrap() == set.truth[i]));
    let predicted: Vec<Array3<u8>> = predicted.into_iter().map(|mask| mask.insert_axis(Axis(0))).collect();
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
    // what the judgement tells, and what the counts of its cases tell
    let notices = |name: &str| {
        let case = read(name);
        let judged = judged(&case, "probabilities", root.path());
        (judged.notices(&task(&case)), metrics(&judged, &task(&case)).notices, judged)
    };
    // 14 findings of 2 positives each: a draw keeps all of them in about one case of eight
    let (told, counted, judged) = notices("multilabel_rare");
    let auroc = judged.auroc.unwrap();
    assert!(auroc.draws < 1000 && auroc.undefined > 4000, "{auroc:?}");
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert!(told.contains(&format!("{} of 5000", auroc.draws)), "{told}");
    for name in ["AUROC", "average precision", "sensitivity", "AUROC of kind 13"] {
        assert!(told.contains(name), "{told}");
    }
    assert!(!told.contains("accuracy") && !told.contains("brier"), "{told}");
    assert!(counted.len() == 1 && counted[0].contains("kind 13 (2)"), "{counted:?}");
    // a prediction that is the same for all
    let (told, counted, judged) = notices("binary_constant");
    assert_eq!(told, Vec::<String>::new());
    let constant = "test: the model is constant: every case gets the same probabilities";
    assert_eq!(counted.iter().filter(|notice| notice.contains("same")).collect::<Vec<_>>(), [constant]);
    let auroc = judged.auroc.unwrap();
    assert!(auroc.estimate == 0.5 && auroc.low < 0.4 && auroc.high > 0.6, "{auroc:?}");
    for name in ["binary_patients", "multiclass_absent", "multilabel_patients", "binary_imbalanced"] {
        let (told, counted, _) = notices(name);
        assert_eq!(told, Vec::<String>::new(), "{name}");
        assert!(counted.iter().all(|notice| notice.starts_with("test: fewer than 20 cases ")), "{name}: {counted:?}");
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
    let method = LogregMethod { c: vec![1.0], ..LogregMethod::default() };
    let options = ProbeOptions { refit: Refit::TrainVal, ..ProbeOptions::new(Protocol::Paper) };
    let seeds: Vec<u64> = (0..10).collect();
    for (train, val) in [(&few, &many), (&many, &few)] {
        let splits = Splits { train, val: Some(val), test: &test };
        let control = shuffled_labels(&method, &splits, &task, &options, &seeds, &Context::PLAIN).unwrap();
        let aurocs: Vec<f64> = control.iter().map(|t| t.auroc.unwrap()).collect();
        assert!(aurocs.iter().any(|a| *a < 0.9), "{aurocs:?}");
        let mean = aurocs.iter().sum::<f64>() / aurocs.len() as f64;
        assert!((mean - 0.5).abs() < 0.35, "{aurocs:?}");
    }
}
