//! Pixel values of a view: how a scanner, or a reader at a workstation, might have shown the same body.

use dinorad_transforms::{Constant, Window, min_max, percentiles, window};
use ndarray::{Array3, ArrayView3};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How values become 0..1, and how that varies. No colours: gray images have none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "modality", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Intensity {
    /// Computed tomography: a window, another for every view.
    Ct {
        /// The window in the middle.
        window: Window,
        /// Its centre moves by at most so many HU.
        centre_hu: f64,
        /// Its width grows or shrinks at most by `e` to this.
        width: f64,
    },
    /// Magnetic resonance: a smooth field over the image, and a gamma.
    Mr {
        /// Largest coefficient of the polynomial whose exponential is the field.
        bias: f64,
        /// Largest logarithm of the gamma.
        gamma: f64,
    },
    /// X-ray: exposure, which adds to the logarithm that a detector's image shows, and contrast.
    Xray {
        /// Largest shift, of the range 0..1.
        exposure: f64,
        /// Largest part by which distances from the mean grow or shrink.
        contrast: f64,
    },
    /// Anything else: from least to most, as it is.
    Plain,
}

impl Intensity {
    /// CT around a window: the centre within 10 % of its width, the width by up to 20 %.
    pub fn ct(window: Window) -> Self {
        Intensity::Ct { window, centre_hu: 0.1 * window.width_hu, width: 0.2 }
    }

    /// MR with fields of 0.3 and gammas of `e` to ±0.3, as TorchIO draws them.
    pub fn mr() -> Self {
        Intensity::Mr { bias: 0.3, gamma: 0.3 }
    }

    /// X-ray with exposures of ±0.15 and contrasts of ±40 %.
    pub fn xray() -> Self {
        Intensity::Xray { exposure: 0.15, contrast: 0.4 }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let size = |name, v: f64, most: f64| match (0.0..=most).contains(&v) {
            true => Ok(()),
            false => Err(Error::parameter(name, format!("0 to {most}"), v)),
        };
        match self {
            Intensity::Ct { window, centre_hu, width } => {
                if !(window.centre_hu.is_finite() && window.width_hu.is_finite() && window.width_hu > 0.0) {
                    return Err(Error::parameter("window", "a finite band of HU", window));
                }
                size("centre_hu", *centre_hu, 1e4)?;
                size("width", *width, 3.0)
            }
            Intensity::Mr { bias, gamma } => size("bias", *bias, 3.0).and(size("gamma", *gamma, 3.0)),
            Intensity::Xray { exposure, contrast } => {
                size("exposure", *exposure, 1.0).and(size("contrast", *contrast, 1.0))
            }
            Intensity::Plain => Ok(()),
        }
    }

    /// What the values of a view depend on beside its own: taken from the whole image once.
    ///
    /// # Errors
    /// [`Error::Transforms`] for an image without pixels or with one that is no number.
    pub fn levels(&self, image: ArrayView3<'_, f32>) -> Result<Levels> {
        let percents = match self {
            // absolute, but a pixel that is no number is none here either
            Intensity::Ct { .. } => [0.0, 100.0],
            // a few bright vessels or a coil's edge must not make the rest dark
            Intensity::Mr { .. } => [0.5, 99.5],
            Intensity::Xray { .. } | Intensity::Plain => [0.0, 100.0],
        };
        let limits = percentiles(image, &percents, 1)?;
        Ok(Levels { low: limits[0] as f32, high: limits[1] as f32 })
    }

    /// Brings a view `(c, h, w)` to 0..1, another way for every draw.
    ///
    /// # Errors
    /// If values cannot be stretched.
    pub fn apply(&self, view: &mut Array3<f32>, levels: Levels, rng: &mut impl Rng) -> Result<()> {
        let mut within = |most: f64| most * (2.0 * rng.random::<f64>() - 1.0);
        match *self {
            Intensity::Ct { window: middle, centre_hu, width } => {
                let drawn = Window {
                    centre_hu: middle.centre_hu + within(centre_hu),
                    width_hu: middle.width_hu * within(width).exp(),
                };
                window(view, &drawn);
            }
            Intensity::Mr { bias, gamma } => {
                levels.stretch(view);
                let coefficients: [f64; TERMS] = std::array::from_fn(|_| within(bias));
                let gamma = within(gamma).exp() as f32;
                field(view, &coefficients);
                view.mapv_inplace(|v| v.clamp(0.0, 1.0).powf(gamma));
            }
            Intensity::Xray { exposure, contrast } => {
                levels.stretch(view);
                let (shift, factor) = (within(exposure), 1.0 + within(contrast));
                dinorad_transforms::contrast(view, factor);
                view.mapv_inplace(|v| v + shift as f32);
            }
            Intensity::Plain => levels.stretch(view),
        }
        view.mapv_inplace(|v| v.clamp(0.0, 1.0));
        Ok(())
    }

    /// The values without anything drawn: what the encoder sees when it is used.
    ///
    /// # Errors
    /// As [`levels`](Self::levels).
    pub fn plain(&self, image: &mut Array3<f32>) -> Result<()> {
        match self {
            Intensity::Ct { window: middle, .. } => window(image, middle),
            Intensity::Mr { .. } => self.levels(image.view())?.stretch(image),
            Intensity::Xray { .. } | Intensity::Plain => drop(min_max(image, Constant::Zeros)?),
        }
        image.mapv_inplace(|v| v.clamp(0.0, 1.0));
        Ok(())
    }
}

/// The values of an image that become 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// Becomes 0.
    pub low: f32,
    /// Becomes 1.
    pub high: f32,
}

impl Levels {
    fn stretch(self, view: &mut Array3<f32>) {
        // in f64: the range of two f32 may be more than one holds
        let range = f64::from(self.high) - f64::from(self.low);
        let factor = if range > 0.0 { 1.0 / range } else { 0.0 };
        view.mapv_inplace(|v| ((f64::from(v) - f64::from(self.low)) * factor) as f32);
    }
}

/// Terms of a polynomial of the third order in two variables, the constant aside.
const TERMS: usize = 9;

/// Multiplies by the exponential of a polynomial of the place, whose coordinates are -1..1.
///
/// # Source
/// Sudre et al. 2017, Longitudinal segmentation of age-related white matter hyperintensities; TorchIO's
/// `RandomBiasField`.
fn field(view: &mut Array3<f32>, c: &[f64; TERMS]) {
    let (channels, h, w) = view.dim();
    let at = |i: usize, n: usize| if n > 1 { 2.0 * i as f64 / (n - 1) as f64 - 1.0 } else { 0.0 };
    for y in 0..h {
        let v = at(y, h);
        // by powers of x
        let rows = [v * (c[0] + v * (c[1] + v * c[2])), c[3] + v * (c[4] + v * c[5]), c[6] + v * c[7], c[8]];
        for x in 0..w {
            let u = at(x, w);
            let gain = dinorad_kernels::scalar::exp((rows[0] + u * (rows[1] + u * (rows[2] + u * rows[3]))) as f32);
            for channel in 0..channels {
                view[[channel, y, x]] *= gain;
            }
        }
    }
}
