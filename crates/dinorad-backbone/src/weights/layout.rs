//! The namings of weights, recognised from the names themselves.

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};

use crate::{Dinov2Config, Error, FeedForward, Result};

use super::{file::WeightFile, in_memory::as_saved};

/// Who named the tensors of a weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// The authors' own: `facebookresearch/dinov2`, flat or with chunked blocks.
    Official,
    /// Hugging Face's `transformers`.
    HuggingFace,
    /// timm's.
    Timm,
    /// open_clip's, which are also those of OpenAI's CLIP.
    OpenClip,
    /// torchvision's.
    Torchvision,
}

impl Layout {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Official => "official",
            Layout::HuggingFace => "Hugging Face",
            Layout::Timm => "timm",
            Layout::OpenClip => "open_clip",
            Layout::Torchvision => "torchvision",
        }
    }
}

/// Where a parameter of the encoder is found in a layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    /// Under one name.
    One(String),
    /// Under one name, in another shape with the same elements.
    Reshaped(String, Vec<usize>),
    /// Under several names of one shape, to be stacked along the first axis; zeros where there is
    /// no name (queries, keys and values, of which some have no bias).
    Stacked(Vec<Option<String>>),
    /// A position table without a class row.
    PatchesOnly(String),
}

impl Place {
    /// Queries, keys and values under three names.
    pub(crate) fn three(names: [String; 3]) -> Self {
        Place::Stacked(names.into_iter().map(Some).collect())
    }

    /// The same with names looked up: `resolve` is told each name and the shape it needs when all
    /// together are to have `shape`.
    pub(crate) fn resolved(&self, shape: &[usize], resolve: &mut dyn FnMut(&String, Vec<usize>) -> String) -> Self {
        match self {
            Place::One(name) => Place::One(resolve(name, shape.to_vec())),
            Place::Reshaped(name, in_file) => Place::Reshaped(resolve(name, in_file.clone()), in_file.clone()),
            Place::Stacked(names) => {
                let part = Self::part(shape, names.len());
                Place::Stacked(names.iter().map(|n| n.as_ref().map(|n| resolve(n, part.clone()))).collect())
            }
            Place::PatchesOnly(name) => {
                let mut in_file = shape.to_vec();
                if let Some(rows) = in_file.get_mut(1) {
                    *rows = rows.saturating_sub(1);
                }
                Place::PatchesOnly(resolve(name, in_file))
            }
        }
    }

    /// The parameter of `shape`, from tensors that [`Place::resolved`] has checked.
    pub(crate) fn assembled(
        &self,
        shape: &[usize],
        dtype: DType,
        read: &dyn Fn(&String) -> Result<Tensor>,
    ) -> Result<Tensor> {
        Ok(match self {
            Place::One(name) => read(name)?,
            Place::Reshaped(name, _) => read(name)?.reshape(shape)?,
            Place::Stacked(names) => {
                let part = |name: &Option<String>| match name {
                    Some(name) => read(name),
                    None => Ok(Tensor::zeros(Self::part(shape, names.len()), dtype, &Device::Cpu)?),
                };
                Tensor::cat(&names.iter().map(part).collect::<Result<Vec<_>>>()?, 0)?
            }
            Place::PatchesOnly(name) => {
                // The class token already holds its position.
                let table = read(name)?;
                let zero = Tensor::zeros((1, 1, table.dim(2)?), table.dtype(), table.device())?;
                Tensor::cat(&[&zero, &table], 1)?
            }
        })
    }

    /// The shape of each of `n` tensors stacked.
    fn part(shape: &[usize], n: usize) -> Vec<usize> {
        let mut part = shape.to_vec();
        if let Some(rows) = part.first_mut() {
            *rows /= n.max(1);
        }
        part
    }
}

/// Where the parameter of an official name is found, without the file's prefix.
pub(crate) fn place(layout: Layout, official: &str, config: &Dinov2Config, class_row: bool) -> Place {
    let one = |name: String| Place::One(name);
    match layout {
        Layout::Official | Layout::OpenClip | Layout::Torchvision => one(official.to_owned()),
        Layout::Timm => match official {
            "register_tokens" => one("reg_token".into()),
            "pos_embed" if !class_row => Place::PatchesOnly("pos_embed".into()),
            _ if config.feed_forward == FeedForward::SwiGlu => {
                one(official.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."))
            }
            _ => one(official.to_owned()),
        },
        Layout::HuggingFace => {
            let Some((index, rest)) = official.strip_prefix("blocks.").and_then(|r| r.split_once('.')) else {
                return one(match official {
                    "pos_embed" => "embeddings.position_embeddings".into(),
                    "cls_token" | "mask_token" | "register_tokens" => format!("embeddings.{official}"),
                    _ => official
                        .replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
                        .replace("norm.", "layernorm."),
                });
            };
            let layer = format!("encoder.layer.{index}");
            if let Some(part) = rest.strip_prefix("attn.qkv.") {
                let name = |which: &str| format!("{layer}.attention.attention.{which}.{part}");
                return Place::three([name("query"), name("key"), name("value")]);
            }
            let rest = rest
                .replace("attn.proj.", "attention.output.dense.")
                .replace("ls1.gamma", "layer_scale1.lambda1")
                .replace("ls2.gamma", "layer_scale2.lambda1")
                .replace("mlp.w12.", "mlp.weights_in.")
                .replace("mlp.w3.", "mlp.weights_out.");
            one(format!("{layer}.{rest}"))
        }
    }
}

/// The encoder found in a file: its layout, prefix and names.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) layout: Layout,
    pub(crate) prefix: String,
    /// Name within the layout, chunks and prefix removed -> name in the file.
    pub(crate) names: BTreeMap<String, String>,
    /// Names outside of the encoder.
    pub(crate) ignored: Vec<String>,
}

