//! The feature store: embeddings on disk that survive a kill at any moment.
//!
//! A store is a folder `<root>/<key>/` with `manifest.json` and `shard-00000.safetensors`, …. The
//! key is a hash of everything the numbers depend on, so the same work finds its own store again
//! and other work cannot. Item order and shard boundaries come from the [`StorePlan`] alone, files
//! appear whole (temporary name, `fsync`, rename) and hold no times, so a run killed at any moment
//! and started again ends with the same bytes as one that was left alone.
//!
//! ```
//! use dinorad_eval::store::{FeatureStore, ItemFeatures, ItemKey, KeyParts, Outcome, Part, Store, StorePlan};
//! use ndarray::array;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! let items = vec![ItemKey::new("a.png", [1; 32]), ItemKey::new("b.png", [2; 32])];
//! let plan = StorePlan::new(KeyParts::new("resize 224", "weights digest", "cls"), items, 64)?;
//! let mut store = Store::open_or_create(root.path(), plan, Part::WHOLE)?;
//! for shard in store.missing_shards() {
//!     let outcomes = store.plan().items_of(shard).iter().map(|_| {
//!         Outcome::Embedded(ItemFeatures::default().with_vector("cls", array![0.5, 1.0]))
//!     }).collect::<Vec<_>>();
//!     store.write_shard(shard, &outcomes)?;
//! }
//! store.finish()?;
//! let table = FeatureStore::open(store.folder())?.table("cls")?;
//! assert_eq!((table.ids.len(), table.features.dim()), (2, (2, 2)));
//! # Ok(()) }
//! ```

mod lock;
mod plan;
mod reader;
mod shard;
mod writer;

pub use dinorad_report::Failure;
pub use plan::{ItemKey, KeyParts, Part, StorePlan};
pub use reader::{FeatureStore, FeatureTable, SequenceTable};
pub use shard::{ItemFeatures, Outcome, ShardContents};
pub use writer::{FeatureKind, FeatureShape, Manifest, ShardRecord, Store};

/// Version of the files' layout; part of every key.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";

#[cfg(test)]
mod tests;
