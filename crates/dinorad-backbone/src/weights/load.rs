//! From a path to an encoder, strictly.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use candle::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{
    file::WeightFile,
    folder,
    layout::{Found, Place, place},
    report::{LoadReport, ShapeMismatch, unmatched},
    shapes,
};
use crate::{BackboneSpec, Dinov2, Dinov2Config, Error, LoadOptions, Normalization, Origin, Result};

/// Loads DINOv2 weights from a file or a folder.
///
/// Understood are, whatever the file is called: official checkpoints (`.pth`, flat, chunked, or
/// within `teacher`, `backbone`, `module`), safetensors, Hugging Face folders (`config.json` and
/// weights, also sharded), and timm's. The layout is recognised from the names of the tensors.
/// Loading is strict: every parameter needs its tensor and every tensor of the encoder its use;
/// heads and the like are listed as ignored.
///
/// # Errors
/// One that names the file and the tensor or field; see [`Error`].
///
/// # Examples
/// ```no_run
/// use dinorad_backbone::{LoadOptions, load_path};
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let (encoder, report) = load_path("dinov2_vits14_pretrain.pth".as_ref(), &LoadOptions::default())?;
/// println!("{report}");
/// # Ok(()) }
/// ```
pub fn load_path(path: &Path, options: &LoadOptions) -> Result<(Dinov2, LoadReport)> {
    if !matches!(options.dtype, DType::F32 | DType::F16 | DType::BF16) {
        let value = format!("{:?}", options.dtype);
        return Err(Error::Architecture { field: "dtype", value, expected: "F32, F16 or BF16" });
    }
    let plan = Plan::new(path, options)?;
    plan.check()?;
    // Both pass over the whole file once.
    let (tensors, spec) = rayon::join(|| plan.read(options), || plan.spec(path, options));
    Ok((Dinov2::from_tensors(&plan.config, spec?, tensors?)?, plan.report))
}

/// What [`load_path`] would find, without reading tensors and without failing over those that
/// are missing, unused or of the wrong shape.
///
/// # Errors
/// If the files cannot be read or hold no DINOv2 at all.
pub fn inspect(path: &Path, options: &LoadOptions) -> Result<(Dinov2Config, LoadReport)> {
    let plan = Plan::new(path, options)?;
    Ok((plan.config, plan.report))
}

/// Which tensor becomes what.
struct Plan {
    file: WeightFile,
    config: Dinov2Config,
    /// Official name -> place, with the names of the file.
    places: BTreeMap<String, Place>,
    report: LoadReport,
}

impl Plan {
    fn new(path: &Path, options: &LoadOptions) -> Result<Self> {
        let config_file = folder::beside(path, "config.json");
        // A folder that is of another model says so best itself.
        if let Some(file) = config_file.as_ref().filter(|_| path.is_dir()) {
            let json = folder::read_json(file)?;
            if let Some(model_type) = json["model_type"].as_str().filter(|t| !t.starts_with("dinov2")) {
                return Err(Error::UnsupportedModel {
                    path: file.clone(),
                    model_type: model_type.to_owned(),
                    expected: "dinov2, dinov2_with_registers",
                });
            }
        }
        let file = WeightFile::open(path, &folder::weight_files(path)?)?;
        let found = Found::in_file(&file)?;
        let shapes::Shapes { mut config, class_row } = shapes::read(&file, &found)?;
        if let Some(file) = &config_file {
            folder::apply_config(file, found.layout, &mut config)?;
        }
        if let Some(heads) = options.heads {
            config.heads = heads;
        } else if config.heads == 0 {
            config.heads = Dinov2Config::family_heads(config.embed_dim)
                .ok_or_else(|| Error::UnknownHeads { path: path.to_owned(), embed_dim: config.embed_dim })?;
        }
        if let Some(positions) = options.positions {
            config.positions = positions;
        }
        config.check()?;
        let (places, report) = matched(&file, &found, &config, class_row);
        Ok(Plan { file, config, places, report })
    }

    /// Fails over anything that did not fit.
    fn check(&self) -> Result<()> {
        let path = || self.file.path().to_owned();
        if !self.report.missing.is_empty() {
            return Err(Error::MissingTensors { path: path(), missing: self.report.missing.clone() });
        }
        if let Some(ShapeMismatch { name, expected, got }) = self.report.wrong_shape.first().cloned() {
            return Err(Error::WrongShape { path: path(), tensor: name, expected, got });
        }
        if !self.report.unused.is_empty() {
            return Err(Error::UnusedTensors { path: path(), unused: self.report.unused.clone() });
        }
        Ok(())
    }

