//! The two feed-forward networks of DINOv2, and the gain of its residual branches.

use candle::{D, Tensor};

use crate::{Linear, Mode, Result, parameters};

/// `fc2(gelu(fc1(x)))` with the exact (erf) GELU.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// `dim` to `hidden`.
    pub fc1: Linear,
    /// `hidden` to `dim`.
    pub fc2: Linear,
}

parameters!(Mlp { fc1: "fc1", fc2: "fc2" });

impl Mlp {
    /// The mapped tokens.
    ///
    /// # Errors
    /// If the last axis of `x` is not `dim`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.fc2.forward(&self.fc1.forward(x, mode)?.gelu_erf()?, mode)
    }
}

/// `w3(silu(gate) * value)` where `w12(x)` holds the gate first, then the value.
///
/// # Source
/// Shazeer 2020, arXiv:2002.05202; DINOv2 `layers/swiglu_ffn.py`.
#[derive(Debug, Clone)]
pub struct SwiGlu {
    /// `dim` to `2 hidden`.
    pub w12: Linear,
    /// `hidden` to `dim`.
    pub w3: Linear,
}

parameters!(SwiGlu { w12: "w12", w3: "w3" });

impl SwiGlu {
    /// The mapped tokens.
    ///
    /// # Errors
    /// If the last axis of `x` is not `dim`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let both = self.w12.forward(x, mode)?;
        let hidden = both.dim(D::Minus1)? / 2;
        let gate = both.narrow(D::Minus1, 0, hidden)?.contiguous()?;
        let value = both.narrow(D::Minus1, hidden, hidden)?.contiguous()?;
        self.w3.forward(&(gate.silu()? * value)?, mode)
    }
}

/// A gain for every channel: `gamma * x`.
///
/// # Source
/// Touvron et al. 2021, CaiT, arXiv:2103.17239.
#[derive(Debug, Clone)]
pub struct LayerScale {
    gamma: Tensor,
}

parameters!(LayerScale { gamma: "gamma" });

impl LayerScale {
    /// From its gains, `(dim,)`.
    pub fn new(gamma: Tensor) -> Self {
        LayerScale { gamma }
    }

    /// The scaled tokens.
    ///
    /// # Errors
    /// If the last axis of `x` is not `dim`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(x.broadcast_mul(&mode.of(&self.gamma))?)
    }
}
