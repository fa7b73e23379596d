//! BTCV volumes: `{split}/img/imgNNNN.nii.gz/<file>` and `{split}/label/labelNNNN.nii.gz/<file>`.

use std::path::{Path, PathBuf};

use dinorad_core::{Split, Target, TaskKind};
use dinorad_io::nifti;

use super::{Traits, slices::BTCV, sort};
use crate::{
    Dataset, Error, OpenOptions, Result,
    files::{file_name, folder_files, stem, sub_folders},
    listed::{Answer, Entry, Mask, Prepare, Source, same_shape},
};

pub(super) fn open(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let (images, labels) = (root.join(split.to_string()).join("img"), root.join(split.to_string()).join("label"));
    if !images.is_dir() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: format!("no folder {split}/img") });
    }
    // every entry is a folder that holds one file, as downloaded, or the file itself
    let mut found = sub_folders(&images)?;
    found.extend(folder_files(&images)?);
    sort(&mut found, options);
    if found.is_empty() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: format!("{split}/img is empty") });
    }
    let mut entries = Vec::new();
    for entry in found {
        let image = one_file(&entry)?;
        let label_entry = labels.join(file_name(&entry).replacen("img", "label", 1));
        let answer = if labels.is_dir() {
            if !label_entry.exists() {
                return Err(Error::Unpaired { path: image, missing: "label", expected: label_entry });
            }
            let label = one_file(&label_entry)?;
            let dims = |p: &Path| -> Result<Vec<usize>> {
                Ok(nifti::read_header(p)?.volume_dims().iter().rev().map(|n| *n as usize).collect())
            };
            same_shape(&label, &dims(&label)?, &dims(&image)?)?;
            Answer::Mask(Mask::Volume(label))
        } else if split == Split::Test {
            Answer::Known(Target::Unlabelled) // the labels of the challenge's test part are not public
        } else {
            return Err(Error::Absent { path: labels, what: "the folder of the labels" });
        };
        let name = stem(&entry);
        entries.push(Entry {
            patient: Some(options.patient_hash(name.trim_start_matches("img"))),
            id: name,
            source: Source::Volume { path: image, channel: None },
            answer,
        });
    }
    let traits = Traits {
        is_3d: true,
        prepare: Prepare::Clamp(None, Some(600.0)),
        ..Traits::new("btcv", TaskKind::Segmentation, &BTCV)
    };
    Ok(traits.dataset(split, options, entries, Vec::new()))
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
