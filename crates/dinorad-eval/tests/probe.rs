//! The protocol on made features: nothing of the test split reaches a search, bad input is named, and
//! what stands beside a score is what it says.

use std::{collections::BTreeMap, fs, sync::Arc};

use dinorad_core::{
    Protocol, Target, Task, TaskKind,
    method::{Answer, Error as MethodError, Method},
    rng,
};
use dinorad_datasets::PatientKey;
use dinorad_eval::{
    Error,
    experiment::MethodChoice,
    probe::{
        Context, Draw, Labelled, ProbeOptions, ProbeRun, Refit, SliceRows, Splits, SubsetOptions, compare, probe,
        shuffled_labels, subset_curves,
    },
};
use dinorad_heads::{
    AttentionTraining, InputLayout, Knn,
    methods::{
        knn::KnnMethod,
        linear::{Avgpool, LinearMethod, Order},
        logreg::LogregMethod,
        mlknn::MlKnnMethod,
    },
};
use dinorad_metrics::BootstrapOptions;
use dinorad_report::{Existing, RunWriter};
use ndarray::{Array2, s};
use rand::Rng;

const WIDTH: usize = 6;

fn task(kind: TaskKind, classes: usize) -> Task {
    Task { kind, class_names: (0..classes).map(|c| format!("class {c}")).collect(), is_3d: false }
}

/// Features that tell classes apart with some error.
fn cases(name: &str, n: usize, task: &Task, seed: u64) -> Labelled {
    let mut rng = rng::stream(seed, 0, 0);
    let classes = task.n_classes();
    let targets: Vec<Target> = (0..n)
        .map(|i| match task.kind {
            TaskKind::Multilabel => Target::Labels((0..classes).map(|_| u8::from(rng.random_bool(0.4))).collect()),
            _ => Target::Class(i % classes),
        })
        .collect();
    let x = Array2::from_shape_fn((n, WIDTH), |(i, c)| {
        let signal = match &targets[i] {
            Target::Class(class) => f32::from(u8::from(*class == c)),
            Target::Labels(labels) => f32::from(labels.get(c).copied().unwrap_or(0)),
            _ => 0.0,
        };
        signal + rng.random_range(-0.8f32..0.8)
    });
    let mut out = Labelled::new((0..n).map(|i| format!("{name}-{i}")).collect(), targets, x).unwrap();
    out.layout = Some(InputLayout { dim: WIDTH / 2, blocks: 2, avgpool: false });
    out
}

fn knn(ks: &[usize]) -> KnnMethod {
    KnnMethod::from(Knn::new(ks))
}

fn logreg(strengths: &[f64]) -> LogregMethod {
    LogregMethod { c: strengths.to_vec(), ..LogregMethod::default() }
}

fn linear(protocol: Protocol) -> LinearMethod {
    LinearMethod {
        learning_rates: vec![0.01, 0.1],
        blocks: vec![1, 2],
        avgpool: Avgpool::Without,
        epochs: 5,
        batch_size: 16,
        ..LinearMethod::new(protocol)
    }
}

fn methods(kind: TaskKind, protocol: Protocol) -> Vec<Box<dyn Method>> {
    let mut methods: Vec<Box<dyn Method>> =
        vec![Box::new(knn(&[1, 5, 20])), Box::new(logreg(&[1e-3, 1e-1, 10.0])), Box::new(linear(protocol))];
    if kind == TaskKind::Multilabel {
        methods.push(Box::new(MlKnnMethod::new(protocol).with_k(vec![3, 10]).with_smoothings(vec![1.0, 0.1])));
    }
    methods
}

fn options(protocol: Protocol) -> ProbeOptions {
    ProbeOptions { bootstrap: BootstrapOptions { draws: 50, ..Default::default() }, ..ProbeOptions::new(protocol) }
}

/// Everything a run knows before it has looked at the test split, to the last bit.
fn before_test(run: &ProbeRun) -> String {
    let val = run.val().unwrap();
    let settings: Vec<_> = run
        .of_setting()
        .iter()
        .map(|s| (s.setting.clone(), s.val_auroc.map(f64::to_bits), s.val_accuracy.map(f64::to_bits)))
        .collect();
    let p: Vec<u32> = val.predictions.probabilities.iter().map(|v| v.to_bits()).collect();
    format!(
        "{:?} {settings:?} {p:?} {:?} {:?} {} {}",
        run.best(),
        val.auroc,
        val.others,
        run.search_digest(),
        run.model_digest()
    )
}

