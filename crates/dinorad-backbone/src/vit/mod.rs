//! Vision transformers: DINOv2, supervised, MAE, MSN, CLIP, DINOv3.

mod block;
mod config;
mod layout;
mod patch_embed;
pub(crate) mod tokens;
mod untrained;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::RwLock,
};

use candle::{DType, Device, Tensor};
use dinorad_nn::{Attention, LayerNorm, LayerScale, Linear, Mlp, Pass, Rotary, SwiGlu, ops, parameters};

pub(crate) use self::{block::set_drop_path, patch_embed::PatchEmbed};
pub use self::{
    block::{FeedForwardNet, TransformerBlock},
    config::{Positions, VitConfig},
};
use crate::{
    Backbone, BackboneSpec, Encoder, Error, Family, Features, FeedForward, FinalNorm, LayerTokens, LoadOptions,
    LoadReport, Output, Patches, Protocol, Request, Result,
    architecture::{self, check_parameters},
    dinov2::PositionTable,
    weights::checkpoint::Checkpoint,
};

/// Tables of rotations kept for inference; images come in few sizes.
const KEPT_GRIDS: usize = 8;
/// What the norm of the study's wrappers adds to the variance.
const STUDY_EPS: f64 = 1e-6;

/// A vision transformer of any family: DINOv2, ViT, MAE, MSN, CLIP's image side, DINOv3.
///
/// [`Dinov2`](crate::Dinov2) is one too, with its presets, its initialisation and its official outputs around it.
///
/// # Examples
/// ```
/// use dinorad_backbone::{Backbone, LoadOptions, Request, Vit, VitConfig, find};
/// use dinorad_backbone::candle::{DType, Device, Tensor};
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// // the kind of a ViT-L/16, cut down to two blocks
/// let config = VitConfig { embed_dim: 64, heads: 4, hidden: 96, depth: 2, ..VitConfig::of(find("vit-large-16").unwrap())? };
/// let encoder = Vit::untrained(&config, 0, &LoadOptions::default())?;
/// let pixels = Tensor::zeros((1, 3, 224, 224), DType::F32, &Device::Cpu)?;
/// assert_eq!(encoder.forward(&pixels, &Request::cls())?.last()?.cls.dims(), [1, 64]);
/// # Ok(()) }
/// ```
///
/// # Source
/// Dosovitskiy et al. 2020, arXiv:2010.11929; He et al. 2021, arXiv:2111.06377 (MAE); Assran et al.
/// 2022, arXiv:2204.07141 (MSN); Radford et al. 2021, arXiv:2103.00020 (CLIP); Zhang et al. 2023,
/// arXiv:2303.00915 (BiomedCLIP); Siméoni et al. 2025, arXiv:2508.10104 (DINOv3).
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    spec: BackboneSpec,
    cls_token: Tensor,
    pos_embed: Option<PositionTable>,
    mask_token: Option<Tensor>,
    register_tokens: Option<Tensor>,
    patch_embed: PatchEmbed,
    norm_pre: Option<LayerNorm>,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    head: Option<Linear>,
    /// The norm of the study's wrappers: no gain, no bias, and no parameter.
    study_norm: LayerNorm,
    rotations: RwLock<HashMap<(usize, usize), Rotary>>,
    /// Whether training keeps the inputs of blocks alone.
    recompute: bool,
}

parameters!(Vit {
    cls_token: "cls_token",
    pos_embed: "pos_embed",
    mask_token: "mask_token",
    register_tokens: "register_tokens",
    patch_embed: "patch_embed.proj",
    norm_pre: "norm_pre",
    blocks: "blocks",
    norm: "norm",
    head: "head.proj",
});

/// Loads a vision transformer other than DINOv2 from a file or a folder, with the type that trains
/// and can be looked into.
///
/// Understood are Hugging Face folders of ViT, ViT-MAE, ViT-MSN, CLIP (both towers or the image
/// side alone) and DINOv3; open_clip's files of CLIP and BiomedCLIP; and timm's plain ViT.
/// Strict, as [`load_path`](crate::load_path).
///
/// # Errors
/// One that names the file and the tensor or field; see [`Error`].
pub fn load_vit(path: &Path, options: &LoadOptions) -> Result<(Vit, LoadReport)> {
    let checkpoint = Checkpoint::open(path, options.copy)?;
    match checkpoint.family()? {
        family @ (Family::Vit | Family::Clip | Family::Dinov3) => load(family, &checkpoint, options),
        family => Err(Error::UnsupportedModel {
            path: path.to_owned(),
            model_type: family.to_string(),
            expected: "ViT, CLIP, DINOv3",
        }),
    }
}

