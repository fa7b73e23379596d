//! What unit tests of several encoders need.

use candle::{Device, Tensor};
use rand::Rng;

/// Values between -1 and 1 that depend on seed and name alone.
pub(crate) fn random(seed: u64, name: &str, shape: &[usize]) -> Tensor {
    let mut rng = dinorad_core::rng::named(seed, name);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The largest difference of two tensors of one shape.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}
