//! Cases through an encoder into a feature store.
//!
//! Worker threads read and prepare cases ahead of the encoder; the slices of a shard's cases are
//! packed into batches of equal size and the class tokens of a case's slices averaged. Batches never
//! cross a shard, so a resumed run forms the same ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use candle::{DType, Device, Tensor};
use dinorad_aggregate::{Aggregate, MeanPool};
use dinorad_backbone::{Backbone, Features, Patches, Request};
use dinorad_datasets::{Bad, ordered};
use ndarray::{Array1, Array2, Array3};
use rayon::prelude::*;

use crate::{
    CaseNotes, Cases, Doubts, Error, Prepared, Progress, Result,
    store::{EncoderRecord, Failure, FeatureStore, ItemFeatures, ItemKey, Outcome, Part, Patience, Store, StoreKey},
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
    /// All are kept: the sequence `patches` beside the vector `grid`, and their mean too.
    #[default]
    All,
    /// Their mean alone: the vector `avgpool`, and with [`Slices::Keep`] the sequence
    /// `slices.avgpool`.
    Mean,
}

/// How cases are embedded.
#[derive(Debug, Clone)]
pub struct EmbedOptions {
    /// Which blocks and whether patch tokens are kept. The class token of the encoder's last block is
    /// the vector `cls`; that of an earlier one is `cls.N` with its index. Patch tokens of the last
    /// block asked for become the sequence `patches` `(slices · rows · columns, D)` beside the vector
    /// `grid` (slices, rows, columns), and their mean the vector `avgpool`; those of an earlier one
    /// `patches.N` and so on, as far as [`patch_blocks`](Self::patch_blocks) says.
    pub request: Request,
    /// Whether the class token of every slice is kept.
    pub slices: Slices,
    /// Whether all patch tokens are kept or their mean.
    pub patch_tokens: PatchTokens,
    /// Of how many of the last blocks asked for patch tokens are kept.
    pub patch_blocks: usize,
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
    /// Whether cases that failed before are tried again.
    pub retry_failed: bool,
    /// Name of the set in the store's manifest; a set of the same name is replaced.
    pub set: String,
    /// How long to wait for another process that makes the same features, before it is an error.
    pub patience: Duration,
}

impl Default for EmbedOptions {
    /// The class token alone, batches of 16, files of 64 cases, a thread for every core, twice as
    /// many cases ahead, on the CPU, without patience.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            request: Request::cls(),
            slices: Slices::Drop,
            patch_tokens: PatchTokens::All,
            patch_blocks: 1,
            batch_size: 16,
            shard_size: 64,
            threads,
            ahead: 2 * threads,
            part: Part::WHOLE,
            device: Device::Cpu,
            bad: Bad::Skip,
            retry_failed: false,
            set: "all".to_owned(),
            patience: Duration::ZERO,
        }
    }
}

/// What became of a run of [`embed`].
#[derive(Debug, Clone)]
pub struct EmbedReport {
    /// The store's folder.
    pub folder: PathBuf,
    /// Name of the set in its manifest.
    pub set: String,
    /// Cases embedded now.
    pub embedded: usize,
    /// Cases whose features were there already, or that failed before: in whatever set. A case whose
    /// content another one of the list has counts here too.
    pub reused: usize,
    /// The cases of this part without features, in order, of earlier runs too.
    pub failures: Vec<Failure>,
    /// What the user should hear of, such as damaged files that were made again.
    pub notices: Vec<String>,
    /// What may be wrong with the values of the set's cases, once it is complete.
    pub doubts: Doubts,
    /// Images that went through the encoder now: slices counted singly.
    pub images: usize,
    /// Seconds spent on hashing, on waiting for prepared cases, in the encoder, and in all.
    pub seconds: EmbedSeconds,
    /// The whole set; `None` while other parts are missing.
    features: Option<FeatureStore>,
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
    /// Whether every case of the set is embedded or has failed.
    pub fn is_complete(&self) -> bool {
        self.features.is_some()
    }

