//! The architecture of a vision transformer of any of these families.

use dinorad_nn::Activation;

use crate::{
    Encoder, Error, Family, FeedForward, PositionResampling, Result,
    architecture::{check_most, check_sizes, refuse, transformer},
};

/// How a vision transformer knows where a patch is.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// From a table that is added to the tokens, resampled for images of another size.
    Table(PositionResampling),
    /// From rotations of queries and keys with this base of wave lengths.
    Rotary {
        /// The base.
        theta: f64,
    },
}

/// The architecture of a vision transformer.
///
/// # Examples
/// ```
/// use dinorad_backbone::{VitConfig, find};
/// let config = VitConfig::of(find("vit-large-16").unwrap())?;
/// assert_eq!((config.embed_dim, config.native_size()), (1024, 224));
/// # Ok::<(), dinorad_backbone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct VitConfig {
    /// What kind of vision transformer it is.
    pub family: Family,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of the native grid in patches.
    pub grid: usize,
    /// Number of register tokens.
    pub registers: usize,
    /// The feed-forward network.
    pub feed_forward: FeedForward,
    /// What stands between the maps of an MLP.
    pub activation: Activation,
    /// Width inside the feed-forward network.
    pub hidden: usize,
    /// Whether queries, keys and values have a bias (one that lacks it is kept as zeros).
    pub qkv_bias: bool,
    /// Whether the map after the heads has a bias.
    pub proj_bias: bool,
    /// Whether the feed-forward network has biases.
    pub mlp_bias: bool,
    /// Whether the patch projection has a bias.
    pub patch_bias: bool,
    /// Whether residual branches have a gain for every channel.
    pub layer_scale: bool,
    /// Whether tokens are normalised before the first block.
    pub pre_norm: bool,
    /// Width to which the normalised class token is mapped in the end, if it is.
    pub projection: Option<usize>,
    /// What LayerNorm adds to the variance.
    pub eps: f64,
    /// How positions enter.
    pub positions: Positions,
}

transformer!(VitConfig);

impl VitConfig {
    /// A plain vision transformer, as others are changed from.
    pub(crate) fn plain(embed_dim: usize, depth: usize, heads: usize, patch: usize, grid: usize) -> Self {
        VitConfig {
            family: Family::Vit,
            embed_dim,
            depth,
            heads,
            patch,
            grid,
            registers: 0,
            feed_forward: FeedForward::Mlp,
            activation: Activation::Gelu,
            hidden: embed_dim.saturating_mul(4),
            qkv_bias: true,
            proj_bias: true,
            mlp_bias: true,
            patch_bias: true,
            layer_scale: false,
            pre_norm: false,
            projection: None,
            eps: 1e-12,
            positions: Positions::Table(PositionResampling::EXACT),
        }
    }

    /// The architecture of an encoder of the [registry](crate::registry()).
    ///
    /// # Errors
    /// [`Error::Architecture`] if it is no vision transformer of these families.
    pub fn of(encoder: &Encoder) -> Result<Self> {
        let (patch, grid) = (encoder.patch, encoder.native_size / encoder.patch.max(1));
        let plain = Self::plain(encoder.embed_dim, encoder.depth, encoder.heads, patch, grid);
        let clip = VitConfig { family: Family::Clip, eps: 1e-5, ..plain.clone() };
        Ok(match (encoder.family, encoder.id) {
            (Family::Vit, "msn-vit-large-16") => VitConfig { eps: 1e-6, ..plain },
            (Family::Vit, _) => plain,
            (Family::Clip, "clip-vit-large-14") => {
                VitConfig { activation: Activation::QuickGelu, pre_norm: true, patch_bias: false, ..clip }
            }
            (Family::Clip, "biomedclip-vit-base-16") => VitConfig {
                family: Family::Clip,
                eps: 1e-6,
                projection: Some(encoder.embed_dim),
                positions: Positions::Table(PositionResampling::ANTIALIASED),
                // What is listed is the width after the projection.
                ..Self::plain(768, encoder.depth, encoder.heads, patch, grid)
            },
            (Family::Clip, _) => VitConfig { pre_norm: true, patch_bias: false, ..clip },
            (Family::Dinov3, _) => VitConfig {
                family: Family::Dinov3,
                registers: encoder.registers,
                layer_scale: true,
                eps: 1e-5,
                positions: Positions::Rotary { theta: 100.0 },
                ..plain
            },
            _ => {
                let value = format!("{} of family {}", encoder.id, encoder.family);
                return Err(Error::Architecture { field: "encoder", value, expected: "a vision transformer" });
            }
        })
    }

