//! From the names and configurations of each library to one architecture and its parameters.

use std::collections::BTreeMap;

use candle::Tensor;
use dinorad_nn::Activation;

use super::{Positions, VitConfig};
use crate::{
    Error, Family, FeedForward, Layout, LoadOptions, LoadReport, Normalization, PositionResampling, Result,
    architecture,
    weights::{
        checkpoint::Checkpoint,
        in_memory::as_saved,
        json::Json,
        layout::{Found, Place, is_outside},
        strict::{Wanted, read_strict},
    },
};

/// More blocks than any encoder has.
const MAX_BLOCKS: usize = 1 << 10;

/// Who named the tensors, and of which model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// transformers: `ViTModel`, `ViTMAEModel`, `ViTMSNModel`.
    HfVit,
    /// transformers: `CLIPVisionModel`.
    HfClip,
    /// transformers: `DINOv3ViTModel`.
    HfDinov3,
    /// open_clip's own transformer.
    OpenClip,
    /// timm's plain transformer, also within open_clip.
    Timm,
    /// timm's DINOv3.
    TimmDinov3,
}

impl Naming {
    /// All, and the name by which each is known.
    const ANCHORS: [(Naming, &'static str); 5] = [
        (Naming::HfVit, "embeddings.patch_embeddings.projection.weight"),
        (Naming::HfClip, "embeddings.patch_embedding.weight"),
        (Naming::HfDinov3, "embeddings.patch_embeddings.weight"),
        (Naming::OpenClip, "conv1.weight"),
        (Naming::Timm, "patch_embed.proj.weight"),
    ];

    fn layout(self) -> Layout {
        match self {
            Naming::HfVit | Naming::HfClip | Naming::HfDinov3 => Layout::HuggingFace,
            Naming::OpenClip => Layout::OpenClip,
            Naming::Timm | Naming::TimmDinov3 => Layout::Timm,
        }
    }

    /// What the names of blocks begin with; the number follows.
    fn blocks(self, found: &Found) -> &'static str {
        match self {
            Naming::HfVit => "encoder.layer.",
            Naming::HfClip => "encoder.layers.",
            // As transformers names them in memory, and as the published files do.
            Naming::HfDinov3 if found.names.keys().any(|n| n.starts_with("model.layer.")) => "model.layer.",
            Naming::HfDinov3 => "layer.",
            Naming::OpenClip => "transformer.resblocks.",
            Naming::Timm | Naming::TimmDinov3 => "blocks.",
        }
    }

