//! Where pixels sit: resize, crop, flip, rotate, for images and for label maps.

use dinorad_core::resample::{self, Filter};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, s};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, intensity::parameter};

/// Largest number of pixels of one resized or padded plane (a 16k x 16k picture).
pub const MAX_PIXELS: usize = 1 << 28;

/// What fills the corners that a rotation brings in.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// The smallest value of each channel: air on CT, background elsewhere.
    #[default]
    Minimum,
    /// A fixed value. The study's code fills with raw 0, which on CT is bright tissue.
    Value(f64),
}

pub(crate) fn check_size(step: &'static str, height: usize, width: usize) -> Result<()> {
    match height.checked_mul(width) {
        Some(1..=MAX_PIXELS) => Ok(()),
        _ => Err(parameter(step, "size", format!("{height}x{width}"), "1 to 2^28 pixels")),
    }
}

/// An image `(c, h, w)` resized to `(c, height, width)`. Values may overshoot and are not clamped.
///
/// # Errors
/// [`Error::Parameter`] for a size of 0 or beyond [`MAX_PIXELS`], [`Error::Empty`] without pixels.
///
/// # Source
/// `torchvision.transforms.v2.functional.resize` on f32 tensors.
pub fn resize(image: ArrayView3<'_, f32>, height: usize, width: usize, filter: Filter) -> Result<Array3<f32>> {
    check_size("resize", height, width)?;
    if image.is_empty() {
        return Err(Error::Empty { shape: image.shape().to_vec() });
    }
    Ok(resample::resize(image, height, width, filter)?)
}

/// The size whose shorter side is `size` and whose aspect ratio is that of `(h, w)`, rounded down
/// as torchvision does for `Resize(int)`.
///
/// # Errors
/// [`Error::Empty`] for an image of size 0, [`Error::Parameter`] beyond [`MAX_PIXELS`].
pub fn short_side_size((h, w): (usize, usize), size: usize) -> Result<(usize, usize)> {
    if h == 0 || w == 0 {
        return Err(Error::Empty { shape: vec![h, w] });
    }
    let long = (size as u128 * h.max(w) as u128 / h.min(w) as u128).min(usize::MAX as u128) as usize;
    let (height, width) = if h <= w { (size, long) } else { (long, size) };
    check_size("resize-short", height, width)?;
    Ok((height, width))
}

/// A label map resized by picking the pixel under each centre: labels are never blended.
///
/// # Errors
/// [`Error::Parameter`] for a size of 0 or beyond [`MAX_PIXELS`], [`Error::Empty`] without pixels.
///
/// # Source
/// `nearest-exact` of PyTorch on f32, u8 or i64 label maps.
pub fn resize_mask(mask: ArrayView2<'_, u8>, height: usize, width: usize) -> Result<Array2<u8>> {
    check_size("resize", height, width)?;
    if mask.is_empty() {
        return Err(Error::Empty { shape: mask.shape().to_vec() });
    }
    let rows = resample::nearest_exact_indices(mask.nrows(), height)?;
    let cols = resample::nearest_exact_indices(mask.ncols(), width)?;
    Ok(Array2::from_shape_fn((height, width), |(y, x)| mask[[rows[y], cols[x]]]))
}

/// Input position of every output position under `nearest-exact`, in f64 arithmetic as PyTorch
/// uses for f64 label maps. Differs from [`resize_mask`]'s f32 only on exact ties.
///
/// # Errors
/// [`Error::Empty`] if a size is zero.
pub fn nearest_exact_indices_f64(input: usize, output: usize) -> Result<Vec<usize>> {
    if input == 0 || output == 0 {
        return Err(Error::Empty { shape: vec![input, output] });
    }
    let scale = input as f64 / output as f64;
    Ok((0..output).map(|i| (((i as f64 + 0.5) * scale) as usize).min(input - 1)).collect())
}

/// Something with rows and columns in its last two axes: an image `(c, h, w)` or a mask `(h, w)`.
///
/// Crops, flips and rotations are the same movement for both; an image and its mask go through the
/// same function with the same arguments.
pub trait Plane: Sized {
    /// The element type.
    type Element;
    /// `(h, w)`.
    fn size(&self) -> (usize, usize);
    /// The part at `(top, left)` of the given size. The caller has checked that it lies inside.
    #[doc(hidden)]
    fn part(&self, top: usize, left: usize, height: usize, width: usize) -> Self;
    /// A larger one with zeros around.
    #[doc(hidden)]
    fn padded(&self, top: usize, left: usize, height: usize, width: usize) -> Self;
    /// Reverses columns (1) or rows (0).
    #[doc(hidden)]
    fn reversed(self, axis: usize) -> Self;
    /// New pixels by source position; `None` takes the fill.
    #[doc(hidden)]
    fn gathered(&self, fill: Fill, source: &[Option<usize>]) -> Self;
}

