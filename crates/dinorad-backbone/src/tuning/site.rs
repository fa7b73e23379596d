//! Where an adapter sits, and what each library calls the place.

use std::ops::Range;

/// The part of a fused map that an adapter serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// All outputs.
    Whole,
    /// Queries of `attn.qkv`.
    Query,
    /// Its keys.
    Key,
    /// Its values.
    Value,
    /// The gate of `mlp.w12`.
    Gate,
    /// What the gate acts on.
    Up,
}

impl Part {
    const ALL: [Part; 6] = [Part::Whole, Part::Query, Part::Key, Part::Value, Part::Gate, Part::Up];

    /// Its name among the adapters of a map.
    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Whole => "",
            Part::Query => "q",
            Part::Key => "k",
            Part::Value => "v",
            Part::Gate => "gate",
            Part::Up => "up",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Its outputs among the `out` of the map.
    pub(super) fn outputs(self, out: usize) -> Range<usize> {
        let nth = |i: usize, of: usize| i * (out / of)..(i + 1) * (out / of);
        match self {
            Part::Whole => 0..out,
            Part::Query => nth(0, 3),
            Part::Key => nth(1, 3),
            Part::Value => nth(2, 3),
            Part::Gate => nth(0, 2),
            Part::Up => nth(1, 2),
        }
    }
}

/// A map of a block, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Site {
    /// The block.
    pub(super) block: usize,
    /// The map within it: `attn.qkv`, `attn.proj`, `mlp.fc1`, `mlp.fc2`, `mlp.w12`, `mlp.w3`.
    pub(super) map: &'static str,
    pub(super) part: Part,
}

/// The maps of blocks.
const MAPS: [&str; 8] = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "mlp.w12", "mlp.w3", "mlp.lin1", "mlp.lin2"];

/// What stands before the number of a block in each library's names.
const BLOCKS: [&str; 6] = ["encoder.layer.", "encoder.layers.", "model.layer.", "blocks.", "layers.", "layer."];

/// Names of maps within a block, of transformers 4 and 5 and of timm; those whose meaning depends on
/// whether the feed-forward network is gated stand last.
const NAMES: [(&str, &str, Part); 22] = [
    ("attention.q_proj", "attn.qkv", Part::Query),
    ("attention.k_proj", "attn.qkv", Part::Key),
    ("attention.v_proj", "attn.qkv", Part::Value),
    ("attention.o_proj", "attn.proj", Part::Whole),
    ("attention.attention.query", "attn.qkv", Part::Query),
    ("attention.attention.key", "attn.qkv", Part::Key),
    ("attention.attention.value", "attn.qkv", Part::Value),
    ("attention.output.dense", "attn.proj", Part::Whole),
    ("self_attn.q_proj", "attn.qkv", Part::Query),
    ("self_attn.k_proj", "attn.qkv", Part::Key),
    ("self_attn.v_proj", "attn.qkv", Part::Value),
    ("self_attn.out_proj", "attn.proj", Part::Whole),
    ("attn.qkv", "attn.qkv", Part::Whole),
    ("attn.proj", "attn.proj", Part::Whole),
    ("mlp.fc1", "mlp.fc1", Part::Whole),
    ("mlp.fc2", "mlp.fc2", Part::Whole),
    ("intermediate.dense", "mlp.fc1", Part::Whole),
    ("output.dense", "mlp.fc2", Part::Whole),
    ("mlp.weights_in", "mlp.w12", Part::Whole),
    ("mlp.weights_out", "mlp.w3", Part::Whole),
    ("mlp.w12", "mlp.w12", Part::Whole),
    ("mlp.w3", "mlp.w3", Part::Whole),
];

/// Names of a block that depend on whether its feed-forward network is gated: plain, then gated.
const GATED: [(&str, (&str, Part), (&str, Part)); 3] = [
    ("mlp.gate_proj", ("", Part::Whole), ("mlp.w12", Part::Gate)),
    ("mlp.up_proj", ("mlp.fc1", Part::Whole), ("mlp.w12", Part::Up)),
    ("mlp.down_proj", ("mlp.fc2", Part::Whole), ("mlp.w3", Part::Whole)),
];

/// Splits `prefix.blocks.3.rest` into the number of the block and the rest.
fn split_block(name: &str) -> Option<(usize, &str)> {
    BLOCKS.iter().find_map(|blocks| {
        let at = name.find(blocks).filter(|at| *at == 0 || name.as_bytes()[at - 1] == b'.')?;
        let (index, rest) = name[at + blocks.len()..].split_once('.')?;
        Some((index.parse().ok()?, rest))
    })
}

