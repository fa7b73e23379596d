//! Where a place in the patient is known from.

use serde::{Deserialize, Serialize};

/// Where a volume's affine came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// NIfTI's sform, with its code.
    Sform(i16),
    /// NIfTI's qform, with its code.
    Qform(i16),
    /// DICOM positions and orientations.
    Dicom,
    /// The directions and the origin of an NRRD, MetaImage or MGH header.
    Header,
    /// Given by the caller.
    Given,
    /// The file does not say: the affine holds the voxel sizes and an assumed orientation.
    Unknown,
}
