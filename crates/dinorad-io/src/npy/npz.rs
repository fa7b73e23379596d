//! Arrays in a zip.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use zip::ZipArchive;

use super::{NpyArray, NpyHeader, data};
use crate::{Error, Format, ReadOptions, Result};

/// No deflate stream grows by more than this factor.
const MAX_INFLATION: u64 = 1032;

fn open(path: &Path) -> Result<(ZipArchive<BufReader<File>>, u64)> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let size = file.metadata().map_err(|e| Error::read(path, e))?.len();
    let archive = crate::guard::catch(|| ZipArchive::new(BufReader::new(file)))
        .ok_or_else(|| Error::damaged(path, Format::Npz, "the zip directory is damaged"))?;
    let archive = archive.map_err(|e| Error::damaged(path, Format::Npz, format!("not a whole zip ({e})")))?;
    Ok((archive, size))
}

/// Names of the arrays, without `.npy`, sorted. Other members are left out.
///
/// # Errors
/// [`Error::Damaged`] if the file is not a whole zip; [`Error::Packed`] if it is one of other files, as a
/// zip of DICOM files is; [`Error::Read`].
pub fn names(path: &Path) -> Result<Vec<String>> {
    let (mut archive, _) = open(path)?;
    let mut out: Vec<String> = archive.file_names().filter_map(|n| n.strip_suffix(".npy")).map(str::to_owned).collect();
    if out.is_empty() && !archive.is_empty() {
        let (files, dicom) = (archive.len(), holds_dicom(&mut archive));
        return Err(Error::Packed { path: path.to_owned(), files, dicom });
    }
    out.sort();
    Ok(out)
}

/// Whether one of the first files of a zip is DICOM.
fn holds_dicom(archive: &mut ZipArchive<BufReader<File>>) -> bool {
    /// Files looked at: reports and viewers lie before the pictures of a disc.
    const LOOKED_AT: usize = 64;
    let mut is_dicom = |n: usize| {
        let mut head = Vec::new();
        let read = crate::guard::catch(|| archive.by_index(n).map(|m| m.take(132).read_to_end(&mut head)));
        matches!(read, Some(Ok(Ok(_)))) && head.get(128..132) == Some(b"DICM")
    };
    (0..LOOKED_AT).any(&mut is_dicom)
}

/// Reads one array by name, streaming from the zip: memory is that of the array.
///
/// # Errors
/// [`Error::Missing`] if there is no array of that name (the error lists the names);
/// [`Error::Damaged`], [`Error::Unsupported`], [`Error::Limit`], [`Error::Read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, npy};
/// let images = npy::read_npz_array("nodulemnist3d.npz".as_ref(), "test_images", &ReadOptions::default())?;
/// let images = images.into_u8().expect("MedMNIST stores bytes");
/// # Ok(()) }
/// ```
pub fn read_npz_array(path: &Path, name: &str, options: &ReadOptions) -> Result<NpyArray> {
    with_member(path, name, |member, packed| {
        let header = NpyHeader::read(member, path, Format::Npz)?;
        let most = packed.saturating_mul(MAX_INFLATION);
        data(member, &header, most, packed.saturating_mul(64), path, Format::Npz, options)
    })
}

/// Reads type and shape of one array.
///
/// # Errors
/// As [`read_npz_array`].
pub fn read_npz_header(path: &Path, name: &str) -> Result<NpyHeader> {
    with_member(path, name, |member, _| NpyHeader::read(member, path, Format::Npz))
}

fn with_member<T>(path: &Path, name: &str, read: impl FnOnce(&mut dyn std::io::Read, u64) -> Result<T>) -> Result<T> {
    let (mut archive, size) = open(path)?;
    let file_name = format!("{name}.npy");
    if archive.index_for_name(&file_name).is_none() {
        let has = names(path)?.join(", ");
        return Err(Error::Missing { path: path.to_owned(), what: "array", got: name.to_owned(), has });
    }
    let mut member = match archive.by_name(&file_name) {
        Ok(m) => m,
        Err(zip::result::ZipError::UnsupportedArchive(what)) => {
            return Err(Error::unsupported(path, Format::Npz, what));
        }
        Err(e) => return Err(Error::damaged(path, Format::Npz, e.to_string())),
    };
    let packed = member.compressed_size().min(size);
    crate::guard::catch(|| read(&mut member, packed))
        .unwrap_or_else(|| Err(Error::damaged(path, Format::Npz, "the member cannot be read")))
}
