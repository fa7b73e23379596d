//! The heads as methods: the same numbers as the heads themselves, descriptions there and back, and
//! every kind of refusal.

use std::{path::Path, sync::Mutex};

use candle::{Device, Tensor};
use dinorad_core::{
    Protocol, Target, Task, TaskKind,
    method::{Answer, Context, Entry, Error, Fitted, InMemory, Lent, Method, TokenLayout, Views},
    rng,
};
use dinorad_heads::{
    BatchOrder, EpochSampler, Fit, InfiniteSampler, InputLayout, Knn, LinearModel, LinearSweep, LogisticModel,
    LogisticRegression, MlKnn, Predict, ProbePoint, ProbeTask, Reduction, Start, Targets, TrainingNeighbours, Vote,
    methods::{
        self,
        linear::{Avgpool, LinearMethod, Order, StartReader},
        logreg::LogregMethod,
        mlknn::MlKnnMethod,
    },
};
use ndarray::{Array2, ArrayView2, Axis};
use rand::Rng;
use serde_json::{Value, json};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const PROTOCOLS: [Protocol; 2] = [Protocol::Paper, Protocol::Strict];

fn entry(name: &str) -> &'static Entry {
    methods::entries().iter().find(|e| e.name == name).unwrap()
}

fn read(name: &str, protocol: Protocol, description: &Value) -> Result<Box<dyn Method>, String> {
    let mut from = <dyn erased_serde::Deserializer>::erase(description);
    (entry(name).read)(&mut from, protocol).map_err(|e| e.to_string())
}

fn method(name: &str, description: Value) -> Box<dyn Method> {
    read(name, Protocol::Strict, &description).unwrap()
}

fn resolved(method: &dyn Method) -> Value {
    serde_json::to_value(method).unwrap()
}

fn task(kind: TaskKind, classes: usize) -> Task {
    Task { kind, class_names: (0..classes).map(|c| format!("class {c}")).collect(), is_3d: false }
}

fn rows(n: usize, dim: usize, seed: u64) -> Array2<f32> {
    let mut rng = rng::stream(seed, 0, 0);
    Array2::from_shape_simple_fn((n, dim), || rng.random_range(-1.0..1.0))
}

fn of_classes(n: usize, dim: usize, classes: usize, seed: u64) -> InMemory {
    InMemory::new(rows(n, dim, seed), (0..n).map(|i| Target::Class((i * 7 + i / 3) % classes)).collect())
}

fn of_findings(n: usize, dim: usize, findings: usize, seed: u64) -> InMemory {
    let labels =
        |i: usize| Target::Labels((0..findings).map(|f| u8::from((i * (f + 2) + i / 5).is_multiple_of(3))).collect());
    InMemory::new(rows(n, dim, seed), (0..n).map(labels).collect())
}

fn answers(cases: &InMemory, classes: usize) -> Targets {
    Targets::from_samples(&cases.targets, classes).unwrap()
}

fn x(cases: &InMemory) -> ArrayView2<'_, f32> {
    cases.rows.as_ref().unwrap().view()
}

fn predicted(fitted: &dyn Fitted, cases: &dyn Lent) -> Vec<Array2<f32>> {
    let mut out = Vec::new();
    fitted
        .predict(cases, &mut |which, answer| {
            assert_eq!(which, out.len());
            let Answer::Probabilities(p) = answer else { panic!("no probabilities") };
            out.push(p);
            Ok(())
        })
        .unwrap();
    out
}

fn learned(fitted: &dyn Fitted) -> Vec<f64> {
    let mut numbers = Vec::new();
    fitted.learned(&mut |v| numbers.push(v)).unwrap();
    numbers
}

fn labels(method: &dyn Method) -> Vec<String> {
    method.settings().into_iter().map(|s| s.label).collect()
}

fn slugs(method: &dyn Method) -> Vec<String> {
    method.settings().into_iter().map(|s| s.slug).collect()
}

