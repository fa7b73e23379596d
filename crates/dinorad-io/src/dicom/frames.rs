//! Pictures of one file that make no volume.

use ndarray::Array4;

use crate::{Photometric, warnings::remarks};

/// Frames without a place in the patient, such as an ultrasound loop.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Frames {
    /// `(n, c, h, w)`; one channel for gray in the modality's unit, three for RGB.
    pub data: Array4<f32>,
    /// Bits of a stored value.
    pub bit_depth: u8,
    /// What the channels mean.
    pub photometric: Photometric,
    /// DICOM modality.
    pub modality: Option<String>,
    /// Distance between pixel centres in mm, `[row, column]`, where the file says.
    pub spacing_mm: Option<[f64; 2]>,
}

impl Frames {
    /// As [`Volume::warnings`](crate::Volume::warnings).
    pub fn warnings(&self) -> Vec<String> {
        let modality = self.modality.as_deref().filter(|_| self.photometric != Photometric::Rgb);
        remarks(self.data.iter(), modality)
    }
}
