//! Fast kernels or differentiable ones.

use candle::Tensor;

/// Which kernels a forward pass uses.
///
/// candle's fused layer norm and softmax have no backward pass and cut gradients without a word,
/// so the choice is made by the caller at every call and never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Fused kernels; no gradient flows and no graph is kept, even over variables.
    #[default]
    Inference,
    /// Only operations that carry gradients.
    Training,
}

impl Mode {
    /// A parameter as this mode uses it: detached from the graph for inference.
    pub fn of(self, parameter: &Tensor) -> Tensor {
        match self {
            Mode::Inference => parameter.detach(),
            Mode::Training => parameter.clone(),
        }
    }
}
