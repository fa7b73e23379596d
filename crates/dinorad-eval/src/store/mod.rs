//! The feature store: features on disk that are made once and survive a kill at any moment.
//!
//! A store is a folder `<root>/<key>/`. The key is a hash of what makes features out of content: the
//! [`Settings`](crate::Settings) of the cases, and the encoder's digest, precision and device. In it
//! lie
//!
//! - `dinorad-store.json`, the marker: the key in words,
//! - `shard-….safetensors`, append-only: the features of some cases, each addressed by the hash of its
//!   content, and why others have none,
//! - `manifest.json`: the sets of cases embedded so far, each a list of ids, sources and patient
//!   hashes on top of the content; written when a set is complete.
//!
//! So a case is embedded once, in whatever set it appears. Which features an entry holds stands in
//! the entry: one that holds more serves who needs less; who needs more makes a new entry, and the
//! richer one wins.
//!
//! The name of a shard is a hash of the cases in it, in order, and of the names of its features. Files
//! appear whole (temporary name, `fsync`, rename) and hold no times; which cases make a shard follows
//! from the list alone. A run killed at any moment and started again therefore ends with the same
//! bytes as one that was left alone, and several processes write one store at once without waiting
//! for each other.
//!
//! ```
//! use dinorad_eval::store::{EncoderRecord, FeatureStore, ItemFeatures, ItemKey, Outcome, Part, Store, StoreKey};
//! use ndarray::array;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! let settings = dinorad_eval::Settings::new(dinorad_transforms::Compose::default());
//! let key = StoreKey::new(EncoderRecord::named("mine", "digest of its weights"), settings);
//! let items = vec![ItemKey::new("a.png", [1; 32]), ItemKey::new("b.png", [2; 32])];
//! let mut store = Store::open(root.path(), key, items, ["cls"], 64, Part::WHOLE)?;
//! for shard in store.missing() {
//!     let vector = |_| Outcome::Embedded(ItemFeatures::default().with_vector("cls", array![0.5, 1.0]));
//!     let outcomes: Vec<_> = shard.iter().map(vector).collect();
//!     store.write(&shard, &outcomes)?;
//! }
//! store.finish("mine", &[])?;
//! let table = FeatureStore::open(store.folder())?.table("cls")?;
//! assert_eq!((table.ids.len(), table.features.dim()), (2, (2, 2)));
//! # Ok(()) }
//! ```

mod catalogue;
mod encode;
mod file;
mod index;
mod item;
mod key;
mod lock;
mod manifest;
mod part;
mod pieces;
mod prune;
mod reader;
mod writer;

pub use catalogue::{Listing, OlderStore, StoreSummary, list};
pub use dinorad_report::Failure;
pub use encode::{ItemFeatures, Outcome};
pub use item::ItemKey;
pub use key::{EncoderRecord, StoreKey};
pub use lock::Patience;
pub use manifest::{CaseRecord, FeatureKind, FeatureShape, Manifest, SetRecord};
pub use part::Part;
pub use pieces::{Piece, Pieces};
pub use prune::{PruneOptions, Removal, prune};
pub use reader::{FeatureStore, FeatureTable, SequenceTable};
pub use writer::Store;

/// Version of the files' layout; part of every key.
const FORMAT: u32 = 2;
pub(crate) const MANIFEST: &str = "manifest.json";

#[cfg(test)]
mod tests;
