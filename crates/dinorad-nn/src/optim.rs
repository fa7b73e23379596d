//! Optimisers with parameter groups and a state that can be saved.

use std::collections::BTreeMap;

use candle::{DType, Tensor, Var, backprop::GradStore};

use dinorad_kernels::update::{Adam, Sgd};

use crate::{Error, Result, error::parameter, ops, train::Gradients};

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// `v = momentum v + g; p -= lr v`, with `weight_decay p` added to `g` first.
    Sgd {
        /// Share of the last step that is kept.
        momentum: f64,
    },
    /// Adam; how weight decay enters is a choice.
    Adam {
        /// Decay of the first and second moment.
        betas: (f64, f64),
        /// Added to the root of the second moment.
        eps: f64,
        /// Where weight decay acts.
        decay: Decay,
    },
}

/// Where weight decay acts in Adam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// On the parameter, by `lr * weight_decay`: AdamW.
    Decoupled,
    /// On the gradient, by `weight_decay * p`: Adam with L2.
    L2,
}

impl Algorithm {
    /// SGD with momentum 0.9, the study's choice for probes and decoders.
    pub const SGD: Self = Algorithm::Sgd { momentum: 0.9 };
    /// AdamW with PyTorch's betas and eps.
    pub const ADAMW: Self = Algorithm::Adam { betas: (0.9, 0.999), eps: 1e-8, decay: Decay::Decoupled };
    /// Adam with L2 in the gradient and PyTorch's betas and eps.
    pub const ADAM: Self = Algorithm::Adam { betas: (0.9, 0.999), eps: 1e-8, decay: Decay::L2 };
}

/// Variables that share a learning rate and a weight decay.
#[derive(Debug, Clone)]
pub struct Group {
    /// The variables by name.
    pub variables: BTreeMap<String, Var>,
    /// Learning rate of the next step; schedules write it.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Group {
    /// A group without weight decay.
    pub fn new(variables: BTreeMap<String, Var>, lr: f64) -> Self {
        Group { variables, lr, weight_decay: 0.0 }
    }

    /// The same with weight decay.
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }
}

/// Moves variables against their gradients.
///
/// A variable without a gradient in a step is left alone, and so is its state, as PyTorch does.
///
/// # Examples
/// ```
/// use std::collections::BTreeMap;
/// use dinorad_nn::{Optimizer, candle::{Device, Var}, optim::{Algorithm, Group}};
/// # fn main() -> Result<(), dinorad_nn::Error> {
/// let x = Var::new(&[4f32], &Device::Cpu)?;
/// let group = Group::new(BTreeMap::from([("x".to_owned(), x.clone())]), 0.1);
/// let mut sgd = Optimizer::new(Algorithm::SGD, vec![group])?;
/// for _ in 0..200 {
///     sgd.step(&x.sqr()?.sum_all()?.backward()?)?;
/// }
/// assert!(x.to_vec1::<f32>()?[0].abs() < 1e-3);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Optimizer {
    algorithm: Algorithm,
    groups: Vec<Group>,
    state: BTreeMap<String, State>,
}

/// What an optimiser remembers of one variable.
#[derive(Debug, Clone)]
struct State {
    steps: u32,
    first: Tensor,
    second: Option<Tensor>,
}

impl Optimizer {
    /// An optimiser that has not stepped yet.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a setting is out of range or a name is in two groups.
    pub fn new(algorithm: Algorithm, groups: Vec<Group>) -> Result<Self> {
        let unit = |v: f64| (0.0..1.0).contains(&v);
        match algorithm {
            Algorithm::Sgd { momentum } if !unit(momentum) => {
                return Err(parameter("momentum", momentum, "0 <= m < 1"));
            }
            Algorithm::Adam { betas, .. } if !(unit(betas.0) && unit(betas.1)) => {
                return Err(parameter("betas", format!("{betas:?}"), "0 <= beta < 1"));
            }
            Algorithm::Adam { eps, .. } if !(eps.is_finite() && eps >= 0.0) => {
                return Err(parameter("eps", eps, "a number from 0"));
            }
            _ => {}
        }
        let mut names = std::collections::BTreeSet::new();
        for group in &groups {
            for (what, v) in [("learning rate", group.lr), ("weight decay", group.weight_decay)] {
                if !(v.is_finite() && v >= 0.0) {
                    return Err(parameter(what, v, "a number from 0"));
                }
            }
            if let Some(name) = group.variables.keys().find(|n| !names.insert((*n).clone())) {
                return Err(parameter("variable", name, "a name in one group only"));
            }
        }
        Ok(Optimizer { algorithm, groups, state: BTreeMap::new() })
    }

