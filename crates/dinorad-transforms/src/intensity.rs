//! Pixel values: clamp, percentiles, min–max, z-score, normalise. Geometry stays as it is.

use ndarray::{Array3, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Window};

/// What becomes of a channel whose pixels are all equal, which has no range to stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Constant {
    /// All zeros.
    #[default]
    Zeros,
    /// All NaN, from 0 / 0: what the study's code does. For parity only; a NaN image poisons every
    /// feature made from it.
    Nan,
}

/// Limits every value to `[min, max]`; a missing limit does nothing.
pub fn clamp(image: &mut Array3<f32>, min: Option<f32>, max: Option<f32>) {
    let (low, high) = (min.unwrap_or(f32::NEG_INFINITY), max.unwrap_or(f32::INFINITY));
    // not f32::clamp: it panics when the limits are crossed
    image.mapv_inplace(|v| v.max(low).min(high));
}

/// Spreads a CT window over 0..1; values outside it become 0 or 1.
pub fn window(image: &mut Array3<f32>, window: &Window) {
    let (low, high) = window.limits_hu();
    let scale = 1.0 / (high - low);
    image.mapv_inplace(|v| ((f64::from(v) - low) * scale).clamp(0.0, 1.0) as f32);
}

/// The percentiles `percents` (0..100) of all values of an image, by linear interpolation between
/// order statistics (NumPy's default), as if every value stood there `copies` times.
///
/// The study's loaders take percentiles of a gray slice after repeating it to three channels, which
/// moves the limits slightly: `copies = 3` gives those, `copies = 1` the plain ones.
///
/// Takes `O(n)` time per percentile and one copy of the image.
///
/// # Errors
/// [`Error::Empty`] without pixels, [`Error::NotFinite`] if one is NaN or infinite,
/// [`Error::Parameter`] for a percentile outside 0..100 or no copies.
///
/// # Examples
/// ```
/// use dinorad_transforms::percentiles;
/// let image = ndarray::arr3(&[[[1.0f32, 2.0, 3.0, 4.0]]]);
/// assert_eq!(percentiles(image.view(), &[50.0], 1)?, [2.5]);
/// # Ok::<(), dinorad_transforms::Error>(())
/// ```
pub fn percentiles(image: ArrayView3<'_, f32>, percents: &[f64], copies: usize) -> Result<Vec<f64>> {
    if copies == 0 {
        return Err(parameter("percentiles", "copies", copies, "1 or more"));
    }
    check_image(image)?;
    let mut values: Vec<f32> = image.iter().copied().collect();
    let last = (values.len() as u128 * copies as u128 - 1) as f64;
    let mut out = Vec::with_capacity(percents.len());
    for p in percents {
        if !(0.0..=100.0).contains(p) {
            return Err(parameter("percentiles", "percent", p, "0 to 100"));
        }
        let position = p / 100.0 * last;
        let (below, t) = (position.floor(), position - position.floor());
        let at = |rank: f64| ((rank / copies as f64) as usize).min(values.len() - 1);
        let (i, j) = (at(below), at((below + 1.0).min(last)));
        let (_, low, above) = values.select_nth_unstable_by(i, f32::total_cmp);
        let low = f64::from(*low);
        let high = if j == i { low } else { above.iter().copied().map(f64::from).fold(f64::INFINITY, f64::min) };
        out.push(if t < 0.5 { low + (high - low) * t } else { high - (high - low) * (1.0 - t) });
    }
    Ok(out)
}

/// What happens to values outside the percentile limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PercentileRule {
    /// They become the limit (the study's rule for MSD).
    #[default]
    Clip,
    /// Those above the upper limit become it, those at or below the lower one become 0 (the study's
    /// rule for Brain Tumor).
    ZeroBelow,
}

