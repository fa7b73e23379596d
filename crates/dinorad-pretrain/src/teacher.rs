//! What the student learns from: a moving average of itself.

use std::collections::BTreeMap;

use candle::{Device, Tensor};
use dinorad_backbone::{Backbone, BackboneSpec, Dinov2, Dinov2Config, Patches, Request, tuning::TrainableBackbone};
use dinorad_nn::{Pass, Trainable, ops};

use crate::{DinoHead, Error, Masks, Result, Student, student::copies};

/// An average of a student's weights. It has no variables, so no gradient can reach it.
#[derive(Debug)]
pub(crate) struct Teacher {
    config: Dinov2Config,
    spec: BackboneSpec,
    /// Weights of the encoder by their names; written in place, so that they are in no encoder for longer than a step,
    /// which might keep what it made of them.
    encoder: BTreeMap<String, Tensor>,
    head: DinoHead,
    patch_head: Option<DinoHead>,
}

/// What the teacher says of a batch.
#[derive(Debug)]
pub(crate) struct Said {
    /// Class tokens of the large crops, `(crops · b, dim)`.
    pub(crate) tokens: Tensor,
    /// Scores of the class tokens' prototypes, `(crops · b, prototypes)`.
    pub(crate) class: Tensor,
    /// The same of masked patches, if there are any, `(m, prototypes)`.
    pub(crate) patches: Option<Tensor>,
}

impl Teacher {
    /// A copy of a student.
    pub(crate) fn new(student: &Student) -> Result<Self> {
        let frozen = |head: &DinoHead| -> Result<DinoHead> {
            let mut head = head.clone();
            head.visit_mut("", &mut |_, t| {
                *t = t.detach().copy()?;
                Ok(())
            })?;
            Ok(head)
        };
        Ok(Self {
            config: student.encoder.config().clone(),
            spec: student.encoder.spec().clone(),
            encoder: copies(student.encoder.tensors())?,
            head: frozen(&student.head)?,
            patch_head: student.patch_head.as_ref().map(frozen).transpose()?,
        })
    }

    /// The encoder as it is now, sharing the weights: for a step, or to be written.
    pub(crate) fn encoder(&self) -> Result<Dinov2> {
        Ok(Dinov2::from_tensors(&self.config, self.spec.clone(), self.encoder.clone())?)
    }

    /// Scores of a batch's large crops, by the kernels for inference.
    pub(crate) fn say(&self, global: &Tensor, masks: &Masks) -> Result<Said> {
        let encoder = self.encoder()?;
        let packed = encoder.packed()?;
        let fast: &dyn Backbone = match &packed {
            Some(engine) => engine,
            None => &encoder,
        };
        let rows = masks.rows(0);
        let want = if rows.is_empty() { Patches::None } else { Patches::Tokens };
        let features = fast.forward(global, &Request::last(1).with_patches(want))?;
        let last = features.last()?;
        let patches = match last.patches.as_ref().filter(|_| !rows.is_empty()) {
            Some(patches) => {
                let head = self.patch_head.as_ref().unwrap_or(&self.head);
                Some(head.forward(&ops::take_rows(patches, &rows)?, Pass::Inference)?)
            }
            None => None,
        };
        Ok(Said { tokens: last.cls.clone(), class: self.head.forward(&last.cls, Pass::Inference)?, patches })
    }

    /// Moves towards the student; of itself the share `kept` stays.
    pub(crate) fn follow(&mut self, student: &Student, kept: f64) -> Result<()> {
        let towards = student.tensors();
        self.visit_mut(&mut |name, t| {
            let Some(to) = towards.get(name) else {
                return Err(dinorad_nn::Error::State { reason: format!("the student has no `{name}`") });
            };
            if !ops::average_step(t, &to.detach(), kept)? {
                *t = ((&*t * kept)? + (to.detach() * (1.0 - kept))?)?;
            }
            Ok(())
        })
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>) -> Result<()> {
        for (name, t) in &mut self.encoder {
            f(&format!("encoder.{name}"), t)?;
        }
        self.head.visit_mut("dino_head", f)?;
        self.patch_head.visit_mut("ibot_head", f)?;
        Ok(())
    }

    /// All weights by the student's names; they share their storage.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut out: BTreeMap<String, Tensor> =
            self.encoder.iter().map(|(name, t)| (format!("encoder.{name}"), t.clone())).collect();
        let mut take = |name: &str, t: &Tensor| drop(out.insert(name.to_owned(), t.clone()));
        self.head.visit("dino_head", &mut take);
        self.patch_head.visit("ibot_head", &mut take);
        out
    }

    /// Takes weights back.
    pub(crate) fn set(&mut self, values: &BTreeMap<String, Tensor>, device: &Device) -> Result<()> {
        let mut taken = 0;
        self.visit_mut(&mut |name, t| {
            let value = values.get(name).filter(|v| v.dims() == t.dims());
            let value =
                value.ok_or_else(|| dinorad_nn::Error::State { reason: format!("no `{name}` of its shape") })?;
            *t = value.to_device(device)?.to_dtype(t.dtype())?.copy()?;
            taken += 1;
            Ok(())
        })?;
        match taken == values.len() {
            true => Ok(()),
            false => Err(Error::Nn(dinorad_nn::Error::State { reason: "it has weights of another teacher".into() })),
        }
    }
}
