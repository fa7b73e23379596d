//! What a linear probe sees of an encoder's tokens.

use std::ops::Range;

use candle::Tensor;
use dinorad_backbone::Features;

use crate::{Error, Result};

/// The class tokens of the last `blocks` blocks, oldest first, then with `avgpool` the mean patch
/// token of the last block.
///
/// # Shapes
/// `(b, blocks·dim)`, or `(b, (blocks + 1)·dim)` with `avgpool`. Carries gradients.
///
/// # Errors
/// [`Error::TooFewBlocks`] if the features hold fewer blocks, [`Error::NoPatchTokens`] if the mean
/// is asked for and there are none, [`Error::Parameter`] for no blocks.
///
/// # Source
/// DINOv2's linear evaluation, as in the study.
pub fn linear_input(features: &Features, blocks: usize, avgpool: bool) -> Result<Tensor> {
    let available = features.layers.len();
    if blocks == 0 {
        return Err(Error::parameter("blocks", "at least 1", blocks));
    }
    if blocks > available {
        return Err(Error::TooFewBlocks { asked: blocks, available });
    }
    let layers = &features.layers[available - blocks..];
    let mut parts: Vec<Tensor> = layers.iter().map(|layer| layer.cls.clone()).collect();
    if avgpool {
        let last = layers.last().and_then(|layer| layer.patches.as_ref()).ok_or(Error::NoPatchTokens)?;
        parts.push(match last.rank() {
            3 => last.mean(1)?,
            4 => last.flatten_from(2)?.mean(2)?,
            _ => return Err(Error::shape("patch tokens", "(b, n, dim) or (b, dim, h, w)", last.dims())),
        });
    }
    Ok(Tensor::cat(&parts, 1)?)
}

/// Which columns of a cached feature row hold which tokens.
///
/// A row made by [`linear_input`] with the most blocks and the mean token holds every smaller
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
