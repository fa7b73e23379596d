//! BTCV: abdominal CT.
//!
//! As downloaded: `RawData/Training/{img,label}` and `RawData/Testing/img`. Prepared, volumes:
//! `{split}/img/imgNNNN.nii.gz/<file>` and `{split}/label/labelNNNN.nii.gz/<file>`; prepared, slices:
//! `{split}/{img,label}/*.npy`. The name decides whether volumes (`btcv`) or slices (`btcv-slice`)
//! are the cases.

use std::path::{Path, PathBuf};

use dinorad_core::{Protocol, Split, Target, TaskKind};

use super::{
    DOWNLOADED, PREPARED, Traits,
    cut::{Case, cut},
    has_split_folders, home, no_layout,
    slices::{self, BTCV},
    sort,
};
use crate::{
    Dataset, Error, OpenOptions, PatientKey, Result, Rule,
    faults::Faults,
    files::{file_name, folder_files, stem, sub_folders},
    layouts::msd::check_pair,
    listed::{Answer, Entry, Mask, Prepare, Source},
};

pub(super) fn open(id: &'static str, root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let training = |f: &Path| f.join("Training").join("img").is_dir();
    let nested = [root.to_owned(), root.join("RawData"), root.join("Abdomen").join("RawData")];
    let found = match nested.into_iter().find(|f| training(f)) {
        Some(home) => Some(home),
        None => home(root, training)?,
    };
    if let Some(home) = found {
        return open_downloaded(id, root, &home, split, options);
    }
    if !has_split_folders(root) {
        let looked_for: &[&str] = match id {
            "btcv" => &["RawData/Training/img and label", "{split}/img and {split}/label with .nii.gz volumes"],
            _ => &["RawData/Training/img and label", "{split}/img and {split}/label with .npy slices"],
        };
        return Err(no_layout(root, id, looked_for));
    }
    if id == "btcv-slice" {
        return slices::open(id, root, split, options);
    }
    let (images, labels) = (root.join(split.to_string()).join("img"), root.join(split.to_string()).join("label"));
    if !images.is_dir() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: format!("no folder {split}/img") });
    }
    let found = volumes(&images, options)?;
    if found.is_empty() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: format!("{split}/img is empty") });
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
    traits(id, PREPARED).dataset(root, split, options, entries, Vec::new(), faults)
}

fn traits(id: &'static str, layout: &'static str) -> Traits {
    let (is_3d, prepare) = match id {
        "btcv" => (true, Prepare::Clamp(None, Some(600.0))),
        _ => (false, Prepare::Clamp(Some(-1024.0), Some(600.0))),
    };
    Traits { is_3d, prepare, layout, ..Traits::new(id, TaskKind::Segmentation, &BTCV) }
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

fn open_downloaded(
    id: &'static str,
    root: &Path,
    home: &Path,
    split: Split,
    options: &OpenOptions,
) -> Result<Box<dyn Dataset>> {
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
        cases.push(if id == "btcv-slice" { case.sliced(slices) } else { case });
    }
    let testing = home.join("Testing").join("img");
    if options.protocol == Protocol::Paper && id == "btcv" && testing.is_dir() {
        // the study's test part: volumes whose labels are not public; of no use to `strict`
        for path in volumes(&testing, options)? {
            let Some((entry, _)) = faults.keep(volume(&path, None, options))? else { continue };
            cases.push(Case::new(entry, usize::MAX).with_fixed(Some(Split::Test)));
        }
    }
    let entries = cut(cases, units, Rule::of("btcv").unwrap_or(Rule::EvenIsVal), split, options)?;
    traits(id, DOWNLOADED).dataset(root, split, options, entries, Vec::new(), faults)
}
