//! Encoders as folders that `transformers` loads.

use std::{collections::HashMap, fs, path::Path};

use candle::Tensor;
use serde_json::json;

use super::layout::Layout;
use crate::{Backbone, Dinov2, Error, FeedForward, PositionResampling, Result};

impl Dinov2 {
    /// Writes a Hugging Face folder: `config.json`, `model.safetensors`, `preprocessor_config.json`. The folder
    /// appears whole or not at all. Adapters are not among the weights: merge first.
    ///
    /// # Errors
    /// [`Error::Folder`] if the folder is there already or cannot be written; [`Error::Architecture`] for an
    /// encoder that `transformers` would compute otherwise: its positions resampled in another way.
    pub fn save_hugging_face(&self, folder: &Path) -> Result<()> {
        let c = self.config();
        let (name, kind) = match c.registers {
            0 => ("Dinov2Model", "dinov2"),
            _ => ("Dinov2WithRegistersModel", "dinov2_with_registers"),
        };
        let gated = c.feed_forward == FeedForward::SwiGlu;
        let mut config = json!({
            "architectures": [name], "model_type": kind,
            "hidden_size": c.embed_dim, "num_hidden_layers": c.depth, "num_attention_heads": c.heads,
            "mlp_ratio": mlp_ratio(c.hidden, c.embed_dim, gated), "use_swiglu_ffn": gated,
            "patch_size": c.patch, "image_size": c.native_size(), "num_channels": 3,
            "qkv_bias": c.qkv_bias, "layer_norm_eps": c.eps, "layerscale_value": c.layer_scale_init,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
            "drop_path_rate": 0.0, "initializer_range": 0.02, "torch_dtype": "float32",
            "apply_layernorm": true, "reshape_hidden_states": true,
        });
        if c.registers > 0 {
            config["num_register_tokens"] = json!(c.registers);
        }
        if !c.layer_scale {
            let expected = "true: transformers' DINOv2 has gains in its residual branches";
            return Err(Error::Architecture { field: "layer_scale", value: "false".into(), expected });
        }
        let n = self.spec().normalization;
        let side = self.spec().usual_size();
        let pixels = json!({
            "image_processor_type": "BitImageProcessor", "do_resize": true, "do_rescale": true, "do_normalize": true,
            "do_center_crop": true, "do_convert_rgb": true, "resample": 3, "rescale_factor": 1.0 / 255.0,
            "size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side},
            "image_mean": n.mean.map(f64::from), "image_std": n.std.map(f64::from),
        });
        let text = |value: &serde_json::Value| {
            serde_json::to_string_pretty(value)
                .map_err(|e| Error::Folder { path: folder.to_owned(), reason: e.to_string() })
        };
        let files = [("config.json", text(&config)?), ("preprocessor_config.json", text(&pixels)?)];
        write_folder(folder, &files, "model.safetensors", self.to_layout(Layout::HuggingFace)?.into_iter().collect())
    }

    /// Whether a Hugging Face folder of the encoder resamples positions as it does; else images of any but the
    /// native size have other features there.
    pub fn is_exact_in_hugging_face(&self) -> bool {
        let theirs =
            if self.config().registers > 0 { PositionResampling::ANTIALIASED } else { PositionResampling::EXACT };
        self.config().positions == theirs
    }
}

/// The ratio from which transformers computes the width inside the feed-forward network.
fn mlp_ratio(hidden: usize, dim: usize, gated: bool) -> serde_json::Value {
    if !gated && dim > 0 && hidden.is_multiple_of(dim) {
        return json!(hidden / dim);
    }
    // transformers takes two thirds of it for a gated network, rounded up to a multiple of 8
    let wide = if gated { hidden as f64 * 1.5 } else { hidden as f64 };
    let ratio = wide / dim.max(1) as f64;
    if gated && crate::swiglu_hidden(dim, 4.0) == hidden { json!(4) } else { json!(ratio) }
}

/// Writes a folder of texts and one file of tensors under another name, and gives it its own.
pub(crate) fn write_folder(
    folder: &Path,
    texts: &[(&str, String)],
    weights: &str,
    tensors: Vec<(String, Tensor)>,
) -> Result<()> {
    let failed = |reason: String| Error::Folder { path: folder.to_owned(), reason };
    if folder.exists() {
        return Err(failed("it is there already; name another folder".into()));
    }
    let above = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(above).map_err(|e| failed(e.to_string()))?;
    let pending = tempfile::Builder::new().prefix(".writing-").tempdir_in(above).map_err(|e| failed(e.to_string()))?;
    for (name, text) in texts {
        fs::write(pending.path().join(name), text).map_err(|e| failed(e.to_string()))?;
    }
    let whole = tensors.into_iter().map(|(n, t)| Ok((n, t.contiguous()?))).collect::<Result<Vec<_>>>()?;
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(whole, Some(about)).map_err(|e| failed(e.to_string()))?;
    fs::write(pending.path().join(weights), bytes).map_err(|e| failed(e.to_string()))?;
    fs::rename(pending.path(), folder).map_err(|e| failed(e.to_string()))?;
    // It has its own name now: nothing is left to remove.
    let _ = pending.keep();
    Ok(())
}
