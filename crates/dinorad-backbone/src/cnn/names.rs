//! Where a file has the parameters of a convolutional network, and which network it is.

use super::{CnnConfig, DenseNetConfig, ResNetBlock, ResNetConfig, ResNetStage, VggConfig};
use crate::{
    Error, Family, Result, WeightFile,
    weights::{
        layout::{Found, Layout, Place},
        strict::Wanted,
    },
};

/// More blocks or layers than any network has.
const MAX_BLOCKS: usize = 1 << 10;

/// What is to be read from a file.
pub(super) struct Plan {
    pub(super) config: CnnConfig,
    pub(super) found: Found,
    pub(super) wanted: Vec<Wanted>,
}

/// Recognises a network of a family.
pub(super) fn plan(family: Family, file: &WeightFile) -> Result<Plan> {
    let (anchors, head): (&[&str], &[&str]) = match family {
        Family::Resnet => (&["layer1.0.conv1.weight"], &["fc."]),
        Family::Densenet => {
            (&["features.denseblock1.denselayer1.conv1.weight", OLD_DENSENET_ANCHOR], &["classifier.", "head."])
        }
        _ => (&["features.0.weight"], &["classifier.6.", "head."]),
    };
    let prefixes = file.names().filter_map(|name| {
        let prefix = anchors.iter().find_map(|anchor| name.strip_suffix(*anchor))?;
        (prefix.is_empty() || prefix.ends_with('.')).then_some(prefix)
    });
    // The shortest: others belong to parts of a larger model.
    let Some(prefix) = prefixes.min_by_key(|p| p.len()) else {
        let examples = file.names().take(3).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let path = file.path().to_owned();
        return Err(Error::UnknownLayout { path, n_tensors: file.names().count(), examples });
    };
    // Counters of training steps say nothing about features.
    let outside = |rest: &str| head.iter().any(|h| rest.starts_with(h)) || rest.ends_with("num_batches_tracked");
    let timm = file.names().any(|name| name == format!("{prefix}pre_logits.fc1.weight"));
    let layout = if timm { Layout::Timm } else { Layout::Torchvision };
    let found = Found::under(file, layout, prefix, &outside);
    let names = Names { file, found: &found };
    let config = match family {
        Family::Resnet => CnnConfig::ResNet(names.resnet()?),
        Family::Densenet => CnnConfig::DenseNet(names.densenet()?),
        _ => CnnConfig::Vgg(names.vgg(timm)?),
    };
    // Sizes beyond reason must not be multiplied.
    config.check()?;
    names.check_head(prefix, head, &config)?;
    let old = found.name(OLD_DENSENET_ANCHOR).is_some();
    let wanted = config.parameters().into_iter().map(|(name, shape)| {
        let in_file = match old {
            true => old_densenet(&name),
            false => name.clone(),
        };
        match (&config, timm_linear(&name).filter(|_| timm)) {
            (CnnConfig::Vgg(c), Some(in_file)) if shape.len() == 2 => {
                let side = if name == "classifier.0.weight" { c.side } else { 1 };
                let stored = vec![shape[0], shape[1] / (side * side), side, side];
                Wanted { name, shape, place: Place::Reshaped(in_file, stored), optional: false }
            }
            (_, Some(in_file)) => Wanted::one(name, shape, in_file),
            (_, None) => Wanted::one(name, shape, in_file),
        }
    });
    let wanted = wanted.collect();
    Ok(Plan { config, found, wanted })
}

const OLD_DENSENET_ANCHOR: &str = "features.denseblock1.denselayer1.conv.1.weight";

/// The name of a parameter in files of before torchvision 0.3: `norm.1` for `norm1`, in the layers.
fn old_densenet(name: &str) -> String {
    let mut out = name.to_owned();
    if name.contains(".denselayer") {
        for part in ["norm", "conv"] {
            for number in ["1", "2"] {
                out = out.replace(&format!(".{part}{number}."), &format!(".{part}.{number}."));
            }
        }
    }
    out
}

/// timm's name of a VGG's linear layer; its convolutions have torchvision's.
fn timm_linear(name: &str) -> Option<String> {
    let (layer, part) = name.rsplit_once('.')?;
    match layer {
        "classifier.0" => Some(format!("pre_logits.fc1.{part}")),
        "classifier.3" => Some(format!("pre_logits.fc2.{part}")),
        _ => None,
    }
}

/// The names and shapes of a file.
struct Names<'a> {
    file: &'a WeightFile,
    found: &'a Found,
}

