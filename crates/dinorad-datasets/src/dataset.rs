//! What a data set is to the rest of the workspace.

use std::{fmt, path::PathBuf, str::FromStr};

use dinorad_core::{Orientation, Protocol, Split, Target, Task};
use dinorad_io::{Image, Limits, Volume};

use crate::{Bad, Columns, Error, PatientKey, Preparation, Result};

/// The pixels of one case, in the unit of its file.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// One picture.
    Image(Image),
    /// A volume with geometry.
    Volume(Volume),
    /// The slices of one scan as separate pictures, in order; their sizes may differ.
    Slices(Vec<Image>),
}

impl Pixels {
    /// `(slices, channels, height, width)` of the first slice; one slice for an image, one channel
    /// for a volume.
    pub fn shape(&self) -> [usize; 4] {
        match self {
            Pixels::Image(image) => {
                let (c, h, w) = image.data.dim();
                [1, c, h, w]
            }
            Pixels::Volume(volume) => {
                let (d, h, w) = volume.data.dim();
                [d, 1, h, w]
            }
            Pixels::Slices(slices) => {
                let (c, h, w) = slices.first().map_or((0, 0, 0), |s| s.data.dim());
                [slices.len(), c, h, w]
            }
        }
    }

    /// What a reader of the values should know, as [`Volume::warnings`] and [`Image::warnings`].
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Pixels::Image(image) => image.warnings(),
            Pixels::Volume(volume) => volume.warnings(),
            Pixels::Slices(images) => Image::warnings_of(images),
        }
    }

    /// Whether no value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        let finite = |a: &ndarray::Array3<f32>| match a.as_slice_memory_order() {
            // without branches, so that it runs at memory speed
            Some(values) => values.iter().fold(true, |all, v| all & v.is_finite()),
            None => a.iter().all(|v| v.is_finite()),
        };
        match self {
            Pixels::Image(image) => finite(&image.data),
            Pixels::Volume(volume) => finite(&volume.data),
            Pixels::Slices(slices) => slices.iter().all(|s| finite(&s.data)),
        }
    }

    /// Every value, slice by slice.
    pub fn values(&self) -> impl Iterator<Item = f32> + '_ {
        let arrays: Vec<&ndarray::Array3<f32>> = match self {
            Pixels::Image(image) => vec![&image.data],
            Pixels::Volume(volume) => vec![&volume.data],
            Pixels::Slices(slices) => slices.iter().map(|s| &s.data).collect(),
        };
        arrays.into_iter().flat_map(|a| a.iter().copied())
    }
}

/// One case: pixels and what is known about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Unique within its data set; made of file names relative to the root.
    pub id: String,
    /// The pixels.
    pub pixels: Pixels,
    /// The label.
    pub target: Target,
    /// A salted hash that is equal for all cases of a patient, where the layout tells patients
    /// apart. Never the number itself.
    pub patient: Option<String>,
}

/// One split of a data set: a list of cases that are read when asked for.
///
/// Opening a data set reads tables, names and headers, never pixels. Implementations can be used
/// from several threads at once.
pub trait Dataset: Send + Sync {
    /// Name in the registry.
    fn id(&self) -> &str;

    /// Kind, classes, dimensions.
    fn task(&self) -> &Task;

    /// Which part this is.
    fn split(&self) -> Split;

    /// Number of cases.
    fn len(&self) -> usize;

    /// Whether there are no cases.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of case `i`, as in [`Sample::id`]; empty beyond the end.
    fn sample_id(&self, i: usize) -> String;

    /// Tells the patient of case `i` from others, where the layout can. Cuts and draws go by it.
    fn patient_key(&self, i: usize) -> Option<PatientKey>;

    /// The salted hash of the patient of case `i`, as in [`Sample::patient`]: to be shown, never to
    /// decide anything.
    fn patient(&self, i: usize) -> Option<String>;

    /// What case `i` is a part of when cases are divided: the volume of a slice, else the case
    /// itself. The `case` column of a [`SplitTable`](crate::SplitTable).
    fn case(&self, i: usize) -> String {
        self.sample_id(i)
    }

