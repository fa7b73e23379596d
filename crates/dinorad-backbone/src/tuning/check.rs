//! One step, to see what moves.

use std::collections::BTreeMap;

use candle::{DType, Tensor};
use dinorad_nn::{
    Trainable,
    train::{Rate, Step, TrainOptions, Trainer},
};

use crate::{Error, Result};

/// What a parameter did in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether it was to train.
    pub trainable: bool,
    /// Whether the loss gave it a gradient that is not all zero.
    pub gradient: bool,
    /// Whether its values changed.
    pub moved: bool,
}

impl Checked {
    /// Whether it did what it was to do.
    pub fn is_right(&self) -> bool {
        if self.trainable { self.gradient } else { !self.moved }
    }
}

/// Makes one step of a model with what `rate` makes trainable, and tells of every parameter whether it is
/// trainable, got a gradient and moved. A fresh adapter's `A` counts as reached although its first gradient
/// is zero, as `B` is: its gradient exists.
///
/// The model is given back as it was, frozen.
///
/// # Errors
/// What the loss says.
pub fn check_step<M: Trainable>(
    mut model: M,
    rate: &mut dyn FnMut(&str) -> Option<Rate>,
    loss: &mut dyn FnMut(&M, Step, dinorad_nn::Pass) -> dinorad_nn::Result<Tensor>,
) -> Result<(M, Vec<Checked>)> {
    let before: BTreeMap<String, Tensor> = copies(&model)?;
    let options = TrainOptions::new(dinorad_nn::Schedule::constant(1));
    let mut wanted = Vec::new();
    model.visit("", &mut |name, _| {
        if rate(name).is_some() {
            wanted.push(name.to_owned());
        }
    });
    let mut trainer = Trainer::new(model, &options, rate)?;
    let first = Step { step: 0, part: 0 };
    let value = loss(trainer.model(), first, dinorad_nn::Pass::training(options.seed, 0).at(0))?;
    let grads = value.backward()?;
    let mut reached = BTreeMap::new();
    for (name, var) in trainer.variables() {
        let gradient = match grads.get(var) {
            Some(g) => {
                let most = g.abs()?.max_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
                // the product with a B of zeros
                most > 0.0 || name.ends_with("lora_A")
            }
            None => false,
        };
        reached.insert(name.clone(), gradient);
    }
    trainer.step(loss)?;
    model = trainer.finish()?;
    let after = copies(&model)?;
    let mut checked = Vec::new();
    for (name, old) in &before {
        let moved = match after.get(name) {
            Some(new) => (new - old)?.abs()?.max_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()? > 0.0,
            None => true,
        };
        checked.push(Checked {
            name: name.clone(),
            shape: old.dims().to_vec(),
            trainable: wanted.contains(name),
            gradient: reached.get(name).copied().unwrap_or(false),
            moved,
        });
    }
    model
        .visit_mut("", &mut |name, tensor| {
            if let Some(old) = before.get(name) {
                *tensor = old.clone();
            }
            Ok(())
        })
        .map_err(Error::from)?;
    Ok((model, checked))
}

fn copies<M: Trainable>(model: &M) -> Result<BTreeMap<String, Tensor>> {
    model.tensors().into_iter().map(|(name, t)| Ok((name, t.copy()?.detach()))).collect()
}
