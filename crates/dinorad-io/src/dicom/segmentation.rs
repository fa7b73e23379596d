//! Masks as DICOM segmentation objects (DICOM-SEG), tied to the series that they are of.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use ndarray::{Array3, ArrayView2};

use super::{
    file::Raw,
    geometry::{Slice, along_normal, dot, grid, normal},
    header::Header,
    object::Elements,
    parse::DataSet,
    report::{Problem, SeriesReport},
    scan::{Image, Keep, scan},
    series::{drop_copies, slices_of},
};
use crate::{Error, Format, ReadOptions, Result};

/// One class of a mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its value in the mask.
    pub value: u8,
    /// Its name for people; of the names of common organs the code is known, others are tissue.
    pub label: String,
}

/// What is told of a mask beside its voxels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segmentation {
    /// The foreground classes, segment 1 first.
    pub segments: Vec<Segment>,
    /// What drew it, in one or two words.
    pub algorithm: String,
    /// Which version of that, or which weights.
    pub version: String,
    /// 128 bits for each of the object's new UIDs: instance, series, dimensions. The same bits give the same
    /// bytes; take them from a hash of all that decides the mask.
    pub identity: [u128; 3],
}

/// What is copied of the source, as the standard asks of every object of a patient's study: with its type. Type 2
/// stands there empty where the source does not say.
///
/// # Source
/// DICOM PS3.3 C.7.1.1 (Patient) and C.7.2.1 (General Study): what identifies, nothing that describes a person
/// further.
const COPIED: [(Tag, u8); 15] = [
    (tags::PATIENT_NAME, 2),
    (tags::PATIENT_ID, 2),
    (tags::ISSUER_OF_PATIENT_ID, 3),
    (tags::PATIENT_BIRTH_DATE, 2),
    (tags::PATIENT_SEX, 2),
    (tags::PATIENT_IDENTITY_REMOVED, 3),
    (tags::DEIDENTIFICATION_METHOD, 3),
    (tags::STUDY_DATE, 2),
    (tags::STUDY_TIME, 2),
    (tags::STUDY_ID, 2),
    (tags::STUDY_DESCRIPTION, 3),
    (tags::ACCESSION_NUMBER, 2),
    (tags::REFERRING_PHYSICIAN_NAME, 2),
    (tags::LOSSY_IMAGE_COMPRESSION_RATIO, 3),
    (tags::LOSSY_IMAGE_COMPRESSION_METHOD, 3),
];

/// Longer values are no values of these attributes.
const LONGEST: usize = 1024;
/// Characters of a long string.
const LONG_STRING: usize = 64;
/// The most bytes that the length of an element can say.
const MOST: u64 = u32::MAX as u64 - 1;
/// UTF-8.
const UTF_8: &str = "ISO_IR 192";

/// Structures whose codes are known by their names: SNOMED CT.
///
/// # Source
/// DICOM PS3.16, CID 7166 and CID 4031 and its neighbours, as pydicom lists them.
const ORGANS: [(&str, &str, &str); 20] = [
    ("adrenal gland", "23451007", "Adrenal gland"),
    ("aorta", "15825003", "Aorta"),
    ("bladder", "89837001", "Bladder"),
    ("brain", "12738006", "Brain"),
    ("colon", "71854001", "Colon"),
    ("duodenum", "38848004", "Duodenum"),
    ("esophagus", "32849002", "Esophagus"),
    ("gallbladder", "28231008", "Gallbladder"),
    ("heart", "80891009", "Heart"),
    ("hippocampus", "5366008", "Hippocampus"),
    ("inferior vena cava", "64131007", "Inferior vena cava"),
    ("kidney", "64033007", "Kidney"),
    ("left atrium", "82471001", "Left atrium"),
    ("left ventricle", "87878005", "Left ventricle"),
    ("liver", "10200004", "Liver"),
    ("lung", "39607008", "Lung"),
    ("pancreas", "15776009", "Pancreas"),
    ("prostate", "41216001", "Prostate"),
    ("spleen", "78961009", "Spleen"),
    ("stomach", "69695003", "Stomach"),
];

