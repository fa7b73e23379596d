//! Which files of a folder are the weights, and what the files beside them say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{json::Json, layout::Layout};
use crate::{Dinov2Config, Error, FeedForward, Normalization, Result, hub::WEIGHT_FILES, swiglu_hidden};

/// The weight files that a path stands for.
pub(crate) fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    let meta = fs::metadata(path).map_err(|e| Error::read(path, e))?;
    if !meta.is_dir() {
        if path.file_name().is_some_and(|n| n.to_string_lossy().ends_with(".index.json")) {
            return shards(path);
        }
        return Ok(vec![path.to_owned()]);
    }
    for name in WEIGHT_FILES {
        let file = path.join(name);
        if file.is_file() {
            return if name.ends_with(".json") { shards(&file) } else { Ok(vec![file]) };
        }
    }
    let mut others = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| Error::read(path, e))? {
        let file = entry.map_err(|e| Error::read(path, e))?.path();
        let is_weights = file.extension().is_some_and(|e| ["safetensors", "pth", "pt", "bin"].iter().any(|w| e == *w));
        if is_weights && file.is_file() {
            others.push(file);
        }
    }
    others.sort();
    match others.as_slice() {
        [_] => Ok(others),
        [] => Err(Error::Folder { path: path.to_owned(), reason: "no weight file in this folder".into() }),
        _ => {
            let names: Vec<_> = others.iter().filter_map(|f| f.file_name()).map(|n| n.to_string_lossy()).collect();
            let reason = format!("several weight files, name one of them: {}", names.join(", "));
            Err(Error::Folder { path: path.to_owned(), reason })
        }
    }
}

/// The files of a sharded set of weights.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let json = Json::read(index)?;
    let map = json.get("weight_map").as_object().filter(|m| !m.is_empty());
    let map = map.ok_or_else(|| json.error("weight_map", "names of tensors and their files"))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let name = file.as_str().filter(|n| is_plain_name(n));
        names.insert(name.ok_or_else(|| Error::Config {
            path: index.to_owned(),
            field: format!("weight_map.{tensor}"),
            value: file.to_string(),
            expected: "the name of a file in the same folder".to_owned(),
        })?);
    }
    let folder = index.parent().unwrap_or(Path::new("."));
    Ok(names.into_iter().map(|n| folder.join(n)).collect())
}

/// Whether a name stays in its folder on every system: one component, no drive, no way up.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let one = matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None));
    one && !name.contains(['/', '\\', ':', '\0'])
}

/// A file beside the weights, if it is there.
pub(crate) fn beside(path: &Path, name: &str) -> Option<PathBuf> {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    folder.map(|f| f.join(name)).filter(|f| f.is_file())
}

/// Checks `config.json` against the architecture of the tensors, and takes from it what tensors
/// do not tell: heads, eps, and a depth that shows missing blocks.
pub(crate) fn apply_config(json: &Json, layout: Layout, config: &mut Dinov2Config) -> Result<()> {
    match layout {
        Layout::HuggingFace => apply_hugging_face(json, config),
        Layout::Timm => apply_timm(json, config),
        Layout::Official | Layout::OpenClip | Layout::Torchvision => Ok(()),
    }
}

