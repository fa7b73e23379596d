//! Which format a file is, by its content.

use std::{fs::File, io::Read, path::Path};

use crate::{Error, Format, Result, metaimage, mgh};

/// Bytes of the beginning that decide: HDF5 may start after a user block of 512 to 2048 bytes.
const PROBE: usize = 4096;

/// The format of a file, by its first bytes; a folder is a [`Format::DicomSeries`].
///
/// The suffix never counts. DICOM without preamble is recognised by a plausible first element, MGH by
/// plausible numbers, MetaImage by the names of its fields. NIfTI, MGH and DICOM are recognised within
/// gzip, too.
///
/// # Errors
/// [`Error::Read`], [`Error::Empty`], or [`Error::Unrecognised`] for anything else.
pub fn sniff(path: &Path) -> Result<Format> {
    let meta = std::fs::metadata(path).map_err(|e| Error::read(path, e))?;
    if meta.is_dir() {
        return Ok(Format::DicomSeries);
    }
    if meta.len() == 0 {
        return Err(Error::Empty { path: path.to_owned() });
    }
    let mut head = Vec::with_capacity(PROBE);
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    file.take(PROBE as u64).read_to_end(&mut head).map_err(|e| Error::read(path, e))?;
    sniff_bytes(&head).ok_or_else(|| Error::Unrecognised { path: path.to_owned() })
}

/// The format of a file that begins with these bytes (4096 of them are enough).
pub fn sniff_bytes(head: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| head.starts_with(magic);
    if is_dicom(head) {
        return Some(Format::Dicom);
    }
    if starts(b"\x89PNG\r\n\x1a\n") {
        return Some(Format::Png);
    }
    if starts(b"\xff\xd8\xff") {
        return Some(Format::Jpeg);
    }
    if starts(b"II\x2a\x00") || starts(b"MM\x00\x2a") || starts(b"II\x2b\x00") || starts(b"MM\x00\x2b") {
        return Some(Format::Tiff);
    }
    if starts(b"\x93NUMPY") {
        return Some(Format::Npy);
    }
    if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") {
        return Some(Format::Npz);
    }
    if starts(b"NRRD000") {
        return Some(Format::Nrrd);
    }
    if is_nifti(head) {
        return Some(Format::Nifti);
    }
    if mgh::looks_like(head) {
        return Some(Format::Mgh);
    }
    if starts(b"\x1f\x8b") {
        let mut inner = Vec::with_capacity(PROBE);
        // the probe may cut the stream: whatever came out before the cut decides
        let _ = flate2::read::MultiGzDecoder::new(head).take(PROBE as u64).read_to_end(&mut inner);
        return match inner.as_slice() {
            inner if is_nifti(inner) => Some(Format::Nifti),
            inner if mgh::looks_like(inner) => Some(Format::Mgh),
            inner if is_dicom(inner) => Some(Format::Dicom),
            _ => None,
        };
    }
    if starts(b"MATLAB 5.0 MAT-file") || starts(b"MATLAB 7.3 MAT-file") || hdf5_offset(head).is_some() {
        return Some(Format::Mat);
    }
    if crate::dicom::looks_bare(head) {
        return Some(Format::Dicom);
    }
    metaimage::looks_like(head).then_some(Format::MetaImage)
}

fn is_dicom(head: &[u8]) -> bool {
    head.get(128..132) == Some(b"DICM")
}

/// Where HDF5 starts: at 0, or after a user block of 512, 1024 or 2048 bytes.
pub(crate) fn hdf5_offset(head: &[u8]) -> Option<usize> {
    [0, 512, 1024, 2048].into_iter().find(|at| head.get(*at..).is_some_and(|b| b.starts_with(b"\x89HDF\r\n\x1a\n")))
}

fn is_nifti(head: &[u8]) -> bool {
    let size = |b: &[u8]| [i32::from_le_bytes([b[0], b[1], b[2], b[3]]), i32::from_be_bytes([b[0], b[1], b[2], b[3]])];
    let Some(first) = head.get(..4) else { return false };
    let one = matches!(head.get(344..348), Some(b"n+1\0" | b"ni1\0"));
    let two = matches!(head.get(4..8), Some(b"n+2\0" | b"ni2\0"));
    one || (two && size(first).contains(&540))
}
