//! Every score of a run, its interval and its comparison against scikit-learn, statsmodels, DeLong's
//! definition and long bootstraps in numpy (`data/scores/make.py`).
//!
//! Points agree to rounding. Draws are random on both sides: the files state the Monte Carlo error of
//! an end, a spread or a p-value at the number of draws made here, and six of them are allowed.

use std::{fs, path::Path};

use dinorad_core::TaskKind;
use dinorad_metrics::*;
use ndarray::{Array1, Array2};
use serde_json::Value;

/// A file of `data/scores`.
fn read(name: &str) -> Value {
    dinorad_testkit::json(&folder().join(format!("{name}.json")))
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scores")
}

/// Runs of a task with classes or findings, by name.
fn runs() -> Vec<(String, Value)> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".json") else { continue };
        let case = read(name);
        if case.get("probabilities").is_some() {
            runs.push((name.to_owned(), case));
        }
    }
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(runs.len() >= 14, "{}", runs.len());
    runs
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn matrix(v: &Value) -> Array2<f32> {
    let rows: Vec<Vec<f64>> = v.as_array().unwrap().iter().map(numbers).collect();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j] as f32)
}

fn scores(case: &Value, probabilities: &str) -> TaskScores {
    let p = matrix(&case[probabilities]);
    if case["task"] == "multilabel" {
        TaskScores::of_findings(p.view(), matrix(&case["targets"]).mapv(|t| t as u8).view()).unwrap()
    } else {
        let y: Array1<usize> = numbers(&case["targets"]).iter().map(|t| *t as usize).collect();
        TaskScores::of_classes(p.view(), y.view()).unwrap()
    }
}

fn resampling(case: &Value) -> Resampling {
    match case["patients"].as_array() {
        Some(patients) => {
            Resampling::by_group(&patients.iter().map(|p| p.as_str().unwrap()).collect::<Vec<_>>()).unwrap()
        }
        None => Resampling::by_case(case["targets"].as_array().unwrap().len()).unwrap(),
    }
}

fn options(case: &Value) -> BootstrapOptions {
    let draws = case["draws"].as_u64().unwrap() as usize;
    BootstrapOptions { draws, seed: 5, level: case["level"].as_f64().unwrap_or(0.95) }
}

/// A value that must be there exactly where the other side has one, and equal but for rounding.
fn same(what: &str, got: Option<f64>, want: &Value) {
    match (got, want.as_f64()) {
        (None, None) => {}
        (Some(got), Some(want)) => assert!((got - want).abs() <= 1e-9, "{what}: {got}, expected {want}"),
        other => panic!("{what}: {other:?}"),
    }
}

/// A drawn number within six of its Monte Carlo errors.
fn near(what: &str, got: f64, want: &Value, error: &Value) {
    let (want, error) = (want.as_f64().unwrap(), error.as_f64().unwrap());
    assert!((got - want).abs() <= 6.0 * error + 1e-9, "{what}: {got}, expected {want} with an error of {error}");
}

fn near_interval(what: &str, got: Option<&Interval>, want: &Value, draws: usize) {
    let (Some(got), false) = (got, want.is_null()) else {
        assert!(got.is_none() && want.is_null(), "{what}: {got:?}, expected {want}");
        return;
    };
    for (name, value) in [("low", got.low), ("high", got.high), ("standard_error", got.standard_error)] {
        near(&format!("{what}, {name}"), value, &want[name], &want[format!("{name}_error")]);
    }
    near(
        &format!("{what}, undefined"),
        got.undefined as f64 / draws as f64,
        &want["undefined"],
        &want["undefined_error"],
    );
    assert_eq!((got.draws + got.undefined, got.level), (draws, 0.95), "{what}");
}

