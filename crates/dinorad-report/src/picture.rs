//! Pictures for people: gray images, mask overlays, contact sheets, as PNG bytes.

use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage, codecs::png, imageops};
use ndarray::{ArrayView2, ArrayView3};

use crate::{Error, Result, plot::color};

/// Largest picture in pixels along one side.
const LARGEST: u32 = 16_384;

/// Which values become black and white.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Window {
    /// The least and the greatest.
    MinMax,
    /// Two percentiles (0–100), so that one bright voxel does not darken the rest.
    Percentiles(f32, f32),
    /// Two fixed values, such as HU.
    Range(f32, f32),
}

/// How pixels between pixels are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// Repeated: masks, patch grids.
    Nearest,
    /// Smooth (Catmull-Rom): images.
    Bicubic,
}

/// How a mask lies over an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskStyle {
    /// 0 unseen, 1 opaque.
    pub fill: f32,
    /// Whether the border of every class is drawn in full colour.
    pub contour: bool,
}

impl Default for MaskStyle {
    fn default() -> Self {
        Self { fill: 0.35, contour: true }
    }
}

/// An RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture(RgbImage);

impl Picture {
    /// A gray picture of an `(h, w)` array; NaN is black.
    ///
    /// # Errors
    /// [`Error::Draw`] for an empty array or one over 16384 pixels along a side.
    pub fn gray(values: ArrayView2<'_, f32>, window: Window) -> Result<Self> {
        let (low, high) = window.limits(values);
        let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
        Self::from_fn(values.dim(), |y, x| {
            // `as` saturates and takes NaN to 0.
            let v = ((values[[y, x]] - low) * scale).round() as u8;
            [v, v, v]
        })
    }

    /// A picture of a `(c, h, w)` array with one channel or three; all channels share the window.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels, and as [`gray`](Self::gray).
    pub fn channels(values: ArrayView3<'_, f32>, window: Window) -> Result<Self> {
        let (c, h, w) = values.dim();
        match c {
            1 => Self::gray(values.index_axis(ndarray::Axis(0), 0), window),
            3 => {
                let flat =
                    values.to_shape((c * h, w)).map_err(|e| Error::Draw { what: "a picture", why: e.to_string() })?;
                let (low, high) = window.limits(flat.view());
                let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
                Self::from_fn((h, w), |y, x| [0, 1, 2].map(|c| ((values[[c, y, x]] - low) * scale).round() as u8))
            }
            _ => Err(Error::shape("a picture", "(1 or 3, h, w)", values.shape())),
        }
    }

    /// A picture from a colour for every `(row, column)`.
    ///
    /// # Errors
    /// [`Error::Draw`] for no pixels or more than 16384 along a side.
    pub fn from_fn((h, w): (usize, usize), mut rgb: impl FnMut(usize, usize) -> [u8; 3]) -> Result<Self> {
        let (width, height) = checked(h, w)?;
        Ok(Self(RgbImage::from_fn(width, height, |x, y| Rgb(rgb(y as usize, x as usize)))))
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.0.width() as usize
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.0.height() as usize
    }

    /// The colour at `(row, column)`; `None` outside.
    pub fn pixel(&self, y: usize, x: usize) -> Option<[u8; 3]> {
        let (x, y) = (u32::try_from(x).ok()?, u32::try_from(y).ok()?);
        self.0.get_pixel_checked(x, y).map(|p| p.0)
    }

    /// Resized to `(h, w)`.
    ///
    /// # Errors
    /// [`Error::Draw`] for no pixels or more than 16384 along a side.
    pub fn scaled_to(&self, (h, w): (usize, usize), scaling: Scaling) -> Result<Self> {
        let (width, height) = checked(h, w)?;
        let filter = match scaling {
            Scaling::Nearest => imageops::FilterType::Nearest,
            Scaling::Bicubic => imageops::FilterType::CatmullRom,
        };
        Ok(Self(imageops::resize(&self.0, width, height, filter)))
    }

