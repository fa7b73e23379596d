//! The stores in a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use dinorad_core::markers::Own;

use super::{Manifest, StoreKey, index::Index};
use crate::{Error, Result};

/// What lies in a folder of feature stores.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Listing {
    /// The stores, by key.
    pub stores: Vec<StoreSummary>,
    /// Stores of another format, which this version does not read.
    pub older: Vec<OlderStore>,
}

/// A store at a glance.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreSummary {
    /// Its folder.
    pub folder: PathBuf,
    /// What its features were made by.
    pub key: StoreKey,
    /// Different cases in its shards, failed ones included.
    pub cases: usize,
    /// Its finished sets with their numbers of cases.
    pub sets: Vec<(String, usize)>,
    /// Bytes on disk.
    pub bytes: u64,
    /// When the latest of its files was written.
    pub modified: Option<SystemTime>,
    /// Files that do not read back, with the reason.
    pub damaged: Vec<(PathBuf, String)>,
}

/// A store of another format.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OlderStore {
    /// Its folder.
    pub folder: PathBuf,
    /// Its format.
    pub format: u32,
    /// Bytes on disk.
    pub bytes: u64,
    /// When the latest of its files was written.
    pub modified: Option<SystemTime>,
}

/// The stores in `root`, or the one that `root` is.
///
/// # Errors
/// [`Error::File`] for a folder that cannot be read, [`Error::Damaged`] for a marker that cannot.
pub fn list(root: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    for folder in folders(root)? {
        let (bytes, modified) = on_disk(&folder)?;
        let key = match StoreKey::read(&folder) {
            Ok(key) => key,
            Err(Error::OlderFormat { format, .. }) => {
                listing.older.push(OlderStore { folder, format, bytes, modified });
                continue;
            }
            Err(e) => return Err(e),
        };
        let mut index = Index::default();
        let mut damaged = index.refresh(&folder, &key.key)?;
        let sets = match Manifest::read(&folder, &key) {
            Ok(manifest) => manifest
                .map_or_else(Vec::new, |m| m.sets.into_iter().map(|(name, set)| (name, set.cases.len())).collect()),
            Err(Error::Damaged { path, why }) => {
                damaged.push((path, why));
                Vec::new()
            }
            Err(e) => return Err(e),
        };
        listing.stores.push(StoreSummary { folder, key, cases: index.len(), sets, bytes, modified, damaged });
    }
    Ok(listing)
}

/// The folders of stores in `root`, or `root` itself, by name.
pub(super) fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    if Own::of(root) == Some(Own::Store) {
        return Ok(vec![root.to_owned()]);
    }
    let mut out = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::file("list", root))? {
        let path = entry.map_err(Error::file("list", root))?.path();
        if path.is_dir() && Own::of(&path) == Some(Own::Store) {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

/// Bytes of the files in a folder, and when the latest was written.
pub(super) fn on_disk(folder: &Path) -> Result<(u64, Option<SystemTime>)> {
    let (mut bytes, mut modified) = (0, None);
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let entry = entry.map_err(Error::file("list", folder))?;
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() {
            bytes += meta.len();
            modified = modified.max(meta.modified().ok());
        }
    }
    Ok((bytes, modified))
}
