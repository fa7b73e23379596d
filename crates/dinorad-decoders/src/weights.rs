//! Where the tensors of a network come from, by their names.

use std::collections::BTreeSet;

use candle::{DType, Device, Tensor};
use dinorad_nn::{
    BatchNorm, Conv2d, ConvTranspose2d, GroupNorm, LayerNorm, Linear, Trainable, init,
    ops::{BatchStatistics, Window},
    store::{self, Stored},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// How a tensor starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    /// Every value the same.
    Constant(f64),
    /// Uniform within so much of 0.
    Uniform(f64),
    /// Normal with this deviation.
    Normal(f64),
}

/// Gives a network its tensors.
pub(crate) enum Weights<'a> {
    /// Drawn, each from a stream of the seed and its name.
    Drawn { seed: u64, device: &'a Device },
    /// Read; nothing is made that the file does not hold.
    Stored { file: &'a Stored, device: &'a Device },
    /// Shapes with one number behind each: for counting.
    Shapes,
}

impl Weights<'_> {
    pub(crate) fn tensor(&self, name: &str, shape: &[usize], start: Init) -> Result<Tensor> {
        match self {
            Weights::Drawn { seed, device } => Ok(match start {
                Init::Constant(value) => Tensor::full(value as f32, shape, device)?,
                Init::Uniform(bound) => init::uniform(*seed, name, shape, bound, device)?,
                Init::Normal(std) => init::trunc_normal(*seed, name, shape, std, device)?,
            }),
            Weights::Stored { file, device } => {
                let tensor = file.tensor(name)?;
                if tensor.dims() != shape {
                    let why = format!("`{name}` is {:?}, expected {shape:?}", tensor.dims());
                    return Err(file.bad(why).into());
                }
                Ok(tensor.to_dtype(DType::F32)?.to_device(device)?)
            }
            Weights::Shapes => Ok(Tensor::zeros(1, DType::F32, &Device::Cpu)?.broadcast_as(shape)?),
        }
    }

    /// A kernel of `side` by `side` around each place, every `stride` places; drawn as PyTorch draws.
    pub(crate) fn conv(
        &self,
        name: &str,
        (from, to): (usize, usize),
        side: usize,
        stride: usize,
        bias: bool,
    ) -> Result<Conv2d> {
        let start = Init::Uniform(1.0 / ((from * side * side) as f64).sqrt());
        let weight = self.tensor(&format!("{name}.weight"), &[to, from, side, side], start)?;
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[to], start)?) } else { None };
        Ok(Conv2d::new(weight, bias, Window { stride, padding: side / 2, ..Window::default() })?)
    }

    /// A transposed convolution that doubles maps.
    pub(crate) fn doubling(&self, name: &str, (from, to): (usize, usize)) -> Result<ConvTranspose2d> {
        // PyTorch takes the second axis of a weight for the fan in, which here is the outputs.
        let start = Init::Uniform(1.0 / ((to * 4) as f64).sqrt());
        let weight = self.tensor(&format!("{name}.weight"), &[from, to, 2, 2], start)?;
        let bias = self.tensor(&format!("{name}.bias"), &[to], start)?;
        Ok(ConvTranspose2d::new(weight, Some(bias), Window { stride: 2, ..Window::default() })?)
    }

    pub(crate) fn linear(&self, name: &str, (from, to): (usize, usize)) -> Result<Linear> {
        let start = Init::Uniform(1.0 / (from as f64).sqrt());
        let weight = self.tensor(&format!("{name}.weight"), &[to, from], start)?;
        Ok(Linear::new(weight, Some(self.tensor(&format!("{name}.bias"), &[to], start)?)))
    }

    /// Scales of 1 and shifts of 0.
    fn affine(&self, name: &str, channels: usize) -> Result<(Tensor, Tensor)> {
        let part = |what: &str, value| self.tensor(&format!("{name}.{what}"), &[channels], Init::Constant(value));
        Ok((part("weight", 1.0)?, part("bias", 0.0)?))
    }

    pub(crate) fn batch_norm(&self, name: &str, channels: usize) -> Result<BatchNorm> {
        let (weight, bias) = self.affine(name, channels)?;
        let mean = self.tensor(&format!("{name}.running_mean"), &[channels], Init::Constant(0.0))?;
        let variance = self.tensor(&format!("{name}.running_var"), &[channels], Init::Constant(1.0))?;
        Ok(BatchNorm::from_parts(weight, bias, BatchStatistics { mean, variance })?)
    }

    pub(crate) fn group_norm(&self, name: &str, channels: usize, groups: usize, eps: f64) -> Result<GroupNorm> {
        let (weight, bias) = self.affine(name, channels)?;
        Ok(GroupNorm::new(weight, bias, groups, eps)?)
    }

    pub(crate) fn layer_norm(&self, name: &str, dim: usize) -> Result<LayerNorm> {
        let (weight, bias) = self.affine(name, dim)?;
        Ok(LayerNorm::new(weight, bias, 1e-6))
    }
}

/// Writes a network with its configuration, whole or not at all.
pub(crate) fn save(path: &std::path::Path, kind: &str, config: &impl Serialize, model: &dyn Trainable) -> Result<()> {
    let unwritable = |e: serde_json::Error| Error::Format { path: path.to_owned(), reason: e.to_string() };
    let config = serde_json::to_string(config).map_err(unwritable)?;
    let tensors = model.tensors();
    let tensors: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    Ok(store::save(path, &tensors, &[("head", kind.to_owned()), ("config", config)])?)
}

/// Reads what [`save`] wrote; `build` makes the network of a configuration.
pub(crate) fn load<C: DeserializeOwned, M: Trainable>(
    path: &std::path::Path,
    kind: &str,
    device: &Device,
    build: impl FnOnce(C, &Weights<'_>) -> Result<M>,
) -> Result<M> {
    let file = store::load(path)?;
    file.expect("head", kind)?;
    let config = serde_json::from_str(file.text("config")?).map_err(|e| file.bad(format!("its configuration: {e}")))?;
    let model = build(config, &Weights::Stored { file: &file, device })?;
    let used: BTreeSet<String> = model.tensors().into_keys().collect();
    match file.names().into_iter().find(|name| !used.contains(*name)) {
        Some(name) => Err(file.bad(format!("`{name}` belongs to no part of a {kind}")).into()),
        None => Ok(model),
    }
}
