//! Convolutional encoders with random weights.

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};
use dinorad_nn::init::uniform;

use super::{Cnn, CnnConfig, CnnKernels};
use crate::{BackboneSpec, Encoder, Error, Family, LoadOptions, Normalization, Result};

impl Cnn {
    /// An encoder with random weights: the same for the same seed on every machine.
    ///
    /// Convolutions and linear layers are uniform with a variance of 2 over their inputs, which
    /// keeps the size of what goes through; norms do nothing, but for the last one of a residual
    /// branch, whose gain is such that a deep sum stays of the same size.
    ///
    /// # Errors
    /// [`Error::Architecture`] if the encoder cannot be built.
    pub fn untrained(config: &CnnConfig, seed: u64, options: &LoadOptions) -> Result<Self> {
        let (spec, tensors) = parts(config, seed, options)?;
        Self::from_tensors(config, spec, tensors, options, CnnKernels::best(&options.device))
    }
}

/// What an untrained encoder is made of.
pub(super) fn parts(
    config: &CnnConfig,
    seed: u64,
    options: &LoadOptions,
) -> Result<(BackboneSpec, BTreeMap<String, Tensor>)> {
    config.check()?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.parameters() {
        let tensor = initial(config, seed, &name, &shape)?;
        tensors.insert(name, tensor);
    }
    let family = family(config);
    let spec = BackboneSpec::untrained(family, seed, options, &config.fingerprint(), Normalization::IMAGENET);
    Ok((spec, tensors))
}

fn family(config: &CnnConfig) -> Family {
    match config {
        CnnConfig::ResNet(_) => Family::Resnet,
        CnnConfig::DenseNet(_) => Family::Densenet,
        CnnConfig::Vgg(_) => Family::Vgg,
    }
}

/// The architecture of an encoder of the registry.
pub(super) fn architecture(encoder: &Encoder) -> Result<CnnConfig> {
    match encoder.family {
        Family::Resnet => Some(CnnConfig::resnet152()),
        Family::Densenet => Some(CnnConfig::densenet201()),
        Family::Vgg => Some(CnnConfig::vgg19()),
        _ => None,
    }
    .filter(|config| config.embed_dim() == encoder.embed_dim)
    .ok_or_else(|| Error::Architecture {
        field: "encoder",
        value: encoder.id.to_owned(),
        expected: "a convolutional network of a known size",
    })
}

fn initial(config: &CnnConfig, seed: u64, name: &str, shape: &[usize]) -> Result<Tensor> {
    let device = &Device::Cpu;
    if let [_, inputs @ ..] = shape
        && !inputs.is_empty()
    {
        let bound = (6.0 / inputs.iter().product::<usize>() as f64).sqrt();
        return Ok(uniform(seed, name, shape, bound, device)?);
    }
    Ok(match name.rsplit_once('.') {
        Some((norm, "weight")) if ends_branch(config, norm) => {
            Tensor::full((config.depth() as f32).powf(-0.5), shape, device)?
        }
        Some((_, "weight" | "running_var")) => Tensor::ones(shape, DType::F32, device)?,
        _ => Tensor::zeros(shape, DType::F32, device)?,
    })
}

/// Whether a norm is the last one of a residual branch.
fn ends_branch(config: &CnnConfig, norm: &str) -> bool {
    let CnnConfig::ResNet(c) = config else { return false };
    let last = match c.block {
        super::ResNetBlock::Basic => ".bn2",
        super::ResNetBlock::Bottleneck => ".bn3",
    };
    norm.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_says_what_the_architectures_have() {
        let mut seen = 0;
        for encoder in crate::registry() {
            let Ok(config) = architecture(encoder) else { continue };
            let trained = |name: &str| !name.contains("running_");
            let parameters = config.parameters();
            let sizes = parameters.iter().filter(|(n, _)| trained(n)).map(|(_, s)| s.iter().product::<usize>() as u64);
            assert_eq!(sizes.sum::<u64>(), encoder.parameters, "{}", encoder.id);
            assert_eq!(family(&config), encoder.family);
            seen += 1;
        }
        assert_eq!(seen, 3);
    }
}
