//! From `--backbone`, `--precision` and `--device` to an encoder.

use anyhow::{Context, Result, bail};
use dinorad::{
    backbone::{
        Backbone, Dinov2, Encoder, Family, LoadOptions, LoadReport, Normalization, Protocol, Source,
        candle::{DType, Device},
        engine::{CpuEngine, EngineOptions},
        hub::HubOptions,
        load_dinov2, load_with, registry,
    },
    eval::report::{EncoderCard, Training},
};

use crate::{
    args::{DeviceKind, EncoderArgs, Precision},
    progress::{Bar, Download},
};

/// The encoder, where it runs, and what happened to its tensors.
pub(crate) struct Loaded {
    pub(crate) backbone: Box<dyn Backbone>,
    pub(crate) device: Device,
    pub(crate) report: LoadReport,
}

/// The one encoder of a command that takes one.
pub(crate) fn load(args: &EncoderArgs) -> Result<Loaded> {
    match args.backbone.as_slice() {
        [one] => load_one(one, args, Protocol::Strict),
        several => bail!("this command takes one --backbone, got {}: {}", several.len(), several.join(", ")),
    }
}

/// The encoder of one word of `--backbone`, as its authors meant it or as the study wrapped it.
pub(crate) fn load_one(backbone: &str, args: &EncoderArgs, protocol: Protocol) -> Result<Loaded> {
    if args.batch == 0 {
        bail!("--batch must be at least 1");
    }
    let device = device(args.device)?;
    let dtype = dtype(args.precision);
    let source: Source = backbone.parse().map_err(|error| named(backbone, error))?;
    let mut options = LoadOptions::default().with_device(device.clone()).with_dtype(dtype).with_protocol(protocol);
    options.normalization = normalization(args)?;
    let (backbone, report) = {
        let _bar = Bar::spinner(format!("loading {source}"));
        load_with(&source, &options, &HubOptions::from_env(), &mut Download::new())
            .with_context(|| format!("could not load the encoder `{backbone}`"))?
    };
    Ok(Loaded { backbone, device, report })
}

/// The error of a name that is none, and what was likely meant.
fn named(backbone: &str, error: dinorad::backbone::Error) -> anyhow::Error {
    let (start, name) = match backbone.strip_prefix("untrained:") {
        Some(name) => ("untrained:", name.split('?').next().unwrap_or(name)),
        None => ("", backbone),
    };
    let names = registry().iter().flat_map(|e| e.aliases.iter().copied().chain([e.id])).chain([Source::TINY]);
    // Letters swapped, left out, added or wrong: one in four counts as misspelt.
    let most = (name.chars().count() / 4).max(1);
    let rated = names.map(|n| (strsim::osa_distance(name, n), n)).filter(|(errors, _)| *errors <= most);
    match rated.min_by_key(|(errors, _)| *errors) {
        Some((_, near)) if start.is_empty() && near == Source::TINY => error.into(),
        Some((_, near)) => {
            anyhow::anyhow!("`{backbone}` names no encoder: did you mean `{start}{near}`? (see `dinorad models`)")
        }
        None => error.into(),
    }
}

/// `--mean` and `--std`, if given.
fn normalization(args: &EncoderArgs) -> Result<Option<Normalization>> {
    let (Some(mean), Some(std)) = (&args.mean, &args.std) else { return Ok(None) };
    let three = |what: &str, values: &[f32]| {
        let three = <[f32; 3]>::try_from(values).ok().filter(|v| v.iter().all(|v| v.is_finite()));
        three.with_context(|| format!("{what} takes three numbers: R,G,B"))
    };
    let (mean, std) = (three("--mean", mean)?, three("--std", std)?);
    if std.iter().any(|v| *v <= 0.0) {
        bail!("--std must be above 0");
    }
    Ok(Some(Normalization { mean, std }))
}

/// An encoder of the same shape with random weights.
pub(crate) fn untrained_twin(
    name: &str,
    encoder: &dyn Backbone,
    args: &EncoderArgs,
    protocol: Protocol,
) -> Result<Loaded> {
    let source: Source = name.parse()?;
    let spec = encoder.spec();
    if let Source::Untrained { name, seed } = &source {
        // another draw of the same
        return load_one(&format!("untrained:{name}?seed={}", seed.wrapping_add(1)), args, protocol);
    }
    if let Some(known) = source.encoder() {
        return load_one(&format!("untrained:{}?seed=1", known.id), args, protocol);
    }
    if spec.family == Family::Dinov2 {
        let device = device(args.device)?;
        let options = LoadOptions::default().with_device(device.clone()).with_dtype(dtype(args.precision));
        let (trained, _) = load_dinov2(&source, &options, &HubOptions::from_env(), &mut Download::new())?;
        let twin = Dinov2::untrained(trained.config(), 1, &device)?;
        let backbone: Box<dyn Backbone> = match device {
            Device::Cpu => Box::new(CpuEngine::new(&twin, &EngineOptions::default())?),
            _ => Box::new(twin),
        };
        return Ok(Loaded { backbone, device, report: LoadReport::default() });
    }
    let same = |e: &&Encoder| {
        (e.family, e.patch, e.embed_dim, e.depth) == (spec.family, spec.patch, spec.embed_dim, spec.depth)
    };
    match registry().iter().find(same) {
        Some(known) => load_one(&format!("untrained:{}?seed=1", known.id), args, protocol),
        None => bail!("no encoder of the registry has the shape of {}", spec.id),
    }
}

/// The card of an encoder in a report.
pub(crate) fn card(encoder: &Loaded) -> EncoderCard {
    let spec = encoder.backbone.spec();
    let training = if spec.is_untrained() { Training::Untrained } else { Training::Pretrained };
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

fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::Bf16 => DType::BF16,
    }
}

fn device(kind: DeviceKind) -> Result<Device> {
    Ok(match kind {
        DeviceKind::Cpu => Device::Cpu,
        DeviceKind::Cuda => Device::new_cuda(0).context("no CUDA device (build with --features cuda)")?,
        DeviceKind::Metal => Device::new_metal(0).context("no Metal device (build with --features metal)")?,
        DeviceKind::Auto => {
            let gpu = || Device::new_cuda(0).or_else(|_| Device::new_metal(0));
            if cfg!(any(feature = "cuda", feature = "metal")) { gpu().unwrap_or(Device::Cpu) } else { Device::Cpu }
        }
    })
}

/// `--image-size`, checked, or else the size that the encoder is usually given.
pub(crate) fn image_size(backbone: &dyn Backbone, given: Option<usize>) -> Result<usize> {
    let Some(size) = given else { return Ok(backbone.spec().usual_size()) };
    check_image_size(backbone, size)?;
    Ok(size)
}

/// A multiple of the encoder's patch size, or an error that names the nearest ones.
pub(crate) fn check_image_size(backbone: &dyn Backbone, size: usize) -> Result<()> {
    let patch = backbone.spec().patch;
    if size == 0 || !size.is_multiple_of(patch) {
        let below = size / patch * patch;
        let near = if below == 0 { patch.to_string() } else { format!("{below} or {}", below + patch) };
        let id = &backbone.spec().id;
        bail!("--image-size {size} is no multiple of the patch size {patch} of {id}: try {near}");
    }
    Ok(())
}

/// What to say about an encoder whose numbers are random.
pub(crate) const UNTRAINED: &str = "this encoder is UNTRAINED (random weights): its scores only show that everything \
works. For real features: --backbone facebook/dinov2-small";

pub(crate) fn warn_if_untrained(backbone: &dyn Backbone) {
    if backbone.spec().is_untrained() {
        eprintln!("note: {UNTRAINED}");
    }
}