/// The bytes of a DICOM segmentation object of a mask: BINARY, explicit VR little endian.
///
/// - `mask`: `(slice, row, column)` on the voxels of the series as [`read_files`](super::read_files) reads it:
///   slices ascending along their normal.
/// - `name` stands for the series in messages, `files` are its files; [`ReadOptions::frames`] names the frames of
///   one enhanced file. They are read for their headers alone.
///
/// Every class is a segment, also one without a voxel, so that segment numbers are those of `what`; frames without a
/// voxel are left out (of a mask that is all background one empty frame stays: the standard wants one). Every
/// frame has the position of its source slice and refers to it. Slices at uneven distances are allowed: no grid is
/// needed.
///
/// **Personal data.** The object carries the source's patient and study: names, number, birth date, study date and
/// so on, since an archive files it by them. Nothing else personal is copied: no dates of series or acquisition, no
/// institution, no operators. Its content is dated as the study, so that the same mask has the same bytes.
///
/// # Errors
/// [`Error::Reference`] for a series without the UIDs that a segmentation must name; [`Error::Argument`] for a mask
/// of another shape, none or more than 65,535 segments; [`Error::Series`] for files that are no stack of slices;
/// [`Error::Limit`], [`Error::Read`]; [`Error::Unsupported`] for a value that dicom-object does not encode.
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dinorad_io::{ReadOptions, dicom::{self, Segment, Segmentation}};
/// let (options, files) = (ReadOptions::default(), ["ct/1.dcm".into(), "ct/2.dcm".into()]);
/// let (volume, _) = dicom::read_files("ct".as_ref(), &files, &options)?;
/// let bone = volume.data.mapv(|hu| u8::from(hu > 300.0));
/// let what = Segmentation {
///     segments: vec![Segment { value: 1, label: "bone".into() }],
///     algorithm: "threshold".into(),
///     version: "300 HU".into(),
///     identity: [1, 2, 3],
/// };
/// std::fs::write("bone.dcm", dicom::segmentation(&bone, "ct".as_ref(), &files, &options, &what)?)?;
/// # Ok(()) }
/// ```
///
/// # Source
/// DICOM PS3.3 A.51, C.8.20.2 (Segmentation Image), C.7.6.16 (functional groups), C.7.6.17 (dimensions); PS3.5
/// B.2 (UIDs of UUIDs).
pub fn segmentation(
    mask: &Array3<u8>,
    name: &Path,
    files: &[PathBuf],
    options: &ReadOptions,
    what: &Segmentation,
) -> Result<Vec<u8>> {
    if what.segments.is_empty() || what.segments.len() > usize::from(u16::MAX) {
        let got = what.segments.len().to_string();
        return Err(Error::Argument { what: "segments", expected: "1 to 65,535".into(), got });
    }
    let source = Source::read(name, files, options)?;
    let (rows, columns) = source.slices.first().map_or((0, 0), |s| (s.rows, s.columns));
    let shape = (source.slices.len(), usize::from(rows), usize::from(columns));
    if mask.dim() != shape {
        let (expected, got) = (format!("{shape:?}"), format!("{:?}", mask.dim()));
        return Err(Error::Argument { what: "shape of the mask", expected, got });
    }
    let frames = frames(mask, &what.segments);
    let pixels = shape.1 as u64 * shape.2 as u64;
    let needed = (frames.len() as u64).saturating_mul(pixels).div_ceil(8);
    if needed > MOST.min(options.limits.file_bytes) {
        let limit = MOST.min(options.limits.file_bytes);
        return Err(Error::Limit { path: name.to_owned(), what: "the segmentation", needed, limit });
    }
    let [instance, series, dimensions] = what.identity.map(uid);
    let set = labelled(source.patient_and_study(), &source, what)
        .text(tags::SOP_CLASS_UID, uids::SEGMENTATION_STORAGE)
        .text(tags::SOP_INSTANCE_UID, &instance)
        .text(tags::SERIES_INSTANCE_UID, &series)
        .text(tags::STUDY_INSTANCE_UID, &source.study)
        .text(tags::FRAME_OF_REFERENCE_UID, &source.frame_of_reference)
        .text(tags::POSITION_REFERENCE_INDICATOR, "")
        .text(tags::MODALITY, "SEG")
        .text(tags::SERIES_NUMBER, &source.number.to_string())
        .text(tags::SERIES_DESCRIPTION, "Segmentation")
        .text(tags::INSTANCE_NUMBER, "1")
        .text(tags::IMAGE_TYPE, "DERIVED\\PRIMARY")
        .text(tags::CONTENT_LABEL, "SEGMENTATION")
        .text(tags::CONTENT_DESCRIPTION, "")
        .text(tags::CONTENT_CREATOR_NAME, "")
        .text(tags::CONTENT_DATE, &source.date)
        .text(tags::CONTENT_TIME, &source.time)
        .text(tags::MANUFACTURER, "dinorad")
        .text(tags::MANUFACTURER_MODEL_NAME, &plain(&what.algorithm))
        // what drew it takes the place of a machine
        .text(tags::DEVICE_SERIAL_NUMBER, &plain(&what.version))
        .text(tags::SOFTWARE_VERSIONS, env!("CARGO_PKG_VERSION"))
        .short(tags::SAMPLES_PER_PIXEL, 1)
        .text(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2")
        .text(tags::NUMBER_OF_FRAMES, &frames.len().to_string())
        .short(tags::ROWS, rows)
        .short(tags::COLUMNS, columns)
        .short(tags::BITS_ALLOCATED, 1)
        .short(tags::BITS_STORED, 1)
        .short(tags::HIGH_BIT, 0)
        .short(tags::PIXEL_REPRESENTATION, 0)
        .text(tags::SEGMENTATION_TYPE, "BINARY")
        .text(tags::SEGMENTS_OVERLAP, "NO")
        .item(tags::DIMENSION_ORGANIZATION_SEQUENCE, organization(&dimensions))
        .items(tags::DIMENSION_INDEX_SEQUENCE, indices(&dimensions).into())
        .item(tags::REFERENCED_SERIES_SEQUENCE, source.referenced_series()?)
        .item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, source.shared())
        .items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, source.per_frame(&frames)?)
        .pixels(packed(mask, &frames, &what.segments, pixels as usize));
    let refused = || Error::unsupported(name, Format::Dicom, "a value that cannot stand in a segmentation");
    set.file(uids::SEGMENTATION_STORAGE, &instance).ok_or_else(refused)
}

