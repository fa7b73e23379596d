//! Files and folders a user names, as a list of inputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use dinorad_io::{Format, Personal, ReadOptions, Unfollowed, Walked, dicom, npy};

use crate::{
    Dataset, Error, OpenOptions, Pixels, Result,
    files::{content_files, file_name, files_below, hash_files, relative},
    layouts::medmnist,
    listed::load,
    natural::path_order,
};

/// What one input is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputKind {
    /// One file: an image, a NIfTI volume, an array, a DICOM file without a series.
    File(Format),
    /// The slices of one DICOM series.
    Series {
        /// The folder they lie in.
        folder: PathBuf,
        /// SeriesInstanceUID; empty if the files have none.
        uid: Personal,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// One image of a MedMNIST file.
    MedMnist {
        /// Which part of the file.
        split: dinorad_core::Split,
        /// Its index there.
        index: usize,
    },
    /// Nothing that can be read.
    Bad {
        /// Why.
        reason: String,
    },
}

/// One thing to embed.
#[derive(Clone)]
#[non_exhaustive]
pub struct Input {
    /// Unique in its list, made of the path below the one the user named. Nothing from inside the
    /// file is in it.
    pub id: String,
    /// The file, or the folder of a series.
    pub path: PathBuf,
    /// What it is.
    pub kind: InputKind,
    /// The opened MedMNIST part that this input is one image of.
    dataset: Option<std::sync::Arc<dyn Dataset>>,
    /// The folder that the user named, within which the links of a series are followed.
    tree: Option<PathBuf>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Input");
        out.field("id", &self.id).field("path", &self.path).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Input {
    fn new(id: String, path: PathBuf, kind: InputKind) -> Self {
        Self { id, path, kind, dataset: None, tree: None }
    }

    /// Why this cannot be read, if that is known already.
    pub fn bad(&self) -> Option<&str> {
        if let InputKind::Bad { reason } = &self.kind { Some(reason) } else { None }
    }

    /// The pixels, in the unit of the file, axes as stored.
    ///
    /// # Errors
    /// Whatever the reader says, naming the file; [`Error::Layout`] for a bad input.
    pub fn load(&self, options: &ReadOptions) -> Result<Pixels> {
        let pixels = match (&self.kind, &self.dataset) {
            (InputKind::File(_), _) => load(&self.path, options)?,
            (InputKind::Series { folder, uid, .. }, _) => {
                let mut options = options.clone().with_series(uid);
                options.tree.clone_from(&self.tree);
                Pixels::Volume(dicom::read_series(folder, &options)?.0)
            }
            (InputKind::MedMnist { index, .. }, Some(dataset)) => dataset.sample(*index)?.pixels,
            (InputKind::Bad { reason }, _) => return Err(Error::layout(&self.path, reason)),
            (InputKind::MedMnist { .. }, None) => return Err(Error::layout(&self.path, "the file is not open")),
        };
        if !pixels.is_finite() {
            return Err(Error::NotFinite { path: self.path.clone() });
        }
        Ok(pixels)
    }

    /// BLAKE3 of the bytes that the pixels are made of.
    ///
    /// # Errors
    /// As [`Input::load`], as far as reading goes.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        let hasher = match (&self.kind, &self.dataset) {
            (InputKind::Series { files, .. }, _) => hash_files(files.iter().map(PathBuf::as_path))?,
            (InputKind::MedMnist { index, .. }, Some(dataset)) => return dataset.fingerprint(*index),
            (InputKind::Bad { reason }, _) => return Err(Error::layout(&self.path, reason)),
            _ => hash_files(content_files(&self.path)?.iter().map(PathBuf::as_path))?,
        };
        Ok(*hasher.finalize().as_bytes())
    }
}

/// Everything below the given files and folders, in order: DICOM slices grouped into series, each
/// image of a MedMNIST file by itself, every other readable file as one input. Files that cannot be
/// used (a text, an empty file) are in the list too, as [`InputKind::Bad`] with a reason. Hidden
/// files are passed over; numbers in names count as numbers. Links that are not followed (see
/// [`dinorad_io::Tree`]) are in the list, too.
///
/// # Examples
/// ```no_run
/// let inputs = dinorad_datasets::discover(&["scans".into()]);
/// for bad in inputs.iter().filter(|i| i.bad().is_some()) {
///     println!("{}: {}", bad.id, bad.bad().unwrap_or_default());
/// }
/// ```
pub fn discover(paths: &[PathBuf]) -> Vec<Input> {
    let mut out = Vec::new();
    for path in paths {
        if path.is_dir() {
            match files_below(path, path) {
                Ok(found) if found.files.is_empty() && found.passed_over.is_empty() => {
                    out.push(bad(file_name(path), path, "no files in this folder"));
                }
                Ok(found) => out.extend(folder(path, &found)),
                Err(e) => out.push(bad(file_name(path), path, &e.to_string())),
            }
        } else if path.exists() {
            out.extend(one_file(path, file_name(path), &[]));
        } else {
            out.push(bad(file_name(path), path, "does not exist"));
        }
    }
    unique(out)
}

fn bad(id: String, path: &Path, reason: &str) -> Input {
    Input::new(id, path.to_owned(), InputKind::Bad { reason: reason.to_owned() })
}

