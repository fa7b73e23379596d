//! A case as an encoder is shown it: on its scale, low values dark.

use std::borrow::Cow;

use dinorad_datasets::{Intensity, Monochrome1, Pixels, Scale};
use dinorad_io::Photometric;
use dinorad_transforms::{Compose, Step};
use ndarray::Array3;

use crate::doubts::CaseNotes;

/// How the values of one case come to the scale that an encoder's preprocessing starts from.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pixels: &'a Pixels,
    scale: Scale,
    negative: bool,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(pixels: &'a Pixels, intensity: Intensity, monochrome1: Monochrome1) -> Self {
        let negative = monochrome1 == Monochrome1::Inverted && is_negative(pixels);
        Self { pixels, scale: intensity.scale(pixels), negative }
    }

    /// The same for a preprocessing: one that does not stretch values to 0..1 takes them as they are.
    pub(crate) fn before(
        pixels: &'a Pixels,
        (intensity, monochrome1): (Intensity, Monochrome1),
        preprocessing: &Compose,
    ) -> Self {
        let stretches = preprocessing.steps.iter().any(|step| matches!(step, Step::MinMax { .. }));
        Self::new(pixels, if stretches { intensity } else { Intensity::None }, monochrome1)
    }

    /// What follows the scale: where that is fixed, nothing stretches values again.
    pub(crate) fn then<'c>(&self, preprocessing: &'c Compose) -> Cow<'c, Compose> {
        match self.scale.is_fixed() {
            true => Cow::Owned(preprocessing.on_a_fixed_scale()),
            false => Cow::Borrowed(preprocessing),
        }
    }

    /// A slice of the case on its scale. Of a negative, every value is its distance from the brightest.
    pub(crate) fn slice(&self, mut slice: Array3<f32>) -> Array3<f32> {
        self.scale.apply(&mut slice);
        if self.negative {
            let brightest = match self.scale.is_fixed() {
                true => 1.0,
                false => slice.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            };
            slice.mapv_inplace(|v| brightest - v);
        }
        slice
    }

    pub(crate) fn is_fixed(&self) -> bool {
        self.scale.is_fixed()
    }

    pub(crate) fn notes(&self) -> CaseNotes {
        let scale = self.scale.is_fixed().then(|| self.scale.to_string());
        let shown: Vec<String> =
            scale.into_iter().chain(self.negative.then(|| "MONOCHROME1 turned over".into())).collect();
        let doubts = self.pixels.warnings().into_iter().chain(self.scale.doubt()).collect();
        CaseNotes { shown: (!shown.is_empty()).then(|| shown.join("; ")), doubts }
    }
}

/// How a case is shown to an encoder unless told otherwise, in words: its scale, and whether it is turned over.
///
/// ```
/// use dinorad_datasets::{Intensity, Pixels};
/// use dinorad_io::Volume;
/// # use dinorad_core::Affine;
/// # use ndarray::Array3;
/// let scan = Volume::new(Array3::from_shape_fn((2, 3, 4), |(k, y, x)| (k + y + x) as f32 * 90.0 - 1000.0), Affine::identity());
/// assert_eq!(dinorad_eval::shown_as(&Pixels::Volume(scan), Intensity::Auto), "-1024 to 600, limits of HU");
/// ```
pub fn shown_as(pixels: &Pixels, intensity: Intensity) -> String {
    let shown = Shown::new(pixels, intensity, Monochrome1::Inverted);
    let turned = if shown.negative { "; MONOCHROME1 turned over" } else { "" };
    format!("{}{turned}", shown.scale)
}

/// Whether low values are bright.
pub(crate) fn is_negative(pixels: &Pixels) -> bool {
    let photometric = match pixels {
        Pixels::Image(image) => Some(image.photometric),
        Pixels::Slices(images) => images.first().map(|image| image.photometric),
        Pixels::Volume(volume) => Some(volume.photometric),
    };
    photometric == Some(Photometric::Monochrome1)
}
