//! One step of a preprocessing: its settings, its name, its text.

use std::fmt;

use dinorad_core::resample::Filter;
use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};

use crate::{
    Constant, Error, Fill, PercentileRule, Result, Window, augment, degrade, geometry,
    intensity::{self, parameter},
};

/// One step of a preprocessing. In TOML a table with its name under `step`, in kebab case:
/// `{ step = "resize", height = 224, width = 224, filter = "bicubic-antialias" }`.
///
/// Images are `(c, h, w)` f32. Steps that move pixels also move a mask; steps that change values
/// leave it alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Step {
    /// Resizes to exactly this size, whatever the aspect ratio. Masks: nearest-exact.
    Resize {
        /// Rows afterwards.
        height: usize,
        /// Columns afterwards.
        width: usize,
        /// Resampling of the image.
        filter: Filter,
    },
    /// Resizes so that the shorter side has `size` pixels, keeping the aspect ratio.
    ResizeShort {
        /// Pixels of the shorter side.
        size: usize,
        /// Resampling of the image.
        filter: Filter,
    },
    /// Keeps the middle; smaller images get zeros around them.
    CenterCrop {
        /// Rows afterwards.
        height: usize,
        /// Columns afterwards.
        width: usize,
    },
    /// Keeps a box.
    Crop {
        /// First row.
        top: usize,
        /// First column.
        left: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// Exchanges left and right.
    HorizontalFlip,
    /// Exchanges top and bottom.
    VerticalFlip,
    /// Turns counter-clockwise about the centre at the same size, nearest pixel.
    Rotate {
        /// Angle.
        degrees: f64,
        /// What fills the corners of the image; a mask gets background.
        #[serde(default)]
        fill: Fill,
    },
    /// Limits values.
    Clamp {
        /// Lower limit, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// Upper limit, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// Spreads a CT window over 0..1.
    Window {
        /// The band of Hounsfield units.
        window: Window,
    },
    /// Limits values to percentiles of the image.
    PercentileClip {
        /// Lower percentile, 0..100.
        low: f64,
        /// Upper percentile, 0..100.
        high: f64,
        /// What happens below the lower limit.
        #[serde(default)]
        rule: PercentileRule,
        /// How often each value counts, see [`percentiles`](crate::percentiles).
        #[serde(default = "one")]
        copies: usize,
    },
    /// Stretches every channel to 0..1.
    MinMax {
        /// What becomes of a constant channel.
        #[serde(default)]
        constant: Constant,
    },
    /// Mean 0 and standard deviation 1 for every channel.
    ZScore,
    /// `v * factor + offset`.
    Scale {
        /// Multiplies first.
        factor: f64,
        /// Added then.
        #[serde(default)]
        offset: f64,
    },
    /// Repeats one channel to three.
    ToRgb,
    /// `(v - mean) / std` channel by channel.
    Normalize {
        /// One per channel.
        mean: Vec<f64>,
        /// One per channel.
        std: Vec<f64>,
    },
    /// Adds normal noise, the same for the same seed.
    Noise {
        /// Standard deviation, in the unit the image has by then.
        sigma: f64,
        /// Which noise.
        seed: u64,
    },
    /// Blurs with a Gaussian.
    Blur {
        /// Standard deviation in pixels.
        sigma: f64,
    },
    /// Draws values towards the mean of the image.
    Contrast {
        /// What is left of the distance.
        factor: f64,
    },
    /// Shrinks and enlarges again.
    Coarsen {
        /// By how much, 1 or more.
        factor: f64,
    },
    /// Crops a random box and resizes it.
    RandomResizedCrop {
        /// Rows afterwards.
        height: usize,
        /// Columns afterwards.
        width: usize,
        /// Smallest and largest area, as a part of the image's.
        scale: (f64, f64),
        /// Smallest and largest width / height.
        ratio: (f64, f64),
        /// Resampling of the image.
        filter: Filter,
    },
    /// Exchanges left and right, sometimes.
    RandomHorizontalFlip {
        /// How often, 0..1.
        probability: f64,
    },
    /// Exchanges top and bottom, sometimes.
    RandomVerticalFlip {
        /// How often, 0..1.
        probability: f64,
    },
    /// Adds normal noise, another for every sample.
    RandomNoise {
        /// Standard deviation, in the unit the image has by then.
        sigma: f64,
    },
    /// Turns by a random angle.
    RandomRotation {
        /// The angle is uniform in `[-degrees, degrees]`.
        degrees: f64,
        /// What fills the corners of the image.
        #[serde(default)]
        fill: Fill,
    },
}

fn one() -> usize {
    1
}

impl Step {
    /// The name, as in TOML.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Resize { .. } => "resize",
            Step::ResizeShort { .. } => "resize-short",
            Step::CenterCrop { .. } => "center-crop",
            Step::Crop { .. } => "crop",
            Step::HorizontalFlip => "horizontal-flip",
            Step::VerticalFlip => "vertical-flip",
            Step::Rotate { .. } => "rotate",
            Step::Clamp { .. } => "clamp",
            Step::Window { .. } => "window",
            Step::PercentileClip { .. } => "percentile-clip",
            Step::MinMax { .. } => "min-max",
            Step::ZScore => "z-score",
            Step::Scale { .. } => "scale",
            Step::ToRgb => "to-rgb",
            Step::Normalize { .. } => "normalize",
            Step::RandomResizedCrop { .. } => "random-resized-crop",
            Step::RandomHorizontalFlip { .. } => "random-horizontal-flip",
            Step::RandomVerticalFlip { .. } => "random-vertical-flip",
            Step::RandomRotation { .. } => "random-rotation",
            Step::Noise { .. } => "noise",
            Step::RandomNoise { .. } => "random-noise",
            Step::Blur { .. } => "blur",
            Step::Contrast { .. } => "contrast",
            Step::Coarsen { .. } => "coarsen",
        }
    }

    /// Whether the step draws random numbers.
    pub fn is_random(&self) -> bool {
        matches!(
            self,
            Step::RandomResizedCrop { .. }
                | Step::RandomHorizontalFlip { .. }
                | Step::RandomVerticalFlip { .. }
                | Step::RandomRotation { .. }
                | Step::RandomNoise { .. }
        )
    }

    /// Checks the settings that can be judged without an image.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming the first one out of range.
    pub fn check(&self) -> Result<()> {
        let step = self.name();
        let finite = |name, v: f64| {
            if (v as f32).is_finite() { Ok(()) } else { Err(parameter(step, name, v, "a finite number")) }
        };
        match self {
            Step::Resize { height, width, .. }
            | Step::CenterCrop { height, width }
            | Step::Crop { height, width, .. } => geometry::check_size(step, *height, *width),
            Step::ResizeShort { size, .. } => geometry::check_size(step, *size, *size),
            Step::Rotate { degrees, fill } | Step::RandomRotation { degrees, fill } => {
                finite("degrees", *degrees)?;
                if let Fill::Value(v) = fill { finite("fill", *v) } else { Ok(()) }
            }
            Step::Clamp { min, max } => match (min, max) {
                (Some(v), _) | (_, Some(v)) if v.is_nan() => Err(parameter(step, "min, max", v, "numbers")),
                (Some(low), Some(high)) if low > high => Err(parameter(step, "min", low, "at most `max`")),
                _ => Ok(()),
            },
            Step::Window { window } => {
                finite("centre-hu", window.centre_hu)?;
                finite("width-hu", window.width_hu)?;
                let ok = window.width_hu > 0.0;
                if ok { Ok(()) } else { Err(parameter(step, "width-hu", window.width_hu, "a positive number")) }
            }
            Step::PercentileClip { low, high, copies, .. } => {
                if !(0.0..=100.0).contains(low) || !(*low..=100.0).contains(high) {
                    return Err(parameter(step, "low, high", format!("{low}, {high}"), "0 <= low <= high <= 100"));
                }
                if *copies == 0 { Err(parameter(step, "copies", copies, "1 or more")) } else { Ok(()) }
            }
            Step::Scale { factor, offset } => finite("factor", *factor).and(finite("offset", *offset)),
            Step::Normalize { mean, std } => intensity::check_mean_std(mean, std),
            Step::RandomResizedCrop { height, width, scale, ratio, .. } => {
                geometry::check_size(step, *height, *width)?;
                augment::check_range(step, "scale", *scale)?;
                augment::check_range(step, "ratio", *ratio)
            }
            Step::RandomHorizontalFlip { probability } | Step::RandomVerticalFlip { probability } => {
                let ok = (0.0..=1.0).contains(probability);
                if ok { Ok(()) } else { Err(parameter(step, "probability", probability, "0 to 1")) }
            }
            Step::Noise { sigma, .. } | Step::RandomNoise { sigma } | Step::Blur { sigma } => {
                // a kernel of four deviations to each side
                let ok = (0.0..=1e4).contains(sigma);
                if ok { Ok(()) } else { Err(parameter(step, "sigma", sigma, "0 to 10000")) }
            }
            Step::Contrast { factor } => finite("factor", *factor),
            Step::Coarsen { factor } => {
                let ok = factor.is_finite() && *factor >= 1.0;
                if ok { Ok(()) } else { Err(parameter(step, "factor", factor, "1 or more")) }
            }
            Step::HorizontalFlip | Step::VerticalFlip | Step::MinMax { .. } | Step::ZScore | Step::ToRgb => Ok(()),
        }
    }

    /// Applies a fixed step to an image and, where there is one, its mask.
    pub(crate) fn apply(
        &self,
        mut image: Array3<f32>,
        mask: Option<Array2<u8>>,
    ) -> Result<(Array3<f32>, Option<Array2<u8>>)> {
        match self {
            Step::Resize { height, width, filter } => resize_both(&image, mask, (*height, *width), *filter),
            Step::ResizeShort { size, filter } => {
                let (_, h, w) = image.dim();
                resize_both(&image, mask, geometry::short_side_size((h, w), *size)?, *filter)
            }
            Step::CenterCrop { height, width } => {
                let mask = mask.map(|m| geometry::center_crop(&m, *height, *width)).transpose()?;
                Ok((geometry::center_crop(&image, *height, *width)?, mask))
            }
            Step::Crop { top, left, height, width } => {
                let mask = mask.map(|m| geometry::crop(&m, *top, *left, *height, *width)).transpose()?;
                Ok((geometry::crop(&image, *top, *left, *height, *width)?, mask))
            }
            Step::HorizontalFlip => Ok((geometry::horizontal_flip(image), mask.map(geometry::horizontal_flip))),
            Step::VerticalFlip => Ok((geometry::vertical_flip(image), mask.map(geometry::vertical_flip))),
            Step::Rotate { degrees, fill } => {
                let mask = mask.map(|m| geometry::rotate(&m, *degrees, *fill)).transpose()?;
                Ok((geometry::rotate(&image, *degrees, *fill)?, mask))
            }
            Step::Clamp { min, max } => {
                intensity::clamp(&mut image, min.map(|v| v as f32), max.map(|v| v as f32));
                Ok((image, mask))
            }
            Step::Window { window } => {
                intensity::window(&mut image, window);
                Ok((image, mask))
            }
            Step::PercentileClip { low, high, rule, copies } => {
                intensity::percentile_clip(&mut image, *low, *high, *copies, *rule)?;
                Ok((image, mask))
            }
            Step::MinMax { constant } => {
                let flat = intensity::min_max(&mut image, *constant)?;
                warn_constant(flat, image.dim().0);
                Ok((image, mask))
            }
            Step::ZScore => {
                let flat = intensity::z_score(&mut image)?;
                warn_constant(flat, image.dim().0);
                Ok((image, mask))
            }
            Step::Scale { factor, offset } => {
                intensity::scale(&mut image, *factor as f32, *offset as f32);
                Ok((image, mask))
            }
            Step::ToRgb => Ok((intensity::to_rgb(image)?, mask)),
            Step::Normalize { mean, std } => {
                intensity::normalize(&mut image, mean, std)?;
                Ok((image, mask))
            }
            Step::Noise { sigma, seed } => {
                degrade::add_noise(&mut image, *sigma, *seed);
                Ok((image, mask))
            }
            Step::Blur { sigma } => Ok((degrade::blur(&image, *sigma), mask)),
            Step::Contrast { factor } => {
                degrade::contrast(&mut image, *factor);
                Ok((image, mask))
            }
            Step::Coarsen { factor } => Ok((degrade::coarsen(&image, *factor)?, mask)),
            random @ (Step::RandomResizedCrop { .. }
            | Step::RandomHorizontalFlip { .. }
            | Step::RandomVerticalFlip { .. }
            | Step::RandomRotation { .. }
            | Step::RandomNoise { .. }) => Err(Error::Random { step: random.name() }),
        }
    }
}