/// An interval of the draws or, where they are all equal, by `method` between the ends `edge`; without
/// such ends there is none.
fn near_or_edge(
    what: &str,
    got: Option<&Interval>,
    want: &Value,
    (method, edge): (IntervalMethod, &Value),
    draws: usize,
) {
    if want.is_null() || want["low"] != want["high"] {
        assert!(got.is_none_or(|i| i.method == IntervalMethod::Bootstrap && i.low < i.high), "{what}: {got:?}");
        return near_interval(what, got, want, draws);
    }
    let (Some(interval), false) = (got, edge.is_null()) else {
        assert!(got.is_none() && edge.is_null(), "{what}: {got:?}, expected {edge}");
        return;
    };
    same(what, Some(interval.low), &edge[0]);
    same(what, Some(interval.high), &edge[1]);
    assert_eq!(interval.method, method, "{what}");
    assert!(interval.standard_error < 1e-12, "{what}");
    assert_eq!(interval.draws + interval.undefined, draws, "{what}");
    assert!(interval.low < interval.estimate || interval.estimate < interval.high, "{what}");
}

#[test]
fn every_score_of_a_run() {
    for (name, case) in runs() {
        let (scores, expected) = (scores(&case, "probabilities"), &case["expected"]);
        assert_eq!(serde_json::to_value(scores.task()).unwrap(), case["task"], "{name}");
        let positives: Vec<usize> = numbers(&expected["positives"]).iter().map(|n| *n as usize).collect();
        assert_eq!(
            (scores.positives(), scores.cases()),
            (positives, case["targets"].as_array().unwrap().len()),
            "{name}"
        );
        let report = scores.report(&resampling(&case), &options(&case)).unwrap();
        let mut named = 0;
        for score in &report.scores {
            let what = format!("{name}, {}", score.rule.name);
            assert!(expected.get(score.rule.name).is_some(), "{what} has no witness");
            same(&what, score.value, &expected[score.rule.name]);
            same(&what, scores.value(score.rule.score), &expected[score.rule.name]);
            if let Some(interval) = score.interval {
                same(&what, Some(interval.estimate), &expected[score.rule.name]);
            }
            named += 1;
        }
        assert_eq!(named, run_scores(scores.task()).count(), "{name}");
        for (c, interval) in report.auroc_by_class.iter().enumerate() {
            same(&format!("{name}, AUROC {c}"), interval.map(|i| i.estimate), &expected["auroc_by_class"][c]);
        }
        for (c, value) in report.average_precision_by_class.iter().enumerate() {
            same(&format!("{name}, precision {c}"), *value, &expected["average_precision_by_class"][c]);
        }
        assert_eq!(report.auroc_by_class.len(), expected["auroc_by_class"].as_array().unwrap().len(), "{name}");
        let absent: Vec<usize> = numbers(&expected["absent"]).iter().map(|c| *c as usize).collect();
        assert_eq!(report.absent, absent, "{name}");
        same(&name, Some(scores.majority_accuracy()), &expected["majority_accuracy"]);
        assert_eq!(scores.is_constant(), expected["constant"].as_bool().unwrap(), "{name}");
    }
}

