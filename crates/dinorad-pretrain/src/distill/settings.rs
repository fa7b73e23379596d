//! What a distillation is told.

use serde::{Deserialize, Serialize};

use crate::{Augmentation, Error, Result};

/// How far tokens are from the teacher's: `cosine · (1 - cos) + smooth · mean(smooth L1)`, times `weight`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenWeights {
    /// Weight among the losses.
    pub weight: f64,
    /// Weight of one minus the cosine.
    pub cosine: f64,
    /// Weight of the smooth L1 distance.
    pub smooth: f64,
}

impl Default for TokenWeights {
    fn default() -> Self {
        Self { weight: 1.0, cosine: 0.9, smooth: 0.1 }
    }
}

/// A distillation, but for its images, its teacher and its student.
///
/// # Source
/// Ranzinger et al. 2023, AM-RADIO, arXiv:2312.06709: cosine for the summary token, 0.9 of the cosine and 0.1 of the
/// smooth L1 distance for patch tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillSettings {
    /// Seed of the projections, of an untrained student, and of all that is drawn.
    pub seed: u64,
    /// Steps in all.
    pub steps: usize,
    /// Views of a step.
    pub batch_size: usize,
    /// Views of an image that the teacher looks at.
    pub views: usize,
    /// Side of a view in patches, the same for teacher and student.
    pub grid: usize,
    /// Least and largest share of the image's area in a view.
    pub scale: (f64, f64),
    /// What else varies between views.
    pub augmentation: Augmentation,
    /// Class tokens.
    pub class: TokenWeights,
    /// Patch tokens.
    pub patches: TokenWeights,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Share of the steps in which it rises; then it falls as a cosine.
    pub warm_up: f64,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// Longest gradient; 0 for any.
    pub clip: f64,
    /// Factor of the learning rate for every block that lies behind.
    pub layer_decay: f64,
    /// Probability that the last block's residual branches are dropped, falling to 0 at the first block.
    pub drop_path: f64,
    /// Whether a block's input alone is kept and the rest computed again for the backward pass.
    pub recompute: bool,
}

impl Default for DistillSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 10_000,
            batch_size: 32,
            views: 4,
            grid: 16,
            scale: (0.4, 1.0),
            augmentation: Augmentation::default(),
            class: TokenWeights { cosine: 1.0, smooth: 0.0, ..TokenWeights::default() },
            patches: TokenWeights::default(),
            learning_rate: 1e-3,
            warm_up: 0.05,
            weight_decay: 0.05,
            clip: 1.0,
            layer_decay: 1.0,
            drop_path: 0.0,
            recompute: false,
        }
    }
}

impl DistillSettings {
    /// # Errors
    /// [`Error::Parameter`] naming the first setting out of range.
    pub fn check(&self) -> Result<()> {
        for (name, v, most) in [
            ("steps", self.steps, usize::MAX),
            ("batch_size", self.batch_size, 1 << 16),
            ("views", self.views, 1 << 16),
            ("grid", self.grid, 256),
        ] {
            if v == 0 || v > most {
                return Err(Error::parameter(name, format!("1 to {most}"), v));
            }
        }
        self.augmentation.check()?;
        if !(self.scale.0 > 0.0 && self.scale.0 <= self.scale.1 && self.scale.1 <= 1.0) {
            let got = format!("({}, {})", self.scale.0, self.scale.1);
            return Err(Error::parameter("scale", "two shares in order, above 0 and at most 1", got));
        }
        let numbers = [self.class, self.patches].map(|t| [t.weight, t.cosine, t.smooth]);
        for v in numbers.iter().flatten().chain(&[self.weight_decay, self.clip]) {
            if !(v.is_finite() && *v >= 0.0) {
                return Err(Error::parameter("weights, weight_decay, clip", "numbers from 0", v));
            }
        }
        for (name, v) in [("learning_rate", self.learning_rate), ("layer_decay", self.layer_decay)] {
            if !(v.is_finite() && v > 0.0) {
                return Err(Error::parameter(name, "a number above 0", v));
            }
        }
        if !(0.0..=1.0).contains(&self.warm_up) || !(0.0..1.0).contains(&self.drop_path) {
            let got = format!("{}, {}", self.warm_up, self.drop_path);
            return Err(Error::parameter("warm_up, drop_path", "0 to 1", got));
        }
        Ok(())
    }
}
