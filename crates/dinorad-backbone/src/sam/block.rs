//! One transformer block, which attends within windows or over the whole image.

use candle::Tensor;
use dinorad_nn::{Activation, LayerNorm, Linear, Mlp, Pass, Trainable};

use super::{attention::Attention, config::SamConfig};
use crate::Result;

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
#[derive(Debug, Clone)]
pub(super) struct SamBlock {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    /// Side of the windows; over the whole image without.
    window: Option<usize>,
}

impl Trainable for SamBlock {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        let name = |part: &str| format!("{prefix}.{part}");
        self.norm1.visit(&name("norm1"), f);
        self.attn.visit(&name("attn"), f);
        self.norm2.visit(&name("norm2"), f);
        self.mlp.fc1.visit(&name("mlp.lin1"), f);
        self.mlp.fc2.visit(&name("mlp.lin2"), f);
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        let name = |part: &str| format!("{prefix}.{part}");
        self.norm1.visit_mut(&name("norm1"), f)?;
        self.attn.visit_mut(&name("attn"), f)?;
        self.norm2.visit_mut(&name("norm2"), f)?;
        self.mlp.fc1.visit_mut(&name("mlp.lin1"), f)?;
        self.mlp.fc2.visit_mut(&name("mlp.lin2"), f)
    }

    fn visit_maps(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Linear) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        let name = |part: &str| format!("{prefix}.{part}");
        self.attn.visit_maps(&name("attn"), f)?;
        self.mlp.fc1.visit_maps(&name("mlp.lin1"), f)?;
        self.mlp.fc2.visit_maps(&name("mlp.lin2"), f)
    }
}

impl SamBlock {
    /// From named parameters; `take` gives the one of a name within the block.
    pub(super) fn new(config: &SamConfig, index: usize, take: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<Self> {
        let mut linear = |name: &str, bias: bool| -> Result<Linear> {
            let bias = if bias { Some(take(&format!("{name}.bias"))?) } else { None };
            Ok(Linear::new(take(&format!("{name}.weight"))?, bias))
        };
        let (qkv, proj) = (linear("attn.qkv", config.qkv_bias)?, linear("attn.proj", true)?);
        let (fc1, fc2) = (linear("mlp.lin1", true)?, linear("mlp.lin2", true)?);
        let mlp = Mlp { fc1, fc2, activation: Activation::Gelu };
        let mut distances = |name: &str| config.relative_positions.then(|| take(name)).transpose();
        let (rel_pos_h, rel_pos_w) = (distances("attn.rel_pos_h")?, distances("attn.rel_pos_w")?);
        let mut norm = |name: &str| -> Result<LayerNorm> {
            Ok(LayerNorm::new(take(&format!("{name}.weight"))?, take(&format!("{name}.bias"))?, config.eps))
        };
        Ok(SamBlock {
            norm1: norm("norm1")?,
            attn: Attention { qkv, proj, rel_pos_h, rel_pos_w, heads: config.heads },
            norm2: norm("norm2")?,
            mlp,
            window: (!config.global.contains(&index)).then_some(config.window),
        })
    }

    /// Tokens `(b, h * w, dim)` to the same.
    pub(super) fn forward(&self, x: &Tensor, grid: (usize, usize), pass: Pass) -> Result<Tensor> {
        let normed = self.norm1.forward(x, pass)?;
        let attended = match self.window {
            Some(side) => {
                let windows = Windows::new(&normed, grid, side)?;
                let attended = self.attn.forward(&windows.tokens, (side, side), pass)?;
                windows.put_back(&attended)?
            }
            None => self.attn.forward(&normed, grid, pass)?,
        };
        let x = (x + attended)?;
        let y = self.mlp.forward(&self.norm2.forward(&x, pass)?, pass)?;
        Ok((x + y)?)
    }
}

/// An image cut into square windows. What lies beyond its right and lower edges is zero and takes
/// part in the attention, as in the authors' code.
struct Windows {
    /// `(b * windows, side * side, dim)`
    tokens: Tensor,
    images: usize,
    grid: (usize, usize),
    side: usize,
}

impl Windows {
    fn new(x: &Tensor, grid: (usize, usize), side: usize) -> Result<Self> {
        let (b, _, dim) = x.dims3()?;
        let (rows, columns) = (grid.0.div_ceil(side), grid.1.div_ceil(side));
        let x = x.reshape((b, grid.0, grid.1, dim))?;
        let x = x.pad_with_zeros(1, 0, rows * side - grid.0)?.pad_with_zeros(2, 0, columns * side - grid.1)?;
        let tokens = x.reshape(&[b, rows, side, columns, side, dim][..])?.permute(vec![0, 1, 3, 2, 4, 5])?;
        let tokens = tokens.contiguous()?.reshape((b * rows * columns, side * side, dim))?;
        Ok(Windows { tokens, images: b, grid, side })
    }

    /// Tokens of the windows as tokens of the image, `(b, h * w, dim)`.
    fn put_back(&self, tokens: &Tensor) -> Result<Tensor> {
        let (b, side, dim) = (self.images, self.side, tokens.dim(2)?);
        let (rows, columns) = (self.grid.0.div_ceil(side), self.grid.1.div_ceil(side));
        let x = tokens.reshape(&[b, rows, columns, side, side, dim][..])?.permute(vec![0, 1, 3, 2, 4, 5])?;
        let x = x.contiguous()?.reshape((b, rows * side, columns * side, dim))?;
        let x = x.narrow(1, 0, self.grid.0)?.narrow(2, 0, self.grid.1)?.contiguous()?;
        Ok(x.reshape((b, self.grid.0 * self.grid.1, dim))?)
    }
}
