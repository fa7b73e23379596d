//! Gradients against finite differences, and states that can be saved.

use std::collections::BTreeMap;

use dinorad_core::resample::Filter;
use dinorad_nn::{
    Activation, Attention, LayerNorm, Linear, Mlp, Optimizer, Pass, Resize, Result, Rotary, SwiGlu,
    candle::{DType, Device, Tensor, Var},
    init::trunc_normal,
    loss,
    optim::{Algorithm, Group},
};

fn random(name: &str, shape: &[usize]) -> Tensor {
    // f64: finite differences need the digits
    trunc_normal(1, name, shape, 0.5, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

fn linear(name: &str, out: usize, input: usize) -> Linear {
    Linear::new(random(&format!("{name}.w"), &[out, input]), Some(random(&format!("{name}.b"), &[out])))
}

/// Compares the gradient of `sum(f(x)²)` with central differences at every element.
fn check(what: &str, x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) {
    let value = |x: &Tensor| f(x).unwrap().sqr().unwrap().sum_all().unwrap();
    let var = Var::from_tensor(x).unwrap();
    let grads = value(var.as_tensor()).backward().unwrap();
    let grad = grads.get(&var).unwrap_or_else(|| panic!("{what}: no gradient"));
    let grad = grad.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let values = x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let h = 1e-5;
    for (i, g) in grad.iter().enumerate() {
        let at = |step: f64| {
            let mut moved = values.clone();
            moved[i] += step;
            value(&Tensor::from_vec(moved, x.shape(), &Device::Cpu).unwrap()).to_scalar::<f64>().unwrap()
        };
        let want = (at(h) - at(-h)) / (2.0 * h);
        assert!((g - want).abs() <= 1e-5 + 1e-5 * want.abs(), "{what}[{i}]: {g}, finite difference {want}");
    }
}

#[test]
fn blocks_have_the_gradients_of_finite_differences() {
    let pass = Pass::GRADIENTS;
    let x = random("x", &[2, 3, 4]);
    let norm = LayerNorm::new(random("g", &[4]), random("h", &[4]), 1e-6);
    check("layer norm", &x, |x| norm.forward(x, pass));
    check("linear", &x, |x| linear("l", 5, 4).forward(x, pass));
    let attention = Attention::new(linear("qkv", 12, 4), linear("proj", 4, 4), 2).unwrap();
    check("attention", &x, |x| attention.forward(x, pass));
    check("attention of the first", &x, |x| attention.forward_first(x, None, Some(1), pass));
    let mlp = Mlp { fc1: linear("fc1", 6, 4), fc2: linear("fc2", 4, 6), activation: Activation::Gelu };
    check("mlp", &x, |x| mlp.forward(x, pass));
    let quick = Mlp { activation: Activation::QuickGelu, ..mlp };
    check("mlp with quick gelu", &x, |x| quick.forward(x, pass));
    let wide = Attention::new(linear("qkv8", 24, 8), linear("proj8", 8, 8), 2).unwrap();
    let rotary = Rotary::axial((1, 2), 1, 4, 100.0, &Device::Cpu).unwrap();
    check("rotated attention", &random("x8", &[1, 3, 8]), |x| wide.forward_rotated(x, Some(&rotary), pass));
    check("rotated, of the first", &random("x8", &[1, 3, 8]), |x| wide.forward_first(x, Some(&rotary), Some(2), pass));
    let swiglu = SwiGlu { w12: linear("w12", 12, 4), w3: linear("w3", 4, 6) };
    check("swiglu", &x, |x| swiglu.forward(x, pass));
}

#[test]
fn losses_have_the_gradients_of_finite_differences() {
    let labels = Tensor::new(&[[[0u32, 2], [1, 1]], [[2, 2], [0, 2]]], &Device::Cpu).unwrap();
    let maps = random("maps", &[2, 3, 2, 2]);
    check("cross-entropy", &maps, |x| loss::cross_entropy(x, &labels));
    check("dice", &maps, |x| loss::dice(x, &labels));
    let flags = Tensor::new(&[[0u32, 1, 1], [1, 0, 0]], &Device::Cpu).unwrap();
    check("bce", &random("flags", &[2, 3]), |x| loss::bce_with_logits(x, &flags, loss::Reduction::BatchSum));
}

#[test]
fn resizing_carries_gradients_of_every_filter() {
    for filter in [Filter::Bilinear, Filter::Bicubic, Filter::BicubicAntialias, Filter::NearestExact] {
        let resize = Resize::new(filter, (3, 4), (7, 2), &Device::Cpu).unwrap();
        let var = Var::from_tensor(&Tensor::ones((2, 1, 3, 4), DType::F32, &Device::Cpu).unwrap()).unwrap();
        let out = resize.forward(&var).unwrap();
        assert_eq!(out.dims(), [2, 1, 7, 2]);
        // A constant stays one under any filter, and the weights of an output sum to 1.
        assert!(out.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|v| (v - 1.0).abs() < 1e-5));
        let grads = out.sum_all().unwrap().backward().unwrap();
        let sum = grads.get(&var).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!((sum - 28.0).abs() < 1e-3, "{filter:?}: {sum}");
    }
    let resize = Resize::new(Filter::Bilinear, (3, 4), (6, 8), &Device::Cpu).unwrap();
    assert!(resize.forward(&Tensor::zeros((1, 4, 3), DType::F32, &Device::Cpu).unwrap()).is_err());
}

#[test]
fn a_saved_optimiser_continues_as_if_never_stopped() {
    for algorithm in [Algorithm::SGD, Algorithm::ADAMW, Algorithm::ADAM] {
        let start = random("p", &[3]);
        let make = |at: &Tensor| {
            let var = Var::from_tensor(at).unwrap();
            let group = Group::new(BTreeMap::from([("p".to_owned(), var.clone())]), 0.05).with_weight_decay(0.1);
            (var, Optimizer::new(algorithm, vec![group]).unwrap())
        };
        let step = |var: &Var, optimizer: &mut Optimizer| {
            let grads = var.powf(4.0).unwrap().sum_all().unwrap().backward().unwrap();
            optimizer.step(&grads).unwrap();
        };
        let (whole, mut optimizer) = make(&start);
        for _ in 0..6 {
            step(&whole, &mut optimizer);
        }
        let (first, mut optimizer) = make(&start);
        for _ in 0..3 {
            step(&first, &mut optimizer);
        }
        let saved = optimizer.state().unwrap();
        let (second, mut fresh) = make(&first.as_detached_tensor().copy().unwrap());
        fresh.load_state(&saved).unwrap();
        for _ in 0..3 {
            step(&second, &mut fresh);
        }
        assert_eq!(whole.to_vec1::<f64>().unwrap(), second.to_vec1::<f64>().unwrap());
        let wrong = BTreeMap::from([("q#first".to_owned(), start.clone())]);
        assert!(fresh.load_state(&wrong).is_err());
        let incomplete = BTreeMap::from([("p#first".to_owned(), start.clone())]);
        assert!(fresh.load_state(&incomplete).is_err());
    }
}

#[test]
fn settings_out_of_range_are_errors() {
    let group = |lr: f64| vec![Group::new(BTreeMap::new(), lr)];
    assert!(Optimizer::new(Algorithm::Sgd { momentum: 1.5 }, group(0.1)).is_err());
    assert!(Optimizer::new(Algorithm::SGD, group(f64::NAN)).is_err());
    assert!(Attention::new(linear("a", 12, 4), linear("b", 4, 4), 3).is_err());
    let logits = random("l", &[2, 3]);
    let labels = |v: [u32; 2]| Tensor::new(&v, &Device::Cpu).unwrap();
    assert!(loss::cross_entropy(&logits, &labels([0, 3])).is_err());
    assert!(loss::cross_entropy(&logits, &Tensor::new(&[0u32], &Device::Cpu).unwrap()).is_err());
    assert!(loss::cross_entropy(&logits, &labels([0, 2])).is_ok());
}
