//! The technical attributes of an image, checked.

use dicom_dictionary_std::tags;
use serde::Serialize;

use super::{
    lut::{Lut, Palette, Voi},
    parse::{DataSet, Tag},
    terms,
};
use crate::{Personal, Photometric};

/// What the samples of a pixel mean before conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub enum PhotometricInterpretation {
    #[serde(rename = "MONOCHROME1")]
    Monochrome1,
    #[serde(rename = "MONOCHROME2")]
    Monochrome2,
    #[serde(rename = "PALETTE COLOR")]
    Palette,
    #[serde(rename = "RGB")]
    Rgb,
    #[serde(rename = "YBR_FULL")]
    YbrFull,
    #[serde(rename = "YBR_FULL_422")]
    YbrFull422,
    #[serde(rename = "YBR_ICT")]
    YbrIct,
    #[serde(rename = "YBR_RCT")]
    YbrRct,
}

impl PhotometricInterpretation {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "MONOCHROME1" => Self::Monochrome1,
            "MONOCHROME2" => Self::Monochrome2,
            "PALETTE COLOR" => Self::Palette,
            "RGB" => Self::Rgb,
            "YBR_FULL" => Self::YbrFull,
            "YBR_FULL_422" => Self::YbrFull422,
            "YBR_ICT" => Self::YbrIct,
            "YBR_RCT" => Self::YbrRct,
            _ => return None,
        })
    }

    /// What the values mean after conversion.
    pub fn converted(self) -> Photometric {
        match self {
            Self::Monochrome1 => Photometric::Monochrome1,
            Self::Monochrome2 => Photometric::Monochrome2,
            _ => Photometric::Rgb,
        }
    }

    /// Whether a pixel has one sample.
    pub fn is_single(self) -> bool {
        matches!(self, Self::Monochrome1 | Self::Monochrome2 | Self::Palette)
    }
}

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SampleKind {
    /// PixelData.
    Integer,
    /// FloatPixelData.
    Float,
    /// DoubleFloatPixelData.
    Double,
}

/// Where and in what unit one frame is. Attributes the file does not have stay `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct FrameHeader {
    /// ImagePositionPatient: centre of the first pixel, LPS mm.
    pub position: Option<[f64; 3]>,
    /// ImageOrientationPatient: direction of increasing column, then of increasing row, LPS.
    pub orientation: Option<[f64; 6]>,
    /// PixelSpacing in mm: between rows, between columns.
    pub pixel_spacing: Option<[f64; 2]>,
    /// SliceThickness in mm.
    pub slice_thickness: Option<f64>,
    /// SpacingBetweenSlices in mm.
    pub spacing_between_slices: Option<f64>,
    /// RescaleSlope and RescaleIntercept.
    pub rescale: Option<(f64, f64)>,
    /// VOI windows and tables, in the order of the file.
    pub windows: Vec<Voi>,
    /// DimensionIndexValues: where the frame is along each of [`Header::dimensions`], counted from 1.
    pub dimension_index: Vec<i64>,
}

