//! MetaImage (`.mha`, and `.mhd` with its voxels in a `.raw` or `.zraw`), as ITK writes it.
//!
//! All integer and float types, both byte orders, plain and compressed. Axes behind the third are
//! volumes, of which [`ReadOptions::volume`] chooses one. Several channels (vectors, colours), text, and
//! voxels in a list of files are refused by name. A file of voxels must lie in the header's folder or
//! below it.

mod header;

use std::path::Path;

pub(crate) use header::{Head, looks_like};

#[cfg(doc)]
use crate::Error;
use crate::{GridHeader, ReadOptions, Result, Volume, grid::text};

/// Reads one volume in the file's own unit.
///
/// The header's LPS becomes RAS+; a file without `TransformMatrix` is
/// [`Placement::Unknown`](crate::Placement::Unknown). Memory: the f32 volume and a small buffer.
///
/// `ElementToIntensityFunctionSlope` and `…Offset` are not applied, as ITK does not; a warning says so.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Unsupported`], [`Error::Orientation`] for directions without inverse,
/// [`Error::SeveralVolumes`], [`Error::Missing`], [`Error::Elsewhere`] for voxels outside the header's
/// folder, [`Error::Limit`], [`Error::Read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, metaimage};
/// let volume = metaimage::read("scan.mhd".as_ref(), &ReadOptions::default())?;
/// println!("{:?} voxels of {:?} mm", volume.data.dim(), volume.spacing_mm());
/// # Ok(()) }
/// ```
///
/// # Source
/// MetaIO's documentation, <https://itk.org/Wiki/ITK/MetaIO/Documentation>; the order of `TransformMatrix`
/// is ITK's: a row for each axis of the image.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Volume> {
    text::open::<Head>(path)?.volume(options)
}

/// The same from memory (header and voxels in one); `path` only names the file in errors.
///
/// # Errors
/// As [`read`]; voxels in another file are [`Error::Elsewhere`].
pub fn read_bytes(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<Volume> {
    text::open_bytes::<Head>(bytes, path)?.volume(options)
}

/// Reads the header alone.
///
/// # Errors
/// As [`read`].
pub fn read_header(path: &Path) -> Result<GridHeader> {
    text::header::<Head>(path)
}
