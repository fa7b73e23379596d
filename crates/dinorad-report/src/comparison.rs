//! Two models on the same cases.

use serde::{Deserialize, Serialize};

/// The difference of two models' AUROCs on the same cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// First minus second.
    pub difference: f64,
    /// Its 95 % interval.
    pub ci95: [f64; 2],
    /// Two-sided.
    pub p_value: f64,
    /// `DeLong` or `paired bootstrap over patients` (or `cases`).
    pub method: String,
    /// Cases that both models have judged.
    pub cases: usize,
}
