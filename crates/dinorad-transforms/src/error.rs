//! What can go wrong in this crate.

/// A step or an image that this crate cannot work with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image without any pixel.
    #[error("image of shape {shape:?} has no pixels")]
    Empty {
        /// `(c, h, w)` of the image.
        shape: Vec<usize>,
    },
    /// A pixel that is NaN or infinite.
    #[error("image holds a value that is not finite")]
    NotFinite,
    /// The values of an image span more than f32 can hold.
    #[error("range {low} to {high} of the image is not representable")]
    Range {
        /// Smallest value.
        low: f32,
        /// Largest value.
        high: f32,
    },
    /// A step that needs another number of channels.
    #[error("{step} needs {expected} channels, the image has {got}")]
    Channels {
        /// Name of the step.
        step: &'static str,
        /// What it works on.
        expected: String,
        /// What it was given.
        got: usize,
    },
    /// A mask whose size is not that of its image.
    #[error("mask is {mask:?}, its image {image:?}")]
    MaskShape {
        /// `(h, w)` of the mask.
        mask: (usize, usize),
        /// `(h, w)` of the image.
        image: (usize, usize),
    },
    /// A crop that does not lie inside the image.
    #[error("box at ({top}, {left}) of {height}x{width} leaves the image of {image:?}")]
    Box {
        /// First row.
        top: usize,
        /// First column.
        left: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// `(h, w)` of the image.
        image: (usize, usize),
    },
    /// A setting outside what its step understands.
    #[error("{step}: `{parameter}` is {got}, expected {expected}")]
    Parameter {
        /// Name of the step.
        step: &'static str,
        /// Name of the setting.
        parameter: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A random step was asked for without a source of random numbers.
    #[error("{step} is random: use `augment` with a stream")]
    Random {
        /// Name of the step.
        step: &'static str,
    },
    /// A name that is none of the known ones.
    #[error("unknown {what} `{got}`, expected one of {expected}")]
    Unknown {
        /// What was to be named.
        what: &'static str,
        /// The word given.
        got: String,
        /// The words understood.
        expected: String,
    },
    /// Resampling failed.
    #[error(transparent)]
    Core(#[from] dinorad_core::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
