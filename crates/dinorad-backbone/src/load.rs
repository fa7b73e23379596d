//! From a source to an encoder.

use std::path::PathBuf;

use candle::{DType, Device};

use crate::{
    Backbone, Dinov2, Dinov2Config, Encoder, Error, Family, Layout, LoadOptions, LoadReport, Result, Source, Vit, cnn,
    engine::{CpuEngine, EngineOptions},
    find,
    hub::{self, HubOptions, Progress, Silent},
    load_path, sam, vit,
    weights::{checkpoint::Checkpoint, load_dinov2_checkpoint},
};

/// The encoder of a source, downloaded where need be, and what happened to its tensors.
///
/// Downloads follow the environment ([`HubOptions::from_env`]) and report nothing; see
/// [`load_with`] for both. Random weights give an empty report. The family of weight files is told
/// from the names of their tensors.
///
/// The encoder is for inference: a vision transformer on the CPU is a [`CpuEngine`], which is several
/// times faster than the differentiable path. What is to be trained or looked into comes from
/// [`load_dinov2`] or [`load_vit`](crate::load_vit).
///
/// # Errors
/// [`Error::Hub`] on the way from the Hub; then as [`load_path`].
///
/// # Examples
/// ```
/// use dinorad_backbone::{LoadOptions, Request, candle::{DType, Device, Tensor}, load};
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let (encoder, _) = load(&"untrained:tiny?seed=1".parse()?, &LoadOptions::default())?;
/// let pixels = Tensor::zeros((1, 3, 28, 28), DType::F32, &Device::Cpu)?;
/// assert_eq!(encoder.forward(&pixels, &Request::cls())?.last()?.cls.dims(), [1, encoder.spec().embed_dim]);
/// # Ok(()) }
/// ```
pub fn load(source: &Source, options: &LoadOptions) -> Result<(Box<dyn Backbone>, LoadReport)> {
    load_with(source, options, &HubOptions::from_env(), &mut Silent)
}

/// [`load`] with stated Hub options, and with the bytes of downloads reported.
///
/// Unless `options` say otherwise, the encoder's id is the source as text, and an encoder of the
/// [registry](crate::registry()) without `preprocessor_config.json` gets the normalisation listed
/// there.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    source: &Source,
    options: &LoadOptions,
    hub: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<(Box<dyn Backbone>, LoadReport)> {
    match located(source, options, hub, progress)? {
        (Located::Untrained { encoder, seed }, options) => {
            Ok((untrained(encoder, seed, &options)?, LoadReport::default()))
        }
        (Located::Files(path), options) => load_checkpoint(Checkpoint::open(&path, options.copy)?, &options),
    }
}

/// The encoder of weight files, of whichever family they are.
fn load_checkpoint(checkpoint: Checkpoint, options: &LoadOptions) -> Result<(Box<dyn Backbone>, LoadReport)> {
    let family = checkpoint.family()?;
    match family {
        Family::Dinov2 => {
            let (encoder, report) = load_dinov2_checkpoint(checkpoint, options)?;
            Ok((for_inference(encoder, options)?, report))
        }
        Family::Vit | Family::Clip | Family::Dinov3 => {
            let (encoder, report) = vit::load(family, &checkpoint, options)?;
            Ok((vit_for_inference(encoder, options)?, report))
        }
        Family::Sam => boxed(sam::load(&checkpoint, options)?),
        Family::Resnet | Family::Densenet | Family::Vgg => boxed(cnn::load(family, &checkpoint, options)?),
        Family::Other => Err(foreign(&checkpoint.path().display().to_string())),
    }
}

/// An encoder of the registry, or without one the tiny DINOv2, with random weights.
fn untrained(encoder: Option<&Encoder>, seed: u64, options: &LoadOptions) -> Result<Box<dyn Backbone>> {
    let Some(encoder) = encoder else { return for_inference(untrained_dinov2(None, seed, options)?, options) };
    Ok(match encoder.family {
        Family::Dinov2 => for_inference(untrained_dinov2(Some(encoder), seed, options)?, options)?,
        Family::Vit | Family::Clip | Family::Dinov3 => {
            vit_for_inference(vit::untrained(encoder, seed, options)?, options)?
        }
        Family::Sam => Box::new(sam::untrained(encoder, seed, options)?),
        Family::Resnet | Family::Densenet | Family::Vgg => Box::new(cnn::untrained(encoder, seed, options)?),
        Family::Other => return Err(foreign(encoder.id)),
    })
}

pub(crate) fn foreign(given: &str) -> Error {
    Error::Source { given: given.to_owned(), reason: "its implementation is in another crate".to_owned() }
}

fn boxed<B: Backbone + 'static>((encoder, report): (B, LoadReport)) -> Result<(Box<dyn Backbone>, LoadReport)> {
    Ok((Box::new(encoder), report))
}

/// Packs an encoder where there is a faster one for inference.
fn for_inference(encoder: Dinov2, options: &LoadOptions) -> Result<Box<dyn Backbone>> {
    Ok(match &options.device {
        Device::Cpu => Box::new(CpuEngine::in_place_of(encoder, &EngineOptions::default())?),
        _ => Box::new(encoder),
    })
}

/// The same for a vision transformer of another family.
fn vit_for_inference(encoder: Vit, options: &LoadOptions) -> Result<Box<dyn Backbone>> {
    Ok(match &options.device {
        Device::Cpu => Box::new(CpuEngine::in_place_of(encoder, &EngineOptions::default())?),
        _ => Box::new(encoder),
    })
}

