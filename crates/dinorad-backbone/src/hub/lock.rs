//! One process at a time fetches the files of a model; the others wait as long as it makes progress.

use std::{
    fs::{File, TryLockError},
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use super::store::Store;

const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no lock.
pub(super) enum Stopped {
    /// Somebody has this one, and nothing has come for as long as a transfer may stand still.
    Held(PathBuf),
    Disk(io::Error),
}

/// A lock of a model, ours until the file is closed.
pub(super) fn take(store: &Store, name: &str, patience: Duration) -> Result<File, Stopped> {
    let (path, file) = store.lock_file(name).map_err(Stopped::Disk)?;
    let mut other = OtherProcess::default();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if other.has_stopped(store.blob_bytes(), patience) => {
                return Err(Stopped::Held(path));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            // A file system without locks: files are still renamed into place.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(Stopped::Disk(e)),
        }
    }
}

/// Watches what another process downloads.
#[derive(Default)]
struct OtherProcess {
    bytes: Option<u64>,
    since: Option<Instant>,
}

impl OtherProcess {
    /// Whether nothing has come for `patience`.
    fn has_stopped(&mut self, bytes: Option<u64>, patience: Duration) -> bool {
        if self.since.is_none() || bytes != self.bytes {
            (self.bytes, self.since) = (bytes, Some(Instant::now()));
        }
        self.since.is_some_and(|since| since.elapsed() >= patience)
    }
}
