//! What must hold for any input, and what must fail.

use dinorad_metrics::*;
use ndarray::{Array1, Array2, Array3, arr1, arr2};
use proptest::prelude::*;

fn binary() -> impl Strategy<Value = (Array1<f64>, Array1<u8>)> {
    prop::collection::vec((0u8..8, 0u8..2), 4..60).prop_map(|rows| {
        let scores = rows.iter().map(|r| f64::from(r.0) / 7.0).collect();
        let mut targets: Array1<u8> = rows.iter().map(|r| r.1).collect();
        targets[0] = 0;
        targets[1] = 0;
        targets[2] = 1;
        targets[3] = 1;
        (scores, targets)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn auroc_counts_pairs((scores, targets) in binary()) {
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (s, _) in scores.iter().zip(&targets).filter(|(_, t)| **t == 1) {
            for (o, _) in scores.iter().zip(&targets).filter(|(_, t)| **t == 0) {
                sum += if s > o { 1.0 } else if s == o { 0.5 } else { 0.0 };
                pairs += 1.0;
            }
        }
        let got = auroc(scores.view(), targets.view()).unwrap();
        prop_assert!((got - sum / pairs).abs() < 1e-12);
        // the area under the curve is the same number
        let roc = roc_curve(scores.view(), targets.view()).unwrap();
        let area: f64 = (1..roc.thresholds.len()).map(|i| {
            let (x, y) = (&roc.false_positive_rate, &roc.true_positive_rate);
            (x[i] - x[i - 1]) * (y[i] + y[i - 1]) / 2.0
        }).sum();
        prop_assert!((got - area).abs() < 1e-12);
        prop_assert!((delong(scores.view(), targets.view(), 0.95).unwrap().auroc - got).abs() < 1e-12);
        // the order alone matters
        let logits = scores.mapv(|s| (5.0 * s - 2.0).exp());
        prop_assert_eq!(auroc(logits.view(), targets.view()).unwrap(), got);
        let flipped = auroc((-&scores).view(), targets.view()).unwrap();
        prop_assert!((got + flipped - 1.0).abs() < 1e-12);
    }

    #[test]
    fn weights_are_copies((scores, targets) in binary(), seed: u64) {
        let resampling = Resampling::by_case(scores.len()).unwrap();
        let weights = resampling.weights(seed, 3);
        prop_assert_eq!(weights.iter().sum::<u32>() as usize, scores.len());
        let copied: Vec<usize> = (0..scores.len()).flat_map(|i| vec![i; weights[i] as usize]).collect();
        let (s, t) = (scores.select(ndarray::Axis(0), &copied), targets.select(ndarray::Axis(0), &copied));
        let ranked = RankedScores::new(scores.view(), targets.view()).unwrap();
        prop_assert_eq!(ranked.weighted_auroc(&weights), auroc(s.view(), t.view()).ok());
        prop_assert_eq!(ranked.weighted_average_precision(&weights), average_precision(s.view(), t.view()).ok());
    }

    #[test]
    fn operating_points_do_what_they_say((scores, targets) in binary(), rate in 0.0f64..=1.0) {
        for (point, ok) in [
            (at_specificity(scores.view(), targets.view(), rate).unwrap(), 0),
            (at_sensitivity(scores.view(), targets.view(), rate).unwrap(), 1),
            (at_youden(scores.view(), targets.view()).unwrap(), 2),
        ] {
            let counts = BinaryCounts::at_threshold(scores.view(), targets.view(), point.threshold).unwrap();
            prop_assert!((counts.sensitivity().unwrap() - point.sensitivity).abs() < 1e-12);
            prop_assert!((counts.specificity().unwrap() - point.specificity).abs() < 1e-12);
            prop_assert!(ok != 0 || point.specificity >= rate);
            prop_assert!(ok != 1 || point.sensitivity >= rate);
        }
    }

    #[test]
    fn surfaces_are_symmetric_and_scale(seed: u64, s in 0.2f64..3.0) {
        let mut state = seed | 1;
        let mut blob = || Array3::from_shape_simple_fn((4, 5, 6), || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) % 3 == 0
        });
        let (a, b) = (blob(), blob());
        let one = SurfaceDistances::between(a.view(), b.view(), &[1.0, 2.0, 0.5]).unwrap();
        let back = SurfaceDistances::between(b.view(), a.view(), &[1.0, 2.0, 0.5]).unwrap();
        prop_assert_eq!(one.hausdorff(), back.hausdorff());
        prop_assert_eq!(one.prediction_to_target(), back.target_to_prediction());
        let scaled = SurfaceDistances::between(a.view(), b.view(), &[s, 2.0 * s, 0.5 * s]).unwrap();
        prop_assert!((scaled.hausdorff().unwrap() - s * one.hausdorff().unwrap()).abs() < 1e-9);
        let same = SurfaceDistances::between(a.view(), a.view(), &[1.0, 2.0, 0.5]).unwrap();
        prop_assert_eq!(same.hausdorff_percentile(95.0).unwrap(), Some(0.0));
        prop_assert_eq!(same.surface_dice(0.0).unwrap(), Some(1.0));
    }

    #[test]
    fn nothing_panics(n in 0usize..6, c in 0usize..4, v in any::<f64>(), t in -1i64..5) {
        let scores = Array2::from_elem((n, c), v);
        let (classes, labels) = (Array1::from_elem(n, t), Array2::from_elem((n, c), t));
        let _ = multiclass_auroc(scores.view(), classes.view(), Convention::Paper);
        let _ = multilabel_auroc(scores.view(), labels.view(), Convention::Strict);
        let _ = multilabel_average_precision(scores.view(), labels.view(), Convention::TorchMetrics);
        let _ = multiclass_brier_score(scores.view(), classes.view());
        let _ = top_k_accuracy(scores.view(), classes.view(), c, Convention::TorchMetrics);
        let _ = ConfusionMatrix::from_scores(scores.view(), classes.view()).map(|m| {
            let _ = (m.accuracy(), m.matthews_correlation(), m.cohens_kappa(KappaWeights::Quadratic));
            let _ = Overlap::new(&m).pair(Convention::Monai);
            m.per_class(CountMetric::Precision, Convention::Strict)
        });
        let _ = Calibration::new(n).and_then(|mut k| k.update_multiclass(scores.view(), classes.view()));
        if c > 0 {
            let _ = delong(scores.column(0), classes.view(), 0.95);
            let _ = at_youden(scores.column(0), classes.view());
            let _ = log_loss(scores.column(0), classes.view());
        }
    }
}