impl Names<'_> {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.file.shape(self.found.name(name)?)
    }

    /// One side of a tensor; a usual one where there is no such tensor, which is then missed by name.
    fn side(&self, name: &str, axis: usize, usual: usize) -> usize {
        self.shape(name).and_then(|s| s.get(axis)).copied().unwrap_or(usual)
    }

    /// One more than the largest number that follows `start` in a name.
    fn count(&self, start: &str) -> Result<usize> {
        let number = |name: &str| name.strip_prefix(start)?.split('.').next()?.parse::<usize>().ok();
        let count = self.found.names.keys().filter_map(|n| number(n)).max().map_or(0, |n| n.saturating_add(1));
        if count > MAX_BLOCKS {
            let tensor = format!("{start}{}", count - 1);
            return Err(self.bad(&tensor, "is a block beyond reason".into()));
        }
        Ok(count)
    }

    fn bad(&self, tensor: &str, reason: String) -> Error {
        let tensor = format!("{}{tensor}", self.found.prefix);
        Error::BadTensor { path: self.file.path().to_owned(), tensor, reason }
    }

    /// The last linear layer is not part of the encoder, but it knows how many features there were:
    /// a network without its last stage is another one, not one that is complete.
    fn check_head(&self, prefix: &str, head: &[&str], config: &CnnConfig) -> Result<()> {
        for name in head.iter().flat_map(|h| [format!("{h}weight"), format!("{h}fc.weight")]) {
            let Some([_, inputs, ..]) = self.file.shape(&format!("{prefix}{name}")) else { continue };
            if *inputs != config.embed_dim() {
                let features = config.embed_dim();
                return Err(
                    self.bad(&name, format!("takes {inputs} features, where the layers before give {features}"))
                );
            }
        }
        Ok(())
    }

    fn resnet(&self) -> Result<ResNetConfig> {
        let bottleneck = self.shape("layer1.0.conv3.weight").is_some();
        let mut stages = Vec::new();
        // Numbered from 1.
        for s in 1..self.count("layer")? {
            let name = |part: &str| format!("layer{s}.0.{part}.weight");
            let width = self.side(&name("conv1"), 0, 1);
            let out = if bottleneck { self.side(&name("conv3"), 0, width.saturating_mul(4)) } else { width };
            stages.push(ResNetStage { blocks: self.count(&format!("layer{s}."))?, width, out });
        }
        let block = if bottleneck { ResNetBlock::Bottleneck } else { ResNetBlock::Basic };
        Ok(ResNetConfig { stem: self.side("conv1.weight", 0, 64), block, stages })
    }

    fn densenet(&self) -> Result<DenseNetConfig> {
        let old = self.found.name(OLD_DENSENET_ANCHOR).is_some();
        let layer = |part: &str| {
            let name = format!("features.denseblock1.denselayer1.{part}.weight");
            if old { old_densenet(&name) } else { name }
        };
        // Numbered from 1.
        let blocks = (1..self.count("features.denseblock")?)
            .map(|b| Ok(self.count(&format!("features.denseblock{b}.denselayer"))?.saturating_sub(1)))
            .collect::<Result<_>>()?;
        Ok(DenseNetConfig {
            stem: self.side("features.conv0.weight", 0, 64),
            growth: self.side(&layer("conv2"), 0, 32),
            bottleneck: self.side(&layer("conv1"), 0, 128),
            blocks,
        })
    }

    fn vgg(&self, timm: bool) -> Result<VggConfig> {
        let batch_norm = self.shape("features.1.running_mean").is_some();
        let step = 2 + usize::from(batch_norm);
        let mut stages: Vec<Vec<usize>> = Vec::new();
        let mut next = 0;
        for at in 0..self.count("features.")? {
            let name = format!("features.{at}.weight");
            let Some([out, _, _, _]) = self.shape(&name) else { continue };
            match stages.last_mut() {
                Some(stage) if at == next => stage.push(*out),
                // A pooling lies between.
                _ if at == 0 || at == next + 1 => stages.push(vec![*out]),
                _ => return Err(self.bad(&name, format!("is not where a VGG has a convolution ({next} or one more)"))),
            }
            next = at + step;
        }
        let channels = stages.last().and_then(|s| s.last()).copied().unwrap_or(1).max(1);
        let ([first, second], side) = match timm {
            true => (["pre_logits.fc1", "pre_logits.fc2"], self.side("pre_logits.fc1.weight", 2, 7)),
            false => {
                let inputs = self.side("classifier.0.weight", 1, channels.saturating_mul(49));
                (["classifier.0", "classifier.3"], (inputs / channels).isqrt())
            }
        };
        let hidden = [first, second].map(|name| self.side(&format!("{name}.weight"), 0, 4096));
        Ok(VggConfig { stages, batch_norm, side, hidden })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_have_a_dot_more() {
        let name = "features.denseblock1.denselayer2.norm1.running_var";
        assert_eq!(old_densenet(name), "features.denseblock1.denselayer2.norm.1.running_var");
        assert_eq!(old_densenet("features.transition1.norm.weight"), "features.transition1.norm.weight");
        assert_eq!(old_densenet("features.norm5.weight"), "features.norm5.weight");
    }
}
