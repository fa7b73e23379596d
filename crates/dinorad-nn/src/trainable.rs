//! Named parameters: one walk that weights, optimisers, adapters and checkpoints share.

use std::collections::{BTreeMap, BTreeSet};

use candle::{Tensor, Var};

use crate::{Error, Linear, Result};

/// Something with named parameters.
///
/// Implementors write the two walks, usually with [`parameters!`](crate::parameters); the rest
/// follows. A parameter is *trainable* when it is a candle variable and *frozen* otherwise.
pub trait Trainable {
    /// Shows every parameter with its name, in a fixed order.
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor));

    /// The same with the right to replace it.
    ///
    /// # Errors
    /// Whatever `f` returns.
    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Tensor) -> Result<()>) -> Result<()>;

    /// Shows every affine map with its name: what adapters are put into.
    ///
    /// # Errors
    /// Whatever `f` returns.
    fn visit_maps(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Linear) -> Result<()>) -> Result<()> {
        let _ = (prefix, f);
        Ok(())
    }

    /// Shows the name of every statistic: a tensor among those that [`visit`](Self::visit) shows that training
    /// moves without gradients, such as running means. It is carried with the parameters and never a variable.
    fn visit_statistics(&self, prefix: &str, f: &mut dyn FnMut(&str)) {
        let _ = (prefix, f);
    }

    /// The statistics by name.
    fn statistics(&self) -> BTreeMap<String, Tensor> {
        let names = statistics_of(self);
        let mut out = BTreeMap::new();
        self.visit("", &mut |name, t| {
            if names.contains(name) {
                out.insert(name.to_owned(), t.clone());
            }
        });
        out
    }

    /// Writes tensors in the place of those of the same names; what has no name there stays.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) naming a tensor of another shape.
    fn set_tensors(&mut self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        self.visit_mut("", &mut |name, tensor| {
            let Some(value) = values.get(name) else { return Ok(()) };
            if value.dims() != tensor.dims() {
                let (want, got) = (tensor.dims(), value.dims());
                return Err(Error::State { reason: format!("`{name}` is {got:?}, expected {want:?}") });
            }
            let value = value.to_device(tensor.device())?.to_dtype(tensor.dtype())?.detach();
            if tensor.is_variable() {
                Var::from_tensor(tensor)?.set(&value.contiguous()?)?;
            } else {
                *tensor = value;
            }
            Ok(())
        })
    }

    /// Every parameter and statistic by name.
    fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut out = BTreeMap::new();
        self.visit("", &mut |name, t| {
            out.insert(name.to_owned(), t.clone());
        });
        out
    }

    /// The trainable parameters by name.
    ///
    /// Setting one of these variables changes the module: they share their storage.
    ///
    /// # Errors
    /// If a variable cannot be taken hold of.
    fn variables(&self) -> Result<BTreeMap<String, Var>> {
        let mut out = BTreeMap::new();
        for (name, tensor) in self.tensors().into_iter().filter(|(_, t)| t.is_variable()) {
            out.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(out)
    }

    /// Makes exactly the parameters trainable whose name `choose` accepts; the others are frozen, and so are
    /// all statistics.
    ///
    /// Values stay. A parameter that becomes trainable gets storage of its own, so other users of
    /// the same weights do not move with it.
    ///
    /// # Errors
    /// If a variable cannot be made.
    fn train_only(&mut self, choose: &mut dyn FnMut(&str) -> bool) -> Result<()> {
        let statistics = statistics_of(self);
        self.visit_mut("", &mut |name, tensor| {
            match (!statistics.contains(name) && choose(name), tensor.is_variable()) {
                (true, false) => *tensor = Var::from_tensor(&tensor.contiguous()?)?.into_inner(),
                (false, true) => *tensor = tensor.detach(),
                _ => {}
            }
            Ok(())
        })
    }

    /// Number of scalars: all of the parameters, and the trainable ones. Statistics are no parameters.
    fn parameter_count(&self) -> (usize, usize) {
        let statistics = statistics_of(self);
        let mut count = (0, 0);
        self.visit("", &mut |name, t| {
            count.0 += if statistics.contains(name) { 0 } else { t.elem_count() };
            count.1 += if t.is_variable() { t.elem_count() } else { 0 };
        });
        count
    }
}

/// The names of the statistics.
fn statistics_of(model: &(impl Trainable + ?Sized)) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    model.visit_statistics("", &mut |name| {
        names.insert(name.to_owned());
    });
    names
}

/// `prefix.name`, or `name` alone under an empty prefix.
pub fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

