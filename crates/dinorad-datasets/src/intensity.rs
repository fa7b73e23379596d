//! On which scale a case's values are shown to an encoder.

use std::{fmt, str::FromStr};

use dinorad_io::{Photometric, dicom::Voi};
use dinorad_transforms::{WINDOWS, Window, clamp, percentiles};
use ndarray::{Array1, Array3, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use crate::{Error, Pixels, Result};

/// How the values of a case become the 0 to 1 that an encoder is given.
///
/// As text `auto`, `none`, `robust`, `file`, the name of a CT window such as `lung`, or `CENTER/WIDTH` such as
/// `40/400`.
///
/// ```
/// use dinorad_datasets::Intensity;
/// use dinorad_transforms::Window;
/// assert_eq!("lung".parse::<Intensity>()?, Intensity::Window(Window { centre_hu: -600.0, width_hu: 1500.0 }));
/// assert_eq!("40/400".parse::<Intensity>()?.to_string(), "soft-tissue");
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Intensity {
    /// As the case asks for: colours and values of up to 8 bits as [`None`](Self::None); CT in HU limited to
    /// -1024 and 600 HU, the study's window; everything else as [`Robust`](Self::Robust). Where no modality is
    /// told, values below -500 are taken for HU.
    #[default]
    Auto,
    /// Every channel of every slice from its smallest to its largest value.
    None,
    /// The whole case on one scale, from its 0.5th to its 99.5th percentile, padding aside.
    Robust,
    /// The first window or table that the file proposes; as [`Auto`](Self::Auto) where it proposes none.
    File,
    /// The whole case on one scale, the window's.
    Window(Window),
}

/// CT unless told otherwise: what the study limits it to (arXiv 2312.02366).
const CT_HU: (f32, f32) = (-1024.0, 600.0);
/// Values below this are HU where nothing says what they are: air lies at -1000.
const SURELY_HU: f32 = -500.0;
/// Percentiles of robust limits.
const ROBUST: [f64; 2] = [0.5, 99.5];
/// Values that robust limits are taken from at most, evenly spaced.
const SAMPLED: usize = 1 << 20;

/// On which scale one case is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Every channel of every slice from its smallest to its largest value.
    EachSlice,
    /// From one value to another, values outside limited.
    Limits {
        /// What becomes 0.
        low: f32,
        /// What becomes 1.
        high: f32,
        /// Where they are from, in words.
        from: &'static str,
        /// Whether the values were taken for HU though nothing said so.
        guessed: bool,
    },
    /// As the file proposes.
    File(Voi),
}

impl Intensity {
    /// The scale for a case.
    pub fn scale(self, pixels: &Pixels) -> Scale {
        let case = Case::of(pixels);
        match self {
            _ if case.colour => Scale::EachSlice,
            Self::None => Scale::EachSlice,
            Self::Robust => case.robust(),
            Self::Window(window) => match ends(&window) {
                Some((low, high)) => Scale::Limits { low, high, from: "the window asked for", guessed: false },
                None => Scale::EachSlice,
            },
            Self::File => case.windows.first().map_or_else(|| case.usual(), |voi| Scale::File(voi.clone())),
            Self::Auto => case.usual(),
        }
    }
}

/// The ends of a window, where they are two different values of voxels.
fn ends(window: &Window) -> Option<(f32, f32)> {
    let (low, high) = window.limits_hu();
    Some((low as f32, high as f32)).filter(|(low, high)| low < high && low.is_finite() && high.is_finite())
}

/// What is known of a case's values.
struct Case<'a> {
    slices: Vec<ArrayView3<'a, f32>>,
    colour: bool,
    bit_depth: Option<u8>,
    modality: Option<&'a str>,
    windows: &'a [Voi],
    padding: Option<(f32, f32)>,
}

