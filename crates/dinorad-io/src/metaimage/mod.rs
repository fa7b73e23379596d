//! MetaImage (`.mha`, and `.mhd` with its voxels in a `.raw` or `.zraw`), as ITK writes it.
//!
//! All integer and float types, both byte orders, plain and compressed. Axes behind the third are
//! volumes, of which [`ReadOptions::volume`] chooses one. Several channels (vectors, colours), text, and
//! voxels in a list of files are refused by name. A file of voxels must lie in the header's folder or
//! below it.

mod header;

use std::{
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use header::Head;
pub(crate) use header::looks_like;

use crate::{
    Error, Format, GridHeader, ReadOptions, Result, Volume,
    grid::{Lines, Source},
    voxels,
};

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
    open(path)?.volume(options)
}

/// The same from memory (header and voxels in one); `path` only names the file in errors.
///
/// # Errors
/// As [`read`]; voxels in another file are [`Error::Elsewhere`].
pub fn read_bytes(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<Volume> {
    let (head, rest, left) = head(Cursor::new(bytes), bytes.len() as u64, path)?;
    match head.detached {
        Some(ref file) => {
            Err(Error::Elsewhere { path: path.to_owned(), what: format!("the voxel data ({})", file.field) })
        }
        None => head.voxels(rest, left, path)?.volume(options),
    }
}

/// Reads the header alone.
///
/// # Errors
/// As [`read`].
pub fn read_header(path: &Path) -> Result<GridHeader> {
    let (file, size) = voxels::open(path)?;
    Ok(head(file, size, path)?.0.grid.header)
}

/// The header, what follows it, and how many bytes that is.
fn head<R: Read>(raw: R, size: u64, path: &Path) -> Result<(Head, R, u64)> {
    let mut lines = Lines::new(raw, path, Format::MetaImage);
    let head = Head::read(&mut lines, path)?;
    let left = size.saturating_sub(lines.read);
    Ok((head, lines.rest(), left))
}

pub(crate) fn open(path: &Path) -> Result<Source<'static>> {
    let (file, size) = voxels::open(path)?;
    let (head, rest, left) = head(file, size, path)?;
    match head.detached {
        Some(ref detached) => {
            let (raw, size, there) = detached.open(path)?;
            head.voxels(raw, size, &there)
        }
        None => head.voxels(rest, left, path),
    }
}

/// The file of voxels, where the header names one that it may name.
pub(crate) fn detached(path: &Path) -> Option<PathBuf> {
    let (file, size) = voxels::open(path).ok()?;
    head(file, size, path).ok()?.0.detached?.path(path).ok()
}
