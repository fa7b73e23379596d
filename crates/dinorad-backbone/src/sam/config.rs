//! The architecture of SAM's image encoder.

use crate::{
    Result,
    architecture::{check_most, refuse, transformer},
};

/// The architecture of SAM's image encoder.
///
/// # Examples
/// ```
/// use dinorad_backbone::SamConfig;
/// let config = SamConfig::large();
/// assert_eq!((config.embed_dim, config.native_size()), (1024, 1024));
/// # config.check()?;
/// # Ok::<(), dinorad_backbone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SamConfig {
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of the native grid in patches: the size of the position table.
    pub grid: usize,
    /// Side in patches of the windows within which most blocks attend.
    pub window: usize,
    /// The blocks that attend over the whole image, by index.
    pub global: Vec<usize>,
    /// Width inside the feed-forward network.
    pub hidden: usize,
    /// Channels of the neck's map, which is what SAM's decoder is given; 0 without a neck.
    pub neck: usize,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether there is a table of positions.
    pub absolute_positions: bool,
    /// Whether attention scores have a part that depends on the distance.
    pub relative_positions: bool,
    /// What the blocks' LayerNorms add to the variance.
    pub eps: f64,
}

transformer!(SamConfig);

impl SamConfig {
    /// ViT-L/16 with windows of 14: `sam_vit_l`, 308 million parameters with its neck.
    pub fn large() -> Self {
        SamConfig {
            embed_dim: 1024,
            depth: 24,
            heads: 16,
            patch: 16,
            grid: 64,
            window: 14,
            global: vec![5, 11, 17, 23],
            hidden: 4096,
            neck: 256,
            qkv_bias: true,
            absolute_positions: true,
            relative_positions: true,
            eps: 1e-6,
        }
    }

    /// Side in pixels of the image whose positions need no resampling.
    pub fn native_size(&self) -> usize {
        self.transformer().native_size()
    }

    /// Side in patches of what the tokens of a block attend to at the native size.
    pub(super) fn attended(&self, block: usize) -> usize {
        if self.global.contains(&block) { self.grid } else { self.window }
    }

    /// Checks that the encoder can be built.
    ///
    /// # Errors
    /// [`Error::Architecture`](crate::Error::Architecture) for a size of zero or beyond reason, or heads that do not divide the
    /// width.
    pub fn check(&self) -> Result<()> {
        self.transformer().check()?;
        check_most("neck", self.neck, 1 << 16)?;
        let windowed = (0..self.depth).any(|i| !self.global.contains(&i));
        if (windowed && self.window == 0) || self.window > 1 << 10 {
            return refuse("window", &self.window, "a positive number within reason");
        }
        if let Some(block) = self.global.iter().find(|i| **i >= self.depth) {
            return refuse("global", block, "indices of blocks");
        }
        Ok(())
    }

    /// Every parameter and its shape, under the names of the authors.
    ///
    /// For a configuration that [`check`](Self::check) accepts; the sizes of others may overflow.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let d = self.embed_dim;
        let mut out = vec![
            ("patch_embed.proj.weight".to_owned(), vec![d, 3, self.patch, self.patch]),
            ("patch_embed.proj.bias".to_owned(), vec![d]),
        ];
        if self.absolute_positions {
            out.push(("pos_embed".to_owned(), vec![1, self.grid, self.grid, d]));
        }
        for i in 0..self.depth {
            let mut push = |name: &str, shape: Vec<usize>| out.push((format!("blocks.{i}.{name}"), shape));
            for norm in ["norm1", "norm2"] {
                push(&format!("{norm}.weight"), vec![d]);
                push(&format!("{norm}.bias"), vec![d]);
            }
            push("attn.qkv.weight", vec![3 * d, d]);
            if self.qkv_bias {
                push("attn.qkv.bias", vec![3 * d]);
            }
            push("attn.proj.weight", vec![d, d]);
            push("attn.proj.bias", vec![d]);
            if self.relative_positions {
                for axis in ["attn.rel_pos_h", "attn.rel_pos_w"] {
                    push(axis, vec![2 * self.attended(i) - 1, d / self.heads]);
                }
            }
            push("mlp.lin1.weight", vec![self.hidden, d]);
            push("mlp.lin1.bias", vec![self.hidden]);
            push("mlp.lin2.weight", vec![d, self.hidden]);
            push("mlp.lin2.bias", vec![d]);
        }
        if self.neck > 0 {
            out.push(("neck.0.weight".to_owned(), vec![self.neck, d, 1, 1]));
            out.push(("neck.2.weight".to_owned(), vec![self.neck, self.neck, 3, 3]));
            for norm in ["neck.1", "neck.3"] {
                out.push((format!("{norm}.weight"), vec![self.neck]));
                out.push((format!("{norm}.bias"), vec![self.neck]));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn the_large_one_has_the_published_size() {
        let config = SamConfig::large();
        config.check().unwrap();
        let count: usize = config.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        // transformers, `SamVisionConfig` of facebook/sam-vit-large
        assert_eq!(count, 308_278_272);
    }

    #[test]
    fn impossible_architectures_are_errors() {
        for change in [
            |c: &mut SamConfig| c.heads = 5,
            |c: &mut SamConfig| c.window = 0,
            |c: &mut SamConfig| c.global.push(24),
            |c: &mut SamConfig| c.grid = usize::MAX,
            |c: &mut SamConfig| c.eps = 0.0,
        ] {
            let mut config = SamConfig::large();
            change(&mut config);
            assert!(matches!(config.check(), Err(Error::Architecture { .. })));
        }
    }
}
