//! Checked feature rows on the host.

use candle::{DType, Tensor};

use crate::{Error, Result};

/// Finite `(n, dim)` features, row after row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    pub(crate) data: Vec<f32>,
    pub(crate) n: usize,
    pub(crate) dim: usize,
}

impl Rows {
    /// The rows of a tensor of any float type on any device.
    pub(crate) fn new(what: &'static str, x: &Tensor) -> Result<Self> {
        let &[n, dim] = x.dims() else { return Err(Error::shape(what, "(n, dim)", x.dims())) };
        if n == 0 {
            return Err(Error::Empty { what });
        }
        if dim == 0 {
            return Err(Error::shape(what, "(n, dim > 0)", x.dims()));
        }
        let data = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let rows = Rows { data, n, dim };
        match rows.iter().position(|row| !row.iter().all(|v| v.is_finite())) {
            Some(row) => Err(Error::NotFinite { what, row }),
            None => Ok(rows),
        }
    }

    /// The same, which must be as wide as the features that a model was fitted on.
    pub(crate) fn of_width(what: &'static str, x: &Tensor, dim: usize) -> Result<Self> {
        match x.dims() {
            [_, d] if *d == dim => Self::new(what, x),
            other => Err(Error::shape(what, format!("(n, {dim})"), other)),
        }
    }

    pub(crate) fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.dim)
    }

    /// Every row divided by its length, or by 1e-12 where it is shorter.
    pub(crate) fn normalised(mut self) -> Self {
        for row in self.data.chunks_exact_mut(self.dim) {
            // f64: the squares of large features leave the range of f32
            let norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
            let scale = norm.max(1e-12);
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / scale) as f32);
        }
        self
    }
}

/// Rows scaled to unit length, `x / max(‖x‖, 1e-12)`, same dtype and device.
///
/// # Shapes
/// `(n, dim)` in and out.
///
/// # Errors
/// [`Error::Shape`], [`Error::Empty`] and [`Error::NotFinite`] for features that are not finite rows.
///
/// # Source
/// `torch.nn.functional.normalize`.
pub fn l2_normalise(x: &Tensor) -> Result<Tensor> {
    let rows = Rows::new("features", x)?.normalised();
    Ok(Tensor::from_vec(rows.data, (rows.n, rows.dim), x.device())?.to_dtype(x.dtype())?)
}
