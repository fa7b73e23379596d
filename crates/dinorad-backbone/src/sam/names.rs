//! Where a file has the parameters of SAM's image encoder, and which sizes they have.

use std::collections::BTreeMap;

use super::SamConfig;
use crate::{
    Error, LoadOptions, Result, WeightFile,
    weights::{
        checkpoint::Checkpoint,
        json::Json,
        layout::{Found, Layout},
        strict::Wanted,
    },
};

/// More blocks than any encoder has.
const MAX_BLOCKS: usize = 1 << 10;

/// What is to be read from a file.
pub(super) struct Plan {
    pub(super) config: SamConfig,
    pub(super) found: Found,
    pub(super) wanted: Vec<Wanted>,
}

/// Recognises the encoder of a checkpoint.
pub(super) fn plan(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Plan> {
    let file = &checkpoint.file;
    let found = found(file)?;
    let mut config = Shapes { file, found: &found }.config()?;
    if let Some(section) = section(checkpoint)? {
        apply(&section, &mut config)?;
    }
    if let Some(heads) = options.heads {
        config.heads = heads;
    } else if config.heads == 0 {
        config.heads = match config.embed_dim {
            768 => 12,
            1024 | 1280 => 16,
            embed_dim => return Err(Error::UnknownHeads { path: file.path().to_owned(), embed_dim }),
        };
    }
    config.check()?;
    let wanted = config.parameters().into_iter().map(|(name, shape)| {
        let in_file = in_layout(found.layout, &name);
        Wanted::one(name, shape, in_file)
    });
    let wanted = wanted.collect();
    Ok(Plan { config, found, wanted })
}

/// The encoder among the tensors of a file.
fn found(file: &WeightFile) -> Result<Found> {
    let anchors = [("patch_embed.projection.weight", "layers.0."), ("patch_embed.proj.weight", "blocks.0.")];
    let candidates = file.names().filter_map(|name| {
        let (prefix, block) = anchors.iter().find_map(|(anchor, block)| Some((name.strip_suffix(anchor)?, block)))?;
        let whole = prefix.is_empty() || prefix.ends_with('.');
        let block = format!("{prefix}{block}");
        (whole && file.names().any(|n| n.starts_with(&block))).then_some(prefix)
    });
    let Some(prefix) = candidates.min_by_key(|prefix| prefix.len()) else {
        let examples = file.names().take(3).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let path = file.path().to_owned();
        return Err(Error::UnknownLayout { path, n_tensors: file.names().count(), examples });
    };
    let has = |part: &str| file.names().any(|n| n.strip_prefix(prefix).is_some_and(|rest| rest == part));
    let layout = if has("patch_embed.projection.weight") {
        Layout::HuggingFace
    } else if has("blocks.0.mlp.fc1.weight") {
        Layout::Timm
    } else {
        Layout::Official
    };
    Ok(Found::under(file, layout, prefix, &|rest| rest.starts_with("head.")))
}

/// The name in a layout of a parameter that the authors call `official`.
fn in_layout(layout: Layout, official: &str) -> String {
    match layout {
        Layout::Timm => official.replace(".mlp.lin", ".mlp.fc"),
        Layout::HuggingFace => match official.strip_prefix("blocks.") {
            Some(rest) => format!("layers.{}", rest.replace(".norm", ".layer_norm")),
            None => official
                .replace("patch_embed.proj.", "patch_embed.projection.")
                .replace("neck.0.", "neck.conv1.")
                .replace("neck.1.", "neck.layer_norm1.")
                .replace("neck.2.", "neck.conv2.")
                .replace("neck.3.", "neck.layer_norm2."),
        },
        _ => official.to_owned(),
    }
}

/// What transformers' configuration says about the encoder, if there is one.
fn section(checkpoint: &Checkpoint) -> Result<Option<Json>> {
    let Some(json) = checkpoint.config() else { return Ok(None) };
    match json.text("model_type") {
        None => Ok(None),
        Some("sam_vision_model") => Ok(Some(json.clone())),
        Some("sam") => match json.section("vision_config") {
            Some(section) => Ok(Some(section)),
            None => Err(json.error("vision_config", "the sizes of the image encoder")),
        },
        Some(other) => Err(Error::UnsupportedModel {
            path: json.path().to_owned(),
            model_type: other.to_owned(),
            expected: "sam, sam_vision_model",
        }),
    }
}

/// Checks a configuration against the tensors, and takes from it what they do not tell.
fn apply(json: &Json, config: &mut SamConfig) -> Result<()> {
    // Absent fields have the defaults of transformers.
    json.must_be("hidden_size", json.whole("hidden_size", 768)?, config.embed_dim)?;
    json.must_be("patch_size", json.whole("patch_size", 16)?, config.patch)?;
    json.must_be("num_channels", json.whole("num_channels", 3)?, 3)?;
    let image = json.side("image_size", 1024)?;
    config.absolute_positions = json.flag("use_abs_pos", true)?;
    let grid = image / config.patch;
    if config.absolute_positions && config.grid > 0 && grid != config.grid {
        return Err(json.error("image_size", format!("{}, as the position table has", config.native_size())));
    }
    config.grid = grid;
    if json.text("hidden_act").unwrap_or("gelu") != "gelu" {
        return Err(json.error("hidden_act", "gelu"));
    }
    let ratio = json.real("mlp_ratio", 4.0)?;
    let hidden = json.whole("mlp_dim", (config.embed_dim as f64 * ratio) as usize)?;
    json.must_be("mlp_dim", hidden, config.hidden)?;
    if config.neck > 0 {
        json.must_be("output_channels", json.whole("output_channels", 256)?, config.neck)?;
    }
    config.depth = json.depth("num_hidden_layers", 12)?;
    config.heads = json.heads("num_attention_heads", 12, config.embed_dim)?;
    config.qkv_bias = json.flag("qkv_bias", true)?;
    config.relative_positions = json.flag("use_rel_pos", true)?;
    config.eps = json.eps("layer_norm_eps", 1e-6)?;
    config.window = json.whole("window_size", 14)?;
    let global = json.get("global_attn_indexes");
    let listed = match global.as_array() {
        Some(list) => list.iter().map(|v| v.as_u64().and_then(|v| usize::try_from(v).ok())).collect::<Option<Vec<_>>>(),
        None if global.is_null() => Some(vec![2, 5, 8, 11]),
        None => None,
    };
    let listed = listed.ok_or_else(|| json.error("global_attn_indexes", "a list of whole numbers"))?;
    // transformers ignores those that do not exist; windows of 0 are no windows.
    config.global = match config.window {
        0 => (0..config.depth).collect(),
        _ => listed.into_iter().filter(|i| *i < config.depth).collect(),
    };
    config.global.sort_unstable();
    config.global.dedup();
    Ok(())
}

/// The sizes of the tensors of an encoder.
struct Shapes<'a> {
    file: &'a WeightFile,
    found: &'a Found,
}

