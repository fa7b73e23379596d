//! Learning rates over time.

use crate::{Result, error::parameter};

/// Cosine decay from `base` at step 0 to `floor` at step `total`, without restarts.
///
/// After `total` it stays at `floor`.
///
/// # Examples
/// ```
/// use dinorad_nn::cosine_lr;
/// assert_eq!(cosine_lr(0.1, 0.0, 0, 10), 0.1);
/// assert!(cosine_lr(0.1, 0.0, 10, 10) == 0.0);
/// ```
///
/// # Source
/// PyTorch's `CosineAnnealingLR`: `floor + (base - floor) (1 + cos(pi t / T)) / 2`.
pub fn cosine_lr(base: f64, floor: f64, step: usize, total: usize) -> f64 {
    if step >= total {
        return floor;
    }
    floor + (base - floor) * (1.0 + (std::f64::consts::PI * step as f64 / total as f64).cos()) / 2.0
}

/// What learning rates do after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// They stay.
    Constant,
    /// They fall as a cosine to the floor at the last step.
    #[default]
    Cosine,
}

/// The share of its learning rate that every group has at a step: a linear warm-up, then a decay.
///
/// # Examples
/// ```
/// use dinorad_nn::{Course, Schedule};
/// let schedule = Schedule { total: 110, warm_up: 10, course: Course::Cosine, floor: 0.0 };
/// assert_eq!(schedule.share(0), 0.1);
/// assert_eq!(schedule.share(10), 1.0);
/// assert!((schedule.share(60) - 0.5).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// Steps of the whole training.
    pub total: usize,
    /// Steps until the whole rate is reached: the first step has `1 / warm_up` of it.
    pub warm_up: usize,
    /// What follows.
    pub course: Course,
    /// The share at the end of a decay.
    pub floor: f64,
}

impl Schedule {
    /// The rates as they are for `total` steps.
    pub fn constant(total: usize) -> Self {
        Self { total, warm_up: 0, course: Course::Constant, floor: 0.0 }
    }

    /// A cosine to 0 over `total` steps.
    pub fn cosine(total: usize) -> Self {
        Self { course: Course::Cosine, ..Self::constant(total) }
    }

    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for no steps, a floor outside of 0..1, and a warm-up
    /// longer than the training.
    pub fn check(&self) -> Result<()> {
        if self.total == 0 {
            return Err(parameter("steps", 0, "at least 1"));
        }
        if self.warm_up > self.total {
            return Err(parameter("warm-up steps", self.warm_up, "at most the steps of the training"));
        }
        if !(0.0..=1.0).contains(&self.floor) {
            return Err(parameter("floor of the schedule", self.floor, "0 to 1"));
        }
        Ok(())
    }

    /// The share at `step`, which counts from 0.
    pub fn share(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return (step + 1) as f64 / self.warm_up as f64;
        }
        match self.course {
            Course::Constant => 1.0,
            Course::Cosine => cosine_lr(1.0, self.floor, step - self.warm_up, self.total - self.warm_up),
        }
    }
}

/// The share of the learning rate of block `index` (0 is what stands before the blocks, `depth + 1` what
/// stands behind them): `decay` for every block that lies behind it.
///
/// # Source
/// BEiT's and DINOv2's layer-wise decay: `decay^(depth + 1 - index)`.
pub fn layer_decay(decay: f64, index: usize, depth: usize) -> f64 {
    decay.powi((depth + 1).saturating_sub(index) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_rises_and_a_decay_falls() {
        let s = Schedule { total: 20, warm_up: 4, course: Course::Cosine, floor: 0.1 };
        let shares: Vec<f64> = (0..=20).map(|i| s.share(i)).collect();
        assert_eq!(shares[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert!(shares[4..].windows(2).all(|w| w[1] < w[0] + 1e-15));
        assert!((shares[20] - 0.1).abs() < 1e-12);
        assert_eq!(Schedule::constant(3).share(2), 1.0);
        assert!(Schedule { total: 3, warm_up: 4, ..s }.check().is_err());
        assert!(Schedule::constant(0).check().is_err());
    }

    #[test]
    fn layers_decay_from_behind() {
        assert_eq!(layer_decay(0.5, 13, 12), 1.0);
        assert_eq!(layer_decay(0.5, 12, 12), 0.5);
        assert_eq!(layer_decay(0.5, 0, 2), 0.125);
    }
}
