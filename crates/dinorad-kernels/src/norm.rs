//! LayerNorm over rows.

use crate::{
    Kernels,
    gemm::{Rows, RowsMut},
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
