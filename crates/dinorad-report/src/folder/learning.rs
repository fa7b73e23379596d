//! How a training went, as a run keeps it.

use dinorad_core::method::{Learning, Period};
use serde::{Deserialize, Serialize};

/// Losses that are kept of a training: a page shows no more.
const POINTS: usize = 200;

/// Losses and scores of one training, by the number of steps or epochs before them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    /// The setting that was trained.
    pub label: String,
    /// What it is counted in: `step` or `epoch`.
    pub by: String,
    /// Training losses; of a long training the means of stretches, each at its end.
    pub losses: Vec<(f64, f64)>,
    /// Scores on validation, where there were any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<(f64, f64)>,
    /// Whether it is the one that was chosen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chosen: bool,
}

impl LearningCurve {
    /// Of a setting's training.
    pub fn new(label: impl Into<String>, of: &Learning, chosen: bool) -> Self {
        let stretch = of.losses.len().div_ceil(POINTS).max(1);
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let ends = |i: usize, part: &[f64]| (i * stretch + part.len()) as f64;
        Self {
            label: label.into(),
            by: match of.by {
                Period::Step => "step".to_owned(),
                Period::Epoch => "epoch".to_owned(),
            },
            losses: of.losses.chunks(stretch).enumerate().map(|(i, part)| (ends(i, part), mean(part))).collect(),
            scores: of.scores.iter().map(|(at, score)| (*at as f64, *score)).collect(),
            chosen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_trainings_are_kept_in_stretches() {
        let losses: Vec<f64> = (0..450).map(f64::from).collect();
        let of = Learning { by: Period::Step, losses, scores: vec![(45, 0.5), (450, 0.9)] };
        let curve = LearningCurve::new("lr 0.1", &of, true);
        assert_eq!((curve.losses.len(), curve.losses[0], curve.losses[149]), (150, (3.0, 1.0), (450.0, 448.0)));
        assert_eq!((curve.by.as_str(), curve.scores.as_slice()), ("step", [(45.0, 0.5), (450.0, 0.9)].as_slice()));

        let uneven = Learning { by: Period::Epoch, losses: vec![1.0; 201], scores: Vec::new() };
        let curve = LearningCurve::new("lr 0.1", &uneven, false);
        assert_eq!(
            (curve.losses.len(), curve.losses.last()),
            (101, Some(&(201.0, 1.0))),
            "the last stretch is shorter"
        );
    }
}
