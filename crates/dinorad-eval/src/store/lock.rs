//! One writer at a time.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    thread,
    time::Duration,
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
            take(|| store.try_lock(), &store_path)?;
            return Ok(Self { _store: store, _part: None });
        }
        take(|| store.try_lock_shared(), &store_path)?;
        let part_path = root.join(format!(".{key}.{}.lock", part.file_tag()));
        let own = open(&part_path)?;
        take(|| own.try_lock(), &part_path)?;
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

/// Tries for a fifth of a second: a process that another thread is just starting holds a copy of a
/// lock let go of for a moment.
fn take(lock: impl Fn() -> std::result::Result<(), TryLockError>, path: &Path) -> Result<()> {
    for attempt in 0.. {
        match lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if attempt < 10 => thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.to_owned() }),
            // Some network file systems have no locks; the files stay whole without one.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => break,
            Err(TryLockError::Error(e)) => return Err(Error::file("lock", path)(e)),
        }
    }
    Ok(())
}
