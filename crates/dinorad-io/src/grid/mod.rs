//! Volumes with a place, whichever of the formats made for them a file is: NIfTI, NRRD, MetaImage, MGH.

mod lines;
mod place;
mod source;
pub(crate) mod text;

use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    lines::Lines,
    place::{Frame, to_affine},
    source::{Detached, Grid, Source, Start, checked_sizes},
    text::TextHeader,
};
use crate::{
    Error, Format, Labels, ReadOptions, Result, Volume, load::explain, metaimage, mgh, nifti, nifti::DataType, nrrd,
    sniff,
};

/// How the voxels of a file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Compression {
    None,
    Gzip,
    Zlib,
}

/// The technical fields of an NRRD, MetaImage or MGH header. Free text is never kept: it may name a
/// patient.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GridHeader {
    /// [`Format::Nrrd`], [`Format::MetaImage`] or [`Format::Mgh`].
    pub format: Format,
    /// Columns, rows and slices of one volume; 1 for axes that the file does not have.
    pub sizes: [u64; 3],
    /// Number of volumes in the file.
    pub volumes: u64,
    /// Element type as stored.
    pub datatype: DataType,
    /// Whether the voxels are big-endian.
    pub big_endian: bool,
    /// How the voxels are packed.
    pub compression: Compression,
    /// Whether the voxels lie in a file of their own, beside the header.
    pub detached: bool,
}

/// Reads a file that holds one volume: NIfTI, NRRD, MetaImage or MGH, by content.
///
/// Values are `(slice, row, column)` in the file's own unit. A file with several volumes needs
/// [`ReadOptions::volume`].
///
/// # Errors
/// [`Error::Unsupported`] for content of another format, [`Error::Unrecognised`] for that of none; else as [`nifti::read`], [`nrrd::read`],
/// [`metaimage::read`] and [`mgh::read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, read_volume};
/// let volume = read_volume("scan.nrrd".as_ref(), &ReadOptions::default())?;
/// println!("{:?} voxels of {:?} mm", volume.data.dim(), volume.spacing_mm());
/// # Ok(()) }
/// ```
pub fn read_volume(path: &Path, options: &ReadOptions) -> Result<Volume> {
    match format(path, options)? {
        Format::Nifti => nifti::read(path, options),
        Format::Nrrd => nrrd::read(path, options),
        Format::MetaImage => metaimage::read(path, options),
        Format::Mgh => mgh::read(path, options),
        other => Err(no_grid(path, other)),
    }
}

fn format(path: &Path, options: &ReadOptions) -> Result<Format> {
    let path = &nifti::header_path(path);
    sniff(path).map_err(|e| explain(e, path, options))
}

fn no_grid(path: &Path, format: Format) -> Error {
    Error::unsupported(path, format, "a volume is wanted: NIfTI, NRRD, MetaImage or MGH")
}

/// Reads a segmentation mask, from any of the formats of [`read_volume`].
///
/// # Errors
/// [`Error::Label`] at the first voxel that is not a whole number in 0..=255; else as [`read_volume`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, read_labels};
/// let mask = read_labels("Segmentation.seg.nrrd".as_ref(), &ReadOptions::default())?;
/// println!("{} voxels of class 1", mask.data.iter().filter(|v| **v == 1).count());
/// # Ok(()) }
/// ```
pub fn read_labels(path: &Path, options: &ReadOptions) -> Result<Labels> {
    Labels::of(read_volume(path, options)?, path)
}

/// Reads slice `k` (along the file's third axis) as `(h, w)`, decoding no further than needed, from any
/// of the formats of [`read_volume`].
///
/// # Errors
/// [`Error::Missing`] if there is no such slice; else as [`read_volume`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, read_slice};
/// let tenth = read_slice("brain.mgz".as_ref(), 9, &ReadOptions::default())?;
/// # Ok(()) }
/// ```
pub fn read_slice(path: &Path, k: usize, options: &ReadOptions) -> Result<Array2<f32>> {
    match format(path, options)? {
        Format::Nifti => nifti::read_slice(path, k, options),
        Format::Nrrd => text::open::<nrrd::Head>(path)?.slice(k, options),
        Format::MetaImage => text::open::<metaimage::Head>(path)?.slice(k, options),
        Format::Mgh => mgh::open(path)?.slice(k, options),
        other => Err(no_grid(path, other)),
    }
}

/// The technical fields of an NRRD, MetaImage or MGH header.
///
/// # Errors
/// As [`read_volume`]; [`Error::Unsupported`] for NIfTI too, whose header is [`nifti::read_header`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// println!("{:?}", dinorad_io::read_grid_header("scan.mha".as_ref())?.sizes);
/// # Ok(()) }
/// ```
pub fn read_grid_header(path: &Path) -> Result<GridHeader> {
    Ok(open(path)?.grid.header)
}

/// The file of voxels that the header at `path` names, where it lies apart: `.raw` for `.mhd` and `.nhdr`,
/// `.img` for `.hdr`. Nothing if there is none, or if `path` is no such header.
///
/// # Examples
/// ```
/// assert_eq!(dinorad_io::detached_voxels("no-such.mhd".as_ref()), None);
/// ```
pub fn detached_voxels(path: &Path) -> Option<PathBuf> {
    match sniff(path).ok()? {
        Format::Nrrd => text::detached::<nrrd::Head>(path),
        Format::MetaImage => text::detached::<metaimage::Head>(path),
        Format::Nifti => nifti::image_path(path),
        _ => None,
    }
}

pub(crate) fn open(path: &Path) -> Result<Source<'static>> {
    match sniff(path)? {
        Format::Nrrd => text::open::<nrrd::Head>(path),
        Format::MetaImage => text::open::<metaimage::Head>(path),
        Format::Mgh => mgh::open(path),
        other => Err(no_grid(path, other)),
    }
}

/// A value of a header as it may be told in an error: what is no plain short word is not told, since a
/// damaged header can hold anything there.
pub(crate) fn told(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '?' | '%');
    if value.len() <= 24 && value.chars().all(plain) { format!("`{value}`") } else { "something else".into() }
}
