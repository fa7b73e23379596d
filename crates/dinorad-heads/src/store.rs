//! Heads on disk: their arrays in the files of [`dinorad_nn::store`].

use std::borrow::Cow;

use candle::{Device, Tensor, WithDType};
pub(crate) use dinorad_nn::store::{Stored, listed, load};
use ndarray::Array2;

use crate::{Result, rows::Rows};

/// Writes a head's tensors and what is to be said of them.
pub(crate) fn save(path: &std::path::Path, tensors: &[(&str, &Tensor)], metadata: &[(&str, String)]) -> Result<()> {
    Ok(dinorad_nn::store::save(path, tensors, metadata)?)
}

/// A matrix as a tensor.
pub(crate) fn tensor<T: WithDType>(matrix: &Array2<T>) -> Result<Tensor> {
    Ok(Tensor::from_iter(matrix.iter().copied(), &Device::Cpu)?.reshape(matrix.dim())?)
}

/// The arrays of a head's file.
pub(crate) trait Arrays {
    /// A matrix of a type.
    fn matrix<T: WithDType>(&self, name: &str) -> Result<Array2<T>>;

    /// Training rows of unit length, as they were written: they are not made so again.
    fn gallery(&self) -> Result<Rows<'static>>;
}

impl Arrays for Stored {
    fn matrix<T: WithDType>(&self, name: &str) -> Result<Array2<T>> {
        let tensor = self.tensor(name)?;
        let shape = tensor.dims2().map_err(|_| self.bad(format!("`{name}` is no matrix")))?;
        let values =
            tensor.flatten_all()?.to_vec1::<T>().map_err(|_| self.bad(format!("`{name}` is of another type")))?;
        Ok(Array2::from_shape_vec(shape, values).map_err(|e| self.bad(format!("`{name}`: {e}")))?)
    }

    fn gallery(&self) -> Result<Rows<'static>> {
        let rows = self.matrix::<f32>("gallery")?;
        let (n, dim) = rows.dim();
        if n == 0 || dim == 0 || rows.iter().any(|v| !v.is_finite()) {
            return Err(self.bad("its `gallery` has no rows, or some that are not finite").into());
        }
        Ok(Rows { data: Cow::Owned(rows.into_raw_vec_and_offset().0), n, dim })
    }
}
