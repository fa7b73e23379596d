//! What can go wrong in this crate.

use std::path::{Path, PathBuf};

/// A weight file, a configuration, an input or a request that this crate cannot work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is damaged or not what its content promised.
    #[error("{}: not a usable weight file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder in which no weights were found, or several without a rule which to take.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A field of a configuration file that cannot be used.
    #[error("{}: field `{field}` is {value}, expected {expected}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value, as in the file.
        value: String,
        /// What is understood.
        expected: String,
    },
    /// A `model_type` or architecture that is not understood.
    #[error("{}: model type `{model_type}` is not supported, expected one of {expected}", path.display())]
    UnsupportedModel {
        /// The file.
        path: PathBuf,
        /// What the file says.
        model_type: String,
        /// What is understood.
        expected: &'static str,
    },
    /// A weight file without any encoder whose layout is known.
    #[error("{}: no encoder of a known layout among its {n_tensors} tensors (such as {examples})", path.display())]
    UnknownLayout {
        /// The file.
        path: PathBuf,
        /// How many tensors it holds.
        n_tensors: usize,
        /// A few of their names.
        examples: String,
    },
    /// The number of attention heads is neither in a configuration nor known for this width.
    #[error(
        "{}: the number of attention heads for width {embed_dim} cannot be read from the weights: put their \
         config.json beside them, or give a divisor of {embed_dim} (LoadOptions::with_heads)", path.display()
    )]
    UnknownHeads {
        /// The file.
        path: PathBuf,
        /// The encoder's width.
        embed_dim: usize,
    },
    /// Something that only the configuration tells, and there is none.
    #[error("{}: the {what} cannot be read from the weights; keep `{file}` beside them", path.display())]
    NeedsConfig {
        /// The weights.
        path: PathBuf,
        /// What is not known.
        what: &'static str,
        /// The file that tells.
        file: &'static str,
    },
    /// Tensors that the encoder needs and the file does not have.
    #[error("{}: missing {}", path.display(), list(missing))]
    MissingTensors {
        /// The file.
        path: PathBuf,
        /// Their names in the file's own layout, each with the nearest name that is there.
        missing: Vec<crate::Unmatched>,
    },
    /// A tensor of the wrong shape.
    #[error("{}: tensor `{tensor}`: expected shape {expected:?}, got {got:?}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// The shape the encoder needs.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// Tensors inside the encoder that no part of it takes: the file holds another architecture.
    #[error("{}: not understood: {}", path.display(), list(unused))]
    UnusedTensors {
        /// The file.
        path: PathBuf,
        /// Their names, each with the nearest name that is understood.
        unused: Vec<crate::Unmatched>,
    },
    /// A tensor that could not be read.
    #[error("{}: tensor `{tensor}`: {reason}", path.display())]
    BadTensor {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An architecture that cannot be built.
    #[error("configuration: `{field}` is {value}, expected {expected}")]
    Architecture {
        /// The field of the configuration.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
    /// An input whose sides are not multiples of the patch size.
    #[error("input of {height}x{width} pixels: both sides must be positive multiples of the patch size {patch}")]
    InputSize {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Side of a patch in pixels.
        patch: usize,
    },
    /// A tensor argument of the wrong shape.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// The shape it needs.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A request that names blocks the encoder does not have.
    #[error("request: {reason} (the encoder has {depth} blocks)")]
    Request {
        /// What is wrong.
        reason: String,
        /// The encoder's number of blocks.
        depth: usize,
    },
    /// More blocks, or none, asked of features.
    #[error("{asked} blocks asked of features that hold {available}")]
    Blocks {
        /// Blocks asked for.
        asked: usize,
        /// Blocks there are.
        available: usize,
    },
    /// Patch tokens that the features do not hold.
    #[error("the features hold no patch tokens of the last block")]
    NoPatchTokens,
    /// Something the encoder does not have.
    #[error("{encoder} ({family}) has no {output}; encoders that have: {offered_by}")]
    NotOffered {
        /// The encoder's id.
        encoder: String,
        /// Its family.
        family: crate::Family,
        /// What was asked for.
        output: crate::Output,
        /// Encoders of the registry that have it.
        offered_by: String,
    },
    /// An image of a size that the encoder was not made for and cannot be brought to.
    #[error("input of {height}x{width} pixels: this encoder takes {native}x{native} alone")]
    NativeSize {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Side in pixels of the images it takes.
        native: usize,
    },
    /// Masked patches for an encoder whose file had no mask token.
    #[error("these weights have no mask token: patches cannot be masked")]
    NoMaskToken,
    /// A model could not be fetched from the Hub.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// Text that names no encoder.
    #[error("`{given}` names no encoder: {reason}")]
    Source {
        /// The text.
        given: String,
        /// What is wrong with it, or what is understood.
        reason: String,
    },
    /// A block of the network failed.
    #[error("network block failed")]
    Nn(#[from] dinorad_nn::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Error::Read { path: path.to_owned(), source }
    }

    /// That `spec`'s encoder lacks an output, and which have it.
    pub(crate) fn not_offered(spec: &crate::BackboneSpec, output: crate::Output) -> Self {
        let have: Vec<&str> = crate::registry().iter().filter(|e| e.outputs.contains(&output)).map(|e| e.id).collect();
        let (encoder, family) = (spec.id.clone(), spec.family);
        Error::NotOffered { encoder, family, output, offered_by: have.join(", ") }
    }

    pub(crate) fn format(path: &Path, reason: impl ToString) -> Self {
        Error::Format { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// The first names of a list; a file of another kind can miss hundreds.
fn list(names: &[crate::Unmatched]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
