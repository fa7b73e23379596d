//! Convolutions with their weights.

use candle::Tensor;

use crate::{Error, Pass, Result, ops, ops::Window, parameters};

/// Says which weight is of the wrong shape.
fn refuse(what: &'static str, weight: &Tensor, bias: Option<&Tensor>) -> Error {
    let got = bias.map_or_else(|| weight.dims().to_vec(), |b| [weight.dims(), b.dims()].concat());
    Error::Shape { what, expected: "(to, from, kh, kw) and a bias of as many outputs".into(), got }
}

/// A 2D convolution.
///
/// # Shapes
/// weight `(out, in / groups, kh, kw)`, bias `(out,)`; maps `(b, in, h, w)` to `(b, out, ..)`.
///
/// # Source
/// PyTorch's `nn.Conv2d`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    window: Window,
}

parameters!(Conv2d { weight: "weight", bias: "bias" });

impl Conv2d {
    /// From its parameters.
    ///
    /// # Errors
    /// [`Error::Shape`] for a weight without four axes or a bias of another length.
    pub fn new(weight: Tensor, bias: Option<Tensor>, window: Window) -> Result<Self> {
        match (weight.dims(), bias.as_ref().map(Tensor::dims)) {
            ([_, _, _, _], None) => {}
            ([out, _, _, _], Some([n])) if out == n => {}
            _ => return Err(refuse("convolution weight", &weight, bias.as_ref())),
        }
        Ok(Conv2d { weight, bias, window })
    }

    /// The weight, `(out, in / groups, kh, kw)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `(out,)`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Where its windows lie.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The convolution of maps.
    ///
    /// # Errors
    /// [`Error::Shape`] for maps of other channels or too small.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        ops::conv2d(x, &pass.of(&self.weight), self.bias.as_ref().map(|b| pass.of(b)).as_ref(), self.window)
    }
}

/// A transposed 2D convolution: with a stride it makes maps larger.
///
/// # Shapes
/// weight `(in, out / groups, kh, kw)`, bias `(out,)`.
///
/// # Source
/// PyTorch's `nn.ConvTranspose2d`.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    weight: Tensor,
    bias: Option<Tensor>,
    window: Window,
}

parameters!(ConvTranspose2d { weight: "weight", bias: "bias" });

impl ConvTranspose2d {
    /// From its parameters.
    ///
    /// # Errors
    /// [`Error::Shape`] for a weight without four axes or a bias of another length.
    pub fn new(weight: Tensor, bias: Option<Tensor>, window: Window) -> Result<Self> {
        match (weight.dims(), bias.as_ref().map(Tensor::dims)) {
            ([_, _, _, _], None) => {}
            ([_, out, _, _], Some([n])) if out * window.groups == *n => {}
            _ => return Err(refuse("transposed convolution weight", &weight, bias.as_ref())),
        }
        Ok(ConvTranspose2d { weight, bias, window })
    }

    /// The weight, `(in, out / groups, kh, kw)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The larger maps.
    ///
    /// # Errors
    /// [`Error::Shape`] for maps of other channels.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| pass.of(b));
        ops::conv_transpose2d(x, &pass.of(&self.weight), bias.as_ref(), self.window, 0)
    }
}
