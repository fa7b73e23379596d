//! Normalisation of each token.

use candle::{D, DType, Tensor};

use crate::{Pass, Result, parameters};

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis.
///
/// # Shapes
/// `x`: `(.., dim)`; weight and bias: `(dim,)`.
///
/// # Source
/// Ba et al. 2016, arXiv:1607.06450; PyTorch's `nn.LayerNorm`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

parameters!(LayerNorm { weight: "weight", bias: "bias" });

impl LayerNorm {
    /// From its parameters.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        LayerNorm { weight, bias, eps }
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// The normalised tokens, in the dtype of `x`.
    ///
    /// # Errors
    /// If the last axis of `x` is not `dim`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        match pass {
            Pass::Inference => {
                let (weight, bias) = (pass.of(&self.weight), pass.of(&self.bias));
                Ok(candle_nn::ops::layer_norm(&x.contiguous()?, &weight, &bias, self.eps as f32)?)
            }
            Pass::Training(_) => {
                // Sums of many halves lose digits: work in f32 as PyTorch does.
                let wide = if matches!(x.dtype(), DType::F16 | DType::BF16) { DType::F32 } else { x.dtype() };
                let wx = x.to_dtype(wide)?;
                let centred = wx.broadcast_sub(&wx.mean_keepdim(D::Minus1)?)?;
                let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
                let normed = centred.broadcast_div(&deviation)?.to_dtype(x.dtype())?;
                Ok(normed.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?)
            }
        }
    }
}
