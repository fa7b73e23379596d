//! Activation checkpointing holds less: counted by an allocator, in a process of its own.

use dinorad_backbone::{
    Backbone, Dinov2, Dinov2Config, Request,
    candle::{Device, Tensor},
    tuning::TrainableBackbone,
};
use dinorad_kernels::memory::Recycling;
use dinorad_nn::{Pass, Trainable, init::trunc_normal};

#[global_allocator]
static ALLOCATOR: Recycling = Recycling::off();

/// Between the forward and the backward pass a block holds some twenty widths for every token, or its input
/// alone.
#[test]
fn blocks_that_are_computed_again_hold_their_inputs_alone() {
    let (depth, batch) = (4, 4);
    let config = Dinov2Config { embed_dim: 96, depth, heads: 3, hidden: 384, grid: 20, ..Dinov2Config::tiny() };
    let side = config.grid * config.patch;
    let pixels: Tensor = trunc_normal(9, "pixels", (batch, 3, side, side), 1.0, &Device::Cpu).unwrap();
    let widths = |recompute: bool| {
        let mut encoder = Dinov2::untrained(&config, 3, &Device::Cpu).unwrap();
        TrainableBackbone::set_recompute(&mut encoder, recompute).unwrap();
        encoder.train_only(&mut |name| name != "mask_token").unwrap();
        let before = ALLOCATOR.in_use();
        let features = encoder.forward(&pixels, &Request::cls().with_pass(Pass::GRADIENTS)).unwrap();
        let held = ALLOCATOR.in_use() - before;
        drop(features);
        let tokens = batch * (config.grid * config.grid + 1);
        held as f64 / (4 * tokens * config.embed_dim * depth) as f64
    };
    let (kept, again) = (widths(false), widths(true));
    // the last block computes the class token alone: less than all of them
    assert!(kept > 8.0 && kept < 24.0, "{kept} widths a token and block are kept");
    assert!(again < 4.0, "{again} widths a token and block are kept where they need not be");
}
