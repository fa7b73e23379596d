//! Who watches an experiment run.

use dinorad_backbone::hub;
use dinorad_core::{Progress, Silent};

/// Told of an experiment's stages; what it does not implement is passed over in silence.
pub trait Watch: Sync {
    /// A stage begins, such as `pneumoniamnist train`; it ends when what is given back is dropped.
    fn stage(&self, what: &str) -> Box<dyn Progress + '_> {
        let _ = what;
        Box::new(Silent)
    }

    /// Something that the user should hear of at once.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// Who is told of downloads.
    fn download(&self) -> Box<dyn hub::Progress + '_> {
        Box::new(hub::Silent)
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
