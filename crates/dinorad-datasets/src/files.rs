//! Names and bytes of files.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use dinorad_core::markers::Own;
use dinorad_io::{Tree, Walked};

use crate::{Error, Result, natural::path_order};

/// Files that no data set means: `.DS_Store`, `._x`, `.keep`.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn entries(folder: &Path, what: &'static str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Err(Error::Absent { path: folder.to_owned(), what });
    }
    let list = std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))?;
    let mut out = Vec::new();
    for entry in list {
        let entry = entry.map_err(|e| Error::read(folder, e))?;
        if !is_hidden(&entry.file_name()) {
            out.push(entry.path());
        }
    }
    out.sort();
    Ok(out)
}

/// The files of a folder (not below it) without hidden ones, by name as text.
pub(crate) fn folder_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut out = entries(folder, "the folder")?;
    // a link that leads nowhere stays: it is missed when it is read
    out.retain(|p| p.is_file() || !p.exists());
    Ok(out)
}

/// The folders of a folder without hidden ones, feature stores, runs and caches, by name as text.
pub(crate) fn sub_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut out = entries(folder, "the folder")?;
    // our own results are no class and no patient
    out.retain(|p| p.is_dir() && Own::of(p).is_none());
    Ok(out)
}

/// The name of a file without its suffix; `.nii.gz` is one suffix.
pub(crate) fn stem(path: &Path) -> String {
    let name = file_name(path);
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    match plain.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => plain.to_owned(),
    }
}

/// The last component of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// `path` as written below `root`, with `/` between the components.
pub(crate) fn relative(path: &Path, root: &Path) -> String {
    let rest = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = rest
        .components()
        .filter_map(|c| match c {
            Component::Normal(n) => Some(n.to_string_lossy()),
            _ => None,
        })
        .collect();
    parts.join("/")
}

/// `root` joined with a path that a table of the data set gives, if that stays below the root.
pub(crate) fn below(root: &Path, table: &Path, given: &str) -> Result<PathBuf> {
    let mut depth = 0i32;
    for part in Path::new(given).components() {
        depth += match part {
            Component::Normal(_) => 1,
            Component::CurDir => 0,
            Component::ParentDir => -1,
            Component::RootDir | Component::Prefix(_) => i32::MIN / 2,
        };
        if depth < 0 {
            return Err(Error::layout(table, format!("path `{given}` leaves the folder of the data set")));
        }
    }
    Ok(root.join(given.strip_prefix("./").unwrap_or(given)))
}

/// The files that the pixels named by `path` are made of: a folder's, a header with its voxels beside it
/// (`.hdr` with `.img`, `.nhdr` and `.mhd` with whatever file they name).
pub(crate) fn content_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_dir() {
        return Ok(files_below(path, path)?.files);
    }
    let mut out = vec![path.to_owned()];
    let name = file_name(path);
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    for (one, other) in [(".hdr", ".img"), (".img", ".hdr")] {
        if let Some(base) = plain.strip_suffix(one) {
            let pair = ["", ".gz"].map(|gz| path.with_file_name(format!("{base}{other}{gz}")));
            out.extend(pair.into_iter().find(|p| p.is_file()));
        }
    }
    if let Some(voxels) = dinorad_io::detached_voxels(path).filter(|p| p.is_file() && !out.contains(p)) {
        out.push(voxels);
    }
    out.sort();
    Ok(out)
}

/// Every file below a folder without hidden ones, numbers in order, and the links that are not
/// followed. Links lead within `root`, of which the folder is a part. Feature stores, runs and caches
/// are passed over.
pub(crate) fn files_below(root: &Path, folder: &Path) -> Result<Walked> {
    Ok(walk(root, folder)?.0)
}

/// The same, and what was passed over of our own results, which are never input.
pub(crate) fn walk(root: &Path, folder: &Path) -> Result<(Walked, Vec<(PathBuf, Own)>)> {
    if !folder.is_dir() {
        return Ok((Walked::default(), Vec::new()));
    }
    let mut out = Tree::new(root)?.files(folder, |name| !is_hidden(name))?;
    out.files.sort_by(|a, b| path_order(a, b));
    // what is known of the folders of the files found
    let mut known: BTreeMap<PathBuf, Option<PathBuf>> = BTreeMap::new();
    let mut own: BTreeMap<PathBuf, Own> = BTreeMap::new();
    let mut taken = |file: &PathBuf| result_of(file, folder, &mut known, &mut own).is_none();
    out.files.retain(&mut taken);
    out.passed_over.retain(|(path, _)| taken(path));
    Ok((out, own.into_iter().collect()))
}

/// The outermost folder of results from `top` on that a file lies in.
fn result_of(
    file: &Path,
    top: &Path,
    known: &mut BTreeMap<PathBuf, Option<PathBuf>>,
    own: &mut BTreeMap<PathBuf, Own>,
) -> Option<PathBuf> {
    let folder = file.parent().filter(|folder| folder.starts_with(top))?;
    if let Some(found) = known.get(folder) {
        return found.clone();
    }
    let mut found = result_of(folder, top, known, own);
    if found.is_none()
        && let Some(what) = Own::of(folder)
    {
        own.insert(folder.to_owned(), what);
        found = Some(folder.to_owned());
    }
    known.insert(folder.to_owned(), found.clone());
    found
}

/// BLAKE3 of the bytes of files, each preceded by its length.
pub(crate) fn hash_files<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let size = std::fs::metadata(path).map_err(|e| Error::read(path, e))?.len();
        hasher.update(&size.to_le_bytes());
        hasher.update_mmap(path).map_err(|e| Error::read(path, e))?;
    }
    Ok(hasher)
}

/// The same of a stack: of several in one file, each has a hash of its own.
pub(crate) fn of_stack(files: &[PathBuf], frames: Option<&[usize]>) -> Result<blake3::Hasher> {
    let mut hasher = hash_files(files.iter().map(PathBuf::as_path))?;
    for frame in frames.unwrap_or_default() {
        hasher.update(&(*frame as u64).to_le_bytes());
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_and_escapes() {
        assert_eq!(stem(Path::new("a/b_000.nii.gz")), "b_000");
        assert_eq!(stem(Path::new("1.2.3.dcm")), "1.2.3");
        assert_eq!(stem(Path::new("plain")), "plain");
        let root = Path::new("/data");
        assert_eq!(below(root, root, "./a/b").unwrap(), Path::new("/data/a/b"));
        assert!(below(root, root, "a/../../b").is_err());
        assert!(below(root, root, "/etc/passwd").is_err());
        assert_eq!(relative(Path::new("/data/a/b.png"), root), "a/b.png");
    }

    #[test]
    fn voxels_beside_a_header_are_part_of_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("a.mhd", "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = voxels.raw\n");
        put("b.nhdr", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: voxels.raw\n");
        put("c.nhdr", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: ../x.raw\n");
        put("d.mhd", "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = a.mhd\n");
        put("voxels.raw", "01234567");
        for (name, files) in [("a.mhd", 2), ("b.nhdr", 2), ("c.nhdr", 1), ("voxels.raw", 1)] {
            assert_eq!(content_files(&folder.path().join(name)).unwrap().len(), files, "{name}");
        }
        let found = crate::discover(&[folder.path().to_owned()]);
        let seen: Vec<_> = found.iter().map(|i| (i.id.as_str(), i.bad().is_some())).collect();
        assert_eq!(seen, [("a.mhd", false), ("b.nhdr", false), ("c.nhdr", false), ("d.mhd", false)]);
    }
}
