//! Every case of `golden/metrics` against this crate, in one piece and over two batches.

use dinorad_metrics::*;
use dinorad_testkit::{Case, each_case};
use ndarray::{Array1, Array2, ArrayD, ArrayViewD, Axis, Dimension, Ix1, Ix2, Slice, s};
use serde_json::Value;

const THEIRS: Convention = Convention::TorchMetrics;

#[test]
fn every_case() {
    each_case("metrics", |case| {
        match case.kind.as_str() {
            "binary" => binary(case),
            "multiclass" => multiclass(case),
            "multilabel" => multilabel(case),
            "calibration" => calibration(case),
            "segmentation" => segmentation(case),
            "surface" => surface(case),
            "reference_collections" => collections(case),
            other => panic!("{}: unknown kind `{other}`", case.name),
        }
        case.finish();
    });
}

fn vector(case: &Case, name: &str) -> Array1<f32> {
    case.tensor(name).f32().into_dimensionality::<Ix1>().unwrap()
}

fn matrix(case: &Case, name: &str) -> Array2<f32> {
    case.tensor(name).f32().into_dimensionality::<Ix2>().unwrap()
}

fn labels(case: &Case, name: &str) -> ArrayD<i64> {
    case.tensor(name).values.mapv(|v| v as i64)
}

fn labels1(case: &Case, name: &str) -> Array1<i64> {
    labels(case, name).into_dimensionality().unwrap()
}

fn labels2(case: &Case, name: &str) -> Array2<i64> {
    labels(case, name).into_dimensionality().unwrap()
}

fn check_values(case: &Case, name: &str, values: &[f64]) {
    let shape = case.tensor(name).values.raw_dim();
    assert_eq!(shape.size(), values.len(), "{}: length of `{name}`", case.name);
    case.check(name, &ArrayD::from_shape_vec(shape, values.to_vec()).unwrap());
}

/// The two halves of an array along its first axis.
fn halves<T: Clone>(all: &ArrayD<T>) -> [ArrayViewD<'_, T>; 2] {
    let n = all.shape()[0] / 2;
    [all.slice_axis(Axis(0), Slice::from(..n)), all.slice_axis(Axis(0), Slice::from(n..))]
}

fn binary(case: &Case) {
    let (scores, targets) = (vector(case, "preds"), labels1(case, "target"));
    let n = scores.len() / 2;
    let mut store = BinaryScores::default();
    let mut counts = BinaryCounts::default();
    for part in [s![..n], s![n..]] {
        store.update(scores.slice(part), targets.slice(part)).unwrap();
        counts.update(scores.slice(part), targets.slice(part), 0.5).unwrap();
    }
    assert_eq!(counts, BinaryCounts::at_threshold(scores.view(), targets.view(), 0.5).unwrap());

    let area = auroc(scores.view(), targets.view());
    assert_eq!(area, auroc(store.scores(), store.targets()));
    let precision = average_precision(scores.view(), targets.view());
    let positives = targets.iter().filter(|t| **t == 1).count();
    let two_sided = positives > 0 && positives < targets.len();
    // strict: undefined is an error that says so, never a silent 0
    assert_eq!(matches!(area, Err(Error::OneClass { .. })), !two_sided, "{}", case.name);
    assert_eq!(matches!(precision, Err(Error::OneClass { .. })), positives == 0, "{}", case.name);

    for name in case.names("expected") {
        let or_zero = |v: Option<f64>| check_values(case, &name, &[v.unwrap_or(0.0)]);
        let roc = || roc_curve(scores.view(), targets.view()).unwrap();
        let pr = || precision_recall_curve(scores.view(), targets.view()).unwrap();
        match name.as_str() {
            "auroc" => {
                let predictions = Predictions::Binary(store.scores(), store.targets());
                let theirs = MetricSet::BinaryAuc.evaluate(&predictions, &[], THEIRS).unwrap();
                check_values(case, &name, &theirs[0].values);
            }
            "auroc.sklearn" => check_values(case, &name, &[*area.as_ref().unwrap()]),
            "average_precision" => check_values(case, &name, &[*precision.as_ref().unwrap_or(&f64::NAN)]),
            "roc.fpr" => check_values(case, &name, &roc().false_positive_rate),
            "roc.tpr" => check_values(case, &name, &roc().true_positive_rate),
            "pr.precision" => check_values(case, &name, &pr().precision),
            "pr.recall" => check_values(case, &name, &pr().recall),
            "accuracy" => or_zero(counts.accuracy()),
            "f1" => or_zero(counts.f1()),
            "sensitivity" => or_zero(counts.sensitivity()),
            "specificity" => or_zero(counts.specificity()),
            "precision" => or_zero(counts.precision()),
            "mcc" => or_zero(counts.matthews_correlation()),
            "confusion" => check_values(case, &name, &counts.matrix().concat().map_f64()),
            other => panic!("{}: unknown result `{other}`", case.name),
        }
    }
}