/// A UID of 128 bits: those of a UUID of version 8, whose content its maker decides.
fn uid(bits: u128) -> String {
    let bits = (bits & !(0xF << 76)) | (0x8 << 76);
    let bits = (bits & !(0b11 << 62)) | (0b10 << 62);
    format!("2.25.{bits}")
}

/// One frame of the object: which segment (counted from 0) and which slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    segment: usize,
    slice: usize,
}

/// The frames that hold something, segment by segment.
fn frames(mask: &Array3<u8>, segments: &[Segment]) -> Vec<Frame> {
    // one look at every voxel: which values a slice has
    let held: Vec<[bool; 256]> = mask
        .outer_iter()
        .map(|plane| {
            let mut held = [false; 256];
            plane.iter().for_each(|v| held[usize::from(*v)] = true);
            held
        })
        .collect();
    let of = |(segment, Segment { value, .. }): (usize, &Segment)| {
        let value = usize::from(*value);
        held.iter().enumerate().filter(move |(_, held)| held[value]).map(move |(slice, _)| Frame { segment, slice })
    };
    let all: Vec<Frame> = segments.iter().enumerate().flat_map(of).collect();
    if all.is_empty() { vec![Frame { segment: 0, slice: 0 }] } else { all }
}

/// The bits of all frames, the lowest first, frames following each other without padding.
fn packed(mask: &Array3<u8>, frames: &[Frame], segments: &[Segment], pixels: usize) -> Vec<u8> {
    let mut bits = vec![0u8; (frames.len() * pixels).div_ceil(8)];
    for (n, frame) in frames.iter().enumerate() {
        let plane: ArrayView2<'_, u8> = mask.index_axis(ndarray::Axis(0), frame.slice);
        let value = segments[frame.segment].value;
        for (p, _) in plane.iter().enumerate().filter(|(_, v)| **v == value) {
            let at = n * pixels + p;
            bits[at / 8] |= 1 << (at % 8);
        }
    }
    bits
}

