//! LayerNorm over rows.

use rayon::prelude::*;

use crate::{
    Kernels,
    gemm::{Rows, RowsMut},
    shared::Shared,
    tile::NormRow,
};

/// Scale and shift of a LayerNorm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Scale of every channel.
    pub gamma: Vec<f32>,
    /// Shift of every channel.
    pub beta: Vec<f32>,
    /// Added to the variance.
    pub eps: f32,
}

impl Norm {
    /// Normalises `rows` rows of `input` into `out`.
    ///
    /// # Panics
    /// If a buffer is shorter than the shapes say.
    pub fn apply(&self, kernels: &Kernels, rows: usize, input: Rows<'_>, out: RowsMut<'_>) {
        let dim = self.gamma.len();
        assert_eq!(self.beta.len(), dim);
        for i in 0..rows {
            let x = &input.data[i * input.stride..i * input.stride + dim];
            let y = &mut out.data[i * out.stride..i * out.stride + dim];
            // SAFETY: all five pointers are good for `dim` values; the kernels match the processor.
            unsafe {
                (kernels.layer_norm)(
                    x.as_ptr(),
                    dim,
                    self.gamma.as_ptr(),
                    self.beta.as_ptr(),
                    self.eps,
                    y.as_mut_ptr(),
                );
            }
        }
    }
}

/// Rows that one task normalises in training; gradients of scale and shift are summed over as many
/// first.
const CHUNK: usize = 64;

/// LayerNorm of dense rows for training: `stats` gets mean and `1 / sqrt(variance + eps)` of every row.
///
/// # Panics
/// If a buffer is shorter than the shapes say.
pub fn layer_norm_saving(
    kernels: &Kernels,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
    stats: &mut [f32],
) {
    let dim = gamma.len();
    assert!(dim > 0 && beta.len() == dim && out.len() == x.len() && x.len().is_multiple_of(dim));
    assert!(stats.len() >= x.len() / dim * 2);
    let stats = stats.par_chunks_mut(2 * CHUNK);
    x.par_chunks(CHUNK * dim).zip(out.par_chunks_mut(CHUNK * dim)).zip(stats).for_each(|((x, out), stats)| {
        for ((x, out), stats) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).zip(stats.chunks_exact_mut(2)) {
            let (gamma, beta) = (gamma.as_ptr(), beta.as_ptr());
            // SAFETY: all pointers are good for `dim` values; the kernels match the processor.
            let (mean, scale) = unsafe { (kernels.layer_norm)(x.as_ptr(), dim, gamma, beta, eps, out.as_mut_ptr()) };
            stats.copy_from_slice(&[mean, scale]);
        }
    });
}

/// Where the gradients of a LayerNorm go.
#[derive(Default)]
pub struct NormGradients<'a> {
    /// That of the input, and whether it is added to what is there.
    pub dx: Option<(&'a mut [f32], bool)>,
    /// Those of scale and shift, `(dim,)` each, written.
    pub parameters: Option<(&'a mut [f32], &'a mut [f32])>,
}

/// The backward pass of [`layer_norm_saving`].
///
/// # Panics
/// If a buffer is shorter than the shapes say.
pub fn layer_norm_backward(
    kernels: &Kernels,
    x: &[f32],
    gamma: &[f32],
    stats: &[f32],
    dy: &[f32],
    to: NormGradients<'_>,
) {
    let dim = gamma.len();
    assert!(dim > 0 && dy.len() == x.len() && x.len().is_multiple_of(dim));
    let rows = x.len() / dim;
    assert!(stats.len() >= 2 * rows);
    let chunks = rows.div_ceil(CHUNK);
    let add = to.dx.as_ref().is_some_and(|(_, add)| *add);
    assert!(to.dx.as_ref().is_none_or(|(dx, _)| dx.len() == x.len()));
    let dx = to.dx.map(|(dx, _)| Shared::new(dx));
    let mut sums = if to.parameters.is_some() { vec![0.0; chunks * 2 * dim] } else { Vec::new() };
    let shared = to.parameters.is_some().then(|| Shared::new(&mut sums));
    (0..chunks).into_par_iter().for_each(|chunk| {
        for row in chunk * CHUNK..((chunk + 1) * CHUNK).min(rows) {
            // SAFETY: this task alone has this row of `dx` and this chunk of the sums, which hold
            // `dim` values each; the kernels match the processor.
            unsafe {
                let sum = |which: usize| match &shared {
                    Some(sums) => sums.at((2 * chunk + which) * dim),
                    None => std::ptr::null_mut(),
                };
                (kernels.layer_norm_backward)(&NormRow {
                    x: x[row * dim..].as_ptr(),
                    dy: dy[row * dim..].as_ptr(),
                    gamma: gamma.as_ptr(),
                    dim,
                    mean: stats[2 * row],
                    scale: stats[2 * row + 1],
                    dx: match &dx {
                        Some(dx) => dx.at(row * dim),
                        None => std::ptr::null_mut(),
                    },
                    add,
                    dgamma: sum(0),
                    dbeta: sum(1),
                });
            }
        }
    });
    if let Some((dgamma, dbeta)) = to.parameters {
        assert!(dgamma.len() == dim && dbeta.len() == dim);
        dgamma.fill(0.0);
        dbeta.fill(0.0);
        for chunk in sums.chunks_exact(2 * dim) {
            dgamma.iter_mut().zip(&chunk[..dim]).for_each(|(to, x)| *to += x);
            dbeta.iter_mut().zip(&chunk[dim..]).for_each(|(to, x)| *to += x);
        }
    }
}
