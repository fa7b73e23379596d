//! The formats that are read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A file format this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// A DICOM file.
    Dicom,
    /// A folder, taken as a DICOM series.
    DicomSeries,
    /// NIfTI-1 or NIfTI-2, one file or `.hdr`/`.img`, compressed or not.
    Nifti,
    /// NRRD, one file or a header with its voxels beside it.
    Nrrd,
    /// MetaImage, one file or a header with its voxels beside it.
    MetaImage,
    /// MGH, compressed or not.
    Mgh,
    /// PNG.
    Png,
    /// JPEG (JFIF or Exif), not inside DICOM.
    Jpeg,
    /// TIFF.
    Tiff,
    /// A NumPy array.
    Npy,
    /// A zip of NumPy arrays.
    Npz,
    /// MATLAB v7.3 (HDF5).
    Mat,
}

impl Format {
    /// Whether a file of this format holds a volume with a place, as far as the format tells: one that
    /// [`read_volume`](crate::read_volume) and [`read_labels`](crate::read_labels) take.
    ///
    /// # Examples
    /// ```
    /// use dinorad_io::Format;
    /// assert!(Format::Nrrd.is_grid() && !Format::Png.is_grid());
    /// ```
    pub fn is_grid(self) -> bool {
        matches!(self, Format::Nifti | Format::Nrrd | Format::MetaImage | Format::Mgh)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Dicom => "DICOM",
            Format::DicomSeries => "DICOM series",
            Format::Nifti => "NIfTI",
            Format::Nrrd => "NRRD",
            Format::MetaImage => "MetaImage",
            Format::Mgh => "MGH",
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::Tiff => "TIFF",
            Format::Npy => "npy",
            Format::Npz => "npz",
            Format::Mat => "MATLAB v7.3",
        })
    }
}
