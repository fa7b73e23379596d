//! Graded shifts: images a little or a lot worse than those a model was made for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Compose, Error, Result, Step};

/// What gets worse from severity 1 to 5.
///
/// | severity | 1 | 2 | 3 | 4 | 5 | |
/// |---|---|---|---|---|---|---|
/// | `noise` | 0.04 | 0.08 | 0.12 | 0.18 | 0.26 | standard deviation, of the range 0..1 |
/// | `blur` | 1 | 2 | 3 | 4 | 6 | standard deviation in pixels of a 224 pixel image |
/// | `contrast` | 0.75 | 0.5 | 0.3 | 0.2 | 0.1 | what is left of every value's distance from the mean |
/// | `resolution` | 2 | 3 | 4 | 6 | 8 | factor by which the image is shrunk and enlarged again |
///
/// Values and order follow the common corruptions of Hendrycks and Dietterich 2019,
/// arXiv:1903.12261, with gentler first steps. Blur is scaled to the size of the image, so that a
/// severity takes the same share of detail at any size.
///
/// # Examples
/// ```
/// use dinorad_transforms::{Compose, Filter, Shift, StreamKey, presets};
///
/// let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
/// let eval = presets::classification_eval(56, 56, Filter::BicubicAntialias, mean, std);
/// let shifted = Shift::Noise.applied(3, &eval)?;
/// let image = ndarray::Array3::from_shape_fn((1, 80, 80), |(_, y, x)| (y + x) as f32);
/// let key = StreamKey { seed: 0, epoch: 0, sample: 7 };
/// assert_eq!(shifted.augment(image, key)?.dim(), (3, 56, 56));
/// # Ok::<(), dinorad_transforms::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shift {
    /// Normal noise, another for every image.
    Noise,
    /// Gaussian blur.
    Blur,
    /// Less contrast.
    Contrast,
    /// Fewer pixels.
    Resolution,
}

const NAMES: [(Shift, &str); 4] =
    [(Shift::Noise, "noise"), (Shift::Blur, "blur"), (Shift::Contrast, "contrast"), (Shift::Resolution, "resolution")];

/// The side in pixels that blur is given for.
const SIDE: f64 = 224.0;

impl Shift {
    /// The severities there are, from 1.
    pub const SEVERITIES: usize = 5;

    /// The number of the table.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless the severity is 1 to 5.
    pub fn strength(self, severity: usize) -> Result<f64> {
        let table = match self {
            Shift::Noise => [0.04, 0.08, 0.12, 0.18, 0.26],
            Shift::Blur => [1.0, 2.0, 3.0, 4.0, 6.0],
            Shift::Contrast => [0.75, 0.5, 0.3, 0.2, 0.1],
            Shift::Resolution => [2.0, 3.0, 4.0, 6.0, 8.0],
        };
        severity.checked_sub(1).and_then(|i| table.get(i).copied()).ok_or_else(|| Error::Parameter {
            step: "shift",
            parameter: "severity",
            got: severity.to_string(),
            expected: "1 to 5",
        })
    }

    /// A preprocessing with the shift in it: after the image was stretched to 0..1, before it becomes
    /// three channels and is normalised. The encoder sees what a worse image would have become.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a severity outside 1 to 5, and for a preprocessing that does not
    /// stretch to 0..1.
    pub fn applied(self, severity: usize, preprocessing: &Compose) -> Result<Compose> {
        let strength = self.strength(severity)?;
        let place = preprocessing.steps.iter().rposition(|step| matches!(step, Step::MinMax { .. }));
        let place = place.ok_or_else(|| Error::Parameter {
            step: "shift",
            parameter: "preprocessing",
            got: preprocessing.to_string(),
            expected: "one with min-max",
        })?;
        let side = preprocessing.steps[..place].iter().rev().find_map(|step| match step {
            Step::Resize { height, width, .. }
            | Step::CenterCrop { height, width }
            | Step::Crop { height, width, .. }
            | Step::RandomResizedCrop { height, width, .. } => Some((*height).min(*width) as f64),
            Step::ResizeShort { size, .. } => Some(*size as f64),
            _ => None,
        });
        let scale = side.unwrap_or(SIDE) / SIDE;
        let mut steps = match self {
            Shift::Noise => vec![Step::RandomNoise { sigma: strength }],
            Shift::Blur => vec![Step::Blur { sigma: strength * scale }],
            Shift::Contrast => vec![Step::Contrast { factor: strength }],
            Shift::Resolution => vec![Step::Coarsen { factor: strength }],
        };
        steps.push(Step::Clamp { min: Some(0.0), max: Some(1.0) });
        let mut all = preprocessing.clone();
        all.steps.splice(place + 1..place + 1, steps);
        Ok(all)
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(s, _)| s == self).map_or("", |(_, n)| n))
    }
}

impl FromStr for Shift {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        NAMES.iter().find(|(_, n)| *n == text).map(|(s, _)| *s).ok_or_else(|| Error::Unknown {
            what: "shift",
            got: text.to_owned(),
            expected: NAMES.map(|(_, n)| n).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::{Filter, StreamKey, presets};

    #[test]
    fn every_severity_takes_the_image_further_away() {
        let preset = |size| presets::classification_eval(size, size, Filter::BicubicAntialias, [0.5; 3], [0.5; 3]);
        let image = Array3::from_shape_fn((1, 64, 64), |(_, y, x)| ((y / 3 * 31 + x / 2 * 17) % 23) as f32);
        let key = |sample| StreamKey { seed: 3, epoch: 0, sample };
        for size in [56, 112] {
            let plain = preset(size).apply(image.clone()).unwrap();
            for (shift, name) in NAMES {
                assert_eq!(name.parse::<Shift>().unwrap(), shift);
                let mut last = 0.0;
                for severity in 1..=Shift::SEVERITIES {
                    let shifted = shift.applied(severity, &preset(size)).unwrap();
                    let worse = shifted.augment(image.clone(), key(0)).unwrap();
                    assert_eq!(worse, shifted.augment(image.clone(), key(0)).unwrap());
                    assert_eq!(shift == Shift::Noise, worse != shifted.augment(image.clone(), key(1)).unwrap());
                    let distance = (&worse - &plain).mapv(|v| v * v).sum();
                    assert!(distance >= last, "{shift} {severity} at {size}: {distance} after {last}");
                    last = distance;
                }
                assert!(last > 0.0, "{shift} did nothing");
                assert!(shift.strength(0).is_err() && shift.strength(6).is_err());
            }
        }
        assert!(Shift::Blur.applied(1, &Compose::default()).is_err());
        assert!("fog".parse::<Shift>().unwrap_err().to_string().contains("resolution"));
    }
}
