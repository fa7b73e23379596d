//! Who writes a store, and that nobody does the same work twice at once.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::Part;
use crate::{Error, Result};

/// Held while a list is embedded; the system lets go of it when the process ends, however it ends.
///
/// The lock files lie beside the store, not in it, and stay: deleting a lock file while another
/// process has it open would let two in. Different lists are written side by side. A whole list
/// excludes its own double and its parts; the parts of a list exclude only their own double.
#[derive(Debug)]
pub(super) struct StoreLock {
    _store: File,
    _list: File,
    _part: Option<File>,
}

impl StoreLock {
    /// For the list with this hash.
    pub(super) fn acquire(root: &Path, key: &str, list: &str, part: Part) -> Result<Self> {
        let store_path = root.join(format!(".{key}.lock"));
        let store = open(&store_path)?;
        take(|| store.try_lock_shared(), &store_path)?;
        let list_path = root.join(format!(".{key}.{list}.lock"));
        let own = open(&list_path)?;
        if part.is_whole() {
            take(|| own.try_lock(), &list_path)?;
            return Ok(Self { _store: store, _list: own, _part: None });
        }
        take(|| own.try_lock_shared(), &list_path)?;
        let part_path = root.join(format!(".{key}.{list}.{}.lock", part.file_tag()));
        let one = open(&part_path)?;
        take(|| one.try_lock(), &part_path)?;
        Ok(Self { _store: store, _list: own, _part: Some(one) })
    }
}

/// Held while a store is tidied: nobody writes it.
#[derive(Debug)]
pub(super) struct PruneLock {
    _store: File,
}

impl PruneLock {
    pub(super) fn acquire(root: &Path, key: &str) -> Result<Self> {
        let path = root.join(format!(".{key}.lock"));
        let store = open(&path)?;
        take(|| store.try_lock(), &path)?;
        Ok(Self { _store: store })
    }
}

/// Held for the moment in which the manifest is read, added to and written.
#[derive(Debug)]
pub(super) struct ManifestLock {
    _file: File,
}

impl ManifestLock {
    pub(super) fn acquire(root: &Path, key: &str) -> Result<Self> {
        let path = root.join(format!(".{key}.manifest.lock"));
        let file = open(&path)?;
        match file.lock() {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {}
            Err(e) => return Err(Error::file("lock", path)(e)),
        }
        Ok(Self { _file: file })
    }
}

/// The lock files of a store.
pub(super) fn files_of(root: &Path, key: &str) -> Vec<PathBuf> {
    let start = format!(".{key}.");
    let ours = |name: &str| name.starts_with(&start) && name.ends_with(".lock");
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut out: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_str().is_some_and(ours)).map(|e| e.path()).collect();
    out.sort();
    out
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