/// Limits an image to its own percentiles `low` and `high` and returns the two limits used.
///
/// # Errors
/// As [`percentiles`].
pub fn percentile_clip(
    image: &mut Array3<f32>,
    low: f64,
    high: f64,
    copies: usize,
    rule: PercentileRule,
) -> Result<(f64, f64)> {
    let limits = percentiles(image.view(), &[low, high], copies)?;
    let (low, high) = (limits[0] as f32, limits[1] as f32);
    match rule {
        PercentileRule::Clip => image.mapv_inplace(|v| v.max(low).min(high)),
        PercentileRule::ZeroBelow => image.mapv_inplace(|v| {
            let v = v.min(high);
            if v <= low { 0.0 } else { v }
        }),
    }
    Ok((limits[0], limits[1]))
}

/// Stretches every channel by itself to 0..1 and returns how many channels were constant.
///
/// # Errors
/// [`Error::Empty`] without pixels, [`Error::NotFinite`] if one is NaN or infinite,
/// [`Error::Range`] if a channel's range is too large for f32.
pub fn min_max(image: &mut Array3<f32>, constant: Constant) -> Result<usize> {
    check_image(image.view())?;
    let mut flat = 0;
    for mut channel in image.axis_iter_mut(Axis(0)) {
        let low = channel.fold(f32::INFINITY, |a, v| a.min(*v));
        let high = channel.fold(f32::NEG_INFINITY, |a, v| a.max(*v));
        let range = high - low;
        if !range.is_finite() {
            return Err(Error::Range { low, high });
        }
        if range == 0.0 {
            flat += 1;
            channel.fill(if constant == Constant::Nan { f32::NAN } else { 0.0 });
        } else {
            channel.mapv_inplace(|v| (v - low) / range);
        }
    }
    Ok(flat)
}

/// Gives every channel mean 0 and population standard deviation 1, and returns how many channels
/// were constant (those become zeros).
///
/// # Errors
/// [`Error::Empty`] without pixels, [`Error::NotFinite`] if one is NaN or infinite.
pub fn z_score(image: &mut Array3<f32>) -> Result<usize> {
    check_image(image.view())?;
    let mut flat = 0;
    for mut channel in image.axis_iter_mut(Axis(0)) {
        let n = channel.len() as f64;
        let mean = channel.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = channel.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        let first = channel.first().copied().unwrap_or(0.0);
        if channel.iter().all(|v| *v == first) {
            flat += 1;
            channel.fill(0.0);
        } else {
            let scale = 1.0 / variance.sqrt().max(f64::MIN_POSITIVE);
            channel.mapv_inplace(|v| ((f64::from(v) - mean) * scale) as f32);
        }
    }
    Ok(flat)
}

/// `(v - mean) / std` channel by channel.
///
/// # Errors
/// [`Error::Channels`] unless there is one mean and one standard deviation per channel,
/// [`Error::Parameter`] if a mean is not finite or a standard deviation not positive.
pub fn normalize(image: &mut Array3<f32>, mean: &[f64], std: &[f64]) -> Result<()> {
    let channels = image.dim().0;
    if mean.len() != channels || std.len() != channels {
        let expected = if mean.len() == std.len() { mean.len().to_string() } else { format!("{mean:?}, {std:?}") };
        return Err(Error::Channels { step: "normalize", expected, got: channels });
    }
    check_mean_std(mean, std)?;
    for ((mut channel, mean), std) in image.axis_iter_mut(Axis(0)).zip(mean).zip(std) {
        let (mean, std) = (*mean as f32, *std as f32);
        channel.mapv_inplace(|v| (v - mean) / std);
    }
    Ok(())
}

/// `v * factor + offset`.
pub fn scale(image: &mut Array3<f32>, factor: f32, offset: f32) {
    image.mapv_inplace(|v| v * factor + offset);
}

