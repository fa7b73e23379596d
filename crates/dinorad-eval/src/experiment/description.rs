//! What an experiment is, as data: everything that decides its numbers, and nothing else.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dinorad_backbone::WeightCopy;
use dinorad_core::{Orientation, Protocol, TaskKind, method::TokenLayout, resample::Filter};
use dinorad_datasets::{Bad, Columns, Intensity, Monochrome1, Uncertain};
use dinorad_heads::AttentionTraining;
use dinorad_transforms::Shift;
use serde::{Deserialize, Serialize};

use super::{methods::MethodChoice, stored};
use crate::{
    Error, Result,
    probe::{Draw, Refit, Spelling},
    row_layout::Aggregation,
};

/// The version of descriptions that this crate reads and writes.
pub const SCHEMA: u32 = 1;

/// One experiment: data, an encoder, and a method that is judged.
///
/// It can be written to TOML and read back. What is left out follows the protocol, the encoder and the
/// data; the `config.toml` of a run holds the resolved form, with nothing left out, and is a
/// description like any other.
///
/// ```
/// use dinorad_eval::experiment::Experiment;
///
/// let experiment: Experiment = toml::from_str(r#"
///     schema = 1
///     protocol = "strict"
///     data = { name = "pneumoniamnist", root = "medmnist" }
///     encoder = { source = "facebook/dinov2-small" }
///     method = { name = "knn", k = [1, 5, 20] }
/// "#)?;
/// assert_eq!(experiment.method.as_ref().map(|m| m.name()), Some("knn"));
/// let written = toml::to_string(&experiment)?;
/// assert_eq!(toml::from_str::<Experiment>(&written)?, experiment);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Experiment {
    /// The version of the description, [`SCHEMA`].
    pub schema: u32,
    /// Names the run's folder where several experiments share a description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `paper`: the study's method; `strict`: what we recommend.
    #[serde(default = "strict")]
    pub protocol: Protocol,
    /// Seed of everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// How the slices of a scan become one vector.
    #[serde(default, with = "crate::words")]
    pub aggregate: Aggregation,
    /// On what the chosen setting is trained before it meets the test split; by default as the
    /// protocol says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refit: Option<Refit>,
    /// Graded shifts of the test images under which the model is judged too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shifts: Vec<Shift>,
    /// What a reader of its report should know.
    #[serde(default, skip_serializing_if = "About::is_empty")]
    pub about: About,
    /// The cases.
    pub data: DataChoice,
    /// What makes features of them.
    pub encoder: EncoderChoice,
    /// What happens to pixels before the encoder sees them.
    #[serde(default)]
    pub preprocessing: Preprocessing,
    /// Which tokens a case is described by, unless the method chooses among them.
    #[serde(default)]
    pub tokens: TokenLayout,
    /// How a learned pooling of slices is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionChoice>,
    /// What is judged. An experiment without a method shows what the encoder makes of its cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodChoice>,
    /// Small training sets that are tried besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsets: Option<Subsets>,
    /// What the score is worth.
    #[serde(default)]
    pub controls: Controls,
    /// How intervals are drawn.
    #[serde(default)]
    pub intervals: Intervals,
    /// How the run of this description went: date, machine, seconds. Nothing here decides a number, and
    /// running the description passes over it.
    #[serde(default, skip_serializing)]
    made: Passed,
}

/// Anything, forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Passed;

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Passed)
    }
}

fn strict() -> Protocol {
    Protocol::Strict
}

/// What a report says of an experiment beside its numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct About {
    /// The heading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A sentence or two below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intro: Option<String>,
    /// The data set's name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Facts about the data, such as its modality, licence and source.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

impl About {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct DataChoice {
    /// A data set or layout known by name, or `files` for anything below `root` without labels.
    pub name: String,
    /// Its file or folder; a relative path counts from the folder of the description.
    pub root: PathBuf,
    /// A table of case and part in place of the data set's own parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<PathBuf>,
    /// BLAKE3 of that table: a description that was resolved refuses another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits_digest: Option<String>,
    /// What the columns of a table of files are called.
    #[serde(default, skip_serializing_if = "Columns::is_empty")]
    pub columns: Columns,
    /// Which channel of scans that have several, counted from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub channel: usize,
    /// What CheXpert's uncertain findings count as.
    #[serde(default = "extra_class")]
    pub uncertain: Uncertain,
    /// What a case that cannot be used does: `skip` leaves it out and lists it, `stop` ends the run.
    #[serde(default = "skip")]
    pub bad: Bad,
    /// How the names of classes of two data sets must agree: `exact`, or `folded` (without case, blanks and
    /// punctuation).
    #[serde(default)]
    pub labels: Spelling,
    /// Another data set, whose test part is judged; the labels that both have, by name, count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<OtherData>,
}

fn is_first(channel: &usize) -> bool {
    *channel == 0
}

fn extra_class() -> Uncertain {
    Uncertain::ExtraClass
}

fn skip() -> Bad {
    Bad::Skip
}

/// A second data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct OtherData {
    /// As [`DataChoice::name`].
    pub name: String,
    /// As [`DataChoice::root`].
    pub root: PathBuf,
}

