//! A case that could not be used, and why.

use serde::{Deserialize, Serialize};

/// An item without features, or a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The sample id.
    pub id: String,
    /// Why.
    pub reason: String,
}
