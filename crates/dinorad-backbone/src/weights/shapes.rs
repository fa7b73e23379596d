//! The architecture as the shapes of the tensors tell it.

use std::collections::BTreeMap;

use super::{
    file::WeightFile,
    layout::{Found, Layout},
};
use crate::{Dinov2Config, Error, FeedForward, PositionResampling, Result};

/// An architecture read from shapes; the number of heads is still open.
pub(crate) struct Shapes {
    pub(crate) config: Dinov2Config,
    /// Whether the position table has a row for the class token.
    pub(crate) class_row: bool,
}

/// More blocks than any encoder has.
const MAX_BLOCKS: usize = 1 << 10;

pub(crate) fn read(file: &WeightFile, found: &Found) -> Result<Shapes> {
    let hf = found.layout == Layout::HuggingFace;
    let shape = |name: &str| found.name(name).and_then(|n| file.shape(n));
    let bad = |name: &str, reason: String| Error::BadTensor {
        path: file.path().to_owned(),
        tensor: found.name(name).unwrap_or(name).to_owned(),
        reason,
    };
    let (blocks, tokens) = if hf { ("encoder.layer.", "embeddings.") } else { ("blocks.", "") };
    let (patch_name, positions_name) = match hf {
        true => ("embeddings.patch_embeddings.projection.weight", "embeddings.position_embeddings"),
        false => ("patch_embed.proj.weight", "pos_embed"),
    };
    let index = |name: &str| name.strip_prefix(blocks)?.split('.').next()?.parse::<usize>().ok();
    let depth = found.names.keys().filter_map(|n| index(n)).max().map_or(0, |i| i.saturating_add(1));
    if depth > MAX_BLOCKS {
        return Err(bad(&format!("{blocks}{}", depth - 1), "is a block beyond reason".into()));
    }

    // One damaged tensor must not set the width for all the others: most of them do.
    let in_blocks = |suffix: &str, axis: usize| {
        let names: Vec<String> = (0..depth).map(|i| format!("{blocks}{i}.{suffix}")).collect();
        names.iter().filter_map(|n| shape(n).and_then(|s| s.get(axis)).copied()).collect::<Vec<_>>()
    };
    let [norms, mut others] = [in_blocks("norm1.weight", 0), in_blocks("norm2.weight", 0)];
    others.extend(norms);
    others.extend(shape(patch_name).and_then(|s| s.first()).copied());
    others.extend(shape(&format!("{tokens}cls_token")).and_then(|s| s.last()).copied());
    let embed_dim = most_common(others).ok_or_else(|| bad(patch_name, "has no shape to read a width from".into()))?;

    let (up, down) = match hf {
        true => ("mlp.weights_in.weight", "mlp.weights_out.weight"),
        false => ("mlp.w12.weight", "mlp.w3.weight"),
    };
    let gates = if hf { in_blocks("mlp.gate_proj.weight", 0) } else { Vec::new() };
    let (mut feed_forward, mut hidden) =
        (FeedForward::SwiGlu, most_common([in_blocks(down, 1), halves(in_blocks(up, 0)), gates].concat()));
    if hidden.is_none() {
        (feed_forward, hidden) =
            (FeedForward::Mlp, most_common([in_blocks("mlp.fc2.weight", 1), in_blocks("mlp.fc1.weight", 0)].concat()));
        // timm packs gate and value into fc1: twice as many rows as fc2 has columns.
        let (rows, cols) = (most_common(in_blocks("mlp.fc1.weight", 0)), most_common(in_blocks("mlp.fc2.weight", 1)));
        if let (Some(rows), Some(cols)) = (rows, cols)
            && found.layout == Layout::Timm
            && cols.checked_mul(2) == Some(rows)
        {
            (feed_forward, hidden) = (FeedForward::SwiGlu, Some(cols));
        }
    }

    let patch = match shape(patch_name) {
        Some([_, 3, p, q]) if p == q && *p > 0 => *p,
        other => {
            return Err(bad(
                patch_name,
                format!("has shape {:?}, expected [dim, 3, patch, patch]", other.unwrap_or(&[])),
            ));
        }
    };
    // Without a table the native grid is unknown; the strict check then reports it as missing.
    let rows = shape(positions_name).map(|s| s.get(1).copied().unwrap_or(0));
    let (grid, class_row) = match rows {
        None => (37, true),
        Some(rows) if is_square(rows.saturating_sub(1)) && rows > 1 => ((rows - 1).isqrt(), true),
        Some(rows) if found.layout == Layout::Timm && is_square(rows) && rows > 0 => (rows.isqrt(), false),
        Some(rows) => {
            return Err(bad(positions_name, format!("has {rows} rows, expected a square grid and a class token")));
        }
    };
    let registers = match found.layout {
        Layout::Timm => shape("reg_token"),
        _ => shape(&format!("{tokens}register_tokens")),
    };
    let registers = registers.map_or(0, |s| s.get(1).copied().unwrap_or(0));
    let positions = match (found.layout, registers) {
        (Layout::Timm, _) | (_, 1..) => PositionResampling::ANTIALIASED,
        (Layout::HuggingFace, 0) => PositionResampling::EXACT,
        (Layout::Official | Layout::OpenClip | Layout::Torchvision, 0) => PositionResampling::OFFICIAL,
    };
    let any = |part: &str| found.names.keys().any(|n| n.contains(part));
    let config = Dinov2Config {
        embed_dim,
        depth: depth.max(1),
        heads: 0,
        patch,
        grid,
        registers,
        feed_forward,
        // Sizes beyond reason are refused by the configuration's own check, which comes later.
        hidden: hidden.unwrap_or(embed_dim.saturating_mul(4)),
        qkv_bias: any(".attn.qkv.bias") || any(".attention.attention.query.bias"),
        // timm names without gains are those of any other vision transformer: report them missing.
        layer_scale: any(".ls1.gamma") || any(".layer_scale1.lambda1") || found.layout != Layout::Official,
        eps: 1e-6,
        positions,
        layer_scale_init: 1e-5,
    };
    Ok(Shapes { config, class_row })
}

fn is_square(n: usize) -> bool {
    n.isqrt().pow(2) == n
}

fn halves(values: Vec<usize>) -> Vec<usize> {
    values.into_iter().map(|v| v / 2).collect()
}

fn most_common(values: Vec<usize>) -> Option<usize> {
    let mut counts = BTreeMap::new();
    for v in values {
        *counts.entry(v).or_insert(0usize) += 1;
    }
    counts.into_iter().max_by_key(|(_, n)| *n).map(|(v, _)| v)
}