#[test]
fn nothing_of_the_test_split_reaches_a_search() {
    for (kind, classes) in [(TaskKind::Binary, 2), (TaskKind::Multiclass, 3), (TaskKind::Multilabel, 3)] {
        let task = task(kind, classes);
        let (train, val, test) = (cases("a", 90, &task, 1), cases("b", 40, &task, 2), cases("c", 40, &task, 3));
        // other cases, other labels, other numbers of both, values far from any of train
        let mut garbage = cases("g", 27, &task, 9);
        garbage.features.mapv_inplace(|v| v * 1e6 - 3e7);
        if let Target::Labels(_) = garbage.targets[0] {
            garbage.targets.iter_mut().for_each(|t| *t = Target::Labels(vec![1, 0, 1]));
        } else {
            garbage.targets.iter_mut().for_each(|t| *t = Target::Class(1));
        }
        for protocol in [Protocol::Strict, Protocol::Paper] {
            for method in methods(kind, protocol) {
                let run = |test: &Labelled| {
                    let splits = Splits { train: &train, val: Some(&val), test };
                    probe(&*method, &splits, &task, &options(protocol), &Context::PLAIN).unwrap()
                };
                let (real, other) = (run(&test), run(&garbage));
                assert!(before_test(&real) == before_test(&other), "{} under {protocol}", method.name());
                assert_ne!(real.test().predictions, other.test().predictions);
                // the numbers do depend on what they may depend on
                let splits = Splits { train: &val, val: Some(&train), test: &test };
                let swapped = probe(&*method, &splits, &task, &options(protocol), &Context::PLAIN).unwrap();
                assert_ne!(swapped.search_digest(), real.search_digest());
            }
        }
    }
}

/// Scans whose third slice holds the answer.
fn scans(name: &str, n: usize, seed: u64) -> Labelled {
    let mut rng = rng::stream(seed, 1, 0);
    let mut offsets = vec![0];
    let mut values = Vec::new();
    for i in 0..n {
        let slices = 4 + i % 3;
        for slice in 0..slices {
            let at = slice == 2;
            values.push(f32::from(u8::from(at)));
            // what other slices say is a coin: only the marked one can be trusted
            values.push(if at { (i % 2) as f32 } else { rng.random_range(0..2) as f32 });
            values.push(rng.random_range(-1.0..1.0));
        }
        offsets.push(offsets[i] + slices);
    }
    let rows = Array2::from_shape_vec((values.len() / 3, 3), values).unwrap();
    let means: Vec<f32> =
        offsets.windows(2).flat_map(|w| rows.slice(s![w[0]..w[1], ..]).mean_axis(ndarray::Axis(0)).unwrap()).collect();
    let features = Array2::from_shape_vec((n, 3), means).unwrap();
    let targets = (0..n).map(|i| Target::Class(i % 2)).collect();
    let mut out = Labelled::new((0..n).map(|i| format!("{name}-{i}")).collect(), targets, features).unwrap();
    out.slices = Some(Arc::new(SliceRows { rows, offsets }));
    out
}

