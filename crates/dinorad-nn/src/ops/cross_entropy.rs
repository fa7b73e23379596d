//! Softmax cross-entropy.

use candle::{D, DType, Tensor};
use dinorad_kernels::{cross_entropy as kernel, memory::written};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result, error::parameter};

/// The mean over the rows of `logits` `(n, classes)` of their cross-entropy with `labels` `(n,)` in `u32`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not belong together, [`Error::Parameter`] if there is no row or a
/// label is not below `classes`.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (n, classes) = logits.dims2()?;
    if labels.dims() != [n] {
        return Err(Error::Shape { what: "labels", expected: format!("[{n}]"), got: labels.dims().to_vec() });
    }
    let labels = labels.to_dtype(DType::U32)?;
    if n == 0 || classes == 0 {
        return Err(parameter("number of labels", n.min(classes), "at least one"));
    }
    let largest = labels.max(0)?.to_scalar::<u32>()?;
    if largest as usize >= classes {
        return Err(parameter("label", largest, "a class index below the number of logits"));
    }
    if !fast([logits]) || !labels.device().is_cpu() {
        let halves = matches!(logits.dtype(), DType::F16 | DType::BF16);
        let x = if halves { logits.to_dtype(DType::F32)? } else { logits.clone() };
        let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
        let log_p = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
        return Ok(log_p.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?.neg()?);
    }
    let (dx, dl) = (dense(logits)?, dense(&labels)?);
    let mut lse = vec![0.0; n];
    let mean = {
        let (x, l) = (values::<f32>(&dx)?, values::<u32>(&dl)?);
        let mut losses = vec![0.0; n];
        kernel::forward(classes, &x, &l, &mut losses, &mut lse);
        losses.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64
    };
    record(&[Some(logits)], (), vec![mean as f32], || Ok(Loss { logits: dx, labels: dl, lse, classes }))
}

struct Loss {
    logits: Tensor,
    labels: Tensor,
    lse: Vec<f32>,
    classes: usize,
}

impl Backward for Loss {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (x, labels) = (values::<f32>(&self.logits)?, values::<u32>(&self.labels)?);
        let scale = dy.first().copied().unwrap_or_default() / labels.len() as f32;
        let gradient = written(x.len(), |d| kernel::backward(self.classes, &x, &labels, &self.lse, scale, d));
        to.put(0, gradient);
        Ok(())
    }
}
