//! Affine maps, with low-rank adapters for ranges of their outputs.

use std::ops::Range;

use candle::Tensor;

use crate::{
    Activation, Error, LayerScale, Pass, Result, Trainable,
    error::parameter,
    join,
    ops::{self, Adapter},
};

/// A low-rank update of some outputs of a [`Linear`]: adds `scale * B A x` to them.
///
/// # Source
/// Hu et al. 2021, LoRA, arXiv:2106.09685; `scale` is their alpha / r.
#[derive(Debug, Clone)]
pub struct LowRank {
    name: String,
    outputs: Range<usize>,
    a: Tensor,
    b: Tensor,
    scale: f64,
    dropout: f64,
}

impl LowRank {
    /// For all outputs, from `a` of shape `(r, in)` and `b` of shape `(out, r)`.
    pub fn new(a: Tensor, b: Tensor, scale: f64) -> Self {
        let out = b.dims().first().copied().unwrap_or(0);
        LowRank { name: String::new(), outputs: 0..out, a, b, scale, dropout: 0.0 }
    }

    /// The same for the outputs from `first` on, of which it has as many as `b` has rows: the queries of
    /// a map for queries, keys and values. `name` tells it from the map's other adapters.
    #[must_use]
    pub fn for_outputs(mut self, name: impl Into<String>, first: usize) -> Self {
        let out = self.outputs.len();
        (self.name, self.outputs) = (name.into(), first..first + out);
        self
    }

    /// The same with dropout before `A`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `0 <= p < 1`.
    pub fn with_dropout(mut self, p: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&p) {
            return Err(parameter("dropout of an adapter", p, "0 <= p < 1"));
        }
        self.dropout = p;
        Ok(self)
    }

    /// Its name among the adapters of its map; empty for one that serves all outputs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The outputs that it serves.
    pub fn outputs(&self) -> Range<usize> {
        self.outputs.clone()
    }

    /// `A`, `(r, in)`.
    pub fn a(&self) -> &Tensor {
        &self.a
    }

    /// `B`, `(outputs, r)`.
    pub fn b(&self) -> &Tensor {
        &self.b
    }

    /// The factor, alpha / r.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}

impl Trainable for LowRank {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        let prefix = crate::parameter_path(prefix, &self.name);
        f(&join(&prefix, "lora_A"), &self.a);
        f(&join(&prefix, "lora_B"), &self.b);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Tensor) -> Result<()>) -> Result<()> {
        let prefix = crate::parameter_path(prefix, &self.name);
        f(&join(&prefix, "lora_A"), &mut self.a)?;
        f(&join(&prefix, "lora_B"), &mut self.b)
    }
}

/// `y = W x + b`, and with adapters `y = W x + b + scale * B A x` on the outputs of each.
///
/// # Shapes
/// weight `(out, in)`, bias `(out,)`; maps `(.., in)` to `(.., out)`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    adapters: Vec<LowRank>,
}

impl Trainable for Linear {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        f(&join(prefix, "weight"), &self.weight);
        self.bias.visit(&join(prefix, "bias"), f);
        self.adapters.iter().for_each(|adapter| adapter.visit(prefix, f));
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Tensor) -> Result<()>) -> Result<()> {
        f(&join(prefix, "weight"), &mut self.weight)?;
        self.bias.visit_mut(&join(prefix, "bias"), f)?;
        self.adapters.iter_mut().try_for_each(|adapter| adapter.visit_mut(prefix, f))
    }

    fn visit_maps(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Linear) -> Result<()>) -> Result<()> {
        f(prefix, self)
    }
}

impl Linear {
    /// From its parameters, without adapters.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Linear { weight, bias, adapters: Vec::new() }
    }

    /// The weight, `(out, in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `(out,)`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Its adapters.
    pub fn adapters(&self) -> &[LowRank] {
        &self.adapters
    }

    /// Puts adapters in place of those there are.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sizes of one are not those of the weight, [`Error::Parameter`] for two of
    /// one name.
    pub fn set_adapters(&mut self, adapters: Vec<LowRank>) -> Result<()> {
        let (out, input) = self.weight.dims2()?;
        for (i, l) in adapters.iter().enumerate() {
            let (a, b) = (l.a.dims(), l.b.dims());
            let served = l.outputs.len();
            if a.len() != 2 || a[1] != input || b != [served, a[0]] || l.outputs.end > out {
                let expected = format!("(r, {input}) and (n, r) with n <= {out}");
                return Err(Error::Shape { what: "low-rank adapter", expected, got: [a, b].concat() });
            }
            if adapters[..i].iter().any(|other| other.name == l.name) {
                return Err(parameter("name of an adapter", &l.name, "one that no other adapter of the map has"));
            }
        }
        self.adapters = adapters;
        Ok(())
    }

    /// Adds the adapters into the weight and takes them out; results stay the same to rounding.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn merge_adapters(&mut self) -> Result<()> {
        let out = self.weight.dim(0)?;
        for l in std::mem::take(&mut self.adapters) {
            let b = (l.b.detach() * l.scale)?.pad_with_zeros(0, l.outputs.start, out - l.outputs.end)?;
            let update = b.matmul(&l.a.detach())?;
            self.weight = (self.weight.detach() + update)?;
        }
        Ok(())
    }

    /// Hands `f` what the operations take of the adapters; in training with dropout each reads rows of its own.
    fn with_adapters<T>(&self, x: &Tensor, pass: Pass, f: impl FnOnce(&[Adapter<'_>]) -> Result<T>) -> Result<T> {
        let mut parts = Vec::with_capacity(self.adapters.len());
        for (l, part) in self.adapters.iter().zip(0..) {
            let dropped = l.dropout > 0.0 && pass.is_drawing();
            let input = if dropped { Some(pass.at(part).dropout(x, l.dropout)?) } else { None };
            parts.push((l, pass.of(&l.a), pass.of(&l.b), input));
        }
        let adapters: Vec<Adapter<'_>> = parts
            .iter()
            .map(|(l, a, b, input)| Adapter { a, b, scale: l.scale, outputs: l.outputs.clone(), input: input.as_ref() })
            .collect();
        f(&adapters)
    }

    /// The mapped rows.
    ///
    /// # Errors
    /// If the last axis of `x` is not `in`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let (weight, bias) = (pass.of(&self.weight), self.bias.as_ref().map(|b| pass.of(b)));
        self.with_adapters(x, pass, |adapters| ops::adapted(x, &weight, bias.as_ref(), adapters))
    }

    /// The mapped rows after an activation.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_activated(&self, x: &Tensor, activation: Activation, pass: Pass) -> Result<Tensor> {
        if !self.adapters.is_empty() {
            return activation.forward(&self.forward(x, pass)?);
        }
        let bias = self.bias.as_ref().map(|b| pass.of(b));
        ops::linear_activated(x, &pass.of(&self.weight), bias.as_ref(), activation)
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
        pass: Pass,
    ) -> Result<Tensor> {
        if !self.adapters.is_empty() {
            let y = self.forward(x, pass)?;
            return ops::add(residual, &gain.map_or_else(|| Ok(y.clone()), |gain| gain.forward(&y, pass))?);
        }
        let (bias, gain) = (self.bias.as_ref().map(|b| pass.of(b)), gain.map(|g| pass.of(g.gamma())));
        ops::linear_residual(x, &pass.of(&self.weight), bias.as_ref(), gain.as_ref(), residual)
    }
}