fn code(value: &str, scheme: &str, meaning: &str) -> Elements {
    Elements::default()
        .text(tags::CODE_VALUE, value)
        .text(tags::CODING_SCHEME_DESIGNATOR, scheme)
        .text(tags::CODE_MEANING, meaning)
}

fn organization(dimensions: &str) -> Elements {
    Elements::default().text(tags::DIMENSION_ORGANIZATION_UID, dimensions)
}

/// Frames are numbered by segment, then by position.
fn indices(dimensions: &str) -> [Elements; 2] {
    let index = |of: Tag, group: Tag, label: &str| {
        organization(dimensions)
            .pointer(tags::DIMENSION_INDEX_POINTER, of)
            .pointer(tags::FUNCTIONAL_GROUP_POINTER, group)
            .text(tags::DIMENSION_DESCRIPTION_LABEL, label)
    };
    [
        index(tags::REFERENCED_SEGMENT_NUMBER, tags::SEGMENT_IDENTIFICATION_SEQUENCE, "Segment Number"),
        index(tags::IMAGE_POSITION_PATIENT, tags::PLANE_POSITION_SEQUENCE, "Image Position (Patient)"),
    ]
}

/// A text of ours in ASCII, without what separates values and what is no character, as long as a long string may be.
fn plain(text: &str) -> String {
    shortened(text, |c| c.is_ascii())
}

fn shortened(text: &str, allowed: impl Fn(char) -> bool) -> String {
    let character = |c: char| match c {
        '\\' => '/',
        c if c.is_control() => ' ',
        c if allowed(c) => c,
        _ => '?',
    };
    text.trim().chars().take(LONG_STRING).map(character).collect()
}

/// The segments, and the character set that their names and the copied texts are in.
fn labelled(set: Elements, source: &Source, what: &Segmentation) -> Elements {
    let foreign = what.segments.iter().any(|s| !s.label.is_ascii());
    let mut character_set = source.character_set.clone();
    if character_set.is_empty() && foreign && source.copied.values().all(|text| text.is_ascii()) {
        UTF_8.clone_into(&mut character_set);
    }
    // names beyond ASCII in a set of the source's own would need its encoder
    let utf_8 = character_set == UTF_8;
    let segment = |(n, Segment { label, .. }): (usize, &Segment)| {
        let label = shortened(label, |c| utf_8 || c.is_ascii());
        let label = if label.is_empty() { format!("segment {}", n + 1) } else { label };
        let known = label.to_lowercase().replace(['_', '-'], " ");
        let (category, kind) = match ORGANS.iter().find(|(name, ..)| *name == known) {
            Some((_, value, meaning)) => (code("91723000", "SCT", "Anatomical Structure"), code(value, "SCT", meaning)),
            None => (code("85756007", "SCT", "Tissue"), code("85756007", "SCT", "Tissue")),
        };
        let algorithm = Elements::default()
            .item(tags::ALGORITHM_FAMILY_CODE_SEQUENCE, code("123110", "DCM", "Artificial Intelligence"))
            .text(tags::ALGORITHM_NAME, &plain(&what.algorithm))
            .text(tags::ALGORITHM_VERSION, &plain(&what.version));
        Elements::default()
            .short(tags::SEGMENT_NUMBER, (n + 1) as u16)
            .text(tags::SEGMENT_LABEL, &label)
            .text(tags::SEGMENT_ALGORITHM_TYPE, "AUTOMATIC")
            .text(tags::SEGMENT_ALGORITHM_NAME, &plain(&what.algorithm))
            .item(tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, algorithm)
            .item(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, category)
            .item(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, kind)
    };
    let segments: Vec<Elements> = what.segments.iter().enumerate().map(segment).collect();
    let set = set.items(tags::SEGMENT_SEQUENCE, segments);
    match character_set.as_str() {
        "" => set,
        UTF_8 => set.text(tags::SPECIFIC_CHARACTER_SET, UTF_8),
        // as bytes, so that dicom-object does not look for an encoder: texts of ours are ASCII here
        other => set.copied(tags::SPECIFIC_CHARACTER_SET, other.as_bytes()),
    }
}

