//! What can go wrong in this crate.

/// A value that this crate cannot work with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An affine with a non-finite entry or a last row other than `0 0 0 1`.
    #[error("affine is not a finite 4x4 map with last row 0 0 0 1")]
    Affine,
    /// A matrix without an inverse.
    #[error("affine is singular")]
    Singular,
    /// A size of zero where an image is needed.
    #[error("{what}: size must not be zero")]
    Empty {
        /// Which size.
        what: &'static str,
    },
    /// A name that is none of the known ones.
    #[error("unknown {what} `{got}`, expected one of {expected}")]
    Unknown {
        /// What was to be named.
        what: &'static str,
        /// The word given.
        got: String,
        /// The words understood.
        expected: &'static str,
    },
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
