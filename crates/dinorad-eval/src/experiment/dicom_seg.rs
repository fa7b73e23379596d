//! The mask of a DICOM series as a segmentation object.

use std::path::{Path, PathBuf};

use dinorad_datasets::{Input, InputKind};
use dinorad_io::{
    Error, Format, ReadOptions,
    dicom::{DicomFile, Segmentation, segmentation},
    image, read_labels,
};
use ndarray::{Array3, Axis, stack};

/// Why there is none.
pub(super) enum Without {
    /// The scan is no series, which is no fault.
    Other(&'static str),
    /// It is one, and it cannot be made.
    Failed(Error),
}

impl From<Error> for Without {
    fn from(error: Error) -> Self {
        Without::Failed(error)
    }
}

/// The segmentation object of a case whose mask lies in a folder.
pub(super) fn made(input: &Input, (out, name): (&Path, &str), what: &Segmentation) -> Result<Vec<u8>, Without> {
    let options = ReadOptions::default();
    let (files, options) = match &input.kind {
        InputKind::Series { files, frames, .. } => {
            let mut options = options;
            options.frames.clone_from(frames);
            (files.clone(), options)
        }
        InputKind::File(Format::Dicom) => {
            // a single slice has a place in the patient, an X-ray has none
            let placed = DicomFile::open(&input.path, &options)?.header().frame(0).position.is_some();
            if !placed {
                return Err(Without::Other("a DICOM file without a place in the patient, no series"));
            }
            (vec![input.path.clone()], options)
        }
        _ => return Err(Without::Other("no DICOM series")),
    };
    Ok(segmentation(&drawn(out, name)?, &input.path, &files, &options, what)?)
}

/// The mask that was written, on the voxels of its source: a volume, a picture, or a picture for every slice.
fn drawn(out: &Path, name: &str) -> Result<Array3<u8>, Error> {
    let options = ReadOptions::default();
    let at = |rest: String| -> PathBuf { out.join(format!("{name}{rest}")) };
    let volume = at(".nii.gz".into());
    if volume.is_file() {
        return Ok(read_labels(&volume, &options)?.data);
    }
    let single = at(".png".into());
    if single.is_file() {
        return Ok(image::read_labels(&single, &options)?.insert_axis(Axis(0)));
    }
    let slices = (0..).map(|k| at(format!("_{k:04}.png"))).take_while(|path| path.is_file());
    let slices = slices.map(|path| image::read_labels(&path, &options)).collect::<Result<Vec<_>, _>>()?;
    let views: Vec<_> = slices.iter().map(|slice| slice.view()).collect();
    stack(Axis(0), &views).map_err(|_| Error::Argument {
        what: "slices of a mask",
        expected: "pictures of one size".into(),
        got: format!("{} of several", slices.len()),
    })
}
