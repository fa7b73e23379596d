//! A number that changes from step to step.

use dinorad_nn::cosine_lr;

/// Frozen at 0, then a linear warm-up, then a cosine to the end.
///
/// # Examples
/// ```
/// use dinorad_pretrain::CosineSchedule;
/// let rate = CosineSchedule { warm_up: 3, ..CosineSchedule::new(1.0, 0.0, 13) };
/// assert_eq!([0, 1, 2, 3].map(|step| rate.value(step)), [0.0, 0.5, 1.0, 1.0]);
/// assert!((rate.value(8) - 0.5).abs() < 1e-12);
/// assert_eq!(rate.value(13), 0.0);
/// ```
///
/// # Source
/// DINOv2's `CosineScheduler`. Unlike [`dinorad_nn::Schedule`], whose first step already has a share, its warm-up
/// begins at `start` itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosineSchedule {
    /// Where the warm-up ends and the cosine begins.
    pub base: f64,
    /// Where the cosine ends, and what follows the last step.
    pub end: f64,
    /// Steps in all.
    pub total: usize,
    /// Steps of the warm-up, its two ends among them.
    pub warm_up: usize,
    /// Where the warm-up begins.
    pub start: f64,
    /// Steps at 0 before anything else.
    pub frozen: usize,
}

impl CosineSchedule {
    /// A cosine from `base` to `end` in `total` steps.
    pub fn new(base: f64, end: f64, total: usize) -> Self {
        Self { base, end, total, warm_up: 0, start: 0.0, frozen: 0 }
    }

    /// The value at `step`, which counts from 0.
    pub fn value(&self, step: usize) -> f64 {
        if step >= self.total {
            return self.end;
        }
        if step < self.frozen {
            return 0.0;
        }
        let step = step - self.frozen;
        if step < self.warm_up {
            let share = if self.warm_up > 1 { step as f64 / (self.warm_up - 1) as f64 } else { 0.0 };
            return self.start + (self.base - self.start) * share;
        }
        let length = self.total.saturating_sub(self.warm_up + self.frozen);
        cosine_lr(self.base, self.end, step - self.warm_up, length)
    }
}
