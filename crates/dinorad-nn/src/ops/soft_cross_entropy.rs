//! Cross-entropy with probabilities in place of labels.

use candle::{D, DType, Device, Tensor};
use dinorad_kernels::{
    memory::written,
    rows::{self, SoftTargets},
};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result, error::parameter};

/// What scores are compared with: rows of probabilities, which of them belongs to each row of scores, and how much
/// that row weighs. Several rows of scores may share one.
#[derive(Debug, Clone)]
pub struct Soft {
    /// `(m, classes)`; rows need not add up to 1: the sum of two targets stands for both. No gradient flows here.
    pub targets: Tensor,
    /// For each of the `n` rows of scores its row of `targets`.
    pub of: Vec<u32>,
    /// For each row of scores the factor of its loss.
    pub weights: Vec<f32>,
}

/// The sum over the rows of `scores` `(n, classes)` of `weight · -sum(target · log softmax(score / temperature))`, and
/// the rows' parts of it without their weights.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not belong together, [`Error::Parameter`] for a temperature that is not above 0
/// or a row of targets that does not exist.
pub fn soft_cross_entropy(scores: &Tensor, soft: &Soft, temperature: f64) -> Result<(Tensor, Vec<f32>)> {
    let (n, classes) = scores.dims2()?;
    let (m, wide) = soft.targets.dims2()?;
    if wide != classes || classes == 0 || soft.of.len() != n || soft.weights.len() != n {
        let expected = format!("({m}, {classes}), and {n} rows and weights");
        return Err(Error::Shape { what: "targets", expected, got: vec![m, wide, soft.of.len(), soft.weights.len()] });
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(parameter("temperature", temperature, "above 0"));
    }
    if let Some(of) = soft.of.iter().find(|of| **of as usize >= m) {
        return Err(parameter("row of targets", of, "one that there is"));
    }
    let targets = soft.targets.detach();
    if !fast([scores, &targets]) {
        let device = scores.device();
        let x = (scores * (1.0 / temperature))?;
        let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
        let logs = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
        let of = Tensor::from_vec(soft.of.clone(), n, device)?;
        let targets = targets.to_device(device)?.to_dtype(scores.dtype())?.index_select(&of, 0)?;
        let losses = (logs * targets)?.sum(1)?.neg()?;
        let weights = Tensor::from_vec(soft.weights.clone(), n, device)?.to_dtype(scores.dtype())?;
        let parts = losses.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1()?;
        return Ok(((losses * weights)?.sum_all()?, parts));
    }
    let (dx, dt, temperature) = (dense(scores)?, dense(&targets)?, temperature as f32);
    let (mut losses, mut lse) = (vec![0.0; n], vec![0.0; n]);
    {
        let (x, t) = (values::<f32>(&dx)?, values::<f32>(&dt)?);
        let targets = SoftTargets { rows: &t, of: &soft.of };
        rows::soft_cross_entropy(classes, temperature, &x, targets, &mut losses, &mut lse);
    }
    let all: f64 = losses.iter().zip(&soft.weights).map(|(l, w)| f64::from(*l) * f64::from(*w)).sum();
    let soft = Soft { targets: dt, of: soft.of.clone(), weights: soft.weights.clone() };
    let loss = record(&[Some(scores)], (), vec![all as f32], || Ok(Loss { scores: dx, soft, lse, temperature }))?;
    Ok((loss, losses))
}

struct Loss {
    scores: Tensor,
    soft: Soft,
    lse: Vec<f32>,
    temperature: f32,
}

impl Backward for Loss {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (x, t) = (values::<f32>(&self.scores)?, values::<f32>(&self.soft.targets)?);
        let dy = dy.first().copied().unwrap_or_default();
        let weights: Vec<f32> = self.soft.weights.iter().map(|w| w * dy).collect();
        let targets = SoftTargets { rows: &t, of: &self.soft.of };
        let width = x.len() / self.lse.len().max(1);
        let gradient = written(x.len(), |ds| {
            if width > 0 {
                rows::soft_cross_entropy_backward(width, self.temperature, &x, targets, &self.lse, &weights, ds);
            }
        });
        to.put(0, gradient);
        Ok(())
    }
}
