//! Residual networks.

use super::{
    Stage,
    config::{ResNetBlock, ResNetConfig},
    ops::{Ops, Parameters, Window},
};
use crate::Result;

/// A ResNet with BatchNorm folded into its convolutions.
pub(super) struct ResNet<O: Ops> {
    stem: O::Conv,
    stages: Vec<Vec<Residual<O>>>,
}

/// `relu(x + convs(x))`, where `x` may have to change its shape.
struct Residual<O: Ops> {
    convs: Vec<O::Conv>,
    shortcut: Option<O::Conv>,
}

impl<O: Ops> ResNet<O> {
    pub(super) fn new(config: &ResNetConfig, ops: &O, parameters: &mut Parameters) -> Result<Self> {
        let norm = parameters.batch_norm("bn1")?;
        let stem = parameters.conv("conv1")?.with_stride(2).with_batch_norm(&norm)?.with_relu();
        let stem = ops.conv_layer(stem)?;
        let mut stages = Vec::new();
        let mut input = config.stem;
        for (s, stage) in config.stages.iter().enumerate() {
            let mut blocks = Vec::new();
            for b in 0..stage.blocks {
                let name = |part: &str| format!("layer{}.{b}.{part}", s + 1);
                let (stride, has_shortcut) = (ResNetConfig::stride(s, b), config.has_shortcut(s, b, input));
                // The first convolution of three by three takes the stride.
                let (count, strided) = match config.block {
                    ResNetBlock::Basic => (2, 1),
                    ResNetBlock::Bottleneck => (3, 2),
                };
                let mut convs = Vec::new();
                for i in 1..=count {
                    let norm = parameters.batch_norm(&name(&format!("bn{i}")))?;
                    let conv = parameters.conv(&name(&format!("conv{i}")))?.with_batch_norm(&norm)?.with_relu();
                    convs.push(ops.conv_layer(conv.with_stride(if i == strided { stride } else { 1 }))?);
                }
                let shortcut = match has_shortcut {
                    true => {
                        let norm = parameters.batch_norm(&name("downsample.1"))?;
                        let conv = parameters.conv(&name("downsample.0"))?.with_stride(stride);
                        Some(ops.conv_layer(conv.with_batch_norm(&norm)?)?)
                    }
                    false => None,
                };
                blocks.push(Residual { convs, shortcut });
                input = stage.out;
            }
            stages.push(blocks);
        }
        Ok(ResNet { stem, stages })
    }

    /// The last map; `see` is shown every stage.
    pub(super) fn forward(&self, ops: &O, x: O::Map, see: &mut Stage<'_, O>) -> Result<O::Map> {
        let x = ops.conv(&self.stem, &x, None)?;
        let mut x = ops.max_pool(&x, Window::STEM)?;
        see("stem", &x)?;
        for (s, blocks) in self.stages.iter().enumerate() {
            for block in blocks {
                x = block.forward(ops, x)?;
            }
            see(&format!("layer{}", s + 1), &x)?;
        }
        Ok(x)
    }
}

impl<O: Ops> Residual<O> {
    fn forward(&self, ops: &O, x: O::Map) -> Result<O::Map> {
        let [first, middle @ .., last] = self.convs.as_slice() else { return Ok(x) };
        let mut inner = ops.conv(first, &x, None)?;
        for conv in middle {
            inner = ops.conv(conv, &inner, None)?;
        }
        let x = match &self.shortcut {
            Some(conv) => ops.conv(conv, &x, None)?,
            None => x,
        };
        ops.conv(last, &inner, Some(x))
    }
}
