//! From a case's pixels to what an encoder sees.

use dinorad_backbone::Backbone;
use dinorad_core::{Protocol, resample::Filter};
use dinorad_transforms::{Compose, presets};

use super::Preprocessing;
use crate::{Error, Result};

/// What happens to pixels, with nothing left open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pixels {
    /// Side of the square that the encoder sees.
    pub(super) crop: usize,
    pub(super) resize: usize,
    pub(super) filter: Filter,
}

impl Pixels {
    /// A description's preprocessing for an encoder; `margin` where the study resizes to 256 for 224.
    pub(super) fn new(of: &Preprocessing, encoder: &dyn Backbone, protocol: Protocol, margin: bool) -> Result<Self> {
        let crop = image_size(encoder, of.image_size, of.patches)?;
        let usual = if margin && protocol == Protocol::Paper { (crop * 256).div_ceil(224) } else { crop };
        let resize = of.resize.unwrap_or(usual);
        if resize < crop {
            let why = format!("{resize} is smaller than the {crop} pixels that are cut out of it");
            return Err(Error::description("preprocessing.resize", why));
        }
        let usual = if protocol == Protocol::Paper { Filter::Bicubic } else { Filter::BicubicAntialias };
        Ok(Self { crop, resize, filter: of.filter.unwrap_or(usual) })
    }

    /// The steps for an encoder: the square, min-max per channel, the encoder's mean and deviation.
    pub(super) fn steps(&self, encoder: &dyn Backbone, percentiles: Option<Protocol>) -> Compose {
        let n = encoder.spec().normalization;
        let (mean, std) = (n.mean.map(f64::from), n.std.map(f64::from));
        let steps = presets::classification_eval(self.resize, self.crop, self.filter, mean, std);
        match percentiles {
            Some(protocol) => presets::after(presets::percentile_5_95(protocol), steps),
            None => steps,
        }
    }
}

/// The side of the square that an encoder sees: what was asked for, else what it is usually given.
///
/// # Errors
/// [`Error::Description`] for one that is no multiple of the patch size, naming the nearest ones.
pub(super) fn image_size(encoder: &dyn Backbone, asked: Option<usize>, patches: Option<usize>) -> Result<usize> {
    let spec = encoder.spec();
    // An encoder without patches takes any size: its squares are as large as those of most others.
    const USUAL_PATCH: usize = 14;
    let size = match (asked, patches) {
        (Some(size), _) => size,
        (None, Some(n)) => n * if spec.patch == 1 { USUAL_PATCH } else { spec.patch },
        (None, None) => return Ok(spec.usual_size()),
    };
    if size == 0 || !size.is_multiple_of(spec.patch) {
        let below = size / spec.patch * spec.patch;
        let near = if below == 0 { spec.patch.to_string() } else { format!("{below} or {}", below + spec.patch) };
        let why = format!("{size} is no multiple of the patch size {} of {}: try {near}", spec.patch, spec.id);
        return Err(Error::description("preprocessing.image_size", why));
    }
    Ok(size)
}
