//! DINOv2 vision transformers.

mod block;
mod config;
mod position;
mod untrained;

use std::{
    collections::{BTreeMap, HashMap},
    sync::RwLock,
};

use candle::{DType, Device, Tensor};
use dinorad_nn::{LayerNorm, Linear, Mode, parameters};

pub use self::{
    block::{Block, FeedForwardNet},
    config::{Dinov2Config, FeedForward, swiglu_hidden},
    position::{PositionResampling, resample_positions},
};
use crate::{Backbone, BackboneSpec, Error, Features, FinalNorm, LayerTokens, Patches, Request, Result};

/// Resampled position tables kept for inference; images come in few sizes.
const KEPT_GRIDS: usize = 8;

/// A DINOv2 vision transformer: ViT-S/B/L/g, with or without registers.
///
/// # Examples
/// ```
/// use dinorad_backbone::{Dinov2, Dinov2Config, candle::{DType, Device, Tensor}};
/// use dinorad_nn::Mode;
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let encoder = Dinov2::untrained(&Dinov2Config::tiny(), 0, &Device::Cpu)?;
/// let pixels = Tensor::zeros((1, 3, 56, 28), DType::F32, &Device::Cpu)?;
/// let out = encoder.forward_features(&pixels, None, Mode::Inference)?;
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
    pos_embed: Tensor,
    mask_token: Option<Tensor>,
    register_tokens: Option<Tensor>,
    patch_embed: PatchEmbed,
    blocks: Vec<Block>,
    norm: LayerNorm,
    resampled: RwLock<HashMap<(usize, usize), Tensor>>,
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
    /// [`Error::Architecture`] or [`Error::Shape`] if a parameter is missing or of another shape.
    pub fn from_tensors(
        config: &Dinov2Config,
        mut spec: BackboneSpec,
        mut tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        config.check()?;
        for (name, shape) in config.parameters() {
            match tensors.get(&name) {
                Some(t) if t.dims() == shape => {}
                None if name == "mask_token" => {}
                other => {
                    let got = other.map_or_else(|| "missing".to_owned(), |t| format!("{:?}", t.dims()));
                    let value = format!("{got} for `{name}` of {shape:?}");
                    return Err(Error::Architecture {
                        field: "tensors",
                        value,
                        expected: "the shapes of the configuration",
                    });
                }
            }
        }
        spec.patch = config.patch;
        spec.embed_dim = config.embed_dim;
        spec.depth = config.depth;
        spec.heads = config.heads;
        spec.prefix_tokens = config.prefix_tokens();
        spec.native_size = config.native_size();
        let mask_token = tensors.remove("mask_token");
        let register_tokens = tensors.remove("register_tokens");
        let mut take = |name: &str| {
            tensors.remove(name).ok_or_else(|| Error::Architecture {
                field: "tensors",
                value: format!("`{name}` missing"),
                expected: "the shapes of the configuration",
            })
        };
        let blocks = (0..config.depth)
            .map(|i| Block::new(config, &mut |name| take(&format!("blocks.{i}.{name}"))))
            .collect::<Result<_>>()?;
        Ok(Dinov2 {
            cls_token: take("cls_token")?,
            pos_embed: take("pos_embed")?,
            mask_token,
            register_tokens,
            patch_embed: PatchEmbed {
                weight: take("patch_embed.proj.weight")?,
                bias: take("patch_embed.proj.bias")?,
                patch: config.patch,
            },
            blocks,
            norm: LayerNorm::new(take("norm.weight")?, take("norm.bias")?, config.eps),
            resampled: RwLock::default(),
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
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The blocks, for putting adapters into their maps.
    pub fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    /// Whether patches can be masked: timm's files have no mask token.
    pub fn has_mask_token(&self) -> bool {
        self.mask_token.is_some()
    }

    /// Rows and columns of patches of an input `(b, 3, h, w)`.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::InputSize`] if the encoder cannot take it.
    pub fn grid_of(&self, pixels: &Tensor) -> Result<(usize, usize)> {
        let shape_error =
            || Error::Shape { what: "pixels", expected: "(b, 3, h, w) with b > 0".into(), got: pixels.dims().to_vec() };
        let (b, c, height, width) = pixels.dims4().map_err(|_| shape_error())?;
        if b == 0 || c != 3 {
            return Err(shape_error());
        }
        let patch = self.config.patch;
        if height == 0 || width == 0 || height % patch != 0 || width % patch != 0 {
            return Err(Error::InputSize { height, width, patch });
        }
        Ok((height / patch, width / patch))
    }

    /// The tokens that enter the first block: class, registers, patches, `(b, 1 + r + n, dim)`.
    ///
    /// `masks` is `(b, n)`; patches with a value other than 0 are replaced by the mask token.
    /// Both are brought to the device of the weights.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::InputSize`] if the input does not fit, [`Error::NoMaskToken`]
    /// if there is nothing to mask with.
    pub fn prepare_tokens(&self, pixels: &Tensor, masks: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        let grid = self.grid_of(pixels)?;
        let (b, n) = (pixels.dim(0)?, grid.0 * grid.1);
        let mut patches =
            self.patch_embed.forward(&pixels.to_device(self.device())?.to_dtype(self.dtype())?, grid, mode)?;
        if let Some(masks) = masks {
            patches = self.masked(patches, masks, (b, n), mode)?;
        }
        let positions = self.positions(grid, mode)?;
        let patches = patches.broadcast_add(&positions.narrow(1, 1, n)?)?;
        let dim = self.config.embed_dim;
        let cls = (mode.of(&self.cls_token) + positions.narrow(1, 0, 1)?)?.broadcast_as((b, 1, dim))?;
        Ok(match &self.register_tokens {
            Some(registers) => {
                let registers = mode.of(registers).broadcast_as((b, self.config.registers, dim))?;
                Tensor::cat(&[&cls, &registers, &patches], 1)?
            }
            None => Tensor::cat(&[&cls, &patches], 1)?,
        })
    }

    fn masked(&self, patches: Tensor, masks: &Tensor, (b, n): (usize, usize), mode: Mode) -> Result<Tensor> {
        if masks.dims() != [b, n] {
            return Err(Error::Shape { what: "masks", expected: format!("({b}, {n})"), got: masks.dims().to_vec() });
        }
        let token = mode.of(self.mask_token.as_ref().ok_or(Error::NoMaskToken)?);
        let chosen =
            masks.to_device(self.device())?.ne(0.0)?.to_dtype(DType::U8)?.unsqueeze(2)?.broadcast_as(patches.dims())?;
        let token = token.reshape((1, 1, self.config.embed_dim))?.broadcast_as(patches.dims())?;
        Ok(chosen.where_cond(&token, &patches)?)
    }

    /// The position table for a grid; kept for inference, and made anew for training.
    fn positions(&self, grid: (usize, usize), mode: Mode) -> Result<Tensor> {
        // A trainable table moves, so what was made from it must not be kept.
        let keep = mode == Mode::Inference && !self.pos_embed.is_variable();
        if keep && let Some(table) = self.resampled.read().ok().and_then(|kept| kept.get(&grid).cloned()) {
            return Ok(table);
        }
        let table = resample_positions(&mode.of(&self.pos_embed), grid, self.config.positions)?;
        if keep && let Ok(mut kept) = self.resampled.write() {
            if kept.len() >= KEPT_GRIDS {
                kept.clear();
            }
            kept.insert(grid, table.clone());
        }
        Ok(table)
    }

    /// The official `forward_features`: all kinds of tokens of the last block.
    ///
    /// # Errors
    /// As [`Dinov2::prepare_tokens`].
    pub fn forward_features(&self, pixels: &Tensor, masks: Option<&Tensor>, mode: Mode) -> Result<ForwardFeatures> {
        let grid = self.grid_of(pixels)?;
        let mut x = self.prepare_tokens(pixels, masks, mode)?;
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        let normed = self.norm.forward(&x, mode)?;
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
    /// As [`Dinov2::prepare_tokens`], and [`Error::Request`] if the blocks do not exist.
    pub fn get_intermediate_layers(&self, pixels: &Tensor, request: &Request) -> Result<Vec<LayerTokens>> {
        let wanted = request.layers.resolve(self.config.depth)?;
        let grid = self.grid_of(pixels)?;
        let mode = request.mode;
        let mut x = self.prepare_tokens(pixels, None, mode)?;
        let mut out = Vec::with_capacity(wanted.len());
        let mut wanted = wanted.into_iter().peekable();
        for (i, block) in self.blocks.iter().enumerate() {
            // Blocks after the last wanted one have nothing to say.
            let Some(next) = wanted.peek() else { break };
            x = block.forward(&x, mode)?;
            if i == *next {
                out.push(self.split(&x, grid, request)?);
                wanted.next();
            }
        }
        Ok(out)
    }

    /// Takes the tokens of one block apart.
    fn split(&self, x: &Tensor, grid: (usize, usize), request: &Request) -> Result<LayerTokens> {
        let (r, n) = (self.config.registers, grid.0 * grid.1);
        // Without patch tokens only the prefix needs the norm.
        let x = if request.patches == Patches::None { x.narrow(1, 0, 1 + r)? } else { x.clone() };
        let x = match request.norm {
            FinalNorm::Applied => self.norm.forward(&x, request.mode)?,
            FinalNorm::Raw => x,
        };
        let tokens = || x.narrow(1, 1 + r, n)?.contiguous();
        let patches = match request.patches {
            Patches::None => None,
            Patches::Tokens => Some(tokens()?),
            Patches::Grid => {
                let maps = tokens()?.transpose(1, 2)?.contiguous()?;
                Some(maps.reshape((x.dim(0)?, self.config.embed_dim, grid.0, grid.1))?)
            }
        };
        let registers = if request.registers && r > 0 { Some(x.narrow(1, 1, r)?.contiguous()?) } else { None };
        Ok(LayerTokens { cls: x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?, registers, patches, grid })
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

/// Cuts an image into patches and maps each to a token.
#[derive(Debug, Clone)]
struct PatchEmbed {
    weight: Tensor,
    bias: Tensor,
    patch: usize,
}

parameters!(PatchEmbed { weight: "weight", bias: "bias" });

impl PatchEmbed {
    /// `(b, 3, h, w)` to `(b, n, dim)`: a convolution whose windows do not overlap is one product.
    fn forward(&self, pixels: &Tensor, (rows, cols): (usize, usize), mode: Mode) -> Result<Tensor> {
        let (b, c, p) = (pixels.dim(0)?, pixels.dim(1)?, self.patch);
        let windows = pixels.contiguous()?.reshape(&[b, c, rows, p, cols, p][..])?.permute(vec![0, 2, 4, 1, 3, 5])?;
        let windows = windows.reshape((b, rows * cols, c * p * p))?;
        let dim = self.bias.dim(0)?;
        let linear = Linear::new(self.weight.reshape((dim, c * p * p))?, Some(self.bias.clone()));
        Ok(linear.forward(&windows, mode)?)
    }
}
