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
    /// A text that is no point of a search grid.
    #[error("`{text}` is no grid point: {reason}")]
    PointName {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An error and what lies behind it in one line, nothing said twice.
///
/// # Examples
/// ```
/// let error = std::io::Error::other("the disk\nis full");
/// assert_eq!(dinorad_core::in_full(&error), "the disk is full");
/// ```
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = inner.source();
    }
    text.replace(['\n', '\r'], " ")
}
