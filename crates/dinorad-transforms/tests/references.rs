//! Steps that the golden cases leave out, against scipy, NumPy, torch and torchvision: numbers of
//! `tests/data/references.py`.

use std::path::Path;

use dinorad_core::rng;
use dinorad_testkit::json;
use dinorad_transforms::{Compose, Constant, Filter, Shift, Step, StreamKey, presets, random_crop_box};
use ndarray::{Array3, s};
use serde_json::Value;

fn references() -> Value {
    json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/references.json"))
}

fn picture(h: usize, w: usize) -> Array3<f32> {
    Array3::from_shape_fn((1, h, w), |(_, y, x)| ((y / 3 * 31 + x / 2 * 17) % 23 + (y * x) % 7) as f32)
}

fn sizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

#[track_caller]
fn close<'a>(what: &str, got: impl Iterator<Item = &'a f32>, want: &Value, tolerance: f64) {
    let got: Vec<f64> = got.map(|v| f64::from(*v)).collect();
    let want: Vec<f64> = want.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!((g - w).abs() <= tolerance, "{what}: [{i}] is {g}, expected {w}");
    }
}

/// Clamped to 0..1 after min-max and before the encoder's mean and deviation: at any other place
/// the pixels are others.
#[test]
fn a_shift_is_applied_between_min_max_and_normalisation() {
    let all = &references()["shifts"];
    let (resize, crop) = (all["resize"].as_u64().unwrap() as usize, all["crop"].as_u64().unwrap() as usize);
    let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
    let eval = presets::classification_eval(resize, crop, Filter::BicubicAntialias, mean, std);
    let size = sizes(&all["size"]);
    let mut compared = 0;
    for want in all["results"].as_array().unwrap() {
        let shift: Shift = want["shift"].as_str().unwrap().parse().unwrap();
        let severity = want["severity"].as_u64().unwrap() as usize;
        let shifted = shift.applied(severity, &eval).unwrap();
        let got = shifted.apply(picture(size[0], size[1])).unwrap();
        close(&format!("{shift} {severity}"), got.slice(s![.., ..;6, ..;6]).iter(), &want["every_sixth"], 2e-5);
        compared += 1;
    }
    assert_eq!(compared, 15);
}

/// The noise itself is ours; where it is added is not: undoing the normalisation leaves the image in
/// 0..1 with noise of the stated deviation, the same in all three channels.
#[test]
fn noise_is_added_in_the_range_0_to_1() {
    let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
    let eval = presets::classification_eval(96, 96, Filter::BicubicAntialias, mean, std);
    // half bright, half dark, so that the middle gray has room on both sides
    let image = Array3::from_shape_fn((1, 96, 96), |(_, y, _)| {
        if y == 0 {
            0.0
        } else if y == 1 {
            2000.0
        } else {
            1000.0
        }
    });
    let unit = |image: Array3<f32>| {
        let mut image = image;
        for (c, mut channel) in image.outer_iter_mut().enumerate() {
            channel.mapv_inplace(|v| v * std[c] as f32 + mean[c] as f32);
        }
        image
    };
    for (severity, sigma) in [0.04, 0.08, 0.12, 0.18, 0.26].into_iter().enumerate() {
        assert_eq!(Shift::Noise.strength(severity + 1).unwrap(), sigma);
        let shifted = Shift::Noise.applied(severity + 1, &eval).unwrap();
        let noisy = unit(shifted.augment(image.clone(), StreamKey { seed: 4, epoch: 0, sample: 9 }).unwrap());
        assert!(noisy.iter().all(|v| (-1e-5..=1.0 + 1e-5).contains(v)), "clamped");
        assert!((0..96 * 96).all(|i| (noisy[[0, i / 96, i % 96]] - noisy[[2, i / 96, i % 96]]).abs() < 1e-5));
        let middle: Vec<f64> = noisy.slice(s![0, 2.., ..]).iter().map(|v| f64::from(*v) - 0.5).collect();
        let n = middle.len() as f64;
        let deviation = (middle.iter().map(|v| v * v).sum::<f64>() / n).sqrt();
        // a normal number within 1/2: its deviation is cut a little for the largest sigma
        let expected = if sigma > 0.2 { 0.2474 } else { sigma };
        assert!((deviation - expected).abs() < 0.03 * expected, "severity {severity}: {deviation}");
    }
}

