//! MGH (`.mgh`) and its compressed form (`.mgz`), as FreeSurfer writes them.
//!
//! Bytes, 16- and 32-bit integers and floats; frames are volumes, of which [`ReadOptions::volume`] chooses
//! one. What follows the voxels (scan parameters, command lines) is not read.

use std::{
    io::{Cursor, Read},
    path::Path,
};

use crate::{
    Error, Format, GridHeader, Placement, ReadOptions, Result, Volume,
    grid::{Compression, Frame, Grid, Source, checked_sizes, to_affine},
    nifti::DataType,
    voxels::{self, Voxels},
};

/// Bytes of the header; the voxels follow.
const SIZE: usize = 284;
/// Bytes of it that mean something.
const USED: usize = 90;

/// Reads one volume in the file's own unit.
///
/// A file whose header says that its place is not known (`goodRASFlag` 0) gets FreeSurfer's coronal axes
/// (to the left, down, to the front; nibabel has two of them the other way round) and 1 mm, and is
/// [`Placement::Unknown`]. Memory: the f32 volume and a small buffer.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Unsupported`] (bitmaps, tensors, complex and RGB voxels),
/// [`Error::Orientation`] for directions without inverse, [`Error::SeveralVolumes`], [`Error::Missing`],
/// [`Error::Limit`], [`Error::Read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, mgh};
/// let volume = mgh::read("orig.mgz".as_ref(), &ReadOptions::default())?;
/// println!("{:?} voxels, {:?}", volume.data.dim(), volume.axis_codes());
/// # Ok(()) }
/// ```
///
/// # Source
/// <https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat>; the affine is nibabel's.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Volume> {
    open(path)?.volume(options)
}

/// The same from memory; `path` only names the file in errors.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<Volume> {
    source(Cursor::new(bytes), bytes.len() as u64, path)?.volume(options)
}

/// Reads the header alone.
///
/// # Errors
/// As [`read`].
pub fn read_header(path: &Path) -> Result<GridHeader> {
    Ok(open(path)?.grid.header)
}

pub(crate) fn open(path: &Path) -> Result<Source<'static>> {
    let (file, size) = voxels::open(path)?;
    source(file, size, path)
}

fn source<'a>(raw: impl Read + 'a, size: u64, path: &Path) -> Result<Source<'a>> {
    let mut voxels = Voxels::sniffed(raw, size, Compression::None, path, Format::Mgh)?;
    let bytes = voxels.bytes(SIZE)?;
    if bytes.len() < SIZE {
        return Err(voxels.damaged(format!("header has {} bytes, needs {SIZE}", bytes.len())));
    }
    let grid = parse(&bytes, voxels.packing(), path)?;
    Source::at(grid, voxels, 0)
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| i32::from_be_bytes(*b))
}

fn three(bytes: &[u8], at: usize) -> [f64; 3] {
    std::array::from_fn(|n| {
        let number = bytes.get(at + 4 * n..).and_then(|b| b.first_chunk());
        number.map_or(0.0, |b| f64::from(f32::from_be_bytes(*b)))
    })
}

/// Whether a header says where its volume lies.
fn is_placed(bytes: &[u8]) -> Option<bool> {
    match bytes.get(28..30)? {
        [0, 0] => Some(false),
        [0, 1] => Some(true),
        _ => None,
    }
}

/// Whether these bytes begin a file of version 1 whose numbers can be those of a volume: the format has
/// no mark.
pub(crate) fn looks_like(head: &[u8]) -> bool {
    if head.len() < USED || i32_at(head, 0) != 1 {
        return false;
    }
    let sizes = [4, 8, 12, 16].iter().all(|at| (1..=1 << 20).contains(&i32_at(head, *at)));
    let good = match is_placed(head) {
        Some(true) => [30, 42, 54, 66, 78].iter().all(|at| three(head, *at).iter().all(|v| v.is_finite())),
        Some(false) => true,
        None => false,
    };
    sizes && (0..=10).contains(&i32_at(head, 20)) && good
}

fn parse(bytes: &[u8], compression: Compression, path: &Path) -> Result<Grid> {
    let damaged = |what: String| Error::damaged(path, Format::Mgh, what);
    let version = i32_at(bytes, 0);
    if version != 1 {
        return Err(damaged(format!("version is {version}, not 1")));
    }
    let sizes = [4, 8, 12, 16].map(|at| i64::from(i32_at(bytes, at)));
    let sizes = checked_sizes(&sizes, path, Format::Mgh)?;
    let datatype = match i32_at(bytes, 20) {
        0 => DataType::U8,
        // FreeSurfer's long has 4 bytes in files
        1 | 2 => DataType::I32,
        3 => DataType::F32,
        4 => DataType::I16,
        10 => DataType::U16,
        code => {
            let name = match code {
                5 => "1-bit voxels",
                6 => "tensors",
                7 | 8 => "complex voxels",
                9 => "RGB voxels",
                _ => return Err(damaged(format!("unknown type {code}"))),
            };
            return Err(Error::unsupported(path, Format::Mgh, name));
        }
    };
    let in_space = [sizes[0], sizes[1], sizes[2]];
    let placed = is_placed(bytes).ok_or_else(|| damaged("goodRASFlag is neither 0 nor 1".into()))?;
    let (delta, directions, centre) = match placed {
        true => (three(bytes, 30), [three(bytes, 42), three(bytes, 54), three(bytes, 66)], three(bytes, 78)),
        false => ([1.0; 3], [[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], [0.0; 3]),
    };
    let steps: [[f64; 3]; 3] = std::array::from_fn(|axis| directions[axis].map(|v| v * delta[axis]));
    // the header gives the place of voxel (width / 2, height / 2, depth / 2)
    let origin = std::array::from_fn(|r| {
        let from_first: f64 = (0..3).map(|axis| steps[axis][r] * in_space[axis] as f64 / 2.0).sum();
        centre[r] - from_first
    });
    let header = GridHeader {
        format: Format::Mgh,
        sizes: in_space,
        volumes: sizes[3],
        datatype,
        big_endian: true,
        compression,
        detached: false,
    };
    let affine = to_affine(&steps, origin, Frame::RAS, path)?;
    let placement = if placed { Placement::Header } else { Placement::Unknown };
    Ok(Grid { header, affine, placement, inner: 1, remarks: Vec::new(), free_text: Vec::new() })
}
