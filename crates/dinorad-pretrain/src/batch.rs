//! What a step learns from: views of some images, and which of their patches are hidden.

use std::sync::Arc;

use candle::{Device, Tensor};
use dinorad_backbone::{BackboneSpec, Normalization};
use dinorad_core::rng;
use ndarray::Array3;
use rand::{Rng, seq::SliceRandom};
use rayon::prelude::*;

use crate::{Error, Images, Masks, Result, Settings};

/// The views of a step's images.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The images by their numbers.
    pub images: Vec<usize>,
    /// Large crops `(crops · b, 3, side, side)`, normalised: the first crop of every image, then the second.
    pub global: Tensor,
    /// Small crops in the same order, if there are any.
    pub local: Option<Tensor>,
    /// Masked patches of the large crops.
    pub masks: Masks,
}

/// Makes the batch of every step, from the settings and the step's number alone: whoever makes it, whenever and on
/// however many threads, it has the same bytes.
pub struct Feed {
    images: Arc<dyn Images>,
    settings: Settings,
    patch: usize,
    normalization: Normalization,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("images", &self.images.len()).finish_non_exhaustive()
    }
}

impl Feed {
    /// Of images, for an encoder.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings out of range or no images.
    pub fn new(images: Arc<dyn Images>, settings: &Settings, spec: &BackboneSpec) -> Result<Self> {
        settings.check(spec.patch)?;
        if images.is_empty() {
            return Err(Error::parameter("images", "at least one", 0));
        }
        Ok(Self { images, settings: settings.clone(), patch: spec.patch, normalization: spec.normalization })
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// The images of a step, each with the pass over all images in which it is seen: passes are shuffled and follow
    /// each other without a gap.
    pub fn order(&self, step: usize) -> Vec<(usize, u64)> {
        order(step, self.settings.batch_size, self.images.len(), self.settings.seed)
    }

    /// The batch of a step.
    ///
    /// # Errors
    /// [`Error::Image`] for one that cannot be read or used.
    pub fn batch(&self, step: usize) -> Result<Batch> {
        let Settings { views, augmentation, masking, seed, steps, .. } = &self.settings;
        let order = self.order(step);
        let (global_size, local_size) = views.sizes(step, *steps, self.patch);
        let seed_of_views = purpose(*seed, "views");
        let made: Vec<Vec<Array3<f32>>> = order
            .par_iter()
            .map(|(index, pass)| {
                let failed = |source| Error::Image { index: *index, source };
                let image = self.images.image(*index).map_err(failed)?;
                let wrap = |e: Error| Error::Image { index: *index, source: Box::new(e) };
                let levels = augmentation.intensity.levels(image.view()).map_err(wrap)?;
                let mut rng = rng::stream(seed_of_views, *pass, *index as u64);
                let global = (0..views.global).map(|_| (global_size, views.global_scale));
                let all = global.chain((0..views.local).map(|_| (local_size, views.local_scale)));
                all.map(|(size, scale)| augmentation.view(&image, levels, size, scale, &mut rng).map_err(wrap))
                    .collect()
            })
            .collect::<Result<_>>()?;
        let side = global_size / self.patch.max(1);
        let masks = masking.draw(
            (side, side),
            order.len() * views.global,
            &mut rng::stream(purpose(*seed, "masks"), step as u64, 0),
        );
        Ok(Batch {
            images: order.iter().map(|(index, _)| *index).collect(),
            global: stacked(&made, 0..views.global, global_size, self.normalization)?,
            local: match views.local {
                0 => None,
                n => Some(stacked(&made, views.global..views.global + n, local_size, self.normalization)?),
            },
            masks,
        })
    }
}

/// A seed for one purpose, so that two purposes never draw from one stream.
pub(crate) fn purpose(seed: u64, name: &str) -> u64 {
    rng::named(seed, name).random()
}

/// As [`Feed::order`].
pub(crate) fn order(step: usize, size: usize, n: usize, seed: u64) -> Vec<(usize, u64)> {
    let seed = purpose(seed, "order");
    let (mut at, end) = (step * size, (step + 1) * size);
    let mut out = Vec::with_capacity(size);
    while at < end && n > 0 {
        let pass = at / n;
        let mut indices: Vec<usize> = (0..n).collect();
        indices.shuffle(&mut rng::stream(seed, pass as u64, 0));
        let until = ((pass + 1) * n).min(end);
        out.extend(indices[at % n..at % n + until - at].iter().map(|index| (*index, pass as u64)));
        at = until;
    }
    out
}

/// Some views of all images as pixels of an encoder: view after view, and in each image after image.
fn stacked(
    made: &[Vec<Array3<f32>>],
    views: std::ops::Range<usize>,
    size: usize,
    normalization: Normalization,
) -> Result<Tensor> {
    let (images, plane) = (made.len(), size * size);
    let count = views.len() * images;
    let mut values = vec![0f32; count * 3 * plane];
    values.par_chunks_mut((3 * plane).max(1)).enumerate().try_for_each(|(at, to)| {
        let (view, image) = (views.start + at / images, at % images);
        let view =
            made.get(image).and_then(|of| of.get(view)).ok_or_else(|| Error::shape("views", "one of each", &[at]))?;
        normalised(view, normalization, to)
    })?;
    Ok(Tensor::from_vec(values, (count, 3, size, size), &Device::Cpu)?)
}

/// Writes a view with values 0..1 as three normalised channels.
pub(crate) fn normalised(view: &Array3<f32>, normalization: Normalization, to: &mut [f32]) -> Result<()> {
    let (channels, h, w) = view.dim();
    if !(channels == 1 || channels == 3) || to.len() != 3 * h * w {
        return Err(Error::shape("view", format!("(1 or 3, h, w) for {} values", to.len()), view.shape()));
    }
    for (i, to) in to.chunks_exact_mut((h * w).max(1)).enumerate() {
        let from = view.index_axis(ndarray::Axis(0), if channels == 3 { i } else { 0 });
        let (mean, scale) = (normalization.mean[i], 1.0 / normalization.std[i]);
        to.iter_mut().zip(from).for_each(|(to, v)| *to = (v - mean) * scale);
    }
    Ok(())
}
