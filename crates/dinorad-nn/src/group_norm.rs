//! Normalisation of groups of channels.

use candle::Tensor;

use crate::{Error, Pass, Result, ops, parameters};

/// Groups of neighbouring channels of each image to mean 0 and variance 1, then scaled and shifted.
///
/// The same in training and inference, and for any size of a batch.
///
/// # Shapes
/// x `(b, c, ..)`; weight and bias `(c,)`.
///
/// # Source
/// Wu and He 2018, arXiv:1803.08494; PyTorch's `nn.GroupNorm`.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

parameters!(GroupNorm { weight: "weight", bias: "bias" });

impl GroupNorm {
    /// From its parameters.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not as long as each other, or the groups do not divide the channels.
    pub fn new(weight: Tensor, bias: Tensor, groups: usize, eps: f64) -> Result<Self> {
        match (weight.dims(), bias.dims()) {
            ([c], [n]) if c == n && groups > 0 && c.is_multiple_of(groups) => {
                Ok(GroupNorm { weight, bias, groups, eps })
            }
            (weight, bias) => {
                let expected = format!("(c) and (c), a multiple of {groups} channels");
                Err(Error::Shape { what: "group norm", expected, got: [weight, bias].concat() })
            }
        }
    }

    /// The normalised maps.
    ///
    /// # Errors
    /// [`Error::Shape`] for maps of other channels.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        ops::group_norm(x, &pass.of(&self.weight), &pass.of(&self.bias), self.groups, self.eps)
    }
}
