//! One writer at a time.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
};

use super::Part;
use crate::{Error, Result};

/// Held while a store is written; the system lets go of it when the process ends, however it ends.
///
/// The lock files lie beside the store, not in it, and stay: deleting a lock file while another
/// process has it open would let two in. A whole run excludes everybody; parts of a split share the
/// store and exclude only their own double.
#[derive(Debug)]
pub(super) struct StoreLock {
    _store: File,
    _part: Option<File>,
}

impl StoreLock {
    pub(super) fn acquire(root: &Path, key: &str, part: Part) -> Result<Self> {
        let store_path = root.join(format!(".{key}.lock"));
        let store = open(&store_path)?;
        if part.is_whole() {
            taken(store.try_lock(), &store_path)?;
            return Ok(Self { _store: store, _part: None });
        }
        taken(store.try_lock_shared(), &store_path)?;
        let part_path = root.join(format!(".{key}.{}.lock", part.file_tag()));
        let own = open(&part_path)?;
        taken(own.try_lock(), &part_path)?;
        Ok(Self { _store: store, _part: Some(own) })
    }
}

fn open(path: &Path) -> Result<File> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::file("open the lock", path))
}

fn taken(result: std::result::Result<(), TryLockError>, path: &Path) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
        // Some network file systems have no locks; the files stay whole without one.
        Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(e)) => Err(Error::file("lock", path)(e)),
    }
}
