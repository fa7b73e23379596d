//! Folders and the symbolic links in them: one policy for all walks.
//!
//! What the user names is followed, link or not. Below it a link is followed where its target lies
//! below it too; one that leads out, one that leads nowhere and one that goes in a circle are passed
//! over, listed with the reason, and the walk goes on. So an archive that somebody sent, links and
//! all, shows nothing of the rest of the disk.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Why a symbolic link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfollowed {
    /// Its target lies outside of the folder that was named.
    LeadsOut,
    /// It has no target.
    Dangling,
    /// It leads to itself, to a folder that it lies in, or to one that was walked by a link before.
    Circle,
}

impl fmt::Display for Unfollowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeadsOut => "a link that leads out of the folder is not followed",
            Self::Dangling => "a link that leads nowhere",
            Self::Circle => "a link in a circle, or to a folder that was walked already",
        })
    }
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Walked {
    /// Every file, folder by folder, by name.
    pub files: Vec<PathBuf>,
    /// Links that were not followed, and why.
    pub passed_over: Vec<(PathBuf, Unfollowed)>,
}

/// A folder that a user named, within which links are followed.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("slice.dcm"), b"")?;
/// let found = dinorad_io::Tree::new(folder.path())?.files(folder.path(), |_| true)?;
/// assert_eq!(found.files, [folder.path().join("slice.dcm")]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    real: PathBuf,
    /// Folders looked at by [`Tree::unfollowed`], so that each is asked for once.
    known: RefCell<BTreeMap<PathBuf, Option<Unfollowed>>>,
}

impl Tree {
    /// The tree below `root`.
    ///
    /// # Errors
    /// [`Error::Read`] if there is nothing.
    pub fn new(root: &Path) -> Result<Self> {
        let real = root.canonicalize().map_err(|e| Error::read(root, e))?;
        Ok(Self { root: root.to_owned(), real, known: RefCell::default() })
    }