impl Plane for Array3<f32> {
    type Element = f32;

    fn size(&self) -> (usize, usize) {
        let (_, h, w) = self.dim();
        (h, w)
    }

    fn part(&self, top: usize, left: usize, height: usize, width: usize) -> Self {
        self.slice(s![.., top..top + height, left..left + width]).to_owned()
    }

    fn padded(&self, top: usize, left: usize, height: usize, width: usize) -> Self {
        let (c, h, w) = self.dim();
        let mut out = Array3::zeros((c, height, width));
        out.slice_mut(s![.., top..top + h, left..left + w]).assign(self);
        out
    }

    fn reversed(mut self, axis: usize) -> Self {
        self.invert_axis(Axis(axis + 1));
        self.as_standard_layout().into_owned()
    }

    fn gathered(&self, fill: Fill, source: &[Option<usize>]) -> Self {
        let (c, h, w) = self.dim();
        let mut out = Vec::with_capacity(c * h * w);
        for channel in self.outer_iter() {
            let channel = channel.as_standard_layout();
            let values = channel.as_slice().unwrap_or(&[]);
            let fill = match fill {
                Fill::Minimum => values.iter().copied().fold(f32::INFINITY, f32::min),
                Fill::Value(v) => v as f32,
            };
            out.extend(source.iter().map(|at| at.and_then(|at| values.get(at).copied()).unwrap_or(fill)));
        }
        Array3::from_shape_vec((c, h, w), out).unwrap_or_default()
    }
}

impl Plane for Array2<u8> {
    type Element = u8;

    fn size(&self) -> (usize, usize) {
        self.dim()
    }

    fn part(&self, top: usize, left: usize, height: usize, width: usize) -> Self {
        self.slice(s![top..top + height, left..left + width]).to_owned()
    }

    fn padded(&self, top: usize, left: usize, height: usize, width: usize) -> Self {
        let (h, w) = self.dim();
        let mut out = Array2::zeros((height, width));
        out.slice_mut(s![top..top + h, left..left + w]).assign(self);
        out
    }

    fn reversed(mut self, axis: usize) -> Self {
        self.invert_axis(Axis(axis));
        self.as_standard_layout().into_owned()
    }

    /// The background label 0 fills, whatever fills the image.
    fn gathered(&self, _: Fill, source: &[Option<usize>]) -> Self {
        let mask = self.as_standard_layout();
        let values = mask.as_slice().unwrap_or(&[]);
        let out = source.iter().map(|at| at.and_then(|at| values.get(at).copied()).unwrap_or(0)).collect();
        Array2::from_shape_vec(self.dim(), out).unwrap_or_default()
    }
}

/// The part of an image or mask at `(top, left)` of the given size.
///
/// # Errors
/// [`Error::Box`] unless it lies inside and has pixels.
pub fn crop<P: Plane>(plane: &P, top: usize, left: usize, height: usize, width: usize) -> Result<P> {
    let image = plane.size();
    let fits = |start: usize, n: usize, all: usize| n > 0 && start.checked_add(n).is_some_and(|end| end <= all);
    if !(fits(top, height, image.0) && fits(left, width, image.1)) {
        return Err(Error::Box { top, left, height, width, image });
    }
    Ok(plane.part(top, left, height, width))
}

/// First row and column of the centre crop of a `(h, w)` image at least as large as the crop:
/// half the difference, rounded half to even.
pub fn center_crop_offset((h, w): (usize, usize), height: usize, width: usize) -> (usize, usize) {
    let half = |all: usize, n: usize| {
        let d = all.saturating_sub(n);
        // half to even: 1 -> 0, 3 -> 2, 5 -> 2, 7 -> 4
        d / 2 + usize::from(d % 4 == 3)
    };
    (half(h, height), half(w, width))
}

