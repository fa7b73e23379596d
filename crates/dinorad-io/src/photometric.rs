//! What the channels of a picture are.

use serde::{Deserialize, Serialize};

/// What the channels mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Photometric {
    /// Gray, 0 is white: to be inverted for display. Values are as stored, never inverted here.
    Monochrome1,
    /// Gray, 0 is black.
    Monochrome2,
    /// Red, green, blue.
    Rgb,
}