    /// The label of case `i` as its table has it, before any rule for uncertain findings.
    fn raw_label(&self, _: usize) -> Option<String> {
        None
    }

    /// What the table of case `i` says of it beside its label, by a plain name: `age`, `sex`, `scanner`. To be
    /// counted over many cases, never to be shown of one.
    fn about(&self, _: usize) -> &[(&'static str, String)] {
        &[]
    }

    /// The label of case `i`. For classification no pixel is decoded.
    ///
    /// # Errors
    /// [`crate::Error::Index`]; for masks whatever [`Dataset::sample`] says of the label file.
    fn target(&self, i: usize) -> Result<Target>;

    /// Case `i` with its pixels.
    ///
    /// # Errors
    /// [`crate::Error::Index`], and any error that names the file: unreadable, wrong shape, a label
    /// outside the classes, NaN.
    fn sample(&self, i: usize) -> Result<Sample>;

    /// BLAKE3 of the content that case `i`'s pixels are made of: the bytes of its files, or those
    /// of its part of an array with shape and type. Settings are not part of it.
    ///
    /// # Errors
    /// As [`Dataset::sample`], as far as reading goes.
    fn fingerprint(&self, i: usize) -> Result<[u8; 32]>;

    /// How the pixels come out of the content. Together with [`Dataset::fingerprint`] it decides the
    /// pixels, so both belong into the key of a cache.
    fn preparation(&self) -> Preparation {
        Preparation::default()
    }

    /// The values that classes have in label files, by class; empty where a class is its own value.
    fn label_values(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The file or folder that case `i` is read from; the first of several.
    fn source(&self, _: usize) -> Option<PathBuf> {
        None
    }

    /// What a reader of the numbers should know, such as a count that differs from the declared
    /// one. Empty if there is nothing.
    fn warnings(&self) -> &[String] {
        &[]
    }

    /// The cases that could not be used, with their reasons, if the data set was opened with
    /// [`Bad::Skip`].
    fn left_out(&self) -> Vec<&Error> {
        Vec::new()
    }

    /// In which of its forms the data set lies there, in a few words.
    fn layout(&self) -> &str {
        ""
    }
}

/// Whether volumes are cases, or their slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Every slice is a case; what the study did for segmentation.
    #[default]
    Slices,
    /// Every volume is a case.
    Volumes,
}

/// What an uncertain finding (CheXpert's -1) counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uncertain {
    /// 0, and the extra class `Uncertain` is 1: the study's rule.
    #[default]
    ExtraClass,
    /// 0.
    Zeros,
    /// 1.
    Ones,
    /// The case is left out.
    Ignore,
}

const UNCERTAIN: [(Uncertain, &str); 4] = [
    (Uncertain::ExtraClass, "extra-class"),
    (Uncertain::Zeros, "zeros"),
    (Uncertain::Ones, "ones"),
    (Uncertain::Ignore, "ignore"),
];

impl fmt::Display for Uncertain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(UNCERTAIN.iter().find(|(u, _)| u == self).map_or("", |(_, name)| *name))
    }
}

impl FromStr for Uncertain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = || Error::Parameter {
            what: "uncertain findings",
            why: format!("`{text}` is none of extra-class, zeros, ones, ignore"),
        };
        UNCERTAIN.iter().find(|(_, name)| text.eq_ignore_ascii_case(name)).map(|(u, _)| *u).ok_or_else(known)
    }
}

