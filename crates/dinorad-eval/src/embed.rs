//! Cases through an encoder into a feature store.
//!
//! Worker threads read and prepare cases ahead of the encoder; the slices of a shard's cases are
//! packed into batches of equal size and the class tokens of a case's slices averaged. Batches never
//! cross a shard, so a resumed run forms the same ones.

use std::{collections::BTreeMap, path::Path, path::PathBuf, sync::Arc, time::Instant};

use candle::{DType, Device, Tensor};
use dinorad_aggregate::{Aggregate, MeanPool};
use dinorad_backbone::{Backbone, Features, Patches, Request};
use dinorad_datasets::{Bad, ordered};
use ndarray::{Array1, Array2, Array3};
use rayon::prelude::*;

use crate::{
    Cases, Error, Progress, Result,
    store::{Failure, FeatureStore, ItemFeatures, ItemKey, KeyParts, Manifest, Outcome, Part, Store, StorePlan},
    upload::Uploader,
};

/// Whether the class token of every slice is kept beside the case's mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slices {
    /// Only the mean.
    #[default]
    Drop,
    /// As the sequence `slices` `(S, D)`.
    Keep,
}

/// What becomes of the patch tokens of the last block, where the request asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PatchTokens {
    /// All are kept: the sequence `patches` beside the vector `grid`.
    #[default]
    All,
    /// Their mean alone: the vector `avgpool`, and with [`Slices::Keep`] the sequence
    /// `slices.avgpool`.
    Mean,
}

/// How cases are embedded.
#[derive(Debug, Clone)]
pub struct EmbedOptions {
    /// Which blocks and whether patch tokens are kept. The last block's class token is the vector
    /// `cls`; an earlier block's is `cls.N` with its index. Patch tokens of the last block become the
    /// sequence `patches` `(slices · rows · columns, D)` beside the vector `grid` (slices, rows,
    /// columns), or their mean the vector `avgpool`.
    pub request: Request,
    /// Whether the class token of every slice is kept.
    pub slices: Slices,
    /// Whether all patch tokens are kept or their mean.
    pub patch_tokens: PatchTokens,
    /// Images the encoder sees at once.
    pub batch_size: usize,
    /// Cases in a file of the store; a killed run loses at most one file's work.
    pub shard_size: usize,
    /// Threads that read and prepare.
    pub threads: usize,
    /// Prepared cases in memory, the one being encoded counted. Volumes are large: keep this small.
    pub ahead: usize,
    /// Which part of the store this process makes.
    pub part: Part,
    /// Where the encoder is.
    pub device: Device,
    /// What a case without features does: it is recorded and left out, or it ends the run.
    pub bad: Bad,
}

impl Default for EmbedOptions {
    /// The class token alone, batches of 16, files of 64 cases, a thread for every core, twice as
    /// many cases ahead, on the CPU.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            request: Request::cls(),
            slices: Slices::Drop,
            patch_tokens: PatchTokens::All,
            batch_size: 16,
            shard_size: 64,
            threads,
            ahead: 2 * threads,
            part: Part::WHOLE,
            device: Device::Cpu,
            bad: Bad::Skip,
        }
    }
}

/// What became of a run of [`embed`].
#[derive(Debug, Clone)]
pub struct EmbedReport {
    /// The store's folder.
    pub folder: PathBuf,
    /// Cases embedded now.
    pub embedded: usize,
    /// Cases that an earlier run had dealt with, failed ones included.
    pub reused: usize,
    /// The cases of this part without features, in order, of earlier runs too.
    pub failures: Vec<Failure>,
    /// What the user should hear of, such as damaged files that were made again.
    pub notices: Vec<String>,
    /// The whole store; `None` while other parts are missing.
    pub manifest: Option<Manifest>,
    /// Images that went through the encoder now: slices counted singly.
    pub images: usize,
    /// Seconds spent on hashing, on waiting for prepared cases, in the encoder, and in all.
    pub seconds: EmbedSeconds,
}

