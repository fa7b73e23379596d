//! What can go wrong in this crate.

use std::path::PathBuf;

/// Why a decoder could not be made, trained, applied, stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor of another shape than the operation takes.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// The shape it should have.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A feature that is NaN or infinite.
    #[error("{what}: row {row} has a value that is not finite")]
    NotFinite {
        /// Which features.
        what: &'static str,
        /// The row, from 0.
        row: usize,
    },
    /// Nothing to work on.
    #[error("{what}: no rows")]
    Empty {
        /// Which set.
        what: &'static str,
    },
    /// A class or finding outside its range.
    #[error("target of row {row} is {got}, expected {expected}")]
    Label {
        /// The row, from 0.
        row: usize,
        /// What is there.
        got: String,
        /// What may be there.
        expected: String,
    },
    /// Targets of the wrong kind for this method.
    #[error("{head} needs {expected} targets, got {got}")]
    TargetKind {
        /// Which head.
        head: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        got: &'static str,
    },
    /// A setting outside its range.
    #[error("{name} must be {expected}, got {got}")]
    Parameter {
        /// Which setting.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What was given.
        got: String,
    },
    /// Training that left the range of numbers.
    #[error("{what} became non-finite at step {step}; try a smaller learning rate")]
    Diverged {
        /// What became non-finite.
        what: String,
        /// Step, from 0.
        step: usize,
    },
    /// A file that could not be read or written.
    #[error("could not {action} {}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file that holds no such decoder.
    #[error("{}: {reason}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The training blocks refused.
    #[error("training failed")]
    Nn(#[source] dinorad_nn::Error),
    /// The core refused.
    #[error(transparent)]
    Core(#[from] dinorad_core::Error),
    /// The tensor library refused.
    #[error("tensor operation failed")]
    Tensor(#[from] candle::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn shape(what: &'static str, expected: impl Into<String>, got: &[usize]) -> Self {
        Error::Shape { what, expected: expected.into(), got: got.to_vec() }
    }

    pub(crate) fn parameter(name: &'static str, expected: impl Into<String>, got: impl ToString) -> Self {
        Error::Parameter { name, expected: expected.into(), got: got.to_string() }
    }
}

/// What a file says about itself is said by this crate.
impl From<dinorad_nn::Error> for Error {
    fn from(error: dinorad_nn::Error) -> Self {
        match error {
            dinorad_nn::Error::Store { action, path, source } => Error::File { action, path, source },
            dinorad_nn::Error::Format { path, reason } => Error::Format { path, reason },
            other => Error::Nn(other),
        }
    }
}
