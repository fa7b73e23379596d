//! One random view of an image.

use dinorad_transforms::{Filter, add_noise, blur, horizontal_flip, random_crop_box, resize, vertical_flip};
use ndarray::{Array3, s};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Intensity, Levels, Result};

/// What varies between two views of an image, the crop aside.
///
/// # Source
/// Caron et al. 2021, arXiv:2104.14294, without what concerns colour; flips are off unless they make sense for the
/// body part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Pixel values.
    pub intensity: Intensity,
    /// How often left and right are exchanged.
    pub horizontal_flip: f64,
    /// How often top and bottom are exchanged.
    pub vertical_flip: f64,
    /// Least and most width over height of a crop.
    pub ratio: (f64, f64),
    /// Least and most deviation of a blur, in pixels of the view.
    pub blur: (f64, f64),
    /// How often views are blurred.
    pub blur_probability: f64,
    /// Largest deviation of noise, of the range 0..1.
    pub noise: f64,
    /// How often views get noise.
    pub noise_probability: f64,
}

impl Default for Augmentation {
    /// No flips; half of the views blurred by up to 1.5 pixels, a fifth with noise.
    fn default() -> Self {
        Self {
            intensity: Intensity::Plain,
            horizontal_flip: 0.0,
            vertical_flip: 0.0,
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            blur: (0.1, 1.5),
            blur_probability: 0.5,
            noise: 0.05,
            noise_probability: 0.2,
        }
    }
}

impl Augmentation {
    /// The usual one of a modality.
    pub fn of(intensity: Intensity) -> Self {
        Self { intensity, ..Self::default() }
    }

    /// # Errors
    /// [`Error::Parameter`] for a setting out of range.
    pub fn check(&self) -> Result<()> {
        self.intensity.check()?;
        for (name, v) in [
            ("horizontal_flip", self.horizontal_flip),
            ("vertical_flip", self.vertical_flip),
            ("blur_probability", self.blur_probability),
            ("noise_probability", self.noise_probability),
            ("noise", self.noise),
        ] {
            if !(0.0..=1.0).contains(&v) {
                return Err(Error::parameter(name, "0 to 1", v));
            }
        }
        let ordered = |name, (low, high): (f64, f64), most: f64| match low > 0.0 && low <= high && high <= most {
            true => Ok(()),
            false => Err(Error::parameter(
                name,
                format!("two numbers in order, above 0 and at most {most}"),
                format!("({low}, {high})"),
            )),
        };
        ordered("ratio", self.ratio, 100.0)?;
        ordered("blur", self.blur, 100.0)
    }

    /// A view `(c, size, size)` with values 0..1 of an image `(c, h, w)`: a crop of a share of its area drawn from
    /// `scale`, resized, and all else.
    ///
    /// # Errors
    /// As [`Intensity::apply`]; for an image without pixels or a scale that is none.
    pub fn view(
        &self,
        image: &Array3<f32>,
        levels: Levels,
        size: usize,
        scale: (f64, f64),
        rng: &mut impl Rng,
    ) -> Result<Array3<f32>> {
        let (_, h, w) = image.dim();
        let (top, left, height, width) = random_crop_box(rng, (h, w), scale, self.ratio)?;
        self.of_box(image, levels, (top, left, height, width), (size, size), rng)
    }

    /// The same of a box `(top, left, height, width)` that is chosen already.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub(crate) fn of_box(
        &self,
        image: &Array3<f32>,
        levels: Levels,
        (top, left, height, width): (usize, usize, usize, usize),
        size: (usize, usize),
        rng: &mut impl Rng,
    ) -> Result<Array3<f32>> {
        let part = image.slice(s![.., top..top + height, left..left + width]);
        let mut view = resize(part, size.0, size.1, Filter::BicubicAntialias)?;
        self.intensity.apply(&mut view, levels, rng)?;
        let hit = |rng: &mut _, p: f64| Rng::random::<f64>(rng) < p;
        if hit(rng, self.horizontal_flip) {
            view = horizontal_flip(view);
        }
        if hit(rng, self.vertical_flip) {
            view = vertical_flip(view);
        }
        if hit(rng, self.blur_probability) {
            view = blur(&view, self.blur.0 + (self.blur.1 - self.blur.0) * rng.random::<f64>());
        }
        if hit(rng, self.noise_probability) {
            let sigma = self.noise * rng.random::<f64>();
            add_noise(&mut view, sigma, rng.random());
            view.mapv_inplace(|v| v.clamp(0.0, 1.0));
        }
        Ok(view)
    }
}
