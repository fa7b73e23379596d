//! What can go wrong, and whose fault it is.

use std::path::{Path, PathBuf};

use crate::{Format, Personal, dicom::report::SeriesReport};

/// A file that could not be read or written.
///
/// Every variant names the file. No variant carries a patient's name, number or dates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system could not read the file or folder.
    #[error("could not read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// The operating system could not write the file.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// The content is none of the formats this crate reads.
    #[error("{}: content is not DICOM, NIfTI, NRRD, MetaImage, MGH, PNG, JPEG, TIFF, npy, npz or MATLAB v7.3", path.display())]
    Unrecognised {
        /// The file.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("{}: the file is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file contradicts its own format or ends early.
    #[error("{}: damaged {format}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it claims to be.
        format: Format,
        /// What is wrong with it.
        what: String,
    },
    /// The file may be sound, but this crate does not read its kind.
    #[error("{}: {format} not supported: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// The part that is not supported.
        what: String,
    },
    /// A DICOM transfer syntax whose codec is not compiled in, or does not exist here at all.
    #[error("{}: transfer syntax {uid} ({codec}) {}", path.display(), feature_hint(feature))]
    MissingCodec {
        /// The file.
        path: PathBuf,
        /// Transfer syntax UID.
        uid: String,
        /// What the codec is called.
        codec: String,
        /// The cargo feature that would bring it, if there is one.
        feature: Option<&'static str>,
    },
    /// The file takes a part of its content from another file (HDF5's external links, external raw
    /// data, virtual data sets; voxels of an NRRD or MetaImage header that lie outside its folder). That is
    /// never followed, whatever the other file is.
    #[error("{}: {what} lies in another file, which is not followed", path.display())]
    Elsewhere {
        /// The file.
        path: PathBuf,
        /// The part, and in which way it lies elsewhere.
        what: String,
    },
    /// More memory than the caller allows.
    #[error("{}: {what} needs {needed} bytes, the limit is {limit} ({} raises it)", path.display(), raised_by(what))]
    Limit {
        /// The file.
        path: PathBuf,
        /// What is that large.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A name or index given by the caller that the file does not have.
    #[error("{}: no {what} `{got}`, the file has {has}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        what: &'static str,
        /// Its name or index.
        got: String,
        /// What there is.
        has: String,
    },
    /// A zip that holds files, and no array among them: it has to be unpacked first.
    #[error("{}: {}", path.display(), packed(*files, *dicom))]
    Packed {
        /// The zip.
        path: PathBuf,
        /// How many files are in it.
        files: usize,
        /// Whether DICOM files were seen among them.
        dicom: bool,
    },
    /// A time series where one volume is wanted: name one with `ReadOptions::volume`.
    #[error("{}: holds {volumes} volumes, choose one of them", path.display())]
    SeveralVolumes {
        /// The file.
        path: PathBuf,
        /// How many.
        volumes: usize,
    },
    /// A folder without a readable image.
    #[error("{}: no images in the folder ({skipped} other files)", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// How many files were looked at.
        skipped: usize,
    },
    /// A folder with several DICOM series: name one with `ReadOptions::series`
    /// ([`find_series`](crate::dicom::find_series) lists them).
    #[error("{}: {} series, choose one of them", path.display(), series.len())]
    SeveralSeries {
        /// The folder.
        path: PathBuf,
        /// SeriesInstanceUID and number of files.
        series: Vec<(Personal, usize)>,
    },
    /// DICOM files that do not make one volume; the report names the files.
    #[error("{}: the series is not one volume: {report}", path.display())]
    Series {
        /// The folder.
        path: PathBuf,
        /// What is wrong, with file names.
        report: Box<SeriesReport>,
    },
    /// A DICOM series that a new object cannot refer to, because its files lack what names or places them.
    #[error("{}: no new object can refer to these files: they have no {what}", path.display())]
    Reference {
        /// The series.
        path: PathBuf,
        /// The attribute.
        what: &'static str,
    },
    /// Labels are wanted and a voxel is not a whole number in 0..=255.
    #[error("{}: voxel value {value} is not a label in 0..=255", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The first such value.
        value: f64,
    },
    /// An affine without an inverse: the voxels cannot be placed.
    #[error("{}: orientation is unusable: {what}", path.display())]
    Orientation {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// Arrays or options given by the caller that do not fit together.
    #[error("{what}: expected {expected}, got {got}")]
    Argument {
        /// Which argument.
        what: &'static str,
        /// What fits.
        expected: String,
        /// What was given.
        got: String,
    },
}

pub(crate) fn feature_hint(feature: &Option<&'static str>) -> String {
    match feature {
        Some(name) => format!("needs the cargo feature `{name}`"),
        None => "is not decoded by this crate, whatever its features".to_owned(),
    }
}

fn packed(files: usize, dicom: bool) -> String {
    let what = if dicom { "files, DICOM among them" } else { "files and no arrays" };
    format!("a zip of {files} {what}: unpack it first")
}

/// The limit that `what` is under.
fn raised_by(what: &str) -> &'static str {
    match what {
        "voxel data" => "`Limits::voxel_bytes`",
        "the picture" => "`Limits::picture_bytes`",
        _ => "`Limits::file_bytes`",
    }
}

impl Error {
    /// The error by its kind alone: no name of a file or folder, no text from inside of a file.
    ///
    /// # Examples
    /// ```
    /// let error = dinorad_io::read("DOE^JOHN/no-such-file".as_ref()).unwrap_err();
    /// assert_eq!(error.unnamed(), "could not be read (entity not found)");
    /// ```
    pub fn unnamed(&self) -> String {
        match self {
            Error::Read { source, .. } => format!("could not be read ({})", source.kind()),
            Error::Write { source, .. } => format!("could not be written ({})", source.kind()),
            Error::Unrecognised { .. } => "none of the known formats".to_owned(),
            Error::Empty { .. } => "the file is empty".to_owned(),
            Error::Damaged { format, .. } => format!("damaged {format}"),
            Error::Unsupported { format, .. } => format!("a kind of {format} that is not supported"),
            Error::MissingCodec { feature, .. } => format!("its transfer syntax {}", feature_hint(feature)),
            Error::Elsewhere { .. } => "a part of it lies in another file, which is not followed".to_owned(),
            Error::Limit { what, needed, limit, .. } => format!("{what} needs {needed} bytes, the limit is {limit}"),
            Error::Missing { what, .. } => format!("no such {what}"),
            Error::Packed { files, dicom, .. } => packed(*files, *dicom),
            Error::SeveralVolumes { volumes, .. } => format!("holds {volumes} volumes, choose one of them"),
            Error::NoImages { skipped, .. } => format!("no images in the folder ({skipped} other files)"),
            Error::SeveralSeries { series, .. } => format!("{} series, choose one of them", series.len()),
            Error::Series { report, .. } => format!("the series is not one volume: {}", report.unnamed()),
            Error::Reference { what, .. } => format!("no new object can refer to its files: they have no {what}"),
            Error::Label { value, .. } => format!("voxel value {value} is not a label in 0..=255"),
            Error::Orientation { .. } => "its orientation is unusable".to_owned(),
            Error::Argument { what, .. } => format!("{what}: not a possible value"),
        }
    }

    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Error::Read { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, format: Format, what: impl Into<String>) -> Self {
        Error::Damaged { path: path.to_owned(), format, what: what.into() }
    }

    pub(crate) fn unsupported(path: &Path, format: Format, what: impl Into<String>) -> Self {
        Error::Unsupported { path: path.to_owned(), format, what: what.into() }
    }
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