trait MapF64 {
    fn map_f64(&self) -> Vec<f64>;
}

impl MapF64 for Vec<u64> {
    fn map_f64(&self) -> Vec<f64> {
        self.iter().map(|v| *v as f64).collect()
    }
}

fn multiclass(case: &Case) {
    let (scores, targets) = (matrix(case, "preds"), labels1(case, "target"));
    assert_eq!(scores.ncols(), case.usize("classes"));
    let n = scores.nrows() / 2;
    let mut store = MulticlassScores::new(scores.ncols());
    let mut confusion = ConfusionMatrix::new(scores.ncols()).unwrap();
    for range in [0..n, n..scores.nrows()] {
        let (s, t) = (scores.slice(s![range.clone(), ..]), targets.slice(s![range]));
        store.update(s, t).unwrap();
        confusion.merge(&ConfusionMatrix::from_scores(s, t).unwrap()).unwrap();
    }
    assert_eq!(confusion, ConfusionMatrix::from_scores(scores.view(), targets.view()).unwrap());
    let area = |convention| multiclass_auroc(store.scores(), store.targets(), convention).unwrap();
    assert_eq!(area(THEIRS), multiclass_auroc(scores.view(), targets.view(), THEIRS).unwrap());

    // strict lists exactly the classes that no target has
    let seen: Vec<usize> = targets.iter().map(|t| *t as usize).collect();
    let missing: Vec<usize> = (0..scores.ncols()).filter(|c| !seen.contains(c)).collect();
    assert_eq!(area(Convention::Strict).absent, missing, "{}", case.name);
    let recall = confusion.per_class(CountMetric::Recall, Convention::Strict);
    assert_eq!(recall.absent, missing, "{}", case.name);

    for name in case.names("expected") {
        let (stem, which) = name.rsplit_once('.').unwrap_or((&name, ""));
        let all = match stem {
            "auroc" => Some(area(if which == "sklearn" { Convention::Strict } else { THEIRS })),
            "average_precision" => Some(multiclass_average_precision(scores.view(), targets.view(), THEIRS).unwrap()),
            "f1" => Some(confusion.per_class(CountMetric::F1, THEIRS)),
            "recall" => Some(confusion.per_class(CountMetric::Recall, THEIRS)),
            "specificity" => Some(confusion.per_class(CountMetric::Specificity, THEIRS)),
            "precision" => Some(confusion.per_class(CountMetric::Precision, THEIRS)),
            _ => None,
        };
        match (all, which) {
            (Some(all), "macro") => check_values(case, &name, &[all.mean]),
            (Some(all), "per_class" | "sklearn") => check_values(case, &name, &all.values),
            (None, "") if stem == "confusion" => {
                check_values(case, &name, &confusion.counts().into_raw_vec_and_offset().0.map_f64())
            }
            (None, "micro" | "macro" | "per_class") if stem.starts_with("top") => {
                let k = stem[3..].parse().unwrap();
                let top = top_k_accuracy(scores.view(), targets.view(), k, THEIRS).unwrap();
                match which {
                    "micro" => check_values(case, &name, &[top.micro]),
                    "macro" => check_values(case, &name, &[top.per_class.mean]),
                    _ => check_values(case, &name, &top.per_class.values),
                }
            }
            _ => panic!("{}: unknown result `{name}`", case.name),
        }
    }
    // the library refuses a k beyond the classes, we lower it
    let beyond = top_k_accuracy(scores.view(), targets.view(), scores.ncols() + 2, THEIRS).unwrap();
    assert_eq!((beyond.k, beyond.micro), (scores.ncols(), 1.0));
}

