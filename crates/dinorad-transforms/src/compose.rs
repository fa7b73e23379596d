//! A whole preprocessing: steps in order.

use std::fmt;

use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Step, augment, intensity::check_image};

/// Which sample of which epoch is augmented: the key of its random stream.
///
/// The same key gives the same bytes, at any number of threads and in any order of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Seed of the run.
    pub seed: u64,
    /// Pass over the data.
    pub epoch: u64,
    /// Index of the sample.
    pub sample: u64,
}

/// A preprocessing: steps applied in order.
///
/// Reads from and writes to TOML as an array of tables:
///
/// ```
/// use dinorad_transforms::Compose;
/// let text = r#"
/// [[steps]]
/// step = "resize"
/// height = 224
/// width = 224
/// filter = "bicubic-antialias"
///
/// [[steps]]
/// step = "min-max"
///
/// [[steps]]
/// step = "to-rgb"
/// "#;
/// let compose: Compose = toml::from_str(text)?;
/// let image = ndarray::Array3::from_shape_fn((1, 40, 60), |(_, y, x)| (y + x) as f32);
/// assert_eq!(compose.apply(image)?.dim(), (3, 224, 224));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// In order of application.
    pub steps: Vec<Step>,
}

impl Compose {
    /// A preprocessing of these steps.
    pub fn new(steps: Vec<Step>) -> Self {
        Compose { steps }
    }

    /// Checks the settings that can be judged without an image.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming the step and the setting.
    pub fn check(&self) -> Result<()> {
        self.steps.iter().try_for_each(Step::check)
    }

    /// Whether a step draws random numbers.
    pub fn is_random(&self) -> bool {
        self.steps.iter().any(Step::is_random)
    }

    /// The same for values that are on a scale from 0 to 1 already: in place of stretching them, what
    /// resampling overshot is cut off.
    #[must_use]
    pub fn on_a_fixed_scale(&self) -> Compose {
        let fixed = |step: &Step| match step {
            Step::MinMax { .. } => Step::Clamp { min: Some(0.0), max: Some(1.0) },
            other => other.clone(),
        };
        Compose { steps: self.steps.iter().map(fixed).collect() }
    }

    /// A short text that is the same for the same steps and settings, on every machine and in
    /// every version: 32 hexadecimal digits of the blake3 hash of the [`Display`](fmt::Display) text.
    pub fn hash(&self) -> String {
        let digest = blake3::hash(self.to_string().as_bytes());
        digest.to_hex()[..32].to_owned()
    }

    /// An image `(c, h, w)` through all steps.
    ///
    /// # Errors
    /// [`Error::Empty`] and [`Error::NotFinite`] for images that cannot be used, [`Error::Random`]
    /// if a step is random, and what the steps return.
    pub fn apply(&self, image: Array3<f32>) -> Result<Array3<f32>> {
        Ok(self.run(image, None)?.0)
    }

    /// An image `(c, h, w)` and its mask `(h, w)` through all steps. Labels are moved, never blended.
    ///
    /// # Errors
    /// As [`Compose::apply`], and [`Error::MaskShape`] if the sizes differ.
    pub fn apply_with_mask(&self, image: Array3<f32>, mask: Array2<u8>) -> Result<(Array3<f32>, Array2<u8>)> {
        with_mask(&image, &mask)?;
        let (image, mask) = self.run(image, Some(mask))?;
        Ok((image, mask.unwrap_or_default()))
    }

    /// [`Compose::apply`] with the random steps drawn from the sample's own stream.
    ///
    /// # Errors
    /// As [`Compose::apply`], without [`Error::Random`].
    pub fn augment(&self, image: Array3<f32>, key: StreamKey) -> Result<Array3<f32>> {
        let (_, h, w) = image.dim();
        self.draw(key, (h, w))?.apply(image)
    }

    /// [`Compose::apply_with_mask`] with the random steps drawn from the sample's own stream; the
    /// mask gets the draws of its image.
    ///
    /// # Errors
    /// As [`Compose::apply_with_mask`], without [`Error::Random`].
    pub fn augment_with_mask(
        &self,
        image: Array3<f32>,
        mask: Array2<u8>,
        key: StreamKey,
    ) -> Result<(Array3<f32>, Array2<u8>)> {
        let (_, h, w) = image.dim();
        self.draw(key, (h, w))?.apply_with_mask(image, mask)
    }

    /// The fixed preprocessing that the random steps become for one sample of size `(h, w)`: to
    /// look at a draw, to replay it, or to give several pictures the same one.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings out of range.
    pub fn draw(&self, key: StreamKey, size: (usize, usize)) -> Result<Compose> {
        self.check()?;
        let mut rng = dinorad_core::rng::stream(key.seed, key.epoch, key.sample);
        let mut size = size;
        let mut steps = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            for fixed in augment::draw(step, &mut rng, size)? {
                size = size_after(&fixed, size)?;
                steps.push(fixed);
            }
        }
        Ok(Compose { steps })
    }

    fn run(&self, image: Array3<f32>, mask: Option<Array2<u8>>) -> Result<(Array3<f32>, Option<Array2<u8>>)> {
        self.check()?;
        check_image(image.view())?;
        let mut current = (image, mask);
        for step in &self.steps {
            current = step.apply(current.0, current.1)?;
        }
        Ok(current)
    }
}

fn with_mask(image: &Array3<f32>, mask: &Array2<u8>) -> Result<()> {
    let (_, h, w) = image.dim();
    if mask.dim() == (h, w) { Ok(()) } else { Err(Error::MaskShape { mask: mask.dim(), image: (h, w) }) }
}

/// `(h, w)` after a fixed step.
fn size_after(step: &Step, size: (usize, usize)) -> Result<(usize, usize)> {
    Ok(match step {
        Step::Resize { height, width, .. } | Step::CenterCrop { height, width } | Step::Crop { height, width, .. } => {
            (*height, *width)
        }
        Step::ResizeShort { size: short, .. } => crate::geometry::short_side_size(size, *short)?,
        _ => size,
    })
}

/// The steps with all their settings, one after the other.
impl fmt::Display for Compose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            write!(f, "{}{step}", if i > 0 { ";" } else { "" })?;
        }
        Ok(())
    }
}
