//! A model, its optimiser, and single steps.

use std::collections::BTreeMap;

use candle::{DType, Tensor, Var};

use super::Gradients;
use crate::{
    Error, Optimizer, Pass, Result, Schedule, Trainable,
    error::parameter,
    ops,
    optim::{Algorithm, Group},
};

/// How fast a parameter moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Learning rate at the top of the schedule.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Rate {
    /// A learning rate without weight decay.
    pub fn new(lr: f64) -> Self {
        Rate { lr, weight_decay: 0.0 }
    }

    /// The same with weight decay.
    #[must_use]
    pub fn with_weight_decay(self, weight_decay: f64) -> Self {
        Rate { weight_decay, ..self }
    }
}

/// What all steps share.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// How gradients become steps.
    pub algorithm: Algorithm,
    /// Learning rates over time, and the number of steps.
    pub schedule: Schedule,
    /// Longest gradient, over all parameters.
    pub clip: Option<f64>,
    /// Parts of a batch whose gradients are summed before a step; the mean over them is what counts.
    pub accumulate: usize,
    /// Share of the average of weights that is kept at every step, where one is kept: it is what validation
    /// sees, and what comes out.
    pub ema: Option<f64>,
    /// Seed of what training draws.
    pub seed: u64,
}

impl TrainOptions {
    /// AdamW, one part a step, no clipping, no average, seed 0.
    pub fn new(schedule: Schedule) -> Self {
        Self { algorithm: Algorithm::ADAMW, schedule, clip: None, accumulate: 1, ema: None, seed: 0 }
    }
}

/// Which part of which step a loss is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The step, from 0.
    pub step: usize,
    /// The part of its batch, from 0 to [`TrainOptions::accumulate`].
    pub part: usize,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// The step, from 0.
    pub step: usize,
    /// The loss before it, over its parts.
    pub loss: f64,
    /// The length of the gradient before it was clipped; `None` where it was not.
    pub norm: Option<f64>,
    /// The share of the learning rates.
    pub share: f64,
}

/// A model in training.
#[derive(Debug)]
pub struct Trainer<M> {
    pub(super) model: M,
    pub(super) options: TrainOptions,
    pub(super) optimizer: Optimizer,
    /// Learning rates of the groups at the top of the schedule.
    lrs: Vec<f64>,
    pub(super) variables: BTreeMap<String, Var>,
    pub(super) average: BTreeMap<String, Tensor>,
    pub(super) step: usize,
}

impl<M: Trainable> Trainer<M> {
    /// Makes exactly the parameters trainable that `rate` gives a rate; parameters of one rate are a group.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings out of range, and if nothing is to be trained.
    pub fn new(mut model: M, options: &TrainOptions, rate: &mut dyn FnMut(&str) -> Option<Rate>) -> Result<Self> {
        options.schedule.check()?;
        if options.accumulate == 0 {
            return Err(parameter("parts of a step", 0, "at least 1"));
        }
        if let Some(clip) = options.clip.filter(|c| !(c.is_finite() && *c > 0.0)) {
            return Err(parameter("longest gradient", clip, "above 0"));
        }
        if let Some(ema) = options.ema.filter(|e| !(0.0..1.0).contains(e)) {
            return Err(parameter("average of weights", ema, "0 <= share < 1"));
        }
        let mut rates = BTreeMap::new();
        model.visit("", &mut |name, _| {
            if let Some(rate) = rate(name) {
                rates.insert(name.to_owned(), rate);
            }
        });
        model.train_only(&mut |name| rates.contains_key(name))?;
        let variables = model.variables()?;
        if variables.is_empty() {
            return Err(parameter("trainable parameters", 0, "at least one"));
        }
        let mut groups: Vec<(Rate, Group)> = Vec::new();
        for (name, var) in &variables {
            let Some(rate) = rates.get(name).copied() else { continue };
            let at = groups.iter().position(|(of, _)| *of == rate).unwrap_or_else(|| {
                let empty = Group::new(BTreeMap::new(), rate.lr).with_weight_decay(rate.weight_decay);
                groups.push((rate, empty));
                groups.len() - 1
            });
            groups[at].1.variables.insert(name.clone(), var.clone());
        }
        let lrs = groups.iter().map(|(rate, _)| rate.lr).collect();
        let optimizer = Optimizer::new(options.algorithm, groups.into_iter().map(|(_, group)| group).collect())?;
        let average = match options.ema {
            // A copy: a variable is written in place.
            Some(_) => variables.iter().map(|(n, v)| Ok((n.clone(), v.copy()?.detach()))).collect::<Result<_>>()?,
            None => BTreeMap::new(),
        };
        Ok(Trainer { model, options: options.clone(), optimizer, lrs, variables, average, step: 0 })
    }