/// Number format of an encoder's weights and arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, IEEE.
    F16,
    /// 16 bits with the range of f32.
    Bf16,
}

/// Which encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct EncoderChoice {
    /// `untrained[:name][?seed=N]`, a name of the registry, a Hub id, the path of a weights file or folder, or
    /// `embeddings:PATH` for features that are there already (npy, Parquet, CSV, a store); a relative path counts from the folder of the description.
    pub source: String,
    /// Its number format.
    #[serde(default)]
    pub precision: Precision,
    /// Mean of red, green, blue on the 0..1 scale, in place of the encoder's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of red, green, blue, in place of the encoder's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<[f32; 3]>,
    /// Which copy is taken of a checkpoint that holds the encoder twice: `average` (EMA, teacher) or `raw`.
    #[serde(default, skip_serializing_if = "is_averaged")]
    pub weights: WeightCopy,
    /// The digest of its weights, architecture and precision: a description that was resolved refuses
    /// an encoder that has changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

fn is_averaged(copy: &WeightCopy) -> bool {
    *copy == WeightCopy::Average
}

/// What pixels become.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct Preprocessing {
    /// Side in pixels of the square that the encoder sees; by default what it is usually given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// The same in patches of the encoder, for descriptions that serve any encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<usize>,
    /// Side in pixels of the square before the middle is cut out; by default the image size, or under
    /// the paper's protocol 256/224 of it for neighbours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// How it is resized; by default as the protocol says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Every how many slices of a volume one is encoded; 1 for all.
    pub slice_step: usize,
    /// Axes of volumes before they are cut into slices; by default as the protocol says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orientation: Option<Orientation>,
    /// On which scale values are shown to the encoder: `auto`, `none`, `robust`, `file`, a CT window by name or
    /// as `CENTER/WIDTH`; by default as the protocol says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<Intensity>,
    /// What becomes of negatives (MONOCHROME1): turned over, or left as stored; by default as the protocol
    /// says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monochrome1: Option<Monochrome1>,
    /// Whether every slice is limited to its 5th and 95th percentile first, as the study does for MSD.
    pub percentiles: bool,
}

impl Default for Preprocessing {
    /// What the encoder is usually given, every slice.
    fn default() -> Self {
        Self {
            image_size: None,
            patches: None,
            resize: None,
            filter: None,
            slice_step: 1,
            orientation: None,
            intensity: None,
            monochrome1: None,
            percentiles: false,
        }
    }
}

/// How a learned pooling of slices is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct AttentionChoice {
    /// Width inside the pooling.
    pub hidden: usize,
    /// Passes over the training scans.
    pub epochs: usize,
    /// Scans per step.
    pub batch_size: usize,
    /// Learning rate of the first step.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for AttentionChoice {
    fn default() -> Self {
        let AttentionTraining { hidden, epochs, batch_size, learning_rate, weight_decay, .. } =
            AttentionTraining::default();
        Self { hidden, epochs, batch_size, learning_rate, weight_decay }
    }
}

impl AttentionChoice {
    pub(crate) fn training(&self, seed: u64) -> AttentionTraining {
        let Self { hidden, epochs, batch_size, learning_rate, weight_decay } = *self;
        AttentionTraining { hidden, epochs, batch_size, learning_rate, weight_decay, seed }
    }
}

/// Small training sets to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct Subsets {
    /// So many cases of every class.
    pub shots: Vec<usize>,
    /// Shares of the training cases.
    pub fractions: Vec<f64>,
    /// Seeded draws of each.
    pub tries: usize,
    /// How shots are chosen; by default as the protocol says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<Draw>,
    /// So many volumes, for masks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<usize>,
    /// So many patches of volumes, for masks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<usize>,
    /// Voxels of a patch along `(d, h, w)`.
    pub patch_size: [usize; 3],
    /// Steps of such a training; by default as many as the run makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
}

impl Default for Subsets {
    fn default() -> Self {
        Self {
            shots: Vec::new(),
            fractions: Vec::new(),
            tries: 5,
            draw: None,
            volumes: Vec::new(),
            patches: Vec::new(),
            patch_size: [20; 3],
            steps: None,
        }
    }
}

/// What the score is worth: the same method where there is nothing to learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct Controls {
    /// Seeds of shuffled labels; 0 for none.
    pub shuffled_labels: usize,
    /// The same method on an encoder of the same shape with random weights.
    pub untrained_encoder: bool,
}

impl Default for Controls {
    /// None of them: they cost as much as the experiment.
    fn default() -> Self {
        Self { shuffled_labels: 0, untrained_encoder: false }
    }
}

/// How intervals are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct Intervals {
    /// Draws of the bootstrap.
    pub draws: usize,
    /// Coverage.
    pub level: f64,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { draws: 1000, level: 0.95 }
    }
}

