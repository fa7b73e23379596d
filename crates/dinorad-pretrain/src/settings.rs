//! What a pre-training is told.

use serde::{Deserialize, Serialize};

use crate::{Augmentation, Centring, CosineSchedule, Error, HeadConfig, Limits, Masking, Result, Views};

/// Temperature of the teacher: it rises while the features are still poor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherTemperature {
    /// At the first step.
    pub start: f64,
    /// After the warm-up.
    pub end: f64,
    /// Share of the steps in which it rises.
    pub warm_up: f64,
}

impl Default for TeacherTemperature {
    fn default() -> Self {
        Self { start: 0.04, end: 0.07, warm_up: 0.3 }
    }
}

/// How much each loss counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// Class tokens against the teacher's.
    pub dino: f64,
    /// Masked patches against the teacher's.
    pub ibot: f64,
    /// Spread of class tokens.
    pub koleo: f64,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self { dino: 1.0, ibot: 1.0, koleo: 0.1 }
    }
}

/// A pre-training, but for its images and its encoder. Defaults are DINOv2's where nothing else is said.
///
/// # Examples
/// ```
/// use dinorad_pretrain::{HeadConfig, Settings, Views};
/// let settings = Settings {
///     steps: 2000,
///     batch_size: 32,
///     views: Views { local: 4, full_size_from: 0.75, ..Views::default() },
///     head: HeadConfig { prototypes: 1024, ..HeadConfig::default() },
///     ..Settings::default()
/// };
/// settings.check(14)?;
/// assert!((settings.learning_rate() - 0.004 * (32f64 / 1024.0).sqrt()).abs() < 1e-12);
/// # Ok::<(), dinorad_pretrain::Error>(())
/// ```
///
/// # Source
/// Oquab et al. 2023, arXiv:2304.07193; `ssl_default_config.yaml` of facebookresearch/dinov2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of heads, of an untrained encoder, and of all that is drawn.
    pub seed: u64,
    /// Steps in all.
    pub steps: usize,
    /// Images of a step.
    pub batch_size: usize,
    /// Crops.
    pub views: Views,
    /// What varies between them.
    pub augmentation: Augmentation,
    /// Masked patches.
    pub masking: Masking,
    /// The head of class tokens.
    pub head: HeadConfig,
    /// The head of masked patches; without, they share that of class tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_head: Option<HeadConfig>,
    /// What keeps the teacher from collapsing.
    pub centring: Centring,
    /// Temperature of the student.
    pub student_temperature: f64,
    /// Temperature of the teacher.
    pub teacher_temperature: TeacherTemperature,
    /// Share of the teacher's weights that stays at a step, at the first and after the last one.
    pub momentum: (f64, f64),
    /// Largest learning rate; by default 0.004 · √(batch / 1024).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Learning rate after the last step.
    pub final_learning_rate: f64,
    /// Share of the steps in which the learning rate rises.
    pub warm_up: f64,
    /// Weight decay at the first and after the last step.
    pub weight_decay: (f64, f64),
    /// Share of the steps for which prototypes stay as they are.
    pub freeze_last_layer: f64,
    /// Longest gradient of the encoder, and of each head; 0 for any.
    pub clip: f64,
    /// Factor of the learning rate for every block that lies behind.
    pub layer_decay: f64,
    /// Another factor for the patch projection.
    pub patch_embed_rate: f64,
    /// Probability that the last block's residual branches are dropped, falling to 0 at the first block.
    pub drop_path: f64,
    /// Whether a block's input alone is kept and the rest computed again for the backward pass.
    pub recompute: bool,
    /// How much each loss counts.
    pub losses: LossWeights,
    /// When a training counts as dead.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 10_000,
            batch_size: 32,
            views: Views::default(),
            augmentation: Augmentation::default(),
            masking: Masking::default(),
            head: HeadConfig::default(),
            patch_head: None,
            centring: Centring::default(),
            student_temperature: 0.1,
            teacher_temperature: TeacherTemperature::default(),
            momentum: (0.992, 1.0),
            learning_rate: None,
            final_learning_rate: 1e-6,
            warm_up: 0.1,
            weight_decay: (0.04, 0.4),
            freeze_last_layer: 0.01,
            clip: 3.0,
            layer_decay: 0.9,
            patch_embed_rate: 0.2,
            drop_path: 0.0,
            recompute: false,
            losses: LossWeights::default(),
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Parameter`] naming the first setting out of range.
    pub fn check(&self, patch: usize) -> Result<()> {
        let count = |name, v: usize| if v > 0 { Ok(()) } else { Err(Error::parameter(name, "at least 1", v)) };
        count("steps", self.steps)?;
        count("batch_size", self.batch_size)?;
        self.views.check(patch)?;
        self.augmentation.check()?;
        self.masking.check()?;
        self.head.check()?;
        self.patch_head.map_or(Ok(()), |head| head.check())?;
        self.centring.check()?;
        self.limits.check()?;
        let share = |name, v: f64| match (0.0..=1.0).contains(&v) {
            true => Ok(()),
            false => Err(Error::parameter(name, "0 to 1", v)),
        };
        share("warm_up", self.warm_up)?;
        share("teacher_temperature.warm_up", self.teacher_temperature.warm_up)?;
        share("freeze_last_layer", self.freeze_last_layer)?;
        share("momentum", self.momentum.0)?;
        share("momentum", self.momentum.1)?;
        share("patch_embed_rate", self.patch_embed_rate)?;
        if !(0.0..1.0).contains(&self.drop_path) {
            return Err(Error::parameter("drop_path", "0 to below 1", self.drop_path));
        }
        for (name, v) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature.start", self.teacher_temperature.start),
            ("teacher_temperature.end", self.teacher_temperature.end),
            ("layer_decay", self.layer_decay),
            ("learning_rate", self.learning_rate()),
        ] {
            if !(v.is_finite() && v > 0.0) {
                return Err(Error::parameter(name, "a number above 0", v));
            }
        }
        for (name, v) in [
            ("clip", self.clip),
            ("final_learning_rate", self.final_learning_rate),
            ("weight_decay", self.weight_decay.0),
            ("weight_decay", self.weight_decay.1),
            ("losses.dino", self.losses.dino),
            ("losses.ibot", self.losses.ibot),
            ("losses.koleo", self.losses.koleo),
        ] {
            if !(v.is_finite() && v >= 0.0) {
                return Err(Error::parameter(name, "a number from 0", v));
            }
        }
        Ok(())
    }

    /// The largest learning rate.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate.unwrap_or_else(|| 0.004 * (self.batch_size as f64 / 1024.0).sqrt())
    }

    fn share_of_steps(&self, share: f64) -> usize {
        ((self.steps as f64 * share).round() as usize).min(self.steps)
    }

    pub(crate) fn rate(&self) -> CosineSchedule {
        let warm_up = self.share_of_steps(self.warm_up);
        CosineSchedule { warm_up, ..CosineSchedule::new(self.learning_rate(), self.final_learning_rate, self.steps) }
    }

    /// The same schedule with its beginning at 0, as DINOv2 holds the last layer.
    pub(crate) fn rate_of_prototypes(&self, step: usize) -> f64 {
        if step < self.share_of_steps(self.freeze_last_layer) { 0.0 } else { self.rate().value(step) }
    }

    pub(crate) fn decay(&self) -> CosineSchedule {
        CosineSchedule::new(self.weight_decay.0, self.weight_decay.1, self.steps)
    }

    pub(crate) fn kept(&self) -> CosineSchedule {
        CosineSchedule::new(self.momentum.0, self.momentum.1, self.steps)
    }

    pub(crate) fn temperature(&self) -> CosineSchedule {
        let TeacherTemperature { start, end, warm_up } = self.teacher_temperature;
        CosineSchedule { start, warm_up: self.share_of_steps(warm_up), ..CosineSchedule::new(end, end, self.steps) }
    }

    /// Steps before the monitors may stop a training.
    pub(crate) fn grace(&self) -> usize {
        self.share_of_steps(self.limits.grace)
    }
}
