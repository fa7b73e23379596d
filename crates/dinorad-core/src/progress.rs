//! How long work tells of itself.

/// Told of the progress of long work; every method does nothing unless implemented.
pub trait Progress: Send + Sync {
    /// The number of items to come.
    fn set_total(&self, _items: usize) {}
    /// That many more are done.
    fn advance(&self, _items: usize) {}
    /// What goes on, in a few words.
    fn message(&self, _text: &str) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
