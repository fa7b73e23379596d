//! What can go wrong in this crate.

/// A value that a block, a loss or an optimiser cannot work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor of the wrong shape.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// The shape it needs.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A setting outside its range.
    #[error("{what} is {got}, expected {expected}")]
    Parameter {
        /// Which setting.
        what: &'static str,
        /// Its value.
        got: String,
        /// What is possible.
        expected: &'static str,
    },
    /// A saved state that does not belong to these variables.
    #[error("saved state: {reason}")]
    State {
        /// What does not fit.
        reason: String,
    },
    /// A loss or a gradient that is no number: nothing has moved.
    #[error(
        "the {what} of step {step} is {value}: a smaller learning rate, a warm-up or a limit on gradients may help"
    )]
    Diverged {
        /// Loss or gradient.
        what: &'static str,
        /// What it is.
        value: f64,
        /// The step, from 0.
        step: usize,
    },
    /// A file that cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// A stored model that could not be read or written.
    #[error("could not {action} {}", path.display())]
    Store {
        /// `read` or `write`.
        action: &'static str,
        /// Which file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file that holds no such model.
    #[error("{}: {reason}", path.display())]
    Format {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What is learned could not be had: a case that cannot be read, a model that does not fit.
    #[error(transparent)]
    Lesson(Box<dyn std::error::Error + Send + Sync>),
    /// Resampling weights could not be made.
    #[error("resampling")]
    Resample(#[from] dinorad_core::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle::Error),
}

impl Error {
    /// Wraps what a lesson's own crate says.
    pub fn lesson(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Lesson(error.into())
    }
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn parameter(what: &'static str, got: impl ToString, expected: &'static str) -> Error {
    Error::Parameter { what, got: got.to_string(), expected }
}
