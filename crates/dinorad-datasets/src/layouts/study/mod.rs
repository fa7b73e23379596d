//! The twelve data sets of the study, as downloaded and in the trees its loaders read.
//!
//! Every file here knows both forms of its set; which one lies under a root is seen from its files.

mod amos;
mod brain_tumor;
mod btcv;
mod chexpert;
mod cut;
mod lungs;
mod nih;
mod sars;
mod slices;

pub(crate) use self::{
    brain_tumor::CLASSES as BRAIN_TUMOR_CLASSES,
    chexpert::CLASSES as CHEXPERT_CLASSES,
    lungs::{MC_CLASSES, SHENZHEN_CLASSES},
    nih::CLASSES as NIH_CLASSES,
    sars::CLASSES as SARS_CLASSES,
    slices::{
        AMOS as AMOS_CLASSES, BTCV as BTCV_CLASSES, HEART as HEART_CLASSES, HIPPOCAMPUS as HIPPOCAMPUS_CLASSES,
        SPLEEN as SPLEEN_CLASSES,
    },
};

use std::path::{Path, PathBuf};

use dinorad_core::{Protocol, Split, Task, TaskKind};

use crate::{
    Dataset, Error, OpenOptions, Result,
    faults::Faults,
    files::{file_name, folder_files, sub_folders},
    layouts::msd,
    listed::{Colour, Common, Entry, Listed, Prepare, Values},
    natural::path_order,
};

/// A tree made for the study's loaders.
const PREPARED: &str = "prepared for the study";
/// What the publisher's archive unpacks to.
const DOWNLOADED: &str = "as downloaded";

/// Opens one of the study's data sets by its registry name.
pub(crate) fn open(name: &'static str, root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    if !root.is_dir() {
        return Err(Error::Absent { path: root.to_owned(), what: "the folder of the data set" });
    }
    match name {
        "nih" => nih::open(root, split, options),
        "chexpert" => chexpert::open(root, split, options),
        "mc" => lungs::open_mc(root, split, options),
        "shenzhen" => lungs::open_shenzhen(root, split, options),
        "btcv" | "btcv-slice" => btcv::open(name, root, split, options),
        "sars-cov-2-ct" => sars::open(root, split, options),
        "brain-tumor" => brain_tumor::open(root, split, options),
        "amos" => amos::open(root, split, options),
        _ => match home(root, |f| f.join("dataset.json").is_file())? {
            Some(home) => msd::open(name, &home, split, options),
            None if slices::is_prepared(name, root) => slices::open(name, root, split, options),
            None if root.join("imagesTr").is_dir() => msd::open(name, root, split, options),
            None => Err(no_layout(
                root,
                name,
                &["dataset.json with imagesTr/ and labelsTr/", "train/, val/, test/ of .npy slices with labels/"],
            )),
        },
    }
}

/// `root`, or the only folder directly below it that looks like the data set.
fn home(root: &Path, is: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>> {
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
fn has_split_folders(root: &Path) -> bool {
    ["train", "val", "test"].iter().any(|s| root.join(s).is_dir())
}

fn no_layout(root: &Path, dataset: &'static str, looked_for: &[&'static str]) -> Error {
    Error::NoLayout { path: root.to_owned(), dataset, looked_for: looked_for.to_vec() }
}

/// What the sets differ in, besides their files.
struct Traits {
    id: &'static str,
    kind: TaskKind,
    classes: Vec<String>,
    is_3d: bool,
    values: Values,
    colour: Colour,
    prepare: Prepare,
    layout: &'static str,
}

impl Traits {
    fn new(id: &'static str, kind: TaskKind, classes: &[&str]) -> Self {
        Traits {
            id,
            kind,
            classes: classes.iter().map(|c| (*c).to_owned()).collect(),
            is_3d: false,
            values: Values::plain(classes.len()),
            colour: Colour::AsStored,
            prepare: Prepare::Nothing,
            layout: PREPARED,
        }
    }

    /// The data set of these cases; an error if there is none.
    fn dataset(
        self,
        root: &Path,
        split: Split,
        options: &OpenOptions,
        entries: Vec<Entry>,
        warnings: Vec<String>,
        faults: Faults,
    ) -> Result<Box<dyn Dataset>> {
        let left_out = faults.unless_empty(entries.len())?;
        if entries.is_empty() {
            return Err(Error::NoSplit { path: root.to_owned(), split, why: "no case belongs to it".into() });
        }
        let task = Task { kind: self.kind, class_names: self.classes, is_3d: self.is_3d };
        let common = Common {
            id: self.id.to_owned(),
            task,
            split,
            values: self.values,
            colour: self.colour,
            prepare: self.prepare,
            options: options.clone(),
            warnings,
            left_out,
            layout: self.layout,
        };
        Ok(Box::new(Listed::new(common, entries)?))
    }
}

/// The files of a split with one suffix: by text as the study sorted them, or by number.
fn files(root: &Path, folder: &Path, suffix: &str, split: Split, options: &OpenOptions) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        let why = format!("no folder {}", folder.display());
        return Err(Error::NoSplit { path: root.to_owned(), split, why });
    }
    let mut out = folder_files(folder)?;
    out.retain(|f| has_suffix(f, suffix));
    if out.is_empty() {
        return Err(Error::NoSplit {
            path: root.to_owned(),
            split,
            why: format!("no .{suffix} files in {}", folder.display()),
        });
    }
    sort(&mut out, options);
    Ok(out)
}

fn has_suffix(file: &Path, suffix: &str) -> bool {
    file.extension().is_some_and(|e| e.eq_ignore_ascii_case(suffix))
}

fn sort(paths: &mut [PathBuf], options: &OpenOptions) {
    match options.protocol {
        Protocol::Paper => paths.sort(),
        Protocol::Strict => paths.sort_by(|a, b| path_order(a, b)),
    }
}

/// Labels in `folder` whose image is in none of `images`: said once, with the first name.
fn orphans(folder: &Path, suffix: &str, has_image: impl Fn(&str) -> bool) -> Result<Vec<String>> {
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
