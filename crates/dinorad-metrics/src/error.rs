//! What can go wrong in this crate.

/// Predictions and targets that no number can be made from.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two arrays that should have the same shape.
    #[error("{what}: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// Which array.
        what: &'static str,
        /// The shape it should have.
        expected: Vec<usize>,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// Nothing to judge.
    #[error("{what} is empty")]
    Empty {
        /// Which array.
        what: &'static str,
    },
    /// A score that is not a number.
    #[error("score of case {case}, column {column} is NaN")]
    NaN {
        /// Index of the case.
        case: usize,
        /// Index of the class or label; 0 where there is one column.
        column: usize,
    },
    /// A score that is no probability where one is needed.
    #[error("score {got} of case {case}, column {column} is not a probability")]
    Probability {
        /// Index of the case.
        case: usize,
        /// Index of the class or label; 0 where there is one column.
        column: usize,
        /// The score.
        got: f64,
    },
    /// A label outside the classes.
    #[error("label {got} of case {case} is not one of {classes} classes")]
    Label {
        /// Index of the case.
        case: usize,
        /// The label.
        got: String,
        /// How many classes there are.
        classes: usize,
    },
    /// Positives and negatives are needed, and one of them is missing or too few.
    #[error("{positives} positives and {negatives} negatives, at least {needed} of each are needed")]
    OneClass {
        /// Number of positives.
        positives: usize,
        /// Number of negatives.
        negatives: usize,
        /// How many are needed of each.
        needed: usize,
    },
    /// A setting outside what is understood.
    #[error("`{name}` is {got}, expected {expected}")]
    Parameter {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A name that is none of the known ones.
    #[error("unknown {what} `{got}`, expected one of {expected}")]
    Unknown {
        /// What was to be named.
        what: &'static str,
        /// The word given.
        got: String,
        /// The words understood.
        expected: &'static str,
    },
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn parameter(name: &'static str, got: impl std::fmt::Display, expected: &'static str) -> Error {
    Error::Parameter { name, got: got.to_string(), expected }
}
