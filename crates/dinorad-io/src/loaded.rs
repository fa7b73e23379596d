//! What comes out of a file, whatever it is.

use crate::{AnyArray, Image, Volume, dicom::Frames, warnings::remarks};

/// Whatever a file or folder holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Loaded {
    /// One picture.
    Image(Image),
    /// A stack of slices with a place in the patient.
    Volume(Volume),
    /// DICOM frames without a place.
    Frames(Frames),
    /// An array without any meaning attached: npy, npz, MATLAB.
    Array(AnyArray),
}

impl Loaded {
    /// As [`Volume::warnings`]; an array has no modality to compare with.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Loaded::Image(image) => image.warnings(),
            Loaded::Volume(volume) => volume.warnings(),
            Loaded::Frames(frames) => frames.warnings(),
            Loaded::Array(array) => remarks(array.to_f32().iter(), None),
        }
    }
}
