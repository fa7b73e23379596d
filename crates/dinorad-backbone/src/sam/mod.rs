//! The image encoder of Segment Anything.

mod attention;
mod block;
mod config;
mod names;
mod positions;
#[cfg(test)]
mod tests;
mod untrained;

use std::{collections::BTreeMap, path::Path};

use candle::{DType, Device, Tensor};
use dinorad_nn::{LayerNorm, Linear, Pass, parameters};

use self::block::SamBlock;
pub use self::config::SamConfig;
pub(crate) use self::untrained::untrained;
use crate::{
    Backbone, BackboneSpec, Error, Family, Features, LayerTokens, LoadOptions, LoadReport, Normalization, Output,
    Patches, Request, Result,
    architecture::{self, check_parameters},
    vit::{PatchEmbed, tokens::grid_of},
    weights::{checkpoint::Checkpoint, strict::read_strict},
};

/// What the norms of the neck add to the variance, whatever the blocks' do.
const NECK_EPS: f64 = 1e-6;

/// The image encoder of Segment Anything: a vision transformer most of whose blocks attend within
/// windows, with positions relative to each other, and no class token.
///
/// Features are those of the study: tokens as they leave the blocks, without the neck, and in place
/// of a class token their mean over all positions. There is no final norm, so that
/// [`Request::norm`] changes nothing. What SAM's own decoder is given is [`Sam::embedding`].
///
/// SAM was trained with images of 1024 pixels a side. Other sizes work too: positions are resampled
/// as ViTDet does.
///
/// # Examples
/// ```
/// use dinorad_backbone::{Backbone, LoadOptions, Request, Sam, SamConfig, candle::{DType, Device, Tensor}};
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let config = SamConfig {
///     embed_dim: 16, depth: 2, heads: 2, grid: 4, patch: 8, window: 3, global: vec![1], hidden: 32, neck: 8,
///     ..SamConfig::large()
/// };
/// let encoder = Sam::untrained(&config, 0, &LoadOptions::default())?;
/// let pixels = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let features = encoder.forward(&pixels, &Request::last(2))?;
/// assert_eq!(features.last()?.cls.dims(), [1, 16]);
/// assert_eq!(features.last()?.patches.as_ref().unwrap().dims(), [1, 16, 16]);
/// # Ok(()) }
/// ```
///
/// # Source
/// Kirillov et al. 2023, arXiv:2304.02643; `facebookresearch/segment-anything`, `image_encoder.py`.
#[derive(Debug)]
pub struct Sam {
    config: SamConfig,
    spec: BackboneSpec,
    patch_embed: PatchEmbed,
    pos_embed: Option<Tensor>,
    blocks: Vec<SamBlock>,
    neck: Option<Neck>,
}

parameters!(Sam { patch_embed: "patch_embed.proj", pos_embed: "pos_embed", blocks: "blocks", neck: "neck" });

/// What brings tokens to the width of SAM's decoder.
#[derive(Debug, Clone)]
struct Neck {
    narrow: Tensor,
    norm1: LayerNorm,
    mix: Tensor,
    norm2: LayerNorm,
}

parameters!(Neck { narrow: "0.weight", norm1: "1", mix: "2.weight", norm2: "3" });

impl Sam {
    /// From named parameters under the authors' names without `image_encoder.`, of the shapes of
    /// [`SamConfig::parameters`].
    ///
    /// # Errors
    /// [`Error::Architecture`] if a parameter is missing or of another shape.
    pub fn from_tensors(
        config: &SamConfig,
        mut spec: BackboneSpec,
        mut tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        config.check()?;
        check_parameters(&config.parameters(), &tensors)?;
        config.transformer().describe(&mut spec);
        spec.prefix_tokens = 0;
        spec.outputs = vec![Output::Cls, Output::Patches, Output::Layers];
        let mut take = |name: &str| architecture::take(&mut tensors, name);
        let blocks = (0..config.depth)
            .map(|i| SamBlock::new(config, i, &mut |name| take(&format!("blocks.{i}.{name}"))))
            .collect::<Result<_>>()?;
        let neck = match config.neck {
            0 => None,
            _ => {
                let mut norm = |name: &str| -> Result<LayerNorm> {
                    Ok(LayerNorm::new(take(&format!("{name}.weight"))?, take(&format!("{name}.bias"))?, NECK_EPS))
                };
                let (norm1, norm2) = (norm("neck.1")?, norm("neck.3")?);
                Some(Neck { narrow: take("neck.0.weight")?, norm1, mix: take("neck.2.weight")?, norm2 })
            }
        };
        Ok(Sam {
            patch_embed: PatchEmbed {
                weight: take("patch_embed.proj.weight")?,
                bias: Some(take("patch_embed.proj.bias")?),
            },
            pos_embed: if config.absolute_positions { Some(take("pos_embed")?) } else { None },
            blocks,
            neck,
            config: config.clone(),
            spec,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.patch_embed.weight.device()
    }

    /// The precision of the weights and of what comes out.
    pub fn dtype(&self) -> DType {
        self.patch_embed.weight.dtype()
    }

    /// The tokens that enter the first block and those that leave each one, `(b, h * w, dim)`, and
    /// their grid.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::InputSize`] if the encoder cannot take the pixels.
    pub fn hidden_states(&self, pixels: &Tensor, pass: Pass) -> Result<(Vec<Tensor>, (usize, usize))> {
        let grid = grid_of(pixels, self.config.patch)?;
        let mut states = vec![self.tokens(pixels, grid, pass)?];
        for block in &self.blocks {
            let Some(x) = states.last() else { break };
            states.push(block.forward(x, grid, pass)?);
        }
        Ok((states, grid))
    }

    /// The image embedding that SAM's decoder is given: the tokens of the last block through the
    /// neck, `(b, channels, h, w)`.
    ///
    /// # Errors
    /// As [`Sam::hidden_states`]; [`Error::Architecture`] for an encoder without neck.
    pub fn embedding(&self, pixels: &Tensor, pass: Pass) -> Result<Tensor> {
        let Some(neck) = &self.neck else {
            return Err(Error::Architecture { field: "neck", value: "0".into(), expected: "an encoder with a neck" });
        };
        let grid = grid_of(pixels, self.config.patch)?;
        let mut x = self.tokens(pixels, grid, pass)?;
        for block in &self.blocks {
            x = block.forward(&x, grid, pass)?;
        }
        neck.forward(&x, grid, pass)
    }

    fn tokens(&self, pixels: &Tensor, grid: (usize, usize), pass: Pass) -> Result<Tensor> {
        let pixels = pixels.to_device(self.device())?.to_dtype(self.dtype())?;
        let x = self.patch_embed.forward(&pixels, grid, pass)?;
        Ok(match &self.pos_embed {
            Some(table) => x.broadcast_add(&positions::absolute(&pass.of(table), grid)?)?,
            None => x,
        })
    }

    /// The tokens of one block as they are asked for.
    fn split(x: &Tensor, grid: (usize, usize), request: &Request) -> Result<LayerTokens> {
        let (b, _, dim) = x.dims3()?;
        let patches = match request.patches {
            Patches::None => None,
            Patches::Tokens => Some(x.clone()),
            Patches::Grid => Some(x.transpose(1, 2)?.contiguous()?.reshape((b, dim, grid.0, grid.1))?),
        };
        Ok(LayerTokens { cls: x.mean(1)?, registers: None, patches, grid })
    }
}

impl Backbone for Sam {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        self.spec.check(request)?;
        let wanted = request.layers.resolve(self.config.depth)?;
        let grid = grid_of(pixels, self.config.patch)?;
        let mut x = self.tokens(pixels, grid, request.pass)?;
        let mut layers = Vec::with_capacity(wanted.len());
        for (i, block) in self.blocks.iter().enumerate() {
            // Blocks after the last wanted one have nothing to say.
            if wanted.last().is_none_or(|last| i > *last) {
                break;
            }
            x = block.forward(&x, grid, request.pass.at(i as u64))?;
            if wanted.contains(&i) {
                layers.push(Self::split(&x, grid, request)?);
            }
        }
        Ok(Features { layers })
    }
}

impl Neck {
    fn forward(&self, x: &Tensor, (h, w): (usize, usize), pass: Pass) -> Result<Tensor> {
        let (b, n, _) = x.dims3()?;
        let (channels, inputs, ..) = self.narrow.dims4()?;
        let x = Linear::new(self.narrow.reshape((channels, inputs))?, None).forward(x, pass)?;
        let x = self.norm1.forward(&x, pass)?;
        let maps = x.transpose(1, 2)?.contiguous()?.reshape((b, channels, h, w))?;
        let maps = maps.conv2d(&pass.of(&self.mix).contiguous()?, 1, 1, 1, 1)?;
        let x = self.norm2.forward(&maps.flatten_from(2)?.transpose(1, 2)?.contiguous()?, pass)?;
        debug_assert_eq!(x.dims(), [b, n, channels]);
        Ok(x.transpose(1, 2)?.contiguous()?.reshape((b, channels, h, w))?)
    }
}

/// Loads SAM's image encoder from a file or a folder.
///
/// Understood are the authors' checkpoints (`sam_vit_l_0b3195.pth`, names beginning with
/// `image_encoder.`), Hugging Face folders and files of `SamModel` (`vision_encoder.`), and timm's
/// `samvit_*`. Sizes, windows and the blocks without are read from the shapes; what a `config.json`
/// says must agree. Loading is strict; prompt encoder and mask decoder are listed as ignored.
///
/// # Errors
/// One that names the file and the tensor or field; see [`Error`].
///
/// # Examples
/// ```no_run
/// use dinorad_backbone::{LoadOptions, load_sam};
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let (encoder, report) = load_sam("sam_vit_l_0b3195.pth".as_ref(), &LoadOptions::default())?;
/// println!("{}: {report}", encoder.config().native_size());
/// # Ok(()) }
/// ```
pub fn load_sam(path: &Path, options: &LoadOptions) -> Result<(Sam, LoadReport)> {
    load(&Checkpoint::open(path, options.copy)?, options)
}

/// The encoder of a checkpoint that is known to hold one.
pub(crate) fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<(Sam, LoadReport)> {
    let names::Plan { config, found, wanted } = names::plan(checkpoint, options)?;
    let spec = checkpoint.spec(Family::Sam, options, &config.fingerprint(), Normalization::IMAGENET)?;
    let (tensors, report) = read_strict(&checkpoint.file, &found, wanted, options)?;
    Ok((Sam::from_tensors(&config, spec, tensors)?, report))
}
