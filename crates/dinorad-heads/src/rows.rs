//! Checked feature rows.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2};

use crate::{Error, Result};

/// Finite `(n, dim)` features, row after row; borrowed where the caller's lie so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows<'a> {
    pub(crate) data: Cow<'a, [f32]>,
    pub(crate) n: usize,
    pub(crate) dim: usize,
}

impl<'a> Rows<'a> {
    /// The rows of an array; one that is not contiguous is copied.
    pub(crate) fn new(what: &'static str, x: ArrayView2<'a, f32>) -> Result<Self> {
        let (n, dim) = x.dim();
        if n == 0 {
            return Err(Error::Empty { what });
        }
        if dim == 0 {
            return Err(Error::shape(what, "(n, dim > 0)", x.shape()));
        }
        let data = match x.to_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(x.iter().copied().collect()),
        };
        let rows = Rows { data, n, dim };
        match rows.iter().position(|row| !row.iter().all(|v| v.is_finite())) {
            Some(row) => Err(Error::NotFinite { what, row }),
            None => Ok(rows),
        }
    }

    /// The same, which must be as wide as the features that a model was fitted on.
    pub(crate) fn of_width(what: &'static str, x: ArrayView2<'a, f32>, dim: usize) -> Result<Self> {
        if x.ncols() == dim { Self::new(what, x) } else { Err(Error::shape(what, format!("(n, {dim})"), x.shape())) }
    }

    pub(crate) fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.dim)
    }

    /// Every row divided by its length, or by 1e-12 where it is shorter.
    pub(crate) fn normalised(self) -> Rows<'static> {
        let (n, dim) = (self.n, self.dim);
        let mut data = self.data.into_owned();
        for row in data.chunks_exact_mut(dim) {
            // f64: the squares of large features leave the range of f32
            let norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
            let scale = norm.max(1e-12);
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / scale) as f32);
        }
        Rows { data: Cow::Owned(data), n, dim }
    }
}

/// Rows scaled to unit length, `x / max(‖x‖, 1e-12)`.
///
/// # Shapes
/// `(n, dim)` in and out.
///
/// # Errors
/// [`Error::Shape`], [`Error::Empty`] and [`Error::NotFinite`] for features that are not finite rows.
///
/// # Source
/// `torch.nn.functional.normalize`.
pub fn l2_normalise(x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
    let rows = Rows::new("features", x)?.normalised();
    Array2::from_shape_vec((rows.n, rows.dim), rows.data.into_owned())
        .map_err(|_| Error::shape("features", "(n, dim)", x.shape()))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    #[test]
    fn contiguous_rows_are_borrowed_and_others_are_the_same_values() {
        let x = Array2::from_shape_fn((4, 6), |(r, c)| (6 * r + c) as f32);
        assert!(matches!(Rows::new("x", x.view()).unwrap().data, Cow::Borrowed(_)));
        assert!(matches!(Rows::new("x", x.slice(s![1..3, ..])).unwrap().data, Cow::Borrowed(_)));
        let columns = Rows::new("x", x.slice(s![.., 1..3])).unwrap();
        assert_eq!(columns.data, [1.0, 2.0, 7.0, 8.0, 13.0, 14.0, 19.0, 20.0].as_slice());
        let turned = Rows::new("x", x.t()).unwrap();
        assert_eq!((turned.n, turned.dim, turned.data[1]), (6, 4, 6.0));
    }
}