    /// The model as it is.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// What all steps share.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Steps made.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Steps to come.
    pub fn steps_left(&self) -> usize {
        self.options.schedule.total.saturating_sub(self.step)
    }

    /// The variables by name.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// One step. `loss` is asked for every part of its batch, with the pass that it draws from.
    ///
    /// # Errors
    /// [`Error::Diverged`] for a loss or a gradient that is no number, before anything has moved; what `loss`
    /// says.
    pub fn step(&mut self, loss: &mut dyn FnMut(&M, Step, Pass) -> Result<Tensor>) -> Result<Stepped> {
        let (step, parts) = (self.step, self.options.accumulate);
        let (mut total, mut sum) = (0.0, Gradients::default());
        for part in 0..parts {
            let pass = Pass::training(self.options.seed, step as u64).at(part as u64);
            let of_part = loss(&self.model, Step { step, part }, pass)?;
            let value = f64::from(of_part.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            if !value.is_finite() {
                return Err(Error::Diverged { what: "loss", value, step });
            }
            total += value / parts as f64;
            let gradients = Gradients::of(&ops::backward(&of_part)?, &self.variables);
            if part == 0 { sum = gradients } else { sum.add(gradients)? }
        }
        if parts > 1 {
            sum.scale(1.0 / parts as f64)?;
        }
        let norm = self.options.clip.map(|most| sum.clip(most)).transpose()?;
        if let Some(value) = norm.filter(|n| !n.is_finite()) {
            return Err(Error::Diverged { what: "gradient", value, step });
        }
        let share = self.options.schedule.share(step);
        let lrs: Vec<f64> = self.lrs.iter().map(|lr| lr * share).collect();
        self.optimizer.set_lrs(&lrs)?;
        self.optimizer.step_along(&sum)?;
        if let Some(kept) = self.options.ema {
            for (name, average) in &mut self.average {
                if let Some(var) = self.variables.get(name) {
                    *average = ((&*average * kept)? + (var.as_detached_tensor() * (1.0 - kept))?)?;
                }
            }
        }
        self.step += 1;
        Ok(Stepped { step, loss: total, norm, share })
    }

    /// Gives `f` the model that validation sees and that comes out: the average where one is kept.
    ///
    /// # Errors
    /// What `f` says.
    pub fn shown<T>(&mut self, f: impl FnOnce(&M) -> Result<T>) -> Result<T> {
        if self.average.is_empty() {
            return f(&self.model);
        }
        let live = self.values()?;
        let average = self.average.clone();
        self.set(&average)?;
        let out = f(&self.model);
        self.set(&live)?;
        out
    }

    /// Copies of what trains, and the statistics.
    pub(super) fn values(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut values = self.model.statistics();
        for (name, var) in &self.variables {
            values.insert(name.clone(), var.copy()?.detach());
        }
        Ok(values)
    }

    /// Writes values into what trains, and into the statistics that are among them.
    pub(super) fn set(&mut self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in &self.variables {
            let Some(value) = values.get(name).filter(|v| v.dims() == var.dims()) else {
                return Err(Error::State { reason: format!("`{name}` is missing or of another shape") });
            };
            var.set(&value.to_device(var.device())?.to_dtype(var.dtype())?)?;
        }
        let known = self.model.statistics().into_keys();
        let statistics = known.filter_map(|name| values.get(&name).cloned().map(|value| (name, value))).collect();
        self.model.set_tensors(&statistics)
    }

    /// The model, frozen: the average where one is kept.
    ///
    /// # Errors
    /// If a parameter cannot be frozen.
    pub fn finish(mut self) -> Result<M> {
        if !self.average.is_empty() {
            let average = self.average.clone();
            self.set(&average)?;
        }
        self.model.train_only(&mut |_| false)?;
        Ok(self.model)
    }
}
