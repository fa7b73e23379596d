//! From a description's encoder to one that runs.

use std::sync::Arc;

use candle::{DType, Device, Tensor};
use dinorad_backbone::{
    Backbone, BackboneSpec, Dinov2, Encoder, Error as EncoderError, Family, Features, LoadOptions, LoadReport,
    Normalization, Origin, Request, Source, WeightCopy,
    engine::{CpuEngine, EngineOptions},
    hub::HubOptions,
    load_dinov2, load_with, registry,
    tuning::load_trainable,
};
use dinorad_core::{Protocol, nearest, resample::Filter};
use dinorad_transforms::Compose;

use super::{
    EncoderChoice, Precision, Watch,
    pixels::{Pixels, image_size},
    stored::{self, Stored},
};
use crate::{
    Error, Result,
    probe::EncoderMaker,
    report::{EncoderCard, Training},
};

/// The source of an encoder where there is none: of networks from scratch.
pub const NO_ENCODER: &str = "none";

/// The encoder of networks from scratch: there is none.
struct Absent(BackboneSpec);

impl Backbone for Absent {
    fn spec(&self) -> &BackboneSpec {
        &self.0
    }

    fn forward(&self, _: &Tensor, _: &Request) -> std::result::Result<Features, EncoderError> {
        Err(EncoderError::Request { reason: "a network from scratch has no encoder".into(), depth: 1 })
    }
}

fn absent() -> Loaded {
    let mut spec =
        BackboneSpec::new(NO_ENCODER, Origin::Weights, blake3::hash(NO_ENCODER.as_bytes()).to_hex().to_string());
    (spec.depth, spec.native_size) = (1, 1);
    let none = || Err(Error::unfit("a network from scratch has no encoder to train".into()));
    Loaded {
        fresh: Arc::new(none),
        backbone: Arc::new(Absent(spec)),
        device: Device::Cpu,
        report: LoadReport::default(),
        stored: None,
    }
}

/// An encoder, where it runs, and what happened to its tensors.
#[derive(Clone)]
pub struct Loaded {
    /// It.
    pub backbone: Arc<dyn Backbone>,
    /// Where it runs.
    pub device: Device,
    /// The tensors of its file.
    pub report: LoadReport,
    /// Makes it anew with parameters that train.
    pub fresh: EncoderMaker,
    /// Features that are there already, in place of an encoder.
    pub(super) stored: Option<Arc<Stored>>,
}

impl Loaded {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.backbone.spec().id == NO_ENCODER
    }

    /// The side of the square that it sees: what was asked for, else what it is usually given.
    ///
    /// # Errors
    /// [`Error::Description`] for one that is no multiple of the patch size, naming the nearest ones.
    pub fn image_size(&self, asked: Option<usize>) -> Result<usize> {
        image_size(&*self.backbone, asked, None)
    }

    /// The pixels it gets unless told otherwise: straight to a square of that side, min-max per channel,
    /// its own mean and standard deviation.
    pub fn preprocessing(&self, side: usize) -> Compose {
        let square = Pixels { crop: side, resize: side, filter: Filter::BicubicAntialias };
        square.steps(&*self.backbone, None)
    }

    /// What to say where its weights are random.
    pub fn caution(&self) -> Option<&'static str> {
        self.backbone.spec().is_untrained().then_some(
            "this encoder is UNTRAINED (random weights): its scores only show that everything works. For real \
             features name a trained one, such as facebook/dinov2-small",
        )
    }
}