#[test]
fn attention_is_learned_on_train_and_tells_its_weights() {
    let task = Task { is_3d: true, ..task(TaskKind::Binary, 2) };
    let (train, val, test) = (scans("a", 80, 1), scans("b", 30, 2), scans("c", 41, 3));
    let mut garbage = scans("g", 12, 7);
    let rows = Arc::get_mut(garbage.slices.as_mut().unwrap()).unwrap();
    rows.rows.mapv_inplace(|v| 1e4 - v);
    let training = AttentionTraining { epochs: 60, learning_rate: 1e-2, ..AttentionTraining::default() };
    let method = logreg(&[0.1, 10.0, 100.0]);
    let run = |test: &Labelled, attention| {
        let options = ProbeOptions { attention, ..options(Protocol::Strict) };
        probe(&method, &Splits { train: &train, val: Some(&val), test }, &task, &options, &Context::PLAIN).unwrap()
    };
    let learned = run(&test, Some(training.clone()));
    assert!(before_test(&learned) == before_test(&run(&garbage, Some(training))));
    let auroc = |run: &ProbeRun| run.test().auroc.unwrap().estimate;
    let mean = run(&test, None);
    assert!(auroc(&learned) > 0.95 && auroc(&learned) > auroc(&mean), "{} {}", auroc(&learned), auroc(&mean));
    let weights = learned.test().slice_weights.as_ref().unwrap();
    assert_eq!(weights.len(), 41);
    for (i, of_scan) in weights.iter().enumerate() {
        assert_eq!(of_scan.len(), 4 + i % 3);
        assert!((of_scan.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        let best = (0..of_scan.len()).max_by(|a, b| of_scan[*a].total_cmp(&of_scan[*b])).unwrap();
        // scans of one class rest on the slice that tells, those of the other on its absence
        assert!(best == 2 || i % 2 == 0, "scan {i}: {of_scan:?}");
    }
    assert!(mean.test().slice_weights.is_none());
    // the same model on the same cases again
    let again = learned.judge(&test).unwrap();
    assert_eq!(again.predictions, learned.test().predictions);
}

#[test]
fn what_cannot_be_judged_is_named() {
    let binary = task(TaskKind::Binary, 2);
    let findings = task(TaskKind::Multilabel, 3);
    let (train, val, test) = (cases("a", 60, &binary, 1), cases("b", 30, &binary, 2), cases("c", 30, &binary, 3));
    let run = |method: &dyn Method, train: &Labelled, val: Option<&Labelled>, test: &Labelled, task: &Task| {
        probe(method, &Splits { train, val, test }, task, &options(Protocol::Strict), &Context::PLAIN)
    };
    let with_nan = |cases: &Labelled, row: usize| {
        let mut cases = cases.clone();
        cases.features[[row, 2]] = f32::NAN;
        cases
    };
    let none = train.select(&[]).unwrap();
    let one_class = train.with_targets(vec![Target::Class(1); 60]).unwrap();
    for method in methods(TaskKind::Binary, Protocol::Strict) {
        let name = method.name();
        let fails = |train: &Labelled, val: Option<&Labelled>, test: &Labelled| {
            run(&*method, train, val, test, &binary).map(|_| ()).unwrap_err()
        };
        for (error, split, id) in [
            (fails(&with_nan(&train, 7), Some(&val), &test), "train", "a-7"),
            (fails(&train, Some(&with_nan(&val, 3)), &test), "val", "b-3"),
            (fails(&train, Some(&val), &with_nan(&test, 29)), "test", "c-29"),
        ] {
            let text = error.to_string();
            assert!(matches!(error, Error::NotFinite { .. }), "{name}: {text}");
            assert!(text.contains(split) && text.contains(id), "{name}: {text}");
        }
        assert!(matches!(fails(&none, Some(&val), &test), Error::EmptySplit { split: "train" }), "{name}");
        assert!(matches!(fails(&train, Some(&val), &none), Error::EmptySplit { split: "test" }), "{name}");
        assert!(matches!(fails(&train, None, &test), Error::Protocol { .. }), "{name}");
        assert!(matches!(fails(&train, Some(&none), &test), Error::Protocol { .. }), "{name}");
        let error = fails(&one_class, Some(&val), &test).to_string();
        assert!(error.contains("all 60 training cases are of the class `class 1`"), "{name}: {error}");
        let narrow = Labelled::new(test.ids.clone(), test.targets.clone(), Array2::zeros((30, 2))).unwrap();
        assert!(matches!(fails(&train, Some(&val), &narrow), Error::Shape { .. }), "{name}");
        let unlabelled = train.with_targets(vec![Target::Unlabelled; 60]).unwrap();
        assert!(matches!(fails(&unlabelled, Some(&val), &test), Error::Heads(_)), "{name}");

        // a test split of one class has no AUROC, and that is said; the rest is there
        let sick = test.with_targets(vec![Target::Class(1); 30]).unwrap();
        let judged = run(&*method, &train, Some(&val), &sick, &binary).unwrap();
        assert!(judged.test().auroc.is_none() && judged.test().accuracy.is_some(), "{name}");
        assert_eq!(judged.test().absent, [0], "{name}");
        assert!(judged.notices().iter().any(|n| n.contains("class 0")), "{name}: {:?}", judged.notices());
        assert_eq!(judged.metrics().get("test", "auroc").unwrap().mean, None);
        // and so has a validation split of one class: chosen by accuracy
        let well = val.with_targets(vec![Target::Class(0); 30]).unwrap();
        let judged = run(&*method, &train, Some(&well), &test, &binary).unwrap();
        assert!(judged.notices().iter().any(|n| n.contains("chosen by accuracy")), "{name}: {:?}", judged.notices());
        assert!(judged.test().auroc.is_some());
    }
    let error = run(&knn(&[5, 61]), &train, Some(&val), &test, &binary).unwrap_err().to_string();
    assert!(error.contains("k = 61") && error.contains("60"), "{error}");
    let segmentation = task_of(TaskKind::Segmentation);
    assert!(run(&knn(&[5]), &train, Some(&val), &test, &segmentation).is_err());
    assert!(run(&MlKnnMethod::new(Protocol::Strict), &train, Some(&val), &test, &binary).is_err());

    // findings: unequal numbers of labels, and one that nobody has
    let (train, val, test) = (cases("a", 60, &findings, 1), cases("b", 30, &findings, 2), cases("c", 30, &findings, 3));
    for method in methods(TaskKind::Multilabel, Protocol::Strict) {
        let name = method.name();
        let mut unequal = train.clone();
        unequal.targets[13] = Target::Labels(vec![1, 0]);
        let error = run(&*method, &unequal, Some(&val), &test, &findings).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("row 13") && error.contains("2 labels") && error.contains('3'), "{name}: {error}");
        let narrow: Vec<Target> = (0..30).map(|i| Target::Labels(vec![u8::from(i % 2 == 0); 2])).collect();
        let narrow = val.with_targets(narrow).unwrap();
        assert!(run(&*method, &train, Some(&narrow), &test, &findings).is_err(), "{name}");

        let without = |cases: &Labelled| {
            let targets = cases.targets.iter().map(|t| match t {
                Target::Labels(labels) => Target::Labels(vec![labels[0], 0, labels[2]]),
                other => other.clone(),
            });
            cases.with_targets(targets.collect()).unwrap()
        };
        let judged = run(&*method, &without(&train), Some(&without(&val)), &without(&test), &findings).unwrap();
        assert_eq!(judged.test().absent, [1], "{name}");
        assert!(judged.test().auroc_by_class[1].is_none() && judged.test().auroc.is_some(), "{name}");
        assert!(judged.notices().iter().any(|n| n.contains("class 1")), "{name}: {:?}", judged.notices());
        let mean = [0, 2].map(|c| judged.test().auroc_by_class[c].unwrap().estimate).iter().sum::<f64>() / 2.0;
        assert!((judged.test().auroc.unwrap().estimate - mean).abs() < 1e-12, "{name}");
    }
}

fn task_of(kind: TaskKind) -> Task {
    task(kind, 2)
}

#[test]
fn findings_that_are_constant_in_training_are_told() {
    let task = task(TaskKind::Multilabel, 3);
    let (train, val, test) = (cases("a", 60, &task, 1), cases("b", 30, &task, 2), cases("c", 30, &task, 3));
    let with = |finding: usize, label: u8| {
        let targets = train.targets.iter().map(|t| {
            let Target::Labels(labels) = t else { panic!("{t:?}") };
            Target::Labels(labels.iter().enumerate().map(|(c, l)| if c == finding { label } else { *l }).collect())
        });
        train.with_targets(targets.collect()).unwrap()
    };
    let told = |train: &Labelled| -> Vec<String> {
        let splits = Splits { train, val: Some(&val), test: &test };
        let run = probe(&logreg(&[1.0]), &splits, &task, &options(Protocol::Strict), &Context::PLAIN).unwrap();
        run.notices().iter().filter(|notice| notice.contains("constant in training")).cloned().collect()
    };
    assert_eq!(told(&train), Vec::<String>::new());
    for (train, finding) in [(with(1, 0), "class 1"), (with(2, 1), "class 2")] {
        let [told] = told(&train).try_into().unwrap();
        assert!(told.ends_with(&format!(": {finding}")), "{told}");
    }
}

#[test]
fn only_a_choice_needs_a_validation_split() {
    let task = task(TaskKind::Binary, 2);
    let (train, test) = (cases("a", 60, &task, 1), cases("c", 30, &task, 3));
    let none = train.select(&[]).unwrap();
    for val in [None, Some(&none)] {
        let run = |strengths: &[f64]| {
            let splits = Splits { train: &train, val, test: &test };
            probe(&logreg(strengths), &splits, &task, &options(Protocol::Strict), &Context::PLAIN)
        };
        let one = run(&[0.1]).unwrap();
        assert_eq!(one.best().values, [("C", 0.1)]);
        assert!(one.val().is_none() && one.test().auroc.is_some());
        assert!(one.convention().contains("by nothing: one setting"), "{}", one.convention());
        let two = run(&[0.1, 1.0]).unwrap_err().to_string();
        assert!(two.contains("choosing among 2 settings needs a validation split"), "{two}");
    }
}

#[test]
fn few_shots_are_balanced_seeded_and_their_own() {
    let task = task(TaskKind::Binary, 2);
    let (train, val, test) = (cases("a", 120, &task, 1), cases("b", 40, &task, 2), cases("c", 60, &task, 3));
    let splits = Splits { train: &train, val: Some(&val), test: &test };
    let subsets =
        SubsetOptions { shots: vec![1, 2, 8, 61], fractions: vec![0.1, 1.0], tries: 4, seed: 7, draw: Draw::PerClass };
    for method in methods(TaskKind::Binary, Protocol::Paper) {
        let curves = |subsets: &SubsetOptions| {
            subset_curves(&*method, &splits, &task, &options(Protocol::Paper), subsets, &Context::PLAIN).unwrap()
        };
        let all = curves(&subsets);
        assert_eq!(all, curves(&subsets), "{}", method.name());
        assert_ne!(all, curves(&SubsetOptions { seed: 8, ..subsets.clone() }));
        let [shots, fraction] = all.as_slice() else { panic!("{all:?}") };
        let sizes: Vec<usize> = shots.points.iter().map(|p| p.draws[0].cases).collect();
        assert_eq!(sizes, [2, 4, 16, 0]);
        // a reader is told what was counted and what chose the settings
        assert_eq!((shots.unit, fraction.unit), ("cases per class", "fraction of the training cases"));
        assert!(shots.note.starts_with("shots are cases of every class, drawn by seed; of "), "{}", shots.note);
        for note in [&shots.note, &fraction.note] {
            assert!(note.contains("chosen by auroc on the whole validation split (40 cases)"), "{note}");
        }
        assert!(shots.points.iter().all(|p| p.draws.len() == 4));
        // 60 cases of a class are all there is
        assert!(shots.points[3].draws.iter().all(|d| d.auroc.is_none() && d.notice.as_ref().unwrap().contains("61")));
        assert_eq!(shots.points[3].auroc().mean, None);
        let curve = shots.points[2].to_curve_point();
        assert_eq!((curve.x, curve.cases, curve.metrics["auroc"].values.len()), (8.0, Some(16.0), 4));
        assert!(shots.points[2].auroc().mean.unwrap() > 0.6, "{}: {:?}", method.name(), shots.points[2]);
        assert_eq!((fraction.points[0].draws[0].cases, fraction.points[1].draws.len()), (12, 1));
        if method.name() == "knn" {
            assert!(shots.points[0].draws[0].notice.as_ref().unwrap().contains("became 2"), "{:?}", shots.points[0]);
        }
        // all cases are the run itself, where it is not trained on validation too
        let strict = ProbeOptions { refit: Refit::Train, ..options(Protocol::Paper) };
        let method = method.with_seed(7);
        let whole = probe(&*method, &splits, &task, &strict, &Context::PLAIN).unwrap();
        assert_eq!(fraction.points[1].draws[0].auroc, whole.test().auroc.map(|i| i.estimate));
    }
    let wrong = |subsets: SubsetOptions| {
        subset_curves(&linear(Protocol::Strict), &splits, &task, &options(Protocol::Strict), &subsets, &Context::PLAIN)
            .unwrap_err()
    };
    for bad in [
        SubsetOptions { tries: 0, ..subsets.clone() },
        SubsetOptions { shots: vec![0], ..subsets.clone() },
        SubsetOptions { fractions: vec![1.5], ..subsets.clone() },
    ] {
        assert!(matches!(wrong(bad), Error::Parameter { .. }));
    }

    // the study's draw: so many patients of a class, all their images, nothing random
    let mut named = train.clone();
    named.ids = (0..120).map(|i| format!("{:08}_{:03}.png", i / 2, i % 2)).collect();
    named.patients = (0..120).map(|i| Some(PatientKey::of(&format!("patient {}", 997 * (i / 2) % 60)))).collect();
    named.targets = (0..120).map(|i| Target::Class(usize::from(i / 2 % 2 == 1))).collect();
    let splits = Splits { train: &named, ..splits };
    let study = SubsetOptions { shots: vec![3], fractions: vec![], draw: Draw::Patients, ..subsets };
    let curves = subset_curves(&knn(&[1]), &splits, &task, &options(Protocol::Paper), &study, &Context::PLAIN);
    let curves = curves.unwrap();
    let point = &curves[0].points[0];
    assert_eq!((point.draws.len(), point.draws[0].cases), (1, 12));
    assert_eq!(curves[0].unit, "patients per class");
    assert!(curves[0].note.ends_with("; one setting, nothing chosen"), "{}", curves[0].note);
    let even = SubsetOptions { draw: Draw::EvenlySpaced, ..study };
    let curves = subset_curves(&knn(&[1]), &splits, &task, &options(Protocol::Paper), &even, &Context::PLAIN).unwrap();
    assert_eq!((curves[0].unit, curves[0].points[0].draws[0].cases), ("cases in all", 3));
    assert!(curves[0].note.contains("evenly spaced"), "{}", curves[0].note);
}

#[test]
fn shuffled_labels_score_as_chance_does() {
    let task = task(TaskKind::Binary, 2);
    let (train, val, test) = (cases("a", 400, &task, 1), cases("b", 200, &task, 2), cases("c", 400, &task, 3));
    let splits = Splits { train: &train, val: Some(&val), test: &test };
    for method in methods(TaskKind::Binary, Protocol::Strict) {
        let options = options(Protocol::Strict);
        let seeds: Vec<u64> = (0..8).collect();
        let control = shuffled_labels(&*method, &splits, &task, &options, &seeds, &Context::PLAIN).unwrap();
        let mean = control.iter().map(|t| t.auroc.unwrap()).sum::<f64>() / 8.0;
        let real = probe(&*method, &splits, &task, &options, &Context::PLAIN).unwrap().test().auroc.unwrap().estimate;
        assert!((mean - 0.5).abs() < 0.2 && real > mean + 0.15, "{}: {mean} beside {real}", method.name());
        assert_eq!(control, shuffled_labels(&*method, &splits, &task, &options, &seeds, &Context::PLAIN).unwrap());
    }
}

#[test]
fn models_are_compared_on_the_cases_they_share() {
    for (kind, classes, test_used) in
        [(TaskKind::Binary, 2, "DeLong"), (TaskKind::Multiclass, 3, "paired bootstrap over cases")]
    {
        let task = task(kind, classes);
        let (train, val, test) = (cases("a", 200, &task, 1), cases("b", 60, &task, 2), cases("c", 150, &task, 3));
        let options = options(Protocol::Strict);
        let method = logreg(&[1.0]);
        let run = |train: &Labelled, test: &Labelled| {
            probe(&method, &Splits { train, val: Some(&val), test }, &task, &options, &Context::PLAIN).unwrap()
        };
        let good = run(&train, &test);
        let same = compare(good.test(), good.test(), &task, &options.bootstrap).unwrap().unwrap();
        assert_eq!((same.difference, same.p_value, same.method.as_str()), (0.0, Some(1.0), test_used));
        // a model that learned from labels without meaning
        let mut noise = train.clone();
        noise.features.mapv_inplace(|v| (v * 1e3).rem_euclid(1.0));
        let bad = run(&noise, &test);
        let worse = compare(good.test(), bad.test(), &task, &options.bootstrap).unwrap().unwrap();
        let difference = good.test().auroc.unwrap().estimate - bad.test().auroc.unwrap().estimate;
        assert!((worse.difference - difference).abs() < 1e-12, "{} {difference}", worse.difference);
        assert!(difference > 0.03, "{kind:?}: {difference}");
        assert!(worse.p_value.unwrap() < 0.05 && worse.ci95.unwrap()[0] > 0.0 && worse.cases == 150, "{worse:?}");
        // one of the two lacks cases
        let half = run(&train, &test.select(&(0..70).collect::<Vec<_>>()).unwrap());
        assert_eq!(compare(good.test(), half.test(), &task, &options.bootstrap).unwrap().unwrap().cases, 70);
        // patients are drawn where they are known
        let mut grouped = test.clone();
        grouped.patients = (0..150).map(|i| Some(PatientKey::of(&(i / 3).to_string()))).collect();
        let by_patient = run(&train, &grouped);
        let compared = compare(by_patient.test(), bad.test(), &task, &options.bootstrap).unwrap().unwrap();
        assert_eq!(compared.method, "paired bootstrap over patients");
    }
}

#[test]
fn a_start_from_a_file_is_followed() {
    let task = task(TaskKind::Binary, 2);
    let (train, val, test) = (cases("a", 40, &task, 1), cases("b", 20, &task, 2), cases("c", 20, &task, 3));
    let splits = Splits { train: &train, val: Some(&val), test: &test };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("start.safetensors");
    let write = |weight: &[f32], batches: &[u32], width: usize| {
        use candle::{Device, Tensor};
        let tensors = [
            ("weight".to_owned(), Tensor::from_slice(weight, (1, weight.len()), &Device::Cpu).unwrap()),
            ("bias".to_owned(), Tensor::new(&[0.25f32], &Device::Cpu).unwrap()),
            ("batches".to_owned(), Tensor::from_slice(batches, (batches.len() / width, width), &Device::Cpu).unwrap()),
        ];
        candle::safetensors::save(&tensors.into_iter().collect(), &path).unwrap();
    };
    let method = |iterations| LinearMethod {
        learning_rates: vec![0.1],
        blocks: vec![2],
        batch_size: 4,
        iterations: Some(iterations),
        init: Some(path.clone()),
        order: Order::Epochs,
        ..linear(Protocol::Strict)
    };
    let run = |iterations| probe(&method(iterations), &splits, &task, &options(Protocol::Strict), &Context::PLAIN);
    let start = [0.1f32, -0.2, 0.3, 0.0, 0.5, -0.1];
    write(&start, &[0, 1, 2, 3, 7, 7, 5, 39], 4);
    // two steps of SGD by hand
    let (mut w, mut b) = (start.map(f64::from), 0.25f64);
    let (mut vw, mut vb) = ([0f64; 6], 0f64);
    for (step, batch) in [[0usize, 1, 2, 3], [7, 7, 5, 39]].iter().enumerate() {
        let (mut gw, mut gb) = ([0f64; 6], 0f64);
        for &i in batch {
            let x: Vec<f64> = train.features.row(i).iter().map(|v| f64::from(*v)).collect();
            let z = b + x.iter().zip(&w).map(|(x, w)| x * w).sum::<f64>();
            let error = (1.0 / (1.0 + (-z).exp()) - (i % 2) as f64) / 4.0;
            gb += error;
            gw.iter_mut().zip(&x).for_each(|(g, x)| *g += error * x);
        }
        let rate = 0.1 * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / 2.0).cos());
        vb = 0.9 * vb + gb;
        b -= rate * vb;
        for k in 0..6 {
            vw[k] = 0.9 * vw[k] + gw[k];
            w[k] -= rate * vw[k];
        }
    }
    let done = run(2).unwrap();
    for (row, p) in test.features.outer_iter().zip(done.test().predictions.probabilities.outer_iter()) {
        let z = b + row.iter().zip(&w).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
        assert!((f64::from(p[1]) - 1.0 / (1.0 + (-z).exp())).abs() < 1e-6);
    }
    // what does not fit is named
    assert!(run(3).unwrap_err().to_string().contains("2 for 3 steps"));
    write(&start, &[0, 1, 2, 40], 4);
    assert!(run(1).unwrap_err().to_string().contains("row 40 of 40"));
    write(&start[..3], &[0, 1], 2);
    assert!(run(1).is_err());
    fs::write(&path, b"nothing").unwrap();
    let Err(Error::Method(MethodError::Failed(error))) = run(1) else { panic!("no start, and yet a run") };
    let error = error.downcast::<dinorad_heads::Error>().unwrap();
    assert!(matches!(&*error, dinorad_heads::Error::Format { path: named, .. } if *named == path), "{error}");
}

