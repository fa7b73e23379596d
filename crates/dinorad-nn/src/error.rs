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
    /// Resampling weights could not be made.
    #[error("resampling")]
    Resample(#[from] dinorad_core::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn parameter(what: &'static str, got: impl ToString, expected: &'static str) -> Error {
    Error::Parameter { what, got: got.to_string(), expected }
}
