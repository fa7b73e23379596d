//! Activations of feed-forward networks.

use candle::{D, Tensor};
use candle_nn::ops::sigmoid;
use dinorad_kernels::{Kernels, activation as kernels, memory::written};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Activation, Error, Result};

pub(super) fn kernel(activation: Activation) -> kernels::Activation {
    match activation {
        Activation::Gelu => kernels::Activation::Gelu,
        Activation::QuickGelu => kernels::Activation::QuickGelu,
    }
}

/// The exact (erf) GELU.
///
/// # Errors
/// If a tensor operation fails.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::Gelu)
}

/// `x · sigmoid(1.702 x)`
///
/// # Errors
/// If a tensor operation fails.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::QuickGelu)
}

/// The activated values.
///
/// # Errors
/// If a tensor operation fails.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if !fast([x]) {
        return Ok(match activation {
            Activation::Gelu => x.gelu_erf()?,
            Activation::QuickGelu => (x * sigmoid(&(x * 1.702)?)?)?,
        });
    }
    let dx = dense(x)?;
    let result = {
        let x = values::<f32>(&dx)?;
        written(x.len(), |out| kernel(activation).forward(Kernels::best(), &x, out))
    };
    record(&[Some(x)], x.shape().clone(), result, || Ok(Activated { x: dx, activation }))
}

struct Activated {
    x: Tensor,
    activation: Activation,
}

impl Backward for Activated {
    fn backward(&self, mut dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        kernel(self.activation).backward(Kernels::best(), &values::<f32>(&self.x)?, &mut dy);
        to.put(0, dy);
        Ok(())
    }
}

/// `max(x, 0)`
///
/// # Errors
/// If a tensor operation fails.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if !fast([x]) {
        return Ok(x.relu()?);
    }
    let dx = dense(x)?;
    let result = {
        let x = values::<f32>(&dx)?;
        written(x.len(), |out| kernels::relu(&x, out))
    };
    record(&[Some(x)], x.shape().clone(), result, || Ok(Rectified(dx)))
}

struct Rectified(Tensor);

impl Backward for Rectified {
    fn backward(&self, mut dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        kernels::relu_backward(&values::<f32>(&self.0)?, &mut dy);
        to.put(0, dy);
        Ok(())
    }
}

/// `silu(gate) · value`, where the last axis of `both` holds the gates first, then as many values.
///
/// # Errors
/// [`Error::Shape`] if the last axis is odd.
pub fn swiglu(both: &Tensor) -> Result<Tensor> {
    let width = both.dim(D::Minus1)?;
    let hidden = width / 2;
    if width == 0 || width % 2 == 1 {
        return Err(Error::Shape { what: "gates and values", expected: "(.., 2 n)".into(), got: both.dims().to_vec() });
    }
    if !fast([both]) {
        let gate = both.narrow(D::Minus1, 0, hidden)?.contiguous()?;
        let value = both.narrow(D::Minus1, hidden, hidden)?.contiguous()?;
        return Ok((gate.silu()? * value)?);
    }
    let dense_both = dense(both)?;
    let mut shape = both.dims().to_vec();
    shape.iter_mut().next_back().into_iter().for_each(|last| *last = hidden);
    let result = {
        let both = values::<f32>(&dense_both)?;
        written(both.len() / 2, |out| kernels::swiglu(Kernels::best(), hidden, &both, out))
    };
    record(&[Some(both)], shape, result, || Ok(Gated { both: dense_both, hidden }))
}

struct Gated {
    both: Tensor,
    hidden: usize,
}

impl Backward for Gated {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let both = values::<f32>(&self.both)?;
        let gradient = written(both.len(), |d| kernels::swiglu_backward(Kernels::best(), self.hidden, &both, &dy, d));
        to.put(0, gradient);
        Ok(())
    }
}
