//! How far rows are from rows that do not move.

use candle::{D, Tensor};
use dinorad_kernels::{memory::written, rows::Distance};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// The mean over the rows of `cosine · (1 - cos(x, t)) + smooth · mean(smooth L1 of x - t)`. No gradient flows to `t`.
///
/// # Shapes
/// x and t `(.., dim)` of one shape; returns a scalar.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ or there is no row.
pub fn row_distance(x: &Tensor, t: &Tensor, cosine: f64, smooth: f64) -> Result<Tensor> {
    let dim = x.dim(D::Minus1)?;
    if x.dims() != t.dims() || x.elem_count() == 0 {
        let expected = format!("{:?}, not empty", x.dims());
        return Err(Error::Shape { what: "rows to match", expected, got: t.dims().to_vec() });
    }
    let t = t.detach();
    if !fast([x, &t]) {
        let t = t.to_dtype(x.dtype())?.to_device(x.device())?;
        let length = |x: &Tensor| x.sqr()?.sum(D::Minus1)?.sqrt()?.maximum(1e-8);
        let cos = ((x * &t)?.sum(D::Minus1)? / (length(x)? * length(&t)?)?)?;
        let d = (x - &t)?.abs()?;
        // half the square up to 1, linear above
        let inner = d.minimum(1.0)?;
        let huber = ((inner.sqr()? * 0.5)? + (d - inner)?)?;
        let rows = ((cos.affine(-cosine, cosine))? + (huber.mean(D::Minus1)? * smooth)?)?;
        return Ok(rows.mean_all()?);
    }
    let (dx, dt) = (dense(x)?, dense(&t)?);
    let distance = Distance { cosine: cosine as f32, smooth: smooth as f32 };
    let rows = x.elem_count() / dim;
    let mean = {
        let (x, t) = (values::<f32>(&dx)?, values::<f32>(&dt)?);
        let all = written(rows, |out| distance.forward(dim, &x, &t, out));
        all.iter().map(|v| f64::from(*v)).sum::<f64>() / rows as f64
    };
    record(&[Some(x)], (), vec![mean as f32], || Ok(Apart { x: dx, t: dt, distance, dim }))
}

struct Apart {
    x: Tensor,
    t: Tensor,
    distance: Distance,
    dim: usize,
}

impl Backward for Apart {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (x, t) = (values::<f32>(&self.x)?, values::<f32>(&self.t)?);
        let rows = x.len() / self.dim;
        let each = vec![dy.first().copied().unwrap_or_default() / rows as f32; rows];
        to.put(0, written(x.len(), |dx| self.distance.backward(self.dim, &x, &t, &each, dx)));
        Ok(())
    }
}