/// How to open a data set. The default is the `strict` protocol on canonical axes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// `paper`: the study's splits, order, and intensity steps (clamping, percentiles). `strict`:
    /// splits by patient, values in the unit of the file.
    pub protocol: Protocol,
    /// Axes of volumes before they are cut into slices.
    pub orientation: Orientation,
    /// Slices or volumes, where the layout holds volumes.
    pub unit: Unit,
    /// Which channel of a multi-channel volume.
    pub channel: usize,
    /// Shares of train, val and test for layouts that bring no split, 0.6, 0.2 and 0.2 unless
    /// [told](Self::with_divide) otherwise; a `dataset.json` with volumes is cut by 0.6, 0.15 and 0.25 then. `None`:
    /// no cut, everything is train.
    pub divide: Option<[f64; 3]>,
    /// Seed of that cut.
    pub seed: u64,
    /// CheXpert's uncertain findings.
    pub uncertain: Uncertain,
    /// Mixed into the hashes of patient numbers that are shown; no cut and no draw depends on it.
    /// Keep one of your own secret if the numbers can be guessed.
    pub salt: String,
    /// Upper bounds on memory for one file.
    pub limits: Limits,
    /// Decoded volumes that are kept for their other slices, in bytes; at least one is.
    pub cache_bytes: usize,
    /// What a case that cannot be used does to opening: its error ends it, or the case is left out
    /// and listed in [`Dataset::left_out`].
    pub bad: Bad,
    /// A table of `case,split` in place of the data set's own parts, see
    /// [`SplitTable`](crate::SplitTable).
    pub splits: Option<PathBuf>,
    /// What the columns of a table of files are called.
    pub columns: Columns,
    /// Nobody has said how to cut: layouts with a usual way of their own follow it.
    pub(crate) usual_shares: bool,
    /// The data set's own parts only say which cases there are: patients may be in several of them.
    pub(crate) parts_are_replaced: bool,
    /// The folder that the user named: links within it are followed.
    pub(crate) tree: Option<PathBuf>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            protocol: Protocol::Strict,
            orientation: Orientation::Canonical,
            unit: Unit::Slices,
            channel: 0,
            divide: Some([0.6, 0.2, 0.2]),
            seed: 0,
            uncertain: Uncertain::ExtraClass,
            salt: "dinorad".to_owned(),
            limits: Limits::default(),
            cache_bytes: 512 << 20,
            bad: Bad::Stop,
            splits: None,
            columns: Columns::default(),
            usual_shares: true,
            parts_are_replaced: false,
            tree: None,
        }
    }
}

impl OpenOptions {
    /// For cases that a table puts into parts, or a new cut.
    pub(crate) fn replacing_parts(&self) -> Self {
        Self { parts_are_replaced: true, ..self.clone() }
    }

    /// What the study did: its splits and intensity steps, axes as stored.
    pub fn paper() -> Self {
        Self { protocol: Protocol::Paper, orientation: Orientation::AsStored, ..Self::default() }
    }

    /// The same under another protocol; orientation is left as it is.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same with other axes.
    #[must_use]
    pub fn with_orientation(mut self, orientation: Orientation) -> Self {
        self.orientation = orientation;
        self
    }

    /// The same with slices or volumes as cases.
    #[must_use]
    pub fn with_unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// The same with another channel of multi-channel volumes.
    #[must_use]
    pub fn with_channel(mut self, channel: usize) -> Self {
        self.channel = channel;
        self
    }

    /// The same with other shares for layouts without a split, or none.
    #[must_use]
    pub fn with_divide(mut self, divide: Option<[f64; 3]>) -> Self {
        (self.divide, self.usual_shares) = (divide, false);
        self
    }

    /// The same with another seed for the cut.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same with another rule for uncertain findings.
    #[must_use]
    pub fn with_uncertain(mut self, uncertain: Uncertain) -> Self {
        self.uncertain = uncertain;
        self
    }

    /// The same with another salt for patient hashes.
    #[must_use]
    pub fn with_salt(mut self, salt: impl Into<String>) -> Self {
        self.salt = salt.into();
        self
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same with another bound on the volumes kept.
    #[must_use]
    pub fn with_cache_bytes(mut self, cache_bytes: usize) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }

    /// The same with another rule for cases that cannot be used.
    #[must_use]
    pub fn with_bad(mut self, bad: Bad) -> Self {
        self.bad = bad;
        self
    }

    /// The same with other names of columns, for tables of files.
    #[must_use]
    pub fn with_columns(mut self, columns: Columns) -> Self {
        self.columns = columns;
        self
    }

    /// The same with the parts of a table.
    #[must_use]
    pub fn with_splits(mut self, table: impl Into<PathBuf>) -> Self {
        self.splits = Some(table.into());
        self
    }

    /// The same below a folder that the user named.
    pub(crate) fn within(&self, root: &std::path::Path) -> Self {
        Self { tree: root.is_dir().then(|| root.to_owned()), ..self.clone() }
    }
}
