//! What can go wrong in this crate.

/// Why slices could not be pooled.
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
    /// A scan without any slice.
    #[error("scan {scan} has no slice")]
    NoSlices {
        /// Position of the scan in its batch; 0 for a single scan.
        scan: usize,
    },
    /// A slice embedding with NaN or an infinity in it.
    #[error("slice {slice} has a value that is not finite")]
    NotFinite {
        /// Row of the slice.
        slice: usize,
    },
    /// A setting outside its range.
    #[error("{name} must be {expected}, got {got}")]
    Parameter {
        /// Which setting.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What was given.
        got: String,
    },
    /// A learned map refused.
    #[error("learned map failed")]
    Nn(#[from] dinorad_nn::Error),
    /// The tensor library refused.
    #[error("tensor operation failed")]
    Tensor(#[from] candle::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
