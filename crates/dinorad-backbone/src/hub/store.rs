//! The Hub's cache, in the layout that Python's `huggingface_hub` reads and writes:
//!
//! ```text
//! models--owner--name/blobs/<tag>                 the bytes
//! models--owner--name/snapshots/<commit>/<file>   -> ../../blobs/<tag>
//! models--owner--name/refs/<branch>               the commit, as text
//! models--owner--name/.no_exist/<commit>/<file>   empty: the commit lacks this file
//! .locks/models--owner--name/<tag>.lock
//! ```
//!
//! Whatever is written is a new file that is renamed into place, below folders that are no links:
//! what lies outside the cache cannot be changed through it. (The cache's own folder may be a link.)

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{HubId, announced::is_commit};

/// The cache's folder of one model.
pub(super) struct Store {
    pub(super) root: PathBuf,
    folder: String,
}

/// What the cache knows about a file.
pub(super) enum Cached {
    Here(PathBuf),
    /// It has a note that the commit lacks this file.
    Absent,
    Unknown,
}

impl Store {
    pub(super) fn new(root: PathBuf, id: &HubId) -> Self {
        Self { root, folder: format!("models--{}--{}", id.owner(), id.name()) }
    }

    fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.root.join(&self.folder).join(kind).join(name)
    }

    pub(super) fn blob(&self, tag: &str) -> PathBuf {
        self.path("blobs", tag)
    }

    pub(super) fn find(&self, commit: &str, file: &str) -> Cached {
        let path = self.path("snapshots", commit).join(file);
        if path.exists() {
            return Cached::Here(path);
        }
        match self.path(".no_exist", commit).join(file).exists() {
            true => Cached::Absent,
            false => Cached::Unknown,
        }
    }

    /// The commit that the cache remembers for a branch or tag.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let mut text = String::new();
        File::open(self.path("refs", revision)).ok()?.take(64).read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Remembers the commit of a branch or tag.
    pub(super) fn set_commit_of(&self, revision: &str, commit: &str) -> io::Result<()> {
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let target = self.place("refs", revision)?;
        let mut file = self.fresh(|path| OpenOptions::new().write(true).create_new(true).open(path))?;
        file.write_all(commit.as_bytes())?;
        file.persist(target)?;
        Ok(())
    }

    /// Notes that a commit lacks a file.
    pub(super) fn set_absent(&self, commit: &str, file: &str) -> io::Result<()> {
        let target = self.place(".no_exist", &format!("{commit}/{file}"))?;
        match OpenOptions::new().write(true).create_new(true).open(target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// The partial file of a blob, opened for writing at its end, and its length.
    pub(super) fn open_partial(&self, tag: &str) -> io::Result<(PathBuf, File, u64)> {
        let path = self.place("blobs", &format!("{tag}.incomplete"))?;
        let (file, length) = open_own(&path)?;
        Ok((path, file, length))
    }

    /// Gives a file of a commit its name. A file that has its name keeps its bytes: a commit does
    /// not change, whatever a server says, and an error tells where it does.
    pub(super) fn link(&self, commit: &str, file: &str, tag: &str) -> io::Result<()> {
        let name = format!("{commit}/{file}");
        let target = self.place("snapshots", &name)?;
        let blob = self.blob(tag);
        if target.exists() {
            // Links tell their blob; copies are told by their length.
            let same = match fs::read_link(&target) {
                Ok(to) => to.file_name().is_some_and(|name| name == tag),
                Err(_) => fs::metadata(&target)?.len() == fs::metadata(&blob)?.len(),
            };
            let other =
                || io::Error::other(format!("{} has other bytes, and a commit's do not change", target.display()));
            return if same { Ok(()) } else { Err(other()) };
        }
        let up = "../".repeat(name.matches('/').count() + 1);
        let to = format!("{up}blobs/{tag}");
        let place = self.fresh(|path| symlink_or_copy(&to, &blob, path))?;
        place.persist(target)?;
        Ok(())
    }

    /// A lock file of this model, not locked yet.
    pub(super) fn lock_file(&self, name: &str) -> io::Result<(PathBuf, File)> {
        let path = self.below(&format!(".locks/{}/{name}.lock", self.folder))?;
        let (file, _) = open_own(&path)?;
        Ok((path, file))
    }

    /// The bytes of all blobs, whole and partial, for one who waits and wants to see them grow.
    pub(super) fn blob_bytes(&self) -> Option<u64> {
        let files = fs::read_dir(self.path("blobs", "")).ok()?;
        Some(files.filter_map(|file| file.ok()?.metadata().ok().map(|m| m.len())).sum())
    }

    fn place(&self, kind: &str, name: &str) -> io::Result<PathBuf> {
        self.below(&format!("{}/{kind}/{name}", self.folder))
    }

    /// The path below the cache, its folders made where they lack; none of them may be a link.
    fn below(&self, name: &str) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.root)?;
        let mut path = self.root.clone();
        let mut parts = name.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_none() {
                break;
            }
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if !fs::symlink_metadata(&path)?.is_dir() {
                return Err(foreign(&path, "is no folder of the cache's own (a link?)"));
            }
        }
        Ok(path)
    }

    /// Something new beside the blobs, gone again unless it is renamed.
    fn fresh<T>(&self, make: impl FnMut(&Path) -> io::Result<T>) -> io::Result<tempfile::NamedTempFile<T>> {
        tempfile::Builder::new().prefix(".new-").make_in(self.root.join(&self.folder), make)
    }
}

