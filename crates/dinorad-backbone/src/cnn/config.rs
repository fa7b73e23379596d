//! The architectures of the convolutional encoders.

use crate::{Error, Result, architecture};

/// What a residual block is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResNetBlock {
    /// Two 3x3 convolutions: ResNet-18 and -34.
    Basic,
    /// 1x1, 3x3 and 1x1: ResNet-50 and deeper.
    Bottleneck,
}

/// One of the four stages of a ResNet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ResNetStage {
    /// Number of blocks.
    pub blocks: usize,
    /// Channels inside a block.
    pub width: usize,
    /// Channels that leave a block; those inside for [`ResNetBlock::Basic`].
    pub out: usize,
}

/// A ResNet as torchvision has it: the stride lies in the 3x3 convolution of a bottleneck.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ResNetConfig {
    /// Channels after the first convolution.
    pub stem: usize,
    /// What blocks are made of.
    pub block: ResNetBlock,
    /// The stages; all but the first halve the sides of their maps.
    pub stages: Vec<ResNetStage>,
}

/// A DenseNet as torchvision has it; transitions halve the number of channels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct DenseNetConfig {
    /// Channels after the first convolution.
    pub stem: usize,
    /// Channels that every layer adds.
    pub growth: usize,
    /// Channels between the two convolutions of a layer.
    pub bottleneck: usize,
    /// Layers of each block.
    pub blocks: Vec<usize>,
}

/// A VGG as torchvision has it, up to the second ReLU of its classifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct VggConfig {
    /// Channels of the convolutions between one maximum pooling and the next; the last pooling
    /// follows the last of them.
    pub stages: Vec<Vec<usize>>,
    /// Whether every convolution is followed by a BatchNorm.
    pub batch_norm: bool,
    /// Side of the map that enters the classifier.
    pub side: usize,
    /// Widths of the two linear layers.
    pub hidden: [usize; 2],
}

/// The architecture of a convolutional encoder.
///
/// # Examples
/// ```
/// use dinorad_backbone::CnnConfig;
/// let config = CnnConfig::resnet152();
/// assert_eq!((config.embed_dim(), config.depth()), (2048, 50));
/// # config.check()?;
/// # Ok::<(), dinorad_backbone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CnnConfig {
    /// He et al. 2015, arXiv:1512.03385.
    ResNet(ResNetConfig),
    /// Huang et al. 2016, arXiv:1608.06993.
    DenseNet(DenseNetConfig),
    /// Simonyan and Zisserman 2014, arXiv:1409.1556.
    Vgg(VggConfig),
}

/// What BatchNorm adds to the variance, in all of torchvision's networks.
pub(super) const BATCH_NORM_EPS: f64 = 1e-5;

impl CnnConfig {
    /// ResNet-152, 58 million parameters without its classifier.
    pub fn resnet152() -> Self {
        let stage = |blocks, width| ResNetStage { blocks, width, out: 4 * width };
        CnnConfig::ResNet(ResNetConfig {
            stem: 64,
            block: ResNetBlock::Bottleneck,
            stages: vec![stage(3, 64), stage(8, 128), stage(36, 256), stage(3, 512)],
        })
    }

    /// DenseNet-201, 18 million parameters without its classifier.
    pub fn densenet201() -> Self {
        CnnConfig::DenseNet(DenseNetConfig { stem: 64, growth: 32, bottleneck: 128, blocks: vec![6, 12, 48, 32] })
    }

    /// VGG-19 without BatchNorm, 140 million parameters without its last layer.
    pub fn vgg19() -> Self {
        CnnConfig::Vgg(VggConfig {
            stages: vec![vec![64; 2], vec![128; 2], vec![256; 4], vec![512; 4], vec![512; 4]],
            batch_norm: false,
            side: 7,
            hidden: [4096, 4096],
        })
    }

    /// Width of the feature vector.
    pub fn embed_dim(&self) -> usize {
        match self {
            CnnConfig::ResNet(c) => c.stages.last().map_or(c.stem, |s| s.out),
            CnnConfig::DenseNet(c) => c.out(),
            CnnConfig::Vgg(c) => c.hidden[1],
        }
    }

    /// Number of blocks: residual blocks, dense layers, or the convolutions of a VGG.
    pub fn depth(&self) -> usize {
        match self {
            CnnConfig::ResNet(c) => c.stages.iter().map(|s| s.blocks).sum(),
            CnnConfig::DenseNet(c) => c.blocks.iter().sum(),
            CnnConfig::Vgg(c) => c.stages.iter().map(Vec::len).sum(),
        }
    }

    /// Pixels of the input behind one pixel of the last map.
    pub fn total_stride(&self) -> usize {
        match self {
            CnnConfig::ResNet(c) => 4 << c.stages.len().saturating_sub(1).min(16),
            CnnConfig::DenseNet(c) => 4 << c.blocks.len().saturating_sub(1).min(16),
            CnnConfig::Vgg(c) => 1 << c.stages.len().min(16),
        }
    }

