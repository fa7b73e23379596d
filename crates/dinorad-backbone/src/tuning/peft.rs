//! Adapter folders of PEFT, read and written: `adapter_config.json` and `adapter_model.safetensors`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
};

use candle::{Device, Tensor};
use dinorad_nn::LowRank;
use serde_json::{Value, json};

use super::{
    Biases, Lora, TrainableBackbone,
    site::{Part, Site},
};
use crate::{
    Error, Family, Result,
    weights::{WeightFile, in_memory, json::Json, layout::Layout},
};

/// What PEFT puts before every name.
const PREFIX: &str = "base_model.model.";

/// Whose names an adapter folder has: those of the library that loads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub enum PeftNames {
    /// transformers 4: `attention.attention.query`.
    #[serde(rename = "4")]
    V4,
    /// transformers 5: `attention.q_proj`.
    #[default]
    #[serde(rename = "5")]
    V5,
}

impl FromStr for PeftNames {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "4" => Ok(PeftNames::V4),
            "5" => Ok(PeftNames::V5),
            _ => Err(Error::Architecture { field: "peft-names", value: text.to_owned(), expected: "4 or 5" }),
        }
    }
}

/// What was in an adapter folder.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftAdapter {
    /// Its settings, as far as they concern training on.
    pub lora: Lora,
    /// The parameters that PEFT lets train, by our names: adapters, and biases by its policy.
    pub trainable: BTreeSet<String>,
}

/// One adapter of a folder.
#[derive(Default)]
struct Pair {
    a: Option<Tensor>,
    b: Option<Tensor>,
}

/// Puts the adapters of a folder into an encoder, in place of those it has; biases that were trained with
/// them become the encoder's.
///
/// Both namings are understood (transformers 4 and 5), and timm's. rsLoRA, patterns of ranks and of alpha,
/// and every policy of biases are.
///
/// # Errors
/// [`Error::Config`] for settings that are no plain LoRA; [`Error::Folder`] and [`Error::BadTensor`] for
/// tensors that belong to no map of the encoder, or do not fit.
pub fn load_peft(encoder: &mut dyn TrainableBackbone, folder: &Path) -> Result<PeftAdapter> {
    let config = Json::read(&folder.join("adapter_config.json"))?;
    let lora = settings(&config)?;
    let names = ["adapter_model.safetensors", "adapter_model.bin"];
    let path = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let path = path.ok_or_else(|| Error::Folder {
        path: folder.to_owned(),
        reason: format!("no {} beside adapter_config.json", names[0]),
    })?;
    let file = WeightFile::open(&path, std::slice::from_ref(&path))?;
    let gated = encoder.tensors().keys().any(|name| name.ends_with("mlp.w12.weight"));
    let bad = |tensor: &str, reason: &str| Error::BadTensor {
        path: path.clone(),
        tensor: tensor.to_owned(),
        reason: reason.to_owned(),
    };
    let (mut pairs, mut biases) = (BTreeMap::<Site, Pair>::new(), Vec::new());
    for full in file.names() {
        let name = full.strip_prefix(PREFIX).unwrap_or(full);
        let (name, parameter) = name.rsplit_once('.').ok_or_else(|| bad(full, "no name of an adapter"))?;
        let name = name.strip_suffix(".default").unwrap_or(name);
        let half =
            ["lora_A", "lora_B"].into_iter().find_map(|half| Some((half, name.strip_suffix(&format!(".{half}"))?)));
        match (half, parameter) {
            (Some((half, module)), "weight") => {
                let site = Site::parse(module, gated).ok_or_else(|| bad(full, "its map is none of this encoder"))?;
                let tensor = file.tensor(full, &Device::Cpu)?;
                let pair = pairs.entry(site).or_default();
                let slot = if half == "lora_A" { &mut pair.a } else { &mut pair.b };
                if slot.replace(tensor).is_some() {
                    return Err(bad(full, "a second one for the same map"));
                }
            }
            (None, "bias") => {
                let module = name.strip_suffix(".base_layer").unwrap_or(name);
                biases.push((module.to_owned(), full.to_owned(), file.tensor(full, &Device::Cpu)?));
            }
            _ => return Err(bad(full, "neither lora_A, lora_B nor a bias: not a plain LoRA")),
        }
    }
    if pairs.is_empty() {
        return Err(Error::Folder { path, reason: "no adapter in it".into() });
    }
    let alphas = patterns(&config, "alpha_pattern")?;
    let mut made: BTreeMap<String, Vec<(Part, Tensor, Tensor, f64)>> = BTreeMap::new();
    for (site, pair) in pairs {
        let what = site.name();
        let (Some(a), Some(b)) = (pair.a, pair.b) else { return Err(bad(&what, "lora_A or lora_B is missing")) };
        let rank = a.dims().first().copied().unwrap_or(0);
        let called = [site.in_transformers(true), site.in_transformers(false), what.clone()];
        let alpha = called.iter().find_map(|name| alphas.iter().find(|(p, _)| p.is_match(name)).map(|(_, v)| *v));
        let scale = Lora::scale(alpha.unwrap_or(lora.alpha), rank, lora.rslora);
        made.entry(what).or_default().push((site.part, a, b, scale));
    }
    let dropout = lora.dropout;
    encoder.visit_maps("", &mut |name, map| {
        let Some(parts) = made.remove(name) else { return map.set_adapters(Vec::new()) };
        let (out, dtype, device) = (map.weight().dim(0)?, map.weight().dtype(), map.weight().device().clone());
        let adapters = parts.into_iter().map(|(part, a, b, scale)| {
            let (a, b) = (a.to_dtype(dtype)?.to_device(&device)?, b.to_dtype(dtype)?.to_device(&device)?);
            LowRank::new(a, b, scale).for_outputs(part.name(), part.outputs(out).start).with_dropout(dropout)
        });
        map.set_adapters(adapters.collect::<dinorad_nn::Result<_>>()?)
    })?;
    if let Some(name) = made.keys().next() {
        return Err(bad(name, "the encoder has no such map"));
    }
    let trained = set_biases(encoder, &biases, gated, &bad)?;
    let mut trainable: BTreeSet<String> = encoder.tensors().into_keys().filter(|n| n.contains(".lora_")).collect();
    trainable.extend(trained);
    // A policy that lets biases train does so whether or not the folder has their values.
    trainable.extend(encoder.tensors().into_keys().filter(|n| match lora.bias {
        Biases::None => false,
        Biases::All => n.ends_with("bias"),
        Biases::LoraOnly => n.strip_suffix("bias").is_some_and(|map| {
            n.ends_with(".bias") && encoder.tensors().keys().any(|t| t.starts_with(map) && t.contains("lora_"))
        }),
    }));
    Ok(PeftAdapter { lora, trainable })
}