impl<'a> Case<'a> {
    fn of(pixels: &'a Pixels) -> Self {
        match pixels {
            Pixels::Volume(volume) => Self {
                slices: vec![volume.data.view()],
                colour: false,
                bit_depth: volume.bit_depth,
                modality: volume.modality.as_deref(),
                windows: &volume.windows,
                padding: volume.padding,
            },
            Pixels::Image(image) => Self::of_images(std::slice::from_ref(image)),
            Pixels::Slices(images) => Self::of_images(images),
        }
    }

    fn of_images(images: &'a [dinorad_io::Image]) -> Self {
        let middle = images.get(images.len() / 2);
        Self {
            slices: images.iter().map(|image| image.data.view()).collect(),
            colour: images.iter().any(|image| image.photometric == Photometric::Rgb || image.data.dim().0 != 1),
            bit_depth: images.iter().map(|image| image.bit_depth).max(),
            modality: middle.and_then(|image| image.modality.as_deref()),
            windows: middle.map_or(&[], |image| &image.windows),
            padding: middle.and_then(|image| image.padding),
        }
    }

    fn usual(&self) -> Scale {
        if self.bit_depth.is_some_and(|bits| bits <= 8) {
            return Scale::EachSlice;
        }
        let lowest = self.values().fold(f32::INFINITY, f32::min);
        let (low, high) = CT_HU;
        let hu = |guessed| Scale::Limits { low, high, from: "limits of HU", guessed };
        match self.modality {
            Some("CT") if lowest < 0.0 => hu(false),
            None if lowest < SURELY_HU => hu(true),
            // CT without negative values is no HU
            _ => self.robust(),
        }
    }

    fn values(&self) -> impl Iterator<Item = f32> + '_ {
        self.slices.iter().flat_map(|slice| slice.iter().copied())
    }

    fn robust(&self) -> Scale {
        let n = self.slices.iter().map(|slice| slice.len()).sum::<usize>();
        let padding = |v: &f32| self.padding.is_some_and(|(low, high)| (low..=high).contains(v));
        // odd, so that it does not keep step with rows, whose lengths are even
        let step = n.div_ceil(SAMPLED) | 1;
        let some: Array1<f32> = self.values().step_by(step).filter(|v| !padding(v)).collect();
        let some = some.insert_axis(Axis(0)).insert_axis(Axis(0));
        let limits = percentiles(some.view(), &ROBUST, 1).ok();
        match limits.as_deref() {
            Some([low, high]) if low < high => Scale::Limits {
                low: *low as f32,
                high: *high as f32,
                from: "its 0.5th and 99.5th percentile",
                guessed: false,
            },
            // nearly all values are equal: what stands out of them is the picture
            _ => {
                let (low, high) =
                    self.values().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
                match low < high {
                    true => Scale::Limits { low, high, from: "its smallest and largest value", guessed: false },
                    false => Scale::EachSlice,
                }
            }
        }
    }
}

impl Scale {
    /// Whether values become 0 to 1 here, the same value the same number in every slice.
    pub fn is_fixed(&self) -> bool {
        *self != Self::EachSlice
    }

    /// The values of a slice on the scale; untouched where every slice has its own.
    pub fn apply(&self, slice: &mut Array3<f32>) {
        match self {
            Self::EachSlice => {}
            Self::Limits { low, high, .. } => {
                let (low, width) = (*low, high - low);
                slice.mapv_inplace(|v| (v - low) / width);
                clamp(slice, Some(0.0), Some(1.0));
            }
            Self::File(voi) => slice.mapv_inplace(|v| voi.apply(v)),
        }
    }

    /// What a user should hear of: a modality that was guessed.
    pub fn doubt(&self) -> Option<String> {
        let guessed = matches!(self, Self::Limits { guessed: true, .. });
        guessed.then(|| "no modality is told, values below -500 were taken for HU".to_owned())
    }
}

/// In words, such as `-1024 to 600, limits of HU`.
impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EachSlice => f.write_str("every slice from its smallest to its largest value"),
            Self::Limits { low, high, from, .. } => write!(f, "{low} to {high}, {from}"),
            Self::File(Voi::Window { center, width, .. }) => {
                write!(f, "the file's window, center {center}, width {width}")
            }
            Self::File(Voi::Table { .. }) => f.write_str("the file's table for display"),
        }
    }
}