/// [`load_with`] for the family of DINOv2, with the type that trains and can be looked into.
///
/// # Errors
/// As [`load`]; [`Error::UnsupportedModel`] for an encoder of another family.
pub fn load_dinov2(
    source: &Source,
    options: &LoadOptions,
    hub: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<(Dinov2, LoadReport)> {
    if let Some(encoder) = source.encoder().filter(|e| e.family != Family::Dinov2) {
        let reason = format!("it is a {}, where a DINOv2 is needed", encoder.family);
        return Err(Error::Source { given: source.to_string(), reason });
    }
    match located(source, options, hub, progress)? {
        (Located::Untrained { encoder, seed }, options) => {
            Ok((untrained_dinov2(encoder, seed, &options)?, LoadReport::default()))
        }
        (Located::Files(path), options) => load_path(&path, &options),
    }
}

/// Where the weights of a source are.
pub(crate) enum Located {
    Untrained { encoder: Option<&'static Encoder>, seed: u64 },
    Files(PathBuf),
}

/// Finds a source, downloads what has to be, and completes the options with what it tells.
pub(crate) fn located(
    source: &Source,
    options: &LoadOptions,
    hub: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<(Located, LoadOptions)> {
    let mut options = options.clone();
    if let Source::Path(path) = source {
        return Ok((Located::Files(path.clone()), options));
    }
    options.id.get_or_insert_with(|| source.to_string());
    if let Source::Untrained { name, seed } = source {
        let encoder = find(name);
        options.normalization = options.normalization.or_else(|| encoder.map(|e| e.normalization));
        return Ok((Located::Untrained { encoder, seed: *seed }, options));
    }
    let id = source.hub_id()?.ok_or_else(|| Error::Source {
        given: source.to_string(),
        reason: "this kind of source cannot be loaded".into(),
    })?;
    let files = hub::fetch(&id, hub, progress)?;
    if options.normalization.is_none() && !files.folder.join("preprocessor_config.json").is_file() {
        options.normalization = source.encoder().map(|encoder| encoder.normalization);
    }
    Ok((Located::Files(files.weights), options))
}

pub(crate) fn untrained_dinov2(encoder: Option<&Encoder>, seed: u64, options: &LoadOptions) -> Result<Dinov2> {
    let mut config = encoder.map_or_else(|| Ok(Dinov2Config::tiny()), architecture)?;
    if let Some(heads) = options.heads {
        config.heads = heads;
    }
    if let Some(positions) = options.positions {
        config.positions = positions;
    }
    let encoder = Dinov2::untrained(&config, seed, &options.device)?;
    let mut spec = encoder.spec().clone();
    spec.id = options.id.clone().unwrap_or(spec.id);
    spec.normalization = options.normalization.unwrap_or(spec.normalization);
    spec.protocol = options.protocol;
    spec.precision = options.dtype.as_str().to_owned();
    if options.dtype != DType::F32 {
        let parts = format!("{}{:?}", spec.digest, options.dtype);
        spec.digest = blake3::hash(parts.as_bytes()).to_hex().to_string();
    }
    let mut tensors = encoder.to_layout(Layout::Official)?;
    for tensor in tensors.values_mut() {
        *tensor = tensor.to_dtype(options.dtype)?;
    }
    Dinov2::from_tensors(&config, spec, tensors)
}

/// The architecture of an encoder of the registry.
fn architecture(encoder: &Encoder) -> Result<Dinov2Config> {
    use Dinov2Config as C;
    let plain = [C::vits14(), C::vitb14(), C::vitl14(), C::vitg14()].into_iter().find(|config| {
        (config.embed_dim, config.depth, config.heads) == (encoder.embed_dim, encoder.depth, encoder.heads)
    });
    let plain = plain.ok_or_else(|| Error::Architecture {
        field: "encoder",
        value: encoder.id.to_owned(),
        expected: "a DINOv2 of a known size",
    })?;
    Ok(if encoder.registers > 0 { plain.with_registers(encoder.registers) } else { plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_says_what_the_architectures_have() {
        for encoder in crate::registry().iter().filter(|e| e.family == Family::Dinov2) {
            let config = architecture(encoder).unwrap();
            let got = (config.patch, config.native_size(), config.registers);
            assert_eq!(got, (encoder.patch, encoder.native_size, encoder.registers), "{}", encoder.id);
            let count: usize = config.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(count as u64, encoder.parameters, "{}", encoder.id);
        }
    }

    #[test]
    fn untrained_encoders_carry_their_source_and_precision() {
        let source: Source = "untrained:tiny?seed=5".parse().unwrap();
        let load = |options: &LoadOptions| load(&source, options).unwrap().0;
        let (full, half) = (load(&LoadOptions::default()), load(&LoadOptions::default().with_dtype(DType::BF16)));
        assert_eq!(full.spec().id, "untrained:tiny?seed=5");
        assert!(full.spec().is_untrained());
        assert_ne!(full.spec().digest, half.spec().digest);
        assert_eq!((full.spec().precision.as_str(), half.spec().precision.as_str()), ("f32", "bf16"));
        assert_eq!(load(&LoadOptions::default()).spec(), full.spec());
        assert_eq!(load(&LoadOptions::default().with_id("mine")).spec().id, "mine");
    }
}