#[test]
fn a_convention_says_of_what_when_and_over_whom() {
    for (kind, classes, auroc) in [
        (TaskKind::Binary, 2, "class 1 against 0"),
        (TaskKind::Multiclass, 3, "each class against the rest"),
        (TaskKind::Multilabel, 3, "called above 0.5"),
    ] {
        let task = task(kind, classes);
        let (train, val, mut test) = (cases("a", 60, &task, 1), cases("b", 30, &task, 2), cases("c", 30, &task, 3));
        let of = |protocol, val, test: &Labelled| {
            let splits = Splits { train: &train, val, test };
            probe(&logreg(&[1.0]), &splits, &task, &options(protocol), &Context::PLAIN).unwrap().metrics().convention
        };
        let strict = of(Protocol::Strict, Some(&val), &test);
        for told in ["strict; ", "by auroc", "trained on train; ", auroc, "bootstrap over cases, 50 resamples, seed 0"]
        {
            assert!(strict.contains(told), "{told}: {strict}");
        }
        let paper = of(Protocol::Paper, Some(&val), &test);
        assert!(paper.starts_with("paper; ") && paper.contains("trained on train and validation; "), "{paper}");
        assert!(of(Protocol::Paper, None, &test).contains("trained on train; "));
        // patients are drawn where every case names one
        test.patients = (0..30).map(|i| (i > 0).then(|| PatientKey::of(&(i / 2).to_string()))).collect();
        assert!(of(Protocol::Strict, None, &test).contains("bootstrap over cases, "));
        test.patients[0] = Some(PatientKey::of("0"));
        assert!(of(Protocol::Strict, None, &test).contains("bootstrap over patients, "));
    }
}

