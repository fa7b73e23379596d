//! Some rows of a matrix.

use candle::Tensor;

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result, error::parameter};

/// The rows of `x` at `rows`, which count over all axes but the last; a row may be taken more than once. The gradient
/// of the others is zero.
///
/// # Shapes
/// x `(.., dim)`; returns `(rows, dim)`.
///
/// # Errors
/// [`Error::Shape`] for a tensor without rows, [`Error::Parameter`] for a row that does not exist.
pub fn take_rows(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let Some(dim) = x.dims().last().copied().filter(|dim| *dim > 0) else {
        return Err(Error::Shape { what: "rows", expected: "(.., 1 or more)".into(), got: x.dims().to_vec() });
    };
    let n = x.elem_count() / dim;
    if let Some(row) = rows.iter().find(|row| **row as usize >= n) {
        return Err(parameter("row", row, "one that there is"));
    }
    if !fast([x]) {
        let at = Tensor::from_vec(rows.to_vec(), rows.len(), x.device())?;
        return Ok(x.reshape((n, dim))?.contiguous()?.index_select(&at, 0)?);
    }
    let dx = dense(x)?;
    let mut result = Vec::with_capacity(rows.len() * dim);
    {
        let x = values::<f32>(&dx)?;
        rows.iter().for_each(|row| result.extend_from_slice(&x[*row as usize * dim..][..dim]));
    }
    record(&[Some(x)], (rows.len(), dim), result, || Ok(Taken { rows: rows.to_vec(), n, dim }))
}

struct Taken {
    rows: Vec<u32>,
    n: usize,
    dim: usize,
}

impl Backward for Taken {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let add = |sum: &mut [f32]| {
            for (row, dy) in self.rows.iter().zip(dy.chunks_exact(self.dim)) {
                let sum = &mut sum[*row as usize * self.dim..][..self.dim];
                sum.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
        };
        if let Some(sum) = to.existing(0) {
            add(sum);
            return Ok(());
        }
        let mut dx = vec![0.0; self.n * self.dim];
        add(&mut dx);
        to.put(0, dx);
        Ok(())
    }
}
