//! Resizing of maps.

use std::sync::Arc;

use candle::Tensor;
use dinorad_core::resample::Taps;
use dinorad_kernels::{
    memory::written,
    resize::{self as kernel, Axis},
};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Resize, Result};

/// Resizes `(.., h, w)` maps with the taps of rows and columns: bilinear or bicubic, for example.
///
/// # Errors
/// [`Error::Shape`] if `x` does not end in the sizes that the taps are from.
pub fn resize(x: &Tensor, rows: &Taps, columns: &Taps) -> Result<Tensor> {
    let dims = x.dims();
    let (h, w) = (rows.input_len(), columns.input_len());
    let [front @ .., from_h, from_w] = dims else {
        return Err(Error::Shape { what: "maps to resize", expected: "(.., h, w)".into(), got: dims.to_vec() });
    };
    if (*from_h, *from_w) != (h, w) {
        return Err(Error::Shape { what: "maps to resize", expected: format!("(.., {h}, {w})"), got: dims.to_vec() });
    }
    if !fast([x]) {
        return Resize::from_taps(rows, columns, x.device())?.forward(x);
    }
    let axis = |taps: &Taps| Axis::new(taps.input_len(), (0..taps.len()).map(|i| taps.get(i)));
    let axes = Arc::new((axis(rows), axis(columns)));
    let shape = [front, &[rows.len(), columns.len()]].concat();
    let dx = dense(x)?;
    let result = {
        let x = values::<f32>(&dx)?;
        written(shape.iter().product(), |out| kernel::forward(&axes.0, &axes.1, &x, out))
    };
    record(&[Some(x)], shape, result, || Ok(Resized { axes, len: x.elem_count() }))
}

struct Resized {
    axes: Arc<(Axis, Axis)>,
    len: usize,
}

impl Backward for Resized {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        to.put(0, written(self.len, |dx| kernel::backward(&self.axes.0, &self.axes.1, &dy, dx)));
        Ok(())
    }
}