#[test]
fn bad_input_is_a_named_error() {
    let (s, t) = (arr1(&[0.1, 0.9, 0.5]), arr1(&[0u8, 1, 1]));
    let nan = arr1(&[0.1, f64::NAN, 0.5]);
    assert_eq!(auroc(nan.view(), t.view()), Err(Error::NaN { case: 1, column: 0 }));
    assert!(matches!(auroc(s.view(), arr1(&[0u8, 1]).view()), Err(Error::Shape { .. })));
    assert!(matches!(auroc(s.view(), arr1(&[0u8, 1, 2]).view()), Err(Error::Label { case: 2, .. })));
    assert!(matches!(auroc(s.view(), arr1(&[0i64, 1, -1]).view()), Err(Error::Label { case: 2, .. })));
    let none = (Array1::<f64>::zeros(0), Array1::<u8>::zeros(0));
    assert!(matches!(auroc(none.0.view(), none.1.view()), Err(Error::Empty { .. })));
    let ones = arr1(&[1u8, 1, 1]);
    let one_class = Error::OneClass { positives: 3, negatives: 0, needed: 1 };
    assert_eq!(auroc(s.view(), ones.view()), Err(one_class.clone()));
    assert_eq!(roc_curve(s.view(), ones.view()), Err(one_class));
    assert!(matches!(delong(s.view(), t.view(), 0.95), Err(Error::OneClass { needed: 2, .. })));
    assert!(matches!(brier_score(arr1(&[1.5]).view(), arr1(&[1u8]).view()), Err(Error::Probability { .. })));
    assert!(matches!(at_specificity(s.view(), t.view(), 1.5), Err(Error::Parameter { .. })));
    let mut matrix = ConfusionMatrix::new(2).unwrap();
    assert!(matches!(matrix.update(t.view(), arr1(&[0u8, 1, 2]).view()), Err(Error::Label { .. })));
    assert_eq!(matrix.total(), 0); // a refused batch leaves nothing behind
    assert_eq!(
        "f1".parse::<Convention>().unwrap_err().to_string(),
        "unknown convention `f1`, expected one of strict, paper, torchmetrics, monai"
    );
}

#[test]
fn several_classes_agree_with_the_binary_case() {
    // a 2x2 matrix through both roads
    let (p, t) = (arr1(&[0u8, 1, 1, 0, 1, 1, 0, 0]), arr1(&[0u8, 1, 0, 0, 1, 0, 1, 0]));
    let mut matrix = ConfusionMatrix::new(2).unwrap();
    matrix.update(p.view(), t.view()).unwrap();
    let counts = matrix.one_vs_rest(1);
    let close = |a: Option<f64>, b: Option<f64>| assert!((a.unwrap() - b.unwrap()).abs() < 1e-12, "{a:?} {b:?}");
    close(matrix.matthews_correlation(), counts.matthews_correlation());
    close(matrix.cohens_kappa(KappaWeights::None), counts.cohens_kappa());
    close(matrix.cohens_kappa(KappaWeights::Linear), counts.cohens_kappa());
    assert_eq!(matrix.accuracy(), counts.accuracy());
}