#[test]
fn a_shift_goes_after_the_last_min_max_and_knows_the_size_there() {
    let sizes = |steps: Vec<Step>| {
        let shifted = Shift::Blur.applied(2, &Compose::new(steps)).unwrap();
        let at = shifted.steps.iter().position(|s| matches!(s, Step::Blur { .. })).unwrap();
        let Step::Blur { sigma } = shifted.steps[at] else { unreachable!() };
        assert_eq!(shifted.steps[at + 1], Step::Clamp { min: Some(0.0), max: Some(1.0) });
        (at, sigma)
    };
    let min_max = || Step::MinMax { constant: Constant::Zeros };
    let resize = |height, width| Step::Resize { height, width, filter: Filter::Bilinear };
    let short = Step::ResizeShort { size: 112, filter: Filter::Bilinear };
    let random = Step::RandomResizedCrop {
        height: 56,
        width: 70,
        scale: (0.5, 1.0),
        ratio: (1.0, 1.0),
        filter: Filter::Bilinear,
    };
    assert_eq!(sizes(vec![min_max(), Step::ToRgb]), (1, 2.0), "no size stated: as for 224 pixels");
    assert_eq!(sizes(vec![resize(448, 500), min_max(), min_max(), Step::ToRgb]), (3, 4.0));
    assert_eq!(sizes(vec![resize(448, 448), Step::CenterCrop { height: 336, width: 224 }, min_max()]), (3, 2.0));
    assert_eq!(
        sizes(vec![resize(448, 448), Step::Crop { top: 0, left: 0, height: 28, width: 56 }, min_max()]),
        (3, 0.25)
    );
    assert_eq!(sizes(vec![short, Step::HorizontalFlip, min_max()]), (3, 1.0));
    assert_eq!(sizes(vec![random, min_max(), resize(448, 448)]), (2, 0.5), "what comes later does not count");
}

#[test]
fn crop_boxes_that_never_fit_are_torchvisions_largest_centre_crop() {
    for want in references()["crop_fallback"].as_array().unwrap() {
        let size = sizes(&want["size"]);
        let ratio = (want["ratio"][0].as_f64().unwrap(), want["ratio"][1].as_f64().unwrap());
        let mut rng = rng::stream(0, 0, 0);
        let got = random_crop_box(&mut rng, (size[0], size[1]), (9.0, 9.0), ratio).unwrap();
        assert_eq!([got.0, got.1, got.2, got.3], sizes(&want["box"])[..], "{want}");
    }
}

#[test]
fn z_score_is_scipys() {
    let gray = picture(9, 11);
    let image = ndarray::concatenate![ndarray::Axis(0), gray, &gray * 0.5 + 3.0, -&gray];
    let got = Compose::new(vec![Step::ZScore]).apply(image).unwrap();
    close("z-score", got.iter(), &references()["z_score"], 1e-5);
}

#[test]
fn contrast_and_coarsening_are_numpys_and_torchs() {
    let all = references();
    let apply = |step| Compose::new(vec![step]).apply(picture(9, 11)).unwrap();
    close("contrast", apply(Step::Contrast { factor: 0.3 }).iter(), &all["contrast"], 1e-5);
    for (factor, want) in all["coarsen"].as_object().unwrap() {
        let got = apply(Step::Coarsen { factor: factor.parse().unwrap() });
        close(&format!("coarsen {factor}"), got.iter(), want, 1e-4);
    }
    assert_eq!(all["coarsen"].as_object().unwrap().len(), 4);
}