/// A file for reading and appending that is the cache's own: no link, and no second name of a file
/// elsewhere. Its length comes with it.
fn open_own(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    let before = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other?),
    };
    if before.as_ref().is_some_and(|found| !found.is_file() || has_other_names(found)) {
        return Err(foreign(path, "is no file of the cache's own (a link?)"));
    }
    let file = match before {
        Some(_) => options.open(path)?,
        // Somebody may have been quicker, but nobody's link is followed.
        None => match options.create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return open_own(path),
            other => other?,
        },
    };
    let opened = file.metadata()?;
    if before.is_some_and(|found| !is_same(&found, &opened)) {
        return Err(foreign(path, "was exchanged while it was opened"));
    }
    Ok((file, opened.len()))
}

fn foreign(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{} {what}; nothing is written through it", path.display()))
}

#[cfg(unix)]
fn has_other_names(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(found) > 1
}

#[cfg(unix)]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn has_other_names(_: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

/// A relative link, or a copy where the file system has none.
fn symlink_or_copy(to: &str, blob: &Path, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    match std::os::unix::fs::symlink(to, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) => return Ok(()),
        Err(_) => {}
    }
    #[cfg(not(unix))]
    let _ = to;
    let mut copy = OpenOptions::new().write(true).create_new(true).open(path)?;
    io::copy(&mut File::open(blob)?, &mut copy)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_name_keeps_its_bytes() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned(), &"a/b".parse().unwrap());
        for (tag, bytes) in [("one", "1 byte"), ("two", "2 bytes")] {
            let (partial, mut file, _) = store.open_partial(tag).unwrap();
            file.write_all(bytes.as_bytes()).unwrap();
            fs::rename(partial, store.blob(tag)).unwrap();
        }
        let read = || match store.find(COMMIT, "sub/x.bin") {
            Cached::Here(path) => fs::read_to_string(path).unwrap(),
            _ => String::new(),
        };
        for _ in 0..2 {
            store.link(COMMIT, "sub/x.bin", "one").unwrap();
            assert_eq!(read(), "1 byte");
        }
        store.link(COMMIT, "sub/x.bin", "two").unwrap_err();
        assert_eq!(read(), "1 byte");
        // Copies, as on file systems without links.
        let name = store.path("snapshots", COMMIT).join("sub/x.bin");
        fs::remove_file(&name).unwrap();
        fs::write(&name, "1 byte").unwrap();
        store.link(COMMIT, "sub/x.bin", "one").unwrap();
        store.link(COMMIT, "sub/x.bin", "two").unwrap_err();
        assert_eq!(read(), "1 byte");
    }

    #[cfg(unix)]
    #[test]
    fn a_name_whose_blob_is_gone_is_given_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned(), &"a/b".parse().unwrap());
        store.link(COMMIT, "x.bin", "gone").unwrap();
        assert!(matches!(store.find(COMMIT, "x.bin"), Cached::Unknown));
        fs::create_dir_all(store.path("blobs", "")).unwrap();
        fs::write(store.blob("new"), "new").unwrap();
        store.link(COMMIT, "x.bin", "new").unwrap();
        assert!(matches!(store.find(COMMIT, "x.bin"), Cached::Here(path) if fs::read(&path).unwrap() == b"new"));
    }
}
