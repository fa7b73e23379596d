//! NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz` and `.hdr`/`.img`.
//!
//! NIfTI array `[i, j, k]` is our `volume[[k, j, i]]`. Scaling, sform/qform precedence and the
//! last resort without either follow nibabel. Anything a header claims is checked against the
//! file's size before memory is taken.

mod header;
mod read;
mod write;

pub use header::{DataType, Header};
pub use read::{Labels, read, read_bytes, read_header, read_labels, read_slice};
pub(crate) use read::{free_text, header_path};
pub use write::{write_mask, write_volume};
