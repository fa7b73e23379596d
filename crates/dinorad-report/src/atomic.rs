//! Files that are either whole or not there.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// The ending that marks a file still being written.
const UNFINISHED: &str = ".unfinished";

/// Writes `bytes` to `path` so that a reader sees the old file or the new one, never a part.
///
/// The bytes go to a temporary name in the same folder, reach the disk (`fsync`), and are renamed.
/// The temporary name is `.NAME.WRITER.unfinished`: different writers never share one.
///
/// # Errors
/// [`Error::File`] when the file system refuses.
pub fn write_atomic(path: &Path, bytes: &[u8], writer: &str) -> Result<()> {
    write_whole(path, bytes, writer, File::options().write(true).create(true).truncate(true))
}

/// The same, for the owner's eyes alone where the system can say so (not on Windows).
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8], writer: &str) -> Result<()> {
    let mut options = File::options();
    // What a killed writer left under the temporary name may be open to others: never written into.
    if let Target::File(path) = Target::of(path)? {
        let _ = fs::remove_file(temporary_name(&path, writer));
    }
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    write_whole(path, bytes, writer, &options)
}

fn write_whole(path: &Path, bytes: &[u8], writer: &str, options: &OpenOptions) -> Result<()> {
    let path = match Target::of(path)? {
        Target::File(path) => path,
        Target::Stream(mut stream) => return stream.write_all(bytes).map_err(Error::file("write", path)),
    };
    let path = path.as_path();
    let temporary = temporary_name(path, writer);
    kill_point("before the temporary file")?;
    let mut file = options.open(&temporary).map_err(Error::file("create", &temporary))?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first).map_err(Error::file("write", &temporary))?;
    kill_point("half the bytes")?;
    file.write_all(second).map_err(Error::file("write", &temporary))?;
    kill_point("before fsync")?;
    file.sync_all().map_err(Error::file("sync", &temporary))?;
    drop(file);
    kill_point("before rename")?;
    fs::rename(&temporary, path).map_err(Error::file("rename", &temporary))?;
    kill_point("after rename")?;
    sync_folder(path);
    Ok(())
}

/// What a path to be written stands for.
pub enum Target {
    /// A file, there or not: the one behind a link, which a rename would put a file in place of.
    File(PathBuf),
    /// A pipe, a terminal or another device, open: bytes go straight to it.
    Stream(File),
}

impl Target {
    /// What is at the path now.
    ///
    /// # Errors
    /// [`Error::File`] for a folder, and where the file system refuses.
    pub fn of(path: &Path) -> Result<Self> {
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                Err(Error::file("write", path)(std::io::Error::from(std::io::ErrorKind::IsADirectory)))
            }
            Ok(there) if there.is_file() => {
                let behind = if path.is_symlink() { fs::canonicalize(path) } else { Ok(path.to_owned()) };
                Ok(Target::File(behind.map_err(Error::file("write", path))?))
            }
            Ok(_) => {
                let stream = OpenOptions::new().write(true).open(path);
                Ok(Target::Stream(stream.map_err(Error::file("write", path))?))
            }
            Err(_) => Ok(Target::File(path.to_owned())),
        }
    }
}

/// Removes what killed writers left in `folder`; with a `writer`, only that one's files. Returns how
/// many there were.
///
/// # Errors
/// [`Error::File`].
pub fn remove_unfinished(folder: &Path, writer: Option<&str>) -> Result<usize> {
    let mut removed = 0;
    let ending = match writer {
        Some(writer) => format!(".{writer}{UNFINISHED}"),
        None => UNFINISHED.to_owned(),
    };
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let entry = entry.map_err(Error::file("list", folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with('.') && name.ends_with(&ending) {
            match fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::file("remove", entry.path())(e)),
            }
        }
    }
    Ok(removed)
}

fn temporary_name(path: &Path, writer: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{writer}{UNFINISHED}"));
    path.with_file_name(name)
}

/// Makes the rename itself durable where folders can be synced (not on Windows).
fn sync_folder(path: &Path) {
    if let Some(folder) = path.parent()
        && let Ok(folder) = File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    {
        // A file system that cannot do this has done all it can.
        let _ = folder.sync_all();
    }
}

/// Where tests stop a writer as a kill would: nothing after this point runs.
#[cfg(not(any(test, feature = "kill-points")))]
#[inline(always)]
fn kill_point(_: &'static str) -> Result<()> {
    Ok(())
}

#[cfg(any(test, feature = "kill-points"))]
use kill::kill_point;

/// Writers that are stopped half-way, for tests of what they leave (feature `kill-points`).
#[cfg(any(test, feature = "kill-points"))]
pub mod kill {
    use std::{cell::Cell, path::PathBuf};

    use crate::{Error, Result};

    thread_local! {
        static PASSED: Cell<usize> = const { Cell::new(0) };
        static KILL_AT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Counts the points a writer passes and fails at the chosen one, and at all after it.
    pub(super) fn kill_point(_: &'static str) -> Result<()> {
        let n = PASSED.get();
        PASSED.set(n + 1);
        match KILL_AT.get() {
            Some(at) if n >= at => Err(Error::Damaged { path: PathBuf::new(), why: format!("killed at point {at}") }),
            _ => Ok(()),
        }
    }

    /// Runs `work` on this thread as if killed at the `at`-th point.
    pub fn killed_at<T>(at: Option<usize>, work: impl FnOnce() -> T) -> T {
        PASSED.set(0);
        KILL_AT.set(at);
        let out = work();
        KILL_AT.set(None);
        out
    }

    /// How many points the last [`killed_at`] passed.
    pub fn kill_points_passed() -> usize {
        PASSED.get()
    }
}

#[cfg(test)]
mod tests {
    use super::{kill::killed_at, *};

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.json"), folder.path().join("link.json"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("a.json", &link).unwrap();
        write_atomic(&link, b"new", "w").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        // a folder of its own, so that a rename would hit the link and not /dev
        let null = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        write_atomic(&null, b"new", "w").unwrap();
        assert!(null.is_symlink() && !null.is_file());
        assert!(matches!(write_atomic(folder.path(), b"new", "w"), Err(Error::File { action: "write", .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_killed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomic(&path, b"old", "w").unwrap();
        for at in 0..5 {
            let result = killed_at(Some(at), || write_atomic(&path, b"newer", "w"));
            assert!(result.is_err());
            let now = fs::read(&path).unwrap();
            // The last point lies after the rename.
            assert_eq!(now, if at < 4 { b"old".as_slice() } else { b"newer".as_slice() });
            assert_eq!(remove_unfinished(folder.path(), Some("other")).unwrap(), 0);
            remove_unfinished(folder.path(), Some("w")).unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }
}
