//! Vision transformers with random weights.

use std::collections::BTreeMap;

use candle::{DType, Tensor};
use dinorad_nn::init::{trunc_normal, uniform};

use super::{Vit, VitConfig};
use crate::{BackboneSpec, LoadOptions, Normalization, Result};

impl Vit {
    /// An encoder with random weights: the same for the same seed on every machine.
    ///
    /// Maps, positions and tokens are from a truncated normal distribution of deviation 0.02, the
    /// patch projection uniform over `±1/sqrt(3 patch²)`, gains are 1.
    ///
    /// # Errors
    /// [`Error::Architecture`](crate::Error::Architecture) if the encoder cannot be built.
    pub fn untrained(config: &VitConfig, seed: u64, options: &LoadOptions) -> Result<Self> {
        config.check()?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.parameters() {
            let tensor = initial(config, seed, &name, &shape, options)?.to_dtype(options.dtype)?;
            tensors.insert(name, tensor);
        }
        let normalization = Normalization::IMAGENET;
        let spec = BackboneSpec::untrained(config.family, seed, options, &config.fingerprint(), normalization);
        Self::from_tensors(config, spec, tensors)
    }
}

fn initial(config: &VitConfig, seed: u64, name: &str, shape: &[usize], options: &LoadOptions) -> Result<Tensor> {
    let device = &options.device;
    let patch_bound = 1.0 / ((3 * config.patch * config.patch) as f64).sqrt();
    Ok(match name {
        "mask_token" => Tensor::zeros(shape, DType::F32, device)?,
        _ if name.starts_with("patch_embed.") => uniform(seed, name, shape, patch_bound, device)?,
        _ if name.ends_with(".bias") => Tensor::zeros(shape, DType::F32, device)?,
        _ if shape.len() == 1 => Tensor::ones(shape, DType::F32, device)?,
        _ => trunc_normal(seed, name, shape, 0.02, device)?,
    })
}