/// Where the time of [`embed`] went.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmbedSeconds {
    /// Hashing the cases.
    pub hashing: f64,
    /// Waiting for a case to be read and prepared.
    pub waiting: f64,
    /// In the encoder.
    pub encoding: f64,
    /// In all.
    pub total: f64,
}

impl EmbedReport {
    /// The finished store.
    ///
    /// # Errors
    /// [`Error::File`] while parts are missing, [`Error::Damaged`].
    pub fn store(&self) -> Result<FeatureStore> {
        FeatureStore::open(&self.folder)
    }
}

/// Embeds `cases` into `<root>/<key>/`, or finishes what an earlier run began there.
///
/// `preprocessing` is the stable text of what [`Cases::load`] does (such as `Compose::hash`), part of
/// the key. A case that cannot be read or whose features are not finite is recorded with its reason
/// and ends nothing, unless [`EmbedOptions::bad`] says so.
///
/// # Errors
/// [`Error::BadCase`] for the first such case under [`Bad::Stop`]; what was embedded before it stays.
/// [`Error::Encoder`] for images that the encoder cannot take (a size that is no multiple of the
/// patch) and requests it cannot meet; [`Error::Parameter`] for options out of range and patch maps;
/// those of [`Store`].
pub fn embed(
    cases: Arc<dyn Cases>,
    encoder: &dyn Backbone,
    preprocessing: &str,
    root: &Path,
    options: &EmbedOptions,
    progress: &dyn Progress,
) -> Result<EmbedReport> {
    let start = Instant::now();
    if options.batch_size == 0 {
        return Err(Error::Parameter { what: "batch size", expected: "1 or more", got: "0".into() });
    }
    if options.request.patches == Patches::Grid || options.request.registers {
        return Err(Error::Parameter {
            what: "request",
            expected: "class tokens, or class and patch tokens",
            got: "patch maps or register tokens".into(),
        });
    }
    let blocks = options.request.layers.resolve(encoder.spec().depth)?;
    progress.message("hashing");
    let items: Vec<ItemKey> = (0..cases.len()).into_par_iter().map(|i| cases.key(i)).collect();
    let parts = KeyParts::new(preprocessing, &encoder.spec().digest, request_text(options, &blocks))
        .with("device", device_text(&options.device));
    let plan = StorePlan::new(parts, items, options.shard_size)?;
    let hashing = start.elapsed().as_secs_f64();
    let mut store = Store::open_or_create(root, plan, options.part)?;
    let missing = store.missing_shards();
    let order: Vec<usize> = missing.iter().flat_map(|&s| store.plan().range_of(s)).collect();
    let mine = (0..store.plan().n_shards()).filter(|&s| options.part.makes(s));
    let total: usize = mine.map(|s| store.plan().range_of(s).len()).sum();
    progress.set_total(total);
    progress.advance(total - order.len());
    progress.message("embedding");
    let mut seconds = EmbedSeconds { hashing, ..EmbedSeconds::default() };
    let (mut images, mut embedded) = (0, 0);
    let places = order.clone();
    let source = Arc::clone(&cases);
    let mut prepared = ordered(order.len(), options.threads, options.ahead, move |at| Ok(source.load(places[at])));
    for &shard in &missing {
        let n = store.plan().range_of(shard).len();
        let mut packer = Packer::new(encoder, options, blocks.clone(), n);
        for place in 0..n {
            let waited = Instant::now();
            let loaded = prepared.next();
            seconds.waiting += waited.elapsed().as_secs_f64();
            let strict = options.bad == Bad::Stop;
            match loaded {
                Some((_, Ok(Err(reason)))) if strict => return Err(bad_case(&store, shard, place, reason)),
                Some((_, Err(panic))) if strict => return Err(bad_case(&store, shard, place, panic.to_string())),
                Some((_, Ok(Ok(slices)))) => packer.push(place, slices)?,
                Some((_, Ok(Err(reason)))) => packer.fail(place, reason),
                Some((_, Err(panic))) => packer.fail(place, format!("could not be read: {panic}")),
                None => packer.fail(place, "could not be read".into()),
            }
            progress.advance(1);
        }
        let packed = packer.finish()?;
        if options.bad == Bad::Stop
            && let Some((place, reason)) = packed.outcomes.iter().enumerate().find_map(|(i, o)| Some((i, failed(o)?)))
        {
            return Err(bad_case(&store, shard, place, reason.to_owned()));
        }
        seconds.encoding += packed.seconds;
        images += packed.images;
        embedded += packed.outcomes.iter().filter(|o| matches!(o, Outcome::Embedded(_))).count();
        store.write_shard(shard, &packed.outcomes)?;
    }
    progress.message("writing the manifest");
    let notices = store.notices().to_vec();
    let manifest = store.finish()?;
    let failures = match &manifest {
        Some(manifest) if options.part.is_whole() => manifest.failures.clone(),
        _ => store.part_failures(),
    };
    // a lenient run before this one may have recorded some
    if options.bad == Bad::Stop
        && let Some(failure) = failures.first()
    {
        return Err(Error::BadCase { id: failure.id.clone(), reason: failure.reason.clone() });
    }
    seconds.total = start.elapsed().as_secs_f64();
    Ok(EmbedReport {
        folder: store.folder().to_owned(),
        embedded,
        reused: total - order.len(),
        failures,
        notices,
        manifest,
        images,
        seconds,
    })
}

