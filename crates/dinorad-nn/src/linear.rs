//! Affine maps, with a slot for a low-rank adapter.

use candle::Tensor;

use crate::{
    Activation, Error, LayerScale, Mode, Result,
    ops::{self, Adapter},
    parameters,
};

/// A low-rank update of a [`Linear`]: adds `scale * B A x`.
///
/// # Source
/// Hu et al. 2021, LoRA, arXiv:2106.09685; `scale` is their alpha / r.
#[derive(Debug, Clone)]
pub struct LowRank {
    a: Tensor,
    b: Tensor,
    scale: f64,
}

parameters!(LowRank { a: "lora_a", b: "lora_b" });

impl LowRank {
    /// From `a` of shape `(r, in)` and `b` of shape `(out, r)`.
    pub fn new(a: Tensor, b: Tensor, scale: f64) -> Self {
        LowRank { a, b, scale }
    }

    /// The factor alpha / r.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}

/// `y = W x + b`, and with an adapter `y = W x + b + scale * B A x`.
///
/// # Shapes
/// weight `(out, in)`, bias `(out,)`; maps `(.., in)` to `(.., out)`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    adapter: Option<LowRank>,
}

parameters!(Linear { weight: "weight", bias: "bias", adapter: "" });

impl Linear {
    /// From its parameters, without an adapter.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Linear { weight, bias, adapter: None }
    }

    /// The weight, `(out, in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `(out,)`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The adapter in the slot.
    pub fn adapter(&self) -> Option<&LowRank> {
        self.adapter.as_ref()
    }

    /// Puts an adapter into the slot, or takes it out.
    ///
    /// # Errors
    /// [`Error::Shape`] if its sizes are not those of the weight.
    pub fn set_adapter(&mut self, adapter: Option<LowRank>) -> Result<()> {
        if let Some(l) = &adapter {
            let (out, input) = self.weight.dims2()?;
            let (a, b) = (l.a.dims(), l.b.dims());
            if a.len() != 2 || a[1] != input || b != [out, a[0]] {
                let expected = format!("(r, {input}) and ({out}, r)");
                return Err(Error::Shape { what: "low-rank adapter", expected, got: [a, b].concat() });
            }
        }
        self.adapter = adapter;
        Ok(())
    }

    /// Adds the adapter into the weight and empties the slot; results stay the same to rounding.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn merge_adapter(&mut self) -> Result<()> {
        if let Some(l) = self.adapter.take() {
            let update = (l.b.matmul(&l.a)? * l.scale)?;
            self.weight = (&self.weight + update)?.detach();
        }
        Ok(())
    }

    /// The mapped rows.
    ///
    /// # Errors
    /// If the last axis of `x` is not `in`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (weight, bias) = (mode.of(&self.weight), self.bias.as_ref().map(|b| mode.of(b)));
        let parts = self.adapter.as_ref().map(|l| (mode.of(&l.a), mode.of(&l.b), l.scale));
        let adapter = parts.as_ref().map(|(a, b, scale)| {
            let outputs = 0..b.dims().first().copied().unwrap_or_default();
            Adapter { a, b, scale: *scale, outputs, input: None }
        });
        ops::adapted(x, &weight, bias.as_ref(), adapter.as_slice())
    }

    /// The mapped rows after an activation.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_activated(&self, x: &Tensor, activation: Activation, mode: Mode) -> Result<Tensor> {
        if self.adapter.is_some() {
            return activation.forward(&self.forward(x, mode)?);
        }
        let bias = self.bias.as_ref().map(|b| mode.of(b));
        ops::linear_activated(x, &mode.of(&self.weight), bias.as_ref(), activation)
    }

    /// The mapped rows times a gain, added to `residual`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_residual(
        &self,
        x: &Tensor,
        gain: Option<&LayerScale>,
        residual: &Tensor,
        mode: Mode,
    ) -> Result<Tensor> {
        if self.adapter.is_some() {
            let y = self.forward(x, mode)?;
            return ops::add(residual, &gain.map_or_else(|| Ok(y.clone()), |gain| gain.forward(&y, mode))?);
        }
        let (bias, gain) = (self.bias.as_ref().map(|b| mode.of(b)), gain.map(|g| mode.of(g.gamma())));
        ops::linear_residual(x, &mode.of(&self.weight), bias.as_ref(), gain.as_ref(), residual)
    }
}
