//! Which parameters learn how fast, and which ones decay.

use dinorad_backbone::{Backbone, tuning::TrainableBackbone};
use dinorad_nn::layer_decay;

/// The factor of the learning rate of an encoder's parameter: `decay` for every block that lies behind it.
///
/// # Source
/// DINOv2's `get_vit_lr_decay_rate`: tokens, positions and the patch projection count as before the first block, the
/// last norm as behind the last one.
pub fn rate_of_depth(encoder: &impl TrainableBackbone, name: &str, decay: f64) -> f64 {
    layer_decay(decay, encoder.block_of(name), Backbone::spec(encoder).depth)
}

/// Whether weight decay acts on a parameter: not on biases, norms and gains.
///
/// # Source
/// DINOv2's `get_params_groups_with_decay`. Tokens and positions decay there, and so they do here.
pub fn decays(name: &str) -> bool {
    !(name.ends_with(".bias") || name.contains("norm") || name.contains("gamma"))
}
