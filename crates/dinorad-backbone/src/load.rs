//! From a source to an encoder.

use candle::{DType, Device};

use crate::{
    Backbone, Dinov2, Dinov2Config, Encoder, Error, Family, Layout, LoadOptions, LoadReport, Result, Source,
    engine::{CpuEngine, EngineOptions},
    find,
    hub::{self, HubOptions, Progress, Silent},
    load_path,
};

/// The encoder of a source, downloaded where need be, and what happened to its tensors.
///
/// Downloads follow the environment ([`HubOptions::from_env`]) and report nothing; see
/// [`load_with`] for both. Random weights give an empty report. On the CPU the encoder is packed
/// for the fast [`CpuEngine`]; [`load_dinov2`] gives the one that trains.
///
/// The encoder is for inference: on the CPU it is a [`CpuEngine`], which is several times faster
/// than the differentiable path. What is to be trained or looked into comes from [`load_dinov2`].
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
/// assert_eq!(encoder.forward(&pixels, &Request::cls())?.last().cls.dims(), [1, encoder.spec().embed_dim]);
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
    let known = source.encoder();
    match known.map_or(Family::Dinov2, |encoder| encoder.family) {
        Family::Dinov2 => {
            let (encoder, report) = load_dinov2(source, options, hub, progress)?;
            let encoder: Box<dyn Backbone> = match &options.device {
                Device::Cpu => Box::new(CpuEngine::new(&encoder, &EngineOptions::default())?),
                _ => Box::new(encoder),
            };
            Ok((encoder, report))
        }
    }
}

/// [`load_with`] for the family of DINOv2, with the type that trains and can be looked into.
///
/// # Errors
/// As [`load`].
pub fn load_dinov2(
    source: &Source,
    options: &LoadOptions,
    hub: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<(Dinov2, LoadReport)> {
    if let Source::Path(path) = source {
        return load_path(path, options);
    }
    let mut options = options.clone();
    options.id.get_or_insert_with(|| source.to_string());
    if let Source::Untrained { name, seed } = source {
        return Ok((untrained(name, *seed, &options)?, LoadReport::default()));
    }
    let id = source.hub_id()?.ok_or_else(|| Error::Source {
        given: source.to_string(),
        reason: "this kind of source cannot be loaded as a DINOv2".into(),
    })?;
    let files = hub::fetch(&id, hub, progress)?;
    if options.normalization.is_none() && !files.folder.join("preprocessor_config.json").is_file() {
        options.normalization = source.encoder().map(|encoder| encoder.normalization);
    }
    load_path(&files.weights, &options)
}

fn untrained(name: &str, seed: u64, options: &LoadOptions) -> Result<Dinov2> {
    let mut config = match find(name) {
        Some(encoder) => architecture(encoder)?,
        None => Dinov2Config::tiny(),
    };
    if let Some(heads) = options.heads {
        config.heads = heads;
    }
    if let Some(positions) = options.positions {
        config.positions = positions;
    }
    let encoder = Dinov2::untrained(&config, seed, &options.device)?;
    let mut spec = encoder.spec().clone();
    spec.id = options.id.clone().unwrap_or(spec.id);
    let listed = || find(name).map(|encoder| encoder.normalization);
    spec.normalization = options.normalization.or_else(listed).unwrap_or(spec.normalization);
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
        for encoder in crate::registry() {
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
        assert_eq!(load(&LoadOptions::default()).spec(), full.spec());
        assert_eq!(load(&LoadOptions::default().with_id("mine")).spec().id, "mine");
    }
}