impl Shapes<'_> {
    fn shape(&self, official: &str) -> Option<&[usize]> {
        self.file.shape(self.found.name(&in_layout(self.found.layout, official))?)
    }

    fn bad(&self, official: &str, reason: String) -> Error {
        let tensor = format!("{}{}", self.found.prefix, in_layout(self.found.layout, official));
        Error::BadTensor { path: self.file.path().to_owned(), tensor, reason }
    }

    /// The architecture; heads are 0 where no tensor tells them.
    fn config(&self) -> Result<SamConfig> {
        let patch_name = "patch_embed.proj.weight";
        let (embed_dim, patch) = match self.shape(patch_name) {
            Some([d, 3, p, q]) if p == q && *p > 0 && *d > 0 => (*d, *p),
            other => {
                let reason = format!("has shape {:?}, expected [dim, 3, patch, patch]", other.unwrap_or(&[]));
                return Err(self.bad(patch_name, reason));
            }
        };
        let start = if self.found.layout == Layout::HuggingFace { "layers." } else { "blocks." };
        let number = |name: &str| name.strip_prefix(start)?.split('.').next()?.parse::<usize>().ok();
        let depth = self.found.names.keys().filter_map(|n| number(n)).max().map_or(0, |i| i.saturating_add(1));
        if depth > MAX_BLOCKS {
            return Err(self.bad(&format!("blocks.{}", depth - 1), "is a block beyond reason".into()));
        }
        let table = match self.shape("pos_embed") {
            None => None,
            Some([1, rows, columns, _]) if rows == columns && *rows > 0 => Some(*rows),
            Some(other) => {
                return Err(self.bad("pos_embed", format!("has shape {other:?}, expected [1, side, side, dim]")));
            }
        };
        // The tables of distances tell how far the tokens of a block see.
        let distances = |i: usize| self.shape(&format!("blocks.{i}.attn.rel_pos_h"));
        let seen: BTreeMap<usize, usize> =
            (0..depth).filter_map(|i| Some((i, distances(i)?.first()?.saturating_add(1) / 2))).collect();
        let grid = table.or_else(|| seen.values().max().copied()).unwrap_or(0);
        let global = seen.iter().filter(|(_, side)| **side == grid).map(|(i, _)| *i).collect::<Vec<_>>();
        let window = most_common(seen.values().copied().filter(|side| *side != grid)).unwrap_or(grid);
        let head = most_common((0..depth).filter_map(|i| distances(i)?.get(1).copied())).filter(|head| *head > 0);
        let hidden =
            most_common((0..depth).filter_map(|i| self.shape(&format!("blocks.{i}.mlp.lin1.bias"))?.first().copied()));
        let any = |part: &str| self.found.names.keys().any(|n| n.contains(part));
        Ok(SamConfig {
            embed_dim,
            depth: depth.max(1),
            heads: head.map_or(0, |head| embed_dim / head),
            patch,
            grid,
            window,
            global,
            hidden: hidden.unwrap_or(embed_dim.saturating_mul(4)),
            neck: self.shape("neck.0.weight").and_then(|s| s.first()).copied().unwrap_or(0),
            qkv_bias: any(".attn.qkv.bias"),
            absolute_positions: table.is_some(),
            relative_positions: !seen.is_empty(),
            eps: 1e-6,
        })
    }
}

fn most_common(values: impl Iterator<Item = usize>) -> Option<usize> {
    let mut counts = BTreeMap::new();
    for v in values {
        *counts.entry(v).or_insert(0usize) += 1;
    }
    counts.into_iter().max_by_key(|(_, n)| *n).map(|(v, _)| v)
}