    fn read(&self, options: &LoadOptions) -> Result<BTreeMap<String, Tensor>> {
        let read = |name: &String| -> Result<Tensor> {
            if !self.file.dtype(name).is_some_and(|d| d.is_float()) {
                let reason = "is not stored as floating-point numbers of a supported type".into();
                return Err(Error::BadTensor { path: self.file.path().to_owned(), tensor: name.clone(), reason });
            }
            // Converted before the upload: not every device has every type, and halves travel faster.
            Ok(self.file.tensor(name, &Device::Cpu)?.to_dtype(options.dtype)?)
        };
        let one = |(official, place): (&String, &Place)| -> Result<(String, Tensor)> {
            let tensor = match place {
                Place::One(name) => read(name)?,
                Place::Three(names) => Tensor::cat(&names.iter().map(read).collect::<Result<Vec<_>>>()?, 0)?,
                Place::PatchesOnly(name) => {
                    // The class token already holds its position.
                    let table = read(name)?;
                    let zero = Tensor::zeros((1, 1, self.config.embed_dim), table.dtype(), table.device())?;
                    Tensor::cat(&[&zero, &table], 1)?
                }
            };
            Ok((official.clone(), tensor.to_device(&options.device)?))
        };
        self.places.par_iter().map(one).collect()
    }

    fn spec(&self, path: &Path, options: &LoadOptions) -> Result<BackboneSpec> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"dinorad weights 1\0");
        hasher.update(self.file.hash().as_bytes());
        hasher.update(self.config.fingerprint().as_bytes());
        hasher.update(format!("{:?}", options.dtype).as_bytes());
        let name = || path.file_stem().map_or_else(|| "weights".to_owned(), |n| n.to_string_lossy().into_owned());
        let id = options.id.clone().unwrap_or_else(name);
        let mut spec = BackboneSpec::new(id, Origin::Weights, hasher.finalize().to_hex().to_string());
        spec.normalization = match options.normalization {
            Some(given) => given,
            None => folder::normalization(path)?.unwrap_or(Normalization::IMAGENET),
        };
        Ok(spec)
    }
}

/// Finds the tensor of every parameter and lists what did not fit.
fn matched(
    file: &WeightFile,
    found: &Found,
    config: &Dinov2Config,
    class_row: bool,
) -> (BTreeMap<String, Place>, LoadReport) {
    let mut report = LoadReport {
        layout: Some(found.layout),
        prefix: found.prefix.clone(),
        ignored: found.ignored.clone(),
        ..Default::default()
    };
    let mut places = BTreeMap::new();
    let (mut wanted, mut used) = (BTreeSet::new(), BTreeSet::new());
    let mut missing = Vec::new();
    for (official, shape) in config.parameters() {
        let place = place(found.layout, &official, config, class_row);
        let expected = match &place {
            Place::One(_) => shape,
            Place::Three(_) => [&[shape[0] / 3], &shape[1..]].concat(),
            Place::PatchesOnly(_) => vec![1, shape[1] - 1, shape[2]],
        };
        let mut complete = true;
        let mut resolve = |name: &String| {
            wanted.insert(name.clone());
            let Some(in_file) = found.name(name) else {
                complete = false;
                // Only encoders that were pretrained further need it.
                if official != "mask_token" {
                    missing.push(name.clone());
                }
                return String::new();
            };
            used.insert(name.clone());
            let got = file.shape(in_file).unwrap_or_default();
            match got == expected {
                true => report.loaded.push(in_file.to_owned()),
                false => report.wrong_shape.push(ShapeMismatch {
                    name: in_file.to_owned(),
                    expected: expected.clone(),
                    got: got.to_vec(),
                }),
            }
            in_file.to_owned()
        };
        let resolved = match place {
            Place::One(name) => Place::One(resolve(&name)),
            Place::Three(names) => Place::Three(names.each_ref().map(&mut resolve)),
            Place::PatchesOnly(name) => Place::PatchesOnly(resolve(&name)),
        };
        if complete {
            places.insert(official, resolved);
        }
    }
    let unused: Vec<&str> = found.names.keys().filter(|n| !used.contains(*n)).map(String::as_str).collect();
    let full = |name: &str| format!("{}{name}", found.prefix);
    let in_file = |name: &str| found.name(name).unwrap_or(name).to_owned();
    report.missing = unmatched(missing.iter().map(String::as_str), unused.iter().copied(), full, full);
    report.unused = unmatched(unused.iter().copied(), wanted.iter().map(String::as_str), in_file, full);
    (places, report)
}
