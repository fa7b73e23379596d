//! The twelve data sets of the study, in the trees its loaders read.

mod brain_tumor;
mod btcv;
mod chexpert;
mod lungs;
mod nih;
mod sars;
mod slices;

use std::path::{Path, PathBuf};

use dinorad_core::{Protocol, Split, Task, TaskKind};

use crate::{
    Dataset, Error, OpenOptions, Result,
    files::folder_files,
    layouts::msd,
    listed::{Colour, Common, Entry, Listed, Prepare, Values},
    natural::path_order,
};

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
        "btcv" => btcv::open(root, split, options),
        "sars-cov-2-ct" => sars::open(root, split, options),
        "brain-tumor" => brain_tumor::open(root, split, options),
        msd_set if msd_set.starts_with("msd-") && root.join("dataset.json").is_file() => {
            msd::open(msd_set, root, split, options)
        }
        slices => slices::open(slices, root, split, options),
    }
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
        }
    }

    fn dataset(
        self,
        split: Split,
        options: &OpenOptions,
        entries: Vec<Entry>,
        warnings: Vec<String>,
    ) -> Box<dyn Dataset> {
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
        };
        Box::new(Listed::new(common, entries))
    }
}

/// The files of a split with one suffix: by text as the study sorted them, or by number.
fn files(root: &Path, folder: &Path, suffix: &str, split: Split, options: &OpenOptions) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        let why = format!("no folder {}", folder.display());
        return Err(Error::NoSplit { path: root.to_owned(), split, why });
    }
    let mut out = folder_files(folder)?;
    out.retain(|f| f.extension().is_some_and(|e| e.eq_ignore_ascii_case(suffix)));
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

fn sort(paths: &mut [PathBuf], options: &OpenOptions) {
    match options.protocol {
        Protocol::Paper => paths.sort(),
        Protocol::Strict => paths.sort_by(|a, b| path_order(a, b)),
    }
}
