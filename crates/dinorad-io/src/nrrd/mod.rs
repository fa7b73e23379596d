//! NRRD (`.nrrd`, and `.nhdr` with its voxels in a file of their own), as 3D Slicer and teem write it.
//!
//! All integer and float types, both byte orders, raw and gzip. Axes that lie in space come out as
//! `(slice, row, column)`; lists and time points before or behind them are volumes, of which
//! [`ReadOptions::volume`] chooses one. Vectors, colours and tensors, text, hex and bzip2, and voxels in
//! a list of files are refused by name. A file of voxels must lie in the header's folder or below it.

mod axes;
mod header;

use std::path::Path;

pub(crate) use header::Head;

#[cfg(doc)]
use crate::Error;
use crate::{GridHeader, ReadOptions, Result, Volume, grid::text};

/// Reads one volume in the file's own unit.
///
/// Lengths are the header's numbers, in RAS+ from whichever of RAS, LAS and LPS its `space` names. A file
/// without `space directions` is [`Placement::Unknown`](crate::Placement::Unknown): ITK's LPS is assumed, and steps of
/// 1 mm, with a warning, where there are no `spacings` either. Memory: the f32 volume and a small buffer.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Unsupported`], [`Error::Orientation`] for directions without inverse,
/// [`Error::SeveralVolumes`], [`Error::Missing`], [`Error::Elsewhere`] for voxels outside the header's
/// folder, [`Error::Limit`], [`Error::Read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, nrrd};
/// let volume = nrrd::read("scan.nrrd".as_ref(), &ReadOptions::default())?;
/// println!("{:?} voxels of {:?} mm", volume.data.dim(), volume.spacing_mm());
/// # Ok(()) }
/// ```
///
/// # Source
/// Definition of the NRRD file format, <https://teem.sourceforge.net/nrrd/format.html>.
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