impl fmt::Display for Intensity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Robust => f.write_str("robust"),
            Self::File => f.write_str("file"),
            Self::Window(window) => match WINDOWS.iter().find(|named| named.window == *window) {
                Some(named) => f.write_str(named.name),
                None => write!(f, "{}/{}", window.centre_hu, window.width_hu),
            },
        }
    }
}

impl FromStr for Intensity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::Parameter { what: "intensity", why };
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            "robust" => return Ok(Self::Robust),
            "file" => return Ok(Self::File),
            _ => {}
        }
        if let Some((center, width)) = text.split_once('/') {
            let number = |text: &str| text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
            let window = number(center).zip(number(width)).map(|(centre_hu, width_hu)| Window { centre_hu, width_hu });
            return match window.filter(|window| ends(window).is_some()) {
                Some(window) => Ok(Self::Window(window)),
                None => Err(wrong(format!("`{text}` is no window: CENTER/WIDTH such as 40/400, the width above 0"))),
            };
        }
        text.parse().map(Self::Window).map_err(|_| {
            let names: Vec<&str> = WINDOWS.iter().map(|named| named.name).collect();
            let names = names.join(", ");
            wrong(format!("`{text}` is none of auto, none, robust, file, CENTER/WIDTH, or a CT window: {names}"))
        })
    }
}

impl From<Intensity> for String {
    fn from(intensity: Intensity) -> Self {
        intensity.to_string()
    }
}

impl TryFrom<String> for Intensity {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use dinorad_core::Affine;
    use dinorad_io::{Image, Volume, dicom::VoiFunction};
    use ndarray::Array3;

    use super::*;

    fn volume(modality: Option<&str>, value: impl Fn(usize) -> f32) -> Volume {
        let data = Array3::from_shape_fn((4, 10, 10), |(k, y, x)| value(k * 100 + y * 10 + x));
        let mut volume = Volume::new(data, Affine::identity());
        volume.modality = modality.map(str::to_owned);
        volume
    }

    fn shown(scale: &Scale, values: &[f32]) -> Vec<f32> {
        let mut slice = Array3::from_shape_vec((1, 1, values.len()), values.to_vec()).unwrap();
        scale.apply(&mut slice);
        slice.into_iter().collect()
    }

    #[test]
    fn padding_and_metal_do_not_stretch_ct() {
        let plain = |n: usize| -1000.0 + 3.0 * n as f32;
        let padded = |n: usize| if n < 20 { -3024.0 } else { plain(n) };
        let metal = |n: usize| if n == 7 { 20_000.0 } else { plain(n) };
        let of = |value: &dyn Fn(usize) -> f32| Intensity::Auto.scale(&Pixels::Volume(volume(Some("CT"), value)));
        assert_eq!(of(&plain), of(&padded));
        assert_eq!(of(&plain), of(&metal));
        assert_eq!(shown(&of(&plain), &[-3024.0, -1024.0, -212.0, 600.0, 20_000.0]), [0.0, 0.0, 0.5, 1.0, 1.0]);
        assert_eq!(of(&plain).doubt(), None);
    }

    #[test]
    fn hu_without_a_modality_are_told_to_be_a_guess() {
        let of = |low: f32| Intensity::Auto.scale(&Pixels::Volume(volume(None, |n| low + n as f32)));
        assert!(of(-1000.0).doubt().is_some_and(|doubt| doubt.contains("no modality")));
        assert!(matches!(of(-501.0), Scale::Limits { low: -1024.0, high: 600.0, .. }));
        // distances and z-scores are no HU
        assert!(matches!(of(-400.0), Scale::Limits { from: "its 0.5th and 99.5th percentile", guessed: false, .. }));
        // CT that lost its intercept neither
        let lost = Intensity::Auto.scale(&Pixels::Volume(volume(Some("CT"), |n| n as f32)));
        assert!(matches!(lost, Scale::Limits { from: "its 0.5th and 99.5th percentile", .. }));
    }