fn multilabel(case: &Case) {
    let (scores, targets) = (matrix(case, "preds"), labels2(case, "target"));
    let n = scores.nrows() / 2;
    let mut store = MultilabelScores::new(scores.ncols());
    let mut counts = MultilabelCounts::new(scores.ncols());
    for range in [0..n, n..scores.nrows()] {
        let (s, t) = (scores.slice(s![range.clone(), ..]), targets.slice(s![range, ..]));
        store.update(s, t).unwrap();
        counts.update(s, t, 0.5).unwrap();
    }
    assert_eq!(counts, MultilabelCounts::at_threshold(scores.view(), targets.view(), 0.5).unwrap());
    let area = |convention| multilabel_auroc(store.scores(), store.targets(), convention).unwrap();
    let precision = |convention| multilabel_average_precision(store.scores(), store.targets(), convention).unwrap();

    let positives: Vec<usize> = targets.columns().into_iter().map(|c| c.iter().filter(|t| **t == 1).count()).collect();
    let one_sided: Vec<usize> =
        (0..positives.len()).filter(|l| positives[*l] == 0 || positives[*l] == targets.nrows()).collect();
    assert_eq!(area(Convention::Strict).absent, one_sided, "{}", case.name);
    assert!(one_sided.iter().all(|l| area(Convention::Strict).values[*l].is_nan()));

    for name in case.names("expected") {
        let (stem, which) = name.rsplit_once('.').unwrap_or((&name, ""));
        let metric = match stem {
            "accuracy" => Some(CountMetric::Accuracy),
            "f1" => Some(CountMetric::F1),
            "recall" => Some(CountMetric::Recall),
            "specificity" => Some(CountMetric::Specificity),
            "precision" => Some(CountMetric::Precision),
            _ => None,
        };
        let all = match (stem, metric) {
            (_, Some(metric)) => counts.per_label(metric, THEIRS),
            ("auroc", _) => area(if which == "sklearn" { Convention::Strict } else { THEIRS }),
            ("average_precision", _) => precision(THEIRS),
            ("confusion", _) => {
                check_values(case, &name, &counts.matrices().into_raw_vec_and_offset().0.map_f64());
                continue;
            }
            _ => panic!("{}: unknown result `{name}`", case.name),
        };
        match (which, metric) {
            ("macro", _) => check_values(case, &name, &[all.mean]),
            ("per_label" | "sklearn", _) => check_values(case, &name, &all.values),
            ("micro", Some(metric)) => check_values(case, &name, &[metric.of(&counts.pooled()).unwrap_or(0.0)]),
            ("micro", None) if stem == "auroc" => {
                check_values(case, &name, &[multilabel_auroc_micro(scores.view(), targets.view()).unwrap()]);
            }
            _ => panic!("{}: unknown result `{name}`", case.name),
        }
    }
}

fn calibration(case: &Case) {
    let many_classes = !case.parameters["classes"].is_null();
    let many_labels = !case.parameters["labels"].is_null();
    // binned over two batches
    let binned = |bins: usize, label: Option<usize>| {
        let mut all = Calibration::new(bins).unwrap();
        let n = case.tensor("preds").values.shape()[0];
        for range in [0..n / 2, n / 2..n] {
            if many_classes {
                let (p, t) = (matrix(case, "preds"), labels1(case, "target"));
                all.update_multiclass(p.slice(s![range.clone(), ..]), t.slice(s![range])).unwrap();
            } else if let Some(l) = label {
                let (p, t) = (matrix(case, "preds"), labels2(case, "target"));
                all.update_binary(p.slice(s![range.clone(), l]), t.slice(s![range, l])).unwrap();
            } else {
                let (p, t) = (vector(case, "preds"), labels1(case, "target"));
                all.update_binary(p.slice(s![range.clone()]), t.slice(s![range])).unwrap();
            }
        }
        all
    };
    for name in case.names("expected") {
        if name == "brier" && many_classes {
            let score = multiclass_brier_score(matrix(case, "preds").view(), labels1(case, "target").view());
            check_values(case, &name, &[score.unwrap()]);
        } else if name == "brier" && many_labels {
            let (p, t) = (matrix(case, "preds"), labels2(case, "target"));
            let per_label: Vec<f64> = (0..p.ncols()).map(|l| brier_score(p.column(l), t.column(l)).unwrap()).collect();
            check_values(case, &name, &per_label);
        } else if name == "brier" {
            let score = brier_score(vector(case, "preds").view(), labels1(case, "target").view());
            check_values(case, &name, &[score.unwrap()]);
        } else if name == "log_loss" {
            // the description says from which sample on
            let text = case.json["tensors"][&name]["desc"].as_str().unwrap();
            let from = text.split("samples ").nth(1).map_or(0, |t| t.split("..").next().unwrap().parse().unwrap());
            let (p, t) = (vector(case, "preds"), labels1(case, "target"));
            check_values(case, &name, &[log_loss(p.slice(s![from..]), t.slice(s![from..])).unwrap()]);
        } else if let Some((bins, which)) = name.strip_prefix("ece").and_then(|n| n.split_once('.')) {
            let label = which.strip_prefix("label").map(|l| l.parse().unwrap());
            let all = binned(bins.parse().unwrap(), label);
            let value = match which {
                "l2" => all.root_mean_square_error(),
                "max" => all.maximum_error(),
                w if w == "l1" || label.is_some() => all.expected_error(),
                other => panic!("{}: unknown norm `{other}`", case.name),
            };
            check_values(case, &name, &[value.unwrap()]);
        } else {
            panic!("{}: unknown result `{name}`", case.name);
        }
    }
    for name in case.names("info") {
        if let Some(bins) = name.strip_prefix("edges") {
            let edges = Calibration::new(bins.parse().unwrap()).unwrap().edges().to_vec();
            assert_eq!(edges, case.tensor(&name).f32().into_raw_vec_and_offset().0, "{}: {name}", case.name);
        }
    }
}