    /// Where a parameter of [`VitConfig::parameters`] is.
    pub(super) fn place(self, name: &str, shape: &[usize], blocks: &str, biases: [bool; 3]) -> Place {
        let one = |name: String| Place::One(name);
        let Some((index, rest)) = name.strip_prefix("blocks.").and_then(|r| r.split_once('.')) else {
            return self.outer(name, shape);
        };
        let at = |rest: String| format!("{blocks}{index}.{rest}");
        let three = |names: [&str; 3], part: &str| {
            let there = |i: usize| part != "bias" || biases[i];
            let name = |(i, which): (usize, &str)| there(i).then(|| at(format!("{which}.{part}")));
            Place::Stacked(names.into_iter().enumerate().map(name).collect())
        };
        let qkv = rest.strip_prefix("attn.qkv.");
        match self {
            Naming::Timm => one(at(rest.to_owned())),
            Naming::TimmDinov3 => match rest.strip_prefix("mlp.w12.") {
                Some(part) => {
                    Place::Stacked(["fc1_g", "fc1_x"].map(|which| Some(at(format!("mlp.{which}.{part}")))).to_vec())
                }
                None => one(at(replaced(
                    rest,
                    &[("mlp.w3.", "mlp.fc2."), ("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2")],
                ))),
            },
            Naming::HfVit => match qkv {
                Some(part) => three(
                    ["query", "key", "value"].map(|q| match q {
                        "query" => "attention.attention.query",
                        "key" => "attention.attention.key",
                        _ => "attention.attention.value",
                    }),
                    part,
                ),
                None => one(at(replaced(
                    rest,
                    &[
                        ("norm1.", "layernorm_before."),
                        ("norm2.", "layernorm_after."),
                        ("attn.proj.", "attention.output.dense."),
                        ("mlp.fc1.", "intermediate.dense."),
                        ("mlp.fc2.", "output.dense."),
                    ],
                ))),
            },
            Naming::HfClip => match qkv {
                Some(part) => three(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], part),
                None => one(at(replaced(
                    rest,
                    &[("norm1.", "layer_norm1."), ("norm2.", "layer_norm2."), ("attn.proj.", "self_attn.out_proj.")],
                ))),
            },
            Naming::HfDinov3 => match qkv {
                Some(part) => three(["attention.q_proj", "attention.k_proj", "attention.v_proj"], part),
                None => match rest.strip_prefix("mlp.w12.") {
                    Some(part) => Place::Stacked(
                        ["gate_proj", "up_proj"].map(|which| Some(at(format!("mlp.{which}.{part}")))).to_vec(),
                    ),
                    None => one(at(replaced(
                        rest,
                        &[
                            ("attn.proj.", "attention.o_proj."),
                            ("mlp.fc1.", "mlp.up_proj."),
                            ("mlp.fc2.", "mlp.down_proj."),
                            ("mlp.w3.", "mlp.down_proj."),
                            ("ls1.gamma", "layer_scale1.lambda1"),
                            ("ls2.gamma", "layer_scale2.lambda1"),
                        ],
                    ))),
                },
            },
            Naming::OpenClip => one(at(replaced(
                rest,
                &[
                    ("norm1.", "ln_1."),
                    ("norm2.", "ln_2."),
                    ("attn.qkv.weight", "attn.in_proj_weight"),
                    ("attn.qkv.bias", "attn.in_proj_bias"),
                    ("attn.proj.", "attn.out_proj."),
                    ("mlp.fc1.", "mlp.c_fc."),
                    ("mlp.fc2.", "mlp.c_proj."),
                    ("ls1.", "ls_1."),
                    ("ls2.", "ls_2."),
                ],
            ))),
        }
    }

    /// Where a parameter outside of the blocks is.
    fn outer(self, name: &str, shape: &[usize]) -> Place {
        let flat = |name: &str, axes: usize| {
            let from = shape.len().saturating_sub(axes);
            Place::Reshaped(name.to_owned(), shape.get(from..).unwrap_or_default().to_vec())
        };
        let patch = |prefix: &str| name.replacen("patch_embed.proj.", prefix, 1);
        Place::One(match (self, name) {
            (Naming::HfClip, "cls_token") => return flat("embeddings.class_embedding", 1),
            (Naming::HfClip, "pos_embed") => return flat("embeddings.position_embedding.weight", 2),
            (Naming::OpenClip, "cls_token") => return flat("class_embedding", 1),
            (Naming::OpenClip, "pos_embed") => return flat("positional_embedding", 2),
            (Naming::HfVit, "pos_embed") => "embeddings.position_embeddings".into(),
            (Naming::HfVit | Naming::HfDinov3, "cls_token" | "mask_token" | "register_tokens") => {
                format!("embeddings.{name}")
            }
            (Naming::HfVit, _) if name.starts_with("patch_embed.") => patch("embeddings.patch_embeddings.projection."),
            (Naming::HfClip, _) if name.starts_with("patch_embed.") => patch("embeddings.patch_embedding."),
            (Naming::HfDinov3, _) if name.starts_with("patch_embed.") => patch("embeddings.patch_embeddings."),
            (Naming::OpenClip, _) if name.starts_with("patch_embed.") => patch("conv1."),
            (Naming::HfVit, _) => name.replacen("norm.", "layernorm.", 1),
            (Naming::HfClip, _) => replaced(name, &[("norm_pre.", "pre_layrnorm."), ("norm.", "post_layernorm.")]),
            (Naming::OpenClip, _) => replaced(name, &[("norm_pre.", "ln_pre."), ("norm.", "ln_post.")]),
            (Naming::TimmDinov3, "register_tokens") => "reg_token".into(),
            (Naming::HfDinov3 | Naming::Timm | Naming::TimmDinov3, _) => name.to_owned(),
        })
    }
}

/// The text with the first of the beginnings that fits replaced.
fn replaced(text: &str, beginnings: &[(&str, &str)]) -> String {
    let fits = beginnings.iter().find_map(|(from, to)| text.strip_prefix(from).map(|rest| format!("{to}{rest}")));
    fits.unwrap_or_else(|| text.to_owned())
}

