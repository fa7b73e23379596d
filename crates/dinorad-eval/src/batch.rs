//! Images of one size as one tensor.

use candle::{Device, Tensor};
use ndarray::ArrayView3;

use crate::{Error, Result};

/// Images `(c, h, w)` as a tensor `(b, c, h, w)` on a device.
///
/// # Errors
/// [`Error::Shape`] for none, or for images of different shapes.
pub(crate) fn pixel_batch(images: &[ArrayView3<'_, f32>], device: &Device) -> Result<Tensor> {
    let Some((c, h, w)) = images.first().map(|i| i.dim()) else {
        return Err(Error::shape("batch of images", "at least one image", &[0]));
    };
    let mut values = Vec::with_capacity(images.len() * c * h * w);
    for image in images {
        if image.dim() != (c, h, w) {
            return Err(Error::shape("batch of images", format!("({c}, {h}, {w}) each"), image.shape()));
        }
        match image.as_slice() {
            Some(slice) => values.extend_from_slice(slice),
            None => values.extend(image.iter()),
        }
    }
    Ok(Tensor::from_vec(values, (images.len(), c, h, w), device)?)
}
