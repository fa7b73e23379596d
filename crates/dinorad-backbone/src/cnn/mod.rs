//! Convolutional encoders: ResNet, DenseNet and VGG, as torchvision has them.
//!
//! A network is written once over a few operations ([`ops`]), which candle runs on every device
//! ([`plain`]) and the kernels of the CPU engine several times faster on the CPU ([`packed`]).
//! BatchNorm is folded into the convolutions when weights are loaded.

mod config;
mod densenet;
mod names;
mod ops;
mod packed;
mod plain;
mod resnet;
#[cfg(test)]
mod tests;
mod trainable;
mod untrained;
mod vgg;

use std::{collections::BTreeMap, path::Path};

use candle::{DType, Device, Tensor};
use dinorad_kernels::{InstructionSet, Kernels};
use dinorad_nn::Pass;

pub use self::config::{CnnConfig, DenseNetConfig, ResNetBlock, ResNetConfig, ResNetStage, VggConfig};
pub use self::trainable::TrainableCnn;
use self::{
    densenet::DenseNet,
    ops::{Ops, Parameters},
    packed::Packed,
    plain::Plain,
    resnet::ResNet,
    vgg::Vgg,
};
use crate::{
    Backbone, BackboneSpec, Encoder, Error, Family, Features, LayerTokens, LoadOptions, LoadReport, Normalization,
    Output, Request, Result,
    architecture::check_parameters,
    weights::{
        checkpoint::Checkpoint,
        strict::{check_dtype, read_strict},
    },
};

/// Side in pixels of the images that these networks were trained with.
const NATIVE_SIZE: usize = 224;

/// What runs a convolutional encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CnnKernels {
    /// candle, on any device.
    Plain,
    /// The kernels of the CPU engine with packed weights: faster, on the CPU alone.
    Packed,
}

impl CnnKernels {
    /// The faster ones of a device.
    pub fn best(device: &Device) -> Self {
        if device.is_cpu() { CnnKernels::Packed } else { CnnKernels::Plain }
    }
}

/// A convolutional encoder: an image to one vector.
///
/// The vector is what enters the network's last linear layer: the mean over the last map of a
/// ResNet or a DenseNet, and what the second ReLU of a VGG's classifier returns. There are no patch
/// tokens and no inner blocks to ask for. Images of any size will do, down to the one that leaves
/// nothing of the last map. BatchNorm is in its evaluation mode, folded into the convolutions. For
/// inference: [`Pass::GRADIENTS`] is an error.
///
/// # Examples
/// ```
/// use dinorad_backbone::{Backbone, Cnn, CnnConfig, DenseNetConfig, LoadOptions, Request, candle::{DType, Device, Tensor}};
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let config = CnnConfig::DenseNet(DenseNetConfig { stem: 8, growth: 4, bottleneck: 8, blocks: vec![2, 2] });
/// let encoder = Cnn::untrained(&config, 0, &LoadOptions::default())?;
/// let pixels = Tensor::zeros((2, 3, 50, 75), DType::F32, &Device::Cpu)?;
/// assert_eq!(encoder.forward(&pixels, &Request::cls())?.last()?.cls.dims(), [2, encoder.spec().embed_dim]);
/// # Ok(()) }
/// ```
///
/// # Source
/// torchvision `models/resnet.py`, `models/densenet.py`, `models/vgg.py`; see [`CnnConfig`] for
/// the papers.
pub struct Cnn {
    config: CnnConfig,
    spec: BackboneSpec,
    dtype: DType,
    runner: Runner,
}

/// The network and what runs it.
enum Runner {
    Plain(Plain, Net<Plain>),
    Packed(Packed, Net<Packed>),
}

enum Net<O: Ops> {
    ResNet(ResNet<O>),
    DenseNet(DenseNet<O>),
    Vgg(Vgg<O>),
}

/// What is shown the inner maps of a network, by name.
type Stage<'a, O> = dyn FnMut(&str, &<O as Ops>::Map) -> Result<()> + 'a;

impl<O: Ops> Net<O> {
    fn new(config: &CnnConfig, ops: &O, parameters: &mut Parameters) -> Result<Self> {
        Ok(match config {
            CnnConfig::ResNet(c) => Net::ResNet(ResNet::new(c, ops, parameters)?),
            CnnConfig::DenseNet(c) => Net::DenseNet(DenseNet::new(c, ops, parameters)?),
            CnnConfig::Vgg(c) => Net::Vgg(Vgg::new(c, ops, parameters)?),
        })
    }

