//! DICOM: single files, multi-frame files and series of slices.
//!
//! Values come in the modality's unit (HU for CT); windows, palettes of display and inversion are
//! never applied unasked. Names, numbers and dates of patients are not kept anywhere.
//!
//! The element structure is read by this crate itself, over bytes in memory, so that no declared
//! length decides how much memory is taken; the codecs are other people's, and so is what writes
//! segmentation objects (dicom-object).

mod bare;
pub(crate) mod codec;
mod file;
mod frames;
mod geometry;
mod header;
mod lut;
#[cfg(feature = "dicom-seg")]
mod object;
pub(crate) mod packed;
mod parse;
pub(crate) mod report;
mod scan;
#[cfg(feature = "dicom-seg")]
mod segmentation;
mod series;
mod stacks;
pub(crate) mod syntax;
pub(crate) mod terms;

use std::path::Path;

use dicom_dictionary_std::tags;

pub(crate) use bare::looks_bare;
pub use file::DicomFile;
pub(crate) use file::Raw;
pub use frames::Frames;
pub use header::{FrameHeader, Header, PhotometricInterpretation, SampleKind};
pub use lut::{Lut, Voi, VoiFunction};
pub use report::{Problem, SeriesReport, Skipped};
#[cfg(feature = "dicom-seg")]
pub use segmentation::{Segment, Segmentation, segmentation};
pub use series::{SeriesInfo, find_series, read_files, read_series};
pub use stacks::{Stack, Survey, SurveyedSeries, read_slices, survey};

use crate::{Loaded, Photometric, ReadOptions, Result};

/// Reads one file: an image, or the frames of a multi-frame file as a volume where they have
/// positions and as [`Frames`] where they have none.
///
/// # Errors
/// [`Error::Damaged`](crate::Error::Damaged), [`Error::Unsupported`](crate::Error::Unsupported),
/// [`Error::MissingCodec`](crate::Error::MissingCodec), [`Error::Limit`](crate::Error::Limit),
/// [`Error::Read`](crate::Error::Read); [`Error::Series`](crate::Error::Series) if frames with
/// positions do not make one volume.
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{Loaded, ReadOptions, dicom};
/// match dicom::read_file("file.dcm".as_ref(), &ReadOptions::default())? {
///     Loaded::Image(image) => println!("{:?}, {:?} mm", image.data.dim(), image.spacing_mm),
///     Loaded::Volume(volume) => println!("enhanced, {:?}", volume.data.dim()),
///     Loaded::Frames(frames) => println!("a loop of {}", frames.data.dim().0),
///     _ => {}
/// }
/// # Ok(()) }
/// ```
pub fn read_file(path: &Path, options: &ReadOptions) -> Result<Loaded> {
    load(DicomFile::open(path, options)?, path, options)
}

/// The same from memory; `path` only names the file in errors.
///
/// # Errors
/// As [`read_file`].
pub fn read_bytes(bytes: Vec<u8>, path: &Path, options: &ReadOptions) -> Result<Loaded> {
    load(DicomFile::from_bytes(bytes, path, options)?, path, options)
}

/// What `hash` makes of the file's PatientID; nothing if it has none. The number itself goes nowhere
/// else.
///
/// # Errors
/// As [`read_file`], as far as the header goes.
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, dicom};
/// let digits = dicom::hash_patient("slice.dcm".as_ref(), &ReadOptions::default(), |id| id.len())?;
/// # Ok(()) }
/// ```
pub fn hash_patient<T>(path: &Path, options: &ReadOptions, hash: impl FnOnce(&str) -> T) -> Result<Option<T>> {
    let raw = Raw::new(options.limits.file(path)?, path, &options.limits)?;
    let set = raw.data_set().map_err(|what| crate::Error::damaged(path, crate::Format::Dicom, what))?;
    let id = set.text(tags::PATIENT_ID);
    Ok(id.as_deref().map(str::trim).filter(|id| !id.is_empty()).map(hash))
}

fn load(file: DicomFile, path: &Path, options: &ReadOptions) -> Result<Loaded> {
    let header = file.header().clone();
    if header.frames == 1 {
        return Ok(Loaded::Image(file.image(0)?));
    }
    file.check_total()?;
    let gray = header.photometric.converted() != Photometric::Rgb;
    if gray && header.per_frame.iter().any(|f| f.position.is_some()) {
        let report = SeriesReport { series_uid: header.series.clone().unwrap_or_default(), ..Default::default() };
        let images = vec![(path.to_owned(), header, Some(file))];
        return Ok(Loaded::Volume(series::assemble(path, images, report, options)?.0));
    }
    Ok(Loaded::Frames(Frames {
        data: file.all_frames()?,
        windows: header.frame(0).windows,
        padding: header.padding_of(&header.frame(0)),
        bit_depth: file.bit_depth(),
        photometric: header.photometric.converted(),
        modality: header.modality,
        spacing_mm: header.common.pixel_spacing,
    }))
}