/// One channel repeated to three; three stay as they are.
///
/// # Errors
/// [`Error::Channels`] for any other number.
pub fn to_rgb(image: Array3<f32>) -> Result<Array3<f32>> {
    match image.dim() {
        (3, _, _) => Ok(image),
        (1, h, w) => {
            let three = image.broadcast((3, h, w)).map(|v| v.to_owned());
            three.ok_or(Error::Channels { step: "to-rgb", expected: "1 or 3".into(), got: 1 })
        }
        (got, _, _) => Err(Error::Channels { step: "to-rgb", expected: "1 or 3".into(), got }),
    }
}

pub(crate) fn check_mean_std(mean: &[f64], std: &[f64]) -> Result<()> {
    if let Some(m) = mean.iter().find(|m| !(**m as f32).is_finite()) {
        return Err(parameter("normalize", "mean", m, "finite numbers"));
    }
    match std.iter().find(|s| !((**s as f32).is_finite() && **s as f32 > 0.0)) {
        Some(s) => Err(parameter("normalize", "std", s, "positive numbers")),
        None => Ok(()),
    }
}

/// Fails for an image without pixels or with one that is NaN or infinite.
pub(crate) fn check_image(image: ArrayView3<'_, f32>) -> Result<()> {
    if image.is_empty() {
        return Err(Error::Empty { shape: image.shape().to_vec() });
    }
    // one pass over the exponent bits, without branches, so that it runs at memory speed
    const EXPONENT: u32 = 0x7f80_0000;
    let bad = |v: &f32| u32::from(v.to_bits() & EXPONENT == EXPONENT);
    let any = match image.as_slice_memory_order() {
        Some(values) => values.iter().fold(0, |any, v| any | bad(v)),
        None => image.iter().fold(0, |any, v| any | bad(v)),
    };
    if any == 0 { Ok(()) } else { Err(Error::NotFinite) }
}

pub(crate) fn parameter(
    step: &'static str,
    parameter: &'static str,
    got: impl std::fmt::Display,
    expected: &'static str,
) -> Error {
    Error::Parameter { step, parameter, got: got.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, arr3};

    #[test]
    fn a_window_spreads_its_band_over_zero_to_one() {
        let mut image = arr3(&[[[-2000.0f32, -1350.0, -600.0, 150.0, 3000.0]]]);
        window(&mut image, &"lung".parse().unwrap());
        assert_eq!(image, arr3(&[[[0.0f32, 0.0, 0.5, 1.0, 1.0]]]));
    }

    #[test]
    fn constant_channels_become_zeros_and_are_counted() {
        let mut image = arr3(&[[[7.0f32, 7.0]], [[1.0, 3.0]]]);
        assert_eq!(min_max(&mut image, Constant::Zeros).unwrap(), 1);
        assert_eq!(image, arr3(&[[[0.0f32, 0.0]], [[0.0, 1.0]]]));
        let mut image = arr3(&[[[7.0f32, 7.0]], [[1.0, 3.0]]]);
        assert_eq!(z_score(&mut image).unwrap(), 1);
        assert_eq!(image, arr3(&[[[0.0f32, 0.0]], [[-1.0, 1.0]]]));
    }

    #[test]
    fn broken_pixels_are_named_errors() {
        let mut image = arr3(&[[[f32::NAN, 1.0]]]);
        assert_eq!(min_max(&mut image, Constant::Zeros), Err(Error::NotFinite));
        assert_eq!(percentiles(image.view(), &[5.0], 1), Err(Error::NotFinite));
        let mut image = arr3(&[[[f32::MIN, f32::MAX]]]);
        assert!(matches!(min_max(&mut image, Constant::Zeros), Err(Error::Range { .. })));
        assert!(matches!(z_score(&mut Array3::zeros((1, 0, 4))), Err(Error::Empty { .. })));
        assert!(percentiles(arr3(&[[[1.0f32]]]).view(), &[101.0], 1).is_err());
        assert!(normalize(&mut arr3(&[[[1.0f32]]]), &[0.0], &[0.0]).is_err());
        clamp(&mut image, Some(2.0), Some(-2.0)); // crossed limits do not panic
    }
}