#[test]
fn a_permutation_test_finds_what_is_there_and_nothing_else() {
    let base = Array1::from_shape_fn(40, |i| ((i * 17) % 23) as f64 / 23.0);
    let resampling = Resampling::by_case(40).unwrap();
    let same = paired_permutation_mean(base.view(), base.view(), &resampling, 200, 1).unwrap();
    assert_eq!((same.difference, same.p_value), (0.0, 1.0));
    let targets = Array1::from_shape_fn(40, |i| (i % 2) as u8);
    let good = &base * 0.3 + targets.mapv(f64::from) * 0.7;
    let test = paired_permutation_auroc(good.view(), base.view(), targets.view(), &resampling, 499, 1).unwrap();
    assert!(test.difference > 0.3 && test.p_value <= 0.004, "{test:?}");
}

#[test]
fn a_difference_without_a_standard_error_has_no_p_value() {
    let targets = Array1::from_shape_fn(20, |i| (i % 2) as u8);
    let perfect = targets.mapv(f64::from);
    let constant = Array1::from_elem(20, 0.5);
    let test = delong_paired(perfect.view(), constant.view(), targets.view(), 0.95).unwrap();
    assert_eq!((test.difference, test.standard_error, test.z, test.p_value), (0.5, 0.0, None, None));
    let same = delong_paired(constant.view(), constant.view(), targets.view(), 0.95).unwrap();
    assert_eq!((same.difference, same.z, same.p_value), (0.0, Some(0.0), Some(1.0)));
    // nor has it where patients are drawn
    let run = |p: &Array1<f64>| {
        let p = Array2::from_shape_fn((20, 2), |(i, c)| if c == 1 { p[i] } else { 1.0 - p[i] });
        TaskScores::of_classes(p.view(), targets.view()).unwrap()
    };
    let patients = Resampling::by_group(&(0..20).map(|i| i / 4).collect::<Vec<_>>()).unwrap();
    let compared = compare_auroc(&run(&perfect), &run(&constant), &patients, &BootstrapOptions::default()).unwrap();
    let compared = compared.unwrap();
    assert_eq!((compared.difference, compared.interval, compared.p_value), (0.5, None, None));
    assert_eq!(compared.method, ComparisonMethod::PairedBootstrap);
}

#[test]
fn one_half_is_not_positive() {
    let (p, t) = (arr2(&[[0.5], [0.5], [0.6], [0.4]]), arr2(&[[1u8], [0], [1], [0]]));
    let findings = TaskScores::of_findings(p.view(), t.view()).unwrap();
    let counts = BinaryCounts::at_threshold(p.column(0), t.column(0), POSITIVE_ABOVE).unwrap();
    let both = arr2(&[[0.5, 0.5], [0.5, 0.5], [0.4, 0.6], [0.6, 0.4]]);
    let classes = TaskScores::of_classes(both.view(), t.column(0)).unwrap();
    for scores in [findings, classes] {
        assert_eq!(scores.value(RunScore::Sensitivity), counts.sensitivity());
        assert_eq!(scores.value(RunScore::Specificity), counts.specificity());
        assert_eq!((counts.sensitivity(), counts.specificity()), (Some(0.5), Some(1.0)));
    }
}

#[test]
fn intervals_say_which_draws_gave_nothing() {
    // one positive: a draw without it has no AUROC
    let (s, t) = (arr1(&[0.9, 0.1, 0.2, 0.3]), arr1(&[1u8, 0, 0, 0]));
    let resampling = Resampling::by_case(4).unwrap();
    let ci = bootstrap_auroc(s.view(), t.view(), &resampling, &BootstrapOptions::default()).unwrap();
    assert_eq!((ci.estimate, ci.draws + ci.undefined), (1.0, 1000));
    assert!((200..450).contains(&ci.undefined), "{}", ci.undefined); // (3/4)^4 = 0.316
    let labels = arr2(&[[1u8, 0], [0, 0], [0, 0], [1, 0]]);
    let scores = arr2(&[[0.9, 0.1], [0.3, 0.2], [0.4, 0.3], [0.35, 0.4]]);
    let all = bootstrap_multilabel_auroc(scores.view(), labels.view(), &resampling, &BootstrapOptions::default());
    let all = all.unwrap();
    assert_eq!(all.absent, [1]);
    assert!(all.labels[1].is_none() && all.mean.is_some());
}

#[test]
fn levels_and_draws_are_judged_at_their_limits() {
    let (s, t) = (arr1(&[0.9, 0.1, 0.2, 0.3]), arr1(&[1u8, 0, 1, 0]));
    let resampling = Resampling::by_case(4).unwrap();
    let with =
        |draws, level| bootstrap_auroc(s.view(), t.view(), &resampling, &BootstrapOptions { draws, level, seed: 0 });
    for level in [0.0, 1.0, -0.1, 1.1, f64::NAN] {
        assert!(matches!(with(10, level), Err(Error::Parameter { .. })), "{level}");
    }
    assert!(matches!(with(0, 0.95), Err(Error::Parameter { .. })));
    assert!(with(1, 0.001).is_ok() && with(10, 0.999).is_ok());
}