/// What a checkpoint holds: its architecture, and where each parameter is.
pub(super) struct Plan {
    pub(super) config: VitConfig,
    /// The family's colour normalisation, where no file states one.
    pub(super) normalization: Normalization,
    found: Found,
    wanted: Vec<Wanted>,
}

impl Plan {
    pub(super) fn new(family: Family, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        let (naming, mut found) = find(family, checkpoint)?;
        // The head of BiomedCLIP stands beside its trunk.
        let head = match (family, naming) {
            (Family::Clip, Naming::Timm) => take_head(checkpoint, &mut found),
            _ => None,
        };
        let blocks = naming.blocks(&found);
        let tensors = Shapes { checkpoint, found: &found, naming, blocks };
        let mut config = tensors.read(family)?;
        config.projection = head.as_ref().map(|h| h.rows);
        let mut biases = tensors.biases();
        let mut normalization = Normalization::IMAGENET;
        match naming {
            Naming::HfVit => {
                if let Some(json) = checkpoint.config() {
                    apply_hf_vit(json, &mut config)?;
                    biases = [config.qkv_bias; 3];
                }
            }
            Naming::HfClip => {
                normalization = Normalization::CLIP;
                let json = checkpoint.config().ok_or_else(|| needs_config(checkpoint, "activation", "config.json"))?;
                apply_hf_clip(json, &mut config)?;
            }
            Naming::HfDinov3 => {
                if let Some(json) = checkpoint.config() {
                    biases = apply_hf_dinov3(json, &mut config)?;
                }
            }
            Naming::OpenClip => {
                normalization = Normalization::CLIP;
                let missing = || needs_config(checkpoint, "activation", "open_clip_config.json");
                apply_open_clip(checkpoint.open_clip().ok_or_else(missing)?, &mut config)?;
            }
            Naming::Timm if family == Family::Clip => {
                normalization = Normalization::CLIP;
                if let Some(json) = checkpoint.open_clip() {
                    apply_open_clip_timm(json)?;
                }
            }
            Naming::Timm | Naming::TimmDinov3 => {
                if naming == Naming::Timm {
                    normalization = Normalization::HALF;
                }
                let args = checkpoint.config().and_then(|json| json.section("model_args"));
                if let Some(args) = args.filter(|a| !a.get("num_heads").is_null()) {
                    config.heads = args.heads("num_heads", 0, config.embed_dim)?;
                }
            }
        }
        config.heads = architecture::heads(checkpoint.path(), options, config.heads, config.embed_dim)?;
        if let (Some(how), Positions::Table(_)) = (options.positions, config.positions) {
            config.positions = Positions::Table(how);
        }
        config.check()?;
        let wanted = |(name, shape): (String, Vec<usize>)| Wanted {
            place: match name.as_str() {
                "head.proj.weight" => Place::One(HEAD.to_owned()),
                _ => naming.place(&name, &shape, blocks, biases),
            },
            optional: name == "mask_token",
            name,
            shape,
        };
        let wanted = config.parameters().into_iter().map(wanted).collect();
        Ok(Plan { config, normalization, found, wanted })
    }

    pub(super) fn read(
        &self,
        checkpoint: &Checkpoint,
        options: &LoadOptions,
    ) -> Result<(BTreeMap<String, Tensor>, LoadReport)> {
        read_strict(&checkpoint.file, &self.found, self.wanted.clone(), options)
    }
}

/// Looks for an image encoder among the names of a file.
fn find(family: Family, checkpoint: &Checkpoint) -> Result<(Naming, Found)> {
    let file = &checkpoint.file;
    let mut best: Option<(usize, Naming, &str)> = None;
    for (naming, anchor) in Naming::ANCHORS {
        for name in file.names() {
            let Some(prefix) = name.strip_suffix(anchor).filter(|p| p.is_empty() || p.ends_with('.')) else { continue };
            // A text tower or a decoder has no patches; of several, the one nearest to the root.
            if best.is_none_or(|(len, ..)| prefix.len() < len) {
                best = Some((prefix.len(), naming, prefix));
            }
        }
    }
    let Some((_, mut naming, prefix)) = best else {
        let examples = file.names().take(3).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let path = checkpoint.path().to_owned();
        return Err(Error::UnknownLayout { path, n_tensors: file.names().count(), examples });
    };
    if family == Family::Dinov3 && naming == Naming::Timm {
        naming = Naming::TimmDinov3;
    }
    let outside = |rest: &str| match naming {
        Naming::HfVit => is_outside(rest) || rest == "embeddings.mask_token",
        Naming::HfClip => rest == "embeddings.position_ids",
        Naming::HfDinov3 | Naming::Timm | Naming::TimmDinov3 => is_outside(rest),
        // The map into the space shared with text, which the study leaves out as transformers does.
        Naming::OpenClip => rest == "proj",
    };
    let mut found = Found::under(file, naming.layout(), prefix, &outside);
    if naming == Naming::HfVit {
        found.names = found.names.into_iter().map(|(name, in_file)| (as_saved(&name).into_owned(), in_file)).collect();
    }
    Ok((naming, found))
}