impl Trainable for Tensor {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        f(prefix, self);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Tensor) -> Result<()>) -> Result<()> {
        f(prefix, self)
    }
}

impl<T: Trainable + ?Sized> Trainable for Box<T> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        (**self).visit(prefix, f);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Tensor) -> Result<()>) -> Result<()> {
        (**self).visit_mut(prefix, f)
    }

    fn visit_maps(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Linear) -> Result<()>) -> Result<()> {
        (**self).visit_maps(prefix, f)
    }

    fn visit_statistics(&self, prefix: &str, f: &mut dyn FnMut(&str)) {
        (**self).visit_statistics(prefix, f);
    }
}

impl<T: Trainable> Trainable for Option<T> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        if let Some(inner) = self {
            inner.visit(prefix, f);
        }
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Tensor) -> Result<()>) -> Result<()> {
        self.as_mut().map_or(Ok(()), |inner| inner.visit_mut(prefix, f))
    }

    fn visit_maps(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Linear) -> Result<()>) -> Result<()> {
        self.as_mut().map_or(Ok(()), |inner| inner.visit_maps(prefix, f))
    }

    fn visit_statistics(&self, prefix: &str, f: &mut dyn FnMut(&str)) {
        if let Some(inner) = self {
            inner.visit_statistics(prefix, f);
        }
    }
}

impl<T: Trainable> Trainable for Vec<T> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        for (i, inner) in self.iter().enumerate() {
            inner.visit(&join(prefix, &i.to_string()), f);
        }
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Tensor) -> Result<()>) -> Result<()> {
        for (i, inner) in self.iter_mut().enumerate() {
            inner.visit_mut(&join(prefix, &i.to_string()), f)?;
        }
        Ok(())
    }

    fn visit_maps(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Linear) -> Result<()>) -> Result<()> {
        for (i, inner) in self.iter_mut().enumerate() {
            inner.visit_maps(&join(prefix, &i.to_string()), f)?;
        }
        Ok(())
    }

    fn visit_statistics(&self, prefix: &str, f: &mut dyn FnMut(&str)) {
        for (i, inner) in self.iter().enumerate() {
            inner.visit_statistics(&join(prefix, &i.to_string()), f);
        }
    }
}

/// Implements [`Trainable`] for a struct from its fields and their names.
///
/// An empty name passes the prefix on unchanged.
///
/// # Examples
/// ```
/// use dinorad_nn::{Linear, Trainable, candle::{DType, Device, Tensor}, parameters};
/// struct Head { scale: Tensor, out: Linear }
/// parameters!(Head { scale: "scale", out: "linear" });
///
/// # fn main() -> Result<(), dinorad_nn::Error> {
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let head = Head { scale: zeros(&[4])?, out: Linear::new(zeros(&[2, 4])?, Some(zeros(&[2])?)) };
/// let names: Vec<_> = head.tensors().into_keys().collect();
/// assert_eq!(names, ["linear.bias", "linear.weight", "scale"]);
/// # Ok(()) }
/// ```
#[macro_export]
macro_rules! parameters {
    ($type:ty { $($field:ident : $name:literal),+ $(,)? }) => {
        impl $crate::Trainable for $type {
            fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &$crate::candle::Tensor)) {
                $( $crate::Trainable::visit(&self.$field, &$crate::parameter_path(prefix, $name), f); )+
            }

            fn visit_mut(
                &mut self,
                prefix: &str,
                f: &mut dyn FnMut(&str, &mut $crate::candle::Tensor) -> $crate::Result<()>,
            ) -> $crate::Result<()> {
                $( $crate::Trainable::visit_mut(&mut self.$field, &$crate::parameter_path(prefix, $name), f)?; )+
                Ok(())
            }

            fn visit_maps(
                &mut self,
                prefix: &str,
                f: &mut dyn FnMut(&str, &mut $crate::Linear) -> $crate::Result<()>,
            ) -> $crate::Result<()> {
                $( $crate::Trainable::visit_maps(&mut self.$field, &$crate::parameter_path(prefix, $name), f)?; )+
                Ok(())
            }

            fn visit_statistics(&self, prefix: &str, f: &mut dyn FnMut(&str)) {
                $( $crate::Trainable::visit_statistics(&self.$field, &$crate::parameter_path(prefix, $name), f); )+
            }
        }
    };
}

/// The prefix of a field: [`join`], or the prefix itself for an empty name.
#[doc(hidden)]
pub fn parameter_path(prefix: &str, name: &str) -> String {
    if name.is_empty() { prefix.to_owned() } else { join(prefix, name) }
}