#[test]
fn knn_is_the_head() -> Outcome {
    let (train, test, task) = (of_classes(40, 6, 3, 1), of_classes(9, 6, 3, 2), task(TaskKind::Multiclass, 3));
    let method = method("knn", json!({"k": [7, 1, 7, 3], "temperature": 0.1, "vote": "shared-softmax"}));
    assert_eq!(
        (labels(&*method), slugs(&*method)),
        (["k = 1", "k = 3", "k = 7"].map(String::from).to_vec(), ["k1", "k3", "k7"].map(String::from).to_vec())
    );
    assert_eq!(method.settings()[2].values, [("k", 7.0)]);
    assert_eq!((method.title(), method.tables_every_setting(), method.is_explicit()), ("kNN", true, true));
    let axis = method.search_axis().unwrap();
    assert_eq!((axis.value, axis.label, axis.plot), ("k", "number of neighbours k", "auroc-by-k"));
    let head = Knn::new(&[1, 3, 7]).with_temperature(0.1).with_vote(Vote::SharedSoftmax);
    let model = head.fit(x(&train), &answers(&train, 3))?;
    let fitted = method.fit(&train, &task, &Context::PLAIN)?;
    assert_eq!(predicted(&*fitted, &test), model.votes(x(&test))?);
    assert_eq!(predicted(&*fitted.keep(1), &test), model.votes(x(&test))?);
    let Targets::Classes { labels: classes, .. } = answers(&train, 3) else { unreachable!() };
    let numbers: Vec<f64> = model.rows().map(f64::from).chain(classes.into_iter().map(f64::from)).collect();
    assert_eq!(learned(&*fitted), numbers);
    assert!(!fitted.save(0, Path::new("/nowhere/model"))?);
    let one = method.only(1);
    assert_eq!(labels(&*one), ["k = 3"]);
    let alone = head_votes(&[3], &train, &test);
    assert_eq!(predicted(&*method_of(Knn::new(&[3])).fit(&train, &task, &Context::PLAIN)?, &test), alone);
    Ok(())
}

fn method_of(head: Knn) -> Box<dyn Method> {
    Box::new(methods::knn::KnnMethod::from(head))
}

fn head_votes(ks: &[usize], train: &InMemory, test: &InMemory) -> Vec<Array2<f32>> {
    Knn::new(ks).fit(x(train), &answers(train, 3)).unwrap().votes(x(test)).unwrap()
}

#[test]
fn ml_knn_is_the_head_for_every_smoothing() -> Outcome {
    let (train, test) = (of_findings(40, 6, 3, 3), of_findings(9, 6, 3, 4));
    let task = task(TaskKind::Multilabel, 3);
    let method = method("mlknn", json!({"k": [4, 2], "smoothing": [1.0, 0.5], "neighbours": {"skip-first": 1}}));
    assert_eq!((method.title(), method.is_explicit()), ("ML-kNN", true));
    assert!(!read("mlknn", Protocol::Strict, &json!({}))?.is_explicit());
    assert_eq!(labels(&*method), ["k = 2, s = 1", "k = 4, s = 1", "k = 2, s = 0.5", "k = 4, s = 0.5"]);
    assert_eq!(slugs(&*method)[2], "k2-s0.5");
    assert_eq!(method.settings()[3].values, [("k", 4.0), ("s", 0.5)]);
    let fitted = method.fit(&train, &task, &Context::PLAIN)?;
    let (mut want, mut numbers) = (Vec::new(), Vec::new());
    for smoothing in [1.0, 0.5] {
        let head = MlKnn::new(&[2, 4]).with_smoothing(smoothing).with_neighbours(TrainingNeighbours::SkipFirst(1));
        let model = head.fit(x(&train), &answers(&train, 3))?;
        want.extend(model.probabilities(x(&test))?.into_iter().map(|p| p.mapv(|v| v as f32)));
        numbers.extend(model.rows().map(f64::from));
        numbers.extend(model.prior());
        for at in 0..2 {
            let (with, without) = model.conditionals(at).unwrap();
            numbers.extend(with.iter().chain(without));
        }
    }
    assert_eq!(predicted(&*fitted, &test), want);
    assert_eq!(learned(&*fitted), numbers);
    assert_eq!(labels(&*method.only(2)), ["k = 2, s = 0.5"]);
    let alone = method.only(2).fit(&train, &task, &Context::PLAIN)?;
    assert_eq!(predicted(&*alone, &test), [want[2].clone()]);
    Ok(())
}

