//! The decoders as objects that an experiment knows by name, see [`dinorad_core::method`].

use dinorad_core::method::{self, Entry};

use crate::Error;

pub mod linear_decoder;

/// The methods of this crate, in the order in which people meet them.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: [Entry; 1] = [linear_decoder::ENTRY];
    &ENTRIES
}

/// What says that a training set is no good is told apart from what says that something is wrong.
impl From<Error> for method::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Diverged { .. } => method::Error::unlearnable(error),
            _ => method::Error::failed(error),
        }
    }
}
