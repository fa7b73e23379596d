//! What can go wrong in this crate.

use std::{io, path::PathBuf};

/// Why a run folder, a picture or a page could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of this crate's own making that does not read back.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A folder that is not a run's.
    #[error("{} is no run: it holds no dinorad-run.json{}", path.display(), runs_inside(inside))]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// Folders in it that are runs, as those of every fold.
        inside: Vec<String>,
    },
    /// A run of another version.
    #[error(
        "{} is a run of version {found}, and this program reads version {reads}: {}", path.display(),
        if found < reads { "run the experiment again; features that were made before are found again" }
        else { "a newer dinorad reads it" }
    )]
    Version {
        /// The run's folder, or the file.
        path: PathBuf,
        /// Its version; 1 for those made before versions were written.
        found: u32,
        /// The version that is read.
        reads: u32,
    },
    /// A run that is being made, or was stopped.
    #[error("the run {} is not finished: run its experiment again with the same folder to resume it", path.display())]
    Unfinished {
        /// Its folder.
        path: PathBuf,
    },
    /// A run that ended without results.
    #[error("the run {} failed: {why}", path.display())]
    Failed {
        /// Its folder.
        path: PathBuf,
        /// Why, as it said itself.
        why: String,
    },
    /// Another error, told without the names of files.
    #[error("{}: {what}", path.display())]
    Untold {
        /// The other name of the file or folder.
        path: PathBuf,
        /// The kind of error.
        what: &'static str,
    },
    /// A folder that somebody else writes a run to.
    #[error("{} is being written by another process: wait until it is done, or choose another folder", path.display())]
    BeingWritten {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that a new run may not have.
    #[error("{} holds a run already: name another folder, or say that it may be overwritten", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Runs that cannot be compared.
    #[error("{} and {} cannot be compared: {why}", a.display(), b.display())]
    NotComparable {
        /// The first run.
        a: PathBuf,
        /// The second.
        b: PathBuf,
        /// Why.
        why: String,
    },
    /// A setting outside its range.
    #[error("{what}: expected {expected}, got {got}")]
    Parameter {
        /// Which setting.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        got: String,
    },
    /// An array of the wrong shape.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which array.
        what: String,
        /// What it should be.
        expected: String,
        /// What it was.
        got: Vec<usize>,
    },
    /// A file that could not be written as text.
    #[error("could not write {} as {format}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// JSON, TOML, CSV.
        format: &'static str,
        /// What the writer said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A picture, plot or page that could not be drawn.
    #[error("could not draw {what}: {why}")]
    Draw {
        /// Which picture.
        what: &'static str,
        /// What the drawing library said.
        why: String,
    },
    /// A metric.
    #[error(transparent)]
    Metrics(#[from] dinorad_metrics::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Which runs lie in a folder that is none.
fn runs_inside(inside: &[String]) -> String {
    match inside {
        [] => String::new(),
        [one] => format!("; the run in it is {one}"),
        [first, .., last] => format!("; the {} runs in it are {first} to {last}, name one of them", inside.len()),
    }
}

impl Error {
    /// What kind of error it is, in words that hold no name.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Error::File { .. } => "a file could not be read",
            Error::Damaged { .. } => "a file is damaged",
            Error::NoRun { .. } => "no run",
            Error::Version { .. } => "a run of another version",
            Error::Unfinished { .. } => "a run that is not finished",
            Error::Failed { .. } => "a run that failed",
            Error::BeingWritten { .. } => "a run that is being written",
            Error::Untold { what, .. } => what,
            _ => "it could not be shown",
        }
    }
}

crate::error_helpers!();
