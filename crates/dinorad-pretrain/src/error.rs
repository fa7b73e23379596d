//! What can go wrong in this crate.

use std::path::PathBuf;

use crate::Monitor;

/// Why an encoder could not be pre-trained or distilled.
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
    /// An image that cannot be read or used.
    #[error("image {index}")]
    Image {
        /// Its number, from 0.
        index: usize,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The features have lost what tells images apart: going on would be in vain.
    #[error("the training has collapsed at step {step}: {monitor} is {value:.4}, and would have to be {limit}")]
    Collapsed {
        /// Who noticed.
        monitor: Monitor,
        /// What it reads.
        value: f64,
        /// What it would have to be.
        limit: String,
        /// The step, from 0.
        step: usize,
    },
    /// A loss or a gradient that is no number: nothing has moved.
    #[error(
        "the {what} of step {step} is {value}: a smaller learning rate, a longer warm-up or a limit on gradients may help"
    )]
    Diverged {
        /// Loss or gradient.
        what: &'static str,
        /// What it is.
        value: f64,
        /// The step, from 0.
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
    /// A file of another training, or a damaged one.
    #[error("{}: {reason}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What judges the encoder now and then has failed.
    #[error("judging the encoder")]
    Judge(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The encoder refused.
    #[error(transparent)]
    Backbone(#[from] dinorad_backbone::Error),
    /// The training blocks refused.
    #[error(transparent)]
    Nn(dinorad_nn::Error),
    /// An image could not be transformed.
    #[error(transparent)]
    Transforms(#[from] dinorad_transforms::Error),
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

    pub(crate) fn file(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Error::File { action, path: path.to_owned(), source }
    }
}

/// What went wrong inside of a lesson comes out as itself.
impl From<dinorad_nn::Error> for Error {
    fn from(error: dinorad_nn::Error) -> Self {
        match error {
            dinorad_nn::Error::Lesson(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(other) => Error::Nn(dinorad_nn::Error::Lesson(other)),
            },
            dinorad_nn::Error::Diverged { what, value, step } => Error::Diverged { what, value, step },
            other => Error::Nn(other),
        }
    }
}
