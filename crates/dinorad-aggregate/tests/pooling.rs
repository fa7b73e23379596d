//! The poolings against their definitions, their refusals and their gradients.

use candle::{Device, Tensor, Var};
use dinorad_aggregate::{
    Aggregate, Error, GatedAttentionPool, MaxPool, MeanPool, TopKMean, aggregate_batch, padded_slices,
};
use dinorad_nn::{
    Optimizer, Trainable,
    optim::{Algorithm, Group},
};
use ndarray::{Array2, Array3, Axis, array, concatenate, s, stack};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn slices() -> Array2<f32> {
    array![[1f32, -5.0, 2.0], [4.0, -2.0, 2.0], [3.0, -3.0, 2.0], [-1.0, -9.0, 2.0]]
}

fn tensor(x: &Array2<f32>) -> candle::Result<Tensor> {
    Tensor::from_iter(x.iter().copied(), &Device::Cpu)?.reshape(x.dim())
}

fn poolings() -> Vec<Box<dyn Aggregate>> {
    vec![
        Box::new(MeanPool),
        Box::new(MaxPool),
        Box::new(TopKMean::new(2).unwrap()),
        Box::new(GatedAttentionPool::new(3, 5, 1, &Device::Cpu).unwrap()),
    ]
}

#[test]
fn fixed_poolings_follow_their_definitions() -> Result {
    let x = slices();
    assert_eq!(MeanPool.aggregate(x.view())?, array![1.75, -4.75, 2.0]);
    let pooled = MaxPool.aggregate_weighted(x.view())?;
    assert_eq!(pooled.embedding, array![4.0, -2.0, 2.0]);
    let want = [1.0 / 12.0, 9.0 / 12.0, 1.0 / 12.0, 1.0 / 12.0];
    assert!(pooled.weights.iter().zip(want).all(|(w, v): (&f32, f32)| (w - v).abs() < 1e-6), "{}", pooled.weights);
    let pooled = TopKMean::new(2)?.aggregate_weighted(x.view())?;
    assert_eq!(pooled.embedding, array![3.5, -2.5, 2.0]);
    // features 0 and 1 choose slices 1 and 2; feature 2 ties and chooses the first two
    let want = [1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0, 0.0];
    assert!(pooled.weights.iter().zip(want).all(|(w, v): (&f32, f32)| (w - v).abs() < 1e-6), "{}", pooled.weights);
    assert_eq!(TopKMean::new(9)?.aggregate(x.view())?, array![1.75, -4.75, 2.0]);
    assert_eq!(TopKMean::new(1)?.aggregate(x.view())?, array![4.0, -2.0, 2.0]);
    Ok(())
}

/// The same bits as a tensor library's mean, maximum and gathered mean, on strided views too.
#[test]
fn fixed_poolings_have_the_bits_of_tensor_operations() -> Result {
    let x = Array2::from_shape_fn((7, 12), |(r, c)| ((r * 37 + c * 11) % 23) as f32 * 0.37 - 3.1 + 1e-3 * c as f32);
    for x in [x.view(), x.slice(s![1.., ..;3])] {
        let t = tensor(&x.to_owned())?;
        assert_eq!(MeanPool.aggregate(x)?.to_vec(), t.mean(0)?.to_vec1::<f32>()?);
        assert_eq!(MaxPool.aggregate(x)?.to_vec(), t.max(0)?.to_vec1::<f32>()?);
        assert_eq!(TopKMean::new(99)?.aggregate(x)?.to_vec(), t.mean(0)?.to_vec1::<f32>()?);
        let top = t.t()?.contiguous()?.sort_last_dim(false)?.0.narrow(1, 0, 3)?.mean(1)?.to_vec1::<f32>()?;
        let ours = TopKMean::new(3)?.aggregate(x)?;
        assert!(ours.iter().zip(top).all(|(a, b)| (a - b).abs() < 1e-6));
    }
    Ok(())
}