/// The technical attributes of a DICOM image. No personal attribute is kept. UIDs of instances,
/// series and frames of reference, and the names of windows, are [`Personal`] and not serialised; of
/// fields for words of the standard only such words are kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Header {
    /// TransferSyntaxUID; `no UID` in place of a text that is none.
    pub transfer_syntax: String,
    /// SOPClassUID, if the standard gave it.
    pub sop_class: Option<String>,
    /// SOPInstanceUID.
    #[serde(skip)]
    pub sop_instance: Option<Personal>,
    /// SeriesInstanceUID.
    #[serde(skip)]
    pub series: Option<Personal>,
    /// FrameOfReferenceUID.
    #[serde(skip)]
    pub frame_of_reference: Option<Personal>,
    /// Modality such as `CT`, if it is a term of the standard.
    pub modality: Option<String>,
    /// ImageType, such as `ORIGINAL, PRIMARY, AXIAL`; `?` in place of a value that is not known.
    pub image_type: Vec<String>,
    /// InstanceNumber.
    pub instance_number: Option<i64>,
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
    /// NumberOfFrames.
    pub frames: u32,
    /// SamplesPerPixel.
    pub samples: u16,
    /// PhotometricInterpretation.
    pub photometric: PhotometricInterpretation,
    /// PlanarConfiguration.
    pub planar: u16,
    /// Integers or floats.
    pub sample_kind: SampleKind,
    /// BitsAllocated.
    pub bits_allocated: u16,
    /// BitsStored.
    pub bits_stored: u16,
    /// HighBit.
    pub high_bit: u16,
    /// PixelRepresentation is 1.
    pub signed: bool,
    /// ImagerPixelSpacing in mm: at the detector, not in the patient.
    pub imager_pixel_spacing: Option<[f64; 2]>,
    /// Attributes that all frames share.
    pub common: FrameHeader,
    /// Attributes of single frames (enhanced objects); empty or one for each frame.
    pub per_frame: Vec<FrameHeader>,
    /// Modality LUT, in place of a rescale.
    pub modality_lut: Option<Lut>,
    /// What the frames of an enhanced object are numbered along, in order: `stack`, `slice`, `time`, `echo`,
    /// `b`; `dimension` for anything else.
    pub dimensions: Vec<&'static str>,
    /// PixelPaddingValue and PixelPaddingRangeLimit, the smaller one first, as stored.
    pub padding: Option<[i64; 2]>,
    #[serde(skip)]
    pub(crate) palette: Option<Palette>,
    #[serde(skip)]
    pub(crate) part: PartOfSeries,
}

/// What tells the parts of a series apart that are no one stack: views, echoes, b-values, time points.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct PartOfSeries {
    /// ImageLaterality and ViewPosition, as far as they are terms of the standard: `L-MLO`.
    pub(crate) view: Option<String>,
    /// EchoNumbers.
    pub(crate) echo: Option<i64>,
    /// DiffusionBValue in s/mm².
    pub(crate) b_value: Option<f64>,
    /// TemporalPositionIdentifier.
    pub(crate) time_point: Option<i64>,
    /// TriggerTime in ms.
    pub(crate) trigger_time: Option<f64>,
    /// AcquisitionNumber.
    pub(crate) acquisition: Option<i64>,
    /// AcquisitionTime: to tell apart, never to be shown.
    pub(crate) acquired: Option<Personal>,
}

impl PartOfSeries {
    fn read(set: &DataSet) -> Self {
        let number = |tag| set.numbers(tag).ok().and_then(|n| n.first().copied()).filter(|v| v.is_finite());
        let whole = |tag| number(tag).filter(|v| v.fract() == 0.0 && v.abs() < 1e9).map(|v| v as i64);
        let side = set.text(tags::IMAGE_LATERALITY).or_else(|| set.text(tags::LATERALITY));
        let side = side.filter(|side| ["L", "R", "B", "U"].contains(&side.trim()));
        let view = set.text(tags::VIEW_POSITION).and_then(|view| terms::view(&view));
        let view: Vec<String> = side.map(|side| side.trim().to_owned()).into_iter().chain(view).collect();
        Self {
            view: (!view.is_empty()).then(|| view.join("-")),
            echo: whole(tags::ECHO_NUMBERS),
            b_value: number(tags::DIFFUSION_B_VALUE),
            time_point: whole(tags::TEMPORAL_POSITION_IDENTIFIER),
            trigger_time: number(tags::TRIGGER_TIME),
            acquisition: whole(tags::ACQUISITION_NUMBER),
            acquired: set.text(tags::ACQUISITION_TIME).map(|t| Personal::from(t.into_owned())),
        }
    }
}

/// The functional groups that tell which frame it is, where and in what unit.
const GROUPS: [Tag; 6] = [
    tags::FRAME_CONTENT_SEQUENCE,
    tags::PLANE_POSITION_SEQUENCE,
    tags::PLANE_ORIENTATION_SEQUENCE,
    tags::PIXEL_MEASURES_SEQUENCE,
    tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
    tags::FRAME_VOILUT_SEQUENCE,
];