/// The series that a mask is of.
struct Source {
    name: PathBuf,
    images: Vec<Image>,
    /// Ascending along the normal.
    slices: Vec<Slice>,
    study: String,
    series: String,
    frame_of_reference: String,
    /// What is copied, as it is encoded in the source.
    copied: BTreeMap<Tag, Vec<u8>>,
    character_set: String,
    lossy: bool,
    number: u32,
    date: String,
    time: String,
}

/// A UID, if that is what the text is.
fn checked_uid(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let fits = !text.is_empty() && text.len() <= LONG_STRING && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    fits.then(|| text.to_owned())
}

/// A date or a time that may stand for that of the content, else `other`.
fn moment(set: &DataSet, tag: Tag, lengths: &[usize], other: &str) -> String {
    let text = set.text(tag).unwrap_or_default();
    let whole = text.split('.').next().unwrap_or_default();
    let fits = lengths.contains(&whole.len()) && whole.bytes().all(|b| b.is_ascii_digit());
    if fits { whole.to_owned() } else { other.to_owned() }
}

impl Source {
    fn read(name: &Path, files: &[PathBuf], options: &ReadOptions) -> Result<Self> {
        let lacking = |what| Error::Reference { path: name.to_owned(), what };
        let unusable = |problems| {
            let report = Box::new(SeriesReport { problems, ..SeriesReport::default() });
            Error::Series { path: name.to_owned(), report }
        };
        let scanned = scan(files, options, Keep::Headers);
        if !scanned.broken.is_empty() {
            let unreadable = scanned.broken.into_iter().map(|b| Problem::Unreadable { file: b.file, reason: b.reason });
            return Err(unusable(unreadable.collect()));
        }
        let mut images = scanned.images;
        drop_copies(&mut images, &mut SeriesReport::default())?;
        if images.is_empty() {
            return Err(Error::NoImages { path: name.to_owned(), skipped: files.len() });
        }
        let slices = || slices_of(images.iter().map(|(file, header, _)| (file, header)), options.frames.as_deref());
        let slices = match grid(slices()) {
            Ok(grid) => grid.slices,
            // in order all the same
            Err(problems) if !problems.is_empty() && problems.iter().all(Problem::leaves_slices) => {
                along_normal(slices()).ok_or_else(|| unusable(problems))?
            }
            Err(problems) => return Err(unusable(problems)),
        };
        let Some((file, header)) = slices.first().map(|s| &images[s.source.0]).map(|i| (&i.0, &i.1)) else {
            return Err(Error::NoImages { path: name.to_owned(), skipped: files.len() });
        };
        let own = |uid: &Option<crate::Personal>| uid.as_ref().and_then(|uid| checked_uid(uid.reveal()));
        let series = own(&header.series).ok_or_else(|| lacking("SeriesInstanceUID"))?;
        let frame_of_reference = own(&header.frame_of_reference).ok_or_else(|| lacking("FrameOfReferenceUID"))?;
        if images.iter().any(|(_, other, _)| own(&other.series).as_ref() != Some(&series)) {
            return Err(lacking("one SeriesInstanceUID"));
        }
        if images.iter().any(|(_, other, _)| own(&other.frame_of_reference).as_ref() != Some(&frame_of_reference)) {
            return Err(lacking("one FrameOfReferenceUID"));
        }
        let raw = Raw::new(options.limits.file(file)?, file, &options.limits)?;
        let set = raw.data_set().map_err(|what| Error::damaged(file, Format::Dicom, what))?;
        let study = set.text(tags::STUDY_INSTANCE_UID).and_then(|text| checked_uid(&text));
        let study = study.ok_or_else(|| lacking("StudyInstanceUID"))?;
        let copied = COPIED
            .iter()
            .filter_map(|(tag, _)| {
                let text = trimmed(set.bytes(*tag)?);
                (!text.is_empty() && text.len() <= LONGEST).then(|| (*tag, text.to_vec()))
            })
            .collect();
        let number = set.numbers(tags::SERIES_NUMBER).ok().and_then(|n| n.first().copied());
        let number = number.filter(|n| (0.0..1e6).contains(n)).map_or(0, |n| n as u32);
        let (date, time) =
            (moment(&set, tags::STUDY_DATE, &[8], "19700101"), moment(&set, tags::STUDY_TIME, &[2, 4, 6], "000000"));
        let character_set = set.text(tags::SPECIFIC_CHARACTER_SET).map_or_else(String::new, |text| text.into_owned());
        let character_set = if character_set.is_ascii() { character_set } else { String::new() };
        let lossy = set.text(tags::LOSSY_IMAGE_COMPRESSION).is_some_and(|text| text == "01");
        let name = name.to_owned();
        // behind the images, whose numbers are lower
        let number = 1000 + number;
        Ok(Self {
            name,
            slices,
            study,
            series,
            frame_of_reference,
            copied,
            character_set,
            lossy,
            number,
            date,
            time,
            images,
        })
    }

