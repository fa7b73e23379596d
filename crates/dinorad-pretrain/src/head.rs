//! From tokens to scores of prototypes.

use candle::{DType, Device, Tensor};
use dinorad_nn::{Activation, Linear, Pass, Trainable, init, join, ops};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Shorter rows count as this long.
const SHORTEST: f64 = 1e-12;

/// Sizes of a [`DinoHead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadConfig {
    /// Affine maps before the prototypes.
    pub layers: usize,
    /// Width between them.
    pub hidden: usize,
    /// Width of what is compared with the prototypes.
    pub bottleneck: usize,
    /// Number of prototypes.
    pub prototypes: usize,
}

impl Default for HeadConfig {
    /// 3 maps of width 1024, 256, and 4096 prototypes: for some ten thousand images. DINOv2 has 2048 and 65,536 for
    /// a hundred million.
    fn default() -> Self {
        Self { layers: 3, hidden: 1024, bottleneck: 256, prototypes: 4096 }
    }
}

impl HeadConfig {
    /// # Errors
    /// [`Error::Parameter`] for a size of 0 or beyond reason.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("head.layers", self.layers, 16),
            ("head.hidden", self.hidden, 1 << 16),
            ("head.bottleneck", self.bottleneck, 1 << 14),
            ("head.prototypes", self.prototypes, 1 << 20),
        ];
        for (name, got, most) in sizes {
            if got == 0 || got > most {
                return Err(Error::parameter(name, format!("1 to {most}"), got));
            }
        }
        if self.prototypes < 2 {
            return Err(Error::parameter("head.prototypes", "at least 2", self.prototypes));
        }
        Ok(())
    }
}

/// An MLP with GELU, rows of length 1, and their products with prototypes of length 1.
///
/// # Source
/// Caron et al. 2021, arXiv:2104.14294; DINOv2's `DINOHead`, whose names of parameters it has: `mlp.0`, `mlp.2` …,
/// `last_layer.weight_v` (the prototypes before they are brought to length 1) and `last_layer.weight_g` (their
/// lengths, which stay 1).
#[derive(Debug, Clone)]
pub struct DinoHead {
    maps: Vec<Linear>,
    prototypes: Tensor,
    lengths: Tensor,
}

impl DinoHead {
    /// A head with random weights for tokens of width `dim`: the same for the same seed and name.
    ///
    /// # Errors
    /// [`Error::Parameter`] for impossible sizes.
    pub fn new(config: &HeadConfig, dim: usize, seed: u64, name: &str, device: &Device) -> Result<Self> {
        config.check()?;
        let mut maps = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            let input = if i == 0 { dim } else { config.hidden };
            let output = if i + 1 == config.layers { config.bottleneck } else { config.hidden };
            let weight =
                init::trunc_normal(seed, &format!("{name}.mlp.{}.weight", 2 * i), (output, input), 0.02, device)?;
            maps.push(Linear::new(weight, Some(Tensor::zeros(output, DType::F32, device)?)));
        }
        let shape = (config.prototypes, config.bottleneck);
        let bound = 1.0 / (config.bottleneck as f64).sqrt();
        let prototypes = init::uniform(seed, &format!("{name}.last_layer.weight_v"), shape, bound, device)?;
        let lengths = Tensor::ones((config.prototypes, 1), DType::F32, device)?;
        Ok(Self { maps, prototypes, lengths })
    }

    /// Scores of the prototypes for every row.
    ///
    /// # Shapes
    /// x `(n, dim)`; returns `(n, prototypes)`, each between -1 and 1 while the lengths are 1.
    ///
    /// # Errors
    /// If `x` is of another shape.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, map) in self.maps.iter().enumerate() {
            x = match i + 1 == self.maps.len() {
                true => map.forward(&x, pass)?,
                false => map.forward_activated(&x, Activation::Gelu, pass)?,
            };
        }
        let x = ops::unit_rows(&x, SHORTEST)?;
        let mut prototypes = ops::unit_rows(&pass.of(&self.prototypes), SHORTEST)?;
        // fixed at 1 in training: then there is nothing to multiply
        if self.lengths.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?.iter().any(|v| *v != 1.0) {
            prototypes = prototypes.broadcast_mul(&pass.of(&self.lengths))?;
        }
        Ok(ops::linear(&x, &prototypes, None)?)
    }

    /// Number of prototypes.
    pub fn prototypes(&self) -> usize {
        self.prototypes.dims().first().copied().unwrap_or_default()
    }

    /// Whether a parameter of a head, by its name, is one of the last layer: these are held for the first steps.
    pub fn is_last_layer(name: &str) -> bool {
        name.ends_with("last_layer.weight_v") || name.ends_with("last_layer.weight_g")
    }

    fn name_of(&self, i: usize) -> String {
        if self.maps.len() == 1 { "mlp".into() } else { format!("mlp.{}", 2 * i) }
    }
}

impl Trainable for DinoHead {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        for (i, map) in self.maps.iter().enumerate() {
            map.visit(&join(prefix, &self.name_of(i)), f);
        }
        f(&join(prefix, "last_layer.weight_g"), &self.lengths);
        f(&join(prefix, "last_layer.weight_v"), &self.prototypes);
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        let names: Vec<String> = (0..self.maps.len()).map(|i| self.name_of(i)).collect();
        for (map, name) in self.maps.iter_mut().zip(names) {
            map.visit_mut(&join(prefix, &name), f)?;
        }
        f(&join(prefix, "last_layer.weight_g"), &mut self.lengths)?;
        f(&join(prefix, "last_layer.weight_v"), &mut self.prototypes)
    }
}
