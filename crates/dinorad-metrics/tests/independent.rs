//! Random data against scikit-learn, SciPy and DeLong's definition written out as pairs
//! (`data/independent/make.py`). Both sides compute in f64; what differs is the order of sums.

use std::path::Path;

use dinorad_metrics::*;
use ndarray::{Array1, ArrayD, IxDyn};
use serde_json::Value;

fn expected() -> Value {
    dinorad_testkit::json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/independent/expected.json"))
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn close(what: &str, got: f64, want: &Value) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= 1e-12 + 1e-9 * want.abs(), "{what}: {got}, expected {want}");
}

#[test]
fn ranking_and_delong() {
    let all = expected();
    let cases = all["binary"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let (a, b) = (Array1::from(numbers(&case["a"])), Array1::from(numbers(&case["b"])));
        let targets: Array1<u8> = numbers(&case["targets"]).iter().map(|t| *t as u8).collect();
        let (av, bv, tv) = (a.view(), b.view(), targets.view());
        close("auroc", auroc(av, tv).unwrap(), &case["auroc"]);
        close("average precision", average_precision(av, tv).unwrap(), &case["average_precision"]);
        let p = a.mapv(|a| 1.0 / (1.0 + (-(3.0 * a - 2.0)).exp()));
        close("log loss", log_loss(p.view(), tv).unwrap(), &case["log_loss"]);
        close("brier", brier_score(p.view(), tv).unwrap(), &case["brier"]);
        let counts = BinaryCounts::at_threshold(av, tv, 0.8).unwrap();
        close("mcc", counts.matthews_correlation().unwrap(), &case["mcc"]);
        close("kappa", counts.cohens_kappa().unwrap(), &case["kappa"]);
        let one = delong(av, tv, 0.95).unwrap();
        close("variance", one.variance, &case["variance"]);
        close("low", one.low, &case["interval"][0]);
        close("high", one.high, &case["interval"][1]);
        let two = delong_paired(av, bv, tv, 0.95).unwrap();
        close("difference", two.difference, &case["difference"]);
        close("standard error", two.standard_error, &case["standard_error"]);
        close("p value", two.p_value.unwrap(), &case["p_value"]);
    }
}

#[test]
fn several_classes() {
    let all = &expected()["classes"];
    let labels = |v: &Value| -> Array1<u8> { numbers(v).iter().map(|t| *t as u8).collect() };
    let mut matrix = ConfusionMatrix::new(all["classes"].as_u64().unwrap() as usize).unwrap();
    matrix.update(labels(&all["predictions"]).view(), labels(&all["targets"]).view()).unwrap();
    close("mcc", matrix.matthews_correlation().unwrap(), &all["mcc"]);
    close("kappa", matrix.cohens_kappa(KappaWeights::None).unwrap(), &all["kappa"]);
    close("linear kappa", matrix.cohens_kappa(KappaWeights::Linear).unwrap(), &all["kappa_linear"]);
    close("quadratic kappa", matrix.cohens_kappa(KappaWeights::Quadratic).unwrap(), &all["kappa_quadratic"]);
    let n_classes = matrix.classes();
    let probabilities = numbers(&all["probabilities"]);
    let scores = ndarray::Array2::from_shape_vec((probabilities.len() / n_classes, n_classes), probabilities).unwrap();
    let targets = labels(&all["targets"]);
    let areas = multiclass_auroc(scores.view(), targets.view(), Convention::Strict).unwrap();
    close("macro auroc", areas.mean, &all["auroc_macro"]);
    close("weighted auroc", areas.weighted_mean(&numbers(&all["support"])).unwrap(), &all["auroc_weighted"]);
    close("micro auroc", multiclass_auroc_micro(scores.view(), targets.view()).unwrap(), &all["auroc_micro"]);
    let precision = multiclass_average_precision(scores.view(), targets.view(), Convention::Strict).unwrap();
    close("macro average precision", precision.mean, &all["average_precision_macro"]);
    for (metric, key) in [
        (CountMetric::F1, "f1_macro"),
        (CountMetric::Recall, "recall_macro"),
        (CountMetric::Precision, "precision_macro"),
    ] {
        close(key, matrix.per_class(metric, Convention::Strict).mean, &all[key]);
    }
}

#[test]
fn distances() {
    let all = &expected()["transform"];
    let shape: Vec<usize> = numbers(&all["shape"]).iter().map(|n| *n as usize).collect();
    let mask = numbers(&all["mask"]).iter().map(|m| *m == 1.0).collect();
    let mask = ArrayD::from_shape_vec(IxDyn(&shape), mask).unwrap();
    let got = distance_transform(mask.view(), &numbers(&all["spacing"])).unwrap();
    for (got, want) in got.iter().zip(all["distance"].as_array().unwrap()) {
        close("distance", *got, want);
    }
}