    fn lacking(&self, what: &'static str) -> Error {
        Error::Reference { path: self.name.clone(), what }
    }

    /// What the standard wants copied.
    fn patient_and_study(&self) -> Elements {
        let mut set = Elements::default();
        let lossy = [tags::LOSSY_IMAGE_COMPRESSION_RATIO, tags::LOSSY_IMAGE_COMPRESSION_METHOD];
        for (tag, kind) in COPIED.iter().filter(|(tag, _)| self.lossy || !lossy.contains(tag)) {
            match self.copied.get(tag) {
                Some(text) => set = set.copied(*tag, text),
                None if *kind == 2 => set = set.text(*tag, ""),
                None => {}
            }
        }
        // said of the source in codes, perhaps: of what is de-identified the method must be told
        let removed = self.copied.get(&tags::PATIENT_IDENTITY_REMOVED).is_some_and(|text| text == b"YES");
        if removed && !self.copied.contains_key(&tags::DEIDENTIFICATION_METHOD) {
            set = set.text(tags::DEIDENTIFICATION_METHOD, "as the source images");
        }
        set.text(tags::LOSSY_IMAGE_COMPRESSION, if self.lossy { "01" } else { "00" })
    }

    fn reference(&self, header: &Header) -> Result<Elements> {
        let class = header.sop_class.as_deref().ok_or_else(|| self.lacking("a SOPClassUID of the standard"))?;
        let instance = header.sop_instance.as_ref().and_then(|uid| checked_uid(uid.reveal()));
        let instance = instance.ok_or_else(|| self.lacking("SOPInstanceUID"))?;
        Ok(Elements::default()
            .text(tags::REFERENCED_SOP_CLASS_UID, class)
            .text(tags::REFERENCED_SOP_INSTANCE_UID, &instance))
    }

    /// The instances that slices come from.
    fn referenced_series(&self) -> Result<Elements> {
        let mut seen = BTreeSet::new();
        let files = self.slices.iter().map(|s| s.source.0).filter(|n| seen.insert(*n));
        let instances = files.map(|n| self.reference(&self.images[n].1)).collect::<Result<Vec<_>>>()?;
        Ok(Elements::default()
            .text(tags::SERIES_INSTANCE_UID, &self.series)
            .items(tags::REFERENCED_INSTANCE_SEQUENCE, instances))
    }