#[test]
fn logistic_regression_is_the_head_along_its_path() -> Outcome {
    let (train, test, task) = (of_classes(40, 4, 2, 5), of_classes(9, 4, 2, 6), task(TaskKind::Binary, 2));
    let method = method("logreg", json!({"c": [0.001, 2.0], "tolerance": 1e-9, "max_iterations": 50}));
    assert_eq!(labels(&*method), ["C = 0.001", "C = 2"]);
    assert_eq!(slugs(&*method), ["c1e-3", "c2e0"]);
    assert_eq!(method.search_axis().unwrap().plot, "auroc-by-c");
    let one = LogisticRegression { c: 0.001, tolerance: 1e-9, max_iterations: 50 };
    let models = one.sweep(x(&train), &answers(&train, 2), &[0.001, 2.0])?;
    let fitted = method.fit(&train, &task, &Context::PLAIN)?;
    let want: Vec<_> = models.iter().map(|m| m.predict(x(&test)).unwrap()).collect();
    assert_eq!(want[0].dim(), (9, 2));
    assert_eq!(predicted(&*fitted, &test), want);
    assert_eq!(predicted(&*fitted.keep(1), &test), [want[1].clone()]);
    let numbers: Vec<f64> = models
        .iter()
        .flat_map(|m| m.coefficients().iter().chain(m.intercepts()).copied().collect::<Vec<_>>())
        .collect();
    assert_eq!(learned(&*fitted), numbers);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    assert!(fitted.save(1, &path)? && !fitted.save(2, &path)?);
    assert_eq!(LogisticModel::load(&path)?.c(), 2.0);
    // a class that training does not show is told of
    let fitted = method.fit(
        &train,
        &Task { kind: TaskKind::Multiclass, ..self::task(TaskKind::Multiclass, 3) },
        &Context::PLAIN,
    )?;
    assert_eq!(fitted.absent(), [2]);
    Ok(())
}

#[test]
fn linear_probes_are_the_sweep_in_the_order_of_the_protocol() -> Outcome {
    let layout = InputLayout { dim: 3, blocks: 4, avgpool: true };
    let tokens = TokenLayout { blocks: 4, avgpool: true };
    let (train, test) = (of_findings(21, 15, 2, 7).with_tokens(tokens), of_findings(5, 15, 2, 8));
    let task = task(TaskKind::Multilabel, 2);
    let said = json!({"learning_rates": [0.01, 0.3], "epochs": 3, "batch_size": 8, "seed": 5});
    for protocol in PROTOCOLS {
        let method = read("linear", protocol, &said)?;
        assert_eq!(method.tokens(), Some(tokens));
        let points = ProbePoint::grid(&[1, 4], &[true, false], &[0.01, 0.3]);
        let reduction = if protocol == Protocol::Paper { Reduction::BatchSum } else { Reduction::Mean };
        let sweep = LinearSweep { epochs: 3, batch_size: 8, seed: 5, reduction, ..LinearSweep::new(points.clone()) };
        let sweep = sweep.with_layout(layout);
        let y = answers(&train, 2);
        let models = match protocol {
            Protocol::Strict => sweep.fit_all(x(&train), &y)?,
            Protocol::Paper => sweep.fit_in_order(x(&train), &y, &mut InfiniteSampler::new(21, 5, 0)?, 9)?,
        };
        let fitted = method.fit(&train, &task, &Context::PLAIN)?;
        let want: Vec<_> = models.iter().map(|m| m.predict(x(&test)).unwrap()).collect();
        assert_eq!(predicted(&*fitted, &test), want, "{protocol}");
        assert_eq!(predicted(&*fitted.keep(6), &test), [want[6].clone()]);
        let numbers: Vec<f64> = models
            .iter()
            .flat_map(|m| [m.weight(), m.bias()])
            .flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .map(f64::from)
            .collect();
        assert_eq!(learned(&*fitted), numbers);
        assert_eq!(labels(&*method)[..2], ["lr 0.01, 1 block + mean patch", "lr 0.3, 1 block + mean patch"]);
        assert_eq!(labels(&*method)[7], "lr 0.3, 4 blocks");
        assert_eq!(slugs(&*method)[7], "linear:blocks=4:avgpool=False:lr=0_3000000000");
        assert_eq!(method.settings()[7].values, [("blocks", 4.0), ("avgpool", 0.0), ("learning_rate", 0.3)]);
        let one = method.only(6);
        assert_eq!(labels(&*one), ["lr 0.01, 4 blocks"]);
        assert_eq!(predicted(&*one.fit(&train, &task, &Context::PLAIN)?, &test), [want[6].clone()]);
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("model.safetensors");
        assert!(fitted.save(6, &path)?);
        assert_eq!(LinearModel::load(&path)?.predict(x(&test))?, want[6]);
        // rows of another width than the tokens they are said to be made of
        let odd = of_findings(21, 16, 2, 7).with_tokens(tokens);
        assert!(matches!(method.fit(&odd, &task, &Context::PLAIN), Err(Error::Failed(_))));
        let seeded = method.with_seed(6).fit(&train, &task, &Context::PLAIN)?;
        assert_ne!(learned(&*seeded), numbers);
    }
    Ok(())
}

