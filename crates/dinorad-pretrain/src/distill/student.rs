//! What learns: an encoder, and maps to the teacher's width.

use candle::{DType, Tensor};
use dinorad_backbone::{Backbone, Dinov2, Patches, Request, tuning::TrainableBackbone};
use dinorad_nn::{Linear, Pass, init, ops, parameters};

use super::{DistillBatch, DistillSettings};
use crate::{Error, Result, student::trainable};

/// An encoder with linear maps of its class and patch tokens to the teacher's width, which go when it has learned.
#[derive(Debug)]
pub struct DistillStudent {
    /// The encoder.
    pub encoder: Dinov2,
    class: Linear,
    patches: Linear,
}

parameters!(DistillStudent { encoder: "encoder", class: "class", patches: "patches" });

impl DistillStudent {
    /// An encoder with untrained maps to `width`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an encoder in another precision than f32.
    pub fn new(encoder: &Dinov2, width: usize, settings: &DistillSettings) -> Result<Self> {
        if encoder.dtype() != DType::F32 {
            return Err(Error::parameter("precision of the student", "f32", format!("{:?}", encoder.dtype())));
        }
        let mut encoder = trainable(encoder)?;
        encoder.set_drop_path(settings.drop_path)?;
        encoder.vit_mut().set_recompute(settings.recompute);
        let (dim, device) = (encoder.config().embed_dim, encoder.device().clone());
        let map = |name: &str| -> Result<Linear> {
            let weight = init::trunc_normal(settings.seed, &format!("{name}.weight"), (width, dim), 0.02, &device)?;
            Ok(Linear::new(weight, Some(Tensor::zeros(width, DType::F32, &device)?)))
        };
        Ok(Self { class: map("class")?, patches: map("patches")?, encoder })
    }

    /// How far the student's tokens of a batch are from the teacher's, a scalar.
    ///
    /// # Errors
    /// If shapes do not belong together.
    pub fn loss(&self, batch: &DistillBatch, settings: &DistillSettings, pass: Pass) -> Result<Tensor> {
        let wants_patches = settings.patches.weight > 0.0;
        let want = if wants_patches { Patches::Tokens } else { Patches::None };
        let features = self.encoder.forward(&batch.pixels, &Request::last(1).with_patches(want).with_pass(pass))?;
        let last = features.last()?;
        let class = self.class.forward(&last.cls, pass)?;
        let of_class = ops::row_distance(&class, &batch.class, settings.class.cosine, settings.class.smooth)?;
        let mut loss = (of_class * settings.class.weight)?;
        if let Some(patches) = last.patches.as_ref().filter(|_| wants_patches) {
            let patches = self.patches.forward(patches, pass)?;
            let of = ops::row_distance(&patches, &batch.patches, settings.patches.cosine, settings.patches.smooth)?;
            loss = (loss + (of * settings.patches.weight)?)?;
        }
        Ok(loss)
    }
}