    /// How far slices are apart, where that is the same for all.
    fn distance(&self) -> Option<f64> {
        let [first, .., last] = self.slices.as_slice() else {
            let frame = &self.slices.first()?.frame;
            return frame.spacing_between_slices.or(frame.slice_thickness).filter(|mm| *mm > 0.0);
        };
        grid(self.slices.clone()).ok()?;
        let normal = normal(first.frame.orientation?)?;
        let length = dot(last.frame.position?, normal) - dot(first.frame.position?, normal);
        Some(length / (self.slices.len() - 1) as f64)
    }

    /// What all frames have in common.
    fn shared(&self) -> Elements {
        let frame = self.slices.first().map(|slice| slice.frame.clone()).unwrap_or_default();
        let distance = self.distance();
        let mut measures = Elements::default().decimals(tags::PIXEL_SPACING, &frame.pixel_spacing.unwrap_or([1.0; 2]));
        if let Some(thickness) = frame.slice_thickness.filter(|mm| *mm > 0.0).or(distance) {
            measures = measures.decimals(tags::SLICE_THICKNESS, &[thickness]);
        }
        if let Some(distance) = distance {
            measures = measures.decimals(tags::SPACING_BETWEEN_SLICES, &[distance]);
        }
        let orientation = frame.orientation.unwrap_or([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let orientation = Elements::default().decimals(tags::IMAGE_ORIENTATION_PATIENT, &orientation);
        Elements::default()
            .item(tags::PIXEL_MEASURES_SEQUENCE, measures)
            .item(tags::PLANE_ORIENTATION_SEQUENCE, orientation)
    }

    /// What every frame has of its own.
    fn per_frame(&self, frames: &[Frame]) -> Result<Vec<Elements>> {
        // positions are counted among those that there are
        let there: BTreeSet<usize> = frames.iter().map(|frame| frame.slice).collect();
        let place: BTreeMap<usize, u32> = there.into_iter().zip(1..).collect();
        let group = |frame: &Frame| -> Result<Elements> {
            let Slice { source: (file, of), frame: own, .. } = &self.slices[frame.slice];
            let position = own.position.ok_or_else(|| self.lacking("ImagePositionPatient"))?;
            let number = (frame.segment + 1) as u16;
            let header = &self.images[*file].1;
            let mut source = self
                .reference(header)?
                .item(
                    tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE,
                    code("121322", "DCM", "Source image for image processing operation"),
                )
                .text(tags::SPATIAL_LOCATIONS_PRESERVED, "YES");
            if header.frames > 1 {
                source = source.text(tags::REFERENCED_FRAME_NUMBER, &(of + 1).to_string());
            }
            let derivation = Elements::default()
                .item(tags::SOURCE_IMAGE_SEQUENCE, source)
                .item(tags::DERIVATION_CODE_SEQUENCE, code("113076", "DCM", "Segmentation"));
            let index = [u32::from(number), place.get(&frame.slice).copied().unwrap_or(1)];
            Ok(Elements::default()
                .item(tags::FRAME_CONTENT_SEQUENCE, Elements::default().long(tags::DIMENSION_INDEX_VALUES, &index))
                .item(
                    tags::PLANE_POSITION_SEQUENCE,
                    Elements::default().decimals(tags::IMAGE_POSITION_PATIENT, &position),
                )
                .item(tags::DERIVATION_IMAGE_SEQUENCE, derivation)
                .item(
                    tags::SEGMENT_IDENTIFICATION_SEQUENCE,
                    Elements::default().short(tags::REFERENCED_SEGMENT_NUMBER, number),
                ))
        };
        frames.iter().map(group).collect()
    }
}

/// A text without its padding.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let padding = |b: &u8| matches!(b, b' ' | 0);
    let first = bytes.iter().position(|b| !padding(b)).unwrap_or(bytes.len());
    let last = bytes.iter().rposition(|b| !padding(b)).map_or(first, |at| at + 1);
    &bytes[first..last]
}

#[cfg(test)]
mod tests;
