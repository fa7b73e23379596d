//! Views, for the teacher once and for the student again and again.

use std::sync::Arc;

use candle::{Device, Tensor};
use dinorad_backbone::{BackboneSpec, Normalization};
use dinorad_core::rng;
use dinorad_transforms::{Filter, resize};
use ndarray::Array3;
use rayon::prelude::*;

use super::{DistillSettings, TeacherTokens};
use crate::{
    Error, Images, Result,
    batch::{normalised, order, purpose},
};

/// What a step learns from.
#[derive(Debug, Clone)]
pub struct DistillBatch {
    /// Views `(b, 3, side, side)`, normalised for the student.
    pub pixels: Tensor,
    /// The teacher's class tokens `(b, dim)`.
    pub class: Tensor,
    /// The teacher's patch tokens `(b, n, dim)`.
    pub patches: Tensor,
}

/// What an encoder wants its pixels to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Eye {
    pub(super) side: usize,
    normalization: Normalization,
}

/// Makes views of images, the same for the same number.
#[derive(Clone)]
pub struct DistillFeed {
    images: Arc<dyn Images>,
    settings: DistillSettings,
    pub(super) teacher: Eye,
    pub(super) student: Eye,
}

impl std::fmt::Debug for DistillFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DistillFeed").field("images", &self.images.len()).finish_non_exhaustive()
    }
}

impl DistillFeed {
    /// Of images, for two encoders.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings out of range, no images, or an encoder without patches.
    pub fn new(
        images: Arc<dyn Images>,
        settings: &DistillSettings,
        teacher: &BackboneSpec,
        student: &BackboneSpec,
    ) -> Result<Self> {
        settings.check()?;
        if images.is_empty() {
            return Err(Error::parameter("images", "at least one", 0));
        }
        if let Some(spec) = [teacher, student].into_iter().find(|spec| spec.patch < 2) {
            return Err(Error::parameter("patch of the encoders", "at least 2", spec.patch));
        }
        let eye = |spec: &BackboneSpec| Eye { side: settings.grid * spec.patch, normalization: spec.normalization };
        Ok(Self { images, settings: settings.clone(), teacher: eye(teacher), student: eye(student) })
    }

    /// The settings.
    pub fn settings(&self) -> &DistillSettings {
        &self.settings
    }

    /// Views in all: those of the first image, then those of the second.
    pub fn views(&self) -> usize {
        self.images.len() * self.settings.views
    }

    /// Some views as pixels for one of the encoders. The larger of the two sizes is made, and the other is that,
    /// resized: both see the same.
    pub(super) fn pixels(&self, views: &[usize], eye: Eye) -> Result<Tensor> {
        let side = self.teacher.side.max(self.student.side);
        let seed = purpose(self.settings.seed, "distilled views");
        let plane = 3 * eye.side * eye.side;
        let mut values = vec![0f32; views.len() * plane];
        values.par_chunks_mut(plane.max(1)).zip(views).try_for_each(|(to, number)| {
            let (index, view) = (number / self.settings.views, number % self.settings.views);
            let image = self.images.image(index).map_err(|source| Error::Image { index, source })?;
            let made = self.view(&image, side, &mut rng::stream(seed, view as u64, index as u64));
            let fitted = made.and_then(|view| match eye.side == side {
                true => Ok(view),
                false => Ok(resize(view.view(), eye.side, eye.side, Filter::BicubicAntialias)?),
            });
            let written = fitted.and_then(|view| normalised(&view, eye.normalization, to));
            written.map_err(|e| Error::Image { index, source: Box::new(e) })
        })?;
        Ok(Tensor::from_vec(values, (views.len(), 3, eye.side, eye.side), &Device::Cpu)?)
    }

    fn view(&self, image: &Array3<f32>, side: usize, rng: &mut impl rand::Rng) -> Result<Array3<f32>> {
        let augmentation = &self.settings.augmentation;
        let levels = augmentation.intensity.levels(image.view())?;
        augmentation.view(image, levels, side, self.settings.scale, rng)
    }

    /// The batch of a step, from the settings and the step's number alone.
    ///
    /// # Errors
    /// [`Error::Image`] for one that cannot be read or used; [`Error::File`] for tokens that cannot be read.
    pub fn batch(&self, step: usize, tokens: &TeacherTokens) -> Result<DistillBatch> {
        let order = order(step, self.settings.batch_size, self.views(), self.settings.seed);
        let views: Vec<usize> = order.into_iter().map(|(view, _)| view).collect();
        let (class, patches) = tokens.of(&views)?;
        Ok(DistillBatch { pixels: self.pixels(&views, self.student)?, class, patches })
    }
}