impl Experiment {
    /// Checks what can be judged without the data and the encoder.
    ///
    /// # Errors
    /// [`Error::Description`] naming the key.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &str, why: String| Err(Error::description(key, why));
        if self.schema != SCHEMA {
            let why = format!("version {} of descriptions; this program reads {SCHEMA}", self.schema);
            return wrong("schema", why);
        }
        if self.preprocessing.image_size.is_some() && self.preprocessing.patches.is_some() {
            return wrong("preprocessing.patches", "give image_size or patches, not both".into());
        }
        let at_least_one = [
            ("preprocessing.image_size", self.preprocessing.image_size),
            ("preprocessing.patches", self.preprocessing.patches),
            ("preprocessing.resize", self.preprocessing.resize),
            ("preprocessing.slice_step", Some(self.preprocessing.slice_step)),
            ("tokens.blocks", Some(self.tokens.blocks)),
            ("intervals.draws", Some(self.intervals.draws)),
            ("attention.epochs", self.attention.as_ref().map(|a| a.epochs)),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, v)| *v == Some(0)) {
            return wrong(key, "must be at least 1".into());
        }
        if !(self.intervals.level > 0.0 && self.intervals.level < 1.0) {
            return wrong("intervals.level", format!("{} is not between 0 and 1", self.intervals.level));
        }
        if let Some(subsets) = &self.subsets {
            if subsets.tries == 0 {
                return wrong("subsets.tries", "must be at least 1".into());
            }
            let zero = [("volumes", &subsets.volumes), ("patches", &subsets.patches)];
            if let Some((key, _)) = zero.iter().find(|(_, sizes)| sizes.contains(&0)) {
                return wrong(&format!("subsets.{key}"), "must be at least 1".into());
            }
            if subsets.patch_size.contains(&0) || subsets.steps == Some(0) {
                return wrong("subsets.patch_size", "patch_size and steps must be at least 1".into());
            }
            if subsets.shots.contains(&0) {
                return wrong("subsets.shots", "must be at least 1".into());
            }
            if let Some(f) = subsets.fractions.iter().find(|f| !(**f > 0.0 && **f <= 1.0)) {
                return wrong("subsets.fractions", format!("{f} is not above 0 and at most 1"));
            }
        }
        match (self.encoder.mean, self.encoder.std) {
            (Some(_), None) => return wrong("encoder.std", "mean needs std beside it".into()),
            (None, Some(_)) => return wrong("encoder.mean", "std needs mean beside it".into()),
            (Some(mean), Some(std)) => {
                if mean.iter().chain(&std).any(|v| !v.is_finite()) {
                    return wrong("encoder.mean", "mean and std must be finite numbers".into());
                }
                if std.iter().any(|v| *v <= 0.0) {
                    return wrong("encoder.std", "must be above 0".into());
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// The same with relative paths counted from `base`.
    #[must_use]
    pub fn based_at(mut self, base: &Path) -> Self {
        let set = |path: &mut PathBuf| {
            if path.is_relative() && !base.as_os_str().is_empty() {
                *path = base.join(&*path);
            }
        };
        set(&mut self.data.root);
        self.data.splits.iter_mut().for_each(set);
        if let Some(test) = &mut self.data.test {
            set(&mut test.root);
        }
        if let Some(mut path) = stored::place(&self.encoder.source) {
            set(&mut path);
            self.encoder.source = format!("{}{}", stored::PREFIX, path.display());
        }
        // A word that names a file or folder there is one; any other is a name.
        let beside = base.join(&self.encoder.source);
        if !base.as_os_str().is_empty() && Path::new(&self.encoder.source).is_relative() && beside.exists() {
            self.encoder.source = beside.display().to_string();
        }
        self
    }

    /// The same with paths told from `folder`, where a description of it will lie.
    #[must_use]
    pub(crate) fn told_from(mut self, folder: &Path) -> Self {
        let told = |path: &mut PathBuf| *path = crate::paths::relative(path, folder);
        told(&mut self.data.root);
        self.data.splits.iter_mut().for_each(told);
        if let Some(test) = &mut self.data.test {
            told(&mut test.root);
        }
        if let Some(mut source) = stored::place(&self.encoder.source) {
            told(&mut source);
            self.encoder.source = format!("{}{}", stored::PREFIX, source.display());
        } else if Path::new(&self.encoder.source).exists() {
            let mut source = PathBuf::from(&self.encoder.source);
            told(&mut source);
            self.encoder.source = source.display().to_string();
        }
        self
    }

    /// What a run of it is called: its own name, else method, data and encoder.
    pub fn label(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let last = self.encoder.source.rsplit(['/', '\\']).find(|p| !p.is_empty()).unwrap_or("encoder");
        let method = self.method.as_ref().map_or("features", |m| m.name());
        format!("{}-{method}-{last}", self.data.name)
    }

    /// Whether the task is one that its method can answer; a segmentation has its own.
    pub(crate) fn refuses(&self, kind: TaskKind) -> Option<String> {
        let masks = self.method.as_ref().is_some_and(|m| m.draws_masks());
        match (kind == TaskKind::Segmentation, masks) {
            (true, false) => Some("it is a segmentation; this method judges classes and findings".into()),
            (false, true) => Some("it has no masks; this method segments".into()),
            _ => None,
        }
    }
}