#[test]
fn weights_sum_to_one_and_order_does_not_matter() -> Result {
    let x = slices();
    let turned = x.select(Axis(0), &[2, 0, 3, 1]);
    for pool in poolings() {
        let (a, b) = (pool.aggregate_weighted(x.view())?, pool.aggregate_weighted(turned.view())?);
        assert_eq!(a.weights.len(), 4);
        assert!((a.weights.sum() - 1.0).abs() < 1e-6);
        assert!((a.embedding - b.embedding).iter().all(|gap| gap.abs() < 1e-6));
        // one slice is its own scan
        let one = pool.aggregate(x.slice(s![1..2, ..]))?;
        assert!(one.iter().zip([4.0f32, -2.0, 2.0]).all(|(a, b)| (a - b).abs() < 1e-6));
    }
    Ok(())
}

#[test]
fn attention_equals_its_formula() -> Result {
    let pool = GatedAttentionPool::new(3, 5, 1, &Device::Cpu)?;
    let t = pool.tensors();
    let m = |name: &str| t[name].to_vec2::<f32>().unwrap();
    let v = |name: &str| t[name].to_vec1::<f32>().unwrap();
    let x: Vec<Vec<f32>> = slices().outer_iter().map(|r| r.to_vec()).collect();
    let score = |x: &[f32]| -> f64 {
        let dot = |w: &[f32]| -> f64 { w.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
        let (tanh, gate) = (m("tanh.weight"), m("gate.weight"));
        (0..5)
            .map(|h| {
                let a = (dot(&tanh[h]) + f64::from(v("tanh.bias")[h])).tanh();
                let g = 1.0 / (1.0 + (-(dot(&gate[h]) + f64::from(v("gate.bias")[h]))).exp());
                f64::from(m("score.weight")[0][h]) * a * g
            })
            .sum()
    };
    let e: Vec<f64> = x.iter().map(|s| score(s).exp()).collect();
    let total: f64 = e.iter().sum();
    let got = pool.aggregate_weighted(slices().view())?;
    for (w, e) in got.weights.iter().zip(&e) {
        assert!((f64::from(*w) - e / total).abs() < 1e-6);
    }
    for (d, value) in got.embedding.iter().enumerate() {
        let want: f64 = x.iter().zip(&e).map(|(s, e)| f64::from(s[d]) * e / total).sum();
        assert!((f64::from(*value) - want).abs() < 1e-5);
    }
    Ok(())
}

#[test]
fn gradients_reach_the_slices_and_every_weight() -> Result {
    let x = Var::from_tensor(&tensor(&slices())?)?;
    let mut pool = GatedAttentionPool::new(3, 5, 1, &Device::Cpu)?;
    pool.train_only(&mut |_| true)?;
    let grads = pool.forward(x.as_tensor())?.0.sqr()?.sum_all()?.backward()?;
    let g = grads.get(&x).ok_or("no gradient at the slices")?;
    assert!(g.abs()?.sum_all()?.to_scalar::<f32>()? > 0.0);
    let variables = pool.variables()?;
    assert_eq!(variables.len(), 6);
    for (name, var) in &variables {
        let g = grads.get(var).ok_or_else(|| format!("no gradient at {name}"))?;
        // a common shift of the scores changes nothing
        if name != "score.bias" {
            assert!(g.abs()?.sum_all()?.to_scalar::<f32>()? > 0.0, "{name}");
        }
    }
    Ok(())
}

#[test]
fn attention_learns_to_find_the_slice() -> Result {
    // the slice with a positive first feature holds the answer in the second
    let mut pool = GatedAttentionPool::new(2, 8, 3, &Device::Cpu)?;
    pool.train_only(&mut |_| true)?;
    let scans: Vec<(Tensor, f32)> = (0..8)
        .map(|i| {
            let answer = i as f32 / 4.0 - 1.0;
            let mut rows = vec![[-1f32, 3.0], [-1.0, -2.0], [-1.0, 1.0]];
            rows.insert(i % 4, [1.0, answer]);
            (Tensor::new(rows.concat(), &Device::Cpu).and_then(|t| t.reshape((4, 2))).unwrap(), answer)
        })
        .collect();
    let loss = |pool: &GatedAttentionPool| -> dinorad_aggregate::Result<Tensor> {
        let mut sum = Tensor::zeros((), candle::DType::F32, &Device::Cpu)?;
        for (x, answer) in &scans {
            sum = (sum + (pool.forward(x)?.0.get(1)? - f64::from(*answer))?.sqr()?)?;
        }
        Ok(sum)
    };
    let before = loss(&pool)?.to_scalar::<f32>()?;
    let mut adam = Optimizer::new(Algorithm::ADAM, vec![Group::new(pool.variables()?, 0.05)])?;
    for _ in 0..150 {
        adam.step(&loss(&pool)?.backward()?)?;
    }
    let after = loss(&pool)?.to_scalar::<f32>()?;
    assert!(after < 0.01 * before, "{before} -> {after}");
    let weights = pool.forward(&scans[2].0)?.1.to_vec1::<f32>()?;
    assert!(weights[2] > 0.9, "{weights:?}");
    Ok(())
}

#[test]
fn hostile_scans_are_named() -> Result {
    let bad = array![[0f32, 1.0, 0.0], [0.0, f32::NAN, 0.0]];
    let huge = array![[f32::MAX, f32::MAX, f32::MAX]];
    let (empty, narrow) = (Array2::zeros((0, 3)), Array2::zeros((2, 0)));
    for pool in poolings() {
        assert!(matches!(pool.aggregate(bad.view()), Err(Error::NotFinite { slice: 1 })));
        assert!(matches!(pool.aggregate(empty.view()), Err(Error::NoSlices { .. })));
        assert!(matches!(pool.aggregate(narrow.view()), Err(Error::Shape { .. })));
    }
    let pool = GatedAttentionPool::new(3, 5, 1, &Device::Cpu)?;
    assert!(matches!(pool.forward(&tensor(&bad)?.get(0)?), Err(Error::Shape { .. })));
    assert!(matches!(pool.aggregate(Array2::zeros((2, 4)).view()), Err(Error::Shape { .. })));
    assert!(MaxPool.aggregate(huge.view()).is_ok());
    assert!(TopKMean::new(0).is_err());
    let batch = Array3::zeros((2, 3, 4));
    let of = |counts: &[usize]| aggregate_batch(&MeanPool, batch.view(), counts);
    assert!(matches!(of(&[1, 0]), Err(Error::NoSlices { scan: 1 })));
    assert!(matches!(of(&[1, 4]), Err(Error::Shape { .. })));
    assert!(matches!(of(&[1]), Err(Error::Shape { .. })));
    Ok(())
}

#[test]
fn padding_never_enters() -> Result {
    let real = slices();
    let garbage = Array2::from_elem((2, 3), f32::NAN);
    let first = concatenate![Axis(0), real, garbage];
    let batch = stack![Axis(0), first, first];
    for pool in poolings() {
        let got = aggregate_batch(pool.as_ref(), batch.view(), &[4, 3])?;
        assert_eq!(got.row(0), pool.aggregate(real.view())?);
        assert_eq!(got.row(1), pool.aggregate(real.slice(s![..3, ..]))?);
    }
    let volume = array![[[-100f32, -100.0005], [-100.0, -99.0]]];
    assert_eq!(padded_slices(volume.view(), -100.0)?, [[true, false]]);
    assert!(matches!(padded_slices(real.view(), 0.0), Err(Error::Shape { .. })));
    Ok(())
}

#[test]
fn several_scans_at_once_are_the_scans_one_by_one() -> Result {
    let pool = GatedAttentionPool::new(3, 5, 1, &Device::Cpu)?;
    let x = tensor(&slices())?;
    let all = Tensor::cat(&[x.clone(), (x.narrow(0, 1, 2)? * 2.0)?, x.narrow(0, 0, 3)?], 0)?;
    let counts = [4, 2, 3];
    let (embeddings, weights) = pool.aggregate_many(&all, &counts)?;
    assert_eq!(weights.dims(), [3, 9]);
    let mut start = 0;
    for (scan, count) in counts.into_iter().enumerate() {
        let (embedding, own) = pool.forward(&all.narrow(0, start, count)?)?;
        let close = |a: Vec<f32>, b: Vec<f32>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(embeddings.get(scan)?.to_vec1()?, embedding.to_vec1()?));
        assert!(close(weights.get(scan)?.narrow(0, start, count)?.to_vec1()?, own.to_vec1()?));
        assert!((weights.get(scan)?.sum_all()?.to_scalar::<f32>()? - 1.0).abs() < 1e-5);
        start += count;
    }
    assert!(pool.aggregate_many(&all, &[4, 4]).is_err() && pool.aggregate_many(&all, &[9, 0]).is_err());
    Ok(())
}
