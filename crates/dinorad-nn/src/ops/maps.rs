//! Tokens as maps, and maps as tokens.

use candle::Tensor;
use rayon::prelude::*;

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// Tokens `(b, rows · columns, dim)`, row by row, as maps `(b, dim, rows, columns)`.
///
/// # Errors
/// [`Error::Shape`] unless there are as many tokens as the grid has places.
pub fn maps(x: &Tensor, (rows, columns): (usize, usize)) -> Result<Tensor> {
    match *x.dims() {
        [b, n, dim] if rows.checked_mul(columns) == Some(n) => turned(x, (b, n, dim), &[b, dim, rows, columns]),
        _ => {
            let expected = format!("(b, {rows} * {columns}, dim)");
            Err(Error::Shape { what: "tokens", expected, got: x.dims().to_vec() })
        }
    }
}

/// Maps `(b, dim, rows, columns)` as tokens `(b, rows · columns, dim)`, row by row.
///
/// # Errors
/// [`Error::Shape`] for tensors of other axes.
pub fn tokens(x: &Tensor) -> Result<Tensor> {
    match *x.dims() {
        [b, dim, rows, columns] => turned(x, (b, dim, rows * columns), &[b, rows * columns, dim]),
        _ => Err(Error::Shape { what: "maps", expected: "(b, dim, rows, columns)".into(), got: x.dims().to_vec() }),
    }
}

/// `(b, n, m)` with its last axes exchanged, in another shape.
fn turned(x: &Tensor, (b, n, m): (usize, usize, usize), shape: &[usize]) -> Result<Tensor> {
    if !fast([x]) {
        return Ok(x.reshape((b, n, m))?.transpose(1, 2)?.contiguous()?.reshape(shape)?);
    }
    let dx = dense(x)?;
    let mut out = vec![0.0; b * n * m];
    turn(n, m, &values::<f32>(&dx)?, &mut out);
    record(&[Some(x)], shape, out, || Ok(Turned { n, m }))
}

/// Rows and columns that are exchanged at a time, so that both stay in the first cache.
const SIDE: usize = 32;

fn turn(n: usize, m: usize, x: &[f32], out: &mut [f32]) {
    if n * m == 0 {
        return;
    }
    x.par_chunks_exact(n * m).zip(out.par_chunks_exact_mut(n * m)).for_each(|(x, out)| {
        for (top, left) in (0..n).step_by(SIDE).flat_map(|top| (0..m).step_by(SIDE).map(move |left| (top, left))) {
            for column in left..(left + SIDE).min(m) {
                for row in top..(top + SIDE).min(n) {
                    out[column * n + row] = x[row * m + column];
                }
            }
        }
    });
}

struct Turned {
    n: usize,
    m: usize,
}

impl Backward for Turned {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let mut dx = vec![0.0; dy.len()];
        turn(self.m, self.n, &dy, &mut dx);
        to.put(0, dx);
        Ok(())
    }
}
