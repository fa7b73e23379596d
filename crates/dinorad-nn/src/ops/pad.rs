//! Zeros around maps, and their edges cut off.

use candle::Tensor;

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// Rows and columns of zeros around a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Margins {
    /// Above.
    pub top: usize,
    /// Below.
    pub bottom: usize,
    /// On the left.
    pub left: usize,
    /// On the right.
    pub right: usize,
}

/// `(b, c, h, w)` maps with zeros around them.
///
/// # Errors
/// [`Error::Shape`] for tensors of other axes.
pub fn pad(x: &Tensor, margins: Margins) -> Result<Tensor> {
    let &[b, c, h, w] = x.dims() else {
        return Err(Error::Shape { what: "maps to pad", expected: "(b, c, h, w)".into(), got: x.dims().to_vec() });
    };
    let Margins { top, bottom, left, right } = margins;
    if margins == Margins::default() {
        return Ok(x.clone());
    }
    if !fast([x]) {
        return Ok(x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?);
    }
    let place = Place { inner: (h, w), outer: (h + top + bottom, w + left + right), margins };
    let dx = dense(x)?;
    let mut out = vec![0.0; b * c * place.outer.0 * place.outer.1];
    {
        let x = values::<f32>(&dx)?;
        place.rows(b * c, |inner, outer| out[outer].copy_from_slice(&x[inner]));
    }
    record(&[Some(x)], (b, c, place.outer.0, place.outer.1), out, || Ok(place))
}

/// Where a map lies in a larger one.
#[derive(Clone, Copy)]
struct Place {
    inner: (usize, usize),
    outer: (usize, usize),
    margins: Margins,
}

impl Place {
    /// Every row of so many maps: where it stands in the inner ones and in the outer ones.
    fn rows(&self, maps: usize, mut f: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>)) {
        let ((h, w), (height, width)) = (self.inner, self.outer);
        for row in 0..maps * h {
            let (map, y) = (row / h, row % h);
            let to = (map * height + y + self.margins.top) * width + self.margins.left;
            f(row * w..(row + 1) * w, to..to + w);
        }
    }
}

impl Backward for Place {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let maps = dy.len() / (self.outer.0 * self.outer.1).max(1);
        let mut dx = vec![0.0; maps * self.inner.0 * self.inner.1];
        self.rows(maps, |inner, outer| dx[inner].copy_from_slice(&dy[outer]));
        to.put(0, dx);
        Ok(())
    }
}
