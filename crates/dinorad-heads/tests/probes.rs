//! Linear probes: equal to autograd, learning, refusing.

use std::collections::BTreeMap;

use candle::{Device, Tensor, Var};
use dinorad_core::rng;
use dinorad_heads::{
    BatchOrder, EpochSampler, Error, Fit, InputLayout, LinearModel, LinearProbe, LinearSweep, Predict, ProbePoint,
    ProbeTask, Reduction, Targets,
};
use dinorad_nn::{
    Optimizer, cosine_lr, loss,
    optim::{Algorithm, Group},
};
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, concatenate, s};
use rand::Rng;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn features(n: usize, dim: usize, seed: u64) -> Array2<f32> {
    let mut rng = rng::stream(seed, 0, 0);
    Array2::from_shape_simple_fn((n, dim), || rng.random_range(-1.0..1.0))
}

fn tensor(x: ArrayView2<'_, f32>) -> Tensor {
    Tensor::from_iter(x.iter().copied(), &Device::Cpu).unwrap().reshape(x.dim()).unwrap()
}

fn targets(task: ProbeTask, n: usize) -> Targets {
    let mut rng = rng::stream(9, 0, 0);
    match task {
        ProbeTask::Binary => Targets::classes((0..n).map(|_| rng.random_range(0..2)).collect(), 2),
        ProbeTask::Multiclass(k) => Targets::classes((0..n).map(|_| rng.random_range(0..k as u32)).collect(), k),
        ProbeTask::Multilabel(k) => Targets::findings(Array2::from_shape_fn((n, k), |_| rng.random_range(0..2))),
    }
    .unwrap()
}

/// One head alone: candle's autograd and the optimiser of `dinorad-nn`.
fn by_autograd(
    model: &LinearModel,
    sweep: &LinearSweep,
    x: &Array2<f32>,
    y: &Targets,
    steps: usize,
) -> (Tensor, Tensor) {
    let layout = sweep.layout.unwrap();
    let point = model.point();
    let columns = layout.columns(point.blocks, point.avgpool).unwrap();
    let x = tensor(x.slice(s![.., columns]));
    let own = LinearSweep { points: vec![point], ..sweep.clone() };
    let start = own.trainer(layout.width(), model.task(), steps).unwrap().weights(0).unwrap();
    let (weight, bias) = (Var::from_tensor(&start.0).unwrap(), Var::from_tensor(&start.1).unwrap());
    let variables = BTreeMap::from([("weight".to_owned(), weight.clone()), ("bias".to_owned(), bias.clone())]);
    let mut sgd =
        Optimizer::new(Algorithm::Sgd { momentum: sweep.momentum }, vec![Group::new(variables, point.learning_rate)])
            .unwrap();
    let n = x.dim(0).unwrap();
    let mut order = EpochSampler::new(n, sweep.seed).unwrap();
    for step in 0..steps {
        let batch = order.next_batch(sweep.batch_size.min(n));
        let rows = Tensor::from_iter(batch.iter().map(|i| *i as u32), &Device::Cpu).unwrap();
        let x = x.index_select(&rows, 0).unwrap();
        let logits = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
        let loss = match y.select(&batch).unwrap() {
            Targets::Findings(labels) => {
                let y = Tensor::from_iter(labels.iter().map(|v| f32::from(*v)), &Device::Cpu).unwrap();
                loss::bce_with_logits(&logits, &y.reshape(logits.dims()).unwrap(), sweep.reduction).unwrap()
            }
            Targets::Classes { labels, n_classes } => {
                let y = Tensor::new(labels, &Device::Cpu).unwrap();
                if n_classes == 2 {
                    loss::bce_with_logits(&logits.squeeze(1).unwrap(), &y, Reduction::Mean).unwrap()
                } else {
                    loss::cross_entropy(&logits, &y).unwrap()
                }
            }
        };
        sgd.set_lrs(&[cosine_lr(point.learning_rate, 0.0, step, steps)]).unwrap();
        sgd.step(&loss.backward().unwrap()).unwrap();
    }
    (weight.as_detached_tensor(), bias.as_detached_tensor())
}

