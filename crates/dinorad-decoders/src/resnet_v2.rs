//! The residual network in front of TransUNet's transformer.

use candle::{DType, Tensor};
use dinorad_nn::{Conv2d, GroupNorm, Pass, Trainable, join, ops, ops::Margins, parameters};

use crate::{Result, blocks::sides, weights::Weights};

/// Three stages of residual units after a first convolution of 7 by 7; weights of convolutions are standardised.
///
/// # Source
/// BiT's ResNet-v2, Kolesnikov et al. 2020, arXiv:1912.11370; weight standardisation: Qiao et al. 2019,
/// arXiv:1903.10520.
#[derive(Debug, Clone)]
pub(crate) struct ResnetV2 {
    root: Conv2d,
    root_norm: GroupNorm,
    stages: [Vec<Unit>; 3],
}

impl ResnetV2 {
    pub(crate) fn new(weights: &Weights<'_>, name: &str, width: usize, units: [usize; 3]) -> Result<Self> {
        let stage = |i: usize| -> Result<Vec<Unit>> {
            let (out, between) = (width << (i + 2), width << i);
            let from = if i == 0 { width } else { out / 2 };
            let unit = |u: usize| {
                let name = format!("{name}.body.block{}.unit{}", i + 1, u + 1);
                let (from, stride) = if u > 0 { (out, 1) } else { (from, if i == 0 { 1 } else { 2 }) };
                Unit::new(weights, &name, [from, between, out], stride)
            };
            (0..units.get(i).copied().unwrap_or(0)).map(unit).collect()
        };
        Ok(Self {
            root: weights.conv(&format!("{name}.root.conv"), (3, width), 7, 2, false)?,
            root_norm: weights.group_norm(&format!("{name}.root.gn"), width, 32, 1e-6)?,
            stages: [stage(0)?, stage(1)?, stage(2)?],
        })
    }

    /// Maps at a sixteenth of the images' sides, and those on the way there, at an eighth, a fourth and a half.
    pub(crate) fn forward(&self, x: &Tensor, pass: Pass) -> Result<(Tensor, Vec<Tensor>)> {
        let (height, width) = sides(x)?;
        let root = ops::relu(&normed(&self.root, &self.root_norm, x, pass)?)?;
        let mut x = ops::max_pool2d(&root, 3, 2)?;
        let mut seen = vec![root];
        for (stage, share) in self.stages.iter().zip([4, 8, 16]) {
            for unit in stage {
                x = unit.forward(&x, pass)?;
            }
            if share < 16 {
                // the pooling leaves out the last row and column, which others see as zeros
                let (h, w) = sides(&x)?;
                let (bottom, right) = ((height / share).saturating_sub(h), (width / share).saturating_sub(w));
                seen.push(ops::pad(&x, Margins { bottom, right, ..Margins::default() })?);
            }
        }
        seen.reverse();
        Ok((x, seen))
    }
}

impl Trainable for ResnetV2 {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        self.root.visit(&join(prefix, "root.conv"), f);
        self.root_norm.visit(&join(prefix, "root.gn"), f);
        for (i, stage) in (1..).zip(&self.stages) {
            for (u, unit) in (1..).zip(stage) {
                unit.visit(&join(prefix, &format!("body.block{i}.unit{u}")), f);
            }
        }
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        self.root.visit_mut(&join(prefix, "root.conv"), f)?;
        self.root_norm.visit_mut(&join(prefix, "root.gn"), f)?;
        for (i, stage) in (1..).zip(&mut self.stages) {
            for (u, unit) in (1..).zip(stage) {
                unit.visit_mut(&join(prefix, &format!("body.block{i}.unit{u}")), f)?;
            }
        }
        Ok(())
    }
}

/// The convolution with standardised weights, then the norm.
fn normed(conv: &Conv2d, norm: &GroupNorm, x: &Tensor, pass: Pass) -> Result<Tensor> {
    let weight = pass.of(conv.weight());
    // The weights of every output to mean 0 and variance 1: as an image of its own, in one group.
    let (_, channels, _, _) = weight.dims4()?;
    let ones = Tensor::ones(channels, DType::F32, weight.device())?;
    let weight = ops::group_norm(&weight, &ones, &ones.zeros_like()?, 1, 1e-5)?;
    Ok(norm.forward(&ops::conv2d(x, &weight, None, conv.window())?, pass)?)
}

/// A residual unit: narrow, look around, widen, add.
#[derive(Debug, Clone)]
struct Unit {
    conv1: Conv2d,
    gn1: GroupNorm,
    conv2: Conv2d,
    gn2: GroupNorm,
    conv3: Conv2d,
    gn3: GroupNorm,
    downsample: Option<Conv2d>,
    gn_proj: Option<GroupNorm>,
}

parameters!(Unit {
    conv1: "conv1",
    gn1: "gn1",
    conv2: "conv2",
    gn2: "gn2",
    conv3: "conv3",
    gn3: "gn3",
    downsample: "downsample",
    gn_proj: "gn_proj",
});

impl Unit {
    fn new(weights: &Weights<'_>, name: &str, [from, between, to]: [usize; 3], stride: usize) -> Result<Self> {
        let conv = |part: &str, ends, side, stride| weights.conv(&format!("{name}.{part}"), ends, side, stride, false);
        let norm =
            |part: &str, channels, groups, eps| weights.group_norm(&format!("{name}.{part}"), channels, groups, eps);
        let other = stride != 1 || from != to;
        Ok(Self {
            conv1: conv("conv1", (from, between), 1, 1)?,
            gn1: norm("gn1", between, 32, 1e-6)?,
            conv2: conv("conv2", (between, between), 3, stride)?,
            gn2: norm("gn2", between, 32, 1e-6)?,
            conv3: conv("conv3", (between, to), 1, 1)?,
            gn3: norm("gn3", to, 32, 1e-6)?,
            downsample: if other { Some(conv("downsample", (from, to), 1, stride)?) } else { None },
            // a group for every channel
            gn_proj: if other { Some(norm("gn_proj", to, to, 1e-5)?) } else { None },
        })
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let beside = match self.downsample.as_ref().zip(self.gn_proj.as_ref()) {
            Some((conv, norm)) => normed(conv, norm, x, pass)?,
            None => x.clone(),
        };
        let y = ops::relu(&normed(&self.conv1, &self.gn1, x, pass)?)?;
        let y = ops::relu(&normed(&self.conv2, &self.gn2, &y, pass)?)?;
        let y = normed(&self.conv3, &self.gn3, &y, pass)?;
        Ok(ops::relu(&ops::add(&beside, &y)?)?)
    }
}
