//! DICOM files that were compressed as a whole: `.dcm.gz`.

use std::{io::Read, path::Path};

use flate2::read::MultiGzDecoder;

use crate::{Error, Format, Limits, Result, sniff::sniff_bytes};

/// Bytes of the beginning that tell what is packed.
const PROBE: usize = 4096;

/// The bytes of a DICOM file, unpacked if they are gzip of one; anything else as it is. What comes out is
/// limited as a file is.
pub(crate) fn unpacked(bytes: Vec<u8>, path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let head = &bytes[..bytes.len().min(PROBE)];
    if !head.starts_with(b"\x1f\x8b") || sniff_bytes(head) != Some(Format::Dicom) {
        return Ok(bytes);
    }
    let limit = limits.file_bytes;
    let mut out = Vec::new();
    let read = MultiGzDecoder::new(bytes.as_slice()).take(limit.saturating_add(1)).read_to_end(&mut out);
    read.map_err(|e| Error::damaged(path, Format::Dicom, format!("the gzip stream cannot be decompressed ({e})")))?;
    if out.len() as u64 > limit {
        return Err(Error::Limit { path: path.to_owned(), what: "the unpacked file", needed: limit + 1, limit });
    }
    Ok(out)
}
