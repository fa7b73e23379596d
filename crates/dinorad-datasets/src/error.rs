//! What can go wrong, and in which file.

use std::path::{Path, PathBuf};

use dinorad_core::Split;

/// A data set or a sample that cannot be used as it is.
///
/// Every variant names the file or the folder. None carries a patient's name, number or dates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Cases that are known by their labels alone.
    #[error("the cases of {dataset} have no files here: there are no pixels to read")]
    NoPixels {
        /// The data set.
        dataset: String,
    },
    /// A file that could not be read or decoded; its text names the file.
    #[error(transparent)]
    Io(#[from] dinorad_io::Error),
    /// The operating system could not read a file or folder.
    #[error("could not read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// The operating system could not write a file.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// A symbolic link that is not followed, see [`dinorad_io::Tree`].
    #[error("{}: {why}", path.display())]
    Link {
        /// The link, or the path that leads through it.
        path: PathBuf,
        /// Why.
        why: dinorad_io::Unfollowed,
    },
    /// Another error, told without the names of files.
    #[error("{id}: {what}")]
    Pseudonymous {
        /// The pseudonym of the case, or the data set.
        id: String,
        /// The kind of error.
        what: String,
    },
    /// A file or folder that the layout needs is not there.
    #[error("{}: {what} does not exist", path.display())]
    Absent {
        /// The file or folder.
        path: PathBuf,
        /// What it is to the data set.
        what: &'static str,
    },
    /// A file or folder with the wrong content.
    #[error("{}: {what}", path.display())]
    Layout {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A line of a table that makes no sense.
    #[error("{} line {line}: {what}", path.display())]
    Row {
        /// The table.
        path: PathBuf,
        /// Counted from 1, the header included.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// An image without the label of its name, or the other way round.
    #[error("{}: no {missing} at {}", path.display(), expected.display())]
    Unpaired {
        /// The one that is there.
        path: PathBuf,
        /// What is missing: `label`, `image`, `left mask`, ...
        missing: &'static str,
        /// Where it was looked for.
        expected: PathBuf,
    },
    /// Image and label of different size.
    #[error("{}: shape {got:?}, its image has {expected:?}", path.display())]
    Shape {
        /// The label.
        path: PathBuf,
        /// `(d, h, w)` of the label.
        got: Vec<usize>,
        /// `(d, h, w)` of the image.
        expected: Vec<usize>,
    },
    /// A label that is not in the list of classes.
    #[error("{}: label {value} is not one of {allowed}", path.display())]
    Label {
        /// The file with the label.
        path: PathBuf,
        /// The first such value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// NaN or infinity among the pixels.
    #[error("{}: NaN or infinite values in the image", path.display())]
    NotFinite {
        /// The image.
        path: PathBuf,
    },
    /// A part that this data set does not have.
    #[error("{}: no {split} split ({why})", path.display())]
    NoSplit {
        /// The root of the data set.
        path: PathBuf,
        /// The part asked for.
        split: Split,
        /// Why, or what there is.
        why: String,
    },
    /// A folder in which none of the forms of a data set was found.
    #[error("{}: no {dataset} here; looked for {}", path.display(), looked_for.join("; or "))]
    NoLayout {
        /// The folder.
        path: PathBuf,
        /// The data set.
        dataset: &'static str,
        /// Its forms on disk.
        looked_for: Vec<&'static str>,
    },
    /// The same patients in two parts.
    #[error("{}: {} both in {a} and {b}: {}", path.display(), number(patients.len(), "patient is", "patients are"), some(patients))]
    Overlap {
        /// The root or the table.
        path: PathBuf,
        /// One part.
        a: Split,
        /// The other part.
        b: Split,
        /// Their hashes.
        patients: Vec<String>,
    },
    /// A name that the registry does not know.
    #[error("unknown data set `{got}`{}, known are {known}", did_you_mean(near.as_deref()))]
    Unknown {
        /// The name given.
        got: String,
        /// The name most like it, if one is.
        near: Option<String>,
        /// The names known.
        known: String,
    },
    /// A number or text of the caller's that makes no sense.
    #[error("{what}: {why}")]
    Parameter {
        /// Which.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A sample beyond the end.
    #[error("{dataset}: sample {index} of {len}")]
    Index {
        /// The data set.
        dataset: String,
        /// The sample asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// The code for one sample panicked; the run goes on without it.
    #[error("sample {index}: {message}")]
    Panicked {
        /// Which sample.
        index: usize,
        /// The panic's message.
        message: String,
    },
    /// A sample's intensities cannot be prepared.
    #[error("{}: {source}", path.display())]
    Transform {
        /// The image.
        path: PathBuf,
        /// Why.
        source: dinorad_transforms::Error,
    },
}

impl Error {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Error::Read { path: path.to_owned(), source }
    }

    /// The error by its kind alone: no name of a file or folder, no text of the user's or of a file's.
    ///
    /// # Examples
    /// ```
    /// use dinorad_datasets::Error;
    /// let error = Error::NotFinite { path: "DOE^JOHN/scan.nii".into() };
    /// assert_eq!(error.unnamed(), "NaN or infinite values in the image");
    /// ```
    pub fn unnamed(&self) -> String {
        match self {
            Error::Io(e) => e.unnamed(),
            Error::NoPixels { .. } => "no pixels to read".to_owned(),
            Error::Read { source, .. } => format!("could not be read ({})", source.kind()),
            Error::Write { source, .. } => format!("could not be written ({})", source.kind()),
            Error::Link { why, .. } => why.to_string(),
            Error::Pseudonymous { what, .. } => what.clone(),
            Error::Absent { what, .. } => format!("{what} does not exist"),
            Error::Layout { .. } => "a file or folder with the wrong content".to_owned(),
            Error::Row { line, .. } => format!("line {line} of its table makes no sense"),
            Error::Unpaired { missing, .. } => format!("no {missing}"),
            Error::Shape { got, expected, .. } => format!("shape {got:?}, its image has {expected:?}"),
            Error::Label { .. } => "a label that is none of the classes".to_owned(),
            Error::NotFinite { .. } => "NaN or infinite values in the image".to_owned(),
            Error::NoSplit { split, .. } => format!("no {split} split"),
            Error::NoLayout { dataset, .. } => format!("no {dataset} here"),
            Error::Overlap { a, b, patients, .. } => {
                format!("{} both in {a} and {b}", number(patients.len(), "patient is", "patients are"))
            }
            Error::Unknown { .. } => "unknown data set".to_owned(),
            Error::Parameter { what, .. } => format!("{what}: not a possible value"),
            Error::Index { index, len, .. } => format!("sample {index} of {len}"),
            Error::Panicked { .. } => "the code for the sample panicked".to_owned(),
            Error::Transform { .. } => "its intensities cannot be prepared".to_owned(),
        }
    }

    pub(crate) fn layout(path: &Path, what: impl Into<String>) -> Self {
        Error::Layout { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn row(path: &Path, line: u64, what: impl Into<String>) -> Self {
        Error::Row { path: path.to_owned(), line, what: what.into() }
    }

    pub(crate) fn label(path: &Path, value: impl ToString, allowed: impl Into<String>) -> Self {
        Error::Label { path: path.to_owned(), value: value.to_string(), allowed: allowed.into() }
    }
}

/// `1 case is`, `2 cases are`.
pub(crate) fn number(n: usize, one: &str, several: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { several })
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

/// The first few of a list, and how many more there are.
pub(crate) fn some(list: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = list.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if list.len() > SHOWN {
        text.push_str(&format!(" and {} more", list.len() - SHOWN));
    }
    text
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