/// Rows as they are, and who was asked for.
struct Told<'a>(&'a InMemory, Mutex<Vec<Vec<(usize, u64)>>>);

impl Views for Told<'_> {
    fn for_each(
        &self,
        batches: Vec<Vec<(usize, u64)>>,
        f: &mut dyn FnMut(Array2<f32>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for batch in batches {
            let rows: Vec<usize> = batch.iter().map(|(row, _)| *row).collect();
            self.1.lock().unwrap().push(batch);
            f(x(self.0).select(Axis(0), &rows))?;
        }
        Ok(())
    }
}

/// Cases with views.
struct Viewed<'a>(Told<'a>);

impl Lent for Viewed<'_> {
    fn ids(&self) -> &[String] {
        self.0.0.ids()
    }

    fn targets(&self) -> &[Target] {
        self.0.0.targets()
    }

    fn rows(&self) -> Result<ArrayView2<'_, f32>, Error> {
        self.0.0.rows()
    }

    fn views(&self) -> Option<&dyn Views> {
        Some(&self.0)
    }
}

#[test]
fn augmented_training_asks_for_every_batch_and_its_pass() -> Outcome {
    let (train, task) = (of_classes(10, 4, 3, 9), task(TaskKind::Multiclass, 3));
    let said = json!({"learning_rates": [0.2], "blocks": [1], "avgpool": "without", "epochs": 3, "batch_size": 4});
    let mut augmented = said.clone();
    augmented["augment"] = json!(true);
    let plain = method("linear", said).fit(&train, &task, &Context::PLAIN)?;
    let augmented = method("linear", augmented);
    let viewed = Viewed(Told(&train, Mutex::default()));
    let fitted = augmented.fit(&viewed, &task, &Context::PLAIN)?;
    assert_eq!(learned(&*fitted), learned(&*plain));
    let asked = viewed.0.1.into_inner()?;
    assert_eq!(asked.iter().map(Vec::len).collect::<Vec<_>>(), [4; 9]);
    let mut order = EpochSampler::new(10, 0)?;
    let rows: Vec<usize> = (0..9).flat_map(|_| order.next_batch(4)).collect();
    let want: Vec<(usize, u64)> = rows.into_iter().enumerate().map(|(at, row)| (row, at as u64 / 10)).collect();
    assert_eq!(asked.concat(), want);
    assert!(matches!(augmented.fit(&train, &task, &Context::PLAIN), Err(Error::NotLent { .. })));
    Ok(())
}

