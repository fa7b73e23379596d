//! Convolutional encoders that train.

use std::collections::BTreeMap;

use candle::Tensor;
use dinorad_nn::{Pass, Trainable};

use super::{Cnn, CnnConfig, CnnKernels, Net, Parts, ops::Parameters, plain::Plain, untrained};
use crate::{
    Backbone, BackboneSpec, Encoder, Family, Features, LayerTokens, LoadOptions, LoadReport, Request, Result,
    tuning::TrainableBackbone, weights::checkpoint::Checkpoint,
};

/// A convolutional encoder whose parameters keep torchvision's names and can be moved.
///
/// BatchNorm normalises by the statistics of pre-training, in training too: its gains and biases train, its
/// running means and variances stay. Small batches of one modality would spoil them. A VGG's dropout is off.
#[derive(Debug)]
pub struct TrainableCnn {
    /// For its checks and its description.
    shape: Cnn,
    tensors: BTreeMap<String, Tensor>,
    plain: Plain,
}

impl Trainable for TrainableCnn {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        self.tensors.iter().for_each(|(name, tensor)| tensor.visit(&dinorad_nn::join(prefix, name), f));
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        self.tensors.iter_mut().try_for_each(|(name, tensor)| tensor.visit_mut(&dinorad_nn::join(prefix, name), f))
    }
}

impl TrainableCnn {
    fn new(
        config: &CnnConfig,
        spec: BackboneSpec,
        tensors: BTreeMap<String, Tensor>,
        options: &LoadOptions,
    ) -> Result<Self> {
        // What it folds is thrown away; what it checks and describes is kept.
        let shape = Cnn::from_tensors(config, spec, tensors.clone(), options, CnnKernels::Plain)?;
        let plain = Plain { device: options.device.clone(), dtype: options.dtype };
        let here = |t: Tensor| t.to_device(&options.device)?.to_dtype(options.dtype);
        let tensors = tensors.into_iter().map(|(name, t)| Ok((name, here(t)?))).collect::<Result<_>>()?;
        Ok(TrainableCnn { shape, tensors, plain })
    }

    /// From weight files, as [`load_cnn`](super::load_cnn).
    pub(crate) fn load(family: Family, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<(Self, LoadReport)> {
        let Parts { config, spec, tensors, report } = Parts::read(family, checkpoint, options)?;
        Ok((Self::new(&config, spec, tensors, options)?, report))
    }

    /// An encoder of the registry with random weights.
    pub(crate) fn untrained(encoder: &Encoder, seed: u64, options: &LoadOptions) -> Result<Self> {
        let config = untrained::architecture(encoder)?;
        let options =
            LoadOptions { normalization: options.normalization.or(Some(encoder.normalization)), ..options.clone() };
        let (spec, tensors) = untrained::parts(&config, seed, &options)?;
        Self::new(&config, spec, tensors, &options)
    }
}

impl Backbone for TrainableCnn {
    fn spec(&self) -> &BackboneSpec {
        self.shape.spec()
    }

    /// The features in place of a class token, with gradients in [`Pass::Training`].
    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        self.spec().check(request)?;
        self.shape.check(pixels)?;
        let tensors = self.tensors.iter().map(|(name, t)| (name.clone(), request.pass.of(t))).collect();
        let net = Net::new(self.shape.config(), &self.plain, &mut Parameters(tensors))?;
        let cls = net.forward(&self.plain, pixels, &mut |_, _| Ok(()))?;
        let cls = if request.pass == Pass::Inference { cls.detach() } else { cls };
        Ok(Features { layers: vec![LayerTokens { cls, registers: None, patches: None, grid: (1, 1) }] })
    }
}

impl TrainableBackbone for TrainableCnn {}
