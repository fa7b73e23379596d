//! How long a training will take and how much memory, before it takes them.

use dinorad_backbone::Dinov2Config;
use dinorad_pretrain::{Settings, distill::DistillSettings};

use crate::{Error, Result, finetune::widths_kept, memory};

/// An estimate made before the first step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingPlan {
    /// Bytes of weights, gradients, moments and averages.
    pub weights: f64,
    /// Bytes that one image or view of a batch needs.
    pub image: f64,
    /// Images or views of a batch.
    pub batch: usize,
    /// Bytes that are free, where the system tells.
    pub free: Option<f64>,
}

/// Values of all parameters.
fn parameters(config: &Dinov2Config) -> f64 {
    config.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>() as f64).sum()
}

/// Bytes that the backward pass needs of one image of so many pixels.
fn kept(config: &Dinov2Config, side: usize, drop_path: f64, recompute: bool) -> f64 {
    let tokens = (side / config.patch.max(1)).pow(2) + config.prefix_tokens();
    let width = (tokens * config.embed_dim) as f64 * 4.0;
    let (widths, depth) = (widths_kept(drop_path), config.depth as f64);
    if recompute { width * (depth + 2.0 + widths) } else { width * depth * widths }
}

impl TrainingPlan {
    /// Of a pre-training at its full size.
    pub fn of_pretraining(settings: &Settings, config: &Dinov2Config) -> Self {
        let (head, views) = (&settings.head, &settings.views);
        let maps = head.hidden * (config.embed_dim + head.bottleneck + head.hidden * head.layers.saturating_sub(2));
        let heads = if settings.patch_head.is_some() { 2.0 } else { 1.0 };
        let all = parameters(config) + heads * (maps + head.prototypes * head.bottleneck) as f64;
        let of = |side| kept(config, side, settings.drop_path, settings.recompute);
        let (global, local) = (views.global as f64 * of(views.global_size), views.local as f64 * of(views.local_size));
        let patches = (views.global_size / config.patch.max(1)).pow(2) as f64;
        let masked = views.global as f64 * patches * settings.masking.probability * settings.masking.ratio.1;
        // scores, what they are to be, and their gradient, of class tokens and masked patches
        let scores = (views.global as f64 + masked) * head.prototypes as f64 * 4.0 * 4.0;
        let pixels =
            3.0 * 4.0 * 2.0 * (views.global * views.global_size.pow(2) + views.local * views.local_size.pow(2)) as f64;
        // student, gradient, two moments, teacher, and the teacher packed
        Self {
            weights: 6.0 * 4.0 * all,
            image: global.max(local) + scores + pixels,
            batch: settings.batch_size,
            free: memory::free(),
        }
    }

    /// Of a distillation, its teacher aside.
    pub fn of_distillation(settings: &DistillSettings, config: &Dinov2Config, width: usize) -> Self {
        let side = settings.grid * config.patch;
        let tokens = (settings.grid.pow(2) * width) as f64 * 4.0;
        Self {
            weights: 4.0 * 4.0 * (parameters(config) + 2.0 * (width * config.embed_dim) as f64),
            image: kept(config, side, settings.drop_path, settings.recompute)
                + 4.0 * tokens
                + 24.0 * (side * side) as f64,
            batch: settings.batch_size,
            free: memory::free(),
        }
    }

    /// The whole of it, in bytes.
    pub fn total(&self) -> f64 {
        self.weights + self.image * self.batch as f64
    }

    /// # Errors
    /// [`Error::Unfit`] where it is more than there is, with what would fit.
    pub fn fits(&self) -> Result<()> {
        let Some(free) = self.free.filter(|free| self.total() > 0.95 * free) else { return Ok(()) };
        let gib = |bytes: f64| format!("{:.1} GiB", bytes / f64::from(1 << 30));
        let batch = ((0.9 * free - self.weights) / self.image.max(1.0)).floor();
        let help = if batch >= 1.0 {
            format!("--batch-size {batch} fits, and so may --recompute, more slowly")
        } else {
            "a smaller encoder, smaller crops or fewer prototypes need less".to_owned()
        };
        Err(Error::unfit(format!("about {} would be needed and {} are free: {help}", gib(self.total()), gib(free))))
    }
}
