//! Seeded initial values, the same on every machine and at any number of threads.

use candle::{Device, Shape, Tensor};
use rand::Rng;

use crate::Result;

/// A normal distribution of mean 0 cut at ±2 (absolute, as PyTorch's and timm's default), in f32.
///
/// The stream depends on `seed` and the parameter's `name` alone.
///
/// # Errors
/// If the device has no room.
pub fn trunc_normal(seed: u64, name: &str, shape: impl Into<Shape>, std: f64, device: &Device) -> Result<Tensor> {
    let mut rng = dinorad_core::rng::named(seed, name);
    fill(shape, device, move || {
        loop {
            let v = std * standard_normal(&mut rng);
            if v.abs() <= 2.0 {
                return v as f32;
            }
        }
    })
}

/// Uniform in `-bound..bound`, in f32.
///
/// # Errors
/// If the device has no room.
pub fn uniform(seed: u64, name: &str, shape: impl Into<Shape>, bound: f64, device: &Device) -> Result<Tensor> {
    let mut rng = dinorad_core::rng::named(seed, name);
    fill(shape, device, move || ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32)
}

fn fill(shape: impl Into<Shape>, device: &Device, mut draw: impl FnMut() -> f32) -> Result<Tensor> {
    let shape = shape.into();
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| draw()).collect();
    Ok(Tensor::from_vec(values, shape, device)?)
}

/// One standard normal value by Marsaglia's polar method.
fn standard_normal(rng: &mut impl Rng) -> f64 {
    loop {
        let (x, y) = (2.0 * rng.random::<f64>() - 1.0, 2.0 * rng.random::<f64>() - 1.0);
        let s = x * x + y * y;
        if s > 0.0 && s < 1.0 {
            return x * (-2.0 * s.ln() / s).sqrt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_spread_and_repeat() {
        let draw = |name| trunc_normal(3, name, 20_000, 0.02, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        let a = draw("a");
        let var = a.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / a.len() as f64;
        assert!((var.sqrt() - 0.02).abs() < 5e-4, "{}", var.sqrt());
        assert_eq!(a, draw("a"));
        assert_ne!(a, draw("b"));
    }
}