    fn forward(&self, ops: &O, pixels: &Tensor, see: &mut Stage<'_, O>) -> Result<Tensor> {
        let x = ops.input(pixels)?;
        let x = match self {
            Net::ResNet(net) => net.forward(ops, x, see)?,
            Net::DenseNet(net) => net.forward(ops, x, see)?,
            Net::Vgg(net) => net.forward(ops, x, see)?,
        };
        ops.mean(&x)
    }

    fn stages(&self, ops: &O, pixels: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let mut stages = Vec::new();
        self.forward(ops, pixels, &mut |name, map| {
            stages.push((name.to_owned(), ops.tensor(map)?));
            Ok(())
        })?;
        Ok(stages)
    }
}

impl std::fmt::Debug for Cnn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cnn").field("config", &self.config).field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Cnn {
    /// From named parameters under torchvision's names, of the shapes of [`CnnConfig::parameters`].
    ///
    /// The device and the precision are those of `options`; folding happens in f32 before. The
    /// packed kernels compute in f32 and round what they return.
    ///
    /// # Errors
    /// [`Error::Architecture`] if a parameter is missing or of another shape, if the precision is
    /// not one for encoders, or for packed kernels beside the CPU.
    pub fn from_tensors(
        config: &CnnConfig,
        mut spec: BackboneSpec,
        tensors: BTreeMap<String, Tensor>,
        options: &LoadOptions,
        kernels: CnnKernels,
    ) -> Result<Self> {
        config.check()?;
        check_dtype(options)?;
        let mut parameters = Parameters(BTreeMap::new());
        for (name, tensor) in tensors {
            parameters.0.insert(name, tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?);
        }
        check_parameters(&config.parameters(), &parameters.0)?;
        let runner = match kernels {
            CnnKernels::Plain => {
                let ops = Plain { device: options.device.clone(), dtype: options.dtype };
                let net = Net::new(config, &ops, &mut parameters)?;
                Runner::Plain(ops, net)
            }
            CnnKernels::Packed if options.device.is_cpu() => {
                let set = InstructionSet::best();
                let kernels = Kernels::of(set).ok_or_else(|| Error::Architecture {
                    field: "instruction_set",
                    value: set.name().to_owned(),
                    expected: "one that this processor has",
                })?;
                let ops = Packed::new(kernels);
                let net = Net::new(config, &ops, &mut parameters)?;
                Runner::Packed(ops, net)
            }
            CnnKernels::Packed => {
                let value = format!("{:?}", options.device.location());
                return Err(Error::Architecture { field: "device", value, expected: "the CPU, for packed kernels" });
            }
        };
        spec.patch = 1;
        spec.embed_dim = config.embed_dim();
        spec.depth = 1;
        spec.heads = 0;
        spec.prefix_tokens = 1;
        spec.native_size = NATIVE_SIZE;
        spec.outputs = vec![Output::Cls];
        Ok(Cnn { config: config.clone(), spec, dtype: options.dtype, runner })
    }

    /// The architecture.
    pub fn config(&self) -> &CnnConfig {
        &self.config
    }

    /// The features of pixels `(b, 3, h, w)`: `(b, dim)` in the precision of the encoder.
    ///
    /// # Errors
    /// [`Error::Shape`] for pixels of another shape or too few of them.
    pub fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        self.check(pixels)?;
        let features = match &self.runner {
            Runner::Plain(ops, net) => net.forward(ops, pixels, &mut |_, _| Ok(()))?,
            // Inside a pool, where handing out work costs little.
            Runner::Packed(ops, net) => rayon::scope(|_| net.forward(ops, pixels, &mut |_, _| Ok(())))?,
        };
        Ok(features.to_dtype(self.dtype)?)
    }

    /// Inner maps `(b, channels, h, w)` by name: of a ResNet `stem` (after its pooling) and
    /// `layer1` …, of a DenseNet and a VGG `features`, which is what torchvision's module of this
    /// name returns. Useful to find where a difference starts.
    ///
    /// # Errors
    /// As [`Cnn::features`].
    pub fn stages(&self, pixels: &Tensor) -> Result<Vec<(String, Tensor)>> {
        self.check(pixels)?;
        match &self.runner {
            Runner::Plain(ops, net) => net.stages(ops, pixels),
            Runner::Packed(ops, net) => net.stages(ops, pixels),
        }
    }

    fn check(&self, pixels: &Tensor) -> Result<()> {
        let least = self.config.least_side();
        match pixels.dims() {
            [b, 3, h, w] if *b > 0 && *h >= least && *w >= least => Ok(()),
            got => {
                let expected = format!("(b, 3, h, w) with b > 0 and sides of at least {least}");
                Err(Error::Shape { what: "pixels", expected, got: got.to_vec() })
            }
        }
    }
}