fn failed(outcome: &Outcome) -> Option<&str> {
    if let Outcome::Failed(reason) = outcome { Some(reason) } else { None }
}

/// The case at a place of a shard as an error.
fn bad_case(store: &Store, shard: usize, place: usize, reason: String) -> Error {
    let id = store.plan().items_of(shard).get(place).map_or_else(String::new, |item| item.id.clone());
    Error::BadCase { id, reason }
}

/// A text that is the same for the same request in every version.
fn request_text(options: &EmbedOptions, blocks: &[usize]) -> String {
    let request = &options.request;
    let blocks: Vec<String> = blocks.iter().map(usize::to_string).collect();
    let norm = match request.norm {
        dinorad_backbone::FinalNorm::Applied => "applied",
        dinorad_backbone::FinalNorm::Raw => "raw",
    };
    let patches = match (request.patches, options.patch_tokens) {
        (Patches::None, _) => "none",
        (_, PatchTokens::All) => "tokens",
        (_, PatchTokens::Mean) => "mean",
    };
    let slices = match options.slices {
        Slices::Drop => "drop",
        Slices::Keep => "keep",
    };
    let mode = match request.mode {
        dinorad_nn::Mode::Inference => "inference",
        dinorad_nn::Mode::Training => "training",
    };
    format!("blocks={} norm={norm} patches={patches} slices={slices} pool=mean mode={mode}", blocks.join(","))
}

/// Devices differ in the last digits.
fn device_text(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// The tokens of one slice: class tokens by block, patch tokens of the last.
struct SliceTokens {
    cls: Vec<Vec<f32>>,
    patches: Option<Array2<f32>>,
    grid: (usize, usize),
}

/// A slice waiting for its batch.
struct Waiting {
    case: usize,
    slice: usize,
    pixels: Array3<f32>,
}

/// A batch in the encoder: where its images belong, and the features, which a GPU may still be
/// computing.
struct InFlight {
    places: Vec<(usize, usize)>,
    features: Features,
}

/// Gathers the slices of a shard's cases into batches of equal size.
struct Packer<'a> {
    encoder: &'a dyn Backbone,
    options: &'a EmbedOptions,
    blocks: Vec<usize>,
    /// By height and width.
    waiting: BTreeMap<(usize, usize), Vec<Waiting>>,
    uploader: Uploader,
    in_flight: Option<InFlight>,
    tokens: Vec<Vec<Option<SliceTokens>>>,
    failed: Vec<Option<String>>,
    images: usize,
    seconds: f64,
}

