//! What a data set is to the rest of the workspace.

use dinorad_core::{Orientation, Protocol, Split, Target, Task};
use dinorad_io::{Image, Limits, Volume};

use crate::Result;

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

    /// The salted hash of the patient of case `i`, as in [`Sample::patient`].
    fn patient(&self, i: usize) -> Option<String>;

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

    /// How the pixels come out of the content: axes, colours, intensity steps. Together with
    /// [`Dataset::fingerprint`] it decides the pixels, so both belong into the key of a cache.
    fn preparation(&self) -> String {
        String::new()
    }

    /// What a reader of the numbers should know, such as a count that differs from the declared
    /// one. Empty if there is nothing.
    fn warnings(&self) -> &[String] {
        &[]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// Shares of train, val and test for layouts that bring no split. `None`: no cut, everything
    /// is train.
    pub divide: Option<[f64; 3]>,
    /// Seed of that cut.
    pub seed: u64,
    /// CheXpert's uncertain findings.
    pub uncertain: Uncertain,
    /// Mixed into the hashes of patient numbers. Keep one of your own secret if the numbers can be
    /// guessed.
    pub salt: String,
    /// Upper bounds on memory for one file.
    pub limits: Limits,
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
        }
    }
}

impl OpenOptions {
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
        self.divide = divide;
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

    /// A salted hash of a patient's number: 16 hexadecimal digits.
    pub(crate) fn patient_hash(&self, raw: &str) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("dinorad-datasets patient number v1");
        hasher.update(&(self.salt.len() as u64).to_le_bytes());
        hasher.update(self.salt.as_bytes());
        hasher.update(raw.trim().as_bytes());
        hasher.finalize().to_hex().as_str()[..16].to_owned()
    }
}