#[test]
fn intervals_of_a_run() {
    let mut at_the_edge = 0;
    let (mut balanced, mut calibrations, mut precisions) = (0, 0, 0);
    for (name, case) in runs() {
        let (scores, options) = (scores(&case, "probabilities"), options(&case));
        let report = scores.report(&resampling(&case), &options).unwrap();
        let expected = &case["expected"]["intervals"];
        let newcombe = case["expected"]["newcombe_by_class"].as_array().unwrap();
        for score in &report.scores {
            let what = format!("{name}, {}", score.rule.name);
            if score.rule.score == RunScore::Auroc {
                continue; // below
            }
            if score.rule.interval {
                let edge = (IntervalMethod::Wilson, &case["expected"]["wilson"][score.rule.name]);
                near_or_edge(&what, score.interval.as_ref(), &expected[score.rule.name], edge, options.draws);
                let by_wilson = score.interval.is_some_and(|i| i.method == IntervalMethod::Wilson);
                at_the_edge += usize::from(by_wilson);
                balanced += usize::from(by_wilson && score.rule.score == RunScore::BalancedAccuracy);
                calibrations += usize::from(score.interval.is_some() && score.rule.score == RunScore::Ece);
            } else {
                assert!(score.interval.is_none(), "{what}");
            }
        }
        assert_eq!(report.average_precision_intervals.len(), report.auroc_by_class.len(), "{name}");
        if report.auroc_by_class.len() > 1 {
            for (c, interval) in report.average_precision_intervals.iter().enumerate() {
                let what = format!("{name}, average precision {c}");
                let want = expected.get(format!("average_precision_class_{c}")).unwrap();
                // no share: none where all draws are equal
                let edge = (IntervalMethod::Bootstrap, &Value::Null);
                near_or_edge(&what, interval.as_ref(), want, edge, options.draws);
                if let Some(interval) = interval {
                    same(&what, Some(interval.estimate), &case["expected"]["average_precision_by_class"][c]);
                    precisions += 1;
                }
            }
            for (c, interval) in report.auroc_by_class.iter().enumerate() {
                let what = format!("{name}, AUROC {c}");
                let edge = (IntervalMethod::Newcombe, &newcombe[c]);
                near_or_edge(&what, interval.as_ref(), &expected[format!("auroc_class_{c}")], edge, options.draws);
            }
        }
        // a mean of curves that are all perfect: the mean of their ends
        let of_mean = |end: usize| {
            newcombe.iter().map(|n| n[end].as_f64().unwrap_or(f64::NAN)).sum::<f64>() / newcombe.len() as f64
        };
        let of_mean = serde_json::json!([of_mean(0), of_mean(1)]);
        let auroc = report.get(RunScore::Auroc).unwrap().interval;
        let edge = (IntervalMethod::Newcombe, &of_mean);
        near_or_edge(&format!("{name}, AUROC"), auroc.as_ref(), &expected["auroc"], edge, options.draws);
        if report.auroc_by_class.len() == 1 {
            assert_eq!(report.auroc_by_class[0], auroc, "{name}");
            let precision = report.get(RunScore::AveragePrecision).unwrap().interval;
            assert_eq!(report.average_precision_intervals[0], precision, "{name}");
        }
    }
    assert!(at_the_edge >= 6, "{at_the_edge}");
    assert!(balanced >= 3 && calibrations >= 10 && precisions >= 20, "{balanced} {calibrations} {precisions}");
}

#[test]
fn two_runs_on_the_same_cases() {
    let mut by_method = [0, 0];
    for (name, case) in runs() {
        let Some(expected) = case.get("comparison") else { continue };
        let (a, b) = (scores(&case, "probabilities"), scores(&case, "other"));
        let found = compare_auroc(&a, &b, &resampling(&case), &options(&case)).unwrap().unwrap();
        let method = usize::from(found.method == ComparisonMethod::PairedBootstrap);
        assert_eq!(["DeLong", "paired bootstrap"][method], expected["method"], "{name}");
        by_method[method] += 1;
        same(&name, Some(found.difference), &expected["difference"]);
        // the other way round
        let back = compare_auroc(&b, &a, &resampling(&case), &options(&case)).unwrap().unwrap();
        assert!((back.difference + found.difference).abs() < 1e-12, "{name}");
        let itself = compare_auroc(&a, &a, &resampling(&case), &options(&case)).unwrap().unwrap();
        assert_eq!((itself.difference, itself.p_value, itself.interval), (0.0, Some(1.0), Some([0.0; 2])), "{name}");
        if expected["p_value"].is_null() {
            // no standard error, no test
            assert_eq!((found.p_value, found.interval, back.p_value), (None, None, None), "{name}");
            continue;
        }
        let ([low, high], p_value) = (found.interval.unwrap(), found.p_value.unwrap());
        near(&name, low, &expected["low"], &expected["error"]);
        near(&name, high, &expected["high"], &expected["error"]);
        near(&format!("{name}, p"), p_value, &expected["p_value"], &expected["p_error"]);
        assert!((back.p_value.unwrap() - p_value).abs() < 1e-12, "{name}");
    }
    assert!(by_method[0] >= 2 && by_method[1] >= 5, "{by_method:?}");
}

