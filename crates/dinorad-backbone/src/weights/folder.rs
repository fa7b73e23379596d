//! Which files of a folder are the weights, and what the files beside them say.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{file::open_regular, layout::Layout};
use crate::{Dinov2Config, Error, FeedForward, Normalization, Result, swiglu_hidden};

/// A configuration or an index larger than this is neither.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// The weight files that a path stands for.
pub(crate) fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    let meta = fs::metadata(path).map_err(|e| Error::read(path, e))?;
    if !meta.is_dir() {
        if path.file_name().is_some_and(|n| n.to_string_lossy().ends_with(".index.json")) {
            return shards(path);
        }
        return Ok(vec![path.to_owned()]);
    }
    for name in
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"]
    {
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
    let json = read_json(index)?;
    let map = json["weight_map"].as_object().filter(|m| !m.is_empty());
    let map =
        map.ok_or_else(|| config_error(index, "weight_map", &json["weight_map"], "names of tensors and their files"))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let name = file.as_str().filter(|n| !n.is_empty() && !n.contains(['/', '\\']) && *n != "..");
        names.insert(name.ok_or_else(|| {
            config_error(index, &format!("weight_map.{tensor}"), file, "the name of a file in the same folder")
        })?);
    }
    let folder = index.parent().unwrap_or(Path::new("."));
    Ok(names.into_iter().map(|n| folder.join(n)).collect())
}

pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let mut text = Vec::new();
    let read = open_regular(path)?.take(MAX_JSON_BYTES + 1).read_to_end(&mut text);
    if read.map_err(|e| Error::read(path, e))? as u64 > MAX_JSON_BYTES {
        return Err(Error::format(path, "too large for a configuration"));
    }
    serde_json::from_slice(&text).map_err(|e| Error::format(path, format!("not JSON: {e}")))
}

/// A file beside the weights, if it is there.
pub(crate) fn beside(path: &Path, name: &str) -> Option<PathBuf> {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    folder.map(|f| f.join(name)).filter(|f| f.is_file())
}

fn config_error(path: &Path, field: &str, value: &Value, expected: impl ToString) -> Error {
    let (field, value) = (field.to_owned(), if value.is_null() { "missing".into() } else { value.to_string() });
    Error::Config { path: path.to_owned(), field, value, expected: expected.to_string() }
}

/// Checks `config.json` against the architecture of the tensors, and takes from it what tensors
/// do not tell: heads, eps, and a depth that shows missing blocks.
pub(crate) fn apply_config(path: &Path, layout: Layout, config: &mut Dinov2Config) -> Result<()> {
    let json = read_json(path)?;
    match layout {
        Layout::HuggingFace => apply_hugging_face(path, &json, config),
        Layout::Timm => apply_timm(path, &json, config),
        Layout::Official => Ok(()),
    }
}

