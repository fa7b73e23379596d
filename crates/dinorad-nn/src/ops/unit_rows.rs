//! Rows of length 1.

use candle::{D, Tensor};
use dinorad_kernels::{memory::written, rows};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// `x / max(|x|, eps)` over the last axis.
///
/// # Errors
/// [`Error::Shape`] for rows without values.
///
/// # Source
/// PyTorch's `nn.functional.normalize(x, dim=-1, eps=eps)`.
pub fn unit_rows(x: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = x.dim(D::Minus1)?;
    if dim == 0 {
        return Err(Error::Shape { what: "rows", expected: "(.., 1 or more)".into(), got: x.dims().to_vec() });
    }
    if !fast([x]) {
        let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(eps)?;
        return Ok(x.broadcast_div(&norm)?);
    }
    let (dx, eps) = (dense(x)?, eps as f32);
    let mut norms = vec![0.0; x.elem_count() / dim];
    let result = {
        let x = values::<f32>(&dx)?;
        written(x.len(), |out| rows::unit(dim, eps, &x, out, &mut norms))
    };
    record(&[Some(x)], x.shape().clone(), result, || Ok(Unit { x: dx, norms, dim, eps }))
}

struct Unit {
    x: Tensor,
    /// The lengths before.
    norms: Vec<f32>,
    dim: usize,
    eps: f32,
}

impl Backward for Unit {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let x = values::<f32>(&self.x)?;
        to.put(0, written(x.len(), |dx| rows::unit_backward(self.dim, self.eps, &x, &self.norms, &dy, dx)));
        Ok(())
    }
}
