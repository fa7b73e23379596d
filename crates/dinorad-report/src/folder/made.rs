//! What differs from run to run of one experiment.

use serde::{Deserialize, Serialize};

/// The table of a `config.toml` that holds it.
pub(super) const TABLE: &str = "made";

/// How a run went: the table `[made]` of its `config.toml`. Nothing in it decides a number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Made {
    /// When it ended, as `2026-03-01T14:05:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The command that was typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Version of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Processor, accelerator, operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Worker threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// From start to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Largest resident memory, in megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_mb: Option<f64>,
    /// Images (or slices) that went through the encoder; none where all features were there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// Seconds of every step, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<crate::pages::Timing>,
}
