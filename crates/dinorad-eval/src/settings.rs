//! What is done to pixels between their file and the encoder.

use std::fmt;

use dinorad_core::{Orientation, method::View};
use dinorad_datasets::{Colour, Intensity, Monochrome1, Preparation, Prepare};
use dinorad_transforms::Compose;
use serde::{Deserialize, Serialize};

/// Everything that turns the content of a case into what an encoder sees: with the content and the
/// encoder it decides the features, so it is part of every feature store's key.
///
/// ```
/// use dinorad_eval::Settings;
/// use dinorad_transforms::Compose;
/// let whole = Settings::new(Compose::default());
/// assert_ne!(whole, whole.clone().with_slice_step(4));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Axes that volumes are turned to before they are cut into slices.
    pub orientation: Orientation,
    /// What colours become before the preprocessing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub colour: Colour,
    /// The study's intensity step of the data set, before everything else.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prepare: Prepare,
    /// On which scale the preprocessing is given the values; one that does not stretch them to 0..1 by
    /// itself takes them as they are.
    pub intensity: Intensity,
    /// What becomes of negatives before the preprocessing.
    pub monochrome1: Monochrome1,
    /// Which volume of files that hold several, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<usize>,
    /// Every how many slices of a volume one is looked at, from the middle of the first such group;
    /// 1 for all.
    pub slice_step: usize,
    /// Which draw of a random preprocessing. Draws go by the content of a case, never by its place in a
    /// set: the same case looks the same in every set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// The steps that every slice goes through.
    pub preprocessing: Compose,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Settings {
    /// This preprocessing on every slice of volumes turned to the closest RAS+ axes.
    pub fn new(preprocessing: Compose) -> Self {
        Self {
            orientation: Orientation::Canonical,
            colour: Colour::default(),
            prepare: Prepare::default(),
            intensity: Intensity::default(),
            monochrome1: Monochrome1::default(),
            volume: None,
            slice_step: 1,
            view: None,
            preprocessing,
        }
    }

    /// The same after what a data set does to its pixels.
    #[must_use]
    pub fn after(mut self, preparation: &Preparation) -> Self {
        self.orientation = preparation.orientation.unwrap_or(Orientation::Canonical);
        self.colour = preparation.colour;
        self.prepare = preparation.prepare;
        self.intensity = preparation.intensity;
        self.monochrome1 = preparation.monochrome1;
        self
    }

    /// The same with every `step`-th slice; 0 counts as 1.
    #[must_use]
    pub fn with_slice_step(mut self, step: usize) -> Self {
        self.slice_step = step.max(1);
        self
    }

    /// The same with values on another scale.
    #[must_use]
    pub fn with_intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// The same with negatives turned over or not.
    #[must_use]
    pub fn with_monochrome1(mut self, monochrome1: Monochrome1) -> Self {
        self.monochrome1 = monochrome1;
        self
    }

    /// The same with a draw; one without a random step has none.
    #[must_use]
    pub fn with_view(mut self, view: View) -> Self {
        self.view = self.preprocessing.is_random().then_some(view);
        self
    }
}

/// In words, on one line.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, axes {}", self.preprocessing, self.orientation)?;
        match self.colour {
            Colour::AsStored => {}
            Colour::Gray => f.write_str(", in gray")?,
            Colour::Rgb => f.write_str(", in RGB")?,
        }
        match self.prepare {
            Prepare::Nothing => {}
            Prepare::Clamp(low, high) => {
                let limit = |v: Option<f32>| v.map_or_else(|| "none".to_owned(), |v| v.to_string());
                write!(f, ", values clamped to {} and {}", limit(low), limit(high))?;
            }
            Prepare::Percentiles(_) => f.write_str(", values clipped to their 5th and 95th percentiles")?,
        }
        write!(f, ", intensity {}", self.intensity)?;
        if self.monochrome1 == Monochrome1::AsStored {
            f.write_str(", MONOCHROME1 as stored")?;
        }
        if let Some(volume) = self.volume {
            write!(f, ", volume {volume}")?;
        }
        if self.slice_step > 1 {
            write!(f, ", one slice in {}", self.slice_step)?;
        }
        if let Some(view) = self.view {
            write!(f, ", pass {} of seed {}", view.pass, view.seed)?;
        }
        Ok(())
    }
}
