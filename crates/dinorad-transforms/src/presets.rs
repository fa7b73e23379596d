//! The preprocessings of the study, ready made.
//!
//! All of them stretch every channel to 0..1 *after* resizing and cropping, as the study does.
//! Resizing, cropping, min–max and percentile limits treat the channels of an image alike and
//! apart, so a gray image gives the same numbers whether it is repeated to three channels first or
//! just before [`Step::Normalize`]. The presets repeat late and do a third of the work. The one
//! exception, percentile limits over three copies, is a setting of its own (`copies`).

use dinorad_core::{Protocol, resample::Filter};

use crate::{Compose, Constant, Fill, PercentileRule, Step};

/// Channel means of ImageNet, for inputs in 0..1.
pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// Channel standard deviations of ImageNet, for inputs in 0..1.
pub const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Evaluation of a classifier: resize to a square of `resize` pixels (the aspect ratio is not
/// kept), centre crop to `crop`, min–max per channel, three channels, mean and standard deviation.
///
/// The study's linear probe uses 224 and 224, its kNN 256 and 224.
///
/// # Examples
/// ```
/// use dinorad_core::resample::Filter;
/// use dinorad_transforms::presets::{IMAGENET_MEAN, IMAGENET_STD, classification_eval};
/// let preset = classification_eval(256, 224, Filter::BicubicAntialias, IMAGENET_MEAN, IMAGENET_STD);
/// let image = ndarray::Array3::from_shape_fn((1, 100, 80), |(_, y, x)| (y * x) as f32);
/// assert_eq!(preset.apply(image)?.dim(), (3, 224, 224));
/// # Ok::<(), dinorad_transforms::Error>(())
/// ```
pub fn classification_eval(resize: usize, crop: usize, filter: Filter, mean: [f64; 3], std: [f64; 3]) -> Compose {
    let mut steps = vec![Step::Resize { height: resize, width: resize, filter }];
    if crop != resize {
        steps.push(Step::CenterCrop { height: crop, width: crop });
    }
    steps.extend(finish(mean, std));
    Compose { steps }
}

/// Training of a classifier: random resized crop (area 0.75..1, ratio 3/4..4/3), horizontal flip
/// half the time, then as [`classification_eval`].
pub fn classification_train(size: usize, filter: Filter, mean: [f64; 3], std: [f64; 3]) -> Compose {
    let mut steps = vec![
        Step::RandomResizedCrop {
            height: size,
            width: size,
            scale: (0.75, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            filter,
        },
        Step::RandomHorizontalFlip { probability: 0.5 },
    ];
    steps.extend(finish(mean, std));
    Compose { steps }
}

/// Evaluation of a segmentation: resize to a square of `size` pixels, min–max per channel, three
/// channels, mean and standard deviation. Masks are resized by the nearest pixel.
///
/// Put the steps of [`ct_clamp`] or [`percentile_5_95`] before it, with [`after`].
pub fn segmentation_eval(size: usize, filter: Filter, mean: [f64; 3], std: [f64; 3]) -> Compose {
    let mut steps = vec![Step::Resize { height: size, width: size, filter }];
    steps.extend(finish(mean, std));
    Compose { steps }
}

/// Training of a segmentation: resize, flips with probability one half, rotation by up to
/// `max_degrees`, then as [`segmentation_eval`].
///
/// [`Protocol::Strict`] flips up-down and left-right and fills the corners with the smallest
/// value. [`Protocol::Paper`] does what the study's text says, which is the same but for the fill
/// of raw 0. The study's *code* flips up-down twice; build that from [`Step`]s where needed.
pub fn segmentation_train(
    size: usize,
    max_degrees: f64,
    protocol: Protocol,
    filter: Filter,
    mean: [f64; 3],
    std: [f64; 3],
) -> Compose {
    let fill = match protocol {
        Protocol::Paper => Fill::Value(0.0),
        Protocol::Strict => Fill::Minimum,
    };
    let mut steps = vec![
        Step::Resize { height: size, width: size, filter },
        Step::RandomVerticalFlip { probability: 0.5 },
        Step::RandomHorizontalFlip { probability: 0.5 },
        Step::RandomRotation { degrees: max_degrees, fill },
    ];
    steps.extend(finish(mean, std));
    Compose { steps }
}

/// The study's CT window: values limited to [-1024, 600] HU.
pub fn ct_clamp() -> Step {
    Step::Clamp { min: Some(-1024.0), max: Some(600.0) }
}

/// The study's rule for BTCV volumes: values above 600 HU become 600.
pub fn ct_clamp_above() -> Step {
    Step::Clamp { min: None, max: Some(600.0) }
}

/// The study's rule for MSD: each slice limited to its 5th and 95th percentile. Under
/// [`Protocol::Paper`] the percentiles run over the slice repeated three times, as in the study.
pub fn percentile_5_95(protocol: Protocol) -> Step {
    percentile(protocol, PercentileRule::Clip)
}

/// The study's rule for Brain Tumor: above the 95th percentile becomes it, at or below the 5th
/// becomes 0.
pub fn percentile_zero_below(protocol: Protocol) -> Step {
    percentile(protocol, PercentileRule::ZeroBelow)
}

/// `preset` with a step put before it.
pub fn after(first: Step, mut preset: Compose) -> Compose {
    preset.steps.insert(0, first);
    preset
}

fn percentile(protocol: Protocol, rule: PercentileRule) -> Step {
    let copies = if protocol == Protocol::Paper { 3 } else { 1 };
    Step::PercentileClip { low: 5.0, high: 95.0, rule, copies }
}

fn finish(mean: [f64; 3], std: [f64; 3]) -> [Step; 3] {
    let normalize = Step::Normalize { mean: mean.to_vec(), std: std.to_vec() };
    [Step::MinMax { constant: Constant::Zeros }, Step::ToRgb, normalize]
}
