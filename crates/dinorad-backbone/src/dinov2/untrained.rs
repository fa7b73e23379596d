//! Encoders with random weights.

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};
use dinorad_nn::init::{trunc_normal, uniform};

use super::{Dinov2, Dinov2Config};
use crate::{BackboneSpec, Origin, Result};

impl Dinov2 {
    /// An encoder with random weights: the same for the same seed on every machine.
    ///
    /// Values follow the official initialisation: maps and positions from a truncated normal
    /// distribution of deviation 0.02, the patch projection uniform over `±1/sqrt(3 patch²)`,
    /// class and register tokens of deviation 1e-6, gains from the configuration.
    ///
    /// # Errors
    /// [`Error::Architecture`](crate::Error::Architecture) if the encoder cannot be built.
    pub fn untrained(config: &Dinov2Config, seed: u64, device: &Device) -> Result<Self> {
        config.check()?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.parameters() {
            let tensor = initial(config, seed, &name, &shape, device)?;
            tensors.insert(name, tensor);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"dinorad untrained 1\0");
        hasher.update(&seed.to_le_bytes());
        hasher.update(config.fingerprint().as_bytes());
        let spec = BackboneSpec::new("untrained", Origin::Untrained { seed }, hasher.finalize().to_hex().to_string());
        Self::from_tensors(config, spec, tensors)
    }
}

fn initial(config: &Dinov2Config, seed: u64, name: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
    let normal = |std| trunc_normal(seed, name, shape, std, device);
    let patch_bound = 1.0 / ((3 * config.patch * config.patch) as f64).sqrt();
    Ok(match name {
        "cls_token" | "register_tokens" => normal(1e-6)?,
        "mask_token" => Tensor::zeros(shape, DType::F32, device)?,
        _ if name.starts_with("patch_embed.") => uniform(seed, name, shape, patch_bound, device)?,
        _ if name.ends_with(".gamma") => Tensor::full(config.layer_scale_init as f32, shape, device)?,
        _ if name.ends_with(".bias") => Tensor::zeros(shape, DType::F32, device)?,
        _ if shape.len() == 1 => Tensor::ones(shape, DType::F32, device)?,
        _ => normal(0.02)?,
    })
}