const OFFICIAL_ANCHOR: &str = "patch_embed.proj.weight";
pub(super) const HF_ANCHOR: &str = "embeddings.patch_embeddings.projection.weight";

impl Found {
    /// Looks for an encoder among the names of a file.
    ///
    /// Of several (a teacher and its student), the teacher is taken.
    pub(crate) fn in_file(file: &WeightFile) -> Result<Self> {
        let candidates = file.names().filter_map(|name| {
            let (prefix, hf) = match name.strip_suffix(HF_ANCHOR) {
                Some(prefix) => (prefix, true),
                None => (name.strip_suffix(OFFICIAL_ANCHOR)?, false),
            };
            // The anchor must begin at a component of the name.
            (prefix.is_empty() || prefix.ends_with('.')).then_some((prefix, hf))
        });
        let best = candidates.min_by_key(|(prefix, _)| (!prefix.contains("teacher"), prefix.len(), prefix.to_owned()));
        let Some((prefix, hf)) = best else {
            let examples = file.names().take(3).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let path = file.path().to_owned();
            return Err(Error::UnknownLayout { path, n_tensors: file.names().count(), examples });
        };
        let prefix = prefix.to_owned();
        let (mut names, mut ignored) = (BTreeMap::new(), Vec::new());
        for name in file.names() {
            let Some(rest) = name.strip_prefix(&prefix).filter(|rest| !is_outside(rest)) else {
                ignored.push(name.to_owned());
                continue;
            };
            let named = if hf { as_saved(rest).into_owned() } else { without_chunk(rest) };
            if let Some(other) = names.insert(named, name.to_owned()) {
                let reason = format!("means the same as `{other}`");
                return Err(Error::BadTensor { path: file.path().to_owned(), tensor: name.to_owned(), reason });
            }
        }
        let layout = if hf {
            Layout::HuggingFace
        } else if names.contains_key("mask_token") && !names.contains_key("reg_token") {
            Layout::Official
        } else {
            // timm drops the mask token, without which no official file is.
            Layout::Timm
        };
        Ok(Found { layout, prefix, names, ignored })
    }

    /// The tensors whose names begin with `prefix`, under the rest of their names; those that
    /// `outside` names are ignored, as are all others.
    pub(crate) fn under(file: &WeightFile, layout: Layout, prefix: &str, outside: &dyn Fn(&str) -> bool) -> Self {
        let (mut names, mut ignored) = (BTreeMap::new(), Vec::new());
        for name in file.names() {
            match name.strip_prefix(prefix).filter(|rest| !outside(rest)) {
                Some(rest) => drop(names.insert(rest.to_owned(), name.to_owned())),
                None => ignored.push(name.to_owned()),
            }
        }
        Found { layout, prefix: prefix.to_owned(), names, ignored }
    }

    /// The name in the file of a name of the layout.
    pub(crate) fn name<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.names.get(name).map(String::as_str)
    }
}

/// Whether a tensor belongs to something beside the encoder: a head, a loss, an optimiser.
pub(crate) fn is_outside(name: &str) -> bool {
    let root = name.split('.').next().unwrap_or_default();
    root.contains("head")
        || root.contains("loss")
        || ["classifier", "pooler", "decoder", "optimizer", "scheduler", "student", "teacher", "fc"].contains(&root)
}

/// `blocks.{chunk}.{i}.x` as `blocks.{i}.x`: chunked files keep the block's number.
fn without_chunk(name: &str) -> String {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = name.splitn(4, '.').collect();
    match parts.as_slice() {
        ["blocks", chunk, index, rest] if number(chunk) && number(index) => format!("blocks.{index}.{rest}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_dropped_and_blocks_keep_their_number() {
        assert_eq!(without_chunk("blocks.1.7.attn.qkv.weight"), "blocks.7.attn.qkv.weight");
        assert_eq!(without_chunk("blocks.7.attn.qkv.weight"), "blocks.7.attn.qkv.weight");
    }

    #[test]
    fn heads_are_outside() {
        assert!(is_outside("dino_head.mlp.0.weight") && is_outside("head.weight"));
        assert!(!is_outside("blocks.0.attn.proj.weight"));
    }
}
