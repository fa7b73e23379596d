//! Who writes a store, and that nobody does the same work twice at once.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use dinorad_report::lock;

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
    pub(super) fn acquire(root: &Path, key: &str, list: &str, part: Part, patience: Patience<'_>) -> Result<Self> {
        let store_path = root.join(format!(".{key}.lock"));
        let store = open(&store_path)?;
        take(|| store.try_lock_shared(), &store_path, patience)?;
        let list_path = root.join(format!(".{key}.{list}.lock"));
        let own = open(&list_path)?;
        if part.is_whole() {
            take(|| own.try_lock(), &list_path, patience)?;
            return Ok(Self { _store: store, _list: own, _part: None });
        }
        take(|| own.try_lock_shared(), &list_path, patience)?;
        let part_path = root.join(format!(".{key}.{list}.{}.lock", part.file_tag()));
        let one = open(&part_path)?;
        take(|| one.try_lock(), &part_path, patience)?;
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
        take(|| store.try_lock(), &path, Patience::NONE)?;
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
    lock::open(path).map_err(Error::file("open the lock", path))
}

/// How long to wait for another process that makes the same features, and who is told that one waits.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    most: Duration,
    waiting: &'a dyn Fn(),
}

impl<'a> Patience<'a> {
    /// None: what another process makes is [locked](Error::Locked).
    pub const NONE: Patience<'static> = Patience { most: Duration::ZERO, waiting: &|| () };

    /// At most so long; `waiting` is called once when it begins.
    pub fn new(most: Duration, waiting: &'a dyn Fn()) -> Self {
        Self { most, waiting }
    }
}

impl fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("most", &self.most).finish_non_exhaustive()
    }
}

fn take(lock: impl Fn() -> std::result::Result<(), TryLockError>, path: &Path, patience: Patience<'_>) -> Result<()> {
    match lock::take(lock, patience.most, patience.waiting).map_err(Error::file("lock", path))? {
        true => Ok(()),
        false => Err(Error::Locked { path: path.to_owned() }),
    }
}