struct Packed {
    outcomes: Vec<Outcome>,
    images: usize,
    seconds: f64,
}

impl<'a> Packer<'a> {
    fn new(encoder: &'a dyn Backbone, options: &'a EmbedOptions, blocks: Vec<usize>, n: usize) -> Self {
        Self {
            encoder,
            options,
            blocks,
            waiting: BTreeMap::new(),
            uploader: Uploader::new(&options.device),
            in_flight: None,
            tokens: (0..n).map(|_| Vec::new()).collect(),
            failed: vec![None; n],
            images: 0,
            seconds: 0.0,
        }
    }

    fn fail(&mut self, case: usize, reason: String) {
        self.failed[case] = Some(reason);
    }

    fn push(&mut self, case: usize, slices: Vec<Array3<f32>>) -> Result<()> {
        if slices.is_empty() {
            self.fail(case, "the case has no slices".into());
            return Ok(());
        }
        self.tokens[case] = slices.iter().map(|_| None).collect();
        for (slice, pixels) in slices.into_iter().enumerate() {
            let (c, h, w) = pixels.dim();
            if c != 3 {
                return Err(Error::shape("prepared image", "(3, h, w)", pixels.shape()));
            }
            let bucket = self.waiting.entry((h, w)).or_default();
            bucket.push(Waiting { case, slice, pixels });
            if bucket.len() >= self.options.batch_size {
                let batch = std::mem::take(bucket);
                self.encode(batch)?;
            }
            // Many different sizes must not pile up; the fullest goes first, the smallest of equals.
            let held: usize = self.waiting.values().map(Vec::len).sum();
            if held > 4 * self.options.batch_size {
                let mut fullest: Option<((usize, usize), usize)> = None;
                for (&size, bucket) in &self.waiting {
                    if fullest.is_none_or(|(_, n)| bucket.len() > n) {
                        fullest = Some((size, bucket.len()));
                    }
                }
                if let Some(batch) = fullest.and_then(|(size, _)| self.waiting.remove(&size)) {
                    self.encode(batch)?;
                }
            }
        }
        Ok(())
    }

