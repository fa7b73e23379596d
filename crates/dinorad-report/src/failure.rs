//! A case that could not be used, and why.

use serde::{Deserialize, Serialize};

use crate::renaming::{Told, UNTOLD};

/// An item without features, or a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The sample id.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Another name for a case that failed. Its reason may hold any name in words of its own, and is told only
/// where the case had its other name already when it failed.
pub(crate) fn rename_failed(id: &mut String, reason: &mut String, told: &Told<'_>) {
    let new = told.case(id);
    if new != *id {
        *reason = UNTOLD.into();
        *id = new;
    }
}