/// The name of BiomedCLIP's projection among those of its trunk.
const HEAD: &str = "head.proj.weight";

struct Head {
    rows: usize,
}

/// Moves the projection beside a trunk from the ignored names to those that must be used.
fn take_head(checkpoint: &Checkpoint, found: &mut Found) -> Option<Head> {
    let outer = found.prefix.strip_suffix("trunk.")?.to_owned();
    let head = format!("{outer}head.");
    for name in checkpoint.file.names().filter(|n| n.starts_with(&head)) {
        found.ignored.retain(|ignored| ignored != name);
        found.names.insert(name.strip_prefix(&outer).unwrap_or(name).to_owned(), name.to_owned());
    }
    let rows = *checkpoint.file.shape(found.name(HEAD)?)?.first()?;
    Some(Head { rows })
}

/// Sizes as the shapes of the tensors tell them.
struct Shapes<'a> {
    checkpoint: &'a Checkpoint,
    found: &'a Found,
    naming: Naming,
    blocks: &'static str,
}

impl Shapes<'_> {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.found.name(name).and_then(|n| self.checkpoint.file.shape(n))
    }

    /// The name in the file of a parameter within a block, or outside of them; the first of three.
    fn name(&self, parameter: &str) -> String {
        match self.naming.place(parameter, &[0; 4], self.blocks, [true; 3]) {
            Place::One(name) | Place::Reshaped(name, _) | Place::PatchesOnly(name) => name,
            Place::Stacked(names) => names.into_iter().flatten().next().unwrap_or_default(),
        }
    }

    fn read(&self, family: Family) -> Result<VitConfig> {
        let bad = |parameter: &str, reason: String| {
            let tensor = self.name(parameter);
            let tensor = self.found.name(&tensor).map_or(tensor.clone(), str::to_owned);
            Error::BadTensor { path: self.checkpoint.path().to_owned(), tensor, reason }
        };
        let shape = |parameter: &str| self.shape(&self.name(parameter));
        let patch = "patch_embed.proj.weight";
        let (embed_dim, side) = match shape(patch) {
            Some([dim, 3, p, q]) if p == q && *p > 0 => (*dim, *p),
            other => {
                let got = other.unwrap_or(&[]);
                return Err(bad(patch, format!("has shape {got:?}, expected [dim, 3, patch, patch]")));
            }
        };
        let index = |name: &str| name.strip_prefix(self.blocks)?.split('.').next()?.parse::<usize>().ok();
        let depth = self.found.names.keys().filter_map(|n| index(n)).max().map_or(0, |i| i.saturating_add(1));
        if depth > MAX_BLOCKS {
            return Err(bad(&format!("blocks.{}.norm1.weight", depth - 1), "is a block beyond reason".into()));
        }
        let rows = shape("pos_embed").map(|s| s.iter().rev().nth(1).copied().unwrap_or(0));
        let grid = match rows {
            None => 14,
            Some(rows) if rows > 1 && (rows - 1).isqrt().pow(2) == rows - 1 => (rows - 1).isqrt(),
            Some(rows) => {
                return Err(bad("pos_embed", format!("has {rows} rows, expected a square grid and a class token")));
            }
        };
        let there = |parameter: &str| self.found.name(&self.name(parameter)).is_some();
        let rotary = matches!(self.naming, Naming::HfDinov3 | Naming::TimmDinov3);
        let gated = rotary && shape("blocks.0.mlp.w12.weight").is_some();
        let down = if gated { "blocks.0.mlp.w3.weight" } else { "blocks.0.mlp.fc2.weight" };
        let pre_norm = matches!(self.naming, Naming::HfClip | Naming::OpenClip);
        Ok(VitConfig {
            family,
            hidden: shape(down).and_then(|s| s.get(1)).copied().unwrap_or(embed_dim.saturating_mul(4)),
            heads: 0,
            registers: shape("register_tokens").and_then(|s| s.get(1)).copied().unwrap_or(0),
            feed_forward: if gated { FeedForward::SwiGlu } else { FeedForward::Mlp },
            qkv_bias: self.biases().contains(&true),
            proj_bias: there("blocks.0.attn.proj.bias") || !rotary,
            mlp_bias: there("blocks.0.mlp.fc2.bias") || !rotary,
            patch_bias: !pre_norm,
            layer_scale: rotary || there("blocks.0.ls1.gamma"),
            pre_norm,
            eps: match self.naming {
                Naming::HfVit => 1e-12,
                Naming::Timm => 1e-6,
                Naming::HfClip | Naming::OpenClip | Naming::HfDinov3 | Naming::TimmDinov3 => 1e-5,
            },
            positions: match self.naming {
                Naming::HfDinov3 | Naming::TimmDinov3 => Positions::Rotary { theta: 100.0 },
                Naming::HfVit | Naming::HfClip => Positions::Table(PositionResampling::EXACT),
                Naming::OpenClip | Naming::Timm => Positions::Table(PositionResampling::ANTIALIASED),
            },
            ..VitConfig::plain(embed_dim, depth.max(1), 0, side, grid)
        })
    }

    /// Which of queries, keys and values have a bias in the first block.
    fn biases(&self) -> [bool; 3] {
        match self.naming.place("blocks.0.attn.qkv.bias", &[0], self.blocks, [true; 3]) {
            Place::Stacked(names) => {
                let there = |i: usize| names.get(i).and_then(|n| self.found.name(n.as_ref()?)).is_some();
                [there(0), there(1), there(2)]
            }
            Place::One(name) => [self.found.name(&name).is_some(); 3],
            _ => [true; 3],
        }
    }
}

