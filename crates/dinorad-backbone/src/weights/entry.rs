//! The place of a tensor in a file, whichever kind of file it is.

use candle::DType;

/// Where a tensor lies in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Element type, if it is one this crate knows.
    pub(crate) dtype: Option<DType>,
    pub(crate) shape: Vec<usize>,
    /// First byte in the file.
    pub(crate) start: usize,
    /// One past the last byte that belongs to it.
    pub(crate) end: usize,
    /// Steps in elements, for a tensor that is not stored row by row.
    pub(crate) strides: Option<Vec<usize>>,
}