/// Writes biases of the folder into the encoder; gives our names of them.
fn set_biases(
    encoder: &mut dyn TrainableBackbone,
    biases: &[(String, String, Tensor)],
    gated: bool,
    bad: &dyn Fn(&str, &str) -> Error,
) -> Result<BTreeSet<String>> {
    let mut trained = BTreeSet::new();
    for (module, full, value) in biases {
        let (name, part) = match Site::parse(module, gated) {
            Some(site) => (format!("{}.bias", site.name()), site.part),
            None => (format!("{}.bias", outer(module)), Part::Whole),
        };
        let mut found = false;
        encoder.visit_mut("", &mut |known, tensor| {
            if known != name {
                return Ok(());
            }
            let outputs = part.outputs(tensor.dim(0)?);
            if value.dims() != [outputs.len()] {
                return Ok(());
            }
            found = true;
            let value = value.to_dtype(tensor.dtype())?.to_device(tensor.device())?;
            let whole = tensor.detach();
            let rest = whole.dim(0)? - outputs.end;
            let pieces = [whole.narrow(0, 0, outputs.start)?, value, whole.narrow(0, outputs.end, rest)?];
            let pieces: Vec<&Tensor> = pieces.iter().filter(|p| p.elem_count() > 0).collect();
            *tensor = Tensor::cat(&pieces, 0)?;
            Ok(())
        })?;
        if !found {
            return Err(bad(full, "the encoder has no such bias, or one of another length"));
        }
        trained.insert(name);
    }
    Ok(trained)
}

/// Our name of a module that is no map of a block.
fn outer(module: &str) -> String {
    let within = [
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("layer_norm1", "norm1"),
        ("layer_norm2", "norm2"),
    ];
    let named = match module {
        "embeddings.patch_embeddings.projection" | "embeddings.patch_embeddings" | "embeddings.patch_embedding" => {
            return "patch_embed.proj".into();
        }
        "layernorm" | "post_layernorm" => return "norm".into(),
        "pre_layrnorm" => return "norm_pre".into(),
        other => other.replacen("encoder.layer.", "blocks.", 1).replacen("layers.", "blocks.", 1),
    };
    within.iter().fold(named, |name, (theirs, ours)| name.replace(theirs, ours))
}