#[test]
fn a_run_is_written_with_everything_it_knows() {
    let task = task(TaskKind::Multilabel, 3);
    let (train, val, test) = (cases("a", 80, &task, 1), cases("b", 40, &task, 2), cases("c", 40, &task, 3));
    let splits = Splits { train: &train, val: Some(&val), test: &test };
    let root = tempfile::tempdir().unwrap();
    for method in methods(TaskKind::Multilabel, Protocol::Paper) {
        let run = probe(&*method, &splits, &task, &options(Protocol::Paper), &Context::PLAIN).unwrap();
        let mut writer = RunWriter::create(&root.path().join(method.name()), Existing::Refuse).unwrap();
        let choice = MethodChoice::replaced(run.method().clone_box()).unwrap();
        writer.config(&BTreeMap::from([("method", &choice)])).unwrap();
        writer.metrics(&run.metrics()).unwrap();
        run.write(&writer).unwrap();
        let folder = writer.finish().unwrap();
        let metrics = folder.metrics().unwrap();
        assert_eq!(metrics.setting_label.as_deref(), Some(run.best().label.as_str()));
        let values: BTreeMap<&str, f64> = run.best().values.iter().copied().collect();
        let written: BTreeMap<&str, f64> =
            metrics.setting.iter().map(|(name, v)| (name.as_str(), v.as_f64().unwrap())).collect();
        assert_eq!((written.is_empty(), written), (false, values));
        assert_eq!(metrics.model.as_deref(), Some(run.model_digest()));
        for name in ["auroc", "accuracy", "average_precision", "f1", "sensitivity", "specificity", "brier", "ece"] {
            assert!(metrics.get("test", name).unwrap().mean.is_some(), "{} {name}", method.name());
            assert!(metrics.get("val", name).is_some());
        }
        for c in 0..3 {
            assert!(metrics.get("test", &format!("auroc_class_{c}")).unwrap().ci95.is_some());
        }
        for of in run.of_setting() {
            assert!(metrics.get("val", &format!("auroc_{}", of.setting.slug)).is_some());
            assert_eq!(of.test.is_some(), method.tables_every_setting() || of.setting == *run.best());
        }
        // the same numbers, and the names of the classes with them
        for (name, of) in [("predictions", run.test()), ("predictions-val", run.val().unwrap())] {
            let written = folder.predictions(name).unwrap().unwrap();
            let judged = &of.predictions;
            assert_eq!((&written.ids, &written.targets), (&judged.ids, &judged.targets), "{name}");
            assert_eq!(written.probabilities, judged.probabilities, "{name}");
        }
        let learned = ["logreg", "linear"].contains(&method.name());
        assert_eq!(folder.path().join("model.safetensors").exists(), learned);
        // what was kept answers as the run did, to the byte
        let entry = dinorad_eval::experiment::methods().into_iter().find(|e| e.name == method.name()).unwrap();
        let kept = match learned {
            true => folder.path().to_owned(),
            false => {
                let error = (entry.load)(folder.path()).unwrap_err();
                assert!(error.to_string().contains("no model was kept"), "{error}");
                let kept = root.path().join(format!("{}-kept", method.name()));
                run.save_model(&kept).unwrap();
                kept
            }
        };
        let mut answers = Vec::new();
        let loaded = (entry.load)(&kept).unwrap();
        let give = &mut |which, answer| {
            answers.push((which, answer));
            Ok(())
        };
        loaded.predict(&test, give).unwrap();
        assert_eq!(answers, [(0, Answer::Probabilities(run.test().predictions.probabilities.clone()))]);
        // and what is no model of it is told by its name
        let path = kept.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = (entry.load)(&kept).unwrap_err();
        assert!(error.to_string().contains("model.safetensors"), "{error}");
        fs::write(&path, bytes).unwrap();
        assert_eq!(run.trained_on(), 120);
        // the description is that of the method that was judged, with every setting
        let config: toml::Table = fs::read_to_string(folder.path().join("config.toml")).unwrap().parse().unwrap();
        let toml::Value::Table(described) = &config["method"] else { panic!("{config}") };
        assert_eq!(described["name"].as_str(), Some(method.name()));
        let back = MethodChoice::read(described.clone(), Protocol::Strict).unwrap();
        assert_eq!(back.settings(), method.settings());
        assert_eq!(serde_json::to_value(&*back).unwrap(), serde_json::to_value(&*method).unwrap());
    }
}
