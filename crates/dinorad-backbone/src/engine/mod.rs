//! The CPU engine: the same encoder as a [`Dinov2`] or a [`Vit`], for inference alone, several times
//! faster.
//!
//! Weights are packed once for the processor at hand, with LayerScale, the scale of the attention
//! scores and (if asked) the colour normalisation folded in. A forward pass works in memory that is
//! kept from call to call, never writes a matrix of attention weights to memory, and gives the same
//! bytes on any number of threads and for any batch an image comes in.
//!
//! The candle path stays the reference and the one for training, masking and other devices.

mod encoder;
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
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use candle::{CpuStorage, DType, Device, Storage, Tensor};
use dinorad_kernels::{Epilogue, Kernels, gemm::Panels, norm::Norm};
use dinorad_nn::{Activation, Pass, Rotary, Trainable};

use self::{
    encoder::{Encoder, Pixels, PositionEncoding, Wanted},
    weights::{Architecture, Tensors},
};
use crate::{
    Backbone, BackboneSpec, Dinov2, Error, Features, FeedForward, FinalNorm, LayerTokens, Patches, Positions, Request,
    Result, TransformerBlock, Vit,
    architecture::{self, refuse},
    resample_positions,
    vit::tokens::{self, grid_of},
};
pub use dinorad_kernels::InstructionSet;

/// Positions of grids that are kept; images come in few sizes.
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

/// A vision transformer packed for fast inference on the CPU.
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
    positions: Positions,
    /// The native table `(1, 1 + s * s, dim)` in f32, if positions come from one.
    table: Option<Tensor>,
    encodings: RwLock<HashMap<(usize, usize), Arc<PositionEncoding>>>,
    /// What the class token is mapped by in the end, `(dim, projection)` in f32.
    head: Option<Tensor>,
    workspaces: workspace::Pool,
    pool: Option<rayon::ThreadPool>,
}

/// An encoder as it comes to be packed.
pub(crate) struct Model {
    spec: BackboneSpec,
    dtype: DType,
    architecture: Architecture,
    positions: Positions,
    /// What the study's norm adds to the variance, if that stands in place of the encoder's own.
    wrapper: Option<f64>,
    tensors: NamedTensors,
    /// Blocks with adapters, by their index.
    adapted: Vec<(usize, TransformerBlock)>,
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

impl From<&Dinov2> for Model {
    fn from(encoder: &Dinov2) -> Self {
        encoder.vit().into()
    }
}

impl From<&Vit> for Model {
    fn from(encoder: &Vit) -> Self {
        let c = encoder.config();
        Model {
            architecture: Architecture {
                registers: c.registers,
                hidden: c.hidden,
                activation: activation(c.feed_forward, c.activation),
                pre_norm: c.pre_norm,
                eps: c.eps as f32,
                ..Architecture::plain(c.embed_dim, c.depth, c.heads, c.patch)
            },
            spec: encoder.spec().clone(),
            dtype: encoder.dtype(),
            positions: c.positions,
            wrapper: encoder.study_norm_eps(),
            tensors: NamedTensors::of(encoder),
            adapted: adapted(encoder.blocks()),
        }
    }
}

impl CpuEngine {
    /// Packs the weights of `model`, on all threads.
    ///
    /// # Errors
    /// [`Error::Architecture`] if the processor lacks the instruction set or the threads cannot be
    /// started; [`Error::Tensor`] if a weight cannot be read.
    pub fn new(model: &Dinov2, options: &EngineOptions) -> Result<Self> {
        Self::pack(model.into(), options)
    }

    /// The same for a vision transformer of another family.
    ///
    /// # Errors
    /// As [`CpuEngine::new`].
    pub fn of_vit(model: &Vit, options: &EngineOptions) -> Result<Self> {
        Self::pack(model.into(), options)
    }

