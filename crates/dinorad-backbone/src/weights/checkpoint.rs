//! The weight files of an encoder and the configurations beside them.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use super::{
    file::WeightFile,
    folder::{self, beside},
    in_memory::as_saved,
    json::Json,
    layout::HF_ANCHOR,
};
use crate::{
    BackboneSpec, Error, Family, LoadOptions, Normalization, Origin, Result, WeightCopy, options::protocol_fingerprint,
};

/// The weight files of an encoder and the configurations beside them, of any family.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    pub(crate) file: WeightFile,
    config: Option<Json>,
    open_clip: Option<Json>,
}

/// How one family is told from the names of its tensors: the end of one that only it has.
const SIGNS: &[(Family, &[&str])] = &[
    (Family::Clip, &["pre_layrnorm.weight", "visual.ln_pre.weight", "visual.trunk.patch_embed.proj.weight"]),
    (
        Family::Sam,
        &[
            "layers.0.attn.rel_pos_h",
            "blocks.0.attn.rel_pos_h",
            "vision_encoder.layers.0.attn.qkv.weight",
            "image_encoder.blocks.0.attn.qkv.weight",
        ],
    ),
    (Family::Dinov3, &["layer.0.attention.q_proj.weight", "blocks.0.gamma_1"]),
    (Family::Vit, &["encoder.layer.0.intermediate.dense.weight"]),
    (
        Family::Densenet,
        &["features.denseblock1.denselayer1.conv1.weight", "features.denseblock1.denselayer1.conv.1.weight"],
    ),
    (Family::Resnet, &["layer1.0.conv1.weight"]),
    (Family::Vgg, &["features.0.weight"]),
];

impl Checkpoint {
    /// Opens a weight file, or a folder that holds one.
    pub(crate) fn open(path: &Path, copy: WeightCopy) -> Result<Self> {
        let read = |name: &str| beside(path, name).map(|file| Json::read(&file)).transpose();
        Ok(Checkpoint {
            path: path.to_owned(),
            config: read("config.json")?,
            open_clip: read("open_clip_config.json")?,
            file: WeightFile::open(path, &folder::weight_files(path)?)?.with_copy(copy),
        })
    }

    /// The file or folder that was named.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`, of transformers or timm.
    pub(crate) fn config(&self) -> Option<&Json> {
        self.config.as_ref()
    }

    /// `open_clip_config.json`.
    pub(crate) fn open_clip(&self) -> Option<&Json> {
        self.open_clip.as_ref()
    }

    /// Which implementation these weights are for.
    ///
    /// The names of the tensors tell, since files are moved without their configuration; what they
    /// leave open is taken for a DINOv2, whose loader says what is wrong. A folder's configuration
    /// of a model that is not known at all is an error of its own.
    pub(crate) fn family(&self) -> Result<Family> {
        let names = self.names_as_saved();
        for (family, signs) in SIGNS {
            let has = |sign: &&str| {
                names.iter().any(|n| n.strip_suffix(*sign).is_some_and(|p| p.is_empty() || p.ends_with('.')))
            };
            if signs.iter().any(has) {
                return Ok(*family);
            }
        }
        // A plain timm ViT has the names of a DINOv2 without its gains.
        let ends = |end: &str| self.file.names().any(|n| n.ends_with(end));
        let timm = self.config.as_ref().and_then(|c| c.text("architecture"));
        let plain = ends("blocks.0.attn.qkv.weight") && !ends("blocks.0.ls1.gamma") && !ends("mask_token");
        if plain && timm.is_some_and(|a| a.starts_with("vit_") && !a.contains("dinov2")) {
            return Ok(Family::Vit);
        }
        if let Some(json) = &self.config
            && let Some(model_type) = json.text("model_type").filter(|t| !t.starts_with("dinov2"))
            && self.path.is_dir()
        {
            return Err(Error::UnsupportedModel {
                path: json.path().to_owned(),
                model_type: model_type.to_owned(),
                expected: "dinov2, dinov2_with_registers, dinov3_vit, vit, vit_mae, vit_msn, clip, clip_vision_model, sam",
            });
        }
        Ok(Family::Dinov2)
    }

    /// Names of the tensors; those of an image encoder of transformers as its saved files have them.
    fn names_as_saved(&self) -> Vec<Cow<'_, str>> {
        let prefix = self.file.names().find_map(|name| name.strip_suffix(HF_ANCHOR));
        let saved = |name| match prefix.and_then(|prefix| str::strip_prefix(name, prefix)) {
            Some(rest) => as_saved(rest),
            None => Cow::Borrowed(name),
        };
        self.file.names().map(saved).collect()
    }

    /// What is known before the encoder is built; the encoder fills in its sizes.
    ///
    /// `fingerprint` is the architecture as text that changes when the features could;
    /// `normalization` that of the family, where neither options nor files state one.
    pub(crate) fn spec(
        &self,
        family: Family,
        options: &LoadOptions,
        fingerprint: &str,
        normalization: Normalization,
    ) -> Result<BackboneSpec> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"dinorad weights 1\0");
        hasher.update(self.file.hash().as_bytes());
        if let Some(WeightCopy::Raw) = self.file.copy() {
            hasher.update(b"raw");
        }
        hasher.update(fingerprint.as_bytes());
        hasher.update(format!("{:?}", options.dtype).as_bytes());
        hasher.update(protocol_fingerprint(options.protocol, family).as_bytes());
        let name = || self.path.file_stem().map_or_else(|| "weights".to_owned(), |n| n.to_string_lossy().into_owned());
        let id = options.id.clone().unwrap_or_else(name);
        let mut spec = BackboneSpec::new(id, Origin::Weights, hasher.finalize().to_hex().to_string());
        spec.family = family;
        spec.protocol = options.protocol;
        spec.precision = options.dtype.as_str().to_owned();
        spec.normalization = match options.normalization {
            Some(given) => given,
            None => folder::normalization(&self.path)?.unwrap_or(normalization),
        };
        Ok(spec)
    }
}
