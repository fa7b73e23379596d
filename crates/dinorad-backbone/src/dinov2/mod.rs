//! DINOv2: presets, positions, and the official names of what comes out, around a vision transformer.

mod config;
mod position;
mod untrained;

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};
use dinorad_nn::{Pass, parameters};

pub(crate) use self::position::PositionTable;
pub use self::{
    config::{Dinov2Config, FeedForward, swiglu_hidden},
    position::{PositionResampling, resample_positions},
};
use crate::{Backbone, BackboneSpec, Features, LayerTokens, Request, Result, TransformerBlock, Vit, vit::tokens};

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
    vit: Vit,
}

parameters!(Dinov2 { vit: "" });

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
    pub fn from_tensors(config: &Dinov2Config, spec: BackboneSpec, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        config.check()?;
        Ok(Dinov2 { vit: Vit::from_tensors(&config.vit(), spec, tensors)?, config: config.clone() })
    }

    /// The vision transformer that it is.
    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    /// The same, to be changed.
    pub fn vit_mut(&mut self) -> &mut Vit {
        &mut self.vit
    }

    /// The architecture.
    pub fn config(&self) -> &Dinov2Config {
        &self.config
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.vit.device()
    }

    /// The precision of the weights and of what comes out.
    pub fn dtype(&self) -> DType {
        self.vit.dtype()
    }

    /// The blocks.
    pub fn blocks(&self) -> &[TransformerBlock] {
        self.vit.blocks()
    }

    /// The blocks, for putting adapters into their maps.
    pub fn blocks_mut(&mut self) -> &mut [TransformerBlock] {
        self.vit.blocks_mut()
    }

    /// Whether patches can be masked: timm's files have no mask token.
    pub fn has_mask_token(&self) -> bool {
        self.vit.has_mask_token()
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
        self.vit.prepare_tokens(pixels, masks, pass)
    }

    /// The official `forward_features`: all kinds of tokens of the last block.
    ///
    /// # Errors
    /// As [`Dinov2::prepare_tokens`].
    pub fn forward_features(&self, pixels: &Tensor, masks: Option<&Tensor>, pass: Pass) -> Result<ForwardFeatures> {
        let grid = self.grid_of(pixels)?;
        let x = self.vit.forward_tokens(pixels, masks, pass)?;
        let normed = self.vit.normalise(&x, pass)?;
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
        Ok(self.vit.forward(pixels, request)?.layers)
    }
}

impl Backbone for Dinov2 {
    fn spec(&self) -> &BackboneSpec {
        self.vit.spec()
    }

    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        self.vit.forward(pixels, request)
    }
}
