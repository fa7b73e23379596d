//! Whether a training still learns to tell images apart.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// How the teacher spreads images over prototypes: all on one, or all the same on all, is the end.
    TeacherEntropy,
    /// How far the student's prototypes are from the teacher's: nothing left to learn is the end too.
    Divergence,
    /// Directions that class tokens use.
    EffectiveRank,
    /// Spread of class tokens.
    FeatureDeviation,
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Monitor::TeacherEntropy => "the teacher's entropy",
            Monitor::Divergence => "the divergence of student and teacher",
            Monitor::EffectiveRank => "the effective rank of class tokens",
            Monitor::FeatureDeviation => "the deviation of class tokens",
        })
    }
}

/// What the monitors read at a step; all of the teacher's class tokens of large crops.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Readings {
    /// Mean entropy of an image's probabilities, as a share of that of all prototypes alike.
    pub entropy: f64,
    /// Prototypes in use: the exponential of the entropy of the batch's mean probabilities.
    pub prototypes: f64,
    /// The same as a share of as many as there are images in the batch, or of all if there are fewer: images that are
    /// told apart use more than one each.
    pub used: f64,
    /// Mean Kullback-Leibler divergence of the student's probabilities from the teacher's, in nats.
    pub divergence: f64,
    /// [`effective_rank`](crate::effective_rank).
    pub effective_rank: f64,
    /// [`relative_deviation`](crate::relative_deviation).
    pub deviation: f64,
}

/// When a training counts as dead: a reading beyond its limit for `patience` steps in a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Share of the steps before anything is judged: an untrained encoder tells little apart.
    pub grace: f64,
    /// Steps in a row; 0 to only watch.
    pub patience: usize,
    /// Least [`Readings::used`].
    pub used: f64,
    /// Largest [`Readings::entropy`].
    pub entropy: f64,
    /// Least [`Readings::divergence`].
    pub divergence: f64,
    /// Least [`Readings::effective_rank`]; batches of fewer than 8 images are not judged by it.
    pub effective_rank: f64,
    /// Least [`Readings::deviation`].
    pub deviation: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            grace: 0.1,
            patience: 20,
            used: 0.4,
            entropy: 0.999,
            divergence: 1e-5,
            effective_rank: 1.5,
            deviation: 0.01,
        }
    }
}

/// Images below which the rank of their tokens says nothing.
const FEW: usize = 8;

impl Limits {
    pub(crate) fn check(&self) -> Result<()> {
        let numbers = [self.used, self.entropy, self.divergence, self.effective_rank, self.deviation];
        if let Some(wrong) = numbers.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
            return Err(Error::parameter("limits", "numbers from 0", wrong));
        }
        match (0.0..=1.0).contains(&self.grace) {
            true => Ok(()),
            false => Err(Error::parameter("limits.grace", "a share of the steps, 0 to 1", self.grace)),
        }
    }

    /// The monitors whose readings are beyond their limits, with what they read and what they would have to.
    pub fn beyond(&self, readings: &Readings, images: usize) -> Vec<(Monitor, f64, String)> {
        let least = |v: f64| format!("at least {v}");
        let mut out = Vec::new();
        // not `<`: a reading that is no number is beyond
        let mut judge = |fine: bool, monitor, value, limit: String| {
            if !fine {
                out.push((monitor, value, limit));
            }
        };
        let used = format!("{} of as many prototypes in use as there are images", least(self.used));
        let even = format!("at most {} of that of all prototypes alike", self.entropy);
        judge(readings.used >= self.used, Monitor::TeacherEntropy, readings.used, used);
        judge(readings.entropy <= self.entropy, Monitor::TeacherEntropy, readings.entropy, even);
        judge(readings.divergence >= self.divergence, Monitor::Divergence, readings.divergence, least(self.divergence));
        let rank = readings.effective_rank >= self.effective_rank || images < FEW;
        judge(rank, Monitor::EffectiveRank, readings.effective_rank, least(self.effective_rank));
        judge(
            readings.deviation >= self.deviation,
            Monitor::FeatureDeviation,
            readings.deviation,
            least(self.deviation),
        );
        out
    }
}

/// For how many steps in a row each monitor has been beyond its limit; part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watch(BTreeMap<Monitor, usize>);

impl Watch {
    /// Takes a step's readings down.
    ///
    /// # Errors
    /// [`Error::Collapsed`] once a monitor has been beyond its limit for too long.
    pub(crate) fn see(&mut self, limits: &Limits, readings: &Readings, images: usize, step: usize) -> Result<()> {
        let beyond = limits.beyond(readings, images);
        self.0.retain(|monitor, _| beyond.iter().any(|(m, ..)| m == monitor));
        let mut counted = Vec::new();
        for (monitor, value, limit) in beyond {
            if counted.contains(&monitor) {
                continue;
            }
            counted.push(monitor);
            let times = self.0.entry(monitor).or_default();
            *times += 1;
            if limits.patience > 0 && *times >= limits.patience {
                return Err(Error::Collapsed { monitor, value, limit, step });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Readings =
        Readings { entropy: 0.4, prototypes: 60.0, used: 1.9, divergence: 0.3, effective_rank: 12.0, deviation: 0.6 };

    #[test]
    fn each_way_to_collapse_is_named_after_its_patience() {
        let limits = Limits { patience: 3, ..Limits::default() };
        let ways = [
            (Monitor::TeacherEntropy, Readings { used: 0.1, ..FINE }),
            (Monitor::TeacherEntropy, Readings { entropy: 1.0, ..FINE }),
            (Monitor::Divergence, Readings { divergence: 0.0, ..FINE }),
            (Monitor::EffectiveRank, Readings { effective_rank: 1.0, ..FINE }),
            (Monitor::FeatureDeviation, Readings { deviation: f64::NAN, ..FINE }),
        ];
        for (monitor, bad) in ways {
            let mut watch = Watch::default();
            for (step, readings) in [bad, bad, FINE, bad, bad].iter().enumerate() {
                watch.see(&limits, readings, 32, step).unwrap();
            }
            match watch.see(&limits, &bad, 32, 5) {
                Err(Error::Collapsed { monitor: named, step: 5, .. }) => assert_eq!(named, monitor),
                other => panic!("{monitor}: {other:?}"),
            }
            let mut patient = Watch::default();
            (0..99).for_each(|step| patient.see(&Limits { patience: 0, ..limits }, &bad, 32, step).unwrap());
        }
        assert!(limits.beyond(&Readings { effective_rank: 1.0, ..FINE }, 4).is_empty());
    }
}
