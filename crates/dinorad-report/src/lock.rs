//! Locks that the system lets go of when their process ends, however it ends.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{Error, Result};

/// How long it is tried at least: a process that another thread is just starting holds a copy of a lock
/// let go of for a moment.
const AT_LEAST: Duration = Duration::from_millis(200);
/// Between two tries.
const BETWEEN: Duration = Duration::from_millis(20);

/// Opens a lock file, made where need be.
///
/// # Errors
/// What the file system says.
pub fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// Tries to take a lock for as long as `patience`, and a fifth of a second at least; whether it was got.
/// `waiting` is called when the first fifth is over.
///
/// Some network file systems have no locks; there it counts as got, and files stay whole without one.
///
/// # Errors
/// What the file system says.
pub fn take(
    lock: impl Fn() -> std::result::Result<(), TryLockError>,
    patience: Duration,
    waiting: &dyn Fn(),
) -> io::Result<bool> {
    let started = Instant::now();
    let mut told = false;
    loop {
        match lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(true),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let waited = started.elapsed();
        if waited >= AT_LEAST.max(patience) {
            return Ok(false);
        }
        if waited >= AT_LEAST && !told {
            told = true;
            waiting();
        }
        // the longer it takes, the less a moment matters
        thread::sleep(BETWEEN.max(waited / 50).min(Duration::from_secs(1)));
    }
}

/// The lock of a run's folder, within it for as long as the run is written.
const NAME: &str = ".dinorad-run.lock";

/// Held by the one who writes a run's folder.
///
/// The lock file goes with its writer. Whoever had it open at that moment would hold a lock that nobody
/// else sees, and so looks whether the file is still the one in the folder.
#[derive(Debug)]
pub struct RunLock {
    folder: PathBuf,
    /// Let go of after the file is removed.
    _file: File,
    made: bool,
}

impl RunLock {
    /// For a folder, made where need be.
    ///
    /// # Errors
    /// [`Error::BeingWritten`] while another process, or another writer of this one, has it;
    /// [`Error::File`].
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let mut made = false;
        loop {
            made |= create(folder).map_err(Error::file("create", folder))?;
            let file = match open(&path) {
                Ok(file) => file,
                // the one before has just gone, and its folder with it
                Err(e) if e.kind() == io::ErrorKind::NotFound && !folder.exists() => continue,
                Err(e) => return Err(Error::file("open the lock", path)(e)),
            };
            let got = take(|| file.try_lock(), Duration::ZERO, &|| ()).map_err(Error::file("lock", &path))?;
            if !got {
                return Err(Error::BeingWritten { path: folder.to_owned() });
            }
            if is_at(&file, &path) {
                return Ok(Self { folder: folder.to_owned(), _file: file, made });
            }
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder was not there before.
    pub fn made_folder(&self) -> bool {
        self.made
    }

    /// Removes everything in the folder, and the folder. While it lasts nobody else can begin in it.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false if entry.file_name() == NAME => {}
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // What cannot be removed now is taken over by the next writer.
        let _ = fs::remove_file(self.folder.join(NAME));
        if self.made {
            // one that was made for results that never came is empty again; others are not removed so
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Makes a folder; whether it was not there.
fn create(folder: &Path) -> io::Result<bool> {
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(_) if folder.is_dir() => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether an open file is the one that lies at a path now.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: &fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// Elsewhere a file that somebody has open keeps its name until it is closed.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writer_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/run");
        let first = RunLock::take(&folder).unwrap();
        assert!(first.made_folder());
        assert!(matches!(RunLock::take(&folder), Err(Error::BeingWritten { path }) if path == folder));
        drop(first);
        assert!(!folder.exists(), "a folder without results is left behind");
        // a lock file that a killed process left holds nobody up
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(NAME), "").unwrap();
        let next = RunLock::take(&folder).unwrap();
        assert!(!next.made_folder());
        fs::write(folder.join("metrics.json"), "{}").unwrap();
        drop(next);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn many_writers_take_turns() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let got = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let Ok(lock) = RunLock::take(&folder) else { continue };
                        use std::sync::atomic::Ordering::SeqCst;
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "two at once");
                        got.fetch_add(1, SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(got.into_inner() > 0);
    }

    #[test]
    fn patience_ends_and_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let (holder, other) = (open(&path).unwrap(), open(&path).unwrap());
        holder.lock().unwrap();
        let told = std::cell::Cell::new(0);
        let tell = || told.set(told.get() + 1);
        assert!(!take(|| other.try_lock(), Duration::ZERO, &tell).unwrap());
        assert_eq!(told.get(), 0);
        assert!(!take(|| other.try_lock(), Duration::from_millis(500), &tell).unwrap());
        assert_eq!(told.get(), 1);
        let freed = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(holder);
        });
        assert!(take(|| other.try_lock(), Duration::from_secs(60), &tell).unwrap());
        freed.join().unwrap();
    }
}
