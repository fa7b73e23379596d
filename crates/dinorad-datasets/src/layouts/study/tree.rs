//! The files of a data set, whichever of its forms lies on disk.

use std::path::{Path, PathBuf};

use dinorad_core::Protocol;

use crate::{
    Error, OpenOptions, Result,
    files::{file_name, folder_files, sub_folders},
    info::Opening,
    natural::path_order,
};

/// A tree made for the study's loaders.
pub(super) const PREPARED: &str = "prepared for the study";
/// What the publisher's archive unpacks to.
pub(super) const DOWNLOADED: &str = "as downloaded";

/// `root`, or the only folder directly below it that looks like the data set.
pub(super) fn home(root: &Path, is: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>> {
    if is(root) {
        return Ok(Some(root.to_owned()));
    }
    let mut found = sub_folders(root)?;
    found.retain(|f| is(f));
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let names: Vec<String> = several.iter().map(|f| file_name(f)).collect();
            Err(Error::layout(root, format!("several folders look like the data set, name one: {}", names.join(", "))))
        }
    }
}

/// Whether there is a folder of any split.
pub(super) fn has_split_folders(root: &Path) -> bool {
    ["train", "val", "test"].iter().any(|s| root.join(s).is_dir())
}

pub(super) fn no_layout(asked: &Opening, looked_for: &[&'static str]) -> Error {
    Error::NoLayout { path: asked.root.to_owned(), dataset: asked.info.name, looked_for: looked_for.to_vec() }
}

/// The files of a split with one suffix: by text as the study sorted them, or by number.
pub(super) fn files(asked: &Opening, folder: &Path, suffix: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Err(asked.no_split(format!("no folder {}", folder.display())));
    }
    let mut out = folder_files(folder)?;
    out.retain(|f| has_suffix(f, suffix));
    if out.is_empty() {
        return Err(asked.no_split(format!("no .{suffix} files in {}", folder.display())));
    }
    sort(&mut out, asked.options);
    Ok(out)
}

pub(super) fn has_suffix(file: &Path, suffix: &str) -> bool {
    file.extension().is_some_and(|e| e.eq_ignore_ascii_case(suffix))
}

pub(super) fn sort(paths: &mut [PathBuf], options: &OpenOptions) {
    match options.protocol {
        Protocol::Paper => paths.sort(),
        Protocol::Strict => paths.sort_by(|a, b| path_order(a, b)),
    }
}

/// Labels in `folder` whose image is in none of `images`: said once, with the first name.
pub(super) fn orphans(folder: &Path, suffix: &str, has_image: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = folder_files(folder)?.iter().map(|f| file_name(f)).collect();
    names.retain(|n| n.to_ascii_lowercase().ends_with(suffix) && !has_image(n));
    Ok(match names.first() {
        Some(first) => {
            let n = names.len();
            vec![format!("{}: {n} labels have no image, the first is {first}", folder.display())]
        }
        None => Vec::new(),
    })
}
