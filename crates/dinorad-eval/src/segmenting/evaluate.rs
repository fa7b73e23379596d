//! Masks of any origin beside the true ones.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use dinorad_core::{Affine, Task, TaskKind, in_full};
use dinorad_io::{Labels, ReadOptions};

use super::judged::MaskTable;
use crate::{Error, Result, store::Failure};

/// Endings of files that masks are read from.
const ENDINGS: [&str; 8] = [".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh"];
/// How far the corners of two masks may lie apart, in voxels, to be of one scan.
const APART: f64 = 0.1;

/// Judges every mask below `truth` by the one of the same name below `pred`, both turned to the closest RAS+ axes
/// first. Cases without a partner, of another shape or at another place are failures. `class_names`, background
/// first, may be empty: then as many classes are counted as there are labels.
///
/// # Errors
/// [`Error::File`] for folders that cannot be listed, [`Error::Unfit`] where nothing can be judged.
pub fn evaluate_folders(
    pred: &Path,
    truth: &Path,
    class_names: Vec<String>,
    tolerance_mm: f64,
) -> Result<(MaskTable, Vec<Failure>)> {
    let (predicted, true_ones) = (masks_of(pred)?, masks_of(truth)?);
    let mut failures = Vec::new();
    let mut pairs = Vec::new();
    for (name, path) in &true_ones {
        match predicted.get(name) {
            Some(other) => pairs.push((name, other, path)),
            None => failures.push(Failure { id: name.clone(), reason: "there is no prediction of this name".into() }),
        }
    }
    for name in predicted.keys().filter(|name| !true_ones.contains_key(*name)) {
        failures.push(Failure { id: name.clone(), reason: "there is no truth of this name".into() });
    }
    let mut class_names = class_names;
    if class_names.is_empty() {
        let mut most = 1;
        for (_, predicted, truth) in &pairs {
            for path in [predicted, truth] {
                let labels = read(path).map(|l| l.data.iter().copied().max().unwrap_or(0));
                most = most.max(labels.unwrap_or(0));
            }
        }
        class_names =
            std::iter::once("background".to_owned()).chain((1..=most).map(|c| format!("class {c}"))).collect();
    }
    let mut table = MaskTable::new(&Task { kind: TaskKind::Segmentation, class_names, is_3d: true }, tolerance_mm);
    for (name, predicted, truth) in pairs {
        let mut judge = || -> std::result::Result<(), String> {
            let (predicted, truth) = (read(predicted)?, read(truth)?);
            if predicted.data.dim() != truth.data.dim() {
                let (a, b) = (predicted.data.dim(), truth.data.dim());
                return Err(format!("the prediction is {a:?}, the truth {b:?} (slices, rows, columns)"));
            }
            let apart = apart(&predicted.affine, &truth.affine, truth.data.dim());
            if apart > APART {
                return Err(format!("prediction and truth lie {apart:.1} voxels apart in space"));
            }
            let [i, j, k] = truth.affine.spacing_mm();
            let judged = table.judge(name.as_str(), name.as_str(), (&predicted.data, &truth.data), [k, j, i]);
            judged.map(|_| ()).map_err(|e| in_full(&e))
        };
        if let Err(reason) = judge() {
            failures.push(Failure { id: name.clone(), reason });
        }
    }
    if table.cases.is_empty() {
        let why = failures.first().map_or_else(
            || format!("{}: no masks ({})", truth.display(), ENDINGS.join(", ")),
            |one| format!("nothing could be judged; {}: {}", one.id, one.reason),
        );
        return Err(Error::unfit(why));
    }
    Ok((table, failures))
}

fn read(path: &Path) -> std::result::Result<Labels, String> {
    Ok(dinorad_io::read_labels(path, &ReadOptions::default()).map_err(|e| in_full(&e))?.to_canonical())
}