    /// Side in pixels of the image whose positions need no resampling.
    pub fn native_size(&self) -> usize {
        self.transformer().native_size()
    }

    /// Tokens before the first patch: class and registers.
    pub fn prefix_tokens(&self) -> usize {
        self.registers.saturating_add(1)
    }

    /// Checks that the encoder can be built.
    ///
    /// # Errors
    /// [`Error::Architecture`] for a size of zero or beyond reason, heads that do not divide the
    /// width, or positions that cannot be.
    pub fn check(&self) -> Result<()> {
        self.transformer().check()?;
        check_sizes(&[("projection", self.projection.unwrap_or(1), 1 << 16)])?;
        check_most("registers", self.registers, 1 << 10)?;
        match self.positions {
            Positions::Table(how) => how.check(),
            Positions::Rotary { theta } if !(theta.is_finite() && theta > 0.0) => {
                refuse("positions.theta", &theta, "a positive number")
            }
            Positions::Rotary { .. } if !(self.embed_dim / self.heads).is_multiple_of(4) => {
                refuse("heads", &self.heads, "heads whose width is a multiple of 4")
            }
            Positions::Rotary { .. } => Ok(()),
        }
    }

    /// Every parameter and its shape, under DINOv2's official names. The mask token of DINOv2 and DINOv3 is
    /// among them.
    ///
    /// For a configuration that [`check`](Self::check) accepts; the sizes of others may overflow.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let d = self.embed_dim;
        let mut out = vec![
            ("cls_token".to_owned(), vec![1, 1, d]),
            ("patch_embed.proj.weight".to_owned(), vec![d, 3, self.patch, self.patch]),
        ];
        let mut push = |name: &str, shape: Vec<usize>, there: bool| {
            if there {
                out.push((name.to_owned(), shape));
            }
        };
        push("patch_embed.proj.bias", vec![d], self.patch_bias);
        let table = matches!(self.positions, Positions::Table(_));
        push("pos_embed", vec![1, 1 + self.grid * self.grid, d], table);
        push("mask_token", vec![1, 1, d], self.family == Family::Dinov3);
        push("mask_token", vec![1, d], self.family == Family::Dinov2);
        push("register_tokens", vec![1, self.registers, d], self.registers > 0);
        for (norm, there) in [("norm_pre", self.pre_norm), ("norm", true)] {
            push(&format!("{norm}.weight"), vec![d], there);
            push(&format!("{norm}.bias"), vec![d], there);
        }
        push("head.proj.weight", vec![self.projection.unwrap_or(0), d], self.projection.is_some());
        let (up, down) = match self.feed_forward {
            FeedForward::Mlp => (("mlp.fc1", self.hidden), "mlp.fc2"),
            FeedForward::SwiGlu => (("mlp.w12", 2 * self.hidden), "mlp.w3"),
        };
        for i in 0..self.depth {
            let mut push = |name: &str, shape: Vec<usize>, there: bool| {
                if there {
                    out.push((format!("blocks.{i}.{name}"), shape));
                }
            };
            for norm in ["norm1", "norm2"] {
                push(&format!("{norm}.weight"), vec![d], true);
                push(&format!("{norm}.bias"), vec![d], true);
            }
            push("attn.qkv.weight", vec![3 * d, d], true);
            push("attn.qkv.bias", vec![3 * d], self.qkv_bias);
            push("attn.proj.weight", vec![d, d], true);
            push("attn.proj.bias", vec![d], self.proj_bias);
            push(&format!("{}.weight", up.0), vec![up.1, d], true);
            push(&format!("{}.bias", up.0), vec![up.1], self.mlp_bias);
            push(&format!("{down}.weight"), vec![d, self.hidden], true);
            push(&format!("{down}.bias"), vec![d], self.mlp_bias);
            push("ls1.gamma", vec![d], self.layer_scale);
            push("ls2.gamma", vec![d], self.layer_scale);
        }
        out
    }
}
