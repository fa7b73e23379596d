//! NumPy's npy and npz files.
//!
//! All numeric types, both byte orders, C and Fortran order, versions 1 to 3. Objects (pickles),
//! text, structured and complex types are refused. Arrays come out in C order.

mod header;
mod npz;

use std::{
    fs::File,
    io::{BufReader, Cursor, Read},
    path::Path,
};

pub use header::NpyHeader;
pub use npz::{names, read_npz_array, read_npz_header};

pub use crate::AnyArray as NpyArray;
use crate::{Error, Format, ReadOptions, Result};

/// Reads an array from an npy file.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Unsupported`], [`Error::Limit`], [`Error::Read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, npy};
/// let array = npy::read("scan.npy".as_ref(), &ReadOptions::default())?;
/// println!("{} {:?}", array.dtype(), array.shape());
/// # Ok(()) }
/// ```
pub fn read(path: &Path, options: &ReadOptions) -> Result<NpyArray> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let size = file.metadata().map_err(|e| Error::read(path, e))?.len();
    let mut source = BufReader::new(file);
    let header = NpyHeader::read(&mut source, path, Format::Npy)?;
    data(&mut source, &header, size, size, path, Format::Npy, options)
}

/// The same from memory; `path` only names the file in errors.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<NpyArray> {
    let mut source = Cursor::new(bytes);
    let header = NpyHeader::read(&mut source, path, Format::Npy)?;
    data(&mut source, &header, bytes.len() as u64, bytes.len() as u64, path, Format::Npy, options)
}

/// Reads the header alone: shape and type.
///
/// # Errors
/// As [`read`].
pub fn read_header(path: &Path) -> Result<NpyHeader> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    NpyHeader::read(&mut BufReader::new(file), path, Format::Npy)
}

/// The elements after a header. `most` bytes can come out of `source` at best; `likely` are taken
/// as a first allocation.
fn data(
    source: &mut dyn Read,
    header: &NpyHeader,
    most: u64,
    likely: u64,
    path: &Path,
    format: Format,
    options: &ReadOptions,
) -> Result<NpyArray> {
    let size = header.element.size() as u64;
    let bytes = header.shape.iter().try_fold(size, |n, s| n.checked_mul(*s));
    let Some(bytes) = bytes.filter(|b| *b <= most) else {
        let what = format!("shape {:?} declared, the data are too short for it", header.shape);
        return Err(Error::damaged(path, format, what));
    };
    options.limits.elements(path, &header.shape, size)?;
    let mut raw = Vec::with_capacity(bytes.min(likely) as usize);
    let e = |e: std::io::Error| Error::damaged(path, format, format!("data cannot be read ({e})"));
    (&mut *source).take(bytes).read_to_end(&mut raw).map_err(e)?;
    if (raw.len() as u64) < bytes {
        let what = format!("{} bytes of data, shape {:?} needs {bytes}", raw.len(), header.shape);
        return Err(Error::damaged(path, format, what));
    }
    // at the end of a zip member this verifies its checksum; more data are ignored, as NumPy does
    source.read(&mut [0u8; 1]).map_err(e)?;
    let shape: Vec<usize> = header.shape.iter().map(|s| *s as usize).collect();
    let array = header.element.decode(raw, &shape, header.big_endian, header.fortran_order);
    array.ok_or_else(|| Error::damaged(path, format, format!("shape {shape:?} is impossible")))
}
