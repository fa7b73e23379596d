//! SAM's image encoder with random weights.

use std::collections::BTreeMap;

use candle::{DType, Tensor};
use dinorad_nn::init::{trunc_normal, uniform};

use super::{Sam, SamConfig};
use crate::{BackboneSpec, Encoder, Error, Family, LoadOptions, Normalization, Result};

impl Sam {
    /// An encoder with random weights: the same for the same seed on every machine.
    ///
    /// Maps, positions and distances are from a truncated normal distribution of deviation 0.02,
    /// convolutions uniform over `±1/sqrt(inputs)`.
    ///
    /// # Errors
    /// [`Error::Architecture`] if the encoder cannot be built.
    pub fn untrained(config: &SamConfig, seed: u64, options: &LoadOptions) -> Result<Self> {
        config.check()?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.parameters() {
            let tensor = initial(seed, &name, &shape, options)?.to_dtype(options.dtype)?;
            tensors.insert(name, tensor);
        }
        let spec = BackboneSpec::untrained(Family::Sam, seed, options, &config.fingerprint(), Normalization::IMAGENET);
        Self::from_tensors(config, spec, tensors)
    }
}

fn initial(seed: u64, name: &str, shape: &[usize], options: &LoadOptions) -> Result<Tensor> {
    let device = &options.device;
    Ok(match shape {
        [_, inputs @ ..] if shape.len() == 4 && name != "pos_embed" => {
            let bound = 1.0 / (inputs.iter().product::<usize>() as f64).sqrt();
            uniform(seed, name, shape, bound, device)?
        }
        [_] if name.ends_with("bias") => Tensor::zeros(shape, DType::F32, device)?,
        [_] => Tensor::ones(shape, DType::F32, device)?,
        _ => trunc_normal(seed, name, shape, 0.02, device)?,
    })
}

/// An encoder of the registry with random weights.
pub(crate) fn untrained(encoder: &Encoder, seed: u64, options: &LoadOptions) -> Result<Sam> {
    let config = SamConfig::large();
    if (config.embed_dim, config.depth, config.heads) != (encoder.embed_dim, encoder.depth, encoder.heads) {
        let value = encoder.id.to_owned();
        return Err(Error::Architecture { field: "encoder", value, expected: "a SAM of a known size" });
    }
    let options =
        LoadOptions { normalization: options.normalization.or(Some(encoder.normalization)), ..options.clone() };
    Sam::untrained(&config, seed, &options)
}
