//! The CPU engine: the same encoder as [`Dinov2`], for inference alone, several times faster.
//!
//! Weights are packed once for the processor at hand, with LayerScale, the scale of the attention
//! scores and (if asked) the colour normalisation folded in. A forward pass works in memory that is
//! kept from call to call, never writes a matrix of attention weights to memory, and gives the same
//! bytes on any number of threads and for any batch an image comes in.
//!
//! The candle path stays the reference and the one for training, masking and other devices.

mod encoder;
pub(crate) mod kernels;
mod precision;
#[doc(hidden)]
pub mod probe;
#[cfg(test)]
mod tests;
mod weights;
mod workspace;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
};

use candle::{CpuStorage, DType, Device, Storage, Tensor};
use dinorad_nn::{Mode, Trainable};

pub use self::kernels::InstructionSet;
use self::{
    encoder::{Encoder, Pixels, Wanted},
    kernels::{Kernels, gemm::Panels},
    weights::{Architecture, Tensors},
};
use crate::{
    Backbone, BackboneSpec, Dinov2, Dinov2Config, Error, Features, FeedForward, FeedForwardNet, FinalNorm, LayerTokens,
    Patches, PositionResampling, Request, Result, resample_positions,
};

/// Resampled position tables kept; images come in few sizes.
const KEPT_GRIDS: usize = 8;

/// What pixels look like when they enter the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PixelScale {
    /// Already normalised with the encoder's mean and standard deviation, as every
    /// [`Backbone`] expects.
    #[default]
    Normalised,
    /// In 0..1: the normalisation is folded into the patch embedding.
    Unit,
}

/// How a [`CpuEngine`] is built.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Threads of its own. Default: those of the rayon pool it is called in (all cores, or
    /// `RAYON_NUM_THREADS`).
    pub threads: Option<usize>,
    /// Kernels to use. Default: the fastest this processor has.
    pub instruction_set: Option<InstructionSet>,
    /// What pixels look like. Default: normalised.
    pub pixels: PixelScale,
}

impl EngineOptions {
    /// The same with `threads` of its own.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The same with stated kernels.
    #[must_use]
    pub fn with_instruction_set(mut self, set: InstructionSet) -> Self {
        self.instruction_set = Some(set);
        self
    }

    /// The same for other pixels.
    #[must_use]
    pub fn with_pixels(mut self, pixels: PixelScale) -> Self {
        self.pixels = pixels;
        self
    }
}

/// A DINOv2 encoder packed for fast inference on the CPU.
///
/// Computes in f32. Weights in f16 or bf16 are widened when they are packed, and results are
/// rounded to the precision of the weights, so that the engine is never less precise than the
/// encoder it was made from. Adapters are merged. The encoder can be dropped afterwards: the engine
/// holds its own copy of the weights.
///
/// # Examples
/// ```
/// use dinorad_backbone::{
///     Backbone, Dinov2, Dinov2Config, Request,
///     candle::{DType, Device, Tensor},
///     engine::{CpuEngine, EngineOptions},
/// };
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let encoder = Dinov2::untrained(&Dinov2Config::tiny(), 0, &Device::Cpu)?;
/// let engine = CpuEngine::new(&encoder, &EngineOptions::default())?;
/// let pixels = Tensor::rand(-1f32, 1., (2, 3, 56, 42), &Device::Cpu)?;
/// let (fast, plain) = (engine.forward(&pixels, &Request::cls())?, encoder.forward(&pixels, &Request::cls())?);
/// let difference = (&fast.last()?.cls - &plain.last()?.cls)?.abs()?.max_all()?.to_scalar::<f32>()?;
/// assert!(difference < 1e-4);
/// # Ok(()) }
/// ```
pub struct CpuEngine {
    encoder: Encoder<Panels>,
    spec: BackboneSpec,
    dtype: DType,
    /// The native table `(1, 1 + s * s, dim)` in f32, and how it is resampled.
    table: Tensor,
    resampling: PositionResampling,
    positions: RwLock<HashMap<(usize, usize), Arc<Vec<f32>>>>,
    workspaces: workspace::Pool,
    pool: Option<rayon::ThreadPool>,
}

impl std::fmt::Debug for CpuEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuEngine")
            .field("spec", &self.spec)
            .field("instruction_set", &self.instruction_set())
            .field("weight_bytes", &self.weight_bytes())
            .finish_non_exhaustive()
    }
}

