//! Steps of optimisers, in place.

use std::cell::RefCell;

use candle::{CpuStorage, InplaceOp1, Layout, Tensor};
use dinorad_kernels::update::{self, Adam, Sgd};

use super::values::{dense, fast, values};
use crate::Result;

/// What is done to the values of a tensor.
struct Change<F>(RefCell<F>);

impl<F: FnMut(&mut [f32]) -> Result<()>> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle::Result<()> {
        let CpuStorage::F32(all) = storage else {
            return Err(candle::Error::Msg("steps are in f32".into()));
        };
        let range = layout.contiguous_offsets();
        let values = range.and_then(|(start, end)| all.get_mut(start..end));
        let values = values.ok_or_else(|| candle::Error::Msg("steps need dense values".into()))?;
        (self.0.borrow_mut())(values).map_err(candle::Error::wrap)
    }
}

fn change(t: &Tensor, f: impl FnMut(&mut [f32]) -> Result<()>) -> Result<()> {
    Ok(t.inplace_op1(&Change(RefCell::new(f)))?)
}

/// Moves `p` against `g` and brings the moments up to date, all in place; `false` if the kernels cannot
/// (another device or dtype), and then nothing has changed.
///
/// # Errors
/// If the shapes differ, or two of the tensors share their values.
pub fn adam_step(adam: &Adam, p: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor) -> Result<bool> {
    if !fast([p, g, m, v]) {
        return Ok(false);
    }
    check(p, &[g, m, v])?;
    let g = dense(g)?;
    let g = values::<f32>(&g)?;
    change(p, |p| {
        change(m, |m| {
            change(v, |v| {
                adam.apply(p, &g, m, v);
                Ok(())
            })
        })
    })?;
    Ok(true)
}

/// The same for SGD with momentum.
///
/// # Errors
/// As [`adam_step`].
pub fn sgd_step(sgd: &Sgd, p: &Tensor, g: &Tensor, v: &Tensor) -> Result<bool> {
    if !fast([p, g, v]) {
        return Ok(false);
    }
    check(p, &[g, v])?;
    let g = dense(g)?;
    let g = values::<f32>(&g)?;
    change(p, |p| {
        change(v, |v| {
            sgd.apply(p, &g, v);
            Ok(())
        })
    })?;
    Ok(true)
}

/// Moves an average towards `x`, of which `kept` stays, in place; `false` as [`adam_step`].
///
/// # Errors
/// As [`adam_step`].
pub fn average_step(average: &Tensor, x: &Tensor, kept: f64) -> Result<bool> {
    if !fast([average, x]) || !average.is_contiguous() {
        return Ok(false);
    }
    check(average, &[x])?;
    let x = dense(x)?;
    let x = values::<f32>(&x)?;
    change(average, |average| {
        update::average(average, &x, kept as f32);
        Ok(())
    })?;
    Ok(true)
}

fn check(p: &Tensor, others: &[&Tensor]) -> Result<()> {
    for t in others {
        if t.dims() != p.dims() {
            let expected = format!("{:?}", p.dims());
            return Err(crate::Error::Shape { what: "state of an optimiser", expected, got: t.dims().to_vec() });
        }
    }
    Ok(())
}
