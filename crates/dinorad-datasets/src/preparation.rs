//! How pixels come out of the files of a data set.

use dinorad_core::Orientation;
use dinorad_transforms::PercentileRule;
use serde::{Deserialize, Serialize};

use crate::Intensity;

/// How a data set's pixels come out of its files, and what is then done to them on the way to an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Preparation {
    /// Axes that volumes were turned to; `None` where files say nothing about axes.
    pub orientation: Option<Orientation>,
    /// What colours became.
    pub colour: Colour,
    /// The study's intensity step.
    pub prepare: Prepare,
    /// On which scale values are shown to an encoder.
    #[serde(default)]
    pub intensity: Intensity,
    /// What becomes of negatives on the way to an encoder.
    #[serde(default)]
    pub monochrome1: Monochrome1,
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

/// What becomes of pictures whose low values are bright (MONOCHROME1 in DICOM): readers return them as they
/// are stored, an encoder is shown what a viewer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monochrome1 {
    /// Their values are turned over, as the DICOM grayscale pipeline does.
    #[default]
    Inverted,
    /// They stay, as the study left them.
    AsStored,
}

impl std::str::FromStr for Monochrome1 {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text {
            "inverted" => Ok(Self::Inverted),
            "as-stored" => Ok(Self::AsStored),
            _ => Err(crate::Error::Parameter {
                what: "monochrome1",
                why: format!("`{text}` is neither inverted nor as-stored"),
            }),
        }
    }
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