/// The largest distance of a corner in one space from the same corner in the other, in voxels.
fn apart(a: &Affine, b: &Affine, (d, h, w): (usize, usize, usize)) -> f64 {
    let smallest = b.spacing_mm().into_iter().fold(f64::INFINITY, f64::min).max(f64::MIN_POSITIVE);
    let ends = |n: usize| [0.0, n.saturating_sub(1) as f64];
    let corners =
        ends(w).into_iter().flat_map(|i| ends(h).into_iter().flat_map(move |j| ends(d).map(move |k| [i, j, k])));
    let distance = |at: [f64; 3]| {
        let (x, y) = (a.apply(at), b.apply(at));
        x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
    };
    corners.map(distance).fold(0.0, f64::max) / smallest
}

/// The masks of a folder by their names without endings; what is hidden is passed over.
fn masks_of(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::file("list", folder))?;
    let mut out = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(Error::file("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let lower = name.to_lowercase();
        let ending = ENDINGS.iter().find(|ending| lower.ends_with(**ending));
        if let (Some(ending), false) = (ending, name.starts_with('.'))
            && let Some(stem) = name.get(..name.len() - ending.len())
        {
            out.insert(stem.to_owned(), entry.path());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use dinorad_io::{Volume, nifti};
    use ndarray::Array3;

    use super::*;

    fn write(folder: &Path, name: &str, mask: &Array3<u8>, affine: Affine) {
        fs::create_dir_all(folder).unwrap();
        let like = Volume::new(mask.mapv(f32::from), affine);
        nifti::write_mask(&folder.join(name), mask, &like).unwrap();
    }

    #[test]
    fn pairs_are_judged_and_the_others_are_told() {
        let root = tempfile::tempdir().unwrap();
        let (pred, truth) = (root.path().join("pred"), root.path().join("truth"));
        let mask = Array3::from_shape_fn((3, 8, 8), |(_, y, x)| u8::from(y > 3) + u8::from(y > 3 && x > 3));
        let at = |x: f64| {
            Affine::new([[2.0, 0.0, 0.0, x], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]]).unwrap()
        };
        write(&truth, "a.nii.gz", &mask, at(0.0));
        write(&pred, "a.nii", &mask, at(0.0));
        // the same voxels stored from the other side
        let turned = mask.slice(ndarray::s![.., .., ..;-1]).to_owned();
        let flipped =
            Affine::new([[-2.0, 0.0, 0.0, 14.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
                .unwrap();
        write(&truth, "flipped.nii.gz", &mask, at(0.0));
        write(&pred, "flipped.nii.gz", &turned, flipped);
        write(&truth, "moved.nii.gz", &mask, at(0.0));
        write(&pred, "moved.nii.gz", &mask, at(4.0));
        write(&truth, "alone.nii.gz", &mask, at(0.0));
        write(&pred, "stranger.nii.gz", &mask, at(0.0));
        write(&truth, "short.nii.gz", &mask, at(0.0));
        write(&pred, "short.nii.gz", &mask.slice(ndarray::s![..2, .., ..]).to_owned(), at(0.0));
        let (table, failures) = evaluate_folders(&pred, &truth, Vec::new(), 1.0).unwrap();
        assert_eq!(table.cases.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["a", "flipped"]);
        assert!(table.cases.iter().all(|case| case.dice() == Some(1.0)));
        assert_eq!(table.class_names, ["background", "class 1", "class 2"]);
        assert!((table.cases[0].classes[0].true_volume_ml - 48.0 * 6.0 / 1000.0).abs() < 1e-12);
        let told: Vec<(&str, &str)> = failures.iter().map(|f| (f.id.as_str(), f.reason.as_str())).collect();
        let has =
            |id: &str, words: &str| assert!(told.iter().any(|(i, r)| *i == id && r.contains(words)), "{id}: {told:?}");
        has("alone", "no prediction");
        has("stranger", "no truth");
        has("moved", "4.0 voxels apart");
        has("short", "(slices, rows, columns)");
        assert_eq!(failures.len(), 4);
        assert!(evaluate_folders(&pred, &root.path().join("none"), Vec::new(), 1.0).is_err());
    }
}