/// The settings of a folder that this crate understands.
fn settings(config: &Json) -> Result<Lora> {
    if config.text("peft_type") != Some("LORA") {
        return Err(config.error("peft_type", "LORA"));
    }
    for field in ["use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora"] {
        if config.flag(field, false)? {
            return Err(config.error(field, "false: a plain LoRA"));
        }
    }
    let bias = match config.text("bias") {
        None | Some("none") => Biases::None,
        Some("lora_only") => Biases::LoraOnly,
        Some("all") => Biases::All,
        Some(_) => return Err(config.error("bias", "none, lora_only or all")),
    };
    let lora = Lora {
        rank: config.whole("r", 8)?,
        alpha: config.real("lora_alpha", 8.0)?,
        dropout: config.real("lora_dropout", 0.0)?,
        bias,
        rslora: config.flag("use_rslora", false)?,
        ..Lora::default()
    };
    lora.check()?;
    Ok(lora)
}

/// Patterns of module names with numbers, matched as PEFT does: at the end of a name, from a dot on.
fn patterns(config: &Json, field: &str) -> Result<Vec<(regex_lite::Regex, f64)>> {
    let Some(object) = config.get(field).as_object() else { return Ok(Vec::new()) };
    let pattern = |(key, value): (&String, &Value)| {
        let of = regex_lite::Regex::new(&format!(r"^(.*\.)?({key})$")).ok()?;
        Some((of, value.as_f64()?))
    };
    let read: Option<Vec<_>> = object.iter().map(pattern).collect();
    read.ok_or_else(|| config.error(field, "patterns of module names and numbers"))
}

/// Writes the adapters of an encoder as PEFT does, the biases with them that `lora` trains.
///
/// DINOv2 gets the names of transformers 4 or 5. Every other family gets timm's, whose queries, keys and
/// values are one map: adapters for parts of it become one with their ranks added up, which computes the
/// same. The folder appears whole or not at all.
///
/// # Errors
/// [`Error::Folder`] if the folder is there already or cannot be written, or if the encoder has no adapters.
pub fn save_peft(encoder: &mut dyn TrainableBackbone, folder: &Path, lora: &Lora, names: PeftNames) -> Result<()> {
    let failed = |reason: String| Error::Folder { path: folder.to_owned(), reason };
    let new = names == PeftNames::V5;
    let dinov2 = encoder.spec().family == Family::Dinov2;
    let registers = encoder.spec().prefix_tokens > 1;
    let mut adapters: BTreeMap<String, (Tensor, Tensor, f64)> = BTreeMap::new();
    let mut adapted = BTreeSet::new();
    encoder.visit_maps("", &mut |name, map| {
        let Some(site) = Site::of_map(name).filter(|_| !map.adapters().is_empty()) else { return Ok(()) };
        adapted.insert(format!("{name}.bias"));
        let out = map.weight().dim(0)?;
        if !dinov2 {
            adapters.insert(name.to_owned(), joined(map.adapters(), out)?);
            return Ok(());
        }
        for adapter in map.adapters() {
            let part = Part::named(adapter.name()).unwrap_or(Part::Whole);
            // a fused map is several of transformers' own
            let parts = match (site.map, part, new) {
                ("attn.qkv", Part::Whole, _) => vec![Part::Query, Part::Key, Part::Value],
                ("mlp.w12", Part::Whole, true) => vec![Part::Gate, Part::Up],
                (_, part, _) => vec![part],
            };
            for part in parts {
                let b = match adapter.outputs().len() == part.outputs(out).len() {
                    true => adapter.b().detach(),
                    false => adapter.b().detach().narrow(0, part.outputs(out).start, part.outputs(out).len())?,
                };
                let called = Site { part, ..site.clone() }.in_transformers(new);
                adapters.insert(called, (adapter.a().detach(), b.contiguous()?, adapter.scale()));
            }
        }
        Ok(())
    })?;
    if adapters.is_empty() {
        return Err(failed("the encoder has no adapters to write".into()));
    }
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    let (mut ranks, mut alphas) = (serde_json::Map::new(), serde_json::Map::new());
    for (module, (a, b, scale)) in &adapters {
        let rank = a.dim(0)?;
        let root = if lora.rslora { (rank as f64).sqrt() } else { rank as f64 };
        let alpha = scale * root;
        // their values are part of what the folder says of every map
        if rank != lora.rank {
            ranks.insert(literal(module), json!(rank));
        }
        if (alpha - lora.alpha).abs() > 1e-9 * lora.alpha {
            alphas.insert(literal(module), json!(alpha));
        }
        tensors.push((format!("{PREFIX}{module}.lora_A.weight"), a.contiguous()?));
        tensors.push((format!("{PREFIX}{module}.lora_B.weight"), b.contiguous()?));
    }
    let trained = |name: &str| match lora.bias {
        Biases::None => false,
        Biases::LoraOnly => adapted.contains(name),
        Biases::All => name.ends_with("bias"),
    };
    for (name, tensor) in encoder.tensors().into_iter().filter(|(name, _)| trained(name)) {
        for (name, tensor) in in_transformers(encoder, &name, &tensor, names)? {
            let module = name.strip_suffix(".bias").unwrap_or(&name);
            let module = if adapters.contains_key(module) { format!("{module}.base_layer") } else { module.to_owned() };
            tensors.push((format!("{PREFIX}{module}.bias"), tensor.contiguous()?));
        }
    }
    let class = if registers { "Dinov2WithRegistersModel" } else { "Dinov2Model" };
    let library = if registers { "dinov2_with_registers" } else { "dinov2" };
    let library = format!("transformers.models.{library}.modeling_{library}");
    let mapping = if dinov2 { json!({"base_model_class": class, "parent_library": library}) } else { Value::Null };
    let config = json!({
        "peft_type": "LORA",
        "task_type": null,
        "auto_mapping": mapping,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "bias": lora.bias.name(),
        "use_rslora": lora.rslora,
        "use_dora": false,
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
        "target_modules": adapters.keys().collect::<Vec<_>>(),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    });
    let text = serde_json::to_string_pretty(&config).map_err(|e| failed(e.to_string()))?;
    crate::weights::write_folder(folder, &[("adapter_config.json", text)], "adapter_model.safetensors", tensors)
}

