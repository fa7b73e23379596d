//! The first tokens of every image.

use candle::Tensor;

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// The first `n` tokens of every image; the gradient of the others is zero.
///
/// # Shapes
/// x `(b, tokens, dim)`; returns `(b, n, dim)`.
///
/// # Errors
/// [`Error::Shape`] if `x` is of another shape or has fewer tokens.
pub fn first_tokens(x: &Tensor, n: usize) -> Result<Tensor> {
    let (b, tokens, dim) = match *x.dims() {
        [b, tokens, dim] if tokens >= n => (b, tokens, dim),
        _ => {
            let expected = format!("(b, at least {n}, dim)");
            return Err(Error::Shape { what: "tokens", expected, got: x.dims().to_vec() });
        }
    };
    if !fast([x]) {
        return Ok(x.narrow(1, 0, n)?.contiguous()?);
    }
    let kept = First { tokens, n, dim };
    let mut result = Vec::with_capacity(b * n * dim);
    if n * dim > 0 {
        for image in values::<f32>(&dense(x)?)?.chunks_exact(tokens * dim) {
            result.extend_from_slice(&image[..n * dim]);
        }
    }
    record(&[Some(x)], (b, n, dim), result, || Ok(kept))
}

struct First {
    tokens: usize,
    n: usize,
    dim: usize,
}

impl Backward for First {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (all, some) = (self.tokens * self.dim, self.n * self.dim);
        if some == 0 {
            return Ok(());
        }
        if let Some(sum) = to.existing(0) {
            for (sum, dy) in sum.chunks_exact_mut(all).zip(dy.chunks_exact(some)) {
                sum.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
            return Ok(());
        }
        let mut dx = vec![0.0; dy.len() / some * all];
        for (dx, dy) in dx.chunks_exact_mut(all).zip(dy.chunks_exact(some)) {
            dx[..some].copy_from_slice(dy);
        }
        to.put(0, dx);
        Ok(())
    }
}
