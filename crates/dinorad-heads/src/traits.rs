//! What all heads share.

use ndarray::{Array2, ArrayView2};

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
    fn fit(&self, x: ArrayView2<'_, f32>, y: &Targets) -> Result<Self::Fitted>;
}

/// A fitted head.
pub trait Predict {
    /// Maps features `(n, dim)` to probabilities `(n, classes)`.
    ///
    /// A binary head gives two columns; the columns of findings do not sum to one.
    ///
    /// # Errors
    /// Features of another width than those of the fit, empty or not finite.
    fn predict(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f32>>;
}
