//! Points of the search grid and their names.

use std::{fmt, str::FromStr};

use crate::{Error, Result};

/// Learning rates of the study's classification probes.
pub const CLASSIFICATION_LEARNING_RATES: [f64; 4] = [1e-3, 5e-3, 1e-2, 5e-2];
/// Learning rates of the study's segmentation decoders.
pub const SEGMENTATION_LEARNING_RATES: [f64; 7] = [1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1];
/// Numbers of last blocks whose class tokens the study's probes see.
pub const BLOCKS: [usize; 2] = [1, 4];
/// Whether the study's probes see the mean patch token too, in the order they are tried.
pub const AVGPOOLS: [bool; 2] = [true, false];

/// One point of the probes' grid: what the head sees and how fast it learns.
///
/// Its text is that of the reference, `linear:blocks=4:avgpool=True:lr=0_0010000000`, and parses
/// back, so that published settings can be named as they are.
///
/// # Examples
/// ```
/// use dinorad_core::grid::ProbePoint;
/// let point: ProbePoint = "linear:blocks=4:avgpool=False:lr=0_0500000000".parse()?;
/// assert_eq!(point, ProbePoint { blocks: 4, avgpool: false, learning_rate: 0.05 });
/// # Ok::<(), dinorad_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ProbePoint {
    /// Class tokens of so many last blocks.
    pub blocks: usize,
    /// Whether the mean patch token of the last block follows them.
    pub avgpool: bool,
    /// Learning rate of the first step.
    pub learning_rate: f64,
}

impl ProbePoint {
    /// All points in the study's order: blocks outermost, then the mean token, then the rate.
    pub fn grid(blocks: &[usize], avgpools: &[bool], learning_rates: &[f64]) -> Vec<ProbePoint> {
        let mut points = Vec::with_capacity(blocks.len() * avgpools.len() * learning_rates.len());
        for &blocks in blocks {
            for &avgpool in avgpools {
                for &learning_rate in learning_rates {
                    points.push(ProbePoint { blocks, avgpool, learning_rate });
                }
            }
        }
        points
    }

    /// The study's grid of 16 points.
    pub fn study_grid() -> Vec<ProbePoint> {
        Self::grid(&BLOCKS, &AVGPOOLS, &CLASSIFICATION_LEARNING_RATES)
    }
}

impl fmt::Display for ProbePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let avgpool = if self.avgpool { "True" } else { "False" };
        write!(f, "linear:blocks={}:avgpool={avgpool}:lr={}", self.blocks, rate_text(self.learning_rate))
    }
}

impl FromStr for ProbePoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = |reason| Error::PointName { text: text.to_owned(), reason };
        let (mut blocks, mut avgpool, mut learning_rate) = (None, None, None);
        for (name, value) in fields(text)? {
            match name {
                "blocks" => blocks = Some(value.parse().map_err(|_| fail("blocks is no number"))?),
                "avgpool" => {
                    avgpool = Some(match value {
                        "True" | "true" => true,
                        "False" | "false" => false,
                        _ => return Err(fail("avgpool is neither True nor False")),
                    });
                }
                "lr" => learning_rate = Some(parse_rate(text, value)?),
                _ => return Err(fail("unknown field")),
            }
        }
        Ok(ProbePoint {
            blocks: blocks.ok_or_else(|| fail("no blocks"))?,
            avgpool: avgpool.ok_or_else(|| fail("no avgpool"))?,
            learning_rate: learning_rate.ok_or_else(|| fail("no lr"))?,
        })
    }
}

/// One point of the decoders' grid, `unet:lr=0_0010000000` in the reference's text.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DecoderPoint {
    /// Name of the decoder: `linear` or `unet`.
    pub decoder: String,
    /// Learning rate of the first step.
    pub learning_rate: f64,
}

impl fmt::Display for DecoderPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:lr={}", self.decoder, rate_text(self.learning_rate))
    }
}

impl FromStr for DecoderPoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let decoder = text.split(':').next().unwrap_or_default().to_owned();
        match fields(text)?[..] {
            [("lr", value)] => Ok(DecoderPoint { decoder, learning_rate: parse_rate(text, value)? }),
            _ => Err(Error::PointName { text: text.to_owned(), reason: "expected one field, lr" }),
        }
    }
}

/// Ten decimals, with `_` for the point.
fn rate_text(rate: f64) -> String {
    format!("{rate:.10}").replace('.', "_")
}

fn parse_rate(text: &str, value: &str) -> Result<f64> {
    match value.replace('_', ".").parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err(Error::PointName { text: text.to_owned(), reason: "lr is no number" }),
    }
}

/// The `name=value` parts after the first part, which is the head's name.
fn fields(text: &str) -> Result<Vec<(&str, &str)>> {
    let parts = text.split(':').skip(1).map(|part| {
        part.split_once('=').ok_or_else(|| Error::PointName { text: text.to_owned(), reason: "a part without `=`" })
    });
    parts.collect()
}

/// The index of the first largest score that is a number; `None` if there is none.
///
/// The study's rule for the winner of a search: on equal scores the first point wins.
pub fn first_best(scores: &[f64]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, score) in scores.iter().enumerate() {
        if !score.is_nan() && best.is_none_or(|b| *score > scores[b]) {
            best = Some(i);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_best_ignores_nan_and_may_be_zero() {
        assert_eq!(first_best(&[f64::NAN, 0.0, 0.0]), Some(1));
        assert_eq!(first_best(&[0.5, 0.7, 0.7]), Some(1));
        assert_eq!(first_best(&[f64::NAN]), None);
    }

    #[test]
    fn damaged_names_are_errors() {
        for text in ["", "linear", "linear:blocks=1", "linear:blocks=x:avgpool=True:lr=1_0", "linear:lr=nan", "u:lr"] {
            assert!(text.parse::<ProbePoint>().is_err(), "{text}");
        }
        assert!("unet:lr=inf".parse::<DecoderPoint>().is_err());
    }
}