    /// Shortest side of an image for which something is left after all poolings.
    pub fn least_side(&self) -> usize {
        match self {
            // Every convolution and pooling with a stride has padding: one pixel stays one.
            CnnConfig::ResNet(_) => 1,
            // The stem rounds up twice; every transition rounds down.
            CnnConfig::DenseNet(c) => {
                let map = 1usize << c.blocks.len().saturating_sub(1).min(16);
                4 * (map - 1) + 1
            }
            CnnConfig::Vgg(_) => self.total_stride(),
        }
    }

    /// Its name.
    pub fn family_name(&self) -> &'static str {
        match self {
            CnnConfig::ResNet(_) => "ResNet",
            CnnConfig::DenseNet(_) => "DenseNet",
            CnnConfig::Vgg(_) => "VGG",
        }
    }

    /// The architecture as text that never changes for the same architecture: part of a digest.
    pub(crate) fn fingerprint(&self) -> String {
        architecture::fingerprint(self)
    }

    /// Checks that the encoder can be built.
    ///
    /// # Errors
    /// [`Error::Architecture`] for a size of zero or beyond reason.
    pub fn check(&self) -> Result<()> {
        let within = |field, value, limit| architecture::check_sizes(&[(field, value, limit)]);
        const CHANNELS: usize = 1 << 16;
        match self {
            CnnConfig::ResNet(c) => {
                within("stem", c.stem, CHANNELS)?;
                within("stages", c.stages.len(), 8)?;
                for stage in &c.stages {
                    within("blocks", stage.blocks, 1 << 10)?;
                    within("width", stage.width, CHANNELS)?;
                    within("out", stage.out, CHANNELS)?;
                    if c.block == ResNetBlock::Basic && stage.width != stage.out {
                        let value = format!("{} of width {}", stage.out, stage.width);
                        return Err(Error::Architecture {
                            field: "out",
                            value,
                            expected: "the width of a basic block",
                        });
                    }
                }
            }
            CnnConfig::DenseNet(c) => {
                within("stem", c.stem, CHANNELS)?;
                within("growth", c.growth, CHANNELS)?;
                within("bottleneck", c.bottleneck, CHANNELS)?;
                within("blocks", c.blocks.len(), 8)?;
                for layers in &c.blocks {
                    within("layers", *layers, 1 << 10)?;
                }
                within("channels", c.out(), 1 << 20)?;
            }
            CnnConfig::Vgg(c) => {
                within("stages", c.stages.len(), 8)?;
                within("side", c.side, 64)?;
                for stage in &c.stages {
                    within("convolutions", stage.len(), 1 << 6)?;
                    stage.iter().try_for_each(|channels| within("channels", *channels, CHANNELS))?;
                }
                c.hidden.iter().try_for_each(|hidden| within("hidden", *hidden, CHANNELS))?;
            }
        }
        Ok(())
    }

    /// Every parameter and its shape, under torchvision's names; the running statistics of
    /// BatchNorm are among them, classifiers that are not part of the encoder are not.
    ///
    /// For a configuration that [`check`](Self::check) accepts; the sizes of others may overflow.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let mut list = Parameters::default();
        match self {
            CnnConfig::ResNet(c) => list.resnet(c),
            CnnConfig::DenseNet(c) => list.densenet(c),
            CnnConfig::Vgg(c) => list.vgg(c),
        }
        list.0
    }
}

impl DenseNetConfig {
    /// Channels after the last block.
    fn out(&self) -> usize {
        let mut channels = self.stem;
        for (i, layers) in self.blocks.iter().enumerate() {
            let entering = if i == 0 { channels } else { channels / 2 };
            channels = entering.saturating_add(layers.saturating_mul(self.growth));
        }
        channels
    }
}

impl VggConfig {
    /// For every convolution its place among torchvision's `features`, its channels, and whether a
    /// pooling follows.
    pub(super) fn convolutions(&self) -> Vec<(usize, usize, bool)> {
        let mut out = Vec::new();
        let mut at = 0;
        for stage in &self.stages {
            for (i, channels) in stage.iter().enumerate() {
                let last = i + 1 == stage.len();
                out.push((at, *channels, last));
                // Convolution, BatchNorm, ReLU, pooling: each has a place.
                at += 2 + usize::from(self.batch_norm) + usize::from(last);
            }
        }
        out
    }
}

/// Collects names and shapes.
#[derive(Default)]
struct Parameters(Vec<(String, Vec<usize>)>);

impl Parameters {
    fn push(&mut self, name: String, shape: &[usize]) {
        self.0.push((name, shape.to_vec()));
    }

    fn conv(&mut self, name: &str, out: usize, input: usize, side: usize) {
        self.push(format!("{name}.weight"), &[out, input, side, side]);
    }

