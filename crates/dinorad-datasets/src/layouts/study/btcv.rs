//! BTCV: abdominal CT.
//!
//! As downloaded: `RawData/Training/{img,label}` and `RawData/Testing/img`. Prepared, volumes:
//! `{split}/img/imgNNNN.nii.gz/<file>` and `{split}/label/labelNNNN.nii.gz/<file>`; prepared, slices:
//! `{split}/{img,label}/*.npy`. The name decides whether volumes (`btcv`) or slices (`btcv-slice`)
//! are the cases.

use std::path::{Path, PathBuf};

use dinorad_core::{Protocol, Split, Target, TaskKind};

use super::{
    cut::{Case, cut},
    slices::{self, Labels},
    traits::Traits,
    tree::{DOWNLOADED, PREPARED, has_split_folders, home, no_layout, sort},
};
use crate::{
    Dataset, Error, OpenOptions, PatientKey, Result, Unit,
    faults::Faults,
    files::{file_name, folder_files, stem, sub_folders},
    info::Opening,
    layouts::msd::check_pair,
    listed::{Answer, Entry, Mask, Source},
};

/// The organs of BTCV.
pub(crate) const CLASSES: [&str; 14] = [
    "background",
    "spleen",
    "rkid",
    "lkid",
    "gall",
    "eso",
    "liver",
    "sto",
    "aorta",
    "IVC",
    "veins",
    "pancreas",
    "rad",
    "lad",
];

/// `btcv`: volumes are the cases.
pub(crate) fn open_volumes(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let Opening { split, options, .. } = *asked;
    let root = asked.folder()?;
    if let Some(home) = downloaded(root)? {
        return open_downloaded(asked, &home, Unit::Volumes);
    }
    if !has_split_folders(root) {
        let looked_for = ["RawData/Training/img and label", "{split}/img and {split}/label with .nii.gz volumes"];
        return Err(no_layout(asked, &looked_for));
    }
    let (images, labels) = (root.join(split.to_string()).join("img"), root.join(split.to_string()).join("label"));
    if !images.is_dir() {
        return Err(asked.no_split(format!("no folder {split}/img")));
    }
    let found = volumes(&images, options)?;
    if found.is_empty() {
        return Err(asked.no_split(format!("{split}/img is empty")));
    }
    let labels = match labels.is_dir() {
        true => Some(labels),
        // the labels of the challenge's test part are not public
        false if split == Split::Test => None,
        false => return Err(Error::Absent { path: labels, what: "the folder of the labels" }),
    };
    let mut faults = Faults::new(options);
    let mut entries = Vec::new();
    for path in found {
        let Some((case, _)) = faults.keep(volume(&path, labels.as_deref(), options))? else { continue };
        entries.push(case);
    }
    traits(asked, Unit::Volumes, PREPARED).dataset(asked, entries, Vec::new(), faults)
}

/// `btcv-slice`: slices are the cases, in files of their own or cut here.
pub(crate) fn open_slices(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let root = asked.folder()?;
    if let Some(home) = downloaded(root)? {
        return open_downloaded(asked, &home, Unit::Slices);
    }
    if !slices::are_below(root, Labels::BySplit) {
        let looked_for = ["RawData/Training/img and label", "{split}/img and {split}/label with .npy slices"];
        return Err(no_layout(asked, &looked_for));
    }
    slices::open(asked, Labels::BySplit)
}

/// The folder of `Training` and `Testing`.
fn downloaded(root: &Path) -> Result<Option<PathBuf>> {
    let training = |f: &Path| f.join("Training").join("img").is_dir();
    let nested = [root.to_owned(), root.join("RawData"), root.join("Abdomen").join("RawData")];
    match nested.into_iter().find(|f| training(f)) {
        Some(home) => Ok(Some(home)),
        None => home(root, training),
    }
}

fn traits(asked: &Opening, unit: Unit, layout: &'static str) -> Traits {
    let of_set = Traits::new(TaskKind::Segmentation, asked.info.classes);
    Traits { is_3d: unit == Unit::Volumes, layout, ..of_set }
}

/// Every volume of a folder: a folder that holds one file, as some archives have it, or the file.
fn volumes(folder: &Path, options: &OpenOptions) -> Result<Vec<PathBuf>> {
    let mut found = sub_folders(folder)?;
    found.extend(folder_files(folder)?);
    found.retain(|f| [".nii", ".nii.gz"].iter().any(|s| file_name(f).ends_with(s)));
    sort(&mut found, options);
    Ok(found)
}

/// The volume as a case, and its number of slices.
fn volume(path: &Path, labels: Option<&Path>, options: &OpenOptions) -> Result<(Entry, usize)> {
    let image = one_file(path)?;
    let name = stem(path);
    let patient = Some(PatientKey::of(name.trim_start_matches("img")));
    let (answer, slices) = match labels {
        Some(labels) => {
            let expected = labels.join(file_name(path).replacen("img", "label", 1));
            if !expected.exists() {
                return Err(Error::Unpaired { path: image, missing: "label", expected });
            }
            let label = one_file(&expected)?;
            let slices = check_pair(&image, None, &label, options)?;
            (Answer::Mask(Mask::Volume(label)), slices)
        }
        None => (Answer::Known(Target::Unlabelled), 0),
    };
    Ok((Entry::new(name, patient, Source::Volume { path: image, channel: None }, answer), slices))
}

fn one_file(entry: &Path) -> Result<PathBuf> {
    if entry.is_file() {
        return Ok(entry.to_owned());
    }
    match folder_files(entry)?.as_slice() {
        [one] => Ok(one.clone()),
        files => Err(Error::layout(entry, format!("wanted one file in this folder, there are {}", files.len()))),
    }
}

fn open_downloaded(asked: &Opening, home: &Path, case_unit: Unit) -> Result<Box<dyn Dataset>> {
    let Opening { info, split, options, .. } = *asked;
    let (images, labels) = (home.join("Training").join("img"), home.join("Training").join("label"));
    if !labels.is_dir() {
        return Err(Error::Absent { path: labels, what: "the folder of the labels" });
    }
    let mut faults = Faults::new(options);
    let mut cases = Vec::new();
    let training = volumes(&images, options)?;
    let units = training.len();
    for (unit, path) in training.iter().enumerate() {
        let Some((entry, slices)) = faults.keep(volume(path, Some(&labels), options))? else { continue };
        let case = Case::new(entry, unit);
        cases.push(if case_unit == Unit::Slices { case.sliced(slices) } else { case });
    }
    let testing = home.join("Testing").join("img");
    if options.protocol == Protocol::Paper && case_unit == Unit::Volumes && testing.is_dir() {
        // the study's test part: volumes whose labels are not public; of no use to `strict`
        for path in volumes(&testing, options)? {
            let Some((entry, _)) = faults.keep(volume(&path, None, options))? else { continue };
            cases.push(Case::new(entry, usize::MAX).with_fixed(Some(Split::Test)));
        }
    }
    let entries = cut(cases, units, info.split_rule.rule(), split, options)?;
    traits(asked, case_unit, DOWNLOADED).dataset(asked, entries, Vec::new(), faults)
}
