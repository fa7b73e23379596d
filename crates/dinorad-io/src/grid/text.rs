//! Formats whose header is lines of text, with the voxels behind the last one or in a file of their own.

use std::{
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use super::{Detached, Grid, GridHeader, Lines, Source};
use crate::{Error, Format, Result, voxels};

/// The header of such a format, and how its voxels follow.
pub(crate) trait TextHeader: Sized {
    const FORMAT: Format;

    /// Reads the lines of the header, and not one byte behind them.
    fn read<R: Read>(lines: &mut Lines<'_, R>, path: &Path) -> Result<Self>;

    fn grid(&self) -> &Grid;

    /// The file of the voxels, where the header names one.
    fn detached(&self) -> Option<&Detached>;

    /// The voxels in `raw`, `size` bytes that follow the header or are a file of their own.
    fn voxels<'a>(self, raw: impl Read + 'a, size: u64, path: &Path) -> Result<Source<'a>>;
}

/// The header, what follows it, and how many bytes that is.
fn begin<H: TextHeader, R: Read>(raw: R, size: u64, path: &Path) -> Result<(H, R, u64)> {
    let mut lines = Lines::new(raw, path, H::FORMAT);
    let head = H::read(&mut lines, path)?;
    let left = size.saturating_sub(lines.read);
    Ok((head, lines.rest(), left))
}

/// The header of a file, and the voxels still to come.
pub(crate) fn open<H: TextHeader>(path: &Path) -> Result<Source<'static>> {
    let (file, size) = voxels::open(path)?;
    let (head, rest, left) = begin::<H, _>(file, size, path)?;
    match head.detached() {
        Some(detached) => {
            let (raw, size, there) = detached.open(path)?;
            head.voxels(raw, size, &there)
        }
        None => head.voxels(rest, left, path),
    }
}

/// The same from memory, where header and voxels are one.
pub(crate) fn open_bytes<'a, H: TextHeader>(bytes: &'a [u8], path: &Path) -> Result<Source<'a>> {
    let (head, rest, left) = begin::<H, _>(Cursor::new(bytes), bytes.len() as u64, path)?;
    match head.detached() {
        Some(file) => Err(Error::Elsewhere { path: path.to_owned(), what: format!("the voxel data ({})", file.field) }),
        None => head.voxels(rest, left, path),
    }
}

/// The header alone.
pub(crate) fn header<H: TextHeader>(path: &Path) -> Result<GridHeader> {
    let (file, size) = voxels::open(path)?;
    Ok(begin::<H, _>(file, size, path)?.0.grid().header.clone())
}

/// The file of voxels, where the header names one that it may name.
pub(crate) fn detached<H: TextHeader>(path: &Path) -> Option<PathBuf> {
    let (file, size) = voxels::open(path).ok()?;
    begin::<H, _>(file, size, path).ok()?.0.detached()?.path(path).ok()
}
