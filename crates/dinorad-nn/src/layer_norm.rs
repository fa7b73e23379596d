//! Normalisation of each token.

use candle::Tensor;

use crate::{Pass, Result, ops, parameters};

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
            Pass::Training(_) => ops::layer_norm(x, &self.weight, &self.bias, self.eps),
        }
    }
}
