//! MATLAB v7.3 files, which are HDF5 behind a block of text.
//!
//! HDF5 holds MATLAB's arrays with their axes reversed; they come out here as MATLAB shows them,
//! `[row, column, ...]`. Files of MATLAB 5 to 7.2 are another format and are refused by name. What a
//! file takes from other files (external links, external raw data, virtual data sets) is refused.

mod elsewhere;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use rust_hdf5::{ByteOrder, DatatypeMessage, H5Dataset, H5File};

use self::elsewhere::Place;
use crate::{AnyArray, Error, Format, Limits, ReadOptions, Result, array::Element, guard, sniff::hdf5_offset};

/// Most that a compressed chunk grows.
const MAX_INFLATION: u64 = 1032;

/// An open MATLAB v7.3 file.
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, mat::MatFile};
/// let file = MatFile::open("1.mat".as_ref(), &ReadOptions::default())?;
/// let image = file.matrix("cjdata/image")?;
/// let patient = file.text("cjdata/PID")?;
/// # Ok(()) }
/// ```
pub struct MatFile {
    path: PathBuf,
    file: H5File,
    size: u64,
    limits: Limits,
}

impl std::fmt::Debug for MatFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MatFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl MatFile {
    /// Opens a file and reads its structure.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unsupported`] (MATLAB 5), [`Error::Elsewhere`] (a virtual data set
    /// in the file), [`Error::Read`].
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let damaged = |what: String| Error::damaged(path, Format::Mat, what);
        let mut raw = File::open(path).map_err(|e| Error::read(path, e))?;
        let size = raw.metadata().map_err(|e| Error::read(path, e))?.len();
        let mut head = Vec::new();
        raw.by_ref().take(4096).read_to_end(&mut head).map_err(|e| Error::read(path, e))?;
        if head.is_empty() {
            return Err(damaged("the file is empty".into()));
        }
        // a file cut short can read well as far as it goes; its own header tells how long it was
        if let Some(end) = hdf5_offset(&head).and_then(|at| stored_end(head.get(at..)?))
            && end > size
        {
            return Err(damaged(format!("{size} bytes are left of {end}")));
        }
        if hdf5_offset(&head).is_none() {
            // a version 5 file says so in its text and by its version number
            if head.starts_with(b"MATLAB 5.0 MAT-file") {
                return Err(Error::unsupported(path, Format::Mat, "a MATLAB 5 file; save it with -v7.3"));
            }
            return Err(damaged("no HDF5 signature".into()));
        }
        let base = hdf5_offset(&head).unwrap_or(0);
        let width = head.get(base..).and_then(address_width).ok_or_else(|| damaged("the superblock is cut".into()))?;
        if elsewhere::has_virtual(&mut raw, base as u64, width).map_err(|e| Error::read(path, e))? {
            return Err(Error::Elsewhere { path: path.to_owned(), what: "a virtual data set".into() });
        }
        let open = || H5File::options().no_locking().open(path);
        let file = guard::catch(open).ok_or_else(|| damaged("the HDF5 structure is damaged".into()))?;
        let file = file.map_err(|e| damaged(e.to_string()))?;
        Ok(Self { path: path.to_owned(), file, size, limits: options.limits })
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(&self.path, Format::Mat, what)
    }

    /// Paths of all arrays, such as `cjdata/image`, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut out = guard::catch(|| self.file.dataset_names()).unwrap_or_default();
        out.sort();
        out
    }

    fn dataset(&self, name: &str) -> Result<H5Dataset> {
        let missing = || Error::Missing {
            path: self.path.clone(),
            what: "array",
            got: name.to_owned(),
            has: self.names().join(", "),
        };
        let elsewhere = |how: &str| Error::Elsewhere { path: self.path.clone(), what: format!("`{name}`, {how},") };
        let place = guard::catch(|| elsewhere::place(&self.file, name));
        let place = match place.ok_or_else(|| self.damaged("the HDF5 structure is damaged"))? {
            Place::Here(place) => place,
            Place::Nowhere => return Err(missing()),
            Place::Elsewhere => return Err(elsewhere("an external link")),
        };
        let set = guard::catch(|| self.file.dataset(&place)).and_then(std::result::Result::ok).ok_or_else(missing)?;
        let stored = guard::catch(|| elsewhere::stored(&set)).and_then(std::result::Result::ok);
        match stored.ok_or_else(|| self.damaged(format!("the layout of `{name}` cannot be read")))? {
            Some(how) => Err(elsewhere(how)),
            None => Ok(set),
        }
    }

    /// Element type and shape of an array as MATLAB shows it, without reading it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Elsewhere`], [`Error::Unsupported`].
    pub fn describe(&self, name: &str) -> Result<(&'static str, Vec<usize>)> {
        let set = self.dataset(name)?;
        let (element, _) = self.element(&set, name)?;
        let mut shape = guard::catch(|| set.shape()).ok_or_else(|| self.damaged("an array without shape"))?;
        shape.reverse();
        Ok((element.numpy_name(), shape))
    }

    fn element(&self, set: &H5Dataset, name: &str) -> Result<(Element, bool)> {
        let kind = guard::catch(|| set.datatype()).and_then(std::result::Result::ok);
        let kind = kind.ok_or_else(|| self.damaged(format!("type of `{name}` cannot be read")))?;
        let found = match kind {
            DatatypeMessage::FixedPoint { size, byte_order, signed, .. } => {
                let element = match (size, signed) {
                    (1, false) => Some(Element::U8),
                    (1, true) => Some(Element::I8),
                    (2, false) => Some(Element::U16),
                    (2, true) => Some(Element::I16),
                    (4, false) => Some(Element::U32),
                    (4, true) => Some(Element::I32),
                    (8, false) => Some(Element::U64),
                    (8, true) => Some(Element::I64),
                    _ => None,
                };
                element.map(|e| (e, byte_order))
            }
            DatatypeMessage::FloatingPoint { size: 4, byte_order, .. } => Some((Element::F32, byte_order)),
            DatatypeMessage::FloatingPoint { size: 8, byte_order, .. } => Some((Element::F64, byte_order)),
            _ => None,
        };
        let what = || Error::unsupported(&self.path, Format::Mat, format!("element type of `{name}`"));
        let (element, order) = found.ok_or_else(what)?;
        Ok((element, order == ByteOrder::BigEndian))
    }

    /// Reads an array, `[row, column, ...]`.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no array of that name, a group included;
    /// [`Error::Damaged`], [`Error::Unsupported`] (text, structures, references),
    /// [`Error::Elsewhere`], [`Error::Limit`].
    pub fn array(&self, name: &str) -> Result<AnyArray> {
        let set = self.dataset(name)?;
        let (element, big) = self.element(&set, name)?;
        let shape = guard::catch(|| set.shape()).ok_or_else(|| self.damaged("an array without shape"))?;
        let size = element.size() as u64;
        let wide: Vec<u64> = shape.iter().map(|s| *s as u64).collect();
        let bytes = wide.iter().try_fold(size, |n, s| n.checked_mul(*s));
        if bytes.is_none_or(|b| b > self.size.saturating_mul(MAX_INFLATION)) {
            return Err(self.damaged(format!("`{name}` of shape {shape:?} in a file of {} bytes", self.size)));
        }
        self.limits.elements(&self.path, &wide, size)?;
        // room for whole chunks is made before one is decompressed: they must not be larger than
        // what their compressed bytes, or the array with a margin, could fill
        let chunk = guard::catch(|| set.chunk_dims()).flatten().unwrap_or_default();
        let chunk = chunk.iter().try_fold(size, |n, c| n.checked_mul(*c as u64));
        let most = self.size.saturating_mul(MAX_INFLATION).min(bytes.unwrap_or(0).saturating_mul(8).max(1 << 20));
        if chunk.is_none_or(|c| c > most) {
            return Err(self.damaged(format!("`{name}` has chunks larger than the array")));
        }
        let raw = guard::catch(|| set.read_raw_bytes());
        let raw = raw.ok_or_else(|| self.damaged(format!("`{name}` cannot be read")))?;
        let raw = raw.map_err(|e| self.damaged(format!("`{name}`: {e}")))?;
        if raw.len() as u64 != bytes.unwrap_or(0) {
            return Err(self.damaged(format!("`{name}` has {} bytes, shape {shape:?}", raw.len())));
        }
        // MATLAB's axes are HDF5's in reverse: the same bytes are its array in Fortran order
        let matlab: Vec<usize> = shape.iter().rev().copied().collect();
        element.decode(raw, &matlab, big, true).ok_or_else(|| self.damaged(format!("shape {shape:?} is impossible")))
    }

    /// Reads an array that must have two axes.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it has another number of axes; else as [`MatFile::array`].
    pub fn matrix(&self, name: &str) -> Result<AnyArray> {
        let array = self.array(name)?;
        match array.shape() {
            [_, _] => Ok(array),
            shape => Err(self.damaged(format!("`{name}` is not 2-D but {shape:?}"))),
        }
    }

    /// Reads a number.
    ///
    /// # Errors
    /// [`Error::Damaged`] unless there is exactly one element; else as [`MatFile::array`].
    pub fn number(&self, name: &str) -> Result<f64> {
        let array = self.array(name)?.to_f64();
        let mut values = array.iter();
        match (values.next(), values.next()) {
            (Some(v), None) => Ok(*v),
            _ => Err(self.damaged(format!("`{name}` is not one number but {:?}", array.shape()))),
        }
    }

    /// Reads text: MATLAB stores characters as 16-bit code units.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is no text; else as [`MatFile::array`].
    pub fn text(&self, name: &str) -> Result<String> {
        let AnyArray::U16(units) = self.array(name)? else {
            return Err(self.damaged(format!("`{name}` is no text")));
        };
        let units: Vec<u16> = units.iter().copied().collect();
        String::from_utf16(&units).map_err(|_| self.damaged(format!("`{name}` is no text")))
    }
}

/// Bytes of an address.
fn address_width(superblock: &[u8]) -> Option<usize> {
    let at = if *superblock.get(8)? < 2 { 13 } else { 9 };
    superblock.get(at).map(|w| usize::from(*w))
}

/// The end-of-file address of an HDF5 superblock with 8-byte addresses.
fn stored_end(superblock: &[u8]) -> Option<u64> {
    let (at, width) = match superblock.get(8)? {
        0 => (40, *superblock.get(13)?),
        1 => (44, *superblock.get(13)?),
        2 | 3 => (28, *superblock.get(9)?),
        _ => return None,
    };
    let bytes = superblock.get(at..at + 8)?.try_into().ok()?;
    (width == 8).then_some(u64::from_le_bytes(bytes))
}
