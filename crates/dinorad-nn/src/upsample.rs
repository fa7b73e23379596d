//! Resizing of maps that carries gradients.

use candle::{DType, Device, Tensor};
use dinorad_core::resample::{Filter, Taps};

use crate::Result;

/// Separable resizing of `(.., h, w)` maps as two matrix products.
///
/// candle's own upsampling has no backward pass and no bicubic filter; products have both.
///
/// # Examples
/// ```
/// use dinorad_core::resample::Filter;
/// use dinorad_nn::{Resize, candle::{Device, Tensor}};
/// # fn main() -> Result<(), dinorad_nn::Error> {
/// let maps = Tensor::arange(0f32, 12., &Device::Cpu)?.reshape((1, 1, 3, 4))?;
/// let big = Resize::new(Filter::Bilinear, (3, 4), (6, 8), &Device::Cpu)?.forward(&maps)?;
/// assert_eq!(big.dims(), [1, 1, 6, 8]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Resize {
    rows: Tensor,
    cols: Tensor,
}

impl Resize {
    /// From `(h, w)` to `(height, width)`.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(filter: Filter, from: (usize, usize), to: (usize, usize), device: &Device) -> Result<Self> {
        Self::from_taps(&Taps::new(filter, from.0, to.0)?, &Taps::new(filter, from.1, to.1)?, device)
    }

    /// From taps of the rows and the columns.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn from_taps(rows: &Taps, cols: &Taps, device: &Device) -> Result<Self> {
        let matrix = |taps: &Taps| {
            let m = taps.to_matrix();
            let shape = m.dim();
            Tensor::from_vec(m.into_iter().collect::<Vec<f32>>(), shape, device)
        };
        Ok(Resize { rows: matrix(rows)?, cols: matrix(cols)? })
    }

    /// The resized maps, `(.., h, w)` to `(.., height, width)`, computed in f32 and returned in the
    /// dtype of `x`.
    ///
    /// # Errors
    /// If `x` does not end in `(h, w)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (height, h) = self.rows.dims2()?;
        let (width, w) = self.cols.dims2()?;
        let mut shape = x.dims().to_vec();
        let wrong = || crate::Error::Shape {
            what: "maps to resize",
            expected: format!("(.., {h}, {w})"),
            got: x.dims().to_vec(),
        };
        let n = shape.len();
        if n < 2 || shape[n - 2..] != [h, w] {
            return Err(wrong());
        }
        let dtype = x.dtype();
        let planes: usize = shape[..n - 2].iter().product();
        // Columns in one tall product; rows after a turn, again in one.
        let narrow = x.to_dtype(DType::F32)?.reshape((planes * h, w))?.matmul(&self.cols.t()?)?;
        let turned = narrow.reshape((planes, h, width))?.transpose(1, 2)?.reshape((planes * width, h))?;
        let out = turned.matmul(&self.rows.t()?)?.reshape((planes, width, height))?.transpose(1, 2)?;
        shape[n - 2..].copy_from_slice(&[height, width]);
        Ok(out.contiguous()?.reshape(shape)?.to_dtype(dtype)?)
    }
}
