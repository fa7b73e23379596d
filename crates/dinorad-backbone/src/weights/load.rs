//! From a path to a DINOv2, strictly.

use std::path::Path;

use super::{
    checkpoint::Checkpoint,
    folder,
    in_memory::with_gate,
    layout::{Found, place},
    report::LoadReport,
    shapes,
    strict::{Matching, Wanted, check_dtype},
};
use crate::{Dinov2, Dinov2Config, Error, Family, LoadOptions, Normalization, Result, architecture};

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
    load_dinov2_checkpoint(Checkpoint::open(path, options.copy)?, options)
}

/// [`load_path`] for files that are open.
pub(crate) fn load_dinov2_checkpoint(checkpoint: Checkpoint, options: &LoadOptions) -> Result<(Dinov2, LoadReport)> {
    check_dtype(options)?;
    let Plan { checkpoint, config, matching } = Plan::new(checkpoint, options)?;
    matching.check(&checkpoint.file)?;
    // Both pass over the whole file once.
    let (tensors, spec) = rayon::join(
        || matching.read(&checkpoint.file, options),
        || checkpoint.spec(Family::Dinov2, options, &config.fingerprint(), Normalization::IMAGENET),
    );
    Ok((Dinov2::from_tensors(&config, spec?, tensors?)?, matching.report))
}

/// What [`load_path`] would find, without reading tensors and without failing over those that
/// are missing, unused or of the wrong shape.
///
/// # Errors
/// If the files cannot be read or hold no DINOv2 at all.
pub fn inspect(path: &Path, options: &LoadOptions) -> Result<(Dinov2Config, LoadReport)> {
    let plan = Plan::new(Checkpoint::open(path, options.copy)?, options)?;
    Ok((plan.config, plan.matching.report))
}

/// Which tensor becomes what.
struct Plan {
    checkpoint: Checkpoint,
    config: Dinov2Config,
    matching: Matching,
}

impl Plan {
    fn new(checkpoint: Checkpoint, options: &LoadOptions) -> Result<Self> {
        // A folder that is of another model says so best itself.
        if let Some(json) = checkpoint.config().filter(|_| checkpoint.path().is_dir())
            && let Some(model_type) = json.text("model_type").filter(|t| !t.starts_with("dinov2"))
        {
            return Err(Error::UnsupportedModel {
                path: json.path().to_owned(),
                model_type: model_type.to_owned(),
                expected: "dinov2, dinov2_with_registers",
            });
        }
        let file = &checkpoint.file;
        let found = Found::in_file(file)?;
        let shapes::Shapes { mut config, class_row } = shapes::read(file, &found)?;
        if let Some(json) = checkpoint.config() {
            folder::apply_config(json, found.layout, &mut config)?;
        }
        config.heads = architecture::heads(checkpoint.path(), options, config.heads, config.embed_dim)?;
        if let Some(positions) = options.positions {
            config.positions = positions;
        }
        config.check()?;
        let wanted = |(name, shape): (String, Vec<usize>)| Wanted {
            place: with_gate(place(found.layout, &name, &config, class_row), &found),
            // Only encoders that were pretrained further need it.
            optional: name == "mask_token",
            name,
            shape,
        };
        let matching = Matching::new(file, &found, config.parameters().into_iter().map(wanted).collect());
        Ok(Plan { config, matching, checkpoint })
    }
}