    /// Resized so that the longer side has `side` pixels, keeping its proportions.
    ///
    /// # Errors
    /// [`Error::Draw`] for a side of 0 or over 16384.
    pub fn fitted(&self, side: usize, scaling: Scaling) -> Result<Self> {
        let longer = self.width().max(self.height());
        let part = |n: usize| ((n as f64 * side as f64 / longer as f64).round() as usize).max(usize::from(side > 0));
        self.scaled_to((part(self.height()), part(self.width())), scaling)
    }

    /// With a mask over it: class `c` > 0 in the palette's colour `c − 1`.
    ///
    /// A mask of another size is stretched to the picture (nearest).
    ///
    /// # Errors
    /// [`Error::Draw`] for an empty mask.
    pub fn with_mask(&self, mask: ArrayView2<'_, u8>, style: MaskStyle) -> Result<Self> {
        let (h, w) = (self.height(), self.width());
        let (mh, mw) = mask.dim();
        checked(mh, mw)?;
        let class = |y: usize, x: usize| mask[[(2 * y + 1) * mh / (2 * h), (2 * x + 1) * mw / (2 * w)]];
        let mut out = self.0.clone();
        for (x, y, pixel) in out.enumerate_pixels_mut() {
            let (x, y) = (x as usize, y as usize);
            let here = class(y, x);
            if here == 0 {
                continue;
            }
            let border = style.contour
                && ((x > 0 && class(y, x - 1) != here)
                    || (x + 1 < w && class(y, x + 1) != here)
                    || (y > 0 && class(y - 1, x) != here)
                    || (y + 1 < h && class(y + 1, x) != here));
            let alpha = if border { 1.0 } else { style.fill.clamp(0.0, 1.0) };
            let ink = color(usize::from(here) - 1);
            for (v, ink) in pixel.0.iter_mut().zip(ink) {
                *v = (f32::from(*v) * (1.0 - alpha) + f32::from(ink) * alpha).round() as u8;
            }
        }
        Ok(Self(out))
    }

    /// Pictures in rows of `columns`, `gap` pixels apart, each cell as large as the largest.
    ///
    /// # Errors
    /// [`Error::Draw`] for no pictures, no columns or a sheet that is too large.
    pub fn sheet(pictures: &[Self], columns: usize, gap: usize, background: [u8; 3]) -> Result<Self> {
        let cell_w = pictures.iter().map(Self::width).max().unwrap_or(0);
        let cell_h = pictures.iter().map(Self::height).max().unwrap_or(0);
        let columns = columns.min(pictures.len());
        if columns == 0 {
            return Err(Error::Draw { what: "a contact sheet", why: "no pictures or no columns".into() });
        }
        let rows = pictures.len().div_ceil(columns);
        let side = |n: usize, cell: usize| {
            n.checked_mul(cell).and_then(|v| v.checked_add((n - 1).checked_mul(gap)?)).unwrap_or(usize::MAX)
        };
        let (width, height) = checked(side(rows, cell_h), side(columns, cell_w))?;
        let mut sheet = RgbImage::from_pixel(width, height, Rgb(background));
        for (i, picture) in pictures.iter().enumerate() {
            let x = (i % columns) * (cell_w + gap) + (cell_w - picture.width()) / 2;
            let y = (i / columns) * (cell_h + gap) + (cell_h - picture.height()) / 2;
            imageops::replace(&mut sheet, &picture.0, x as i64, y as i64);
        }
        Ok(Self(sheet))
    }

    /// A contact sheet of a `(d, h, w)` volume: `count` slices, evenly spread, one window for all.
    ///
    /// # Errors
    /// As [`sheet`](Self::sheet).
    pub fn contact_sheet(volume: ArrayView3<'_, f32>, count: usize, columns: usize, window: Window) -> Result<Self> {
        let (d, h, w) = volume.dim();
        let flat =
            volume.to_shape((d * h, w)).map_err(|e| Error::Draw { what: "a contact sheet", why: e.to_string() })?;
        let (low, high) = window.limits(flat.view());
        let count = count.min(d);
        let slices = (0..count)
            .map(|i| {
                let z = (2 * i + 1) * d / (2 * count);
                Self::gray(volume.index_axis(ndarray::Axis(0), z), Window::Range(low, high))
            })
            .collect::<Result<Vec<_>>>()?;
        Self::sheet(&slices, columns, 2, [0, 0, 0])
    }