#[test]
fn what_cannot_be_compared_is_named() {
    let case = read("binary_patients");
    let scores = |case: &Value| scores(case, "probabilities");
    let cases = resampling(&case);
    let error = compare_auroc(&scores(&case), &scores(&read("binary_tied")), &cases, &options(&case)).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let other = Resampling::by_case(3).unwrap();
    assert!(matches!(compare_auroc(&scores(&case), &scores(&case), &other, &options(&case)), Err(Error::Shape { .. })));
    assert!(matches!(scores(&case).report(&other, &options(&case)), Err(Error::Shape { .. })));
    let one = read("binary_one_class");
    assert_eq!(compare_auroc(&scores(&one), &scores(&one), &resampling(&one), &options(&one)).unwrap(), None);
}

#[test]
fn every_swap_of_groups() {
    let case = read("permutation");
    let [a, b] = ["a", "b"].map(|k| Array1::from(numbers(&case[k])));
    let targets: Array1<u8> = numbers(&case["targets"]).iter().map(|t| *t as u8).collect();
    let groups: Vec<u64> = numbers(&case["groups"]).iter().map(|g| *g as u64).collect();
    let groups = Resampling::by_group(&groups).unwrap();
    let draws = 20_000;
    let area = paired_permutation_auroc(a.view(), b.view(), targets.view(), &groups, draws, 3).unwrap();
    let mean = paired_permutation_mean(a.view(), b.view(), &groups, draws, 3).unwrap();
    for (name, test) in [("auroc", area), ("mean", mean)] {
        let want = &case["expected"][name];
        same(name, Some(test.difference), &want["difference"]);
        let p = want["p_value"].as_f64().unwrap();
        // draws are coin tosses with the exact p-value
        let error = (p * (1.0 - p) / draws as f64).sqrt();
        assert!((test.p_value - p).abs() < 6.0 * error, "{name}: {}, expected {p}", test.p_value);
        assert_eq!((test.draws, test.undefined), (draws, 0));
    }
    // 30 groups that all say the same: no draw of 19 is as far, and the p-value is 1 / 20, not 0
    let ones = Array1::from_elem(30, 1.0);
    let cases = Resampling::by_case(30).unwrap();
    let test = paired_permutation_mean(ones.view(), (&ones - 1.0).view(), &cases, 19, 1).unwrap();
    assert_eq!((test.difference, test.p_value), (1.0, 0.05));
}

