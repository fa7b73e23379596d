#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

mod augment;
mod compose;
mod degrade;
mod error;
mod geometry;
mod intensity;
pub mod presets;
mod shift;
mod step;
mod window;

pub use augment::{CropBox, random_crop_box};
pub use compose::{Compose, StreamKey};
pub use degrade::{add_noise, blur, coarsen, contrast};
pub use dinorad_core::resample::Filter;
pub use error::{Error, Result};
pub use geometry::{
    Fill, MAX_PIXELS, Plane, center_crop, center_crop_offset, crop, horizontal_flip, nearest_exact_indices_f64, resize,
    resize_mask, rotate, short_side_size, vertical_flip,
};
pub use intensity::{
    Constant, PercentileRule, clamp, min_max, normalize, percentile_clip, percentiles, scale, to_rgb, window, z_score,
};
pub use shift::Shift;
pub use window::{NamedWindow, WINDOWS, Window};

pub use step::Step;