#[test]
fn given_weights_and_batches_are_where_training_starts() -> Outcome {
    let (train, task) = (of_classes(10, 4, 3, 9), task(TaskKind::Multiclass, 3));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("start.safetensors");
    let (weight, bias) = (rows(3, 4, 1), rows(1, 3, 2));
    let tensor = |x: &Array2<f32>| Tensor::from_iter(x.iter().copied(), &Device::Cpu)?.reshape(x.dim());
    let batches = Tensor::new(&[[0i64, 1, 2], [3, 4, 5]], &Device::Cpu)?;
    let named = [("weight", tensor(&weight)?), ("bias", tensor(&bias)?.squeeze(0)?), ("batches", batches)];
    candle::safetensors::save(&named.into_iter().collect(), &file)?;
    let said = json!({"learning_rates": [0.2], "blocks": [1], "avgpool": "without", "iterations": 2, "init": file});
    let fitted = method("linear", said.clone()).fit(&train, &task, &Context::PLAIN)?;
    let sweep =
        LinearSweep { reduction: Reduction::Mean, ..LinearSweep::new(ProbePoint::grid(&[1], &[false], &[0.2])) };
    let mut trainer = sweep.trainer(4, ProbeTask::Multiclass(3), 2)?;
    trainer.set_weights(0, &tensor(&weight)?, &tensor(&bias)?.squeeze(0)?)?;
    for batch in [[0, 1, 2], [3, 4, 5]] {
        trainer.step(x(&train).select(Axis(0), &batch).view(), &answers(&train, 3).select(&batch)?)?;
    }
    let (w, b) = trainer.weights(0)?;
    let want: Vec<f32> = [w.flatten_all()?.to_vec1::<f32>()?, b.to_vec1()?].concat();
    assert_eq!(learned(&*fitted), want.into_iter().map(f64::from).collect::<Vec<_>>());
    // more steps than batches, a row that there is not, no file, a file of something else
    let refused = |said: Value, train: &InMemory| {
        let method = method("linear", said);
        let fit = method.fit(train, &task, &Context::PLAIN).map(|_| ()).unwrap_err();
        assert!(matches!(fit, Error::Failed(_)));
        (fit.to_string(), method.check(&task).err().map(|e| e.to_string()))
    };
    let with = |key: &str, value: Value| {
        let mut said = said.clone();
        said[key] = value;
        said
    };
    let (long, checked) = refused(with("iterations", json!(3)), &train);
    assert_eq!((long.as_str(), checked), ("given batches must be one for every step, got 2 for 3 steps", None));
    let few = InMemory::new(rows(4, 4, 3), [0, 1, 2, 0].map(Target::Class).to_vec());
    assert!(refused(said.clone(), &few).0.contains("row 4 of 4"));
    let none = refused(with("init", json!(folder.path().join("none"))), &train);
    assert!(none.0.starts_with("could not read") && none.1.as_ref() == Some(&none.0));
    std::fs::write(&file, b"something else")?;
    assert!(refused(said.clone(), &train).1.unwrap().contains("start.safetensors"));
    // a crate that knows other formats reads for the method
    let mut from = <dyn erased_serde::Deserializer>::erase(&said);
    let reader: StartReader = |path| {
        let (weight, bias) = (rows(3, 4, 1).mapv(f64::from), rows(1, 3, 2).mapv(f64::from).remove_axis(Axis(0)));
        let batches = ndarray::array![[0., 1., 2.], [3., 4., 5.]];
        let arrays = [("weight", weight.into_dyn()), ("bias", bias.into_dyn()), ("batches", batches.into_dyn())];
        Ok(Start::new(path, arrays.map(|(name, array)| (name.to_owned(), array)))?)
    };
    let read = LinearMethod { reader, ..LinearMethod::read(&mut from, Protocol::Strict)? };
    assert_eq!(learned(&*read.clone_box().fit(&train, &task, &Context::PLAIN)?), learned(&*fitted));
    Ok(())
}

#[test]
fn descriptions_go_there_and_back_under_both_protocols() {
    for protocol in PROTOCOLS {
        for entry in methods::entries() {
            let usual = read(entry.name, protocol, &json!({})).unwrap();
            let said = resolved(&*usual);
            let optional = ["iterations", "init"];
            let written: Vec<&str> = said.as_object().unwrap().keys().map(String::as_str).collect();
            let mut want: Vec<&str> = entry.keys.iter().copied().filter(|k| !optional.contains(k)).collect();
            want.sort_unstable();
            assert_eq!(written, want, "{}", entry.name);
            let again = read(entry.name, protocol, &said).unwrap();
            assert_eq!(resolved(&*again), said);
            assert_eq!(again.settings(), usual.settings());
            // what is written does not depend on the protocol it is read under
            let other = read(entry.name, PROTOCOLS[usize::from(protocol == Protocol::Paper)], &said).unwrap();
            assert_eq!(resolved(&*other), said);
            for key in entry.keys {
                let refusal = read(entry.name, protocol, &json!({ *key: {"no": "such value"} })).err();
                assert!(refusal.is_some(), "{} {key}", entry.name);
            }
            assert!(!entry.summary.is_empty() && usual.name() == entry.name);
        }
    }
    let both = |name: &str| PROTOCOLS.map(|p| resolved(&*read(name, p, &json!({})).unwrap()));
    let knn = json!({"k": [5, 20, 50, 100, 200], "temperature": 0.07, "vote": "renormalised"});
    assert_eq!(both("knn"), [knn.clone(), knn]);
    let mlknn = |n: &str| json!({"k": [5, 20, 50, 100, 200], "smoothing": [1.0], "neighbours": n});
    assert_eq!(both("mlknn"), [mlknn("with-itself"), mlknn("without-itself")]);
    let linear = |reduction: &str, order: &str| {
        json!({
            "learning_rates": [0.001, 0.005, 0.01, 0.05], "blocks": [1, 4], "avgpool": "both", "epochs": 100,
            "batch_size": 128, "momentum": 0.9, "reduction": reduction, "order": order, "seed": 0, "augment": false,
        })
    };
    assert_eq!(both("linear"), [linear("sum", "infinite"), linear("mean", "epochs")]);
    assert_eq!(both("logreg")[0]["c"].as_array().unwrap().len(), 45);
    assert_eq!(both("logreg")[0]["tolerance"], json!(1e-12));
    // by hand as by description
    let (mut from, protocol) = (json!({"iterations": 7, "reduction": "sum", "order": "infinite"}), Protocol::Strict);
    let by_hand = LinearMethod {
        iterations: Some(7),
        reduction: Reduction::BatchSum,
        order: Order::Infinite,
        ..LinearMethod::new(protocol)
    };
    assert_eq!(resolved(&*read("linear", protocol, &from).unwrap()), resolved(&by_hand));
    assert_eq!(resolved(&by_hand)["iterations"], 7);
    from["avgpool"] = json!("with");
    let with = LinearMethod { avgpool: Avgpool::With, ..by_hand.clone() };
    assert_eq!(resolved(&*read("linear", protocol, &from).unwrap()), resolved(&with));
    assert!(with != by_hand && with == with.clone());
    let named = MlKnnMethod::new(protocol).with_k(vec![3, 1, 3]).with_smoothings(vec![0.5]);
    let named = named.with_neighbours(TrainingNeighbours::SkipFirst(2));
    let said = json!({"k": [1, 3], "smoothing": [0.5], "neighbours": {"skip-first": 2}});
    assert_eq!(resolved(&named), said);
    assert_eq!(LogregMethod::default(), LogregMethod::default().clone());
}