    /// Why a path below the root is not to be opened: a link among its components that is not
    /// followed. Nothing for a path that is not below the root: somebody else named it.
    pub fn unfollowed(&self, path: &Path) -> Option<Unfollowed> {
        let below = path.strip_prefix(&self.root).ok()?;
        let mut at = self.root.clone();
        for part in below.components() {
            at.push(part);
            let known = self.known.borrow().get(&at).copied();
            let found = known.unwrap_or_else(|| {
                let link = std::fs::symlink_metadata(&at).is_ok_and(|m| m.is_symlink());
                link.then(|| self.target(&at).err()).flatten()
            });
            if known.is_none() && at != path {
                self.known.borrow_mut().insert(at.clone(), found);
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The real path of a link's target, if that lies below the root.
    fn target(&self, link: &Path) -> std::result::Result<PathBuf, Unfollowed> {
        match link.canonicalize() {
            Ok(real) if real.starts_with(&self.real) => Ok(real),
            Ok(_) => Err(Unfollowed::LeadsOut),
            // ELOOP has no kind of its own in the standard library yet
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Unfollowed::Dangling),
            Err(_) => Err(Unfollowed::Circle),
        }
    }

    /// The files in and below `folder`, the root or a folder below it, whose names are `wanted`;
    /// folders with other names are not entered.
    ///
    /// # Errors
    /// [`Error::Read`] if a folder cannot be listed.
    pub fn files(&self, folder: &Path, wanted: impl Fn(&std::ffi::OsStr) -> bool) -> Result<Walked> {
        let mut out = Walked::default();
        if let Some(why) = self.unfollowed(folder) {
            out.passed_over.push((folder.to_owned(), why));
            return Ok(out);
        }
        let real = folder.canonicalize().map_err(|e| Error::read(folder, e))?;
        let mut by_link: BTreeSet<PathBuf> = BTreeSet::new();
        // folders still to list, the next one last, with their real paths
        let mut folders = vec![(folder.to_owned(), real)];
        while let Some((folder, real)) = folders.pop() {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(&folder).map_err(|e| Error::read(&folder, e))? {
                let entry = entry.map_err(|e| Error::read(&folder, e))?;
                if wanted(&entry.file_name()) {
                    entries.push((entry.path(), entry.file_type().map_err(|e| Error::read(&entry.path(), e))?));
                }
            }
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let mut inner = Vec::new();
            for (path, kind) in entries {
                if kind.is_file() {
                    out.files.push(path);
                } else if kind.is_dir() {
                    let real = real.join(path.file_name().unwrap_or_default());
                    inner.push((path, real));
                } else if kind.is_symlink() {
                    match self.target(&path) {
                        Err(why) => out.passed_over.push((path, why)),
                        Ok(target) if target.is_dir() => {
                            // a folder above it, or one that another link led to: circles of links,
                            // and folders whose number doubles with every level, end here
                            if real.starts_with(&target) || !by_link.insert(target.clone()) {
                                out.passed_over.push((path, Unfollowed::Circle));
                            } else {
                                inner.push((path, target));
                            }
                        }
                        Ok(target) if target.is_file() => out.files.push(path),
                        Ok(_) => {}
                    }
                }
            }
            folders.extend(inner.into_iter().rev());
        }
        Ok(out)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn names(root: &Path, paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|p| p.strip_prefix(root).unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn links_within_are_followed_and_others_are_listed() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(outer.path().join("secret")).unwrap();
        for file in ["root/1", "root/a/2", "root/a/b/3", "secret/4"] {
            fs::write(outer.path().join(file), b"x").unwrap();
        }
        let links = [
            ("c", "a/b", None),                                      // a folder of the tree
            ("file", "a/2", None),                                   // a file of the tree
            ("a/b/up", "..", Some(Unfollowed::Circle)),              // a folder above
            ("self", "self", Some(Unfollowed::Circle)),              // itself
            ("again", "a/b", Some(Unfollowed::Circle)),              // a second time (after `c`, by name)
            ("gone", "nothing", Some(Unfollowed::Dangling)),         // nothing
            ("out", "../secret", Some(Unfollowed::LeadsOut)),        // a folder outside
            ("passwd", "/etc/hostname", Some(Unfollowed::LeadsOut)), // a file outside
            ("twice", "out/4", Some(Unfollowed::LeadsOut)),          // by another link
        ];
        for (link, target, _) in links {
            symlink(target, root.join(link)).unwrap();
        }
        let tree = Tree::new(&root).unwrap();
        let found = tree.files(&root, |_| true).unwrap();
        let mut files = names(&root, &found.files);
        files.sort();
        let again = files.contains(&"again/3".to_owned());
        assert_eq!(files, ["1", "a/2", "a/b/3", if again { "again/3" } else { "c/3" }, "file"]);
        for (link, _, why) in links {
            let passed = found.passed_over.iter().find(|(p, _)| *p == root.join(link)).map(|(_, w)| *w);
            if !["c", "again"].contains(&link) {
                assert_eq!(passed, why, "{link}");
            }
            if why != Some(Unfollowed::Circle) && link != "c" {
                assert_eq!(tree.unfollowed(&root.join(link)), why, "{link}");
            }
        }
        assert_eq!(tree.unfollowed(&root.join("out/4")), Some(Unfollowed::LeadsOut), "a file behind a link");
        assert_eq!(tree.unfollowed(&root.join("c/3")), None);
        assert_eq!(tree.unfollowed(&root.join("a/b/3")), None);
        assert_eq!(tree.unfollowed(&outer.path().join("secret/4")), None, "named by somebody else");
        // what the user names is followed, link or not
        symlink(&root, outer.path().join("named")).unwrap();
        let named = outer.path().join("named");
        assert_eq!(Tree::new(&named).unwrap().files(&named, |_| true).unwrap().files.len(), 5);
        let out = root.join("out");
        assert_eq!(Tree::new(&out).unwrap().files(&out, |_| true).unwrap().files, [out.join("4")]);
    }

    /// Two links to the next folder at every level: 2^40 paths, 41 folders.
    #[test]
    fn links_that_double_at_every_level() {
        let root = tempfile::tempdir().unwrap();
        for level in 0..40 {
            let folder = root.path().join(format!("f{level:02}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("file"), b"x").unwrap();
            for link in ["l", "r"] {
                symlink(format!("../f{:02}", level + 1), folder.join(link)).unwrap();
            }
        }
        let found = Tree::new(root.path()).unwrap().files(root.path(), |_| true).unwrap();
        assert!((40..=40 * 41).contains(&found.files.len()), "{}", found.files.len());
    }
}
