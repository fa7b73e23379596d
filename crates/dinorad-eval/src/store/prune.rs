//! Tidying a folder of stores.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    FeatureKind, ItemFeatures, ItemKey, Outcome, StoreKey,
    catalogue::{folders, on_disk},
    file::ShardFile,
    index::{Index, Place},
    lock::{PruneLock, files_of},
    writer::{put, unfinished},
};
use crate::{Error, Result};

/// What is removed besides torn files, damaged shards and entries that richer ones replace.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Every store of the encoder of this name, or whose digest begins so (8 digits or more).
    pub encoder: Option<String>,
    /// Every store of another format.
    pub older_format: bool,
    /// Whether anything is done; otherwise it is only told.
    pub act: bool,
}

/// One thing removed, or to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal {
    /// The file or folder.
    pub path: PathBuf,
    /// Why it goes.
    pub why: String,
    /// Bytes that become free.
    pub bytes: u64,
}

/// Removes from the stores in `root` (or from the store that `root` is) what nothing needs any more,
/// or tells what that would be.
///
/// # Errors
/// [`Error::Locked`] for a store that is being written, [`Error::File`], [`Error::Damaged`].
pub fn prune(root: &Path, options: &PruneOptions) -> Result<Vec<Removal>> {
    let mut removals = Vec::new();
    for folder in folders(root)? {
        let whole =
            |why: String| -> Result<Removal> { Ok(Removal { path: folder.clone(), why, bytes: on_disk(&folder)?.0 }) };
        let key = match StoreKey::read(&folder) {
            Ok(key) => key,
            Err(Error::OlderFormat { format, .. }) => {
                if options.older_format {
                    let removal = whole(format!("a store of format {format}"))?;
                    remove(&removal, options)?;
                    removals.push(removal);
                }
                continue;
            }
            Err(e) => return Err(e),
        };
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let _lock = if options.act { Some(PruneLock::acquire(&parent, &key.key)?) } else { None };
        if options.encoder.as_deref().is_some_and(|wanted| is_of(&key, wanted)) {
            let removal = whole(format!("features of {}", key.encoder.id))?;
            remove(&removal, options)?;
            removals.push(removal);
            remove_locks(&parent, &key.key, options)?;
            continue;
        }
        for (path, _) in unfinished(&folder)? {
            let bytes = fs::metadata(&path).map_or(0, |m| m.len());
            let removal = Removal { path, why: "never finished".into(), bytes };
            remove(&removal, options)?;
            removals.push(removal);
        }
        let mut index = Index::default();
        for (path, why) in index.refresh(&folder, &key.key)? {
            let bytes = fs::metadata(&path).map_or(0, |m| m.len());
            let removal = Removal { path, why: format!("damaged: {why}"), bytes };
            remove(&removal, options)?;
            removals.push(removal);
        }
        let shards: Vec<Arc<ShardFile>> = index.shards().cloned().collect();
        for shard in shards {
            let kept: Vec<usize> = (0..shard.keys.len()).filter(|p| !is_replaced(&index, &shard, *p)).collect();
            if kept.len() == shard.keys.len() {
                continue;
            }
            let replaced = shard.keys.len() - kept.len();
            let mut bytes = shard.bytes;
            if !kept.is_empty() {
                if options.act {
                    let written = keep(&folder, &key, &index, &shard, &kept)?;
                    bytes = bytes.saturating_sub(written.bytes);
                    index.add(written)?;
                } else {
                    bytes = bytes / shard.keys.len() as u64 * replaced as u64;
                }
            }
            let why = format!("{replaced} of {} entries stand elsewhere, as rich or richer", shard.keys.len());
            let removal = Removal { path: shard.path.clone(), why, bytes };
            remove(&removal, options)?;
            removals.push(removal);
            if options.act {
                index.remove(&shard.name);
            }
        }
        remove_locks(&parent, &key.key, options)?;
    }
    Ok(removals)
}

fn is_of(key: &StoreKey, wanted: &str) -> bool {
    key.encoder.id == wanted || (wanted.len() >= 8 && key.encoder.digest.starts_with(wanted))
}

fn remove(removal: &Removal, options: &PruneOptions) -> Result<()> {
    if !options.act {
        return Ok(());
    }
    let path = &removal.path;
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        _ => Ok(()),
    }
}

/// The locks of lists: nobody holds one while the store's own is held here.
fn remove_locks(root: &Path, key: &str, options: &PruneOptions) -> Result<()> {
    let own = format!(".{key}.lock");
    for path in files_of(root, key) {
        if options.act && path.file_name().is_some_and(|name| name != own.as_str()) {
            fs::remove_file(&path).map_err(Error::file("remove", path))?;
        }
    }
    Ok(())
}

/// Whether another entry of the same case serves all that this one does.
fn is_replaced(index: &Index, shard: &Arc<ShardFile>, position: usize) -> bool {
    let Some(key) = shard.keys.get(position) else { return false };
    let embedded = shard.rows.get(position).copied().flatten().is_some();
    let others = || index.places(key).iter().filter(|p| !Arc::ptr_eq(&p.shard, shard));
    let first = |other: &Place| other.shard.holds != shard.holds || other.shard.name < shard.name;
    let richer = |other: &&Place| other.row().is_some() && shard.holds.is_subset(&other.shard.holds);
    if embedded {
        return others().filter(richer).any(first);
    }
    // a failure goes where the case was embedded after all, or had failed when less was asked for
    let failed = |other: &&Place| other.row().is_none() && other.shard.holds.is_subset(&shard.holds);
    others().any(|other| richer(&other)) || others().filter(failed).any(first)
}

/// Writes the entries at these positions again, as a shard of their own.
fn keep(folder: &Path, key: &StoreKey, index: &Index, shard: &ShardFile, kept: &[usize]) -> Result<ShardFile> {
    let items: Vec<ItemKey> = kept.iter().filter_map(|p| Some(ItemKey::new("", *shard.keys.get(*p)?))).collect();
    let mut file = shard.open_file()?;
    let mut outcomes = Vec::with_capacity(kept.len());
    for position in kept {
        let Some(row) = shard.rows.get(*position).copied().flatten() else {
            outcomes.push(Outcome::Failed(shard.failures.get(position).cloned().unwrap_or_default()));
            continue;
        };
        let mut features = ItemFeatures::default().with_notes(shard.notes.get(position).cloned().unwrap_or_default());
        for (name, shape) in &shard.features {
            match shape.kind {
                FeatureKind::Vector => {
                    let rows = shard.read(&mut file, name, row, row + 1)?;
                    features = features.with_vector(name, rows.index_axis_move(ndarray::Axis(0), 0));
                }
                FeatureKind::Sequence => {
                    let offsets = shard.offsets(name)?;
                    let (from, to) = (offsets.get(row).copied(), offsets.get(row + 1).copied());
                    let rows = shard.read(&mut file, name, from.unwrap_or(0), to.unwrap_or(0))?;
                    features = features.with_sequence(name, rows);
                }
            }
        }
        outcomes.push(Outcome::Embedded(features));
    }
    let items: Vec<&ItemKey> = items.iter().collect();
    let holds: BTreeSet<String> = shard.holds.clone();
    put(folder, &key.key, &items, &holds, &outcomes, index, "prune")
}
