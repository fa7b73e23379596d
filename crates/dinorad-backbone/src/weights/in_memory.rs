//! Names that a model has in memory and its saved files do not: a `state_dict` keeps them.

use std::borrow::Cow;

use super::layout::{Found, Place};

/// What PyTorch puts around a module that it compiles, checkpoints or shards.
const WRAPPERS: [&str; 4] = ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module"];

/// A name without the wrappers within it.
pub(super) fn without_wrappers(name: String) -> String {
    if !WRAPPERS.iter().any(|wrapper| name.contains(wrapper)) {
        return name;
    }
    name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".")
}

/// Beginnings within a block as transformers 5 names them in memory, and in its files: `conversion_mapping.py`
/// there. For the models whose patches are `embeddings.patch_embeddings.projection`: ViT, MSN, MAE, DINOv2.
const OF_BLOCKS: [(&str, &str); 5] = [
    ("attention.q_proj.", "attention.attention.query."),
    ("attention.k_proj.", "attention.attention.key."),
    ("attention.v_proj.", "attention.attention.value."),
    ("attention.o_proj.", "attention.output.dense."),
    ("mlp.down_proj.", "mlp.weights_out."),
];

/// The same of the plain vision transformer alone, which calls its blocks `layers`.
const OF_LAYERS: [(&str, &str); 2] = [("mlp.fc1.", "intermediate.dense."), ("mlp.fc2.", "output.dense.")];

/// The name in a saved file of a name without prefix, whether or not it is one of memory.
pub(crate) fn as_saved(name: &str) -> Cow<'_, str> {
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    let (rest, plain) = match (name.strip_prefix("encoder.layer."), name.strip_prefix("layers.")) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => return name.into(),
    };
    let Some((index, rest)) = rest.split_once('.').filter(|(index, _)| number(index)) else { return name.into() };
    let of_layers = if plain { OF_LAYERS.as_slice() } else { &[] };
    let saved = OF_BLOCKS.iter().chain(of_layers).find_map(|(memory, saved)| Some((rest.strip_prefix(memory)?, saved)));
    match saved {
        Some((rest, saved)) => format!("encoder.layer.{index}.{saved}{rest}").into(),
        None if plain => format!("encoder.layer.{index}.{rest}").into(),
        None => name.into(),
    }
}

/// The name that transformers 5 gives a saved DINOv2's parameter in memory: [`as_saved`] backwards.
pub(crate) fn in_memory(saved: &str) -> String {
    let Some((index, rest)) = saved.strip_prefix("encoder.layer.").and_then(|rest| rest.split_once('.')) else {
        return saved.to_owned();
    };
    let named = OF_BLOCKS.iter().find_map(|(memory, file)| Some(format!("{memory}{}", rest.strip_prefix(file)?)));
    format!("encoder.layer.{index}.{}", named.as_deref().unwrap_or(rest))
}

/// The gate and the value of a SwiGLU, which are two tensors in memory and one in a file.
pub(super) fn with_gate(place: Place, found: &Found) -> Place {
    match &place {
        Place::One(name) if found.name(name).is_none() => {
            let parts = ["gate_proj", "up_proj"].map(|part| name.replace("mlp.weights_in.", &format!("mlp.{part}.")));
            let there = parts[0] != *name && parts.iter().all(|part| found.name(part).is_some());
            if there { Place::Stacked(parts.map(Some).to_vec()) } else { place }
        }
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_memory_and_of_files() {
        for (memory, saved) in [
            ("encoder.layer.3.attention.q_proj.weight", "encoder.layer.3.attention.attention.query.weight"),
            ("encoder.layer.3.attention.o_proj.bias", "encoder.layer.3.attention.output.dense.bias"),
            ("encoder.layer.3.mlp.fc1.weight", "encoder.layer.3.mlp.fc1.weight"),
            ("encoder.layer.0.mlp.down_proj.weight", "encoder.layer.0.mlp.weights_out.weight"),
            ("layers.11.attention.v_proj.bias", "encoder.layer.11.attention.attention.value.bias"),
            ("layers.11.mlp.fc1.weight", "encoder.layer.11.intermediate.dense.weight"),
            ("layers.11.mlp.fc2.bias", "encoder.layer.11.output.dense.bias"),
            ("layers.11.layernorm_before.weight", "encoder.layer.11.layernorm_before.weight"),
            ("layers.x.mlp.fc1.weight", "layers.x.mlp.fc1.weight"),
            ("layernorm.weight", "layernorm.weight"),
        ] {
            assert_eq!(as_saved(memory), saved);
            assert_eq!(as_saved(saved), saved);
            if memory.starts_with("encoder.layer.") {
                assert_eq!(in_memory(saved), memory);
            }
        }
    }

    #[test]
    fn wrappers_anywhere() {
        let plain = |name: &str| without_wrappers(name.to_owned());
        assert_eq!(plain("_orig_mod.blocks.0.norm1.weight"), "blocks.0.norm1.weight");
        assert_eq!(plain("model.blocks.0._checkpoint_wrapped_module.norm1.weight"), "model.blocks.0.norm1.weight");
        assert_eq!(plain("my_orig_mod.weight"), "my_orig_mod.weight");
    }
}