    /// The same of an encoder that nobody needs any more: its tensors go as they are packed.
    pub(crate) fn in_place_of<E>(encoder: E, options: &EngineOptions) -> Result<Self>
    where
        for<'a> Model: From<&'a E>,
    {
        let model = Model::from(&encoder);
        drop(encoder);
        Self::pack(model, options)
    }

    fn pack(model: Model, options: &EngineOptions) -> Result<Self> {
        let Model { spec, dtype, mut architecture, positions, wrapper, mut tensors, adapted } = model;
        tensors.merge(adapted)?;
        let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
        let Some(kernels) = Kernels::of(set) else {
            return refuse("instruction_set", &set.name(), "one that this processor has");
        };
        let pool = match options.threads {
            None => None,
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads.max(1))
                    .thread_name(|i| format!("encoder-{i}"))
                    .build();
                match pool {
                    Ok(pool) => Some(pool),
                    Err(_) => return refuse("threads", &threads, "a number of threads that the system allows"),
                }
            }
        };
        architecture.fold = (options.pixels == PixelScale::Unit)
            .then(|| (spec.normalization.mean.to_vec(), spec.normalization.std.to_vec()));
        let mut encoder = on(pool.as_ref(), || weights::pack::<Panels, _>(kernels, &architecture, &tensors))?;
        if let Some(eps) = wrapper {
            let dim = encoder.dim;
            encoder.norm = Norm { gamma: vec![1.0; dim], beta: vec![0.0; dim], eps: eps as f32 };
            encoder.raw_class = true;
        }