fn needs_config(checkpoint: &Checkpoint, what: &'static str, file: &'static str) -> Error {
    Error::NeedsConfig { path: checkpoint.path().to_owned(), what, file }
}

/// What `transformers` states of every vision transformer. Absent fields have its defaults.
fn apply_sizes(json: &Json, config: &mut VitConfig, patch: usize, dim: usize, eps: f64) -> Result<()> {
    json.must_be("num_channels", json.whole("num_channels", 3)?, 3)?;
    config.embed_dim = json.whole("hidden_size", dim)?;
    config.hidden = json.whole("intermediate_size", dim.saturating_mul(4))?;
    config.depth = json.depth("num_hidden_layers", 12)?;
    config.heads = json.heads("num_attention_heads", dim / 64, config.embed_dim)?;
    config.eps = json.eps("layer_norm_eps", eps)?;
    config.patch = json.whole("patch_size", patch)?;
    let size = json.side("image_size", 224)?;
    if config.patch == 0 || size < config.patch {
        return Err(json.error("patch_size", "a positive number, at most image_size"));
    }
    config.grid = size / config.patch;
    Ok(())
}

fn must_act(json: &Json, default: &str, known: &[(&str, Activation)]) -> Result<Activation> {
    let name = if json.get("hidden_act").is_null() { default } else { json.text("hidden_act").unwrap_or_default() };
    let found = known.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation);
    let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
    found.ok_or_else(|| json.error("hidden_act", names()))
}

fn apply_hf_vit(json: &Json, config: &mut VitConfig) -> Result<()> {
    let eps = match json.text("model_type") {
        Some("vit" | "vit_mae") => 1e-12,
        Some("vit_msn") => 1e-6,
        _ => return Err(json.error("model_type", "vit, vit_mae or vit_msn, as the tensors are")),
    };
    apply_sizes(json, config, 16, 768, eps)?;
    config.activation = must_act(json, "gelu", &[("gelu", Activation::Gelu)])?;
    config.qkv_bias = json.flag("qkv_bias", true)?;
    Ok(())
}