/// `N` finite numbers, nothing if the attribute is absent or empty.
fn array<const N: usize>(set: &DataSet, tag: Tag, name: &str) -> Result<Option<[f64; N]>, String> {
    let values = set.numbers(tag).map_err(|_| format!("{name} is not a number"))?;
    if values.is_empty() {
        return Ok(None);
    }
    let values: [f64; N] =
        values.try_into().map_err(|v: Vec<f64>| format!("{name} has {} values, not {N}", v.len()))?;
    if values.iter().all(|v| v.is_finite()) { Ok(Some(values)) } else { Err(format!("{name} is not finite")) }
}

fn one(set: &DataSet, tag: Tag, name: &str) -> Result<Option<f64>, String> {
    Ok(array::<1>(set, tag, name)?.map(|[v]| v))
}

impl FrameHeader {
    fn read(set: &DataSet, signed: bool) -> Result<Self, String> {
        let slope = one(set, tags::RESCALE_SLOPE, "RescaleSlope")?;
        let intercept = one(set, tags::RESCALE_INTERCEPT, "RescaleIntercept")?;
        let rescale = match (slope, intercept) {
            (None, None) => None,
            (Some(0.0), _) => return Err("RescaleSlope is 0".into()),
            (slope, intercept) => Some((slope.unwrap_or(1.0), intercept.unwrap_or(0.0))),
        };
        Ok(Self {
            position: array(set, tags::IMAGE_POSITION_PATIENT, "ImagePositionPatient")?,
            orientation: array(set, tags::IMAGE_ORIENTATION_PATIENT, "ImageOrientationPatient")?,
            pixel_spacing: array(set, tags::PIXEL_SPACING, "PixelSpacing")?,
            // a free hint on many scanners: not worth refusing a file for
            slice_thickness: one(set, tags::SLICE_THICKNESS, "SliceThickness").ok().flatten(),
            spacing_between_slices: one(set, tags::SPACING_BETWEEN_SLICES, "SpacingBetweenSlices").ok().flatten(),
            rescale,
            windows: Voi::read(set, signed || rescale.is_some_and(|(m, c)| m < 0.0 || c < 0.0)),
            dimension_index: set
                .numbers(tags::DIMENSION_INDEX_VALUES)
                .map(|values| values.iter().map(|v| *v as i64).collect())
                .unwrap_or_default(),
        })
    }

    /// Attributes of the functional groups of one item.
    fn read_groups(item: &DataSet, signed: bool) -> Result<Self, String> {
        let mut out = Self::default();
        for group in GROUPS {
            if let Some(set) = item.item(group)? {
                out = Self::read(&set, signed)?.or(out);
            }
        }
        Ok(out)
    }

    /// These attributes, and those of `other` where there are none.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            position: self.position.or(other.position),
            orientation: self.orientation.or(other.orientation),
            pixel_spacing: self.pixel_spacing.or(other.pixel_spacing),
            slice_thickness: self.slice_thickness.or(other.slice_thickness),
            spacing_between_slices: self.spacing_between_slices.or(other.spacing_between_slices),
            rescale: self.rescale.or(other.rescale),
            windows: if self.windows.is_empty() { other.windows } else { self.windows },
            dimension_index: match self.dimension_index.is_empty() {
                true => other.dimension_index,
                false => self.dimension_index,
            },
        }
    }
}

/// What DimensionIndexValues count.
fn dimensions(set: &DataSet) -> Vec<&'static str> {
    let pointer = |item: &DataSet| match item.words(tags::DIMENSION_INDEX_POINTER).as_slice() {
        [group, element] => match Tag(*group, *element) {
            tags::STACK_ID => "stack",
            tags::IN_STACK_POSITION_NUMBER | tags::IMAGE_POSITION_PATIENT => "slice",
            tags::TEMPORAL_POSITION_INDEX => "time",
            tags::EFFECTIVE_ECHO_TIME => "echo",
            tags::DIFFUSION_B_VALUE => "b",
            _ => "dimension",
        },
        _ => "dimension",
    };
    set.items(tags::DIMENSION_INDEX_SEQUENCE).unwrap_or_default().iter().map(pointer).collect()
}