#[test]
fn what_a_description_may_not_say_is_told_in_words() {
    let refusal = |name: &str, said: Value| read(name, Protocol::Strict, &said).map(|_| ()).unwrap_err();
    assert_eq!(refusal("knn", json!({"kk": [1]})), "unknown field `kk`, expected one of `k`, `temperature`, `vote`");
    for entry in methods::entries() {
        let listed: Vec<String> = entry.keys.iter().map(|k| format!("`{k}`")).collect();
        let want = format!("unknown field `x`, expected one of {}", listed.join(", "));
        assert_eq!(refusal(entry.name, json!({"x": 1})), want);
    }
    assert_eq!(refusal("knn", json!({"k": [5, 0]})), "k must be one or more numbers of at least 1, got [5, 0]");
    assert_eq!(refusal("mlknn", json!({"k": []})), "k must be one or more numbers of at least 1, got []");
    assert_eq!(refusal("knn", json!({"temperature": 0.0})), "temperature must be a number above 0, got 0.0");
    assert_eq!(
        refusal("mlknn", json!({"smoothing": [1, -1]})),
        "smoothing must be one or more numbers above 0, got [1.0, -1.0]"
    );
    assert!(refusal("knn", json!({"vote": "loud"})).contains("unknown variant `loud`"));
    assert_eq!(refusal("logreg", json!({"c": [0.0]})), "c must be one or more numbers above 0, got [0.0]");
    assert_eq!(refusal("logreg", json!({"max_iterations": 0})), "max_iterations must be at least 1, got 0");
    for key in ["epochs", "iterations", "batch_size"] {
        assert_eq!(refusal("linear", json!({ key: 0 })), format!("{key} must be at least 1, got 0"));
    }
    assert_eq!(refusal("linear", json!({"momentum": 1.0})), "momentum must be from 0 to below 1, got 1.0");
    assert_eq!(refusal("linear", json!({"blocks": [0]})), "blocks must be one or more numbers of at least 1, got [0]");
    assert_eq!(
        refusal("linear", json!({"learning_rates": [-1.0]})),
        "learning_rates must be one or more numbers above 0, got [-1.0]"
    );
}

