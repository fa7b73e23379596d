//! What can go wrong in this crate.

use std::path::PathBuf;

/// Why a head could not be fitted, applied, stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor of another shape than the operation takes.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// The shape it should have.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A feature that is NaN or infinite.
    #[error("{what}: row {row} has a value that is not finite")]
    NotFinite {
        /// Which features.
        what: &'static str,
        /// The row, from 0.
        row: usize,
    },
    /// Nothing to work on.
    #[error("{what}: no rows")]
    Empty {
        /// Which set.
        what: &'static str,
    },
    /// More neighbours asked for than there are.
    #[error("k = {k} neighbours asked of {rows} training rows")]
    TooFewRows {
        /// Neighbours asked for.
        k: usize,
        /// Rows there are.
        rows: usize,
    },
    /// Features and targets of different length.
    #[error("{features} rows of features, {targets} targets")]
    Lengths {
        /// Rows of features.
        features: usize,
        /// Number of targets.
        targets: usize,
    },
    /// A class or finding outside its range.
    #[error("target of row {row} is {got}, expected {expected}")]
    Label {
        /// The row, from 0.
        row: usize,
        /// What is there.
        got: String,
        /// What may be there.
        expected: String,
    },
    /// Targets of different width.
    #[error("row {row} has {got} labels, expected {expected}")]
    LabelWidth {
        /// The row, from 0.
        row: usize,
        /// Labels of this row.
        got: usize,
        /// Labels of the rows before it.
        expected: usize,
    },
    /// A fold in which nothing can be told apart.
    #[error("all {rows} training rows are of class {class}")]
    OneClass {
        /// The only class.
        class: usize,
        /// Rows there are.
        rows: usize,
    },
    /// Targets of the wrong kind for this head.
    #[error("{head} needs {expected} targets, got {got}")]
    TargetKind {
        /// Which head.
        head: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        got: &'static str,
    },
    /// ML-kNN for a task whose cases have one class.
    #[error(
        "ML-kNN is for multilabel data, whose cases may have several findings; those here have one class: use eval knn"
    )]
    NotMultilabel,
    /// Fewer cases than a draw needs.
    #[error("{what}: {asked} asked for, {available} available")]
    TooFewCases {
        /// Which draw.
        what: String,
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        available: usize,
    },
    /// Fewer cases of a class, or with a finding, than a draw needs.
    #[error("shots of class {class}: {asked} asked for, {available} available")]
    TooFewOfClass {
        /// Its number; whoever knows its name says that.
        class: usize,
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        available: usize,
    },
    /// A setting outside its range.
    #[error("{name} must be {expected}, got {got}")]
    Parameter {
        /// Which setting.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A block that the features do not hold.
    #[error("{asked} blocks asked for, the features hold {available}")]
    TooFewBlocks {
        /// Blocks asked for.
        asked: usize,
        /// Blocks there are.
        available: usize,
    },
    /// Patch tokens that the features do not hold.
    #[error("the features hold no patch tokens of the last block")]
    NoPatchTokens,
    /// Training that left the range of numbers.
    #[error("{what} became non-finite at step {step}; try a smaller learning rate")]
    Diverged {
        /// What became non-finite.
        what: String,
        /// Step, from 0.
        step: usize,
    },
    /// A file that could not be read or written.
    #[error("could not {action} {}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file that holds no such head.
    #[error("{}: {reason}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Pooling refused.
    #[error("pooling failed")]
    Aggregate(#[from] dinorad_aggregate::Error),
    /// The training blocks refused.
    #[error("training failed")]
    Nn(#[source] dinorad_nn::Error),
    /// The core refused.
    #[error(transparent)]
    Core(#[from] dinorad_core::Error),
    /// The tensor library refused.
    #[error("tensor operation failed")]
    Tensor(#[from] candle::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn shape(what: &'static str, expected: impl Into<String>, got: &[usize]) -> Self {
        Error::Shape { what, expected: expected.into(), got: got.to_vec() }
    }

    pub(crate) fn parameter(name: &'static str, expected: impl Into<String>, got: impl ToString) -> Self {
        Error::Parameter { name, expected: expected.into(), got: got.to_string() }
    }
}

/// What a file says about itself is said by this crate.
impl From<dinorad_nn::Error> for Error {
    fn from(error: dinorad_nn::Error) -> Self {
        match error {
            dinorad_nn::Error::Store { action, path, source } => Error::File { action, path, source },
            dinorad_nn::Error::Format { path, reason } => Error::Format { path, reason },
            other => Error::Nn(other),
        }
    }
}
