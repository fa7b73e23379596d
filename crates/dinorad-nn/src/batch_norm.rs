//! Normalisation of channels over a batch, with running statistics.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle::{DType, Device, Tensor};

use crate::{
    Error, Pass, Result, Trainable, join,
    ops::{self, BatchStatistics},
};

/// Which statistics a [`BatchNorm`] normalises with in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Statistics {
    /// Those of the batch, which move the running ones.
    #[default]
    Learned,
    /// The running ones, which stay, as in inference.
    Fixed,
}

/// Every channel to mean 0 and variance 1 over the batch, then scaled and shifted.
///
/// In training the statistics are those of the batch, and the running ones move to them by a tenth, the variance
/// corrected for the number of values; in inference they are the running ones. They are carried with the
/// parameters as `running_mean` and `running_var` and never trained.
///
/// # Shapes
/// x `(b, c, ..)`; weight, bias and statistics `(c,)`.
///
/// # Source
/// Ioffe and Szegedy 2015, arXiv:1502.03167; PyTorch's `nn.BatchNorm2d`.
///
/// # Examples
/// ```
/// use dinorad_nn::{BatchNorm, Pass, Statistics, Trainable, candle::{Device, Tensor}};
/// # fn main() -> Result<(), dinorad_nn::Error> {
/// let norm = BatchNorm::new(1, &Device::Cpu)?;
/// let x = Tensor::new(&[[1f32], [3.0]], &Device::Cpu)?;
/// norm.forward(&x, Pass::GRADIENTS, Statistics::Learned)?;
/// // a tenth of the way from 0 to the mean 2, and from 1 to the variance 2
/// assert_eq!(norm.tensors()["running_mean"].to_vec1::<f32>()?, [0.2]);
/// assert_eq!(norm.tensors()["running_var"].to_vec1::<f32>()?, [1.1]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    /// A training pass moves them, through a shared reference as every forward pass.
    running: Mutex<BatchStatistics>,
}

impl Clone for BatchNorm {
    fn clone(&self) -> Self {
        let running = Mutex::new(self.running().clone());
        BatchNorm { weight: self.weight.clone(), bias: self.bias.clone(), running }
    }
}

impl Trainable for BatchNorm {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        f(&join(prefix, "weight"), &self.weight);
        f(&join(prefix, "bias"), &self.bias);
        let BatchStatistics { mean, variance } = self.running().clone();
        f(&join(prefix, "running_mean"), &mean);
        f(&join(prefix, "running_var"), &variance);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Tensor) -> Result<()>) -> Result<()> {
        f(&join(prefix, "weight"), &mut self.weight)?;
        f(&join(prefix, "bias"), &mut self.bias)?;
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        f(&join(prefix, "running_mean"), &mut running.mean)?;
        f(&join(prefix, "running_var"), &mut running.variance)
    }

    fn visit_statistics(&self, prefix: &str, f: &mut dyn FnMut(&str)) {
        f(&join(prefix, "running_mean"));
        f(&join(prefix, "running_var"));
    }
}

impl BatchNorm {
    /// Added to the variance.
    pub const EPS: f64 = 1e-5;
    /// How far the running statistics move to those of a batch.
    pub const MOMENTUM: f64 = 0.1;

    /// Scales and variances of 1, shifts and means of 0.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn new(channels: usize, device: &Device) -> Result<Self> {
        let (ones, zeros) = (Tensor::ones(channels, DType::F32, device)?, Tensor::zeros(channels, DType::F32, device)?);
        Self::from_parts(ones.clone(), zeros.clone(), BatchStatistics { mean: zeros, variance: ones })
    }

    /// From its parameters and running statistics.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not as long as each other.
    pub fn from_parts(weight: Tensor, bias: Tensor, running: BatchStatistics) -> Result<Self> {
        let all = [weight.dims(), bias.dims(), running.mean.dims(), running.variance.dims()];
        if weight.rank() != 1 || all.iter().any(|dims| *dims != weight.dims()) {
            return Err(Error::Shape { what: "batch norm", expected: "(c) four times".into(), got: all.concat() });
        }
        Ok(BatchNorm { weight, bias, running: Mutex::new(running) })
    }

    fn running(&self) -> MutexGuard<'_, BatchStatistics> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The normalised maps.
    ///
    /// # Errors
    /// [`Error::Shape`] for maps of other channels, and in training for one value a channel, which has no variance.
    pub fn forward(&self, x: &Tensor, pass: Pass, statistics: Statistics) -> Result<Tensor> {
        let (weight, bias) = (pass.of(&self.weight), pass.of(&self.bias));
        if pass == Pass::Inference || statistics == Statistics::Fixed {
            let known = self.running().clone();
            return Ok(ops::batch_norm(x, &weight, &bias, Some(&known), Self::EPS)?.0);
        }
        let n = x.elem_count() / x.dims().get(1).copied().unwrap_or(1).max(1);
        if n < 2 {
            let expected = "two values a channel at least, in training".into();
            return Err(Error::Shape { what: "batch norm", expected, got: x.dims().to_vec() });
        }
        let (y, batch) = ops::batch_norm(x, &weight, &bias, None, Self::EPS)?;
        let moved = |from: &Tensor, to: &Tensor, factor: f64| -> Result<Tensor> {
            Ok(((from * (1.0 - Self::MOMENTUM))? + (to.detach() * (Self::MOMENTUM * factor))?)?)
        };
        let mut running = self.running();
        *running = BatchStatistics {
            mean: moved(&running.mean, &batch.mean, 1.0)?,
            variance: moved(&running.variance, &batch.variance, n as f64 / (n - 1) as f64)?,
        };
        Ok(y)
    }
}
