//! Normalisation over the last axis.

use candle::{D, DType, Tensor};
use dinorad_kernels::{
    Kernels,
    memory::written,
    norm::{NormGradients, layer_norm_backward, layer_norm_saving},
};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis.
///
/// # Errors
/// [`Error::Shape`] if weight and bias are not as long as the last axis.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = x.dim(D::Minus1)?;
    for t in [weight, bias] {
        if t.dims() != [dim] || dim == 0 {
            let expected = format!("({dim})");
            return Err(Error::Shape { what: "parameter of a layer norm", expected, got: t.dims().to_vec() });
        }
    }
    if !fast([x, weight, bias]) {
        // Sums of many halves lose digits: work in f32 as PyTorch does.
        let wide = if matches!(x.dtype(), DType::F16 | DType::BF16) { DType::F32 } else { x.dtype() };
        let wx = x.to_dtype(wide)?;
        let centred = wx.broadcast_sub(&wx.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
        let normed = centred.broadcast_div(&deviation)?.to_dtype(x.dtype())?;
        return Ok(normed.broadcast_mul(weight)?.broadcast_add(bias)?);
    }
    let (dx, dw, db) = (dense(x)?, dense(weight)?, dense(bias)?);
    let mut stats = Vec::new();
    let result = {
        let (x, w, b) = (values::<f32>(&dx)?, values::<f32>(&dw)?, values::<f32>(&db)?);
        written(x.len(), |out| {
            stats = written(x.len() / dim * 2, |stats| {
                layer_norm_saving(Kernels::best(), &x, &w, &b, eps as f32, out, stats);
            });
        })
    };
    record(&[Some(x), Some(weight), Some(bias)], x.shape().clone(), result, || Ok(Normed { x: dx, weight: dw, stats }))
}

struct Normed {
    x: Tensor,
    weight: Tensor,
    /// Mean and `1 / sqrt(var + eps)` of every row.
    stats: Vec<f32>,
}

impl Backward for Normed {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (x, weight) = (values::<f32>(&self.x)?, values::<f32>(&self.weight)?);
        let run = |to: NormGradients<'_>| layer_norm_backward(Kernels::best(), &x, &weight, &self.stats, &dy, to);
        let dim = weight.len();
        let (mut dw, mut db) = (vec![0.0; dim], vec![0.0; dim]);
        let asked = to.wanted(1) || to.wanted(2);
        let parameters = asked.then_some((&mut dw[..], &mut db[..]));
        let wanted = to.wanted(0);
        match to.existing(0) {
            Some(sum) => run(NormGradients { dx: Some((sum, true)), parameters }),
            None if wanted => {
                let dx = written(x.len(), |dx| run(NormGradients { dx: Some((dx, false)), parameters }));
                to.put(0, dx);
            }
            None => run(NormGradients { dx: None, parameters }),
        }
        to.put(1, dw);
        to.put(2, db);
        Ok(())
    }
}
