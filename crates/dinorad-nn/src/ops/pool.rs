//! Max pooling of maps.

use candle::{Device, Tensor};
use dinorad_kernels::pool::Pooling;

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// The largest value of every window of `side` by `side`, which lie `stride` apart.
///
/// Windows that would reach beyond the map are left out. The gradient goes to the first of equal values.
///
/// # Shapes
/// x `(b, c, h, w)`; returns sides of `(n - side) / stride + 1`, rounded down.
///
/// # Errors
/// [`Error::Shape`] if no window fits.
pub fn max_pool2d(x: &Tensor, side: usize, stride: usize) -> Result<Tensor> {
    let wrong = || Error::Shape {
        what: "max pooling",
        expected: format!("(b, c, h, w) with sides of {side} at least"),
        got: x.dims().to_vec(),
    };
    let &[b, c, h, w] = x.dims() else { return Err(wrong()) };
    let pooling = Pooling { size: (h, w), side, stride };
    let (oh, ow) = pooling.output().filter(|_| u32::try_from(h * w).is_ok()).ok_or_else(wrong)?;
    if !fast([x]) {
        return composed(x, pooling, (oh, ow));
    }
    let dx = dense(x)?;
    let (mut out, mut places) = (vec![0.0; b * c * oh * ow], vec![0; b * c * oh * ow]);
    pooling.forward(&values::<f32>(&dx)?, &mut out, &mut places);
    record(&[Some(x)], (b, c, oh, ow), out, || Ok(Pooled { pooling, places, len: x.elem_count() }))
}

/// The largest of the values at each place of a window; candle's own pooling has no backward pass for windows
/// that overlap.
fn composed(x: &Tensor, Pooling { side, stride, .. }: Pooling, (oh, ow): (usize, usize)) -> Result<Tensor> {
    let every = |from: usize, n: usize| -> Result<Tensor> {
        let places: Vec<u32> = (0..n).map(|i| (from + i * stride) as u32).collect();
        Ok(Tensor::from_vec(places, n, &Device::Cpu)?.to_device(x.device())?)
    };
    let mut largest: Option<Tensor> = None;
    for row in 0..side {
        let rows = x.contiguous()?.index_select(&every(row, oh)?, 2)?;
        for column in 0..side {
            let part = rows.index_select(&every(column, ow)?, 3)?;
            largest = Some(match largest {
                Some(so_far) => so_far.maximum(&part)?,
                None => part,
            });
        }
    }
    largest.ok_or_else(|| Error::Shape { what: "max pooling", expected: "a window".into(), got: x.dims().to_vec() })
}

struct Pooled {
    pooling: Pooling,
    places: Vec<u32>,
    len: usize,
}

impl Backward for Pooled {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let mut dx = vec![0.0; self.len];
        self.pooling.backward(&self.places, &dy, &mut dx);
        to.put(0, dx);
        Ok(())
    }
}
