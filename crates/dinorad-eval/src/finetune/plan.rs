//! How much memory a training will take, before it takes it.

use dinorad_backbone::{Backbone, Family};
use dinorad_nn::Trainable;

use super::{method::FinetuneMethod, model::Model};
use crate::{
    Error, Result, memory,
    probe::{CasePixels, Labelled},
};

/// Values held for a block, in widths of the encoder for every token: what the backward pass needs of attention,
/// both norms and the feed-forward network (four widths inside). Measured on ViT-S/14 at 224 pixels, in batches of
/// 8 and 16 (`dinorad finetune --backbone untrained:dinov2-small --steps 3` under `/usr/bin/time -v`): 89 MB more for
/// a case in full fine-tuning and 84 with LoRA, which is 19 widths.
const KEPT_WIDTHS: f64 = 20.0;
/// The same where residual branches can be dropped: then candle's own operations stand between the kernels'.
const KEPT_WIDTHS_DROPPING: f64 = 36.0;

/// Widths of a token that the backward pass needs of a block.
pub(crate) fn widths_kept(drop_path: f64) -> f64 {
    if drop_path > 0.0 { KEPT_WIDTHS_DROPPING } else { KEPT_WIDTHS }
}

/// An estimate of the most memory that a training holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryPlan {
    /// Weights: the encoder's own, those packed for inference, and the best so far of what trains.
    pub weights: f64,
    /// Gradients, moments and averages of what trains.
    pub training: f64,
    /// What the backward pass needs of one case.
    pub case: f64,
    /// Cases whose loss is computed at once.
    pub batch: usize,
    /// Whether blocks are computed again for the backward pass, where the encoder can.
    pub recompute: Option<bool>,
    /// Memory that is free, where the system tells it.
    pub free: Option<f64>,
}

impl MemoryPlan {
    pub(super) fn of(
        method: &FinetuneMethod,
        model: &Model,
        train: &Labelled,
        source: &dyn CasePixels,
    ) -> Result<Self> {
        let mut weights = 0.0;
        let mut trained = 0.0;
        let mut first = usize::MAX;
        let depth = model.encoder.spec().depth;
        model.visit("", &mut |name, t| {
            weights += t.elem_count() as f64 * 4.0;
            if method.rate(&*model.encoder, name, t.dims(), 1e-3).is_some() {
                trained += t.elem_count() as f64 * 4.0;
                if let Some(inner) = name.strip_prefix("encoder.") {
                    first = first.min(model.encoder.block_of(inner));
                }
            }
        });
        let Some(place) = train.places.first() else { return Err(Error::EmptySplit { split: "train" }) };
        let slices = source.pixels(*place, None)?;
        let spec = model.encoder.spec();
        let tokens = slices.first().map_or(0, |s| {
            let (_, h, w) = s.dim();
            (h / spec.patch.max(1)) * (w / spec.patch.max(1)) + spec.prefix_tokens
        });
        let seen = method.max_slices.map_or(slices.len(), |most| most.min(slices.len()));
        // blocks before the first one that trains keep nothing
        let blocks = if first == usize::MAX { 0 } else { depth.saturating_sub(first.saturating_sub(1)).min(depth) };
        let widths = widths_kept(method.drop_path);
        let one = match spec.patch {
            // a convolutional network: its maps, roughly, of every layer
            1 => slices.first().map_or(0.0, |s| s.len() as f64 * 4.0 * 120.0),
            _ => {
                let width = tokens as f64 * spec.embed_dim as f64 * 4.0;
                // the inputs of all blocks (and gradients of one), and what one block keeps while it is done again
                if method.recompute { width * (blocks as f64 + 2.0 + widths) } else { width * blocks as f64 * widths }
            }
        };
        let moments = if method.ema > 0.0 { 4.0 } else { 3.0 };
        Ok(Self {
            weights: 2.0 * weights + trained,
            training: trained * moments,
            case: one * seen as f64,
            batch: method.batch_size,
            recompute: (spec.patch > 1 && spec.family != Family::Sam).then_some(method.recompute),
            free: memory::free(),
        })
    }

    /// The whole of it.
    pub fn total(&self) -> f64 {
        self.weights + self.training + self.case * self.batch as f64
    }

    /// # Errors
    /// [`Error::Protocol`] where it is more than there is, with what would fit.
    pub fn fits(&self) -> Result<()> {
        let Some(free) = self.free.filter(|free| self.total() > 0.95 * free) else { return Ok(()) };
        let gib = |bytes: f64| format!("{:.1} GiB", bytes / f64::from(1 << 30));
        let left = 0.9 * free - self.weights - self.training;
        let batch = (left / self.case.max(1.0)).floor();
        let help = if batch >= 1.0 {
            let batch = batch as usize;
            let parts = self.batch.div_ceil(batch);
            let other = if self.recompute == Some(false) { ", and so does --recompute, more slowly" } else { "" };
            format!("--batch-size {batch} --accumulate {parts} makes the same steps in less memory{other}")
        } else if left > 0.0 {
            "fewer slices (--max-slices, --slice-step), a smaller --image-size or --method lora need less".into()
        } else {
            "--method lora or bitfit trains far fewer parameters".into()
        };
        let why = format!("about {} would be needed and {} are free: {help}", gib(self.total()), gib(free));
        Err(Error::Protocol { protocol: "fine-tuning", why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_what_would() {
        let gib = f64::from(1 << 30);
        let plan = MemoryPlan {
            weights: gib,
            training: gib,
            case: gib,
            batch: 16,
            recompute: Some(false),
            free: Some(8.0 * gib),
        };
        let why = plan.fits().unwrap_err().to_string();
        assert!(
            why.contains("18.0 GiB") && why.contains("--batch-size 5 --accumulate 4") && why.contains("--recompute"),
            "{why}"
        );
        assert!(MemoryPlan { batch: 4, ..plan }.fits().is_ok());
        assert!(MemoryPlan { free: None, ..plan }.fits().is_ok());
        let wide = MemoryPlan { case: 20.0 * gib, ..plan };
        assert!(wide.fits().unwrap_err().to_string().contains("--max-slices"));
        let heavy = MemoryPlan { training: 20.0 * gib, ..plan };
        assert!(heavy.fits().unwrap_err().to_string().contains("lora"));
    }
}
