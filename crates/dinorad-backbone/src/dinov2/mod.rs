//! DINOv2 vision transformers.

mod block;
mod config;
mod patch_embed;
mod position;
pub(crate) mod tokens;
mod untrained;

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};
use dinorad_nn::{LayerNorm, Pass, parameters};

pub(crate) use self::block::set_drop_path;
pub use self::{
    block::{FeedForwardNet, TransformerBlock},
    config::{Dinov2Config, FeedForward, swiglu_hidden},
    position::{PositionResampling, resample_positions},
};
pub(crate) use self::{patch_embed::PatchEmbed, position::PositionTable};
use crate::{
    Backbone, BackboneSpec, Family, Features, FinalNorm, LayerTokens, Output, Patches, Request, Result,
    architecture::{self, check_parameters},
};

/// A DINOv2 vision transformer: ViT-S/B/L/g, with or without registers.
///
/// # Examples
/// ```
/// use dinorad_backbone::{Dinov2, Dinov2Config, candle::{DType, Device, Tensor}};
/// use dinorad_nn::Pass;
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let encoder = Dinov2::untrained(&Dinov2Config::tiny(), 0, &Device::Cpu)?;
/// let pixels = Tensor::zeros((1, 3, 56, 28), DType::F32, &Device::Cpu)?;
/// let out = encoder.forward_features(&pixels, None, Pass::Inference)?;
/// assert_eq!(out.x_norm_clstoken.dims(), [1, 192]);
/// assert_eq!(out.x_norm_patchtokens.dims(), [1, 8, 192]);
/// # Ok(()) }
/// ```
///
/// # Source
/// Oquab et al. 2023, arXiv:2304.07193; Darcet et al. 2023, arXiv:2309.16588 (registers);
/// `facebookresearch/dinov2`, `DinoVisionTransformer`.
#[derive(Debug)]
pub struct Dinov2 {
    config: Dinov2Config,
    spec: BackboneSpec,
    cls_token: Tensor,
    pos_embed: PositionTable,
    mask_token: Option<Tensor>,
    register_tokens: Option<Tensor>,
    patch_embed: PatchEmbed,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
}

parameters!(Dinov2 {
    cls_token: "cls_token",
    pos_embed: "pos_embed",
    mask_token: "mask_token",
    register_tokens: "register_tokens",
    patch_embed: "patch_embed.proj",
    blocks: "blocks",
    norm: "norm",
});

/// Everything the official `forward_features` returns, under its names.
#[derive(Debug, Clone)]
pub struct ForwardFeatures {
    /// Normalised class token, `(b, dim)`.
    pub x_norm_clstoken: Tensor,
    /// Normalised register tokens, `(b, r, dim)`; `r` may be 0, and then there is no tensor.
    pub x_norm_regtokens: Option<Tensor>,
    /// Normalised patch tokens, `(b, n, dim)`.
    pub x_norm_patchtokens: Tensor,
    /// All tokens of the last block before the norm, `(b, 1 + r + n, dim)`.
    pub x_prenorm: Tensor,
    /// Rows and columns of patches.
    pub grid: (usize, usize),
}

