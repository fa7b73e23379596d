//! Pictures of one file that make no volume.

use ndarray::Array4;

use crate::{Photometric, dicom::Voi, warnings::remarks};

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
    /// Windows that the file proposes for display; never applied here.
    pub windows: Vec<Voi>,
    /// Values from the first to the second are padding outside the picture, where the file says.
    pub padding: Option<(f32, f32)>,
}

impl Frames {
    /// As [`Volume::warnings`](crate::Volume::warnings).
    pub fn warnings(&self) -> Vec<String> {
        let modality = self.modality.as_deref().filter(|_| self.photometric != Photometric::Rgb);
        remarks(self.data.iter(), modality)
    }
}