impl Backbone for Cnn {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    /// The features in place of a class token. [`Request::cls`] is what a convolutional network
    /// can be asked for; [`Pass::Inference`] only.
    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        self.spec.check(request)?;
        if request.pass != Pass::Inference {
            let reason = "a convolutional network that is packed for inference carries no gradients: load_trainable gives one that does".into();
            return Err(Error::Request { reason, depth: self.spec.depth });
        }
        let cls = self.features(pixels)?;
        Ok(Features { layers: vec![LayerTokens { cls, registers: None, patches: None, grid: (1, 1) }] })
    }
}

/// Loads a ResNet, a DenseNet or a VGG from a file or a folder.
///
/// Understood are torchvision's checkpoints (`.pth` of any age, also with the old names of DenseNet
/// such as `norm.1`), the same names in safetensors, and timm's; a prefix such as `module.` or
/// `backbone.` is recognised. The architecture is read from the shapes. Loading is strict, and the
/// last linear layer is listed as ignored.
///
/// # Errors
/// One that names the file and the tensor; see [`Error`].
///
/// # Examples
/// ```no_run
/// use dinorad_backbone::{CnnKernels, LoadOptions, candle::Device, load_cnn};
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let kernels = CnnKernels::best(&Device::Cpu);
/// let (encoder, report) = load_cnn("densenet201-c1103571.pth".as_ref(), &LoadOptions::default(), kernels)?;
/// println!("{:?}: {report}", encoder.config());
/// # Ok(()) }
/// ```
pub fn load_cnn(path: &Path, options: &LoadOptions, kernels: CnnKernels) -> Result<(Cnn, LoadReport)> {
    let checkpoint = Checkpoint::open(path, options.copy)?;
    load_as(checkpoint.family()?, &checkpoint, options, kernels)
}

/// The encoder of a checkpoint that is known to be of one of the three families.
pub(crate) fn load(family: Family, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<(Cnn, LoadReport)> {
    load_as(family, checkpoint, options, CnnKernels::best(&options.device))
}

fn load_as(
    family: Family,
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    kernels: CnnKernels,
) -> Result<(Cnn, LoadReport)> {
    let Parts { config, spec, tensors, report } = Parts::read(family, checkpoint, options)?;
    Ok((Cnn::from_tensors(&config, spec, tensors, options, kernels)?, report))
}

/// What a checkpoint holds of a network.
struct Parts {
    config: CnnConfig,
    spec: BackboneSpec,
    tensors: BTreeMap<String, Tensor>,
    report: LoadReport,
}

impl Parts {
    fn read(family: Family, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        check_dtype(options)?;
        let names::Plan { config, found, wanted } = names::plan(family, &checkpoint.file)?;
        config.check()?;
        let spec = checkpoint.spec(family, options, &config.fingerprint(), Normalization::IMAGENET)?;
        // Norms are folded in f32, whatever the precision will be.
        let exact = LoadOptions { dtype: DType::F32, device: Device::Cpu, ..options.clone() };
        let (tensors, report) = read_strict(&checkpoint.file, &found, wanted, &exact)?;
        Ok(Self { config, spec, tensors, report })
    }
}

/// An encoder of the registry with random weights.
pub(crate) fn untrained(encoder: &Encoder, seed: u64, options: &LoadOptions) -> Result<Cnn> {
    let config = untrained::architecture(encoder)?;
    let options =
        LoadOptions { normalization: options.normalization.or(Some(encoder.normalization)), ..options.clone() };
    Cnn::untrained(&config, seed, &options)
}