fn gap(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn a_fused_sweep_equals_every_head_trained_alone_by_autograd() -> Outcome {
    let (n, layout) = (53, InputLayout { dim: 6, blocks: 4, avgpool: true });
    let x = features(n, layout.width(), 1);
    let points = ProbePoint::grid(&[1, 4, 2], &[true, false], &[0.01, 0.3]);
    for task in [ProbeTask::Binary, ProbeTask::Multiclass(4), ProbeTask::Multilabel(3)] {
        for reduction in [Reduction::Mean, Reduction::BatchSum] {
            let y = targets(task, n);
            let sweep = LinearSweep { epochs: 4, batch_size: 16, reduction, ..LinearSweep::new(points.clone()) };
            let sweep = sweep.with_layout(layout);
            let models = sweep.fit_all(x.view(), &y)?;
            assert_eq!(models.len(), points.len());
            for (model, point) in models.iter().zip(&points) {
                assert_eq!(model.point(), *point);
                let (weight, bias) = by_autograd(model, &sweep, &x, &y, sweep.steps(n));
                // f32 sums in another order over 16 steps
                assert!(gap(model.weight(), &weight) < 2e-6, "{task:?} {point} {}", gap(model.weight(), &weight));
                assert!(gap(model.bias(), &bias) < 2e-6, "{task:?} {point}");
            }
        }
    }
    Ok(())
}

#[test]
fn odd_sizes_equal_autograd_too() -> Outcome {
    let (n, layout) = (11, InputLayout { dim: 5, blocks: 3, avgpool: true });
    let x = features(n, layout.width(), 2);
    let points = ProbePoint::grid(&[3, 1], &[true, false], &[0.05, 0.2, 0.4]);
    let tasks = [ProbeTask::Binary, ProbeTask::Multiclass(3), ProbeTask::Multilabel(1), ProbeTask::Multilabel(17)];
    for task in tasks {
        for batch_size in [1, 9, 100] {
            let y = targets(task, n);
            let sweep = LinearSweep { epochs: 2, batch_size, ..LinearSweep::new(points.clone()) }.with_layout(layout);
            for model in sweep.fit_all(x.view(), &y)? {
                let (weight, bias) = by_autograd(&model, &sweep, &x, &y, sweep.steps(n));
                assert!(gap(model.weight(), &weight) < 5e-6, "{task:?} {batch_size} {}", gap(model.weight(), &weight));
                assert!(gap(model.bias(), &bias) < 5e-6, "{task:?} {batch_size}");
            }
        }
    }
    Ok(())
}

fn bits(models: &[LinearModel]) -> Vec<Vec<u32>> {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let all = |m: &LinearModel| values(m.weight()).into_iter().chain(values(m.bias())).map(f32::to_bits).collect();
    models.iter().map(all).collect()
}

#[test]
fn a_head_has_the_same_bits_alone_in_a_sweep_and_on_any_number_of_threads() -> Outcome {
    let (n, layout) = (70, InputLayout { dim: 37, blocks: 2, avgpool: true });
    let x = features(n, layout.width(), 11);
    let points = ProbePoint::grid(&[2, 1], &[true, false], &[0.01, 0.05, 0.1, 0.2]);
    for task in [ProbeTask::Binary, ProbeTask::Multiclass(5), ProbeTask::Multilabel(14)] {
        let y = targets(task, n);
        let sweep = LinearSweep { epochs: 3, batch_size: 33, ..LinearSweep::new(points.clone()) }.with_layout(layout);
        let together = bits(&sweep.fit_all(x.view(), &y)?);
        for (point, want) in points.iter().zip(&together) {
            let alone = LinearSweep { points: vec![*point], ..sweep.clone() };
            assert_eq!(bits(&alone.fit_all(x.view(), &y)?), std::slice::from_ref(want), "{task:?} {point}");
        }
        let mut seen = None;
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            assert!(
                pool.install(|| sweep.fit_all(x.view(), &y)).is_ok_and(|m| bits(&m) == together),
                "{threads} threads"
            );
            let losses = pool.install(|| -> std::result::Result<_, Error> {
                let mut trainer = sweep.trainer(layout.width(), task, 2)?;
                trainer.step(x.view(), &y)?;
                Ok(trainer.losses().into_iter().map(f64::to_bits).collect::<Vec<_>>())
            })?;
            assert_eq!(*seen.get_or_insert_with(|| losses.clone()), losses, "{threads} threads");
        }
    }
    Ok(())
}