impl Dinov2 {
    /// From named parameters under the official names, of the shapes of
    /// [`Dinov2Config::parameters`]; the mask token may be missing.
    ///
    /// # Errors
    /// [`Error::Architecture`](crate::Error::Architecture) or [`Error::Shape`](crate::Error::Shape) if a parameter is missing or of another shape.
    pub fn from_tensors(
        config: &Dinov2Config,
        mut spec: BackboneSpec,
        mut tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        config.check()?;
        check_parameters(&config.parameters(), &tensors)?;
        config.transformer().describe(&mut spec);
        spec.prefix_tokens = config.prefix_tokens();
        spec.family = Family::Dinov2;
        spec.outputs = vec![Output::Cls, Output::Patches, Output::Layers];
        spec.outputs.extend((config.registers > 0).then_some(Output::Registers));
        let mask_token = tensors.remove("mask_token");
        let register_tokens = tensors.remove("register_tokens");
        let mut take = |name: &str| architecture::take(&mut tensors, name);
        let blocks = (0..config.depth)
            .map(|i| TransformerBlock::new(config, &mut |name| take(&format!("blocks.{i}.{name}"))))
            .collect::<Result<_>>()?;
        Ok(Dinov2 {
            cls_token: take("cls_token")?,
            pos_embed: PositionTable::new(take("pos_embed")?),
            mask_token,
            register_tokens,
            patch_embed: PatchEmbed {
                weight: take("patch_embed.proj.weight")?,
                bias: Some(take("patch_embed.proj.bias")?),
            },
            blocks,
            norm: LayerNorm::new(take("norm.weight")?, take("norm.bias")?, config.eps),
            config: config.clone(),
            spec,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &Dinov2Config {
        &self.config
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.cls_token.device()
    }

    /// The precision of the weights and of what comes out.
    pub fn dtype(&self) -> DType {
        self.cls_token.dtype()
    }

    /// The blocks.
    pub fn blocks(&self) -> &[TransformerBlock] {
        &self.blocks
    }

    /// The blocks, for putting adapters into their maps.
    pub fn blocks_mut(&mut self) -> &mut [TransformerBlock] {
        &mut self.blocks
    }

    /// Whether patches can be masked: timm's files have no mask token.
    pub fn has_mask_token(&self) -> bool {
        self.mask_token.is_some()
    }

    /// Rows and columns of patches of an input `(b, 3, h, w)`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) or [`Error::InputSize`](crate::Error::InputSize) if the encoder cannot take it.
    pub fn grid_of(&self, pixels: &Tensor) -> Result<(usize, usize)> {
        tokens::grid_of(pixels, self.config.patch)
    }

    /// The tokens that enter the first block: class, registers, patches, `(b, 1 + r + n, dim)`.
    ///
    /// `masks` is `(b, n)`; patches with a value other than 0 are replaced by the mask token.
    /// Both are brought to the device of the weights.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) or [`Error::InputSize`](crate::Error::InputSize) if the input does not fit, [`Error::NoMaskToken`](crate::Error::NoMaskToken)
    /// if there is nothing to mask with.
    pub fn prepare_tokens(&self, pixels: &Tensor, masks: Option<&Tensor>, pass: Pass) -> Result<Tensor> {
        let grid = self.grid_of(pixels)?;
        let (b, n) = (pixels.dim(0)?, grid.0 * grid.1);
        let mut patches =
            self.patch_embed.forward(&pixels.to_device(self.device())?.to_dtype(self.dtype())?, grid, pass)?;
        if let Some(masks) = masks {
            patches = tokens::masked(&patches, masks, self.mask_token.as_ref(), pass)?;
        }
        let positions = self.pos_embed.forward(grid, self.config.positions, pass)?;
        let patches = patches.broadcast_add(&positions.narrow(1, 1, n)?)?;
        let dim = self.config.embed_dim;
        let cls = (pass.of(&self.cls_token) + positions.narrow(1, 0, 1)?)?.broadcast_as((b, 1, dim))?;
        Ok(match &self.register_tokens {
            Some(registers) => {
                let registers = pass.of(registers).broadcast_as((b, self.config.registers, dim))?;
                Tensor::cat(&[&cls, &registers, &patches], 1)?
            }
            None => Tensor::cat(&[&cls, &patches], 1)?,
        })
    }

    /// The official `forward_features`: all kinds of tokens of the last block.
    ///
    /// # Errors
    /// As [`Dinov2::prepare_tokens`].
    pub fn forward_features(&self, pixels: &Tensor, masks: Option<&Tensor>, pass: Pass) -> Result<ForwardFeatures> {
        let grid = self.grid_of(pixels)?;
        let mut x = self.prepare_tokens(pixels, masks, pass)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, pass.at(i as u64))?;
        }
        let normed = self.norm.forward(&x, pass)?;
        let (r, n) = (self.config.registers, grid.0 * grid.1);
        let registers = (r > 0).then(|| normed.narrow(1, 1, r)).transpose()?;
        Ok(ForwardFeatures {
            x_norm_clstoken: normed.narrow(1, 0, 1)?.squeeze(1)?,
            x_norm_regtokens: registers,
            x_norm_patchtokens: normed.narrow(1, 1 + r, n)?,
            x_prenorm: x,
            grid,
        })
    }

    /// Tokens of chosen blocks. Results come in network order, whatever the order of indices.
    ///
    /// # Errors
    /// As [`Dinov2::prepare_tokens`], and [`Error::Request`](crate::Error::Request) if the blocks do not exist.
    pub fn get_intermediate_layers(&self, pixels: &Tensor, request: &Request) -> Result<Vec<LayerTokens>> {
        let wanted = request.layers.resolve(self.config.depth)?;
        let grid = self.grid_of(pixels)?;
        let pass = request.pass;
        let mut x = self.prepare_tokens(pixels, None, pass)?;
        let mut out = Vec::with_capacity(wanted.len());
        let mut wanted = wanted.into_iter().peekable();
        for (i, block) in self.blocks.iter().enumerate() {
            // Blocks after the last wanted one have nothing to say.
            let Some(next) = wanted.peek() else { break };
            x = block.forward(&x, pass.at(i as u64))?;
            if i == *next {
                out.push(self.split(&x, grid, request)?);
                wanted.next();
            }
        }
        Ok(out)
    }

    /// Takes the tokens of one block apart.
    fn split(&self, x: &Tensor, grid: (usize, usize), request: &Request) -> Result<LayerTokens> {
        let registers = self.config.registers;
        // Without patch tokens only the prefix needs the norm.
        let x = if request.patches == Patches::None { x.narrow(1, 0, 1 + registers)? } else { x.clone() };
        let x = match request.norm {
            FinalNorm::Applied => self.norm.forward(&x, request.pass)?,
            FinalNorm::Raw => x,
        };
        tokens::split(&x, registers, grid, request)
    }
}

impl Backbone for Dinov2 {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        Ok(Features { layers: self.get_intermediate_layers(pixels, request)? })
    }
}