impl EncoderChoice {
    /// An encoder by its source alone.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            precision: Precision::F32,
            mean: None,
            std: None,
            weights: WeightCopy::default(),
            digest: None,
        }
    }

    /// The encoder, as its authors meant it or as the study wrapped it.
    ///
    /// # Errors
    /// [`Error::Description`] for a name that is none (with the nearest one), [`Error::Encoder`] for
    /// weights that cannot be had, [`Error::Description`] for weights other than those the description
    /// was resolved with.
    pub fn load(&self, protocol: Protocol, device: &Device, watch: &dyn Watch) -> Result<Loaded> {
        let loaded = self.load_source(&self.source, protocol, device, watch)?;
        if let Some(digest) = &self.digest
            && loaded.backbone.spec().digest != *digest
        {
            let why = format!("the weights of {} are not those the description was made with", self.source);
            return Err(Error::description("encoder.digest", why));
        }
        Ok(loaded)
    }

    fn load_source(&self, source: &str, protocol: Protocol, device: &Device, watch: &dyn Watch) -> Result<Loaded> {
        if let Some(path) = stored::place(source) {
            return stored::load(&path);
        }
        if source == NO_ENCODER {
            return Ok(absent());
        }
        let parsed: Source = source.parse().map_err(|error| named(source, error))?;
        let dtype = self.precision.dtype();
        let mut options = LoadOptions::default().with_device(device.clone()).with_dtype(dtype).with_protocol(protocol);
        if let (Some(mean), Some(std)) = (self.mean, self.std) {
            options.normalization = Some(Normalization { mean, std });
        }
        options.copy = self.weights;
        let _stage = watch.stage(&format!("loading {parsed}"));
        let (backbone, report) = load_with(&parsed, &options, &HubOptions::from_env(), &mut *watch.download())
            .map_err(|error| Error::Loading { encoder: source.to_owned(), source: Box::new(error) })?;
        if let Some(words) = report.copy_in_words() {
            watch.note(&format!("{source}: {words}"));
        }
        let fresh: EncoderMaker = Arc::new(move || {
            // What was downloaded above is found; training is on the CPU.
            let options = LoadOptions { dtype: DType::F32, device: Device::Cpu, ..options.clone() };
            Ok(load_trainable(&parsed, &options)?.0)
        });
        Ok(Loaded { backbone: Arc::from(backbone), device: device.clone(), report, fresh, stored: None })
    }

    /// An encoder of the same shape with random weights.
    ///
    /// # Errors
    /// [`Error::Unfit`] where nothing is known that has the shape.
    pub(super) fn untrained_twin(
        &self,
        encoder: &dyn Backbone,
        protocol: Protocol,
        device: &Device,
        watch: &dyn Watch,
    ) -> Result<Loaded> {
        if stored::place(&self.source).is_some() {
            return Err(Error::unfit("the features are given, their encoder is not here".into()));
        }
        let source: Source = self.source.parse()?;
        let spec = encoder.spec();
        let load = |source: String| self.load_source(&source, protocol, device, watch);
        if let Source::Untrained { name, seed } = &source {
            // another draw of the same
            return load(format!("untrained:{name}?seed={}", seed.wrapping_add(1)));
        }
        if let Some(known) = source.encoder() {
            return load(format!("untrained:{}?seed=1", known.id));
        }
        if spec.family == Family::Dinov2 {
            let options = LoadOptions::default().with_device(device.clone()).with_dtype(self.precision.dtype());
            let (trained, _) = load_dinov2(&source, &options, &HubOptions::from_env(), &mut *watch.download())?;
            let twin = Dinov2::untrained(trained.config(), 1, device)?;
            let backbone: Arc<dyn Backbone> = match device {
                Device::Cpu => Arc::new(CpuEngine::new(&twin, &EngineOptions::default())?),
                _ => Arc::new(twin),
            };
            let config = trained.config().clone();
            let fresh: EncoderMaker = Arc::new(move || Ok(Box::new(Dinov2::untrained(&config, 1, &Device::Cpu)?)));
            let report = LoadReport::default();
            return Ok(Loaded { backbone, device: device.clone(), report, fresh, stored: None });
        }
        let same = |e: &&Encoder| {
            (e.family, e.patch, e.embed_dim, e.depth) == (spec.family, spec.patch, spec.embed_dim, spec.depth)
        };
        match registry().iter().find(same) {
            Some(known) => load(format!("untrained:{}?seed=1", known.id)),
            None => Err(Error::unfit(format!("no encoder of the registry has the shape of {}", spec.id))),
        }
    }
}

impl Precision {
    pub(super) fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

/// The error of a name that is none, and what was likely meant.
fn named(given: &str, error: dinorad_backbone::Error) -> Error {
    let (start, name) = match given.strip_prefix("untrained:") {
        Some(name) => ("untrained:", name.split('?').next().unwrap_or(name)),
        None => ("", given),
    };
    let names = registry().iter().flat_map(|e| e.aliases.iter().copied().chain([e.id])).chain([Source::TINY]);
    match nearest(name, names) {
        Some(near) if !(start.is_empty() && near == Source::TINY) => {
            let why = format!("`{given}` names no encoder: did you mean `{start}{near}`? (see `dinorad models`)");
            Error::description("encoder.source", why)
        }
        _ => error.into(),
    }
}

/// The card of an encoder in a report.
pub(super) fn card(encoder: &Loaded) -> EncoderCard {
    let spec = encoder.backbone.spec();
    let training = if spec.is_untrained() { Training::Untrained } else { Training::Pretrained };
    if encoder.is_none() {
        return EncoderCard::new("no encoder", Training::Pretrained).with_fact("network", "from scratch");
    }
    if encoder.stored.is_some() {
        return EncoderCard::new(spec.id.clone(), training)
            .with_fact("numbers a case", spec.embed_dim)
            .with_fact("features (BLAKE3)", &spec.digest[..spec.digest.len().min(16)]);
    }
    let mut card = EncoderCard::new(spec.id.clone(), training)
        .with_fact("patch size", format!("{0} x {0}", spec.patch))
        .with_fact("embed dim", spec.embed_dim)
        .with_fact("blocks", spec.depth)
        .with_fact("heads", spec.heads)
        .with_fact("weights (BLAKE3)", &spec.digest[..spec.digest.len().min(16)]);
    if !encoder.report.loaded.is_empty() {
        card = card.with_fact("tensors loaded", encoder.report.loaded.len());
    }
    card
}
