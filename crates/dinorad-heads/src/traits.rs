//! What all heads share.

use candle::Tensor;

use crate::{Result, Targets};

/// Settings of a head that learn from labelled features.
pub trait Fit {
    /// What comes out.
    type Fitted: Predict;

    /// Learns from features `(n, dim)` and their `n` targets.
    ///
    /// # Errors
    /// Features that are empty or not finite (the row is named), another number of targets, and
    /// what the head itself refuses.
    fn fit(&self, x: &Tensor, y: &Targets) -> Result<Self::Fitted>;
}

/// A fitted head.
pub trait Predict {
    /// Maps features `(n, dim)` to probabilities `(n, classes)`, f32 on the device of `x`.
    ///
    /// A binary head gives two columns; the columns of findings do not sum to one.
    ///
    /// # Errors
    /// Features of another width than those of the fit, empty or not finite.
    fn predict(&self, x: &Tensor) -> Result<Tensor>;
}