/// The middle of an image or mask. One that is smaller than the crop gets zeros around it first.
///
/// # Errors
/// [`Error::Parameter`] for a size of 0 or beyond [`MAX_PIXELS`].
///
/// # Source
/// `torchvision.transforms.v2.functional.center_crop`.
pub fn center_crop<P: Plane>(plane: &P, height: usize, width: usize) -> Result<P> {
    check_size("center-crop", height, width)?;
    let (h, w) = plane.size();
    if h < height || w < width {
        let (tall, wide) = (h.max(height), w.max(width));
        check_size("center-crop", tall, wide)?;
        let padded = plane.padded((tall - h) / 2, (wide - w) / 2, tall, wide);
        return center_crop(&padded, height, width);
    }
    let (top, left) = center_crop_offset((h, w), height, width);
    crop(plane, top, left, height, width)
}

/// Left and right exchanged.
pub fn horizontal_flip<P: Plane>(plane: P) -> P {
    plane.reversed(1)
}

/// Top and bottom exchanged.
pub fn vertical_flip<P: Plane>(plane: P) -> P {
    plane.reversed(0)
}

/// An image or mask turned counter-clockwise about its centre, by the nearest pixel, at the same
/// size. Corners from outside are filled: an image as `fill` says, a mask with background 0.
///
/// # Errors
/// [`Error::Parameter`] if the angle is not finite.
///
/// # Source
/// `torchvision.transforms.v2.functional.rotate`, nearest, without expansion. Computed in f64, so
/// positions within rounding error of a pixel's border may fall to the other side than in f32.
pub fn rotate<P: Plane>(plane: &P, degrees: f64, fill: Fill) -> Result<P> {
    if !degrees.is_finite() {
        return Err(parameter("rotate", "degrees", degrees, "a finite number"));
    }
    let (h, w) = plane.size();
    // exact at right angles
    let (sin, cos) = match degrees.rem_euclid(360.0) {
        0.0 => (0.0, 1.0),
        90.0 => (1.0, 0.0),
        180.0 => (0.0, -1.0),
        270.0 => (-1.0, 0.0),
        d => d.to_radians().sin_cos(),
    };
    let (cy, cx) = ((h as f64 - 1.0) / 2.0, (w as f64 - 1.0) / 2.0);
    let inside = |v: f64, n: usize| (v >= 0.0 && v < n as f64).then_some(v as usize);
    let mut source = Vec::with_capacity(h * w);
    for y in 0..h {
        for x in 0..w {
            let (dy, dx) = (y as f64 - cy, x as f64 - cx);
            let from_x = (cos * dx - sin * dy + cx).round_ties_even();
            let from_y = (sin * dx + cos * dy + cy).round_ties_even();
            source.push(inside(from_y, h).zip(inside(from_x, w)).map(|(sy, sx)| sy * w + sx));
        }
    }
    Ok(plane.gathered(fill, &source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn a_quarter_turn_is_counter_clockwise() {
        let mask = arr2(&[[1u8, 2], [3, 4]]);
        assert_eq!(rotate(&mask, 90.0, Fill::Minimum).unwrap(), arr2(&[[2, 4], [1, 3]]));
        assert_eq!(rotate(&mask, -270.0, Fill::Minimum).unwrap(), arr2(&[[2, 4], [1, 3]]));
    }

    #[test]
    fn corners_take_the_minimum_of_their_channel() {
        let mut image = Array3::from_elem((2, 9, 9), 50.0f32);
        image[[0, 4, 4]] = -1024.0;
        image[[1, 4, 4]] = 3.0;
        let turned = rotate(&image, 45.0, Fill::Minimum).unwrap();
        assert_eq!((turned[[0, 0, 0]], turned[[1, 0, 0]]), (-1024.0, 3.0));
        let turned = rotate(&image, 45.0, Fill::Value(0.0)).unwrap();
        assert_eq!(turned[[0, 0, 0]], 0.0);
    }

    #[test]
    fn hostile_sizes_are_errors() {
        let image = Array3::<f32>::zeros((1, 4, 4));
        assert!(resize(image.view(), usize::MAX, 2, Filter::Bicubic).is_err());
        assert!(center_crop(&image, 1 << 40, 1 << 40).is_err());
        assert!(crop(&image, usize::MAX, 0, 2, 2).is_err());
        assert!(short_side_size((1, usize::MAX), 4).is_err());
        assert!(short_side_size((0, 3), 4).is_err());
        assert!(rotate(&image, f64::NAN, Fill::Minimum).is_err());
        assert!(resize(Array3::zeros((1, 0, 4)).view(), 2, 2, Filter::Bicubic).is_err());
    }

    #[test]
    fn the_short_side_is_kept_as_torchvision_does() {
        assert_eq!(short_side_size((480, 640), 256).unwrap(), (256, 341));
        assert_eq!(short_side_size((640, 480), 256).unwrap(), (341, 256));
    }
}
