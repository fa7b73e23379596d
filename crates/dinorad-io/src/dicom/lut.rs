//! Tables and windows: modality LUT, VOI, palette, colour conversion.

use dicom_dictionary_std::tags;
use serde::Serialize;

use super::parse::{DataSet, Tag};
use crate::Personal;

/// A table over whole numbers. Values outside it take its first or last entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Lut {
    /// The stored value of the first entry.
    pub first: i32,
    /// Bits of an entry.
    pub bits: u16,
    #[serde(skip)]
    entries: Vec<u16>,
}

impl Lut {
    /// Descriptor of three words, then the entries as words or, packed, as bytes. The first value is
    /// signed where the file says so, and where it does not say, if `signed`.
    fn read(set: &DataSet, descriptor: Tag, data: Tag, signed: bool) -> Result<Self, String> {
        let words = set.words(descriptor);
        let [n, first, bits] = words[..] else { return Err("a lookup table without descriptor".into()) };
        let n = if n == 0 { 65536 } else { usize::from(n) };
        let signed = match set.get(descriptor).map(|e| &e.vr) {
            Some(b"SS") => true,
            Some(b"US") => false,
            _ => signed,
        };
        let first = if signed { i32::from(first as i16) } else { i32::from(first) };
        if !(1..=16).contains(&bits) {
            return Err(format!("a lookup table of {bits} bits"));
        }
        let words = set.words(data);
        let entries: Vec<u16> = match words.len() {
            there if there >= n => words[..n].to_vec(),
            // 8-bit entries may be packed two to a word, the lower half first
            there if bits <= 8 && there * 2 >= n => words.iter().flat_map(|w| [w & 0xFF, w >> 8]).take(n).collect(),
            _ => return Err(format!("a lookup table of {n} entries, {} are there", words.len())),
        };
        Ok(Self { first, bits, entries })
    }

    pub(crate) fn modality(set: &DataSet, signed: bool) -> Result<Option<Self>, String> {
        match set.item(tags::MODALITY_LUT_SEQUENCE)? {
            Some(item) => Self::read(&item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, signed).map(Some),
            None => Ok(None),
        }
    }

    /// The entry for a value.
    pub fn get(&self, value: f64) -> u16 {
        let at = (value - f64::from(self.first)).clamp(0.0, (self.entries.len() - 1) as f64);
        self.entries[at as usize]
    }
}

/// Shape of a VOI window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VoiFunction {
    /// A ramp from `center - 0.5 - (width - 1)/2` to `center - 0.5 + (width - 1)/2`.
    Linear,
    /// A ramp from `center - width/2` to `center + width/2`.
    LinearExact,
    /// A logistic curve.
    Sigmoid,
}

/// A way of mapping modality values to `[0, 1]` for display, as the file proposes it.
///
/// # Examples
/// ```
/// use dinorad_io::dicom::{Voi, VoiFunction};
/// let lung = Voi::Window { center: -600.0, width: 1500.0, function: VoiFunction::Linear, name: None };
/// assert_eq!(lung.apply(-2000.0), 0.0);
/// assert_eq!(lung.apply(500.0), 1.0);
/// ```
///
/// # Source
/// DICOM PS3.3, C.11.2.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Voi {
    /// Centre and width in the modality's unit.
    Window {
        /// Middle of the window.
        center: f64,
        /// Its width.
        width: f64,
        /// Its shape.
        function: VoiFunction,
        /// WindowCenterWidthExplanation, such as `LUNG`: free text, not serialised.
        #[serde(skip)]
        name: Option<Personal>,
    },
    /// A table.
    Table {
        /// The table.
        lut: Lut,
        /// LUTExplanation: free text, not serialised.
        #[serde(skip)]
        name: Option<Personal>,
    },
}

