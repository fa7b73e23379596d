//! SARS-CoV-2 CT.
//!
//! As downloaded: a folder for every class, `Covid` (or `COVID`) against `non-COVID` or `Healthy`
//! and `Others`. In the multiclass release a class holds a folder of slices for every patient, and
//! patients are the cases; in the older one it holds single pictures whose patients are not known,
//! and pictures are the cases. Prepared: `{split}/<patient>/<n>.png`.

use std::path::{Path, PathBuf};

use dinorad_core::{Target, TaskKind};

use super::{
    cut::{Case, cut},
    traits::Traits,
    tree::{DOWNLOADED, PREPARED, files, has_split_folders, has_suffix, home, no_layout, sort},
};
use crate::{
    Colour, Dataset, Error, PatientKey, Result,
    faults::Faults,
    files::{file_name, folder_files, relative, sub_folders},
    info::Opening,
    listed::{Answer, Entry, Source},
    natural::path_order,
};

pub(crate) const CLASSES: [&str; 2] = ["Negative", "Positive"];

/// Patients up to this number are positive.
const LAST_POSITIVE: u64 = 79;

pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let root = asked.folder()?;
    let classes = |f: &Path| -> bool {
        let names: Vec<bool> = class_folders(f).iter().map(|(_, positive)| *positive).collect();
        names.contains(&true) && names.contains(&false)
    };
    if let Some(home) = home(root, classes)? {
        return open_downloaded(asked, &home);
    }
    if has_split_folders(root) {
        return open_prepared(asked);
    }
    let looked_for = [
        "folders Covid, Healthy and Others with a folder for every patient",
        "folders COVID and non-COVID with pictures",
        "{split}/PATIENT/*.png",
    ];
    Err(no_layout(asked, &looked_for))
}

fn traits(is_3d: bool, layout: &'static str) -> Traits {
    let of_set = Traits::new(TaskKind::Binary, &CLASSES);
    Traits { is_3d, colour: Colour::Rgb, layout, ..of_set }
}

fn open_prepared(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let Opening { root, split, options, .. } = *asked;
    let part = root.join(split.to_string());
    if !part.is_dir() {
        return Err(asked.no_split(format!("no folder {split}")));
    }
    let mut folders = sub_folders(&part)?;
    sort(&mut folders, options);
    let mut faults = Faults::new(options);
    let mut entries = Vec::new();
    let entry = |folder: &Path| -> Result<Entry> {
        let number: u64 = file_name(folder)
            .parse()
            .map_err(|_| Error::layout(folder, "the name of a patient's folder is not a number"))?;
        let pictures = match files(asked, folder, "png") {
            Err(Error::NoSplit { .. }) => return Err(Error::layout(folder, "a patient without slices")),
            other => other?,
        };
        let patient = Some(PatientKey::of(&number.to_string()));
        let target = Target::Class(usize::from(number <= LAST_POSITIVE));
        Ok(Entry::new(relative(folder, root), patient, Source::Pictures(pictures), Answer::Known(target)))
    };
    for folder in folders {
        entries.extend(faults.keep(entry(&folder))?);
    }
    traits(true, PREPARED).dataset(asked, entries, Vec::new(), faults)
}

/// The folders named after classes, and whether theirs is the positive one; positives first.
fn class_folders(folder: &Path) -> Vec<(PathBuf, bool)> {
    let class = |f: &Path| -> Option<bool> {
        let name: String = file_name(f).to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        match name.as_str() {
            "covid" | "covid19" => Some(true),
            "noncovid" | "noncovid19" | "healthy" | "normal" | "others" | "other" => Some(false),
            _ => None,
        }
    };
    let mut out: Vec<(PathBuf, bool)> =
        sub_folders(folder).unwrap_or_default().into_iter().filter_map(|f| class(&f).map(|c| (f, c))).collect();
    out.sort_by_key(|(_, positive)| !positive);
    out
}

fn is_picture(file: &Path) -> bool {
    ["png", "jpg", "jpeg"].iter().any(|s| has_suffix(file, s))
}

fn open_downloaded(asked: &Opening, home: &Path) -> Result<Box<dyn Dataset>> {
    let Opening { info, root, split, options, .. } = *asked;
    let mut faults = Faults::new(options);
    let mut cases: Vec<Case> = Vec::new();
    let (mut units, mut by_patient, mut single) = (0, false, false);
    for (folder, positive) in class_folders(home) {
        let answer = || Answer::Known(Target::Class(usize::from(positive)));
        let mut patients = sub_folders(&folder)?;
        patients.sort_by(|a, b| path_order(a, b));
        let mut pictures: Vec<PathBuf> = folder_files(&folder)?.into_iter().filter(|f| is_picture(f)).collect();
        pictures.sort_by(|a, b| path_order(a, b));
        by_patient |= !patients.is_empty();
        single |= !pictures.is_empty();
        for patient in patients {
            units += 1;
            let mut slices: Vec<PathBuf> = folder_files(&patient)?.into_iter().filter(|f| is_picture(f)).collect();
            sort(&mut slices, options);
            let id = relative(&patient, root);
            let found =
                if slices.is_empty() { Err(Error::layout(&patient, "a patient without slices")) } else { Ok(slices) };
            let Some(slices) = faults.keep(found)? else { continue };
            // the folders of every class are numbered from 1: the class is part of the name
            let hash = Some(PatientKey::of(&id));
            cases.push(Case::new(Entry::new(id, hash, Source::Pictures(slices), answer()), units - 1));
        }
        for picture in pictures {
            units += 1;
            cases.push(Case::new(
                Entry::new(relative(&picture, root), None, Source::File(picture), answer()),
                units - 1,
            ));
        }
    }
    if by_patient && single {
        return Err(Error::layout(home, "pictures beside folders of patients: wanted one or the other"));
    }
    let mut warnings = Vec::new();
    if single {
        let what = "the pictures do not tell whose they are: slices of a patient may be in several splits";
        warnings.push(what.to_owned());
    }
    let entries = cut(cases, units, info.split_rule.rule(), split, options)?;
    traits(by_patient, DOWNLOADED).dataset(asked, entries, warnings, faults)
}
