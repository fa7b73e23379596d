//! Headers of text lines, with the voxels behind the last one.

use std::{io::Read, path::Path};

use crate::{Error, Format, Result};

/// Longest header read; a diffusion scan's list of gradients takes some 100 KB.
const MAX_HEADER: u64 = 4 << 20;

/// Reads lines one at a time and counts their bytes.
pub(crate) struct Lines<'p, R> {
    source: R,
    path: &'p Path,
    format: Format,
    /// Bytes read so far.
    pub(crate) read: u64,
}

impl<'p, R: Read> Lines<'p, R> {
    pub(crate) fn new(source: R, path: &'p Path, format: Format) -> Self {
        Self { source, path, format, read: 0 }
    }

    /// The next line without its end; nothing at the end of the file.
    ///
    /// Byte for byte, so that not one byte behind the header is taken: the source is a buffer.
    pub(crate) fn next(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        let mut byte = [0u8; 1];
        loop {
            if self.read == MAX_HEADER {
                let what = format!("a header of more than {MAX_HEADER} bytes");
                return Err(Error::damaged(self.path, self.format, what));
            }
            match self.source.read(&mut byte) {
                Ok(0) if line.is_empty() => return Ok(None),
                Ok(0) => break,
                Ok(_) => {
                    self.read += 1;
                    if byte[0] == b'\n' {
                        break;
                    }
                    line.push(byte[0]);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::read(self.path, e)),
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// What lies behind the last line read.
    pub(crate) fn rest(self) -> R {
        self.source
    }
}