/// [`load_vit`] for files that are open and whose family is known.
pub(crate) fn load(family: Family, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<(Vit, LoadReport)> {
    let plan = layout::Plan::new(family, checkpoint, options)?;
    // Both pass over the whole file once.
    let (read, spec) = rayon::join(
        || plan.read(checkpoint, options),
        || checkpoint.spec(family, options, &plan.config.fingerprint(), plan.normalization),
    );
    let (tensors, report) = read?;
    Ok((Vit::from_tensors(&plan.config, spec?, tensors)?, report))
}

/// An encoder of the registry with random weights.
pub(crate) fn untrained(encoder: &Encoder, seed: u64, options: &LoadOptions) -> Result<Vit> {
    let mut config = VitConfig::of(encoder)?;
    if let Some(heads) = options.heads {
        config.heads = heads;
    }
    if let (Some(how), Positions::Table(_)) = (options.positions, config.positions) {
        config.positions = Positions::Table(how);
    }
    Vit::untrained(&config, seed, options)
}

impl Vit {
    /// From named parameters of the shapes of [`VitConfig::parameters`]; the mask token may be
    /// missing.
    ///
    /// # Errors
    /// [`Error::Architecture`] if a parameter is missing or of another shape.
    pub fn from_tensors(
        config: &VitConfig,
        mut spec: BackboneSpec,
        mut tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        config.check()?;
        let wanted = config.parameters();
        check_parameters(&wanted, &tensors)?;
        spec.family = config.family;
        config.transformer().describe(&mut spec);
        spec.embed_dim = config.projection.unwrap_or(config.embed_dim);
        spec.prefix_tokens = config.prefix_tokens();
        spec.outputs = outputs(config);
        // What the configuration does not name, the encoder does not have.
        tensors.retain(|name, _| wanted.iter().any(|(known, _)| known == name));
        let mut take = Parameters(tensors);
        let norm = |take: &mut Parameters, name: &str| -> Result<LayerNorm> {
            Ok(LayerNorm::new(take.get(&format!("{name}.weight"))?, take.get(&format!("{name}.bias"))?, config.eps))
        };
        let blocks = (0..config.depth).map(|i| block(config, &mut take, i)).collect::<Result<_>>()?;
        let norm_final = norm(&mut take, "norm")?;
        let norm_pre = if config.pre_norm { Some(norm(&mut take, "norm_pre")?) } else { None };
        let cls_token = take.get("cls_token")?;
        let plain = |value: f64| Tensor::ones(config.embed_dim, cls_token.dtype(), cls_token.device())? * value;
        Ok(Vit {
            study_norm: LayerNorm::new(plain(1.0)?, plain(0.0)?, STUDY_EPS),
            cls_token,
            pos_embed: take.0.remove("pos_embed").map(PositionTable::new),
            mask_token: take.0.remove("mask_token"),
            register_tokens: take.0.remove("register_tokens"),
            patch_embed: PatchEmbed {
                weight: take.get("patch_embed.proj.weight")?,
                bias: take.0.remove("patch_embed.proj.bias"),
            },
            norm_pre,
            blocks,
            norm: norm_final,
            head: take.0.remove("head.proj.weight").map(|weight| Linear::new(weight, None)),
            rotations: RwLock::default(),
            recompute: false,
            config: config.clone(),
            spec,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &VitConfig {
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

    /// Whether patches can be masked: of DINOv2's files, timm's have no mask token.
    pub fn has_mask_token(&self) -> bool {
        self.mask_token.is_some()
    }

    /// The blocks, for putting adapters into their maps.
    pub fn blocks_mut(&mut self) -> &mut [TransformerBlock] {
        &mut self.blocks
    }

    /// The blocks.
    pub fn blocks(&self) -> &[TransformerBlock] {
        &self.blocks
    }

    /// What the norm of the study's wrapper adds to the variance, if the encoder is wrapped: then
    /// patch tokens get that norm in place of the model's own, and class tokens none.
    pub(crate) fn study_norm_eps(&self) -> Option<f64> {
        let dino = matches!(self.config.family, Family::Dinov2 | Family::Dinov3);
        let wrapped = self.spec.protocol == Protocol::Paper && !dino && self.head.is_none();
        wrapped.then_some(STUDY_EPS)
    }

    /// The tokens that enter the first block: class, registers, patches, `(b, 1 + r + n, dim)`.
    ///
    /// `masks` is `(b, n)`; patches with a value other than 0 are replaced by the mask token, which
    /// DINOv2 and DINOv3 have. Both are brought to the device of the weights.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::InputSize`] if the input does not fit, [`Error::NoMaskToken`]
    /// if there is nothing to mask with.
    pub fn prepare_tokens(&self, pixels: &Tensor, masks: Option<&Tensor>, pass: Pass) -> Result<Tensor> {
        let grid = tokens::grid_of(pixels, self.config.patch)?;
        let (b, dim) = (pixels.dim(0)?, self.config.embed_dim);
        let pixels = pixels.to_device(self.device())?.to_dtype(self.dtype())?;
        let mut patches = self.patch_embed.forward(&pixels, grid, pass)?;
        if let Some(masks) = masks {
            patches = tokens::masked(&patches, masks, self.mask_token.as_ref(), pass)?;
        }
        let mut cls = pass.of(&self.cls_token);
        if let (Some(table), Positions::Table(how)) = (&self.pos_embed, self.config.positions) {
            let positions = table.forward(grid, how, pass)?;
            patches = patches.broadcast_add(&positions.narrow(1, 1, grid.0 * grid.1)?)?;
            cls = (cls + positions.narrow(1, 0, 1)?)?;
        }
        let mut parts = vec![cls.broadcast_as((b, 1, dim))?];
        if let Some(registers) = &self.register_tokens {
            parts.push(pass.of(registers).broadcast_as((b, self.config.registers, dim))?);
        }
        parts.push(patches);
        let x = Tensor::cat(&parts, 1)?;
        Ok(match &self.norm_pre {
            Some(norm) => norm.forward(&x, pass)?,
            None => x,
        })
    }

    /// All tokens of the last block before the final norm, `(b, 1 + r + n, dim)`.
    ///
    /// # Errors
    /// As [`Vit::prepare_tokens`].
    pub fn forward_tokens(&self, pixels: &Tensor, masks: Option<&Tensor>, pass: Pass) -> Result<Tensor> {
        let rotary = self.rotary(tokens::grid_of(pixels, self.config.patch)?)?;
        let mut x = self.prepare_tokens(pixels, masks, pass)?;
        for i in 0..self.blocks.len() {
            x = self.block(i, &x, rotary.as_ref(), None, pass)?;
        }
        Ok(x)
    }

    /// The tokens after block `i`, or the first `queries` of them.
    fn block(
        &self,
        i: usize,
        x: &Tensor,
        rotary: Option<&Rotary>,
        queries: Option<usize>,
        pass: Pass,
    ) -> Result<Tensor> {
        let (block, pass) = (&self.blocks[i], pass.at(i as u64));
        if !(self.recompute && pass.is_training()) {
            return Ok(block.forward(x, rotary, queries, pass)?);
        }
        let (block, rotary) = (block.clone(), rotary.cloned());
        Ok(ops::recomputed(x, move |x| block.forward(x, rotary.as_ref(), queries, pass))?)
    }

    /// Whether training keeps a block's input alone and computes the rest of it again for the backward pass:
    /// less memory, one more forward pass.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Tokens after the encoder's own final norm.
    ///
    /// # Errors
    /// If the last axis of `x` is not the encoder's width.
    pub fn normalise(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        Ok(self.norm.forward(x, pass)?)
    }

    /// The rotations of a grid's tokens, if positions are rotations.
    fn rotary(&self, grid: (usize, usize)) -> Result<Option<Rotary>> {
        let Positions::Rotary { theta } = self.config.positions else { return Ok(None) };
        if let Some(rotary) = self.rotations.read().ok().and_then(|kept| kept.get(&grid).cloned()) {
            return Ok(Some(rotary));
        }
        let head = self.config.embed_dim / self.config.heads;
        let rotary = Rotary::axial(grid, self.config.prefix_tokens(), head, theta, self.device())?;
        if let Ok(mut kept) = self.rotations.write() {
            if kept.len() >= KEPT_GRIDS {
                kept.clear();
            }
            kept.insert(grid, rotary.clone());
        }
        Ok(Some(rotary))
    }

    /// Takes the tokens of one block apart; `last` is the final block.
    fn split(&self, x: &Tensor, grid: (usize, usize), request: &Request, last: bool) -> Result<LayerTokens> {
        let (r, pass) = (self.config.registers, request.pass);
        // Without patch tokens only the prefix needs the norm.
        let x = if request.patches == Patches::None { x.narrow(1, 0, 1 + r)? } else { x.clone() };
        let mut layer = match request.norm {
            FinalNorm::Raw => return tokens::split(&x, r, grid, request),
            FinalNorm::Applied if self.study_norm_eps().is_some() => {
                let mut layer = tokens::split(&self.study_norm.forward(&x, pass)?, r, grid, request)?;
                layer.cls = x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
                layer
            }
            FinalNorm::Applied => tokens::split(&self.norm.forward(&x, pass)?, r, grid, request)?,
        };
        if let Some(head) = self.head.as_ref().filter(|_| last) {
            layer.cls = head.forward(&layer.cls, pass)?;
        }
        Ok(layer)
    }
}

impl Backbone for Vit {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        self.spec.check(request)?;
        let wanted = request.layers.resolve(self.config.depth)?;
        let grid = tokens::grid_of(pixels, self.config.patch)?;
        let rotary = self.rotary(grid)?;
        let mut x = self.prepare_tokens(pixels, None, request.pass)?;
        let mut layers = Vec::with_capacity(wanted.len());
        let mut wanted = wanted.into_iter().peekable();
        for i in 0..self.blocks.len() {
            // Blocks after the last wanted one have nothing to say.
            let Some(next) = wanted.peek() else { break };
            let wanted_here = i == *next;
            if wanted_here {
                wanted.next();
            }
            // Where nobody asks for the patches of the last block, they need not be computed.
            let only_prefix = wanted.peek().is_none() && request.patches == Patches::None;
            let queries = only_prefix.then_some(self.config.prefix_tokens());
            x = self.block(i, &x, rotary.as_ref(), queries, request.pass)?;
            if wanted_here {
                layers.push(self.split(&x, grid, request, i + 1 == self.config.depth)?);
            }
        }
        Ok(Features { layers })
    }
}

/// What an architecture offers. A projected class token has no counterpart in inner blocks.
fn outputs(config: &VitConfig) -> Vec<Output> {
    let mut out = vec![Output::Cls, Output::Patches];
    out.extend(config.projection.is_none().then_some(Output::Layers));
    out.extend((config.registers > 0).then_some(Output::Registers));
    out
}

/// Parameters that wait for their place.
struct Parameters(BTreeMap<String, Tensor>);

impl Parameters {
    fn get(&mut self, name: &str) -> Result<Tensor> {
        architecture::take(&mut self.0, name)
    }

    fn linear(&mut self, name: &str) -> Result<Linear> {
        Ok(Linear::new(self.get(&format!("{name}.weight"))?, self.0.remove(&format!("{name}.bias"))))
    }
}

fn block(config: &VitConfig, take: &mut Parameters, i: usize) -> Result<TransformerBlock> {
    let at = |name: &str| format!("blocks.{i}.{name}");
    let attn = Attention::new(take.linear(&at("attn.qkv"))?, take.linear(&at("attn.proj"))?, config.heads)?;
    let mlp = match config.feed_forward {
        FeedForward::Mlp => {
            let (fc1, fc2) = (take.linear(&at("mlp.fc1"))?, take.linear(&at("mlp.fc2"))?);
            FeedForwardNet::Mlp(Mlp { fc1, fc2, activation: config.activation })
        }
        FeedForward::SwiGlu => {
            let (w12, w3) = (take.linear(&at("mlp.w12"))?, take.linear(&at("mlp.w3"))?);
            FeedForwardNet::SwiGlu(SwiGlu { w12, w3 })
        }
    };
    let mut norm = |name: &str| -> Result<LayerNorm> {
        let (weight, bias) = (take.get(&at(&format!("{name}.weight")))?, take.get(&at(&format!("{name}.bias")))?);
        Ok(LayerNorm::new(weight, bias, config.eps))
    };
    let (norm1, norm2) = (norm("norm1")?, norm("norm2")?);
    let mut gain = |name: &str| take.0.remove(&at(&format!("{name}.gamma"))).map(LayerScale::new);
    Ok(TransformerBlock { norm1, attn, ls1: gain("ls1"), norm2, mlp, ls2: gain("ls2"), drop_path: 0.0 })
}
