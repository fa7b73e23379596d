//! Activations, forward and backward.

use rayon::prelude::*;

pub use crate::tile::Activation;
use crate::{Kernels, shared::Shared};

/// Values that a thread takes at a time.
const CHUNK: usize = 1 << 14;

impl Activation {
    /// `out = f(x)`
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn forward(self, kernels: &Kernels, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len());
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
            // SAFETY: `Kernels` exists only where the processor has the instruction set; both are
            // good for the length of `x`.
            unsafe { (kernels.activate)(self, x.as_ptr(), std::ptr::null(), x.len(), out.as_mut_ptr()) }
        });
    }

    /// `dy = f'(x) · dy`
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn backward(self, kernels: &Kernels, x: &[f32], dy: &mut [f32]) {
        assert_eq!(x.len(), dy.len());
        dy.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(dy, x)| {
            // SAFETY: as in `forward`; the kernel reads a place of `dy` before it writes it.
            unsafe { (kernels.activate)(self, x.as_ptr(), dy.as_ptr(), x.len(), dy.as_mut_ptr()) }
        });
    }
}

/// `max(x, 0)`; a NaN stays one.
///
/// # Panics
/// If the lengths differ.
pub fn relu(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = if *x < 0.0 { 0.0 } else { *x });
    });
}

/// The gradient of [`relu`] in place of `dy`: 0 where `x` is not above 0.
///
/// # Panics
/// If the lengths differ.
pub fn relu_backward(x: &[f32], dy: &mut [f32]) {
    assert_eq!(x.len(), dy.len());
    dy.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(dy, x)| {
        dy.iter_mut().zip(x).for_each(|(dy, x)| *dy = if *x > 0.0 { *dy } else { 0.0 });
    });
}

/// `silu(gate) · value`, where a row of `both` holds `hidden` gates, then as many values.
///
/// # Panics
/// If `out` is not half as long as `both`, or rows are not whole.
pub fn swiglu(kernels: &Kernels, hidden: usize, both: &[f32], out: &mut [f32]) {
    assert!(both.len() == 2 * out.len() && hidden > 0 && out.len().is_multiple_of(hidden));
    out.par_chunks_mut(hidden).zip(both.par_chunks(2 * hidden)).for_each(|(out, both)| {
        let (gate, value) = both.split_at(hidden);
        // SAFETY: as in `Activation::forward`.
        unsafe { (kernels.activate)(Activation::Silu, gate.as_ptr(), std::ptr::null(), hidden, out.as_mut_ptr()) };
        out.iter_mut().zip(value).for_each(|(o, v)| *o *= v);
    });
}

/// The gradient of [`swiglu`]: `dboth` gets those of gates and values.
///
/// # Panics
/// As [`swiglu`].
pub fn swiglu_backward(kernels: &Kernels, hidden: usize, both: &[f32], dy: &[f32], dboth: &mut [f32]) {
    assert!(both.len() == 2 * dy.len() && hidden > 0 && dy.len().is_multiple_of(hidden) && dboth.len() == both.len());
    let dboth = Shared::new(dboth);
    dy.par_chunks(hidden).zip(both.par_chunks(2 * hidden)).enumerate().for_each(|(row, (dy, both))| {
        let (gate, value) = both.split_at(hidden);
        // SAFETY: this task alone has this row.
        let (dgate, dvalue) = unsafe { dboth.slice(row * 2 * hidden, 2 * hidden) }.split_at_mut(hidden);
        // SAFETY: as in `Activation::forward`.
        unsafe { (kernels.activate)(Activation::Silu, gate.as_ptr(), std::ptr::null(), hidden, dvalue.as_mut_ptr()) };
        dvalue.iter_mut().zip(dy).for_each(|(o, d)| *o *= d);
        for ((o, d), v) in dgate.iter_mut().zip(dy).zip(value) {
            *o = d * v;
        }
        // SAFETY: as in `Activation::backward`.
        unsafe { (kernels.activate)(Activation::Silu, gate.as_ptr(), dgate.as_ptr(), hidden, dgate.as_mut_ptr()) };
    });
}