#[test]
fn the_trainers_loss_is_that_of_the_loss_functions() -> Outcome {
    let x = features(20, 5, 3);
    let points = ProbePoint::grid(&[1], &[false], &[0.1, 0.2]);
    for task in [ProbeTask::Binary, ProbeTask::Multiclass(3), ProbeTask::Multilabel(4)] {
        let y = targets(task, 20);
        let sweep = LinearSweep::new(points.clone());
        let mut trainer = sweep.trainer(5, task, 3)?;
        let (weight, bias) = trainer.weights(1)?;
        let logits = tensor(x.view()).matmul(&weight.t()?)?.broadcast_add(&bias)?;
        let want = match &y {
            Targets::Findings(l) => {
                let y = Tensor::from_iter(l.iter().map(|v| f32::from(*v)), &Device::Cpu)?.reshape(logits.dims())?;
                loss::bce_with_logits(&logits, &y, sweep.reduction)?
            }
            Targets::Classes { labels, n_classes: 2 } => {
                let y = Tensor::new(labels.as_slice(), &Device::Cpu)?;
                loss::bce_with_logits(&logits.squeeze(1)?, &y, Reduction::Mean)?
            }
            Targets::Classes { labels, .. } => {
                loss::cross_entropy(&logits, &Tensor::new(labels.as_slice(), &Device::Cpu)?)?
            }
        };
        trainer.step(x.view(), &y)?;
        assert!((trainer.losses()[1] - f64::from(want.to_scalar::<f32>()?)).abs() < 1e-6, "{task:?}");
        assert_eq!(trainer.steps_taken(), 1);
    }
    Ok(())
}

#[test]
fn given_weights_and_batches_are_used() -> Outcome {
    let (x, y) = (features(12, 3, 4), targets(ProbeTask::Multiclass(3), 12));
    let sweep = LinearSweep::new(ProbePoint::grid(&[1], &[false], &[0.1, 0.5]));
    let mut trainer = sweep.trainer(3, ProbeTask::Multiclass(3), 5)?;
    let (weight, bias) = (tensor(features(3, 3, 5).view()), tensor(features(1, 3, 6).view()).squeeze(0)?);
    trainer.set_weights(1, &weight, &bias)?;
    let (w, b) = trainer.weights(1)?;
    assert_eq!((gap(&w, &weight), gap(&b, &bias)), (0.0, 0.0));
    assert!(gap(&trainer.weights(0)?.0, &weight) > 0.1);
    trainer.step(x.view(), &y)?;
    assert!(gap(&trainer.weights(1)?.0, &weight) > 0.0);
    assert!(trainer.set_weights(2, &weight, &bias).is_err());
    assert!(trainer.set_weights(0, &weight.narrow(0, 0, 2)?, &bias).is_err());
    assert!(matches!(trainer.step(x.view(), &targets(ProbeTask::Multiclass(4), 12)), Err(Error::LabelWidth { .. })));
    Ok(())
}

