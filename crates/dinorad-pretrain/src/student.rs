//! What is trained: an encoder and its heads.

use std::collections::BTreeMap;

use candle::{DType, Tensor};
use dinorad_backbone::{Backbone, Dinov2, Layout, PositionResampling};
use dinorad_nn::{
    Trainable,
    optim::{Algorithm, Group, Optimizer},
    parameters,
};

use crate::{DinoHead, Error, Result, Settings, decays, rate_of_depth};

/// An encoder with heads for class tokens and, where they do not share it, for patches.
#[derive(Debug)]
pub struct Student {
    /// The encoder.
    pub encoder: Dinov2,
    /// The head of class tokens.
    pub head: DinoHead,
    /// The head of masked patches, where they have one of their own.
    pub patch_head: Option<DinoHead>,
}

parameters!(Student { encoder: "encoder", head: "dino_head", patch_head: "ibot_head" });

/// Beginnings of names: the parts whose gradients are limited one by one.
pub(crate) const PARTS: [&str; 3] = ["encoder.", "dino_head.", "ibot_head."];

impl Student {
    /// An encoder with untrained heads; all of it trains but for the lengths of prototypes.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings out of range, or an encoder in another precision than f32.
    pub fn new(encoder: Dinov2, settings: &Settings) -> Result<Self> {
        if encoder.dtype() != DType::F32 {
            return Err(Error::parameter("precision of the encoder", "f32", format!("{:?}", encoder.dtype())));
        }
        let mut encoder = trainable(&encoder)?;
        dinorad_backbone::tuning::TrainableBackbone::set_drop_path(&mut encoder, settings.drop_path)?;
        encoder.vit_mut().set_recompute(settings.recompute);
        let (dim, device) = (encoder.config().embed_dim, encoder.device().clone());
        let head = |config, name| DinoHead::new(config, dim, settings.seed, name, &device);
        let (class, patch) = (head(&settings.head, "dino_head")?, &settings.patch_head);
        let patch_head = patch.as_ref().map(|config| head(config, "ibot_head")).transpose()?;
        let mut student = Student { encoder, head: class, patch_head };
        student.train_only(&mut |name| !name.ends_with("weight_g"))?;
        Ok(student)
    }

    /// The head of masked patches: its own or that of class tokens.
    pub fn head_of_patches(&self) -> &DinoHead {
        self.patch_head.as_ref().unwrap_or(&self.head)
    }

    /// AdamW over all that trains, and how each of its groups moves.
    pub(crate) fn optimizer(&self, settings: &Settings) -> Result<(Optimizer, Vec<Motion>)> {
        let mut groups: Vec<(Motion, Group)> = Vec::new();
        for (name, var) in self.variables()? {
            let motion = self.motion(&name, settings);
            let at = groups.iter().position(|(of, _)| *of == motion).unwrap_or_else(|| {
                groups.push((motion, Group::new(BTreeMap::new(), 0.0)));
                groups.len() - 1
            });
            groups[at].1.variables.insert(name, var);
        }
        let (motions, groups) = groups.into_iter().unzip();
        Ok((Optimizer::new(Algorithm::ADAMW, groups)?, motions))
    }

    fn motion(&self, name: &str, settings: &Settings) -> Motion {
        let rate = match name.strip_prefix("encoder.") {
            None => 1.0,
            Some(inner) => {
                let patches = if inner.starts_with("patch_embed") { settings.patch_embed_rate } else { 1.0 };
                rate_of_depth(&self.encoder, inner, settings.layer_decay) * patches
            }
        };
        Motion { rate, decays: decays(name), last_layer: DinoHead::is_last_layer(name) }
    }
}

/// How parameters of a group move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Motion {
    /// Factor of the learning rate.
    pub(crate) rate: f64,
    /// Whether weight decay acts.
    pub(crate) decays: bool,
    /// Whether they are held for the first steps.
    pub(crate) last_layer: bool,
}

/// The same encoder with a mask token, and positions resampled as a Hugging Face folder of it will: what comes out
/// is then what was trained.
pub(crate) fn trainable(encoder: &Dinov2) -> Result<Dinov2> {
    let mut config = encoder.config().clone();
    config.positions = if config.registers > 0 { PositionResampling::ANTIALIASED } else { PositionResampling::EXACT };
    let mut tensors = copies(encoder.to_layout(Layout::Official)?)?;
    if !tensors.contains_key("mask_token") {
        tensors.insert("mask_token".into(), Tensor::zeros((1, config.embed_dim), DType::F32, encoder.device())?);
    }
    Ok(Dinov2::from_tensors(&config, encoder.spec().clone(), tensors)?)
}

/// Tensors with storage of their own.
pub(crate) fn copies(tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    tensors.into_iter().map(|(name, t)| Ok((name, t.detach().contiguous()?.copy()?))).collect()
}