#[test]
fn masks_by_pixel_by_class_and_by_volume() {
    let case = read("masks");
    let expected = &case["expected"];
    let (classes, size) = (case["classes"].as_u64().unwrap() as usize, case["size"].as_u64().unwrap() as usize);
    let mask = |v: &Value| {
        let labels = numbers(v).iter().map(|l| *l as u8).collect();
        Array2::from_shape_vec((size, size), labels).unwrap()
    };
    let mut scores = MaskScores::new(classes).unwrap();
    let mut by_slice = Vec::new();
    for (i, volume) in case["volumes"].as_array().unwrap().iter().enumerate() {
        let (predicted, truth) = (mask(&case["predicted"][i]), mask(&case["truth"][i]));
        scores.update(volume.as_str().unwrap(), predicted.view(), truth.view()).unwrap();
        let mut one = MaskScores::new(classes).unwrap();
        one.update("", predicted.view(), truth.view()).unwrap();
        by_slice.extend(one.dice());
    }
    same("Dice", scores.dice(), &expected["dice"]);
    same("Jaccard", scores.jaccard(), &expected["jaccard"]);
    for (c, (dice, jaccard)) in scores.dice_by_class().into_iter().zip(scores.jaccard_by_class()).enumerate() {
        same(&format!("Dice {c}"), dice, &expected["dice_by_class"][c]);
        same(&format!("Jaccard {c}"), jaccard, &expected["jaccard_by_class"][c]);
    }
    assert_eq!(scores.dice_by_class().len(), classes);
    // volumes without foreground have none
    let volumes: Vec<f64> =
        expected["dice_of_volumes"].as_object().unwrap().values().filter_map(Value::as_f64).collect();
    assert_eq!(scores.dice_of_volumes().len(), volumes.len());
    scores.dice_of_volumes().iter().zip(&volumes).for_each(|(got, want)| assert!((got - want).abs() < 1e-12));
    let options = options(&case);
    let interval = scores.dice_by_volume(&options).unwrap().unwrap();
    same("Dice by volume", Some(interval.estimate), &expected["dice_by_volume"]);
    near_interval("Dice by volume", Some(&interval), &expected["interval"], options.draws);
    let by_slice = by_slice.iter().sum::<f64>() / by_slice.len() as f64;
    same("Dice by slice", Some(by_slice), &expected["dice_by_slice"]);

    let mut empty = MaskScores::new(2).unwrap();
    assert_eq!(empty.dice_by_volume(&options).unwrap(), None);
    assert!(empty.update("v", Array1::from(vec![2u8]).view(), Array1::from(vec![1u8]).view()).is_err());
    assert_eq!((empty.pooled().total(), empty.dice_of_volumes().len()), (0, 0));
}

#[test]
fn newcombe_at_the_edges_and_between() {
    let mut seen = 0;
    for (name, case) in runs() {
        for (c, want) in case["expected"]["newcombe_by_class"].as_array().unwrap().iter().enumerate() {
            let Some(area) = case["expected"]["auroc_by_class"][c].as_f64() else { continue };
            if case["patients"].is_array() {
                continue; // as many as there are patients: seen with the intervals
            }
            let positives = case["expected"]["positives"].as_array().unwrap();
            let at = if case["task"] == "binary" { 1 } else { c };
            let m = positives[at].as_u64().unwrap() as usize;
            let n = case["targets"].as_array().unwrap().len() - m;
            let (low, high) = newcombe_interval(area, m, n, 0.95).unwrap();
            same(&name, Some(low), &want[0]);
            same(&name, Some(high), &want[1]);
            // the ranking turned round
            let (turned_low, turned_high) = newcombe_interval(1.0 - area, n, m, 0.95).unwrap();
            assert!((turned_low + high - 1.0).abs() < 1e-9 && (turned_high + low - 1.0).abs() < 1e-9, "{name}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
    for (area, m, n, level) in
        [(1.1, 5, 5, 0.95), (-0.1, 5, 5, 0.95), (0.5, 0, 5, 0.95), (0.5, 5, 0, 0.95), (0.5, 5, 5, 1.0)]
    {
        assert!(matches!(newcombe_interval(area, m, n, level), Err(Error::Parameter { .. })), "{area} {m} {n} {level}");
    }
    // one of each: nothing is known, and that is said
    assert_eq!(newcombe_interval(1.0, 1, 1, 0.95).unwrap().1, 1.0);
}

#[test]
fn a_score_of_another_task_has_no_value() {
    let scores = scores(&read("multilabel_patients"), "probabilities");
    for score in [RunScore::Kappa, RunScore::BalancedAccuracy, RunScore::Dice, RunScore::DiceByVolume] {
        assert_eq!(scores.value(score), None);
        assert!(score.rule(TaskKind::Multilabel).is_none());
    }
    assert_eq!(scores.weighted_value(RunScore::Auroc, &[1, 1]), None);
}