    /// The groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Sets the learning rate of every group: `lrs` in the order of the groups.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are not as many rates as groups.
    pub fn set_lrs(&mut self, lrs: &[f64]) -> Result<()> {
        if lrs.len() != self.groups.len() {
            return Err(parameter("number of learning rates", lrs.len(), "one for each group"));
        }
        self.groups.iter_mut().zip(lrs).for_each(|(g, lr)| g.lr = *lr);
        Ok(())
    }

    /// Sets the weight decay of every group: `decays` in the order of the groups.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are not as many as groups.
    pub fn set_weight_decays(&mut self, decays: &[f64]) -> Result<()> {
        if decays.len() != self.groups.len() {
            return Err(parameter("number of weight decays", decays.len(), "one for each group"));
        }
        self.groups.iter_mut().zip(decays).for_each(|(g, decay)| g.weight_decay = *decay);
        Ok(())
    }

    /// One step along `grads`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.move_along(&|_, var| grads.get(var))
    }

    /// One step along gradients by name.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn step_along(&mut self, gradients: &Gradients) -> Result<()> {
        self.move_along(&|name, _| gradients.get(name))
    }

    fn move_along<'g>(&mut self, gradient: &dyn Fn(&str, &Var) -> Option<&'g Tensor>) -> Result<()> {
        for group in &self.groups {
            for (name, var) in &group.variables {
                let Some(grad) = gradient(name, var) else { continue };
                let (p, g) = (var.as_detached_tensor(), grad.detach());
                if step_in_place(self.algorithm, group, &p, &g, name, &mut self.state)? {
                    continue;
                }
                let p_new = step_one(self.algorithm, group, &p, &g, name, &mut self.state)?;
                var.set(&p_new)?;
            }
        }
        Ok(())
    }

    /// Everything remembered, as named tensors for a checkpoint.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for (name, s) in &self.state {
            out.insert(format!("{name}#steps"), Tensor::new(&[s.steps], s.first.device())?);
            // copies: steps change the state in place
            out.insert(format!("{name}#first"), s.first.copy()?);
            if let Some(second) = &s.second {
                out.insert(format!("{name}#second"), second.copy()?);
            }
        }
        Ok(out)
    }

    /// Takes a saved [`state`](Self::state) back.
    ///
    /// # Errors
    /// [`Error::State`] if it names unknown variables, or shapes or parts do not fit.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        let bad = |reason: String| Error::State { reason };
        let variables: BTreeMap<&String, &Var> = self.groups.iter().flat_map(|g| &g.variables).collect();
        let mut state = BTreeMap::new();
        for key in saved.keys() {
            let (name, part) = key.rsplit_once('#').ok_or_else(|| bad(format!("`{key}` has no part")))?;
            if !variables.contains_key(&name.to_owned()) || !["steps", "first", "second"].contains(&part) {
                return Err(bad(format!("`{key}` belongs to no variable")));
            }
        }
        for (name, var) in variables {
            let part = |p: &str| saved.get(&format!("{name}#{p}"));
            let (Some(steps), Some(first)) = (part("steps"), part("first")) else {
                if part("first").or(part("steps")).or(part("second")).is_some() {
                    return Err(bad(format!("`{name}` is incomplete")));
                }
                continue;
            };
            let second = part("second").cloned();
            let adam = matches!(self.algorithm, Algorithm::Adam { .. });
            let fits = |t: &Tensor| t.dims() == var.dims();
            if !fits(first) || second.as_ref().is_some_and(|t| !fits(t)) || second.is_some() != adam {
                return Err(bad(format!("`{name}` is of another shape or optimiser")));
            }
            let steps = steps.flatten_all()?.to_vec1::<u32>()?;
            let steps = *steps.first().ok_or_else(|| bad(format!("`{name}` has no step count")))?;
            let place = |t: &Tensor| t.to_device(var.device())?.copy();
            state.insert(
                name.clone(),
                State { steps, first: place(first)?, second: second.as_ref().map(place).transpose()? },
            );
        }
        self.state = state;
        Ok(())
    }
}