#[test]
fn neighbours_are_cut_to_what_there_is() {
    let usual = read("knn", Protocol::Strict, &json!({})).unwrap();
    assert!(!usual.is_explicit() && usual.within(200).unwrap().is_none());
    let (cut, notice) = usual.within(30).unwrap().unwrap();
    assert_eq!(notice, "k = 50, 100, 200 became 30: 30 training cases");
    assert_eq!(resolved(&*cut)["k"], json!([5, 20, 30]));
    assert!(!cut.is_explicit() && method("knn", json!({"k": [1]})).is_explicit());
    assert!(matches!(usual.within(0), Err(Error::Unlearnable(_))));
    let with = |neighbours: Value| method("mlknn", json!({"k": [2, 10], "neighbours": neighbours}));
    let most = |method: Box<dyn Method>| {
        let (cut, _) = method.within(8).unwrap().unwrap();
        resolved(&*cut)["k"].clone()
    };
    assert_eq!(most(with(json!("with-itself"))), json!([2, 8]));
    assert_eq!(most(with(json!("without-itself"))), json!([2, 7]));
    assert_eq!(most(with(json!({"skip-first": 3}))), json!([2, 5]));
    assert!(with(json!("with-itself")).within(10).unwrap().is_none());
    assert!(with(json!("without-itself")).within(10).unwrap().is_some());
    assert!(matches!(with(json!("without-itself")).within(1), Err(Error::Unlearnable(_))));
    for name in ["logreg", "linear"] {
        assert!(method(name, json!({})).within(1).unwrap().is_none());
    }
    // what is cut can be fitted
    let train = of_findings(8, 3, 2, 1);
    let (cut, _) = with(json!({"skip-first": 3})).within(8).unwrap().unwrap();
    assert!(cut.fit(&train, &task(TaskKind::Multilabel, 2), &Context::PLAIN).is_ok());
}

#[test]
fn every_kind_of_refusal() {
    let binary = task(TaskKind::Binary, 2);
    let one_class = InMemory::new(rows(6, 3, 1), vec![Target::Class(1); 6]);
    let usable = of_classes(6, 3, 2, 1);
    let mut broken = usable.clone();
    broken.rows.as_mut().unwrap()[[4, 1]] = f32::NAN;
    let bare = InMemory { rows: None, ..usable.clone() };
    let unlabelled = InMemory::new(rows(6, 3, 1), vec![Target::Unlabelled; 6]);
    let fit = |name: &str, said: Value, train: &InMemory, task: &Task| {
        method(name, said).fit(train, task, &Context::PLAIN).map(|_| ()).unwrap_err()
    };
    for name in ["logreg", "linear"] {
        let error = fit(name, json!({}), &one_class, &binary);
        assert!(matches!(error, Error::Unlearnable(_)), "{name}");
        assert_eq!(error.to_string(), "all 6 training rows are of class 1");
    }
    let error = fit("knn", json!({"k": [7]}), &usable, &binary);
    assert!(matches!(error, Error::Unlearnable(_)));
    assert_eq!(error.to_string(), "k = 7 neighbours asked of 6 training rows");
    for name in ["knn", "logreg", "linear"] {
        let said = || if name == "knn" { json!({"k": [1]}) } else { json!({}) };
        let error = fit(name, said(), &broken, &binary);
        assert!(matches!(error, Error::Failed(_)) && error.to_string().contains("row 4"), "{name}: {error}");
        assert!(matches!(fit(name, said(), &bare, &binary), Error::NotLent { what: "rows of features" }), "{name}");
        assert!(fit(name, said(), &unlabelled, &binary).to_string().contains("unlabelled"), "{name}");
        let masks = task(TaskKind::Segmentation, 2);
        assert!(matches!(method(name, json!({})).check(&masks), Err(Error::Failed(_))), "{name}");
        assert!(method(name, json!({})).check(&binary).is_ok());
    }
    let words = "ML-kNN is for multilabel data, whose cases may have several findings; those here have one class: use \
                 eval knn";
    assert_eq!(method("mlknn", json!({})).check(&binary).unwrap_err().to_string(), words);
    assert_eq!(fit("mlknn", json!({}), &usable, &binary).to_string(), words);
    let findings = of_findings(6, 3, 3, 1);
    let error = fit("logreg", json!({}), &findings, &task(TaskKind::Multilabel, 2));
    assert_eq!(error.to_string(), "row 0 has 3 labels, expected 2");
    let none = method_of(Knn::new(&[]));
    assert!(matches!(none.check(&binary), Err(Error::Failed(_))));
    // a model answers for cases of its own width alone
    let fitted = method("logreg", json!({})).fit(&usable, &binary, &Context::PLAIN).unwrap();
    let error = fitted.predict(&of_classes(2, 4, 2, 1), &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Failed(_)));
    // and what hears the answers may stop it
    let stop = fitted.predict(&usable, &mut |_, _| Err(Error::NotLent { what: "more" })).unwrap_err();
    assert!(matches!(stop, Error::NotLent { what: "more" }));
}
