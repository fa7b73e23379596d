//! Gradients by the names of what they move.

use std::collections::BTreeMap;

use candle::{DType, Tensor, Var, backprop::GradStore};

use crate::Result;

/// Gradients by name.
#[derive(Debug, Clone, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Those of `variables` in `store`; a variable that the loss does not depend on has none.
    pub fn of(store: &GradStore, variables: &BTreeMap<String, Var>) -> Self {
        let found = |(name, var): (&String, &Var)| Some((name.clone(), store.get(var)?.detach()));
        Gradients(variables.iter().filter_map(found).collect())
    }

    /// The gradient of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// The names that have one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Those whose names begin so.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Self {
        let some = self.0.iter().filter(|(name, _)| name.starts_with(prefix));
        Gradients(some.map(|(name, gradient)| (name.clone(), gradient.clone())).collect())
    }

    /// Adds those of another part of the batch.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn add(&mut self, other: Gradients) -> Result<()> {
        for (name, gradient) in other.0 {
            match self.0.get_mut(&name) {
                Some(sum) => *sum = (&*sum + gradient)?,
                None => drop(self.0.insert(name, gradient)),
            }
        }
        Ok(())
    }

    /// The Euclidean norm of all of them as one vector; in f64, so that its order is all that rounds.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.values() {
            sum += f64::from(gradient.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(sum.sqrt())
    }

    /// Multiplies all of them.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        self.0.values_mut().try_for_each(|gradient| {
            *gradient = (&*gradient * factor)?;
            Ok(())
        })
    }

    /// Shortens them to the norm `most` where it is longer, and gives the norm before.
    ///
    /// # Errors
    /// If a tensor operation fails.
    ///
    /// # Source
    /// PyTorch's `clip_grad_norm_`: the factor is `most / (norm + 1e-6)`, at most 1.
    pub fn clip(&mut self, most: f64) -> Result<f64> {
        let norm = self.norm()?;
        let factor = most / (norm + 1e-6);
        if factor < 1.0 {
            self.scale(factor)?;
        }
        Ok(norm)
    }
}