/// The inputs that the files below `root` make.
fn folder(root: &Path, found: &Walked) -> Vec<Input> {
    let files = found.files.as_slice();
    let link = |(path, why): &(PathBuf, Unfollowed)| bad(relative(path, root), path, &why.to_string());
    let mut out: Vec<Input> = found.passed_over.iter().map(link).collect();
    let mut slices: BTreeSet<PathBuf> = BTreeSet::new();
    let unfollowed: BTreeMap<&PathBuf, &Unfollowed> = found.passed_over.iter().map(|(path, why)| (path, why)).collect();
    for file in files {
        // the voxels of a header may lie behind a link that is not followed
        let voxels = content_files(file).unwrap_or_default().iter().find_map(|p| unfollowed.get(p).copied());
        if let Some(why) = voxels {
            out.push(bad(relative(file, root), file, &why.to_string()));
        } else if matches!(dinorad_io::sniff(file), Ok(Format::Dicom)) {
            slices.insert(file.clone());
        } else {
            out.extend(one_file(file, relative(file, root), files));
        }
    }
    // parents come before their sub-folders, and take the slices of their series that lie deeper
    let folders: BTreeSet<PathBuf> = slices.iter().filter_map(|f| f.parent().map(Path::to_owned)).collect();
    for folder in folders {
        out.extend(series(root, &folder, &mut slices));
    }
    out.extend(slices.iter().map(|file| {
        let reason = match dicom::DicomFile::open(file, &ReadOptions::default()) {
            Ok(_) => "a DICOM file without an image".to_owned(),
            Err(e) => reason(&e, file),
        };
        bad(relative(file, root), file, &reason)
    }));
    out.sort_by(|a, b| path_order(Path::new(&a.id), Path::new(&b.id)));
    out
}

/// The inputs of a file that is looked at by itself; `others` are the files beside it.
fn one_file(file: &Path, id: String, others: &[PathBuf]) -> Vec<Input> {
    if is_pair_voxels(file, others) {
        return Vec::new();
    }
    match dinorad_io::sniff(file) {
        Ok(Format::Npz) => npz(file, &id),
        Ok(format) => vec![Input::new(id, file.to_owned(), InputKind::File(format))],
        Err(_) if std::fs::metadata(file).is_ok_and(|m| m.len() == 0) => vec![bad(id, file, "the file is empty")],
        Err(e) => vec![bad(id, file, &reason(&e, file))],
    }
}

/// The voxels of a `.hdr`/`.img` pair are read with their header.
fn is_pair_voxels(file: &Path, files: &[PathBuf]) -> bool {
    let name = file_name(file);
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let Some(base) = plain.strip_suffix(".img") else { return false };
    let header =
        |f: &PathBuf| f.parent() == file.parent() && file_name(f).trim_end_matches(".gz") == format!("{base}.hdr");
    files.iter().any(header)
}

/// The reason without the path, which stands beside it anyway.
fn reason(error: &dyn std::fmt::Display, path: &Path) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", path.display())).map_or(text.clone(), str::to_owned)
}

/// The series that have files in this folder, with all their files below it; taken out of `slices`.
fn series(root: &Path, folder: &Path, slices: &mut BTreeSet<PathBuf>) -> Vec<Input> {
    let mut groups = Vec::new();
    for mut info in dicom::find_series(folder, &ReadOptions::default().with_tree(root)).unwrap_or_default() {
        let here = |f: &PathBuf| f.parent() == Some(folder) && slices.contains(f);
        if info.files.iter().any(here) {
            info.files.retain(|f| slices.remove(f));
            groups.push(info);
        }
    }
    let several = groups.len() > 1;
    let name = relative(folder, root);
    let base = if name.is_empty() { file_name(folder) } else { name };
    let input = |(n, info): (usize, dicom::SeriesInfo)| match info.files.as_slice() {
        // a single file is read by itself: it may be an X-ray or hold many frames
        [one] => Input::new(relative(one, root), one.clone(), InputKind::File(Format::Dicom)),
        _ => {
            let id = if several { format!("{base}/series-{}", n + 1) } else { base.clone() };
            let kind = InputKind::Series { folder: folder.to_owned(), uid: info.uid, files: info.files };
            Input { tree: Some(root.to_owned()), ..Input::new(id, folder.to_owned(), kind) }
        }
    };
    groups.into_iter().enumerate().map(input).collect()
}

/// The images of a MedMNIST file, or the one array of another npz.
fn npz(file: &Path, id: &str) -> Vec<Input> {
    let names = match npy::names(file) {
        Ok(names) => names,
        Err(e) => return vec![bad(id.to_owned(), file, &reason(&e, file))],
    };
    if !names.iter().any(|n| n.ends_with("_images")) {
        return match names.len() {
            1 => vec![Input::new(id.to_owned(), file.to_owned(), InputKind::File(Format::Npz))],
            n => {
                vec![bad(id.to_owned(), file, &format!("{n} arrays and no `…_images` among them: not a MedMNIST file"))]
            }
        };
    }
    let mut out = Vec::new();
    for split in [dinorad_core::Split::Train, dinorad_core::Split::Val, dinorad_core::Split::Test] {
        let dataset: std::sync::Arc<dyn Dataset> = match medmnist::open(file, None, split, &OpenOptions::default()) {
            Ok(dataset) => dataset.into(),
            Err(Error::NoSplit { .. }) => continue,
            Err(e) => return vec![bad(id.to_owned(), file, &reason(&e, file))],
        };
        out.extend((0..dataset.len()).map(|index| {
            let id = format!("{id}/{}", dataset.sample_id(index));
            let mut input = Input::new(id, file.to_owned(), InputKind::MedMnist { split, index });
            input.dataset = Some(std::sync::Arc::clone(&dataset));
            input
        }));
    }
    out
}

/// The same name below two of the paths gets a number.
fn unique(mut inputs: Vec<Input>) -> Vec<Input> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for input in &mut inputs {
        let n = seen.entry(input.id.clone()).or_default();
        *n += 1;
        if *n > 1 {
            input.id = format!("{}#{n}", input.id);
        }
    }
    inputs
}
