//! The trainer: what it makes of gradients, and that it goes on where it was broken off.

use std::{collections::BTreeMap, path::Path};

use dinorad_nn::{
    Activation, Error, Linear, Mlp, Pass, Result, Schedule, Trainable,
    candle::{Device, Tensor},
    init::trunc_normal,
    optim::Algorithm,
    train::{BEST, LAST, Lesson, Rate, RunOptions, Score, Step, TrainOptions, Trainer, run},
};

fn random(name: &str, shape: &[usize]) -> Tensor {
    trunc_normal(4, name, shape, 0.5, &Device::Cpu).unwrap()
}

fn model() -> Mlp {
    let linear = |name: &str, out: usize, input: usize| {
        Linear::new(random(&format!("{name}.w"), &[out, input]), Some(random(&format!("{name}.b"), &[out])))
    };
    Mlp { fc1: linear("fc1", 6, 4), fc2: linear("fc2", 2, 6), activation: Activation::Gelu }
}

fn bytes(tensors: &BTreeMap<String, Tensor>) -> Vec<(String, Vec<u32>)> {
    let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
    tensors.iter().map(|(name, t)| (name.clone(), bits(t))).collect()
}

/// Batches of a step's own, with dropout; it stops with an error at a step, as a process that is killed.
#[derive(Default)]
struct Task {
    killed_at: Option<usize>,
    not_a_number_at: Option<usize>,
    scores: Vec<f64>,
}

impl Lesson<Mlp> for Task {
    fn loss(&mut self, model: &Mlp, at: Step, pass: Pass) -> Result<Tensor> {
        if self.killed_at == Some(at.step) {
            return Err(Error::lesson("killed"));
        }
        let x = random(&format!("x{}.{}", at.step, at.part), &[3, 4]);
        let y = random(&format!("y{}.{}", at.step, at.part), &[3, 2]);
        let x = pass.at(9).dropout(&x, 0.3)?;
        let loss = (model.forward(&x, pass)? - y)?.sqr()?.mean_all()?;
        Ok(if self.not_a_number_at == Some(at.step) { (loss * f64::NAN)? } else { loss })
    }

    fn validate(&mut self, model: &Mlp) -> Result<Option<Score>> {
        let loss = model.forward(&random("v", &[5, 4]), Pass::Inference)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
        let score = if self.scores.is_empty() { -f64::from(loss) } else { self.scores.remove(0) };
        Ok(Some(Score(score)))
    }
}

fn options() -> TrainOptions {
    TrainOptions { clip: Some(0.8), accumulate: 2, ema: Some(0.7), ..TrainOptions::new(Schedule::cosine(12)) }
}

fn trainer(options: &TrainOptions) -> Trainer<Mlp> {
    let rate = |name: &str| {
        let rate = Rate::new(if name.starts_with("fc2") { 0.05 } else { 0.01 });
        Some(if name.ends_with("bias") { rate } else { rate.with_weight_decay(0.1) })
    };
    Trainer::new(model(), options, &mut |name| rate(name)).unwrap()
}

fn kept(folder: &Path) -> RunOptions<'_> {
    RunOptions {
        validate_every: 3,
        checkpoint_every: 1,
        folder: Some(folder),
        identity: "a training",
        ..RunOptions::default()
    }
}

#[test]
fn a_training_that_was_broken_off_ends_with_the_same_bytes() {
    for options in [options(), TrainOptions { algorithm: Algorithm::SGD, ema: None, ..options() }] {
        let whole = tempfile::tempdir().unwrap();
        let mut uninterrupted = trainer(&options);
        let ended = run(&mut uninterrupted, &mut Task::default(), &kept(whole.path())).unwrap();
        let want = bytes(&uninterrupted.finish().unwrap().tensors());
        assert_ne!(want, bytes(&model().tensors()));
        for checkpoint_every in [1, 4] {
            let folder = tempfile::tempdir().unwrap();
            for killed_at in [2, 7, 8, 11] {
                let options_of_run = RunOptions { checkpoint_every, ..kept(folder.path()) };
                let mut killed = Task { killed_at: Some(killed_at), ..Task::default() };
                let error = run(&mut trainer(&options), &mut killed, &options_of_run).unwrap_err();
                assert_eq!(error.to_string(), "killed");
            }
            let mut resumed = trainer(&options);
            let again = run(&mut resumed, &mut Task::default(), &kept(folder.path())).unwrap();
            assert_eq!(again, ended);
            assert_eq!(bytes(&resumed.finish().unwrap().tensors()), want, "every {checkpoint_every}");
            // every step once, in order, as in the log of the training that was left alone
            let log = |folder: &Path| std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
            assert_eq!(log(folder.path()), log(whole.path()));
        }
    }
}

