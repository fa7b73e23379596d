//! One entrance for every format.

use std::path::Path;

use crate::{Error, Format, Loaded, ReadOptions, Result, dicom, image, mat, metaimage, mgh, nifti, npy, nrrd, sniff};

/// Reads a file or a folder (a DICOM series), deciding by content and never by suffix.
///
/// # Errors
/// See the reader of each format: [`nifti::read`], [`nrrd::read`], [`metaimage::read`], [`mgh::read`], [`dicom::read_file`], [`dicom::read_series`],
/// [`image::read`], [`npy::read`]. An npz with several arrays is [`Error::Argument`]: use
/// [`npy::read_npz_array`]; so is a MATLAB file with several: use [`mat::MatFile`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{Loaded, read};
/// match read("study/series-3".as_ref())? {
///     Loaded::Volume(v) => println!("{:?} voxels of {:?} mm", v.data.dim(), v.spacing_mm()),
///     Loaded::Image(i) => println!("{:?} pixels", i.data.dim()),
///     _ => println!("something else"),
/// }
/// # Ok(()) }
/// ```
pub fn read(path: &Path) -> Result<Loaded> {
    read_with(path, &ReadOptions::default())
}

/// The same with limits and choices of the caller's.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: &Path, options: &ReadOptions) -> Result<Loaded> {
    // the voxels of an `.img` have no mark of their own
    let path = &nifti::header_path(path);
    match sniff(path).map_err(|e| explain(e, path, options))? {
        Format::Dicom => dicom::read_file(path, options),
        Format::DicomSeries => Ok(Loaded::Volume(dicom::read_series(path, options)?.0)),
        Format::Nifti => Ok(Loaded::Volume(nifti::read(path, options)?)),
        Format::Nrrd => Ok(Loaded::Volume(nrrd::read(path, options)?)),
        Format::MetaImage => Ok(Loaded::Volume(metaimage::read(path, options)?)),
        Format::Mgh => Ok(Loaded::Volume(mgh::read(path, options)?)),
        Format::Png | Format::Jpeg | Format::Tiff => Ok(Loaded::Image(image::read_with(path, options)?)),
        Format::Npy => Ok(Loaded::Array(npy::read(path, options)?)),
        Format::Npz => {
            let names = npy::names(path)?;
            let [name] = names.as_slice() else {
                let (expected, got) = ("one array".to_owned(), names.join(", "));
                return Err(Error::Argument { what: "arrays of the npz", expected, got });
            };
            Ok(Loaded::Array(npy::read_npz_array(path, name, options)?))
        }
        Format::Mat => {
            let file = mat::MatFile::open(path, options)?;
            let names = file.names();
            let [name] = names.as_slice() else {
                let (expected, got) = ("one array".to_owned(), names.join(", "));
                return Err(Error::Argument { what: "arrays of the MATLAB file", expected, got });
            };
            Ok(Loaded::Array(file.array(name)?))
        }
    }
}

/// For content that is nothing, the reader that the suffix promises says more exactly what is
/// wrong. The suffix decides about words only: the file stays refused.
pub(crate) fn explain(error: Error, path: &Path, options: &ReadOptions) -> Error {
    if !matches!(error, Error::Unrecognised { .. }) {
        return error;
    }
    let name = path.to_string_lossy().to_ascii_lowercase();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
    let more = if ends(&[".nii", ".nii.gz", ".hdr"]) {
        nifti::read(path, options).err()
    } else if ends(&[".nrrd", ".nhdr"]) {
        nrrd::read(path, options).err()
    } else if ends(&[".mha", ".mhd"]) {
        metaimage::read(path, options).err()
    } else if ends(&[".mgh", ".mgz"]) {
        mgh::read(path, options).err()
    } else if ends(&[".dcm", ".dcm.gz"]) {
        dicom::DicomFile::open(path, options).err()
    } else if ends(&[".npy"]) {
        npy::read(path, options).err()
    } else if ends(&[".npz"]) {
        npy::names(path).err()
    } else if ends(&[".mat"]) {
        mat::MatFile::open(path, options).err()
    } else {
        None
    };
    more.unwrap_or(error)
}