fn apply_hf_clip(json: &Json, config: &mut VitConfig) -> Result<()> {
    let section = json.section("vision_config");
    let json = match json.text("model_type") {
        Some("clip") => section.as_ref().ok_or_else(|| json.error("vision_config", "the image encoder's sizes"))?,
        Some("clip_vision_model") => json,
        _ => return Err(json.error("model_type", "clip or clip_vision_model, as the tensors are")),
    };
    apply_sizes(json, config, 32, 768, 1e-5)?;
    let known = [("quick_gelu", Activation::QuickGelu), ("gelu", Activation::Gelu)];
    config.activation = must_act(json, "quick_gelu", &known)?;
    Ok(())
}

/// Returns which of queries, keys and values have a bias.
fn apply_hf_dinov3(json: &Json, config: &mut VitConfig) -> Result<[bool; 3]> {
    if json.text("model_type") != Some("dinov3_vit") {
        return Err(json.error("model_type", "dinov3_vit, as the tensors are"));
    }
    apply_sizes(json, config, 16, 384, 1e-5)?;
    config.registers = json.whole("num_register_tokens", 0)?;
    config.proj_bias = json.flag("proj_bias", true)?;
    config.mlp_bias = json.flag("mlp_bias", true)?;
    config.feed_forward = match json.flag("use_gated_mlp", false)? {
        true if json.text("hidden_act") == Some("silu") => FeedForward::SwiGlu,
        true => return Err(json.error("hidden_act", "silu, with use_gated_mlp")),
        false => {
            must_act(json, "gelu", &[("gelu", Activation::Gelu)])?;
            FeedForward::Mlp
        }
    };
    // transformers 5 writes the base into a section of its own.
    let theta = match json.section("rope_parameters") {
        Some(section) if !section.get("rope_theta").is_null() => section.real("rope_theta", 100.0)?,
        _ => json.real("rope_theta", 100.0)?,
    };
    config.positions = Positions::Rotary { theta };
    let biases = [json.flag("query_bias", true)?, json.flag("key_bias", false)?, json.flag("value_bias", true)?];
    config.qkv_bias = biases.contains(&true);
    Ok(biases)
}

/// The two sections of `open_clip_config.json` that concern the image encoder.
fn open_clip_sections(json: &Json) -> Result<(Json, Json)> {
    let model = json.section("model_cfg").ok_or_else(|| json.error("model_cfg", "the model's configuration"))?;
    let vision = model.section("vision_cfg").ok_or_else(|| model.error("vision_cfg", "the image encoder's sizes"))?;
    Ok((model, vision))
}

fn apply_open_clip(json: &Json, config: &mut VitConfig) -> Result<()> {
    let (model, vision) = open_clip_sections(json)?;
    if !vision.get("timm_model_name").is_null() {
        return Err(vision.error("timm_model_name", "none, as the tensors are open_clip's own"));
    }
    config.embed_dim = vision.whole("width", 768)?;
    config.depth = vision.depth("layers", 12)?;
    config.patch = vision.whole("patch_size", 16)?;
    let size = vision.side("image_size", 224)?;
    if config.patch == 0 || size < config.patch {
        return Err(vision.error("patch_size", "a positive number, at most image_size"));
    }
    config.grid = size / config.patch;
    let head = vision.whole("head_width", 64)?;
    if head == 0 || !config.embed_dim.is_multiple_of(head) {
        return Err(vision.error("head_width", format!("a divisor of the width {}", config.embed_dim)));
    }
    config.heads = config.embed_dim / head;
    config.hidden = (config.embed_dim as f64 * vision.real("mlp_ratio", 4.0)?) as usize;
    config.layer_scale = !vision.get("ls_init_value").is_null();
    config.activation = if model.flag("quick_gelu", false)? { Activation::QuickGelu } else { Activation::Gelu };
    Ok(())
}

/// Checks what the class token's way out of a timm trunk depends on; sizes are in the tensors.
fn apply_open_clip_timm(json: &Json) -> Result<()> {
    let (_, vision) = open_clip_sections(json)?;
    // Without pooling open_clip's head takes the class token.
    if !matches!(vision.text("timm_pool"), Some("" | "token")) {
        return Err(vision.error("timm_pool", "empty or \"token\""));
    }
    // Without a projection of its own, the trunk's classifier stands in for one.
    if !matches!(vision.text("timm_proj"), Some("linear" | "none")) {
        return Err(vision.error("timm_proj", "\"linear\" or \"none\""));
    }
    Ok(())
}