#[test]
fn parts_of_a_batch_are_the_batch() {
    let loss = |model: &Mlp, rows: (usize, usize)| {
        let x = random("x", &[6, 4]).narrow(0, rows.0, rows.1)?;
        model.forward(&x, Pass::GRADIENTS)?.sqr()?.mean_all().map_err(Error::from)
    };
    let after = |accumulate: usize| {
        let options = TrainOptions { clip: Some(1e3), accumulate, ..TrainOptions::new(Schedule::constant(1)) };
        let mut trainer = trainer(&options);
        let each = 6 / accumulate;
        let stepped = trainer.step(&mut |model, at, _| loss(model, (at.part * each, each))).unwrap();
        (stepped.loss, stepped.norm.unwrap(), trainer.finish().unwrap().fc1.weight().clone())
    };
    let (whole, parts) = (after(1), after(3));
    assert!((whole.0 - parts.0).abs() < 1e-6 && (whole.1 - parts.1).abs() < 1e-5);
    let difference = (whole.2 - parts.2).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn a_long_gradient_is_shortened_and_rates_differ() {
    // SGD without momentum: a step is the rate times the gradient
    let moved = |clip: Option<f64>| {
        let options = TrainOptions {
            algorithm: Algorithm::Sgd { momentum: 0.0 },
            clip,
            ..TrainOptions::new(Schedule::constant(1))
        };
        let rate =
            |name: &str| name.ends_with("weight").then_some(Rate::new(if name == "fc1.weight" { 1.0 } else { 0.5 }));
        let mut trainer = Trainer::new(model(), &options, &mut |name| rate(name)).unwrap();
        trainer
            .step(&mut |m, _, pass| Ok((m.forward(&random("x", &[3, 4]), pass)?.sqr()?.sum_all()? * 50.0)?))
            .unwrap();
        let after = trainer.finish().unwrap().tensors();
        let norm = |name: &str| {
            let moved = (&after[name] - &model().tensors()[name]).unwrap();
            f64::from(moved.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt()
        };
        assert_eq!((norm("fc1.bias"), norm("fc2.bias")), (0.0, 0.0));
        (norm("fc1.weight"), norm("fc2.weight"))
    };
    let (a, b) = moved(Some(0.25));
    assert!(((a * a + 4.0 * b * b).sqrt() - 0.25).abs() < 1e-5, "{a} {b}");
    assert!(moved(None).0 > 10.0);
}

#[test]
fn the_best_comes_out_and_patience_ends() {
    let plain = TrainOptions { ema: None, ..options() };
    let folder = tempfile::tempdir().unwrap();
    let mut learner = trainer(&plain);
    let mut task = Task { scores: vec![0.5, 0.9, 0.9, 0.1], ..Task::default() };
    let ended = run(&mut learner, &mut task, &RunOptions { patience: Some(1), ..kept(folder.path()) }).unwrap();
    // an equal score is no better one
    assert_eq!((ended.best, ended.early, ended.losses.len()), (Some((6, 0.9)), true, 9));
    let best = bytes(&learner.finish().unwrap().tensors());
    let mut short = trainer(&plain);
    for _ in 0..6 {
        short.step(&mut |model, at, pass| Task::default().loss(model, at, pass)).unwrap();
    }
    assert_eq!(best, bytes(&short.finish().unwrap().tensors()));
    // called again, it has ended already
    let mut again = trainer(&plain);
    let options = RunOptions { patience: Some(1), ..kept(folder.path()) };
    assert_eq!(run(&mut again, &mut Task { killed_at: Some(9), ..Task::default() }, &options).unwrap(), ended);
    assert_eq!(bytes(&again.finish().unwrap().tensors()), best);
}

#[test]
fn what_diverges_leaves_the_last_checkpoint_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = Task { not_a_number_at: Some(5), ..Task::default() };
    let mut learner = trainer(&options());
    let error = run(&mut learner, &mut task, &kept(folder.path())).unwrap_err();
    assert!(matches!(error, Error::Diverged { what: "loss", step: 5, .. }), "{error}");
    let mut resumed = trainer(&options());
    run(&mut resumed, &mut Task::default(), &kept(folder.path())).unwrap();
    let whole = tempfile::tempdir().unwrap();
    let mut uninterrupted = trainer(&options());
    run(&mut uninterrupted, &mut Task::default(), &kept(whole.path())).unwrap();
    assert_eq!(bytes(&resumed.finish().unwrap().tensors()), bytes(&uninterrupted.finish().unwrap().tensors()));
}

#[test]
fn folders_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut trainer(&options()), &mut Task::default(), &kept(folder.path())).unwrap();
    assert!(folder.path().join(LAST).is_file() && folder.path().join(BEST).is_file());
    let refused = |options_of_run: &RunOptions<'_>, options: &TrainOptions| {
        run(&mut trainer(options), &mut Task::default(), options_of_run).unwrap_err().to_string()
    };
    let other = RunOptions { identity: "another", ..kept(folder.path()) };
    assert!(refused(&other, &options()).contains("another training"));
    let no_average = TrainOptions { ema: None, ..options() };
    assert!(refused(&kept(folder.path()), &no_average).contains("average"));
    std::fs::write(folder.path().join(LAST), b"cut").unwrap();
    assert!(refused(&kept(folder.path()), &options()).contains(LAST));
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(refused(&kept(&file), &options()).contains("file"));
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |options: TrainOptions| {
        Trainer::new(model(), &options, &mut |_| Some(Rate::new(0.1))).map(drop).unwrap_err().to_string()
    };
    assert!(refused(TrainOptions { accumulate: 0, ..options() }).contains("parts"));
    assert!(refused(TrainOptions { clip: Some(0.0), ..options() }).contains("longest gradient"));
    assert!(refused(TrainOptions { ema: Some(1.0), ..options() }).contains("average"));
    assert!(refused(TrainOptions { schedule: Schedule::constant(0), ..options() }).contains("steps"));
    let nothing = Trainer::new(model(), &options(), &mut |_| None).map(drop).unwrap_err();
    assert!(nothing.to_string().contains("trainable parameters"));
}
