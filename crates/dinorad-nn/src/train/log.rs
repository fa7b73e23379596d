//! `log.jsonl`: a line for every step and every validation.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{Error, Result};

/// A log, `log.jsonl`, that goes on where a checkpoint was made.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens a log; what it tells of step `from` and later is dropped, for it will be told again.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or written.
    pub fn open(path: &Path, from: usize) -> Result<Self> {
        let failed = |e: std::io::Error| Error::File { path: path.to_owned(), reason: e.to_string() };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut kept = 0;
        for line in BufReader::new(&file).split(b'\n') {
            let line = line.map_err(failed)?;
            let step = serde_json::from_slice::<Value>(&line).ok().and_then(|v| v.get("step")?.as_u64());
            match step {
                Some(step) if (step as usize) < from => kept += line.len() as u64 + 1,
                _ => break,
            }
        }
        file.set_len(kept).and_then(|()| file.seek(std::io::SeekFrom::End(0))).map_err(failed)?;
        Ok(Log { path: path.to_owned(), file })
    }

    /// Adds a line; its `step` is what [`open`](Self::open) goes by.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn tell(&mut self, line: &Value) -> Result<()> {
        let failed = |e: std::io::Error| Error::File { path: self.path.clone(), reason: e.to_string() };
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(failed)
    }
}
