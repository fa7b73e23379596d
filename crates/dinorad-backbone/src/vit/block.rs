//! One transformer block.

use candle::Tensor;
use dinorad_nn::{Attention, LayerNorm, LayerScale, Linear, Mlp, Pass, Rotary, SwiGlu, Trainable, parameters};

use crate::{Result, architecture::refuse};

/// The feed-forward network of a block, of one kind or the other.
#[derive(Debug, Clone)]
pub enum FeedForwardNet {
    /// Two maps with a GELU between.
    Mlp(Mlp),
    /// Gated.
    SwiGlu(SwiGlu),
}

impl FeedForwardNet {
    fn forward(&self, x: &Tensor, pass: Pass) -> dinorad_nn::Result<Tensor> {
        match self {
            FeedForwardNet::Mlp(net) => net.forward(x, pass),
            FeedForwardNet::SwiGlu(net) => net.forward(x, pass),
        }
    }

    fn forward_residual(
        &self,
        x: &Tensor,
        gain: Option<&LayerScale>,
        residual: &Tensor,
        pass: Pass,
    ) -> dinorad_nn::Result<Tensor> {
        match self {
            FeedForwardNet::Mlp(net) => net.forward_residual(x, gain, residual, pass),
            FeedForwardNet::SwiGlu(net) => net.forward_residual(x, gain, residual, pass),
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

    fn visit_maps(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Linear) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        match self {
            FeedForwardNet::Mlp(net) => net.visit_maps(prefix, f),
            FeedForwardNet::SwiGlu(net) => net.visit_maps(prefix, f),
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
    /// Probability that a residual branch is dropped in training.
    pub drop_path: f64,
}

parameters!(TransformerBlock { norm1: "norm1", attn: "attn", ls1: "ls1", norm2: "norm2", mlp: "mlp", ls2: "ls2" });

impl TransformerBlock {
    /// The tokens after the block: all of them, or the first `queries`, which see all the others.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        rotary: Option<&Rotary>,
        queries: Option<usize>,
        pass: Pass,
    ) -> dinorad_nn::Result<Tensor> {
        let first = |x: &Tensor| match queries {
            Some(n) => dinorad_nn::ops::first_tokens(x, n),
            None => Ok(x.clone()),
        };
        if pass.is_training() && (self.drop_path == 0.0 || !pass.is_drawing()) {
            return dinorad_nn::ops::segment(&[x], || {
                let normed = self.norm1.forward(x, pass)?;
                let x = first(x)?;
                let x = self.attn.forward_residual(&normed, rotary, queries, self.ls1.as_ref(), &x, pass.at(0))?;
                self.mlp.forward_residual(&self.norm2.forward(&x, pass)?, self.ls2.as_ref(), &x, pass.at(2))
            });
        }
        let scaled = |gain: &Option<LayerScale>, y: Tensor| match gain {
            Some(gain) => gain.forward(&y, pass),
            None => Ok(y),
        };
        let y = self.attn.forward_first(&self.norm1.forward(x, pass)?, rotary, queries, pass.at(0))?;
        let x = (first(x)? + pass.at(1).drop_path(&scaled(&self.ls1, y)?, self.drop_path)?)?;
        let y = scaled(&self.ls2, self.mlp.forward(&self.norm2.forward(&x, pass)?, pass.at(2))?)?;
        Ok((x + pass.at(3).drop_path(&y, self.drop_path)?)?)
    }
}

/// Gives every block its share of a rate: the last one all of it, the first one none.
///
/// # Source
/// DINOv2 and timm: `linspace(0, rate, depth)`.
pub(crate) fn set_drop_path(blocks: &mut [TransformerBlock], rate: f64) -> Result<()> {
    if !(0.0..1.0).contains(&rate) {
        return refuse("drop_path", &rate, "0 <= rate < 1");
    }
    let last = blocks.len().saturating_sub(1).max(1) as f64;
    blocks.iter_mut().enumerate().for_each(|(i, block)| block.drop_path = rate * i as f64 / last);
    Ok(())
}