    #[test]
    fn robust_limits_leave_padding_and_outliers_out() {
        // 0 .. 399 but for one bright voxel; numpy.percentile gives 1.995 and 397.005 of 0 .. 399
        let plain = Intensity::Auto.scale(&Pixels::Volume(volume(Some("MR"), |n| n as f32)));
        let Scale::Limits { low, high, .. } = plain else { panic!("{plain}") };
        assert!((low - 1.995).abs() < 1e-4 && (high - 397.005).abs() < 1e-3, "{low} {high}");
        let bright =
            Intensity::Auto.scale(&Pixels::Volume(volume(Some("MR"), |n| if n == 3 { 1e6 } else { n as f32 })));
        let Scale::Limits { high, .. } = bright else { panic!("{bright}") };
        assert!(high < 400.0, "{high}");
        let mut padded = volume(Some("MR"), |n| if n % 2 == 0 { -2000.0 } else { n as f32 });
        padded.padding = Some((-2000.0, -1900.0));
        let Scale::Limits { low, .. } = Intensity::Auto.scale(&Pixels::Volume(padded)) else { panic!() };
        assert!(low > 0.0, "{low}");
        // a single bright spot is the picture
        let spot = Intensity::Robust.scale(&Pixels::Volume(volume(None, |n| if n == 9 { 5.0 } else { 0.0 })));
        assert!(matches!(spot, Scale::Limits { low: 0.0, high: 5.0, .. }), "{spot}");
        assert_eq!(Intensity::Robust.scale(&Pixels::Volume(volume(None, |_| 7.0))), Scale::EachSlice);
    }

    #[test]
    fn pictures_of_eight_bits_and_colours_keep_their_own_scale() {
        let gray = |bits| {
            Pixels::Image(Image::new(Array3::from_shape_fn((1, 20, 20), |(_, y, x)| (y * x) as f32), bits).unwrap())
        };
        assert_eq!(Intensity::Auto.scale(&gray(8)), Scale::EachSlice);
        assert!(Intensity::Auto.scale(&gray(12)).is_fixed());
        assert!(Intensity::Robust.scale(&gray(8)).is_fixed());
        let colours = Pixels::Image(Image::new(Array3::zeros((3, 4, 4)), 16).unwrap());
        for intensity in ["auto", "robust", "file", "lung"] {
            assert_eq!(intensity.parse::<Intensity>().unwrap().scale(&colours), Scale::EachSlice);
        }
    }

    #[test]
    fn the_window_of_the_file_or_the_usual_one() {
        let mut scan = volume(Some("CT"), |n| n as f32 - 1000.0);
        let without = Intensity::File.scale(&Pixels::Volume(scan.clone()));
        assert_eq!(without, Intensity::Auto.scale(&Pixels::Volume(scan.clone())));
        let window = |center| Voi::Window { center, width: 100.0, function: VoiFunction::LinearExact, name: None };
        scan.windows = vec![window(50.0), window(0.0)];
        let with = Intensity::File.scale(&Pixels::Volume(scan));
        assert_eq!(shown(&with, &[-5.0, 25.0, 50.0, 200.0]), [0.0, 0.25, 0.5, 1.0]);
        assert_eq!(with.to_string(), "the file's window, center 50, width 100");
    }

    #[test]
    fn text_and_back() {
        for text in ["auto", "none", "robust", "file", "lung", "-20.5/30"] {
            assert_eq!(text.parse::<Intensity>().unwrap().to_string(), text);
        }
        for text in ["", "lungs", "40/0", "40/", "a/b", "40/-5", "1/inf", "40/1e-30", "1e300/5"] {
            assert!(text.parse::<Intensity>().is_err(), "{text}");
        }
    }
}