    /// Starts a batch, then collects the one before: while a GPU computes, the host gathers.
    fn encode(&mut self, batch: Vec<Waiting>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let pixels = self.uploader.upload(batch.iter().map(|waiting| &waiting.pixels))?;
        let features = self.encoder.forward(&pixels, &self.options.request)?;
        let places = batch.iter().map(|waiting| (waiting.case, waiting.slice)).collect();
        let before = self.in_flight.replace(InFlight { places, features });
        before.map_or(Ok(()), |before| self.collect(before))?;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// The features of a batch to the slices they belong to.
    fn collect(&mut self, InFlight { places, features }: InFlight) -> Result<()> {
        let last = features.last()?;
        let mut cls = Vec::with_capacity(features.layers.len());
        for layer in &features.layers {
            cls.push(host(&layer.cls)?.to_vec2::<f32>()?);
        }
        let patches = match &last.patches {
            Some(patches) => Some(host(patches)?.to_vec3::<f32>()?),
            None => None,
        };
        let mut patches = patches.map(Vec::into_iter);
        self.images += places.len();
        for (b, (case, slice)) in places.into_iter().enumerate() {
            let rows = patches.as_mut().and_then(Iterator::next);
            let rows = rows.map(|rows| {
                let (n, dim) = (rows.len(), rows.first().map_or(0, Vec::len));
                Array2::from_shape_vec((n, dim), rows.into_iter().flatten().collect())
            });
            let patches = rows.transpose().map_err(|e| Error::shape("patch tokens", e.to_string(), &[]))?;
            self.tokens[case][slice] = Some(SliceTokens {
                cls: cls.iter_mut().map(|layer| std::mem::take(&mut layer[b])).collect(),
                patches,
                grid: last.grid,
            });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Packed> {
        for batch in std::mem::take(&mut self.waiting).into_values() {
            self.encode(batch)?;
        }
        let start = Instant::now();
        self.in_flight.take().map_or(Ok(()), |last| self.collect(last))?;
        self.seconds += start.elapsed().as_secs_f64();
        let mut outcomes = Vec::with_capacity(self.tokens.len());
        for (case, slices) in std::mem::take(&mut self.tokens).into_iter().enumerate() {
            let slices: Option<Vec<SliceTokens>> = slices.into_iter().collect();
            outcomes.push(match (self.failed[case].take(), slices) {
                (Some(reason), _) => Outcome::Failed(reason),
                (None, Some(slices)) if !slices.is_empty() => self.case(slices)?,
                _ => Outcome::Failed("the case has no slices".into()),
            });
        }
        Ok(Packed { outcomes, images: self.images, seconds: self.seconds })
    }

    /// The features of one case from those of its slices.
    fn case(&self, slices: Vec<SliceTokens>) -> Result<Outcome> {
        let mut features = ItemFeatures::default();
        for (at, block) in self.blocks.iter().enumerate() {
            let is_last = at + 1 == self.blocks.len();
            let dim = slices[0].cls[at].len();
            let rows: Vec<f32> = slices.iter().flat_map(|s| s.cls[at].iter().copied()).collect();
            if rows.iter().any(|v| !v.is_finite()) {
                return Ok(Outcome::Failed("its features are not finite".into()));
            }
            let suffix = if is_last { String::new() } else { format!(".{block}") };
            features = self.pooled(features, (format!("cls{suffix}"), format!("slices{suffix}")), rows, dim)?;
        }
        let grid = slices[0].grid;
        let patches: Option<Vec<&Array2<f32>>> = slices.iter().map(|s| s.patches.as_ref()).collect();
        if let Some(patches) = &patches
            && self.options.patch_tokens == PatchTokens::Mean
        {
            let dim = patches.first().map_or(0, |p| p.ncols());
            let mut rows = Vec::with_capacity(patches.len() * dim);
            for tokens in patches {
                let mean = tokens.mean_axis(ndarray::Axis(0));
                rows.extend(mean.ok_or_else(|| Error::shape("patch tokens", "at least one", tokens.shape()))?);
            }
            if rows.iter().any(|v| !v.is_finite()) {
                return Ok(Outcome::Failed("its features are not finite".into()));
            }
            features = self.pooled(features, ("avgpool".into(), "slices.avgpool".into()), rows, dim)?;
        } else if let Some(patches) = patches {
            let views: Vec<_> = patches.iter().map(|p| p.view()).collect();
            let rows = ndarray::concatenate(ndarray::Axis(0), &views)
                .map_err(|e| Error::shape("patch tokens", e.to_string(), &[]))?;
            if rows.iter().any(|v| !v.is_finite()) {
                return Ok(Outcome::Failed("its features are not finite".into()));
            }
            features = features
                .with_vector("grid", Array1::from(vec![slices.len() as f32, grid.0 as f32, grid.1 as f32]))
                .with_sequence("patches", rows);
        }
        Ok(Outcome::Embedded(features))
    }

    /// Adds the mean of the slices' rows, and the rows themselves where they are kept.
    fn pooled(
        &self,
        features: ItemFeatures,
        (vector, sequence): (String, String),
        rows: Vec<f32>,
        dim: usize,
    ) -> Result<ItemFeatures> {
        let shape = (rows.len() / dim.max(1), dim);
        let rows = Array2::from_shape_vec(shape, rows).map_err(|e| Error::shape("slices", e.to_string(), &[]))?;
        let features = features.with_vector(vector, MeanPool.aggregate(rows.view())?);
        if self.options.slices == Slices::Drop {
            return Ok(features);
        }
        Ok(features.with_sequence(sequence, rows))
    }
}

fn host(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
}