    fn batch_norm(&mut self, name: &str, channels: usize) {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            self.push(format!("{name}.{part}"), &[channels]);
        }
    }

    fn resnet(&mut self, c: &ResNetConfig) {
        self.conv("conv1", c.stem, 3, 7);
        self.batch_norm("bn1", c.stem);
        let mut input = c.stem;
        for (s, stage) in c.stages.iter().enumerate() {
            for b in 0..stage.blocks {
                let name = |part: &str| format!("layer{}.{b}.{part}", s + 1);
                let convolutions: &[(usize, usize, usize)] = match c.block {
                    ResNetBlock::Basic => &[(stage.width, input, 3), (stage.out, stage.width, 3)],
                    ResNetBlock::Bottleneck => {
                        &[(stage.width, input, 1), (stage.width, stage.width, 3), (stage.out, stage.width, 1)]
                    }
                };
                for (i, (out, input, side)) in convolutions.iter().enumerate() {
                    self.conv(&name(&format!("conv{}", i + 1)), *out, *input, *side);
                    self.batch_norm(&name(&format!("bn{}", i + 1)), *out);
                }
                if c.has_shortcut(s, b, input) {
                    self.conv(&name("downsample.0"), stage.out, input, 1);
                    self.batch_norm(&name("downsample.1"), stage.out);
                }
                input = stage.out;
            }
        }
    }

    fn densenet(&mut self, c: &DenseNetConfig) {
        self.conv("features.conv0", c.stem, 3, 7);
        self.batch_norm("features.norm0", c.stem);
        let mut channels = c.stem;
        for (b, layers) in c.blocks.iter().enumerate() {
            if b > 0 {
                self.batch_norm(&format!("features.transition{b}.norm"), channels);
                self.conv(&format!("features.transition{b}.conv"), channels / 2, channels, 1);
                channels /= 2;
            }
            for l in 0..*layers {
                let name = |part: &str| format!("features.denseblock{}.denselayer{}.{part}", b + 1, l + 1);
                self.batch_norm(&name("norm1"), channels);
                self.conv(&name("conv1"), c.bottleneck, channels, 1);
                self.batch_norm(&name("norm2"), c.bottleneck);
                self.conv(&name("conv2"), c.growth, c.bottleneck, 3);
                channels += c.growth;
            }
        }
        self.batch_norm("features.norm5", channels);
    }

    fn vgg(&mut self, c: &VggConfig) {
        let mut input = 3;
        for (at, channels, _) in c.convolutions() {
            self.conv(&format!("features.{at}"), channels, input, 3);
            self.push(format!("features.{at}.bias"), &[channels]);
            if c.batch_norm {
                self.batch_norm(&format!("features.{}", at + 1), channels);
            }
            input = channels;
        }
        let inputs = [input * c.side * c.side, c.hidden[0]];
        for ((name, inputs), hidden) in ["classifier.0", "classifier.3"].iter().zip(inputs).zip(c.hidden) {
            self.push(format!("{name}.weight"), &[hidden, inputs]);
            self.push(format!("{name}.bias"), &[hidden]);
        }
    }
}

impl ResNetConfig {
    /// Step of a block's convolution with stride.
    pub(super) fn stride(stage: usize, block: usize) -> usize {
        if stage > 0 && block == 0 { 2 } else { 1 }
    }

    /// Whether a block's input has to change its shape before it is added to the output.
    pub(super) fn has_shortcut(&self, stage: usize, block: usize, input: usize) -> bool {
        Self::stride(stage, block) > 1 || self.stages.get(stage).is_some_and(|s| s.out != input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_published_sizes() {
        // torchvision's num_params without the classifier, running statistics not counted
        let count = |c: CnnConfig| -> usize {
            let trained = |name: &str| !name.contains("running_");
            let size = |shape: &[usize]| shape.iter().product::<usize>();
            c.parameters().iter().filter(|(name, _)| trained(name)).map(|(_, shape)| size(shape)).sum()
        };
        assert_eq!(count(CnnConfig::resnet152()), 60_192_808 - (2048 * 1000 + 1000));
        assert_eq!(count(CnnConfig::densenet201()), 20_013_928 - (1920 * 1000 + 1000));
        assert_eq!(count(CnnConfig::vgg19()), 143_667_240 - (4096 * 1000 + 1000));
        for config in [CnnConfig::resnet152(), CnnConfig::densenet201(), CnnConfig::vgg19()] {
            config.check().unwrap();
            assert_eq!(config.total_stride(), 32);
        }
    }

    #[test]
    fn impossible_architectures_are_errors() {
        let CnnConfig::DenseNet(mut dense) = CnnConfig::densenet201() else { unreachable!() };
        dense.growth = usize::MAX;
        assert!(matches!(CnnConfig::DenseNet(dense).check(), Err(Error::Architecture { .. })));
        let CnnConfig::ResNet(mut res) = CnnConfig::resnet152() else { unreachable!() };
        res.block = ResNetBlock::Basic;
        assert!(matches!(CnnConfig::ResNet(res).check(), Err(Error::Architecture { .. })));
    }
}