    /// The bytes of a PNG file; the same for the same picture.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        png::PngEncoder::new_with_quality(&mut bytes, png::CompressionType::Default, png::FilterType::Adaptive)
            .write_image(self.0.as_raw(), self.0.width(), self.0.height(), ExtendedColorType::Rgb8)
            .map_err(|e| Error::Draw { what: "a PNG", why: e.to_string() })?;
        Ok(bytes)
    }
}

impl Window {
    /// The values that become black and white; `(0, 0)` for an array without a number in it.
    pub fn limits(self, values: ArrayView2<'_, f32>) -> (f32, f32) {
        match self {
            Self::Range(low, high) => (low, high),
            Self::MinMax => {
                let (low, high) = values
                    .iter()
                    .filter(|v| v.is_finite())
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
                if low > high { (0.0, 0.0) } else { (low, high) }
            }
            Self::Percentiles(low, high) => {
                let mut finite: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
                if finite.is_empty() {
                    return (0.0, 0.0);
                }
                let mut at = |p: f32| {
                    let i = (f64::from(p.clamp(0.0, 100.0)) / 100.0 * (finite.len() - 1) as f64).round() as usize;
                    *finite.select_nth_unstable_by(i, f32::total_cmp).1
                };
                (at(low), at(high))
            }
        }
    }
}

fn checked(h: usize, w: usize) -> Result<(u32, u32)> {
    match (u32::try_from(w), u32::try_from(h)) {
        (Ok(width @ 1..=LARGEST), Ok(height @ 1..=LARGEST)) => Ok((width, height)),
        _ => Err(Error::Draw { what: "a picture", why: format!("{h} x {w} pixels; each side must be 1 to {LARGEST}") }),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3, array};

    use super::*;

    #[test]
    fn windows_map_to_black_and_white() {
        let image = array![[-1.0, 0.0], [1.0, f32::NAN]];
        let gray = |w| Picture::gray(image.view(), w).unwrap();
        let values = |p: Picture| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(y, x)| p.pixel(y, x).unwrap()[0]);
        assert_eq!(values(gray(Window::MinMax)), [0, 128, 255, 0]);
        assert_eq!(values(gray(Window::Range(0.0, 0.5))), [0, 0, 255, 0]);
        assert_eq!(values(gray(Window::Percentiles(0.0, 50.0))), [0, 255, 255, 0]);
        assert_eq!(values(Picture::gray(array![[f32::NAN, 3.0], [3.0, 3.0]].view(), Window::MinMax).unwrap()), [0; 4]);
        assert!(Picture::gray(Array2::zeros((0, 4)).view(), Window::MinMax).is_err());
        assert!(Picture::gray(Array2::zeros((1, 20_000)).view(), Window::MinMax).is_err());
    }

    #[test]
    fn masks_keep_the_background_and_colour_the_rest() {
        let image = Picture::gray(Array2::from_elem((8, 8), 1.0).view(), Window::Range(0.0, 2.0)).unwrap();
        let mut mask = Array2::<u8>::zeros((4, 4));
        mask.slice_mut(ndarray::s![1..4, 1..4]).fill(2);
        let over = image.with_mask(mask.view(), MaskStyle { fill: 0.0, contour: true }).unwrap();
        assert_eq!(over.pixel(0, 0), Some([128; 3]));
        assert_eq!(over.pixel(2, 2), Some(color(1)), "the contour");
        assert_eq!(over.pixel(4, 4), Some([128; 3]), "inside, no fill");
        assert_eq!(over.pixel(8, 0), None);
    }

    #[test]
    fn sheets_hold_everything() {
        let volume = Array3::from_shape_fn((10, 4, 6), |(z, _, _)| z as f32);
        let sheet = Picture::contact_sheet(volume.view(), 5, 3, Window::MinMax).unwrap();
        assert_eq!((sheet.height(), sheet.width()), (10, 22));
        assert_eq!(sheet.pixel(0, 0).unwrap()[0], 28); // slice 1 of 0..9
        assert!(Picture::sheet(&[], 3, 1, [0; 3]).is_err());
        let png = sheet.to_png().unwrap();
        let back = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(back, sheet.0);
        assert_eq!(sheet.fitted(110, Scaling::Nearest).unwrap().width(), 110);
    }
}
