//! Lung fields: Montgomery County and Shenzhen.
//!
//! As downloaded: `CXR_png/*.png` with `ManualMask/{leftMask,rightMask}` or `mask/*_mask.png`, in
//! `MontgomerySet`, `ChinaSet_AllFiles` or any other folder; `ClinicalReadings` is not needed.
//! Prepared: `{split}/*.png` in place of `CXR_png`, and `masks` for Shenzhen.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use dinorad_core::{Split, TaskKind};

use super::{
    cut::{Case, cut},
    traits::Traits,
    tree::{DOWNLOADED, PREPARED, files, has_split_folders, has_suffix, home, no_layout, orphans},
};
use crate::{
    Colour, Dataset, Error, PatientKey, Result,
    faults::Faults,
    files::{file_name, folder_files, relative, stem, sub_folders},
    info::Opening,
    listed::{Answer, Entry, Mask, Source, Values},
};

pub(crate) const MC_CLASSES: [&str; 3] = ["background", "left_lung", "right_lung"];
pub(crate) const SHENZHEN_CLASSES: [&str; 2] = ["background", "lung"];

/// Where the pictures are downloaded to.
const PICTURES: &str = "CXR_png";

pub(crate) fn open_mc(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let root = asked.folder()?;
    let (home, layout) = match home(root, |f| f.join(PICTURES).is_dir())? {
        Some(home) => (home, DOWNLOADED),
        None if has_split_folders(root) || root.join("ManualMask").is_dir() => (root.to_owned(), PREPARED),
        None => {
            let looked_for = [
                "CXR_png/*.png with ManualMask/leftMask and ManualMask/rightMask (MontgomerySet)",
                "{split}/*.png with ManualMask/leftMask and ManualMask/rightMask",
            ];
            return Err(no_layout(asked, &looked_for));
        }
    };
    let mask = |side: &str, name: &str| home.join("ManualMask").join(side).join(name);
    let entry = |path: PathBuf| -> Result<Entry> {
        let name = file_name(&path);
        let (left, right) = (mask("leftMask", &name), mask("rightMask", &name));
        for (mask, missing) in [(&left, "left mask"), (&right, "right mask")] {
            if !mask.is_file() {
                return Err(Error::Unpaired { path, missing, expected: mask.clone() });
            }
        }
        let patient = Some(PatientKey::of(&stem(&path)));
        Ok(Entry::new(relative(&path, root), patient, Source::File(path), Answer::Mask(Mask::TwoPictures(left, right))))
    };
    let traits = Traits { colour: Colour::Gray, layout, ..Traits::new(TaskKind::Segmentation, &MC_CLASSES) };
    let known = known_pictures(&home)?;
    let mut warnings = Vec::new();
    for side in ["leftMask", "rightMask"] {
        warnings.extend(orphans(&home.join("ManualMask").join(side), ".png", |n| known.contains(n))?);
    }
    open(asked, &home, traits, &entry, |_| true, warnings)
}

pub(crate) fn open_shenzhen(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let root = asked.folder()?;
    let (home, layout) = match home(root, |f| f.join(PICTURES).is_dir())? {
        Some(home) => (home, DOWNLOADED),
        None if has_split_folders(root) || root.join("masks").is_dir() => (root.to_owned(), PREPARED),
        None => {
            let looked_for =
                ["CXR_png/*.png with mask/*_mask.png (ChinaSet_AllFiles)", "{split}/*.png with masks/*_mask.png"];
            return Err(no_layout(asked, &looked_for));
        }
    };
    // the masks are a release of their own and lie beside the pictures or beside their folder
    let masks = [&*home, root].into_iter().flat_map(|f| ["masks", "mask"].map(|m| f.join(m))).find(|f| f.is_dir());
    let Some(masks) = masks else {
        return Err(Error::Absent { path: home.join("mask"), what: "the folder of the masks" });
    };
    let mask = |path: &Path| masks.join(format!("{}_mask.png", stem(path)));
    let entry = |path: PathBuf| -> Result<Entry> {
        let mask = mask(&path);
        if !mask.is_file() {
            return Err(Error::Unpaired { path, missing: "mask", expected: mask });
        }
        let patient = Some(PatientKey::of(&stem(&path)));
        Ok(Entry::new(relative(&path, root), patient, Source::File(path), Answer::Mask(Mask::Picture(mask))))
    };
    let traits = Traits {
        colour: Colour::Rgb,
        values: Values::new(vec![0, 255]),
        layout,
        ..Traits::new(TaskKind::Segmentation, &SHENZHEN_CLASSES)
    };
    let known: BTreeSet<String> =
        known_pictures(&home)?.iter().map(|n| format!("{}_mask.png", stem(Path::new(n)))).collect();
    let warnings = orphans(&masks, ".png", |n| known.contains(n))?;
    // 566 of the 662 pictures downloaded have a mask; in a prepared tree every one has
    let has_mask = |path: &Path| layout == PREPARED || mask(path).is_file();
    open(asked, &home, traits, &entry, has_mask, warnings)
}

/// The names of all pictures, of whatever split.
fn known_pictures(home: &Path) -> Result<BTreeSet<String>> {
    let mut out = BTreeSet::new();
    for folder in sub_folders(home)? {
        let name = file_name(&folder);
        if name == PICTURES || name.parse::<Split>().is_ok() {
            out.extend(folder_files(&folder)?.iter().map(|f| file_name(f)));
        }
    }
    Ok(out)
}

/// One split of the pictures below `home`.
fn open(
    asked: &Opening,
    home: &Path,
    traits: Traits,
    entry: &dyn Fn(PathBuf) -> Result<Entry>,
    is_case: impl Fn(&Path) -> bool,
    mut warnings: Vec<String>,
) -> Result<Box<dyn Dataset>> {
    let Opening { info, split, options, .. } = *asked;
    let mut faults = Faults::new(options);
    if traits.layout == PREPARED {
        let mut entries = Vec::new();
        for path in files(asked, &home.join(split.to_string()), "png")? {
            entries.extend(faults.keep(entry(path))?);
        }
        return traits.dataset(asked, entries, warnings, faults);
    }
    let mut paths = folder_files(&home.join(PICTURES))?;
    paths.retain(|p| has_suffix(p, "png"));
    let all = paths.len();
    paths.retain(|p| is_case(p));
    if paths.len() < all {
        warnings.push(format!("{} of {all} pictures have no mask and are left out", all - paths.len()));
    }
    if paths.is_empty() {
        return Err(Error::layout(&home.join(PICTURES), format!("{all} pictures, none of them with a mask")));
    }
    let units = paths.len();
    let mut cases = Vec::new();
    for (unit, path) in paths.into_iter().enumerate() {
        // the last digit of a name: 0 normal, 1 tuberculosis
        let class = stem(&path).bytes().last().filter(|b| matches!(b, b'0' | b'1')).map(|b| usize::from(b - b'0'));
        let Some(entry) = faults.keep(entry(path))? else { continue };
        cases.push(Case::new(entry, unit).with_class(class));
    }
    let entries = cut(cases, units, info.split_rule.rule(), split, options)?;
    traits.dataset(asked, entries, warnings, faults)
}
