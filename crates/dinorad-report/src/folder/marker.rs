//! The marker of a run's folder: which version it is, and whether the run is finished.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{CONFIG, METRICS};
use crate::{Error, Result, write_atomic};

/// The version of run folders that this crate writes and reads. Folders without a marker are of the
/// first.
pub const SCHEMA: u32 = 2;

/// The file that makes a folder a run's: walks that look for input pass such a folder over.
pub const MARKER: &str = "dinorad-run.json";

/// Whether a folder is that of a run, of any version, finished or not.
///
/// It looks for the marker alone, so that a walk pays one look a folder.
pub fn is_run(folder: &Path) -> bool {
    folder.join(MARKER).is_file()
}

/// The names of folders directly in this one that are runs, in order; none of one that cannot be listed, as
/// then there is nothing to help with.
fn runs_inside(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let runs = entries.filter(|entry| is_run(&entry.path()));
    let mut names: Vec<String> = runs.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Status {
    /// It is being made, or was stopped.
    Unfinished,
    /// Every file is there.
    Finished,
    /// It ended without results.
    Failed {
        /// Why.
        why: String,
    },
}

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Marker {
    kind: String,
    pub(super) schema: u32,
    #[serde(flatten)]
    pub(super) status: Status,
    /// Bytes of every file, by its path with `/`; once the run is finished.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) files: BTreeMap<String, u64>,
}

/// The part of a marker that no version changes.
#[derive(Deserialize)]
struct AnyMarker {
    schema: Option<u32>,
}

const KIND: &str = "dinorad run";

impl Marker {
    pub(super) fn new(status: Status) -> Self {
        Self { kind: KIND.into(), schema: SCHEMA, status, files: BTreeMap::new() }
    }

    /// Reads the marker of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MARKER);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(no_marker(folder)),
            Err(e) => return Err(Error::file("read", path)(e)),
        };
        let damaged = |e: serde_json::Error| Error::Damaged { path: path.clone(), why: e.to_string() };
        let found = serde_json::from_str::<AnyMarker>(&text).map_err(damaged)?.schema;
        if found != Some(SCHEMA) {
            return Err(Error::Version { path: folder.to_owned(), found: found.unwrap_or(0), reads: SCHEMA });
        }
        serde_json::from_str(&text).map_err(damaged)
    }

    pub(super) fn write(&self, folder: &Path, writer: &str) -> Result<PathBuf> {
        let path = folder.join(MARKER);
        let mut text = serde_json::to_string_pretty(self).map_err(|e| Error::format(&path, "JSON", e))?;
        text.push('\n');
        write_atomic(&path, text.as_bytes(), writer)?;
        Ok(path)
    }
}

/// What a folder without a marker is: a run of the first version, or none.
fn no_marker(folder: &Path) -> Error {
    match folder.join(CONFIG).is_file() && folder.join(METRICS).is_file() {
        true => Error::Version { path: folder.to_owned(), found: 1, reads: SCHEMA },
        false => Error::NoRun { path: folder.to_owned(), inside: runs_inside(folder) },
    }
}