fn apply_hugging_face(json: &Json, config: &mut Dinov2Config) -> Result<()> {
    const MODELS: &str = "dinov2, dinov2_with_registers";
    match json.get("model_type") {
        Value::String(t) if t == "dinov2" || t == "dinov2_with_registers" => {}
        Value::Null => return Err(json.error("model_type", "dinov2 or dinov2_with_registers")),
        other => {
            let model_type = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            return Err(Error::UnsupportedModel { path: json.path().to_owned(), model_type, expected: MODELS });
        }
    }
    // Absent fields have the defaults of transformers.
    let with_registers = json.text("model_type") == Some("dinov2_with_registers");
    json.must_be("hidden_size", json.whole("hidden_size", 768)?, config.embed_dim)?;
    json.must_be("patch_size", json.whole("patch_size", 14)?, config.patch)?;
    json.must_be("num_channels", json.whole("num_channels", 3)?, 3)?;
    let registers = if with_registers { json.whole("num_register_tokens", 4)? } else { 0 };
    if with_registers && config.registers > 0 {
        json.must_be("num_register_tokens", registers, config.registers)?;
    } else if !with_registers && config.registers > 0 {
        return Err(json.error("model_type", "dinov2_with_registers, as the tensors have them"));
    }
    config.registers = registers;
    if !json.get("hidden_act").is_null() && json.text("hidden_act") != Some("gelu") {
        return Err(json.error("hidden_act", "gelu"));
    }
    let swiglu = json.flag("use_swiglu_ffn", false)?;
    if swiglu != (config.feed_forward == FeedForward::SwiGlu) {
        return Err(json.error("use_swiglu_ffn", format!("{}, as the tensors are", !swiglu)));
    }
    let ratio = json.real("mlp_ratio", 4.0)?;
    let hidden = match swiglu {
        true => swiglu_hidden(config.embed_dim, ratio),
        false => (config.embed_dim as f64 * ratio) as usize,
    };
    if hidden != config.hidden {
        let expected = format!("the ratio that gives {} as the tensors have, not {hidden}", config.hidden);
        return Err(json.error("mlp_ratio", expected));
    }
    config.qkv_bias = json.flag("qkv_bias", true)?;
    if json.side("image_size", 224)? / config.patch != config.grid {
        return Err(json.error("image_size", format!("{}, as the position table has", config.native_size())));
    }
    config.depth = json.depth("num_hidden_layers", 12)?;
    config.heads = json.heads("num_attention_heads", 12, config.embed_dim)?;
    config.eps = json.eps("layer_norm_eps", 1e-6)?;
    Ok(())
}

fn apply_timm(json: &Json, config: &mut Dinov2Config) -> Result<()> {
    match json.get("architecture") {
        // Another program's configuration: nothing for us.
        Value::Null => return Ok(()),
        Value::String(a) if a.starts_with("vit_") && a.contains("dinov2") => {}
        other => {
            let model_type = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            return Err(Error::UnsupportedModel {
                path: json.path().to_owned(),
                model_type,
                expected: "vit_*_patch14_dinov2, vit_*_patch14_reg4_dinov2",
            });
        }
    }
    if let Some(args) = json.section("model_args")
        && !args.get("num_heads").is_null()
    {
        config.heads = args.heads("num_heads", 0, config.embed_dim)?;
    }
    Ok(())
}

/// The colour normalisation that the files beside the weights state.
pub(crate) fn normalization(path: &Path) -> Result<Option<Normalization>> {
    for (name, section, keys) in [
        ("preprocessor_config.json", "", ["image_mean", "image_std"]),
        ("config.json", "pretrained_cfg", ["mean", "std"]),
        ("open_clip_config.json", "preprocess_cfg", ["mean", "std"]),
    ] {
        let Some(file) = beside(path, name) else { continue };
        let json = Json::read(&file)?;
        let Some(json) = (if section.is_empty() { Some(json) } else { json.section(section) }) else { continue };
        if json.get(keys[0]).is_null() || json.get(keys[1]).is_null() {
            continue;
        }
        let three = |key: &str| -> Result<[f32; 3]> {
            let numbers: Option<Vec<f32>> =
                json.get(key).as_array().and_then(|a| a.iter().map(|v| v.as_f64().map(|v| v as f32)).collect());
            let fits = |v: &Vec<f32>| v.iter().all(|v| v.is_finite() && (key == keys[0] || *v > 0.0));
            numbers
                .filter(fits)
                .and_then(|v| <[f32; 3]>::try_from(v).ok())
                .ok_or_else(|| json.error(key, "three numbers"))
        };
        return Ok(Some(Normalization { mean: three(keys[0])?, std: three(keys[1])? }));
    }
    Ok(None)
}
