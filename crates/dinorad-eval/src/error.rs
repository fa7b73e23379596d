//! What can go wrong in this crate.

use std::{io, path::PathBuf};

/// Why a store, a run, a protocol or a report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process writes the same feature store.
    #[error("another process is writing the feature store (lock {})", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file of this crate's own making that does not read back.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A feature store of another format.
    #[error(
        "{} is a feature store of format {format}, this version works with format {current}: embed again, and remove \
         the old one with `dinorad store prune --older-format`",
        path.display()
    )]
    OlderFormat {
        /// The store's folder.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The format of this version.
        current: u32,
    },
    /// A set of which some parts are not embedded yet.
    #[error("set `{set}` of {} is not finished: other parts of it are missing", path.display())]
    Unfinished {
        /// The store's folder.
        path: PathBuf,
        /// The set.
        set: String,
    },
    /// A set that a store was not made for.
    #[error("{} has no set `{name}`; it has {held}", path.display())]
    NoSuchSet {
        /// The store's folder.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// The names there are.
        held: String,
    },
    /// A setting outside its range.
    #[error("{what}: expected {expected}, got {got}")]
    Parameter {
        /// Which setting.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        got: String,
    },
    /// A key of an experiment's description.
    #[error("{key}: {why}")]
    Description {
        /// Which key, dotted.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A place in a file of descriptions.
    #[error("{}:{line}:{column}: {why}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong there.
        why: String,
    },
    /// Data, an encoder or a method that do not go together.
    #[error("{why}")]
    Unfit {
        /// Why not.
        why: String,
    },
    /// A folder in which the results of another experiment lie.
    #[error("{} holds the run of another experiment: choose another folder, or let it give way (--overwrite)", folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// A part of a data set that could not be opened.
    #[error("could not open the {split} split of {name}")]
    Part {
        /// The data set.
        name: String,
        /// Which part.
        split: String,
        /// Why.
        source: Box<dinorad_datasets::Error>,
    },
    /// An encoder that could not be loaded.
    #[error("could not load the encoder `{encoder}`")]
    Loading {
        /// Its source, as it was given.
        encoder: String,
        /// Why.
        source: Box<dinorad_backbone::Error>,
    },
    /// What was going on when something else went wrong.
    #[error("{doing}")]
    While {
        /// What was going on.
        doing: String,
        /// What went wrong.
        source: Box<Error>,
    },
    /// Two cases of one list with the same id.
    #[error("sample id `{id}` appears twice")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// A tensor or array of the wrong shape.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which array.
        what: String,
        /// What it should be.
        expected: String,
        /// What it was.
        got: Vec<usize>,
    },
    /// A name that a store does not hold.
    #[error("the feature store holds no `{name}`; it holds {held}")]
    NoSuchTensor {
        /// The name asked for.
        name: String,
        /// The names there are.
        held: String,
    },
    /// A data set that cannot be judged by the protocol asked for.
    #[error("{protocol}: {why}")]
    Protocol {
        /// Which protocol.
        protocol: &'static str,
        /// What it needs.
        why: String,
    },
    /// A part of a data set without cases.
    #[error("the {split} split has no case to work with")]
    EmptySplit {
        /// Which part.
        split: &'static str,
    },
    /// A case that has no features, where such a case ends the run.
    #[error("case `{id}`: {reason}")]
    BadCase {
        /// Which case.
        id: String,
        /// Why.
        reason: String,
    },
    /// Features with NaN or an infinity in them.
    #[error("{split} split: the features of case `{id}` are not finite")]
    NotFinite {
        /// Which part.
        split: &'static str,
        /// Which case.
        id: String,
    },
    /// A file that could not be written as text.
    #[error("could not write {} as {format}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// JSON, TOML, CSV.
        format: &'static str,
        /// What the writer said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A matrix decomposition that did not converge.
    #[error("no principal components: {why}")]
    Decomposition {
        /// What the solver said.
        why: String,
    },
    /// A data set or a case of it.
    #[error(transparent)]
    Dataset(#[from] dinorad_datasets::Error),
    /// The encoder, or an image that it cannot take.
    #[error(transparent)]
    Encoder(#[from] dinorad_backbone::Error),
    /// A preprocessing.
    #[error(transparent)]
    Transform(#[from] dinorad_transforms::Error),
    /// An array file.
    #[error(transparent)]
    Io(#[from] dinorad_io::Error),
    /// The pooling of slices.
    #[error(transparent)]
    Aggregate(#[from] dinorad_aggregate::Error),
    /// A method.
    #[error(transparent)]
    Method(#[from] dinorad_core::method::Error),
    /// A head.
    #[error(transparent)]
    Heads(#[from] dinorad_heads::Error),
    /// A decoder.
    #[error(transparent)]
    Decoders(#[from] dinorad_decoders::Error),
    /// A run folder, a picture or a page.
    #[error(transparent)]
    Report(#[from] dinorad_report::Error),
    /// A metric.
    #[error(transparent)]
    Metrics(#[from] dinorad_metrics::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle::Error),
    /// A training that failed.
    #[error(transparent)]
    Nn(#[from] dinorad_nn::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn description(key: impl Into<String>, why: String) -> Self {
        Self::Description { key: key.into(), why }
    }

    pub(crate) fn unfit(why: String) -> Self {
        Self::Unfit { why }
    }
}

dinorad_report::error_helpers!();
