//! LayerNorm over rows.

use super::{
    Kernels,
    gemm::{Rows, RowsMut},
};

/// Scale and shift of a LayerNorm.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
    pub(crate) eps: f32,
}

impl Norm {
    /// Normalises `rows` rows of `input` into `out`.
    ///
    /// # Panics
    /// If a buffer is shorter than the shapes say.
    pub(crate) fn apply(&self, kernels: &Kernels, rows: usize, input: Rows<'_>, out: RowsMut<'_>) {
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