/// A tensor of the shape of one of the encoder's parameters (its value, its gradient) under the names that
/// transformers gives the parameter in memory: several where ours is several of theirs. An adapter's are
/// those of PEFT, without the name of the adapter. Of encoders other than DINOv2 names stay as they are.
///
/// # Errors
/// If it is of another shape.
pub fn in_transformers(
    encoder: &dyn TrainableBackbone,
    name: &str,
    tensor: &Tensor,
    names: PeftNames,
) -> Result<Vec<(String, Tensor)>> {
    let Some(dinov2) = encoder.as_dinov2() else { return Ok(vec![(name.to_owned(), tensor.detach())]) };
    let new = names == PeftNames::V5;
    let half =
        ["lora_A", "lora_B"].into_iter().find_map(|half| Some((half, name.strip_suffix(half)?.strip_suffix('.')?)));
    if let Some((half, place)) = half {
        let whole = Site::of_map(place);
        let part = place
            .rsplit_once('.')
            .and_then(|(map, part)| Some(Site { part: Part::named(part)?, ..Site::of_map(map)? }));
        let site = whole.or(part).map_or_else(|| place.to_owned(), |site| site.in_transformers(new));
        return Ok(vec![(format!("{site}.{half}.weight"), tensor.detach())]);
    }
    let mut out = Vec::new();
    for (name, tensor) in dinov2.in_layout(Layout::HuggingFace, name, tensor)? {
        match new {
            // one tensor in a file, two in memory
            true if name.contains(".mlp.weights_in.") => {
                for (part, tensor) in ["gate_proj", "up_proj"].iter().zip(tensor.chunk(2, 0)?) {
                    out.push((name.replace("weights_in", part), tensor.contiguous()?));
                }
            }
            true => out.push((in_memory::in_memory(&name), tensor)),
            false => out.push((name, tensor)),
        }
    }
    Ok(out)
}

/// A module's name as a pattern that means it alone.
fn literal(module: &str) -> String {
    module.replace('.', r"\.")
}

/// Adapters for parts of a map as one for all of it.
fn joined(adapters: &[LowRank], out: usize) -> dinorad_nn::Result<(Tensor, Tensor, f64)> {
    let a: Vec<Tensor> = adapters.iter().map(|l| l.a().detach()).collect();
    let b = adapters.iter().map(|l| {
        let served = l.outputs();
        Ok((l.b().detach() * l.scale())?.pad_with_zeros(0, served.start, out - served.end)?)
    });
    let b = b.collect::<dinorad_nn::Result<Vec<Tensor>>>()?;
    Ok((Tensor::cat(&a, 0)?, Tensor::cat(&b, 1)?, 1.0))
}