fn segmentation(case: &Case) {
    let (preds, target) = (labels(case, "preds"), labels(case, "target"));
    let mut confusion = ConfusionMatrix::new(case.usize("classes")).unwrap();
    for (p, t) in halves(&preds).into_iter().zip(halves(&target)) {
        confusion.update(p, t).unwrap();
    }
    let mut whole = ConfusionMatrix::new(case.usize("classes")).unwrap();
    whole.update(preds.view(), target.view()).unwrap();
    assert_eq!(confusion, whole);
    let overlap = Overlap::new(&confusion);
    let or_nan = |v: Option<f64>| v.unwrap_or(f64::NAN);
    let (strict, theirs) = (overlap.pair(Convention::Strict), overlap.pair(THEIRS));
    let present = |c: &usize| preds.iter().chain(&target).any(|l| *l == *c as i64);
    let absent: Vec<usize> = (1..confusion.classes()).filter(|c| !present(c)).collect();
    assert_eq!((&strict.absent, &theirs.absent), (&absent, &absent), "{}", case.name);
    for name in case.names("expected") {
        match name.as_str() {
            "dice.per_class" => check_values(case, &name, &overlap.dice_per_class(Convention::Strict).values),
            "foreground_dice" => {
                check_values(case, &name, &[or_nan(overlap.foreground_dice())]);
                check_values(case, &name, &[strict.dice]);
            }
            "dice_score_global" => check_values(case, &name, &[or_nan(overlap.foreground_dice())]),
            "foreground_jaccard" => {
                check_values(case, &name, &[or_nan(overlap.foreground_jaccard())]);
                check_values(case, &name, &[strict.jaccard]);
            }
            "reference_dice" => check_values(case, &name, &[theirs.dice]),
            "reference_jaccard" => check_values(case, &name, &[theirs.jaccard]),
            "jaccard.per_class.ignore0" => check_values(case, &name, &overlap.reference_jaccard_per_class()),
            "jaccard.per_class" => check_values(case, &name, &overlap.jaccard_per_class(THEIRS).values),
            "jaccard.macro" => check_values(case, &name, &[overlap.jaccard_per_class(THEIRS).mean]),
            "confusion" => check_values(case, &name, &confusion.counts().into_raw_vec_and_offset().0.map_f64()),
            other => panic!("{}: unknown result `{other}`", case.name),
        }
    }
}