/// PixelPaddingValue, and where there is one PixelPaddingRangeLimit, in order.
fn padding(set: &DataSet, signed: bool) -> Option<[i64; 2]> {
    let stored = |tag| {
        let value = *set.numbers(tag).ok()?.first()?;
        let value = (value.is_finite() && value.fract() == 0.0 && value.abs() < 1e9).then_some(value as i64)?;
        // many files write a signed value as an unsigned one
        Some(if signed && (0x8000..=0xffff).contains(&value) { value - 0x1_0000 } else { value })
    };
    let value = stored(tags::PIXEL_PADDING_VALUE)?;
    let limit = stored(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(value);
    Some([value.min(limit), value.max(limit)])
}

/// A PhotometricInterpretation that is not read here, by name if it is one.
fn foreign(text: &str) -> &'static str {
    let known = ["HSV", "ARGB", "CMYK", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "XYB"];
    known.into_iter().find(|k| *k == text).unwrap_or("that the standard does not know")
}

/// Whether the data set is an image at all.
pub(crate) fn has_pixels(set: &DataSet) -> bool {
    [tags::PIXEL_DATA, tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA].iter().any(|t| set.get(*t).is_some())
}

impl Header {
    pub(crate) fn read(set: &DataSet, transfer_syntax: &str) -> Result<Self, String> {
        let sample_kind = if set.get(tags::PIXEL_DATA).is_some() {
            SampleKind::Integer
        } else if set.get(tags::FLOAT_PIXEL_DATA).is_some() {
            SampleKind::Float
        } else if set.get(tags::DOUBLE_FLOAT_PIXEL_DATA).is_some() {
            SampleKind::Double
        } else {
            return Err("no pixel data".into());
        };
        let need = |tag: Tag, name: &str| set.u16(tag).ok_or_else(|| format!("{name} is missing"));
        let positive = |tag: Tag, name: &str| match need(tag, name)? {
            0 => Err(format!("{name} is 0")),
            n => Ok(n),
        };
        let rows = positive(tags::ROWS, "Rows")?;
        let columns = positive(tags::COLUMNS, "Columns")?;
        let samples = need(tags::SAMPLES_PER_PIXEL, "SamplesPerPixel")?;
        let photometric = set.text(tags::PHOTOMETRIC_INTERPRETATION).ok_or("PhotometricInterpretation is missing")?;
        let photometric = PhotometricInterpretation::parse(&photometric)
            .ok_or_else(|| format!("PhotometricInterpretation {} is not supported", foreign(&photometric)))?;
        if samples != if photometric.is_single() { 1 } else { 3 } {
            return Err(format!("SamplesPerPixel is {samples} for {photometric:?}"));
        }
        let bits_allocated = need(tags::BITS_ALLOCATED, "BitsAllocated")?;
        let (bits_stored, high_bit, signed) = match sample_kind {
            SampleKind::Integer => {
                if !matches!(bits_allocated, 1 | 8 | 16 | 32) {
                    return Err(format!("BitsAllocated is {bits_allocated}"));
                }
                let stored = need(tags::BITS_STORED, "BitsStored")?;
                if stored == 0 || stored > bits_allocated {
                    return Err(format!("BitsStored is {stored}, BitsAllocated {bits_allocated}"));
                }
                let high = set.u16(tags::HIGH_BIT).unwrap_or(stored - 1);
                if high != stored - 1 {
                    return Err(format!("HighBit is {high} with BitsStored {stored}, not supported"));
                }
                let representation = need(tags::PIXEL_REPRESENTATION, "PixelRepresentation")?;
                if representation > 1 {
                    return Err(format!("PixelRepresentation is {representation}"));
                }
                (stored, high, representation == 1)
            }
            SampleKind::Float | SampleKind::Double => {
                let bits = if sample_kind == SampleKind::Float { 32 } else { 64 };
                if bits_allocated != bits || samples != 1 {
                    return Err(format!("BitsAllocated is {bits_allocated} for float pixels of {bits} bits"));
                }
                (bits, bits - 1, true)
            }
        };
        let frames = match one(set, tags::NUMBER_OF_FRAMES, "NumberOfFrames")? {
            None => 1,
            Some(n) if n.fract() == 0.0 && n >= 1.0 && n <= f64::from(i32::MAX) => n as u32,
            Some(n) => return Err(format!("NumberOfFrames is {n}")),
        };
        let palette = match photometric {
            PhotometricInterpretation::Palette => Some(Palette::read(set, signed)?),
            _ => None,
        };
        let mut common = FrameHeader::read(set, signed)?;
        if let Some(item) = set.item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE)? {
            common = FrameHeader::read_groups(&item, signed)?.or(common);
        }
        let mut per_frame = Vec::new();
        for item in set.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)? {
            per_frame.push(FrameHeader::read_groups(&item, signed)?);
        }
        if !per_frame.is_empty() && per_frame.len() != frames as usize {
            return Err(format!("{} per-frame groups for {frames} frames", per_frame.len()));
        }
        let own = |tag: Tag| set.text(tag).map(|t| Personal::from(t.into_owned()));
        Ok(Header {
            transfer_syntax: terms::syntax_uid(transfer_syntax).to_owned(),
            sop_class: set.text(tags::SOP_CLASS_UID).and_then(|t| terms::standard_uid(&t).map(str::to_owned)),
            sop_instance: own(tags::SOP_INSTANCE_UID),
            series: own(tags::SERIES_INSTANCE_UID),
            frame_of_reference: own(tags::FRAME_OF_REFERENCE_UID),
            modality: set.text(tags::MODALITY).and_then(|t| terms::modality(&t)),
            image_type: set.texts(tags::IMAGE_TYPE).iter().map(|t| terms::image_type(t)).collect(),
            instance_number: set.numbers(tags::INSTANCE_NUMBER).ok().and_then(|n| n.first().map(|v| *v as i64)),
            rows,
            columns,
            frames,
            samples,
            photometric,
            planar: set.u16(tags::PLANAR_CONFIGURATION).unwrap_or(0),
            sample_kind,
            bits_allocated,
            bits_stored,
            high_bit,
            signed,
            imager_pixel_spacing: array(set, tags::IMAGER_PIXEL_SPACING, "ImagerPixelSpacing").ok().flatten(),
            common,
            per_frame,
            modality_lut: Lut::modality(set, signed)?,
            dimensions: dimensions(set),
            padding: padding(set, signed),
            palette,
            part: PartOfSeries::read(set),
        })
    }

    /// Pixels of one frame.
    pub fn pixels(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// The values of a frame in the modality's unit that are padding, the smallest and the largest.
    ///
    /// # Source
    /// DICOM PS3.3 C.7.5.1.1.2.
    pub fn padding_of(&self, frame: &FrameHeader) -> Option<(f32, f32)> {
        let ends = self.padding.filter(|_| self.photometric.converted() != crate::Photometric::Rgb)?;
        let [a, b] = ends.map(|stored| match (&self.modality_lut, frame.rescale) {
            (Some(lut), _) => f32::from(lut.get(stored as f64)),
            (None, Some((slope, intercept))) => (stored as f64 * slope + intercept) as f32,
            (None, None) => stored as f32,
        });
        Some((a.min(b), a.max(b)))
    }

    /// Bits of a value as it is shown: those of a palette's colours where there is one.
    pub(crate) fn bit_depth(&self) -> u8 {
        self.palette.as_ref().map_or(self.bits_stored, Palette::bits).min(255) as u8
    }

    /// The attributes of one frame: its own, or those that all frames share.
    pub fn frame(&self, index: usize) -> FrameHeader {
        match self.per_frame.get(index) {
            Some(own) => own.clone().or(self.common.clone()),
            None => self.common.clone(),
        }
    }
}
