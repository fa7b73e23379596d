//! A small encoder and images with something to tell apart.

#![allow(dead_code, reason = "each test crate uses its part")]

use std::sync::Arc;

use candle::Device;
use dinorad_backbone::{Backbone, Dinov2, Dinov2Config};
use dinorad_pretrain::{Feed, HeadConfig, Settings, Views};
use ndarray::Array3;

pub(crate) fn config() -> Dinov2Config {
    Dinov2Config { embed_dim: 24, depth: 2, heads: 2, hidden: 48, grid: 4, ..Dinov2Config::tiny() }
}

pub(crate) fn encoder(registers: usize) -> Dinov2 {
    Dinov2::untrained(&config().with_registers(registers), 3, &Device::Cpu).unwrap()
}

/// Stripes of another direction, width and place for every image, on a slope.
pub(crate) fn images(n: usize) -> Vec<Array3<f32>> {
    let one = |i: usize| {
        let (dy, dx, width) = (1 + i % 3, i % 4, 3 + i % 5);
        Array3::from_shape_fn((1, 66 + i % 3, 70), |(_, y, x)| {
            let stripe = ((y * dy + x * dx + i) / width) % 2;
            stripe as f32 * 300.0 + (y as f32 - x as f32) * 2.0 - 100.0
        })
    };
    (0..n).map(one).collect()
}

/// Images that every crop of them tells from the others: a level and a texture of their own, within one range.
pub(crate) fn grays(n: usize) -> Vec<Array3<f32>> {
    let one = |i: usize| {
        let mut image = Array3::from_shape_fn((1, 64, 64), |(_, y, x)| {
            let texture = ((y / 2 + (1 + i % 3) * x / 2) % 2) as f32 * 0.1;
            0.1 + 0.8 * i as f32 / n as f32 + texture
        });
        (image[[0, 0, 0]], image[[0, 63, 63]]) = (0.0, 1.0);
        image
    };
    (0..n).map(one).collect()
}

pub(crate) fn settings() -> Settings {
    Settings {
        seed: 5,
        steps: 6,
        batch_size: 5,
        views: Views { local: 3, global_size: 56, local_size: 28, ..Views::default() },
        head: HeadConfig { layers: 3, hidden: 32, bottleneck: 16, prototypes: 50 },
        learning_rate: Some(1e-3),
        ..Settings::default()
    }
}

pub(crate) fn feed(settings: &Settings, encoder: &Dinov2) -> Feed {
    Feed::new(Arc::new(images(12)), settings, encoder.spec()).unwrap()
}
