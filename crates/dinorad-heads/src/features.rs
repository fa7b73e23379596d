//! Where an encoder's tokens are in a row of features.

use std::ops::Range;

use crate::{Error, Result};

/// Which columns of a cached feature row hold which tokens.
///
/// A row with the class tokens of the most blocks, then the mean patch token, holds every smaller
/// choice as one range of columns, so that a whole grid of probes reads one cache.
///
/// # Examples
/// ```
/// use dinorad_heads::InputLayout;
/// let layout = InputLayout { dim: 384, blocks: 4, avgpool: true };
/// assert_eq!(layout.width(), 1920);
/// assert_eq!(layout.columns(1, true)?, 1152..1920);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InputLayout {
    /// Width of a token.
    pub dim: usize,
    /// Class tokens of so many last blocks, oldest first.
    pub blocks: usize,
    /// Whether the mean patch token follows them.
    pub avgpool: bool,
}

impl InputLayout {
    /// Width of a row.
    pub fn width(&self) -> usize {
        self.dim * (self.blocks + usize::from(self.avgpool))
    }

    /// The columns of the last `blocks` class tokens, with or without the mean token.
    ///
    /// # Errors
    /// [`Error::TooFewBlocks`] and [`Error::NoPatchTokens`] if the rows do not hold them,
    /// [`Error::Parameter`] for no blocks.
    pub fn columns(&self, blocks: usize, avgpool: bool) -> Result<Range<usize>> {
        if blocks == 0 {
            return Err(Error::parameter("blocks", "at least 1", blocks));
        }
        if blocks > self.blocks {
            return Err(Error::TooFewBlocks { asked: blocks, available: self.blocks });
        }
        if avgpool && !self.avgpool {
            return Err(Error::NoPatchTokens);
        }
        Ok((self.blocks - blocks) * self.dim..(self.blocks + usize::from(avgpool)) * self.dim)
    }
}