/// One step in one pass over the parameter and its state, where the kernels can; `false` where not.
fn step_in_place(
    algorithm: Algorithm,
    group: &Group,
    p: &Tensor,
    g: &Tensor,
    name: &str,
    state: &mut BTreeMap<String, State>,
) -> Result<bool> {
    if !(p.device().is_cpu() && p.dtype() == DType::F32 && g.dtype() == DType::F32 && p.is_contiguous()) {
        return Ok(false);
    }
    if !state.contains_key(name) {
        let adam = matches!(algorithm, Algorithm::Adam { .. });
        let second = adam.then(|| p.zeros_like()).transpose()?;
        state.insert(name.to_owned(), State { steps: 0, first: p.zeros_like()?, second });
    }
    let Some(s) = state.get_mut(name) else { return Ok(false) };
    let (lr, weight_decay) = (group.lr, group.weight_decay);
    let done = match (algorithm, &s.second) {
        (Algorithm::Sgd { momentum }, _) => {
            let sgd = Sgd { lr, momentum, weight_decay, gradient_scale: 1.0 };
            ops::sgd_step(&sgd, p, g, &s.first)?
        }
        (Algorithm::Adam { betas, eps, decay }, Some(second)) => {
            let (decoupled, step) = (decay == Decay::Decoupled, s.steps + 1);
            let adam = Adam { lr, betas, eps, weight_decay, decoupled, step, gradient_scale: 1.0 };
            ops::adam_step(&adam, p, g, &s.first, second)?
        }
        _ => false,
    };
    s.steps += u32::from(done);
    Ok(done)
}

/// The parameter after one step; its state is updated. Moments are kept in at least f32.
fn step_one(
    algorithm: Algorithm,
    group: &Group,
    p: &Tensor,
    g: &Tensor,
    name: &str,
    state: &mut BTreeMap<String, State>,
) -> Result<Tensor> {
    let dtype = p.dtype();
    let wide = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
    let (mut p, mut g) = (p.to_dtype(wide)?, g.to_dtype(wide)?);
    let (lr, wd) = (group.lr, group.weight_decay);
    let coupled = !matches!(algorithm, Algorithm::Adam { decay: Decay::Decoupled, .. });
    if wd != 0.0 && coupled {
        g = (g + (&p * wd)?)?;
    }
    let previous = state.get(name);
    let steps = previous.map_or(0, |s| s.steps) + 1;
    let (next, p_new) = match algorithm {
        Algorithm::Sgd { momentum } => {
            let v = match previous {
                Some(s) => ((&s.first * momentum)? + &g)?,
                None => g,
            };
            let p_new = (p - (&v * lr)?)?;
            (State { steps, first: v, second: None }, p_new)
        }
        Algorithm::Adam { betas: (b1, b2), eps, decay } => {
            if wd != 0.0 && decay == Decay::Decoupled {
                p = (p * (1.0 - lr * wd))?;
            }
            let fresh = (&g * (1.0 - b1))?;
            let fresh_sq = (g.sqr()? * (1.0 - b2))?;
            let (m, v) = match previous.map(|s| (&s.first, &s.second)) {
                Some((m, Some(v))) => (((m * b1)? + fresh)?, ((v * b2)? + fresh_sq)?),
                _ => (fresh, fresh_sq),
            };
            let correction = |b: f64| 1.0 - b.powi(steps as i32);
            let denominator = ((&v / correction(b2))?.sqrt()? + eps)?;
            let p_new = (p - ((&m * (lr / correction(b1)))? / denominator)?)?;
            (State { steps, first: m, second: Some(v) }, p_new)
        }
    };
    state.insert(name.to_owned(), next);
    Ok(p_new.to_dtype(dtype)?)
}
