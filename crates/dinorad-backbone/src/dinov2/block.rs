//! One transformer block.

use candle::Tensor;
use dinorad_nn::{
    Activation, Attention, LayerNorm, LayerScale, Linear, Mlp, Mode, Rotary, SwiGlu, Trainable, parameters,
};

use super::config::{Dinov2Config, FeedForward};
use crate::Result;

/// The feed-forward network of a block, of one kind or the other.
#[derive(Debug, Clone)]
pub enum FeedForwardNet {
    /// Two maps with a GELU between.
    Mlp(Mlp),
    /// Gated.
    SwiGlu(SwiGlu),
}

impl FeedForwardNet {
    fn forward(&self, x: &Tensor, mode: Mode) -> dinorad_nn::Result<Tensor> {
        match self {
            FeedForwardNet::Mlp(net) => net.forward(x, mode),
            FeedForwardNet::SwiGlu(net) => net.forward(x, mode),
        }
    }

    fn forward_residual(
        &self,
        x: &Tensor,
        gain: Option<&LayerScale>,
        residual: &Tensor,
        mode: Mode,
    ) -> dinorad_nn::Result<Tensor> {
        match self {
            FeedForwardNet::Mlp(net) => net.forward_residual(x, gain, residual, mode),
            FeedForwardNet::SwiGlu(net) => net.forward_residual(x, gain, residual, mode),
        }
    }
}

impl Trainable for FeedForwardNet {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        match self {
            FeedForwardNet::Mlp(net) => net.visit(prefix, f),
            FeedForwardNet::SwiGlu(net) => net.visit(prefix, f),
        }
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        match self {
            FeedForwardNet::Mlp(net) => net.visit_mut(prefix, f),
            FeedForwardNet::SwiGlu(net) => net.visit_mut(prefix, f),
        }
    }
}

/// One transformer block: `x + ls1(attn(norm1(x)))`, then `x + ls2(mlp(norm2(x)))`.
///
/// Fields are public so that adapters can be put into its maps.
#[derive(Debug, Clone)]
pub struct TransformerBlock {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: Attention,
    /// Gain after attention.
    pub ls1: Option<LayerScale>,
    /// Before the feed-forward network.
    pub norm2: LayerNorm,
    /// Feed-forward network.
    pub mlp: FeedForwardNet,
    /// Gain after the feed-forward network.
    pub ls2: Option<LayerScale>,
}

parameters!(TransformerBlock { norm1: "norm1", attn: "attn", ls1: "ls1", norm2: "norm2", mlp: "mlp", ls2: "ls2" });

impl TransformerBlock {
    /// From named parameters; `take` gives the one of a name within the block.
    pub(super) fn new(config: &Dinov2Config, take: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<Self> {
        let mut linear = |name: &str, bias: bool| -> Result<Linear> {
            let bias = if bias { Some(take(&format!("{name}.bias"))?) } else { None };
            Ok(Linear::new(take(&format!("{name}.weight"))?, bias))
        };
        let attn = Attention::new(linear("attn.qkv", config.qkv_bias)?, linear("attn.proj", true)?, config.heads)?;
        let mlp = match config.feed_forward {
            FeedForward::Mlp => {
                let (fc1, fc2) = (linear("mlp.fc1", true)?, linear("mlp.fc2", true)?);
                FeedForwardNet::Mlp(Mlp { fc1, fc2, activation: Activation::Gelu })
            }
            FeedForward::SwiGlu => {
                FeedForwardNet::SwiGlu(SwiGlu { w12: linear("mlp.w12", true)?, w3: linear("mlp.w3", true)? })
            }
        };
        let mut norm = |name: &str| -> Result<LayerNorm> {
            Ok(LayerNorm::new(take(&format!("{name}.weight"))?, take(&format!("{name}.bias"))?, config.eps))
        };
        let (norm1, norm2) = (norm("norm1")?, norm("norm2")?);
        let mut gain = |name: &str| -> Result<Option<LayerScale>> {
            config.layer_scale.then(|| Ok(LayerScale::new(take(&format!("{name}.gamma"))?))).transpose()
        };
        Ok(TransformerBlock { norm1, attn, ls1: gain("ls1")?, norm2, mlp, ls2: gain("ls2")? })
    }

    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_rotated(x, None, mode)
    }

    /// The same with positions as rotations.
    pub(crate) fn forward_rotated(&self, x: &Tensor, rotary: Option<&Rotary>, mode: Mode) -> Result<Tensor> {
        if mode == Mode::Training {
            return Ok(dinorad_nn::ops::segment(&[x], || -> dinorad_nn::Result<Tensor> {
                let normed = self.norm1.forward(x, mode)?;
                let x = self.attn.forward_residual(&normed, rotary, self.ls1.as_ref(), x, mode)?;
                self.mlp.forward_residual(&self.norm2.forward(&x, mode)?, self.ls2.as_ref(), &x, mode)
            })?);
        }
        let scaled = |gain: &Option<LayerScale>, y: Tensor| match gain {
            Some(gain) => gain.forward(&y, mode),
            None => Ok(y),
        };
        let x = (x + scaled(&self.ls1, self.attn.forward_rotated(&self.norm1.forward(x, mode)?, rotary, mode)?)?)?;
        let y = scaled(&self.ls2, self.mlp.forward(&self.norm2.forward(&x, mode)?, mode)?)?;
        Ok((x + y)?)
    }
}
