//! Finding runs below folders.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{RunFolder, is_run};
use crate::{Error, Renaming, Result};

/// Most folders on the way down.
const DEEPEST: usize = 32;

/// The runs below some folders.
#[derive(Debug, Default)]
pub struct Walked {
    /// Finished ones, in the order of the folders given and below each by path.
    pub runs: Vec<RunFolder>,
    /// Those that cannot be shown, and why.
    pub skipped: Vec<Skipped>,
}

/// A run that cannot be shown.
#[derive(Debug)]
pub struct Skipped {
    /// Its folder.
    pub path: PathBuf,
    /// Why.
    pub error: Error,
}

impl Walked {
    /// The same runs under other names; of those that cannot be shown only what kind of fault it was is told.
    ///
    /// # Errors
    /// As [`RunFolder::renamed`].
    pub fn renamed(self, names: &Renaming) -> Result<Self> {
        let runs = self.runs.into_iter().map(|run| run.renamed(names)).collect::<Result<_>>()?;
        let hidden = |one: Skipped| {
            let path = PathBuf::from(names.file(&one.path.display().to_string()));
            Skipped { error: Error::Untold { path: path.clone(), what: one.error.kind() }, path }
        };
        Ok(Self { runs, skipped: self.skipped.into_iter().map(hidden).collect() })
    }
}

/// Reads every run in and below the given folders. A folder that is a run is not looked into; symbolic
/// links to folders are not followed. Each run is read once, however often it is named.
///
/// A run that is unfinished, failed, damaged or of another version is listed among
/// [`skipped`](Walked::skipped), unless it was named itself and no other run was found.
///
/// # Errors
/// [`Error::File`] for a folder that cannot be listed, [`Error::NoRun`] for one without a run in it, and
/// what [`RunFolder::open`] says of a run where there is no other.
pub fn runs_below<P: AsRef<Path>>(folders: &[P]) -> Result<Walked> {
    let mut walked = Walked::default();
    let mut seen = std::collections::BTreeSet::new();
    for folder in folders {
        let folder = folder.as_ref();
        let mut found = Vec::new();
        below(folder, 0, &mut found)?;
        if found.is_empty() {
            // says whether it is a run of the first version
            RunFolder::open(folder)?;
        }
        for path in found {
            let real = fs::canonicalize(&path).map_err(Error::file("find", &path))?;
            if !seen.insert(real) {
                continue;
            }
            match RunFolder::open(&path) {
                Ok(run) => walked.runs.push(run),
                Err(error) => walked.skipped.push(Skipped { path, error }),
            }
        }
    }
    match (walked.runs.is_empty(), walked.skipped.len()) {
        (true, 1) => Err(walked.skipped.remove(0).error),
        _ => Ok(walked),
    }
}

fn below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if is_run(folder) {
        found.push(folder.to_owned());
        return Ok(());
    }
    if depth == DEEPEST {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(Error::file("list", folder))?;
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::file("list", folder))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    folders.iter().try_for_each(|folder| below(folder, depth + 1, found))
}
