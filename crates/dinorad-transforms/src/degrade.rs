//! What makes an image worse: noise, blur, less contrast, less resolution.

use dinorad_core::{resample::Filter, rng};
use ndarray::{Array3, Axis};
use rand::Rng;

use crate::{Error, Result, geometry, intensity::parameter};

/// Adds normal noise of standard deviation `sigma`, in the image's own unit; the same seed gives the
/// same noise. All channels of a pixel get the same, as those of a gray image in colour are equal.
pub fn add_noise(image: &mut Array3<f32>, sigma: f64, seed: u64) {
    let (_, h, w) = image.dim();
    let mut stream = rng::named(seed, "noise");
    // two normal numbers from two uniform ones
    let mut spare: Option<f64> = None;
    let mut normal = || {
        if let Some(v) = spare.take() {
            return v;
        }
        let radius = (-2.0 * (1.0 - stream.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * stream.random::<f64>()).sin_cos();
        spare = Some(radius * sin);
        radius * cos
    };
    for y in 0..h {
        for x in 0..w {
            let noise = (sigma * normal()) as f32;
            image.slice_mut(ndarray::s![.., y, x]).mapv_inplace(|v| v + noise);
        }
    }
}

/// Blurs with a Gaussian of standard deviation `sigma` pixels, cut at four of them; the image is
/// mirrored at its borders.
///
/// # Source
/// `scipy.ndimage.gaussian_filter` with its defaults.
pub fn blur(image: &Array3<f32>, sigma: f64) -> Array3<f32> {
    if sigma <= 0.0 || image.is_empty() {
        return image.clone();
    }
    let radius = (4.0 * sigma + 0.5) as i64;
    let mut weights: Vec<f64> = (-radius..=radius).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);
    let mut out = image.clone();
    for axis in [1, 2] {
        let n = out.len_of(Axis(axis)) as i64;
        // d c b a | a b c d | d c b a
        let mirrored = |i: i64| {
            let at = i.rem_euclid(2 * n);
            if at < n { at } else { 2 * n - 1 - at }
        };
        // the mirrored line once, so that what is summed lies side by side
        let mut line = vec![0f64; (n + 2 * radius) as usize];
        for mut lane in out.lanes_mut(Axis(axis)) {
            for (place, i) in line.iter_mut().zip(-radius..) {
                *place = f64::from(lane[mirrored(i) as usize]);
            }
            for (v, around) in lane.iter_mut().zip(line.windows(weights.len())) {
                *v = weights.iter().zip(around).map(|(w, v)| w * v).sum::<f64>() as f32;
            }
        }
    }
    out
}

/// Draws every value towards the mean of the image: `mean + factor · (v − mean)`.
pub fn contrast(image: &mut Array3<f32>, factor: f64) {
    if image.is_empty() {
        return;
    }
    let mean = image.iter().map(|v| f64::from(*v)).sum::<f64>() / image.len() as f64;
    image.mapv_inplace(|v| (mean + factor * (f64::from(v) - mean)) as f32);
}

/// Takes detail away: shrinks the image by `factor`, averaging, and enlarges it to its size again.
///
/// # Errors
/// [`Error::Parameter`] for a factor below 1.
pub fn coarsen(image: &Array3<f32>, factor: f64) -> Result<Array3<f32>> {
    if !(factor.is_finite() && factor >= 1.0) {
        return Err(parameter("coarsen", "factor", factor, "1 or more"));
    }
    let (_, h, w) = image.dim();
    if h == 0 || w == 0 {
        return Err(Error::Empty { shape: image.shape().to_vec() });
    }
    let small = |n: usize| ((n as f64 / factor).round_ties_even() as usize).clamp(1, n);
    let less = geometry::resize(image.view(), small(h), small(w), Filter::BilinearAntialias)?;
    geometry::resize(less.view(), h, w, Filter::Bilinear)
}

#[cfg(test)]
mod tests {
    use ndarray::arr3;

    use super::*;

    #[test]
    fn blur_is_scipys() {
        let image = arr3(&[[
            [0.0f32, 1.0, 2.0, 3.0, 4.0],
            [5.0, 3.0, 1.0, 0.0, 2.0],
            [9.0, 8.0, 1.0, 1.0, 0.0],
            [2.0, 2.0, 7.0, 5.0, 3.0],
        ]]);
        let close = |got: &Array3<f32>, expected: &[f64]| {
            let worst = got.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5, "{worst}: {got}");
        };
        close(&blur(&image, 0.8), &SMALL);
        close(&blur(&image, 2.0), &LARGE);
        assert_eq!(blur(&image, 0.0), image);
    }

    const SMALL: [f64; 20] = [
        1.510751148,
        1.635534525,
        1.853148140,
        2.385839738,
        3.070073688,
        4.277479384,
        3.296838006,
        1.914444521,
        1.458771463,
        1.807539788,
        5.817898954,
        4.747179804,
        3.026853824,
        1.924326516,
        1.456095653,
        3.778587962,
        4.024202290,
        4.500917404,
        3.800320491,
        2.713196703,
    ];
    const LARGE: [f64; 20] = [
        2.945723716,
        2.814629565,
        2.623932629,
        2.460380790,
        2.373203518,
        3.207100933,
        3.049457843,
        2.809630063,
        2.589069574,
        2.462599769,
        3.553010661,
        3.367366559,
        3.072333775,
        2.783952666,
        2.609074904,
        3.780689746,
        3.582027214,
        3.258103289,
        2.930864852,
        2.726847935,
    ];

    #[test]
    fn noise_has_its_deviation_and_its_seed() {
        let mut image = Array3::zeros((2, 100, 100));
        add_noise(&mut image, 0.3, 7);
        let n = image.len() as f64;
        let mean = image.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let deviation = (image.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 0.01 && (deviation - 0.3).abs() < 0.01, "{mean} {deviation}");
        assert_eq!(image.index_axis(Axis(0), 0), image.index_axis(Axis(0), 1));
        let (mut same, mut other) = (Array3::zeros((2, 100, 100)), Array3::zeros((2, 100, 100)));
        add_noise(&mut same, 0.3, 7);
        add_noise(&mut other, 0.3, 8);
        assert_eq!(same, image);
        assert_ne!(other, image);
    }

    #[test]
    fn contrast_keeps_the_mean_and_coarse_images_keep_their_size() {
        let mut image = Array3::from_shape_fn((1, 20, 30), |(_, y, x)| ((y * 7 + x * 3) % 11) as f32);
        let before = image.clone();
        contrast(&mut image, 0.5);
        assert!((image.mean().unwrap() - before.mean().unwrap()).abs() < 1e-4);
        assert!(
            (image[[0, 3, 4]] - before.mean().unwrap() - 0.5 * (before[[0, 3, 4]] - before.mean().unwrap())).abs()
                < 1e-4
        );
        let coarse = coarsen(&before, 4.0).unwrap();
        assert_eq!(coarse.dim(), before.dim());
        let variance = |a: &Array3<f32>| a.var(0.0);
        assert!(variance(&coarse) < 0.5 * variance(&before));
        assert_eq!(coarsen(&before, 1.0).unwrap(), before);
        assert!(coarsen(&before, 0.5).is_err() && coarsen(&before, f64::NAN).is_err());
        assert_eq!(coarsen(&before, 1e9).unwrap().dim(), before.dim());
    }
}
