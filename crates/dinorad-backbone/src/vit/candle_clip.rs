//! CLIP's image side as `candle-transformers` has it.

use std::collections::HashMap;

use candle::{DType, Module, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::{
    text_model::Activation as CandleActivation,
    vision_model::{ClipVisionConfig, ClipVisionTransformer},
};
use dinorad_nn::{Activation, Trainable};

use super::{Vit, layout::Naming};
use crate::{
    Backbone, BackboneSpec, Features, FinalNorm, Patches, Protocol, Request, Result, dinov2::tokens,
    weights::layout::Place,
};

/// The fixed eps of candle's implementation.
const EPS: f64 = 1e-5;

/// A CLIP for inference: candle's implementation where it computes the same, ours for the rest.
///
/// Candle's takes images of the native size alone, has `quick_gelu` alone, and cuts gradients.
pub(crate) struct CandleClip {
    model: ClipVisionTransformer,
    ours: Vit,
}

impl CandleClip {
    /// Whether candle's implementation is this encoder's.
    pub(crate) fn fits(vit: &Vit) -> bool {
        let c = vit.config();
        let bias = c.qkv_bias && c.proj_bias && c.mlp_bias && !c.patch_bias;
        let shape = c.pre_norm && !c.layer_scale && c.registers == 0 && c.projection.is_none();
        // Its attention computes in f32 and hands f32 on, which halves do not take.
        vit.dtype() == DType::F32 && c.activation == Activation::QuickGelu && c.eps == EPS && bias && shape
    }

    /// From an encoder that [`fits`](Self::fits); weights are shared with it.
    pub(crate) fn new(ours: Vit) -> Result<Self> {
        let c = ours.config();
        let mut tensors = HashMap::new();
        let all = ours.tensors();
        for (name, shape) in c.parameters() {
            let Some(tensor) = all.get(&name).map(Tensor::detach) else { continue };
            match Naming::HfClip.place(&name, &shape, "encoder.layers.", [true; 3]) {
                Place::Stacked(names) => {
                    for (name, part) in names.into_iter().flatten().zip(tensor.chunk(3, 0)?) {
                        tensors.insert(name, part);
                    }
                }
                Place::Reshaped(name, shape) => drop(tensors.insert(name, tensor.reshape(shape)?)),
                Place::One(name) | Place::PatchesOnly(name) => drop(tensors.insert(name, tensor)),
            }
        }
        let config = ClipVisionConfig {
            embed_dim: c.embed_dim,
            activation: CandleActivation::QuickGelu,
            intermediate_size: c.hidden,
            num_hidden_layers: c.depth,
            num_attention_heads: c.heads,
            projection_dim: c.embed_dim,
            num_channels: 3,
            image_size: c.native_size(),
            patch_size: c.patch,
        };
        let model =
            ClipVisionTransformer::new(VarBuilder::from_tensors(tensors, ours.dtype(), ours.device()), &config)?;
        Ok(CandleClip { model, ours })
    }
}

impl Backbone for CandleClip {
    fn spec(&self) -> &BackboneSpec {
        self.ours.spec()
    }

    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        self.spec().check(request)?;
        let c = self.ours.config();
        let grid = tokens::grid_of(pixels, c.patch)?;
        if request.pass.is_training() || grid != (c.grid, c.grid) {
            return self.ours.forward(pixels, request);
        }
        let pixels = pixels.to_device(self.ours.device())?.to_dtype(self.ours.dtype())?;
        let wanted = request.layers.resolve(c.depth)?;
        let only_cls = request.patches == Patches::None && wanted == [c.depth - 1];
        if only_cls && request.norm == FinalNorm::Applied && self.spec().protocol == Protocol::Strict {
            // The pooled output; no block's tokens are kept.
            let layer = crate::LayerTokens { cls: self.model.forward(&pixels)?, registers: None, patches: None, grid };
            return Ok(Features { layers: vec![layer] });
        }
        let states = self.model.output_hidden_states(&pixels)?;
        let layers = wanted.into_iter().filter_map(|i| Some((i, states.get(i)?)));
        let layers = layers.map(|(i, x)| self.ours.split(x, grid, request, i + 1 == c.depth)).collect::<Result<_>>()?;
        Ok(Features { layers })
    }
}
