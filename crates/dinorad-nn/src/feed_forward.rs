//! The feed-forward networks of vision transformers, and the gain of its residual branches.

use candle::Tensor;

use crate::{Linear, Pass, Result, ops, parameters};

/// What stands between the two maps of an [`Mlp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// The exact (erf) GELU.
    #[default]
    Gelu,
    /// `x * sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
}

impl Activation {
    /// The activated values; gradients flow.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        ops::activate(x, self)
    }
}

/// `fc2(activation(fc1(x)))`.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// `dim` to `hidden`.
    pub fc1: Linear,
    /// `hidden` to `dim`.
    pub fc2: Linear,
    /// What stands between.
    pub activation: Activation,
}

parameters!(Mlp { fc1: "fc1", fc2: "fc2" });

impl Mlp {
    /// The mapped tokens.
    ///
    /// # Errors
    /// If the last axis of `x` is not `dim`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        self.fc2.forward(&self.fc1.forward_activated(x, self.activation, pass.at(0))?, pass.at(1))
    }

    /// The mapped tokens times a gain, added to `residual`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_residual(
        &self,
        x: &Tensor,
        gain: Option<&LayerScale>,
        residual: &Tensor,
        pass: Pass,
    ) -> Result<Tensor> {
        let hidden = self.fc1.forward_activated(x, self.activation, pass.at(0))?;
        self.fc2.forward_residual(&hidden, gain, residual, pass.at(1))
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
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        self.w3.forward(&ops::swiglu(&self.w12.forward(x, pass.at(0))?)?, pass.at(1))
    }

    /// The mapped tokens times a gain, added to `residual`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_residual(
        &self,
        x: &Tensor,
        gain: Option<&LayerScale>,
        residual: &Tensor,
        pass: Pass,
    ) -> Result<Tensor> {
        self.w3.forward_residual(&ops::swiglu(&self.w12.forward(x, pass.at(0))?)?, gain, residual, pass.at(1))
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

    /// The gains, `(dim,)`.
    pub fn gamma(&self) -> &Tensor {
        &self.gamma
    }

    /// The scaled tokens.
    ///
    /// # Errors
    /// If the last axis of `x` is not `dim`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        ops::layer_scale(x, &pass.of(&self.gamma))
    }
}