impl CpuEngine {
    /// Packs the weights of `model`, on all threads.
    ///
    /// # Errors
    /// [`Error::Architecture`] if the processor lacks the instruction set or the threads cannot be
    /// started; [`Error::Tensor`] if a weight cannot be read.
    pub fn new(model: &Dinov2, options: &EngineOptions) -> Result<Self> {
        let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
        let kernels = Kernels::of(set).ok_or_else(|| Error::Architecture {
            field: "instruction_set",
            value: set.name().to_owned(),
            expected: "one that this processor has",
        })?;
        let pool = match options.threads {
            None => None,
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads.max(1))
                    .thread_name(|i| format!("encoder-{i}"))
                    .build()
                    .map_err(|_| Error::Architecture {
                        field: "threads",
                        value: threads.to_string(),
                        expected: "a number of threads that the system allows",
                    })?;
                Some(pool)
            }
        };
        let (config, spec) = (model.config(), model.spec().clone());
        let mut tensors = NamedTensors(model.tensors());
        tensors.merge_adapters(model)?;
        let fold = (options.pixels == PixelScale::Unit)
            .then(|| (spec.normalization.mean.to_vec(), spec.normalization.std.to_vec()));
        let architecture = architecture(config, fold);
        let mut encoder = on(pool.as_ref(), || weights::pack::<Panels, _>(kernels, &architecture, &tensors))?;

        let table = tensors.tensor("pos_embed")?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.detach();
        let class = table.narrow(1, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
        for (token, position) in encoder.prefix.iter_mut().zip(class) {
            *token += position;
        }
        Ok(Self {
            encoder,
            spec,
            dtype: model.dtype(),
            table,
            resampling: config.positions,
            positions: RwLock::default(),
            workspaces: workspace::Pool::default(),
            pool,
        })
    }

    /// The kernels in use.
    pub fn instruction_set(&self) -> InstructionSet {
        self.encoder.kernels.set()
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.encoder.bytes()
    }

    /// Positions of the patches of a grid, `(patches, dim)`.
    fn positions(&self, grid: (usize, usize)) -> Result<Arc<Vec<f32>>> {
        if let Some(kept) = self.positions.read().ok().and_then(|p| p.get(&grid).cloned()) {
            return Ok(kept);
        }
        let table = resample_positions(&self.table, grid, self.resampling)?;
        let patches = table.narrow(1, 1, grid.0 * grid.1)?.flatten_all()?.to_vec1::<f32>()?;
        let patches = Arc::new(patches);
        if let Ok(mut kept) = self.positions.write() {
            if kept.len() >= KEPT_GRIDS {
                kept.clear();
            }
            kept.insert(grid, Arc::clone(&patches));
        }
        Ok(patches)
    }

    /// The grid of patches of `pixels`.
    fn grid(&self, pixels: &Tensor) -> Result<(usize, usize)> {
        let wrong =
            || Error::Shape { what: "pixels", expected: "(b, 3, h, w) with b > 0".into(), got: pixels.dims().to_vec() };
        let (b, c, height, width) = pixels.dims4().map_err(|_| wrong())?;
        if b == 0 || c != self.encoder.channels {
            return Err(wrong());
        }
        let patch = self.encoder.patch;
        if height == 0 || width == 0 || height % patch != 0 || width % patch != 0 {
            return Err(Error::InputSize { height, width, patch });
        }
        Ok((height / patch, width / patch))
    }

    /// `(b, 1 + r + n, dim)` or, of the class token alone, `(b, dim)`, in the precision of the weights.
    fn tokens(&self, data: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(data, shape, &Device::Cpu)?.to_dtype(self.dtype)?)
    }
}

impl Backbone for CpuEngine {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    /// As for every encoder; [`Mode::Inference`] only.
    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        let depth = self.spec.depth;
        if request.mode != Mode::Inference {
            return Err(Error::Request { reason: "the CPU engine carries no gradients".into(), depth });
        }
        let layers = request.layers.resolve(depth)?;
        let grid = self.grid(pixels)?;
        let positions = self.positions(grid)?;
        let (images, dim) = (pixels.dim(0)?, self.spec.embed_dim);
        let (prefix, patches) = (self.encoder.prefix_tokens(), grid.0 * grid.1);
        let with_registers = request.registers && prefix > 1;
        let wanted = if request.patches == Patches::None && !with_registers { Wanted::Class } else { Wanted::Tokens };
        let normalised = request.norm == FinalNorm::Applied;

