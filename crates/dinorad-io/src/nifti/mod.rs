//! NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz` and `.hdr`/`.img`.
//!
//! NIfTI array `[i, j, k]` is our `volume[[k, j, i]]`. Scaling, sform/qform precedence and the
//! last resort without either follow nibabel. Anything a header claims is checked against the
//! file's size before memory is taken.

mod header;
mod read;
mod write;

pub use crate::Labels;
pub use header::{DataType, Header};
pub(crate) use read::{free_text, header_path, image_path};
pub use read::{read, read_bytes, read_header, read_labels, read_slice};
pub use write::{write_mask, write_volume};