impl Site {
    /// The map of an encoder by our name of it: `blocks.3.attn.qkv`.
    pub(super) fn of_map(name: &str) -> Option<Self> {
        let (block, rest) = split_block(name)?;
        let map = MAPS.into_iter().find(|map| *map == rest)?;
        Some(Site { block, map, part: Part::Whole })
    }

    /// The place that any of the libraries names; `gated` says whether the encoder's feed-forward
    /// networks are.
    pub(super) fn parse(module: &str, gated: bool) -> Option<Self> {
        let (block, rest) = split_block(module)?;
        if let Some((_, map, part)) = NAMES.iter().find(|(name, ..)| *name == rest) {
            return Some(Site { block, map, part: *part });
        }
        let (_, plain, of_gate) = GATED.iter().find(|(name, ..)| *name == rest)?;
        let (map, part) = if gated { *of_gate } else { *plain };
        (!map.is_empty()).then_some(Site { block, map, part })
    }

    /// Our name of the map.
    pub(super) fn name(&self) -> String {
        format!("blocks.{}.{}", self.block, self.map)
    }

    /// What DINOv2 of transformers calls it: 4 or 5 (`new`).
    pub(super) fn in_transformers(&self, new: bool) -> String {
        let within = match (self.map, self.part, new) {
            ("attn.qkv", Part::Key, true) => "attention.k_proj",
            ("attn.qkv", Part::Value, true) => "attention.v_proj",
            ("attn.qkv", _, true) => "attention.q_proj",
            ("attn.qkv", Part::Key, false) => "attention.attention.key",
            ("attn.qkv", Part::Value, false) => "attention.attention.value",
            ("attn.qkv", _, false) => "attention.attention.query",
            ("attn.proj", _, true) => "attention.o_proj",
            ("attn.proj", _, false) => "attention.output.dense",
            ("mlp.w12", Part::Up, true) => "mlp.up_proj",
            ("mlp.w12", _, true) => "mlp.gate_proj",
            ("mlp.w12", _, false) => "mlp.weights_in",
            ("mlp.w3", _, true) => "mlp.down_proj",
            ("mlp.w3", _, false) => "mlp.weights_out",
            (map, ..) => map,
        };
        format!("encoder.layer.{}.{within}", self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_names_the_same_places() {
        let site = |block, map, part| Some(Site { block, map, part });
        for name in [
            "encoder.layer.3.attention.v_proj",
            "encoder.layer.3.attention.attention.value",
            "vision_model.encoder.layers.3.self_attn.v_proj",
            "layers.3.attention.v_proj",
            "model.layer.3.attention.v_proj",
        ] {
            assert_eq!(Site::parse(name, false), site(3, "attn.qkv", Part::Value), "{name}");
        }
        assert_eq!(Site::parse("blocks.11.attn.qkv", false), site(11, "attn.qkv", Part::Whole));
        assert_eq!(Site::parse("encoder.layer.0.output.dense", false), site(0, "mlp.fc2", Part::Whole));
        assert_eq!(Site::parse("layer.0.mlp.up_proj", false), site(0, "mlp.fc1", Part::Whole));
        assert_eq!(Site::parse("layer.0.mlp.up_proj", true), site(0, "mlp.w12", Part::Up));
        assert_eq!(Site::parse("layer.0.mlp.gate_proj", false), None);
        assert_eq!(Site::parse("layernorm", false), None);
        assert_eq!(Site::parse("encoder.layer.x.mlp.fc1", false), None);
    }

    #[test]
    fn names_of_transformers_come_back() {
        for (map, part, gated) in [
            ("attn.qkv", Part::Query, false),
            ("attn.qkv", Part::Key, false),
            ("attn.qkv", Part::Value, false),
            ("attn.proj", Part::Whole, false),
            ("mlp.fc1", Part::Whole, false),
            ("mlp.w3", Part::Whole, true),
        ] {
            let site = Site { block: 7, map, part };
            for new in [false, true] {
                assert_eq!(Site::parse(&site.in_transformers(new), gated).as_ref(), Some(&site));
            }
        }
        assert_eq!(Part::Value.outputs(12), 8..12);
        assert_eq!(Part::named("up"), Some(Part::Up));
    }
}
