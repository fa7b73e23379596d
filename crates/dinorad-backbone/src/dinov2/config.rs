//! The architecture of a DINOv2 encoder.

use crate::{
    Family, PositionResampling, Positions, Result, VitConfig,
    architecture::{refuse, transformer},
};

/// The feed-forward network of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForward {
    /// Two maps with an exact GELU between them.
    Mlp,
    /// Gated: what the giant encoder has.
    SwiGlu,
}

/// The architecture of a DINOv2 encoder.
///
/// # Examples
/// ```
/// use dinorad_backbone::Dinov2Config;
/// let config = Dinov2Config::vits14().with_registers(4);
/// assert_eq!((config.embed_dim, config.native_size()), (384, 518));
/// # config.check()?;
/// # Ok::<(), dinorad_backbone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Dinov2Config {
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
    /// Number of register tokens.
    pub registers: usize,
    /// The feed-forward network.
    pub feed_forward: FeedForward,
    /// Width inside the feed-forward network.
    pub hidden: usize,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether residual branches have a gain for every channel.
    pub layer_scale: bool,
    /// What LayerNorm adds to the variance.
    pub eps: f64,
    /// How positions are resampled.
    pub positions: PositionResampling,
    /// What the gains of the residual branches start from in an untrained encoder.
    pub layer_scale_init: f64,
}

transformer!(Dinov2Config);

impl Dinov2Config {
    fn preset_of(embed_dim: usize, depth: usize, heads: usize) -> Self {
        Dinov2Config {
            embed_dim,
            depth,
            heads,
            patch: 14,
            grid: 37,
            registers: 0,
            feed_forward: FeedForward::Mlp,
            hidden: 4 * embed_dim,
            qkv_bias: true,
            layer_scale: true,
            eps: 1e-6,
            positions: PositionResampling::OFFICIAL,
            layer_scale_init: 1e-5,
        }
    }

    /// ViT-S/14, 22 million parameters.
    pub fn vits14() -> Self {
        Self::preset_of(384, 12, 6)
    }

    /// ViT-B/14, 87 million parameters.
    pub fn vitb14() -> Self {
        Self::preset_of(768, 12, 12)
    }

    /// ViT-L/14, 304 million parameters.
    pub fn vitl14() -> Self {
        Self::preset_of(1024, 24, 16)
    }

    /// ViT-g/14 with SwiGLU, 1.1 billion parameters.
    pub fn vitg14() -> Self {
        Dinov2Config {
            feed_forward: FeedForward::SwiGlu,
            hidden: swiglu_hidden(1536, 4.0),
            ..Self::preset_of(1536, 40, 24)
        }
    }

    /// A small encoder for trying things out: 2.8 million parameters, 224 pixels. It was never
    /// trained by anyone; its gains start at 1 so that its blocks do something.
    pub fn tiny() -> Self {
        Dinov2Config { grid: 16, layer_scale_init: 1.0, ..Self::preset_of(192, 6, 3) }
    }

    /// The preset of a name: `tiny`, `vits14`, `vitb14`, `vitl14`, `vitg14`, the last four also
    /// with `_reg4`.
    pub fn preset(name: &str) -> Option<Self> {
        let (base, registers) = match name.strip_suffix("_reg4").or_else(|| name.strip_suffix("_reg")) {
            Some(base) => (base, 4),
            None => (name, 0),
        };
        let config = match base {
            "tiny" => Self::tiny(),
            "vits14" => Self::vits14(),
            "vitb14" => Self::vitb14(),
            "vitl14" => Self::vitl14(),
            "vitg14" => Self::vitg14(),
            _ => return None,
        };
        Some(if registers > 0 { config.with_registers(registers) } else { config })
    }

    /// The same with register tokens, and the position resampling of the official encoders that
    /// have them.
    #[must_use]
    pub fn with_registers(mut self, registers: usize) -> Self {
        self.registers = registers;
        self.positions = if registers > 0 { PositionResampling::ANTIALIASED } else { PositionResampling::OFFICIAL };
        self
    }

    /// The same as what every vision transformer is told by.
    pub fn vit(&self) -> VitConfig {
        VitConfig {
            family: Family::Dinov2,
            registers: self.registers,
            feed_forward: self.feed_forward,
            hidden: self.hidden,
            qkv_bias: self.qkv_bias,
            layer_scale: self.layer_scale,
            eps: self.eps,
            positions: Positions::Table(self.positions),
            ..VitConfig::plain(self.embed_dim, self.depth, self.heads, self.patch, self.grid)
        }
    }

    /// Side in pixels of the image whose positions need no resampling.
    pub fn native_size(&self) -> usize {
        self.transformer().native_size()
    }

    /// Tokens before the first patch: class and registers.
    pub fn prefix_tokens(&self) -> usize {
        self.registers.saturating_add(1)
    }

    /// Number of attention heads of the published encoders of this width.
    pub fn family_heads(embed_dim: usize) -> Option<usize> {
        match embed_dim {
            384 => Some(6),
            768 => Some(12),
            1024 => Some(16),
            1536 => Some(24),
            _ => None,
        }
    }

    /// Checks that the encoder can be built.
    ///
    /// # Errors
    /// [`Error::Architecture`](crate::Error::Architecture) for a size of zero or beyond reason, heads that do not divide the
    /// width, or a resampling that is not bicubic.
    pub fn check(&self) -> Result<()> {
        if !self.layer_scale_init.is_finite() {
            return refuse("layer_scale_init", &self.layer_scale_init, "a number");
        }
        self.vit().check()
    }

    /// Every parameter and its shape, under the official names. The mask token is among them.
    ///
    /// For a configuration that [`check`](Self::check) accepts; the sizes of others may overflow.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        self.vit().parameters()
    }
}

/// Width inside a SwiGLU network as DINOv2 chooses it: two thirds of `dim * ratio`, rounded up to
/// a multiple of 8.
pub fn swiglu_hidden(dim: usize, ratio: f64) -> usize {
    let hidden = (dim as f64 * ratio) as usize;
    ((hidden as f64 * 2.0 / 3.0) as usize).div_ceil(8) * 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn presets_have_the_published_sizes() {
        let count = |c: Dinov2Config| -> usize {
            c.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
        };
        // facebookresearch/dinov2 model cards, mask token included
        assert_eq!(count(Dinov2Config::vits14()), 22_056_576);
        assert_eq!(count(Dinov2Config::vitb14()), 86_580_480);
        assert_eq!(count(Dinov2Config::vitl14()), 304_368_640);
        assert_eq!(count(Dinov2Config::vitg14()), 1_136_480_768);
        assert!((2_000_000..4_000_000).contains(&count(Dinov2Config::tiny())));
        assert_eq!(swiglu_hidden(1536, 4.0), 4096);
        assert_eq!(swiglu_hidden(24, 4.0), 64);
    }

    #[test]
    fn impossible_architectures_are_errors() {
        for change in [
            |c: &mut Dinov2Config| c.heads = 5,
            |c: &mut Dinov2Config| c.depth = 0,
            |c: &mut Dinov2Config| c.grid = usize::MAX,
            |c: &mut Dinov2Config| c.eps = f64::NAN,
        ] {
            let mut config = Dinov2Config::tiny();
            change(&mut config);
            assert!(matches!(config.check(), Err(Error::Architecture { .. })));
        }
        assert_eq!(Dinov2Config::preset("vitl14_reg4").map(|c| c.registers), Some(4));
        assert_eq!(Dinov2Config::preset("vit"), None);
    }
}