fn surface(case: &Case) {
    let (preds, target) = (labels(case, "preds"), labels(case, "target"));
    let tolerances: Vec<f64> = numbers(&case.parameters["surface_dice_thresholds"]);
    let percent = case.f64("percentile");
    for name in case.names("expected") {
        let (spacing, metric) = name.split_once('.').unwrap();
        let spacing = numbers(&case.parameters["spacing"][spacing]);
        let values: Vec<f64> = tolerances
            .iter()
            .enumerate()
            .map(|(i, tolerance)| {
                // classes start after the background, one tolerance each
                let d = SurfaceDistances::of_class(preds.view(), target.view(), i + 1, &spacing).unwrap();
                let all = d.summary(percent, *tolerance, Convention::Monai).unwrap();
                let ours = d.summary(percent, *tolerance, Convention::Strict).unwrap();
                assert_eq!(ours.hausdorff_percentile.is_infinite(), d.is_one_sided(), "{}", case.name);
                assert_eq!(ours.hausdorff.is_nan(), d.is_absent(), "{}", case.name);
                match metric {
                    "hausdorff" => all.hausdorff,
                    "hausdorff95" => all.hausdorff_percentile,
                    // MONAI takes the percentile of infinities, which is NaN
                    "hausdorff95_directed" if d.is_one_sided() => f64::NAN,
                    "hausdorff95_directed" => d.directed_percentile(percent).unwrap().unwrap_or(f64::NAN),
                    "asd" => all.average,
                    "assd" => all.average_symmetric,
                    "surface_dice" => all.surface_dice,
                    other => panic!("{}: unknown result `{other}`", case.name),
                }
            })
            .collect();
        check_values(case, &name, &values);
    }
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The library version whose results the expected tensors hold.
fn reference_version(case: &Case) -> String {
    case.json["reference"].as_str().unwrap().split(',').next().unwrap().trim().to_owned()
}

fn collections(case: &Case) {
    let version = reference_version(case);
    let indices = |name: &str| labels(case, name).mapv(|v| v as usize);
    let binary = (vector(case, "binary.preds").mapv(f64::from), indices("binary.target"));
    let classes = (matrix(case, "multiclass.preds").mapv(f64::from), indices("multiclass.target"));
    let findings = (matrix(case, "multilabel.preds").mapv(f64::from), indices("multilabel.target"));
    let (seg_preds, seg_target) = (labels(case, "segmentation.preds"), labels(case, "segmentation.target"));
    let largest = seg_preds.iter().chain(&seg_target).max().unwrap();
    let mut confusion = ConfusionMatrix::new(*largest as usize + 1).unwrap();
    confusion.update(seg_preds.view(), seg_target.view()).unwrap();
    let view1 = |a: &ArrayD<usize>| a.clone().into_dimensionality::<Ix1>().unwrap();
    let (binary_targets, class_targets) = (view1(&binary.1), view1(&classes.1));
    let finding_targets = findings.1.clone().into_dimensionality::<Ix2>().unwrap();

    let mut sets: Vec<String> =
        case.names("expected").iter().map(|n| n.split_once('.').unwrap().0.to_owned()).collect();
    sets.dedup();
    for set in sets {
        let described = &case.values[&set][&version];
        let strings = |v: &Value| -> Vec<String> {
            v.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
        };
        let keys = strings(&described["result_keys"]);
        let class_names: Vec<String> = keys.iter().filter_map(|k| k.strip_prefix('_').map(str::to_owned)).collect();
        let parsed: MetricSet = set.parse().unwrap();
        let predictions = match parsed {
            MetricSet::BinaryAuc => Predictions::Binary(binary.0.view(), binary_targets.view()),
            MetricSet::MultilabelAuc | MetricSet::MultilabelAccuracy => {
                assert_eq!(class_names, strings(&case.parameters["labels"]));
                Predictions::Multilabel(findings.0.view(), finding_targets.view())
            }
            MetricSet::SegmentationMetrics => Predictions::Segmentation(&confusion),
            _ => Predictions::Multiclass(classes.0.view(), class_targets.view()),
        };
        let results = parsed.evaluate(&predictions, &class_names, THEIRS).unwrap();
        assert_eq!(parsed.members(), strings(&described["member_order"]), "{set}");
        assert_eq!(results.iter().map(|r| r.key.clone()).collect::<Vec<_>>(), keys, "{set}");
        for r in &results {
            check_values(case, &format!("{set}.{}", r.key), &r.values);
        }
    }

    for choice in case.values["selection"].as_array().unwrap() {
        let scores: Vec<f64> =
            choice["scores"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect();
        let index = |v: &Value| v.as_u64().map(|v| v as usize);
        assert_eq!(best_index(&scores), index(&choice["proposed"]), "{scores:?}");
        assert_eq!(reference_best_index(&scores), index(&choice["reference_choice"]), "{scores:?}");
    }
}
