//! VGG networks.

use super::{
    Stage,
    config::VggConfig,
    ops::{Ops, Parameters, Window},
};
use crate::Result;

/// A VGG up to the second ReLU of its classifier.
pub(super) struct Vgg<O: Ops> {
    /// Convolutions, and whether a pooling follows.
    convs: Vec<(O::Conv, bool)>,
    /// The linear layers as convolutions: the first of the whole map, the second of one position.
    classifier: [O::Conv; 2],
    side: usize,
}

impl<O: Ops> Vgg<O> {
    pub(super) fn new(config: &VggConfig, ops: &O, parameters: &mut Parameters) -> Result<Self> {
        let mut convs = Vec::new();
        let mut channels = 3;
        for (at, out, pooled) in config.convolutions() {
            let mut conv = parameters.conv(&format!("features.{at}"))?;
            if config.batch_norm {
                conv = conv.with_batch_norm(&parameters.batch_norm(&format!("features.{}", at + 1))?)?;
            }
            convs.push((ops.conv_layer(conv.with_relu())?, pooled));
            channels = out;
        }
        let mut linear = |name: &str, inputs: usize, side: usize| {
            let key = format!("{name}.weight");
            let weight = parameters.take(&key)?;
            let weight = weight.reshape((weight.dim(0)?, inputs, side, side))?;
            parameters.0.insert(key, weight);
            ops.conv_layer(parameters.conv(name)?.with_padding(0).with_relu())
        };
        let classifier = [linear("classifier.0", channels, config.side)?, linear("classifier.3", config.hidden[0], 1)?];
        Ok(Vgg { convs, classifier, side: config.side })
    }

    /// The features as a map of one position; `see` is shown the last map of the convolutions.
    pub(super) fn forward(&self, ops: &O, mut x: O::Map, see: &mut Stage<'_, O>) -> Result<O::Map> {
        for (conv, pooled) in &self.convs {
            x = ops.conv(conv, &x, None)?;
            if *pooled {
                x = ops.max_pool(&x, Window::HALF)?;
            }
        }
        see("features", &x)?;
        let [first, second] = &self.classifier;
        let x = ops.adaptive_mean_pool(&x, self.side)?;
        ops.conv(second, &ops.conv(first, &x, None)?, None)
    }
}
