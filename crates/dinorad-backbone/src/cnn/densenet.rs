//! Densely connected networks.

use super::{
    Stage,
    config::DenseNetConfig,
    ops::{Ops, Parameters, Window},
};
use crate::Result;

/// A DenseNet. Norms that follow a convolution are folded into it; those that precede one, with
/// their ReLU, belong to it.
pub(super) struct DenseNet<O: Ops> {
    stem: O::Conv,
    blocks: Vec<DenseBlock<O>>,
    norm: O::Norm,
}

struct DenseBlock<O: Ops> {
    /// What comes before all blocks but the first.
    transition: Option<O::Conv>,
    layers: Vec<[O::Conv; 2]>,
    /// Channels after the last layer.
    channels: usize,
}

impl<O: Ops> DenseNet<O> {
    pub(super) fn new(config: &DenseNetConfig, ops: &O, parameters: &mut Parameters) -> Result<Self> {
        let norm = parameters.batch_norm("features.norm0")?;
        let stem = parameters.conv("features.conv0")?.with_stride(2).with_batch_norm(&norm)?.with_relu();
        let stem = ops.conv_layer(stem)?;
        let mut channels = config.stem;
        let mut blocks = Vec::new();
        for (b, count) in config.blocks.iter().enumerate() {
            let transition = match b {
                0 => None,
                _ => {
                    let norm = parameters.batch_norm(&format!("features.transition{b}.norm"))?;
                    let conv = parameters.conv(&format!("features.transition{b}.conv"))?;
                    channels /= 2;
                    Some(ops.conv_layer(conv.with_before(norm))?)
                }
            };
            let mut layers = Vec::new();
            for l in 0..*count {
                let name = |part: &str| format!("features.denseblock{}.denselayer{}.{part}", b + 1, l + 1);
                let (before, between) =
                    (parameters.batch_norm(&name("norm1"))?, parameters.batch_norm(&name("norm2"))?);
                let first = parameters.conv(&name("conv1"))?.with_batch_norm(&between)?.with_before(before).with_relu();
                let second = parameters.conv(&name("conv2"))?;
                layers.push([ops.conv_layer(first)?, ops.conv_layer(second)?]);
            }
            channels += count * config.growth;
            blocks.push(DenseBlock { transition, layers, channels });
        }
        let norm = ops.norm_layer(parameters.batch_norm("features.norm5")?)?;
        Ok(DenseNet { stem, blocks, norm })
    }

    /// The last map after its ReLU; `see` is shown the one before.
    pub(super) fn forward(&self, ops: &O, x: O::Map, see: &mut Stage<'_, O>) -> Result<O::Map> {
        let x = ops.conv(&self.stem, &x, None)?;
        let mut x = ops.max_pool(&x, Window::STEM)?;
        for block in &self.blocks {
            if let Some(conv) = &block.transition {
                x = ops.mean_pool(&ops.conv(conv, &x, None)?)?;
            }
            x = ops.with_room(x, block.channels)?;
            for [first, second] in &block.layers {
                let inner = ops.conv(first, &x, None)?;
                let new = ops.conv(second, &inner, None)?;
                x = ops.append(x, new)?;
            }
        }
        let x = ops.norm(&self.norm, &x)?;
        see("features", &x)?;
        ops.relu(x)
    }
}