#[test]
fn probes_learn_and_are_stored() -> Outcome {
    let x = features(300, 8, 7);
    let first = x.slice(s![.., ..3]).sum_axis(Axis(1));
    let folder = tempfile::tempdir()?;
    let class = |v: &f32| u32::from(*v > 0.0);
    let three = |v: &f32| {
        if *v < -0.5 {
            0
        } else if *v < 0.5 {
            1
        } else {
            2
        }
    };
    let both = Array2::from_shape_fn((300, 2), |(r, c)| u8::from(if c == 0 { first[r] > 0.0 } else { first[r] < 0.3 }));
    for y in [
        Targets::classes(first.iter().map(class).collect(), 2)?,
        Targets::classes(first.iter().map(three).collect(), 3)?,
        Targets::findings(both)?,
    ] {
        let model = LinearProbe::new(0.5).with_epochs(60).with_seed(3).fit(x.view(), &y)?;
        let p = model.predict(x.view())?;
        assert_eq!(p.dim(), (300, y.n_outputs()));
        let right: f64 = match &y {
            Targets::Classes { labels, .. } => {
                assert!(p.outer_iter().all(|r| (r.sum() - 1.0).abs() < 1e-5));
                let hit = |(r, l): (ArrayView1<'_, f32>, &u32)| r.iter().all(|v| *v <= r[*l as usize]);
                p.outer_iter().zip(labels).filter(|v| hit((v.0, v.1))).count() as f64 / 300.0
            }
            Targets::Findings(l) => {
                let hits = l.indexed_iter().filter(|((r, c), v)| u8::from(p[[*r, *c]] > 0.5) == **v).count();
                hits as f64 / 600.0
            }
        };
        assert!(right > 0.93, "{right}");
        let path = folder.path().join("probe.safetensors");
        model.save(&path)?;
        let again = LinearModel::load(&path)?;
        assert_eq!(again.predict(x.view())?, p);
        // other strides, same numbers
        let wide = concatenate![Axis(1), x, x];
        assert_eq!(model.predict(wide.slice(s![.., 8..]))?, p);
        assert_eq!((again.point(), again.task()), (model.point(), model.task()));
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    }
    let path = folder.path().join("damaged");
    std::fs::write(&path, b"not a head")?;
    assert!(matches!(LinearModel::load(&path), Err(Error::Format { .. })));
    assert!(matches!(LinearModel::load(&folder.path().join("none")), Err(Error::File { .. })));
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_others_do_not() -> Outcome {
    let (x, y) = (features(40, 6, 8), targets(ProbeTask::Multilabel(2), 40));
    let fit = |seed| -> std::result::Result<Vec<f32>, Box<dyn std::error::Error>> {
        let model = LinearProbe::new(0.1).with_epochs(3).with_seed(seed).fit(x.view(), &y)?;
        Ok(model.weight().flatten_all()?.to_vec1()?)
    };
    assert_eq!(fit(1)?, fit(1)?);
    assert_ne!(fit(1)?, fit(2)?);
    Ok(())
}

#[test]
fn what_cannot_be_learned_from_is_named() -> Outcome {
    let (x, y) = (features(10, 4, 9), targets(ProbeTask::Multiclass(3), 10));
    let probe = LinearProbe::new(0.1).with_epochs(2);
    let mut bad = x.clone();
    bad[[7, 2]] = f32::NAN;
    assert!(matches!(probe.fit(bad.view(), &y), Err(Error::NotFinite { row: 7, .. })));
    let none = Array2::zeros((0, 4));
    assert!(matches!(probe.fit(none.view(), &Targets::classes(vec![], 2)?), Err(Error::Empty { .. })));
    assert!(matches!(
        probe.fit(x.view(), &Targets::classes(vec![1; 10], 2)?),
        Err(Error::OneClass { class: 1, rows: 10 })
    ));
    assert!(matches!(
        probe.fit(x.view(), &targets(ProbeTask::Binary, 9)),
        Err(Error::Lengths { features: 10, targets: 9 })
    ));
    assert!(matches!(LinearProbe::new(f64::NAN).fit(x.view(), &y), Err(Error::Parameter { .. })));
    let model = probe.fit(x.view(), &y)?;
    assert!(matches!(model.predict(bad.view()), Err(Error::NotFinite { row: 7, .. })));
    assert!(matches!(model.predict(x.slice(s![.., ..3])), Err(Error::Shape { .. })));
    let layout = InputLayout { dim: 2, blocks: 2, avgpool: false };
    let sweep = |blocks, avgpool| LinearSweep::new(ProbePoint::grid(&[blocks], &[avgpool], &[0.1])).with_layout(layout);
    assert!(matches!(sweep(4, false).fit_all(x.view(), &y), Err(Error::TooFewBlocks { asked: 4, available: 2 })));
    assert!(matches!(sweep(1, true).fit_all(x.view(), &y), Err(Error::NoPatchTokens)));
    // a rate beyond all reason ends the one probe, not the sweep
    let far = x * 1e20;
    assert!(matches!(LinearProbe::new(1e20).with_epochs(9).fit(far.view(), &y), Err(Error::Diverged { .. })));
    let models = LinearSweep { epochs: 9, ..LinearSweep::new(ProbePoint::grid(&[1], &[false], &[1e20, 0.0])) };
    let models = models.fit_all(far.view(), &y)?;
    assert!(!models[0].is_finite()? && models[1].is_finite()?);
    Ok(())
}