    /// The features of the set, in its order.
    ///
    /// # Errors
    /// [`Error::Unfinished`] while other parts are missing.
    pub fn store(&self) -> Result<FeatureStore> {
        self.features.clone().ok_or_else(|| Error::Unfinished { path: self.folder.clone(), set: self.set.clone() })
    }
}

/// Embeds `cases` into a store below `root`, or finishes what an earlier run began there.
///
/// The store is found by the cases' [`settings`](Cases::settings) and the encoder; a case that any
/// earlier run embedded under the same ones is not embedded again. A case that cannot be read or whose
/// features are not finite is recorded with its reason and ends nothing, unless [`EmbedOptions::bad`]
/// says so.
///
/// # Errors
/// [`Error::BadCase`] for the first such case under [`Bad::Stop`]; what was embedded before it stays.
/// [`Error::Encoder`] for images that the encoder cannot take (a size that is no multiple of the
/// patch) and requests it cannot meet; [`Error::Parameter`] for options out of range and patch maps;
/// those of [`Store`].
pub fn embed(
    cases: Arc<dyn Cases>,
    encoder: &dyn Backbone,
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
    if options.patch_blocks == 0 {
        return Err(Error::Parameter { what: "blocks of patch tokens", expected: "1 or more", got: "0".into() });
    }
    let blocks = BlockNames::new(options.request.layers.resolve(encoder.spec().depth)?, encoder.spec().depth);
    progress.message("hashing");
    let items: Vec<ItemKey> = (0..cases.len()).into_par_iter().map(|i| cases.key(i)).collect();
    let hashing = start.elapsed().as_secs_f64();
    let key = StoreKey::new(EncoderRecord::new(encoder.spec(), &options.request, &options.device), cases.settings());
    let waiting = || progress.message("waiting for another process that makes the same features");
    let patience = Patience::new(options.patience, &waiting);
    let sizes = (options.shard_size, options.part);
    let mut store = Store::open_patiently(root, key, items, blocks.names(options), sizes, patience)?;
    let unread = unread(&store, &*cases);
    // content that cannot be read belongs to the first part
    let own_unread: &[Failure] = if options.part.makes(0) { &unread } else { &[] };
    if options.bad == Bad::Stop
        && let Some(Failure { id, reason }) = own_unread.first().cloned()
    {
        return Err(Error::BadCase { id, reason });
    }
    let missing = if options.retry_failed { store.missing_or_failed() } else { store.missing() };
    let order: Vec<usize> = missing.iter().flatten().copied().collect();
    let twins = if options.part.makes(0) { store.items().len() - unread.len() - store.n_contents() } else { 0 };
    let total = store.own().count() + twins + own_unread.len();
    let reused = total - own_unread.len() - order.len();
    progress.set_total(total);
    progress.advance(total - order.len());
    progress.message("embedding");
    let mut seconds = EmbedSeconds { hashing, ..EmbedSeconds::default() };
    let (mut images, mut embedded) = (0, 0);
    let places = order.clone();
    let source = Arc::clone(&cases);
    let mut prepared = ordered(order.len(), options.threads, options.ahead, move |at| Ok(source.load(places[at])));
    for shard in &missing {
        let mut packer = Packer::new(encoder, options, blocks.clone(), shard.len());
        for place in 0..shard.len() {
            let waited = Instant::now();
            let loaded = prepared.next();
            seconds.waiting += waited.elapsed().as_secs_f64();
            let strict = options.bad == Bad::Stop;
            match loaded {
                Some((_, Ok(Err(reason)))) if strict => return Err(bad_case(&store, shard, place, reason)),
                Some((_, Err(panic))) if strict => return Err(bad_case(&store, shard, place, panic.to_string())),
                Some((_, Ok(Ok(case)))) => packer.push(place, case)?,
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
        store.write(shard, &packed.outcomes)?;
    }
    progress.message("writing the manifest");
    let features = store.finish(&options.set, &unread)?;
    let failures = match &features {
        Some(features) if options.part.is_whole() => features.failures().to_vec(),
        _ => own_unread.iter().cloned().chain(store.own_failures()).collect(),
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
        set: options.set.clone(),
        embedded,
        reused,
        failures,
        notices: store.notices().to_vec(),
        doubts: features.as_ref().map(FeatureStore::doubts).unwrap_or_default(),
        images,
        seconds,
        features,
    })
}

/// The cases whose content could not be read, and why.
fn unread(store: &Store, cases: &dyn Cases) -> Vec<Failure> {
    let without = store.items().iter().enumerate().filter(|(_, item)| !item.has_content());
    let why = |(i, item): (usize, &ItemKey)| {
        let reason = cases.load(i).err().unwrap_or_else(|| "its content could not be read".into());
        Failure { id: item.id.clone(), reason }
    };
    without.map(why).collect()
}

fn failed(outcome: &Outcome) -> Option<&str> {
    if let Outcome::Failed(reason) = outcome { Some(reason) } else { None }
}

/// The case at a place of a shard as an error.
fn bad_case(store: &Store, shard: &[usize], place: usize, reason: String) -> Error {
    let item = shard.get(place).and_then(|i| store.items().get(*i));
    let id = item.map_or_else(String::new, |item| item.id.clone());
    Error::BadCase { id, reason }
}

/// The blocks asked for, in network order, and what their features are called.
#[derive(Debug, Clone)]
struct BlockNames {
    indices: Vec<usize>,
    depth: usize,
}

impl BlockNames {
    fn new(indices: Vec<usize>, depth: usize) -> Self {
        Self { indices, depth }
    }

    /// Follows the names of a block's features; the encoder's last block has none.
    fn suffix(&self, block: usize) -> String {
        if block + 1 == self.depth { String::new() } else { format!(".{block}") }
    }

    /// Those of the blocks whose patch tokens are kept, in order.
    fn patch_suffixes(&self, options: &EmbedOptions) -> Vec<String> {
        let skipped = self.indices.len().saturating_sub(options.patch_blocks);
        self.indices.iter().skip(skipped).map(|block| self.suffix(*block)).collect()
    }

    /// Every feature that a case will have.
    fn names(&self, options: &EmbedOptions) -> BTreeSet<String> {
        let keep = options.slices == Slices::Keep;
        let mut names = BTreeSet::new();
        for block in &self.indices {
            let suffix = self.suffix(*block);
            names.insert(format!("cls{suffix}"));
            names.extend(keep.then(|| format!("slices{suffix}")));
        }
        if options.request.patches != Patches::None {
            for suffix in self.patch_suffixes(options) {
                names.insert(format!("avgpool{suffix}"));
                names.extend(keep.then(|| format!("slices.avgpool{suffix}")));
                if options.patch_tokens == PatchTokens::All {
                    names.extend([format!("grid{suffix}"), format!("patches{suffix}")]);
                }
            }
        }
        names
    }
}

/// The tokens of one slice: class tokens by block, patch tokens of the last ones.
struct SliceTokens {
    cls: Vec<Vec<f32>>,
    /// None where they are not asked for.
    patches: Vec<Array2<f32>>,
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
    blocks: BlockNames,
    /// By height and width.
    waiting: BTreeMap<(usize, usize), Vec<Waiting>>,
    uploader: Uploader,
    in_flight: Option<InFlight>,
    tokens: Vec<Vec<Option<SliceTokens>>>,
    notes: Vec<CaseNotes>,
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
    fn new(encoder: &'a dyn Backbone, options: &'a EmbedOptions, blocks: BlockNames, n: usize) -> Self {
        Self {
            encoder,
            options,
            blocks,
            waiting: BTreeMap::new(),
            uploader: Uploader::new(&options.device),
            in_flight: None,
            tokens: (0..n).map(|_| Vec::new()).collect(),
            notes: vec![CaseNotes::default(); n],
            failed: vec![None; n],
            images: 0,
            seconds: 0.0,
        }
    }

    fn fail(&mut self, case: usize, reason: String) {
        self.failed[case] = Some(reason);
    }

    fn push(&mut self, case: usize, Prepared { slices, notes, .. }: Prepared) -> Result<()> {
        self.notes[case] = notes;
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
        let skipped = features.layers.len().saturating_sub(self.options.patch_blocks);
        let mut patches = Vec::new();
        for tokens in features.layers.iter().skip(skipped).filter_map(|layer| layer.patches.as_ref()) {
            patches.push(host(tokens)?.to_vec3::<f32>()?.into_iter());
        }
        self.images += places.len();
        for (b, (case, slice)) in places.into_iter().enumerate() {
            let of_slice = patches.iter_mut().filter_map(Iterator::next).map(|rows| {
                let (n, dim) = (rows.len(), rows.first().map_or(0, Vec::len));
                let tokens = Array2::from_shape_vec((n, dim), rows.into_iter().flatten().collect());
                tokens.map_err(|e| Error::shape("patch tokens", e.to_string(), &[]))
            });
            let patches = of_slice.collect::<Result<Vec<_>>>()?;
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
        let mut notes = std::mem::take(&mut self.notes).into_iter();
        let mut outcomes = Vec::with_capacity(self.tokens.len());
        for (case, slices) in std::mem::take(&mut self.tokens).into_iter().enumerate() {
            let notes = notes.next().unwrap_or_default();
            let slices: Option<Vec<SliceTokens>> = slices.into_iter().collect();
            outcomes.push(match (self.failed[case].take(), slices) {
                (Some(reason), _) => Outcome::Failed(reason),
                (None, Some(slices)) if !slices.is_empty() => self.case(slices, notes)?,
                _ => Outcome::Failed("the case has no slices".into()),
            });
        }
        Ok(Packed { outcomes, images: self.images, seconds: self.seconds })
    }

    /// The features of one case from those of its slices.
    fn case(&self, slices: Vec<SliceTokens>, notes: CaseNotes) -> Result<Outcome> {
        let mut features = ItemFeatures::default().with_notes(notes);
        for (at, block) in self.blocks.indices.iter().enumerate() {
            let dim = slices[0].cls[at].len();
            let rows: Vec<f32> = slices.iter().flat_map(|s| s.cls[at].iter().copied()).collect();
            if rows.iter().any(|v| !v.is_finite()) {
                return Ok(Outcome::Failed("its features are not finite".into()));
            }
            let suffix = self.blocks.suffix(*block);
            features = self.pooled(features, (format!("cls{suffix}"), format!("slices{suffix}")), rows, dim)?;
        }
        let grid = slices[0].grid;
        let blocks = slices.iter().map(|slice| slice.patches.len()).min().unwrap_or(0);
        for (at, suffix) in self.blocks.patch_suffixes(self.options).iter().enumerate().take(blocks) {
            let patches: Vec<&Array2<f32>> = slices.iter().map(|slice| &slice.patches[at]).collect();
            let dim = patches.first().map_or(0, |p| p.ncols());
            let mut rows = Vec::with_capacity(patches.len() * dim);
            for tokens in &patches {
                let mean = tokens.mean_axis(ndarray::Axis(0));
                rows.extend(mean.ok_or_else(|| Error::shape("patch tokens", "at least one", tokens.shape()))?);
            }
            if rows.iter().any(|v| !v.is_finite()) {
                return Ok(Outcome::Failed("its features are not finite".into()));
            }
            let names = (format!("avgpool{suffix}"), format!("slices.avgpool{suffix}"));
            features = self.pooled(features, names, rows, dim)?;
            if self.options.patch_tokens != PatchTokens::All {
                continue;
            }
            let views: Vec<_> = patches.iter().map(|p| p.view()).collect();
            let rows = ndarray::concatenate(ndarray::Axis(0), &views)
                .map_err(|e| Error::shape("patch tokens", e.to_string(), &[]))?;
            if rows.iter().any(|v| !v.is_finite()) {
                return Ok(Outcome::Failed("its features are not finite".into()));
            }
            let size = Array1::from(vec![slices.len() as f32, grid.0 as f32, grid.1 as f32]);
            features =
                features.with_vector(format!("grid{suffix}"), size).with_sequence(format!("patches{suffix}"), rows);
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