        let table = match positions {
            Positions::Table(_) => {
                let table = tensors.take("pos_embed")?;
                let class = table.narrow(1, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
                for (token, position) in encoder.prefix.iter_mut().zip(class) {
                    *token += position;
                }
                Some(table)
            }
            Positions::Rotary { .. } => None,
        };
        let head = match "head.proj.weight" {
            name if tensors.has(name) => Some(tensors.take(name)?.t()?.contiguous()?),
            _ => None,
        };
        Ok(Self {
            encoder,
            spec,
            dtype,
            positions,
            table,
            encodings: RwLock::default(),
            head,
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

    /// Where the patches of a grid are.
    fn position_encoding(&self, grid: (usize, usize)) -> Result<Arc<PositionEncoding>> {
        if let Some(kept) = self.encodings.read().ok().and_then(|p| p.get(&grid).cloned()) {
            return Ok(kept);
        }
        let values = |t: Tensor| -> Result<Vec<f32>> { Ok(t.flatten_all()?.to_vec1::<f32>()?) };
        let encoding = Arc::new(match (self.positions, &self.table) {
            (Positions::Table(how), Some(table)) => {
                let table = resample_positions(table, grid, how)?;
                PositionEncoding::Added(values(table.narrow(1, 1, grid.0 * grid.1)?)?)
            }
            (Positions::Table(_), None) => return refuse("tensors", &"no `pos_embed`", "a table of positions"),
            (Positions::Rotary { theta }, _) => {
                let head = self.encoder.dim / self.encoder.heads;
                let rotary = Rotary::axial(grid, 0, head, theta, &Device::Cpu)?;
                // The second half of the channels repeats the angles of the first.
                let (cos, sin) = rotary.tables();
                PositionEncoding::Rotary {
                    cos: values(cos.narrow(1, 0, head / 2)?)?,
                    sin: values(sin.narrow(1, 0, head / 2)?)?,
                }
            }
        });
        if let Ok(mut kept) = self.encodings.write() {
            if kept.len() >= KEPT_GRIDS {
                kept.clear();
            }
            kept.insert(grid, Arc::clone(&encoding));
        }
        Ok(encoding)
    }

    /// Takes the tokens of one block apart: `(b, dim)` of class tokens alone, else `(b, 1 + r + n, dim)`.
    fn layer(
        &self,
        data: Vec<f32>,
        wanted: Wanted,
        grid: (usize, usize),
        request: &Request,
        last: bool,
    ) -> Result<LayerTokens> {
        let (dim, prefix) = (self.encoder.dim, self.encoder.prefix_tokens());
        let tokens = if wanted == Wanted::Class { 1 } else { prefix + grid.0 * grid.1 };
        let images = data.len() / (tokens * dim);
        let all = Tensor::from_vec(data, (images, tokens, dim), &Device::Cpu)?;
        let mut layer = tokens::split(&all, prefix - 1, grid, request)?;
        if let Some(head) = self.head.as_ref().filter(|_| last && request.norm == FinalNorm::Applied) {
            layer.cls = layer.cls.matmul(head)?;
        }
        let rounded = |t: Tensor| t.to_dtype(self.dtype);
        Ok(LayerTokens {
            cls: rounded(layer.cls)?,
            registers: layer.registers.map(rounded).transpose()?,
            patches: layer.patches.map(rounded).transpose()?,
            grid,
        })
    }
}

impl Backbone for CpuEngine {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    /// As for every encoder; [`Pass::Inference`] only.
    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        self.spec.check(request)?;
        let depth = self.spec.depth;
        if request.pass != Pass::Inference {
            return Err(Error::Request { reason: "the CPU engine carries no gradients".into(), depth });
        }
        let layers = request.layers.resolve(depth)?;
        let grid = grid_of(pixels, self.encoder.patch)?;
        let positions = self.position_encoding(grid)?;
        let with_registers = request.registers && self.encoder.prefix_tokens() > 1;
        let wanted = if request.patches == Patches::None && !with_registers { Wanted::Class } else { Wanted::Tokens };
        let normalised = request.norm == FinalNorm::Applied;

        let images = pixels.dim(0)?;
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
        let results = layers.iter().zip(results);
        let layers = results.map(|(i, data)| self.layer(data, wanted, grid, request, i + 1 == depth));
        Ok(Features { layers: layers.collect::<Result<_>>()? })
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

fn activation(feed_forward: FeedForward, activation: Activation) -> Epilogue {
    match (feed_forward, activation) {
        (FeedForward::SwiGlu, _) => Epilogue::SwiGlu,
        (FeedForward::Mlp, Activation::Gelu) => Epilogue::BiasGelu,
        (FeedForward::Mlp, Activation::QuickGelu) => Epilogue::BiasQuickGelu,
    }
}

/// Blocks in whose maps an adapter sits.
fn adapted(blocks: &[TransformerBlock]) -> Vec<(usize, TransformerBlock)> {
    let has_adapter = |block: &TransformerBlock| block.tensors().keys().any(|name| name.ends_with("lora_A"));
    blocks.iter().enumerate().filter(|(_, block)| has_adapter(block)).map(|(i, block)| (i, block.clone())).collect()
}

/// The parameters of an encoder under the official names, each taken once.
struct NamedTensors(Mutex<BTreeMap<String, Tensor>>);

impl NamedTensors {
    fn of(encoder: &dyn Trainable) -> Self {
        Self(Mutex::new(encoder.tensors()))
    }

    /// Puts the sum of weight and adapter in the place of weights that have one.
    fn merge(&mut self, blocks: Vec<(usize, TransformerBlock)>) -> Result<()> {
        for (i, mut block) in blocks {
            block.visit_maps("", &mut |_, map| map.merge_adapters())?;
            block.visit(&format!("blocks.{i}"), &mut |name, tensor| {
                self.lock().insert(name.to_owned(), tensor.clone());
            });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tensor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tensor in f32, which nobody asks for again.
    fn take(&self, name: &str) -> Result<Tensor> {
        let tensor = architecture::take(&mut self.lock(), name)?;
        Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.detach())
    }
}

impl Tensors for NamedTensors {
    type Error = Error;

    fn get(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        let tensor = self.take(name)?;
        if tensor.elem_count() != shape.iter().product::<usize>() {
            let value = format!("{:?} for `{name}` of {shape:?}", tensor.dims());
            return refuse("tensors", &value, "the shapes of the configuration");
        }
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into())
    }

    fn has(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}