fn warn_constant(flat: usize, channels: usize) {
    if flat > 0 {
        tracing::warn!("{flat} of {channels} channels of an image are constant and became zero");
    }
}

fn resize_both(
    image: &Array3<f32>,
    mask: Option<Array2<u8>>,
    (height, width): (usize, usize),
    filter: Filter,
) -> Result<(Array3<f32>, Option<Array2<u8>>)> {
    let mask = mask.map(|m| geometry::resize_mask(m.view(), height, width)).transpose()?;
    Ok((geometry::resize(image.view(), height, width, filter)?, mask))
}

/// The step with all its settings on one line. The text never changes for the same step; the
/// hash of a preprocessing is made from it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let limit = |v: &Option<f64>| v.map_or("none".to_owned(), |v| v.to_string());
        match self {
            Step::Resize { height, width, filter } => {
                write!(f, "{name}(height={height},width={width},filter={})", filter_name(*filter))
            }
            Step::ResizeShort { size, filter } => write!(f, "{name}(size={size},filter={})", filter_name(*filter)),
            Step::CenterCrop { height, width } => write!(f, "{name}(height={height},width={width})"),
            Step::Crop { top, left, height, width } => {
                write!(f, "{name}(top={top},left={left},height={height},width={width})")
            }
            Step::Rotate { degrees, fill } | Step::RandomRotation { degrees, fill } => match fill {
                Fill::Minimum => write!(f, "{name}(degrees={degrees},fill=minimum)"),
                Fill::Value(v) => write!(f, "{name}(degrees={degrees},fill={v})"),
            },
            Step::Clamp { min, max } => write!(f, "{name}(min={},max={})", limit(min), limit(max)),
            Step::Window { window } => {
                write!(f, "{name}(centre-hu={},width-hu={})", window.centre_hu, window.width_hu)
            }
            Step::PercentileClip { low, high, rule, copies } => {
                let rule = match rule {
                    PercentileRule::Clip => "clip",
                    PercentileRule::ZeroBelow => "zero-below",
                };
                write!(f, "{name}(low={low},high={high},rule={rule},copies={copies})")
            }
            Step::MinMax { constant } => {
                let constant = match constant {
                    Constant::Zeros => "zeros",
                    Constant::Nan => "nan",
                };
                write!(f, "{name}(constant={constant})")
            }
            Step::Scale { factor, offset } => write!(f, "{name}(factor={factor},offset={offset})"),
            Step::Normalize { mean, std } => write!(f, "{name}(mean=[{}],std=[{}])", list(mean), list(std)),
            Step::RandomResizedCrop { height, width, scale, ratio, filter } => {
                let filter = filter_name(*filter);
                let (scale, ratio) = (list(&[scale.0, scale.1]), list(&[ratio.0, ratio.1]));
                write!(f, "{name}(height={height},width={width},scale=[{scale}],ratio=[{ratio}],filter={filter})")
            }
            Step::RandomHorizontalFlip { probability } | Step::RandomVerticalFlip { probability } => {
                write!(f, "{name}(probability={probability})")
            }
            Step::Noise { sigma, seed } => write!(f, "{name}(sigma={sigma},seed={seed})"),
            Step::RandomNoise { sigma } | Step::Blur { sigma } => write!(f, "{name}(sigma={sigma})"),
            Step::Contrast { factor } | Step::Coarsen { factor } => write!(f, "{name}(factor={factor})"),
            Step::HorizontalFlip | Step::VerticalFlip | Step::ZScore | Step::ToRgb => f.write_str(name),
        }
    }
}

fn list(values: &[f64]) -> String {
    values.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}

fn filter_name(filter: Filter) -> &'static str {
    match filter {
        Filter::BicubicAntialias => "bicubic-antialias",
        Filter::Bicubic => "bicubic",
        Filter::Bilinear => "bilinear",
        Filter::BilinearAntialias => "bilinear-antialias",
        Filter::NearestExact => "nearest-exact",
    }
}
