//! How pixels come out of the files of a data set.

use dinorad_core::Orientation;
use dinorad_transforms::PercentileRule;
use serde::{Deserialize, Serialize};

/// How a data set's pixels come out of its files. The default does nothing to them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Preparation {
    /// Axes that volumes were turned to; `None` where files say nothing about axes.
    pub orientation: Option<Orientation>,
    /// What colours became.
    pub colour: Colour,
    /// The intensity step.
    pub intensity: Prepare,
}

/// What colours become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// They stay.
    #[default]
    AsStored,
    /// One channel: luminance, in the file's own range.
    Gray,
    /// Three channels; gray is repeated.
    Rgb,
}

/// The study's intensity step of a data set; only done under `paper`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prepare {
    /// None.
    #[default]
    Nothing,
    /// Values below the first number and above the second become it.
    Clamp(Option<f32>, Option<f32>),
    /// 5th and 95th percentile of the picture repeated three times.
    Percentiles(PercentileRule),
}
