//! Gains and sums of the residual stream.

use candle::{D, Tensor};
use dinorad_kernels::{
    memory::written,
    update::{self, column_sums, scale_columns},
};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// `gamma · x`, a gain for every channel of the last axis.
///
/// # Errors
/// [`Error::Shape`] if there are not as many gains.
pub fn layer_scale(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    let dim = x.dim(D::Minus1)?;
    if gamma.dims() != [dim] || dim == 0 {
        return Err(Error::Shape { what: "gains", expected: format!("({dim})"), got: gamma.dims().to_vec() });
    }
    if !fast([x, gamma]) {
        return Ok(x.broadcast_mul(gamma)?);
    }
    let (dx, dg) = (dense(x)?, dense(gamma)?);
    let result = {
        let (x, g) = (values::<f32>(&dx)?, values::<f32>(&dg)?);
        written(x.len(), |out| scale_columns(out, &x, &g))
    };
    record(&[Some(x), Some(gamma)], x.shape().clone(), result, || Ok(Scaled { x: dx, gamma: dg }))
}

struct Scaled {
    x: Tensor,
    gamma: Tensor,
}

impl Backward for Scaled {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        if to.wanted(1) {
            let mut sums = vec![0.0; self.gamma.elem_count()];
            column_sums(&dy, Some(&*values::<f32>(&self.x)?), &mut sums);
            to.put(1, sums);
        }
        if to.wanted(0) {
            let gamma = values::<f32>(&self.gamma)?;
            to.put(0, written(dy.len(), |out| scale_columns(out, &dy, &gamma)));
        }
        Ok(())
    }
}

/// `a + b` of one shape.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        return Err(Error::Shape { what: "sum", expected: format!("{:?}", a.dims()), got: b.dims().to_vec() });
    }
    if !fast([a, b]) {
        return Ok((a + b)?);
    }
    let (da, db) = (dense(a)?, dense(b)?);
    let mut result = values::<f32>(&da)?.to_vec();
    update::add(&mut result, &values::<f32>(&db)?);
    record(&[Some(a), Some(b)], a.shape().clone(), result, || Ok(Sum))
}

struct Sum;

impl Backward for Sum {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        if to.wanted(0) && to.wanted(1) {
            to.put(0, dy.clone());
        } else if to.wanted(0) {
            to.put(0, dy);
            return Ok(());
        }
        to.put(1, dy);
        Ok(())
    }
}
