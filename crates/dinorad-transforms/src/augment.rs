//! Random draws. Each becomes fixed steps, so that an image and its mask get the same movement.

use dinorad_core::resample::Filter;
use rand::Rng;

use crate::{Error, Result, Step};

/// A crop box: `(top, left, height, width)`.
pub type CropBox = (usize, usize, usize, usize);

/// Draws the box of a random resized crop from an image of `(h, w)`.
///
/// Up to ten tries of an area uniform in `scale` (as a part of the image's) and a ratio width /
/// height whose logarithm is uniform in that of `ratio`; the first box that fits gets a uniform
/// position. Otherwise the largest centre crop whose ratio lies in `ratio`.
///
/// # Errors
/// [`Error::Parameter`] unless `0 < scale.0 <= scale.1` and the same for `ratio`,
/// [`Error::Empty`] for an image without pixels.
///
/// # Source
/// `torchvision.transforms.RandomResizedCrop`.
pub fn random_crop_box(
    rng: &mut impl Rng,
    (h, w): (usize, usize),
    scale: (f64, f64),
    ratio: (f64, f64),
) -> Result<CropBox> {
    check_range("random-resized-crop", "scale", scale)?;
    check_range("random-resized-crop", "ratio", ratio)?;
    if h == 0 || w == 0 {
        return Err(Error::Empty { shape: vec![h, w] });
    }
    let area = h as f64 * w as f64;
    let uniform = |rng: &mut _, low: f64, high: f64| low + (high - low) * Rng::random::<f64>(rng);
    for _ in 0..10 {
        let target = area * uniform(rng, scale.0, scale.1);
        let aspect = uniform(rng, ratio.0.ln(), ratio.1.ln()).exp();
        let width = (target * aspect).sqrt().round_ties_even() as usize;
        let height = (target / aspect).sqrt().round_ties_even() as usize;
        if (1..=w).contains(&width) && (1..=h).contains(&height) {
            let top = rng.random_range(0..=h - height);
            let left = rng.random_range(0..=w - width);
            return Ok((top, left, height, width));
        }
    }
    let own = w as f64 / h as f64;
    let rounded = |v: f64, most: usize| (v.round_ties_even() as usize).clamp(1, most);
    let (height, width) = if own < ratio.0 {
        (rounded(w as f64 / ratio.0, h), w)
    } else if own > ratio.1 {
        (h, rounded(h as f64 * ratio.1, w))
    } else {
        (h, w)
    };
    Ok(((h - height) / 2, (w - width) / 2, height, width))
}

pub(crate) fn check_range(step: &'static str, parameter: &'static str, (low, high): (f64, f64)) -> Result<()> {
    if low > 0.0 && low <= high && high.is_finite() {
        return Ok(());
    }
    let got = format!("({low}, {high})");
    Err(Error::Parameter { step, parameter, got, expected: "two positive numbers in order" })
}

/// Draws `step` for an image of `(h, w)`: the fixed steps it becomes this time. A step that is
/// fixed already stays itself.
pub(crate) fn draw(step: &Step, rng: &mut impl Rng, size: (usize, usize)) -> Result<Vec<Step>> {
    let hit = |rng: &mut _, probability: f64| Rng::random::<f64>(rng) < probability;
    Ok(match step {
        Step::RandomResizedCrop { height, width, scale, ratio, filter } => {
            let (top, left, h, w) = random_crop_box(rng, size, *scale, *ratio)?;
            vec![Step::Crop { top, left, height: h, width: w }, resized(*height, *width, *filter)]
        }
        Step::RandomHorizontalFlip { probability } => {
            if hit(rng, *probability) {
                vec![Step::HorizontalFlip]
            } else {
                vec![]
            }
        }
        Step::RandomVerticalFlip { probability } => {
            if hit(rng, *probability) {
                vec![Step::VerticalFlip]
            } else {
                vec![]
            }
        }
        Step::RandomRotation { degrees, fill } => {
            let angle = degrees * (2.0 * rng.random::<f64>() - 1.0);
            vec![Step::Rotate { degrees: angle, fill: *fill }]
        }
        Step::RandomNoise { sigma } => {
            // TOML has no integers beyond i64
            vec![Step::Noise { sigma: *sigma, seed: rng.random::<u64>() >> 1 }]
        }
        fixed => vec![fixed.clone()],
    })
}

fn resized(height: usize, width: usize, filter: Filter) -> Step {
    Step::Resize { height, width, filter }
}
