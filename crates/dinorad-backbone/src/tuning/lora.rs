//! Low-rank adapters, as they are asked for.

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};
use dinorad_nn::{LowRank, init};
use serde::{Deserialize, Serialize};

use super::{
    TrainableBackbone,
    site::{Part, Site},
};
use crate::{Error, Result, architecture::refuse};

/// Which biases train beside the adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Biases {
    /// None.
    #[default]
    None,
    /// Those of the maps that have an adapter.
    LoraOnly,
    /// All of the encoder.
    All,
}

impl Biases {
    /// PEFT's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Biases::None => "none",
            Biases::LoraOnly => "lora_only",
            Biases::All => "all",
        }
    }
}

/// The maps that get an adapter in every block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoraTargets(pub Vec<String>);

impl Default for LoraTargets {
    /// Queries and values, as in the paper.
    fn default() -> Self {
        LoraTargets(vec!["q".into(), "v".into()])
    }
}

impl LoraTargets {
    /// The words that [`LoraTargets`] knows: ours, those of timm and of transformers 4 and 5.
    pub const WORDS: &'static str =
        "q, k, v, qkv, proj, fc1, fc2, w12, w3, all-linear, or a module's name (q_proj, query, dense …)";

    /// The parts of a map that get an adapter each.
    fn parts(&self, map: &str) -> Vec<Part> {
        let wants = |words: &[&str]| self.0.iter().any(|target| words.contains(&target.as_str()));
        let all = wants(&["all-linear"]);
        match map {
            "attn.qkv" if wants(&["qkv", "attn.qkv"]) => vec![Part::Whole],
            "attn.qkv" => [
                (Part::Query, ["q", "q_proj", "query"]),
                (Part::Key, ["k", "k_proj", "key"]),
                (Part::Value, ["v", "v_proj", "value"]),
            ]
            .into_iter()
            .filter(|(_, words)| all || wants(words))
            .map(|(part, _)| part)
            .collect(),
            "attn.proj" if all || wants(&["proj", "attn.proj", "o", "o_proj", "dense"]) => vec![Part::Whole],
            "mlp.fc1" | "mlp.lin1" if all || wants(&["fc1", "lin1", "mlp.fc1"]) => vec![Part::Whole],
            "mlp.fc2" | "mlp.lin2" if all || wants(&["fc2", "lin2", "mlp.fc2"]) => vec![Part::Whole],
            "mlp.w12" if all || wants(&["w12", "fc1", "weights_in"]) => vec![Part::Whole],
            "mlp.w3" if all || wants(&["w3", "fc2", "weights_out"]) => vec![Part::Whole],
            _ => Vec::new(),
        }
    }
}

/// Low-rank adapters for an encoder.
///
/// # Source
/// Hu et al. 2021, LoRA, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rank-stabilised).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank.
    pub rank: usize,
    /// The update counts `alpha / rank`.
    pub alpha: f64,
    /// Dropout before the adapters, in training.
    pub dropout: f64,
    /// The maps that get one.
    pub targets: LoraTargets,
    /// The biases that train beside them.
    pub bias: Biases,
    /// Whether the update counts `alpha / √rank` instead.
    pub rslora: bool,
    /// Blocks that get one, by index; all by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<usize>>,
    /// Ranks of maps whose name ends so: `mlp.fc1`, `blocks.0.attn.qkv`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rank_pattern: BTreeMap<String, usize>,
    /// The same for alpha.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alpha_pattern: BTreeMap<String, f64>,
}

impl Default for Lora {
    /// Rank 8, alpha 16, no dropout, queries and values of every block.
    fn default() -> Self {
        Lora {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: LoraTargets::default(),
            bias: Biases::None,
            rslora: false,
            blocks: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}

/// The value of the first pattern that a name ends with, at a dot.
fn by_pattern<T: Copy>(patterns: &BTreeMap<String, T>, name: &str) -> Option<T> {
    let fits = |key: &str| name.strip_suffix(key).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    patterns.iter().find(|(key, _)| fits(key)).map(|(_, value)| *value)
}

impl Lora {
    /// What an update of this rank counts.
    pub(super) fn scale(alpha: f64, rank: usize, rslora: bool) -> f64 {
        let rank = rank.max(1) as f64;
        if rslora { alpha / rank.sqrt() } else { alpha / rank }
    }

    /// # Errors
    /// [`Error::Architecture`] for a rank of 0, an alpha that is no positive number, a dropout outside
    /// of 0..1.
    pub fn check(&self) -> Result<()> {
        let ranks = self.rank_pattern.values().chain([&self.rank]);
        if let Some(rank) = ranks.into_iter().find(|r| **r == 0) {
            return refuse("rank", rank, "at least 1");
        }
        let mut alphas = self.alpha_pattern.values().chain([&self.alpha]);
        if let Some(alpha) = alphas.find(|a| !(a.is_finite() && **a > 0.0)) {
            return refuse("alpha", alpha, "above 0");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout", &self.dropout, "0 <= dropout < 1");
        }
        Ok(())
    }

    /// Whether a bias trains.
    pub(super) fn trains_bias(&self, name: &str) -> bool {
        let Some(map) = name.strip_suffix(".bias") else { return false };
        match self.bias {
            Biases::None => false,
            Biases::All => true,
            Biases::LoraOnly => Site::of_map(map).is_some_and(|site| self.reaches(&site)),
        }
    }

    fn reaches(&self, site: &Site) -> bool {
        let block = self.blocks.as_ref().is_none_or(|blocks| blocks.contains(&site.block));
        block && !self.targets.parts(site.map).is_empty()
    }
}

/// Puts fresh adapters into an encoder, in place of those it has: `A` uniform within ±1/√inputs, `B` zero,
/// so that nothing changes at first. Nothing is made trainable yet; see [`Scope`](super::Scope).
///
/// # Errors
/// As [`Lora::check`]; [`Error::Architecture`] if no map of the encoder is among the targets.
///
/// # Source
/// Initial values as PEFT's.
pub fn add_lora(encoder: &mut dyn TrainableBackbone, lora: &Lora, seed: u64) -> Result<()> {
    lora.check()?;
    let mut adapted = 0;
    encoder.visit_maps("", &mut |name, map| {
        let Some(site) = Site::of_map(name).filter(|site| lora.reaches(site)) else { return Ok(()) };
        let (out, input) = map.weight().dims2()?;
        let (dtype, device) = (map.weight().dtype(), map.weight().device().clone());
        let rank = by_pattern(&lora.rank_pattern, name).unwrap_or(lora.rank);
        let alpha = by_pattern(&lora.alpha_pattern, name).unwrap_or(lora.alpha);
        let mut adapters = Vec::new();
        for part in lora.targets.parts(site.map) {
            let outputs = part.outputs(out);
            let bound = 1.0 / (input as f64).sqrt();
            let name = format!("{name}.{}.lora_A", part.name());
            let a = init::uniform(seed, &name, (rank, input), bound, &Device::Cpu)?;
            let a = a.to_device(&device)?.to_dtype(dtype)?;
            let b = Tensor::zeros((outputs.len(), rank), DType::F32, &device)?.to_dtype(dtype)?;
            let fresh = LowRank::new(a, b, Lora::scale(alpha, rank, lora.rslora));
            adapters.push(fresh.for_outputs(part.name(), outputs.start).with_dropout(lora.dropout)?);
        }
        adapted += adapters.len();
        map.set_adapters(adapters)
    })?;
    if adapted == 0 {
        let value = lora.targets.0.join(", ");
        return Err(Error::Architecture { field: "targets", value, expected: LoraTargets::WORDS });
    }
    Ok(())
}