fn apply_hugging_face(path: &Path, json: &Value, config: &mut Dinov2Config) -> Result<()> {
    let unsupported = |model_type: String| Error::UnsupportedModel {
        path: path.to_owned(),
        model_type,
        expected: "dinov2, dinov2_with_registers",
    };
    match &json["model_type"] {
        Value::String(t) if t == "dinov2" || t == "dinov2_with_registers" => {}
        Value::String(t) => return Err(unsupported(t.clone())),
        Value::Null => return Err(config_error(path, "model_type", &Value::Null, "dinov2 or dinov2_with_registers")),
        other => return Err(unsupported(other.to_string())),
    }
    let with_registers = json["model_type"] == "dinov2_with_registers";
    // Absent fields have the defaults of transformers.
    let whole = |field: &str, default: usize| match &json[field] {
        Value::Null => Ok(default),
        v => v
            .as_u64()
            .and_then(|v| usize::try_from(v).ok())
            .ok_or_else(|| config_error(path, field, v, "a whole number")),
    };
    let flag = |field: &str, default: bool| match &json[field] {
        Value::Null => Ok(default),
        v => v.as_bool().ok_or_else(|| config_error(path, field, v, "true or false")),
    };
    let real = |field: &str, default: f64| match &json[field] {
        Value::Null => Ok(default),
        v => v.as_f64().ok_or_else(|| config_error(path, field, v, "a number")),
    };
    let must_be = |field: &str, got: usize, want: usize| {
        if got == want {
            Ok(())
        } else {
            Err(config_error(path, field, &json[field], format!("{want}, as the tensors have")))
        }
    };

    must_be("hidden_size", whole("hidden_size", 768)?, config.embed_dim)?;
    must_be("patch_size", whole("patch_size", 14)?, config.patch)?;
    must_be("num_channels", whole("num_channels", 3)?, 3)?;
    let registers = if with_registers { whole("num_register_tokens", 4)? } else { 0 };
    if with_registers && config.registers > 0 {
        must_be("num_register_tokens", registers, config.registers)?;
    } else if !with_registers && config.registers > 0 {
        return Err(config_error(
            path,
            "model_type",
            &json["model_type"],
            "dinov2_with_registers, as the tensors have them",
        ));
    }
    config.registers = registers;
    let act = json["hidden_act"].as_str().unwrap_or(if json["hidden_act"].is_null() { "gelu" } else { "" });
    if act != "gelu" {
        return Err(config_error(path, "hidden_act", &json["hidden_act"], "gelu"));
    }
    let swiglu = flag("use_swiglu_ffn", false)?;
    if swiglu != (config.feed_forward == FeedForward::SwiGlu) {
        return Err(config_error(
            path,
            "use_swiglu_ffn",
            &json["use_swiglu_ffn"],
            format!("{}, as the tensors are", !swiglu),
        ));
    }
    let ratio = real("mlp_ratio", 4.0)?;
    let hidden = match swiglu {
        true => swiglu_hidden(config.embed_dim, ratio),
        false => (config.embed_dim as f64 * ratio) as usize,
    };
    if hidden != config.hidden {
        let expected = format!("the ratio that gives {} as the tensors have, not {hidden}", config.hidden);
        return Err(config_error(path, "mlp_ratio", &json["mlp_ratio"], expected));
    }
    let qkv_bias = flag("qkv_bias", true)?;
    config.qkv_bias = qkv_bias;
    let image = whole("image_size", 224)?;
    if image / config.patch != config.grid {
        let expected = format!("{}, as the position table has", config.native_size());
        return Err(config_error(path, "image_size", &json["image_size"], expected));
    }
    let depth = whole("num_hidden_layers", 12)?;
    if depth == 0 || depth > 1 << 10 {
        return Err(config_error(
            path,
            "num_hidden_layers",
            &json["num_hidden_layers"],
            "a positive number within reason",
        ));
    }
    config.depth = depth;
    config.heads = whole("num_attention_heads", 12)?;
    if config.heads == 0 || !config.embed_dim.is_multiple_of(config.heads) {
        let expected = format!("a divisor of hidden_size {}", config.embed_dim);
        return Err(config_error(path, "num_attention_heads", &json["num_attention_heads"], expected));
    }
    config.eps = real("layer_norm_eps", 1e-6)?;
    if !(config.eps.is_finite() && config.eps > 0.0) {
        return Err(config_error(path, "layer_norm_eps", &json["layer_norm_eps"], "a positive number"));
    }
    Ok(())
}

fn apply_timm(path: &Path, json: &Value, config: &mut Dinov2Config) -> Result<()> {
    match &json["architecture"] {
        // Another program's configuration: nothing for us.
        Value::Null => return Ok(()),
        Value::String(a) if a.starts_with("vit_") && a.contains("dinov2") => {}
        other => {
            let model_type = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            return Err(Error::UnsupportedModel {
                path: path.to_owned(),
                model_type,
                expected: "vit_*_patch14_dinov2, vit_*_patch14_reg4_dinov2",
            });
        }
    }
    let heads = &json["model_args"]["num_heads"];
    if !heads.is_null() {
        let divides = |h: &usize| *h > 0 && config.embed_dim.is_multiple_of(*h);
        let expected = format!("a divisor of the width {}", config.embed_dim);
        let value = heads.as_u64().and_then(|h| usize::try_from(h).ok()).filter(divides);
        config.heads = value.ok_or_else(|| config_error(path, "model_args.num_heads", heads, expected))?;
    }
    Ok(())
}

/// The colour normalisation that the files beside the weights state.
pub(crate) fn normalization(path: &Path) -> Result<Option<Normalization>> {
    for (name, at, keys) in [
        ("preprocessor_config.json", "", ["image_mean", "image_std"]),
        ("config.json", "/pretrained_cfg", ["mean", "std"]),
    ] {
        let Some(file) = beside(path, name) else { continue };
        let json = read_json(&file)?;
        let Some(section) = json.pointer(at) else { continue };
        if section[keys[0]].is_null() || section[keys[1]].is_null() {
            continue;
        }
        let three = |key: &str| -> Result<[f32; 3]> {
            let value = &section[key];
            let numbers: Option<Vec<f32>> =
                value.as_array().and_then(|a| a.iter().map(|v| v.as_f64().map(|v| v as f32)).collect());
            let fits = |v: &Vec<f32>| v.iter().all(|v| v.is_finite() && (key == keys[0] || *v > 0.0));
            numbers
                .filter(fits)
                .and_then(|v| <[f32; 3]>::try_from(v).ok())
                .ok_or_else(|| config_error(&file, key, value, "three numbers"))
        };
        return Ok(Some(Normalization { mean: three(keys[0])?, std: three(keys[1])? }));
    }
    Ok(None)
}
