//! Affine maps, with a slot for a low-rank adapter.

use candle::Tensor;

use crate::{Error, Mode, Result, parameters};

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

    fn delta(&self, rows: &Tensor, mode: Mode) -> Result<Tensor> {
        let low = rows.matmul(&mode.of(&self.a).t()?)?;
        Ok((low.matmul(&mode.of(&self.b).t()?)? * self.scale)?)
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
        let mut shape = x.dims().to_vec();
        let (out, input) = self.weight.dims2()?;
        // One tall product instead of one per batch item: candle would repeat the weight for each.
        let rows = x.reshape(((), input))?;
        let mut y = rows.matmul(&mode.of(&self.weight).t()?)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(&mode.of(bias))?;
        }
        if let Some(adapter) = &self.adapter {
            y = (y + adapter.delta(&rows, mode)?)?;
        }
        if let Some(last) = shape.last_mut() {
            *last = out;
        }
        Ok(y.reshape(shape)?)
    }
}