impl Voi {
    /// Windows, then tables. What cannot be understood is left out: it only concerns display.
    /// `signed`: whether the values that a table is for can be negative.
    pub(crate) fn read(set: &DataSet, signed: bool) -> Vec<Self> {
        let centers = set.numbers(tags::WINDOW_CENTER).unwrap_or_default();
        let widths = set.numbers(tags::WINDOW_WIDTH).unwrap_or_default();
        let names = set.texts(tags::WINDOW_CENTER_WIDTH_EXPLANATION);
        let function = match set.text(tags::VOILUT_FUNCTION).as_deref() {
            None | Some("LINEAR") => Some(VoiFunction::Linear),
            Some("LINEAR_EXACT") => Some(VoiFunction::LinearExact),
            Some("SIGMOID") => Some(VoiFunction::Sigmoid),
            Some(_) => None,
        };
        let mut out = Vec::new();
        for (n, (center, width)) in centers.into_iter().zip(widths).enumerate() {
            if let Some(function) = function
                && center.is_finite()
                && width.is_finite()
                && width >= if function == VoiFunction::Linear { 1.0 } else { f64::MIN_POSITIVE }
            {
                let name = names.get(n).filter(|s| !s.is_empty()).map(|s| Personal::from(s.as_str()));
                out.push(Voi::Window { center, width, function, name });
            }
        }
        for item in set.items(tags::VOILUT_SEQUENCE).unwrap_or_default() {
            if let Ok(lut) = Lut::read(&item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, signed) {
                out.push(Voi::Table { lut, name: item.text(tags::LUT_EXPLANATION).map(|t| t.into_owned().into()) });
            }
        }
        out
    }

    /// A window from one value to another.
    pub(crate) fn between([low, high]: [f64; 2]) -> Self {
        let (center, width) = ((low + high) / 2.0, high - low);
        Voi::Window { center, width, function: VoiFunction::LinearExact, name: None }
    }

    /// The file's name for it, such as `LUNG`: free text.
    pub fn name(&self) -> Option<&Personal> {
        match self {
            Voi::Window { name, .. } | Voi::Table { name, .. } => name.as_ref(),
        }
    }

    /// A modality value on the scale from 0 to 1. MONOCHROME1 is not inverted.
    pub fn apply(&self, value: f32) -> f32 {
        let x = f64::from(value);
        let y = match self {
            Voi::Window { center: c, width: w, function, .. } => match function {
                VoiFunction::Linear => {
                    let (c, half) = (c - 0.5, (w - 1.0) / 2.0);
                    if x <= c - half {
                        0.0
                    } else if x > c + half {
                        1.0
                    } else {
                        (x - c) / (w - 1.0) + 0.5
                    }
                }
                VoiFunction::LinearExact => ((x - c) / w + 0.5).clamp(0.0, 1.0),
                VoiFunction::Sigmoid => 1.0 / (1.0 + (-4.0 * (x - c) / w).exp()),
            },
            Voi::Table { lut, .. } => f64::from(lut.get(x)) / (2f64.powi(i32::from(lut.bits)) - 1.0),
        };
        y as f32
    }
}

/// The three tables of a PALETTE COLOR image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Palette {
    pub(crate) channels: [Lut; 3],
}

impl Palette {
    pub(crate) fn read(set: &DataSet, signed: bool) -> Result<Self, String> {
        let channel = |descriptor, data, segmented| {
            if set.get(data).is_none() && set.get(segmented).is_some() {
                return Err("segmented palettes are not supported".into());
            }
            Lut::read(set, descriptor, data, signed)
        };
        use tags as t;
        Ok(Self {
            channels: [
                channel(
                    t::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
                    t::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                    t::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                )?,
                channel(
                    t::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
                    t::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                    t::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                )?,
                channel(
                    t::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
                    t::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                    t::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                )?,
            ],
        })
    }

    /// Bits of the colours.
    pub(crate) fn bits(&self) -> u16 {
        self.channels.iter().map(|c| c.bits).max().unwrap_or(8)
    }
}

/// YBR_FULL of `bits` bits to RGB, rounded and cut to the range.
///
/// # Source
/// DICOM PS3.3, C.7.6.3.1.2.
pub(crate) fn ybr_to_rgb(pixel: &mut [f32], bits: u16) {
    let [y, b, r] = pixel else { return };
    let max = (2f32.powi(i32::from(bits))) - 1.0;
    let middle = 2f32.powi(i32::from(bits) - 1);
    let (cb, cr) = (*b - middle, *r - middle);
    let round = |v: f32| (v + 0.5).floor().clamp(0.0, max);
    let out = [*y + 1.402 * cr, *y - 0.344_136_3 * cb - 0.714_136_3 * cr, *y + 1.772 * cb];
    (*y, *b, *r) = (round(out[0]), round(out[1]), round(out[2]));
}