        let pixels = pixels.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        let results = {
            let (storage, layout) = pixels.storage_and_layout();
            let Storage::Cpu(CpuStorage::F32(data)) = &*storage else {
                return Err(Error::Shape { what: "pixels", expected: "f32".into(), got: pixels.dims().to_vec() });
            };
            let from = layout.start_offset();
            let data = &data[from..from + pixels.elem_count()];
            let mut workspace = self.workspaces.take();
            let results = on(self.pool.as_ref(), || {
                let pixels = Pixels { data, images, grid };
                self.encoder.forward(pixels, &positions, &layers, wanted, normalised, &mut workspace)
            });
            self.workspaces.give(workspace);
            results
        };

        let mut out = Vec::with_capacity(results.len());
        for data in results {
            if wanted == Wanted::Class {
                let cls = self.tokens(data, &[images, dim])?;
                out.push(LayerTokens { cls, registers: None, patches: None, grid });
                continue;
            }
            let all = self.tokens(data, &[images, prefix + patches, dim])?;
            let maps = |t: Tensor| -> Result<Tensor> {
                Ok(t.transpose(1, 2)?.contiguous()?.reshape((images, dim, grid.0, grid.1))?)
            };
            let patch_tokens = || -> Result<Tensor> { Ok(all.narrow(1, prefix, patches)?.contiguous()?) };
            out.push(LayerTokens {
                cls: all.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?,
                registers: with_registers.then(|| all.narrow(1, 1, prefix - 1)?.contiguous()).transpose()?,
                patches: match request.patches {
                    Patches::None => None,
                    Patches::Tokens => Some(patch_tokens()?),
                    Patches::Grid => Some(maps(patch_tokens()?)?),
                },
                grid,
            });
        }
        Ok(Features { layers: out })
    }
}

/// Runs `work` in the pool, or in the one of the caller; either way inside a pool, where handing
/// out work costs little.
fn on<R: Send>(pool: Option<&rayon::ThreadPool>, work: impl FnOnce() -> R + Send) -> R {
    match pool {
        Some(pool) => pool.install(work),
        None => rayon::scope(|_| work()),
    }
}

fn architecture(config: &Dinov2Config, fold: Option<(Vec<f32>, Vec<f32>)>) -> Architecture {
    Architecture {
        dim: config.embed_dim,
        depth: config.depth,
        heads: config.heads,
        patch: config.patch,
        channels: 3,
        registers: config.registers,
        hidden: config.hidden,
        gated: config.feed_forward == FeedForward::SwiGlu,
        eps: config.eps as f32,
        fold,
    }
}

/// The parameters of an encoder under the official names.
struct NamedTensors(BTreeMap<String, Tensor>);

impl NamedTensors {
    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::Architecture {
            field: "tensors",
            value: format!("`{name}` missing"),
            expected: "the shapes of the configuration",
        })
    }

    /// Replaces weights that have an adapter by their sum.
    fn merge_adapters(&mut self, model: &Dinov2) -> Result<()> {
        if !self.0.keys().any(|name| name.ends_with("lora_a")) {
            return Ok(());
        }
        for (i, block) in model.blocks().iter().enumerate() {
            let mut block = block.clone();
            let feed_forward = match &mut block.mlp {
                FeedForwardNet::Mlp(net) => [&mut net.fc1, &mut net.fc2],
                FeedForwardNet::SwiGlu(net) => [&mut net.w12, &mut net.w3],
            };
            for linear in [&mut block.attn.qkv, &mut block.attn.proj].into_iter().chain(feed_forward) {
                linear.merge_adapter()?;
            }
            block.visit(&format!("blocks.{i}"), &mut |name, tensor| {
                self.0.insert(name.to_owned(), tensor.clone());
            });
        }
        Ok(())
    }
}

impl Tensors for NamedTensors {
    type Error = Error;

    fn get(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        let tensor = self.tensor(name)?;
        if tensor.elem_count() != shape.iter().product::<usize>() {
            let value = format!("{:?} for `{name}` of {shape:?}", tensor.dims());
            return Err(Error::Architecture { field: "tensors", value, expected: "the shapes of the configuration" });
        }
        let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
