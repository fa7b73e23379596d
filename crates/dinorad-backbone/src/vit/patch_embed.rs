//! From pixels to patch tokens.

use candle::Tensor;
use dinorad_nn::{Linear, Pass, parameters};

use crate::Result;

/// Cuts an image into patches and maps each to a token.
#[derive(Debug, Clone)]
pub(crate) struct PatchEmbed {
    /// `(dim, 3, patch, patch)`
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

parameters!(PatchEmbed { weight: "weight", bias: "bias" });

impl PatchEmbed {
    /// `(b, 3, h, w)` to `(b, n, dim)`: a convolution whose windows do not overlap is one product.
    pub(crate) fn forward(&self, pixels: &Tensor, (rows, cols): (usize, usize), pass: Pass) -> Result<Tensor> {
        let (dim, c, p, _) = self.weight.dims4()?;
        let b = pixels.dim(0)?;
        let windows = pixels.contiguous()?.reshape(&[b, c, rows, p, cols, p][..])?.permute(vec![0, 2, 4, 1, 3, 5])?;
        let windows = windows.reshape((b, rows * cols, c * p * p))?;
        let linear = Linear::new(self.weight.reshape((dim, c * p * p))?, self.bias.clone());
        Ok(linear.forward(&windows, pass)?)
    }
}
