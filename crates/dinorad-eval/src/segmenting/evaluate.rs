//! Masks of any origin beside the true ones.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use dinorad_core::{Affine, Task, TaskKind, in_full};
use dinorad_io::{Labels, ReadOptions, image};
use dinorad_metrics::LesionOverlap;
use ndarray::{Array3, Axis};

use super::judged::{LengthUnit, MaskTable};
use crate::{Error, Result, store::Failure};

/// Endings of files that masks are read from: volumes, and pictures.
const ENDINGS: [&str; 9] = [".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", PICTURE];
/// The ending of a picture of labels.
const PICTURE: &str = ".png";
/// How far the corners of two masks may lie apart, in voxels, to be of one scan.
const APART: f64 = 0.1;

/// How masks of any origin are judged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MaskJudgement {
    /// Background first; none: as many classes are counted as there are labels.
    pub class_names: Vec<String>,
    /// Tolerance of the surface Dice: mm of volumes, pixels of pictures.
    pub tolerance: f64,
    /// Whether lesions are counted, and how much of one must be covered.
    pub lesions: Option<LesionOverlap>,
}

/// What came of two folders of masks.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedFolders {
    /// Volumes, in mm; no case where there are none.
    pub volumes: MaskTable,
    /// Pictures, in pixels; no case where there are none.
    pub pictures: MaskTable,
    /// What could not be judged.
    pub failures: Vec<Failure>,
}

impl JudgedFolders {
    /// The tables that have a case, volumes first; there is at least one.
    pub fn tables(&self) -> Vec<&MaskTable> {
        [&self.volumes, &self.pictures].into_iter().filter(|table| !table.cases.is_empty()).collect()
    }
}

/// A mask as it was read.
enum Mask {
    /// With a place.
    Volume(Labels),
    /// One slice without.
    Picture(Array3<u8>),
}

impl Mask {
    fn data(&self) -> &Array3<u8> {
        match self {
            Mask::Volume(labels) => &labels.data,
            Mask::Picture(labels) => labels,
        }
    }
}

/// Judges every mask of `truth` by the one of the same name in `pred`, whatever their endings: volumes (NIfTI, NRRD,
/// MetaImage, MGH), both turned to the closest RAS+ axes first, in mm; label pictures (PNG, gray or indices of a
/// palette) in pixels. Cases without a partner, of another shape or at another place are failures.
///
/// # Errors
/// [`Error::File`] for folders that cannot be listed, [`Error::Unfit`] where nothing can be judged.
pub fn evaluate_folders(pred: &Path, truth: &Path, how: MaskJudgement) -> Result<JudgedFolders> {
    let (predicted, true_ones) = (masks_of(pred)?, masks_of(truth)?);
    let mut failures = Vec::new();
    let mut pairs = Vec::new();
    for (name, files) in &true_ones {
        let failure = |reason: String| Failure { id: name.clone(), reason };
        match (predicted.get(name).map(Vec::as_slice), files.as_slice()) {
            (None, _) => failures.push(failure("there is no prediction of this name".into())),
            (Some([other]), [path]) => pairs.push((name, other, path)),
            (Some(others), paths) => {
                let (which, several) = if paths.len() > 1 { ("truths", paths) } else { ("predictions", others) };
                let names: Vec<_> = several.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy()).collect();
                failures.push(failure(format!("there are several {which} of this name: {}", names.join(", "))));
            }
        }
    }
    for name in predicted.keys().filter(|name| !true_ones.contains_key(*name)) {
        failures.push(Failure { id: name.clone(), reason: "there is no truth of this name".into() });
    }
    let MaskJudgement { mut class_names, tolerance, lesions } = how;
    if class_names.is_empty() {
        let mut most = 1;
        for (_, predicted, truth) in &pairs {
            for path in [predicted, truth] {
                let labels = read(path).map(|mask| mask.data().iter().copied().max().unwrap_or(0));
                most = most.max(labels.unwrap_or(0));
            }
        }
        class_names =
            std::iter::once("background".to_owned()).chain((1..=most).map(|c| format!("class {c}"))).collect();
    }
    let table = |class_names, is_3d, unit| {
        let task = Task { kind: TaskKind::Segmentation, class_names, is_3d };
        MaskTable::new(&task, tolerance).with_unit(unit).with_lesions(lesions)
    };
    let mut out = JudgedFolders {
        volumes: table(class_names.clone(), true, LengthUnit::Millimetres),
        pictures: table(class_names, false, LengthUnit::Pixels),
        failures: Vec::new(),
    };
    for (name, predicted, truth) in pairs {
        let mut judge = || -> std::result::Result<(), String> {
            let (predicted, truth) = (read(predicted)?, read(truth)?);
            let (a, b) = (predicted.data().dim(), truth.data().dim());
            let (table, spacing) = match (&predicted, &truth) {
                (Mask::Volume(predicted), Mask::Volume(truth)) => {
                    same_shape(a, b)?;
                    let apart = apart(&predicted.affine, &truth.affine, truth.data.dim());
                    if apart > APART {
                        return Err(format!("prediction and truth lie {apart:.1} voxels apart in space"));
                    }
                    let [i, j, k] = truth.affine.spacing_mm();
                    (&mut out.volumes, [k, j, i])
                }
                (Mask::Picture(_), Mask::Picture(_)) => {
                    same_shape(a, b)?;
                    (&mut out.pictures, [1.0; 3])
                }
                (Mask::Volume(_), Mask::Picture(_)) => {
                    return Err("the prediction is a volume, the truth a picture".into());
                }
                (Mask::Picture(_), Mask::Volume(_)) => {
                    return Err("the prediction is a picture, the truth a volume".into());
                }
            };
            let judged = table.judge(name.as_str(), name.as_str(), (predicted.data(), truth.data()), spacing);
            judged.map(|_| ()).map_err(|e| in_full(&e))
        };
        if let Err(reason) = judge() {
            failures.push(Failure { id: name.clone(), reason });
        }
    }
    if out.tables().is_empty() {
        let why = failures.first().map_or_else(
            || format!("{}: no masks ({})", truth.display(), ENDINGS.join(", ")),
            |one| format!("nothing could be judged; {}: {}", one.id, one.reason),
        );
        return Err(Error::unfit(why));
    }
    Ok(JudgedFolders { failures, ..out })
}

fn same_shape(a: (usize, usize, usize), b: (usize, usize, usize)) -> std::result::Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("the prediction is {a:?}, the truth {b:?} (slices, rows, columns)")) }
}

fn read(path: &Path) -> std::result::Result<Mask, String> {
    let options = ReadOptions::default();
    let picture = path.to_string_lossy().to_lowercase().ends_with(PICTURE);
    let mask = match picture {
        true => image::read_labels(path, &options).map(|labels| Mask::Picture(labels.insert_axis(Axis(0)))),
        false => dinorad_io::read_labels(path, &options).map(|labels| Mask::Volume(labels.to_canonical())),
    };
    mask.map_err(|e| in_full(&e))
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

/// The masks of a folder by their names without endings, in order; what is hidden is passed over.
fn masks_of(folder: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let entries = fs::read_dir(folder).map_err(Error::file("list", folder))?;
    let mut out: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(Error::file("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let lower = name.to_lowercase();
        let ending = ENDINGS.iter().find(|ending| lower.ends_with(**ending));
        if let (Some(ending), false) = (ending, name.starts_with('.'))
            && let Some(stem) = name.get(..name.len() - ending.len())
        {
            out.entry(stem.to_owned()).or_default().push(entry.path());
        }
    }
    out.values_mut().for_each(|files| files.sort());
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
        let how = || MaskJudgement { tolerance: 1.0, ..MaskJudgement::default() };
        let JudgedFolders { volumes: table, failures, pictures } = evaluate_folders(&pred, &truth, how()).unwrap();
        assert!(pictures.cases.is_empty());
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
        assert!(evaluate_folders(&pred, &root.path().join("none"), how()).is_err());
    }
    #[test]
    fn pictures_are_judged_in_pixels_beside_volumes() {
        let root = tempfile::tempdir().unwrap();
        let (pred, truth) = (root.path().join("pred"), root.path().join("truth"));
        let mask = Array3::from_shape_fn((2, 8, 8), |(_, y, x)| u8::from(y > 3 && x > 3));
        write(&truth, "scan.nii.gz", &mask, Affine::from_spacing_mm([1.0, 1.0, 3.0]));
        write(&pred, "scan.nii.gz", &mask, Affine::from_spacing_mm([1.0, 1.0, 3.0]));
        let png = |folder: &Path, name: &str, plane: ndarray::Array2<u8>| {
            fs::write(folder.join(name), image::labels_as_png(plane.view()).unwrap()).unwrap();
        };
        let square = |top: usize| {
            ndarray::Array2::from_shape_fn((20, 24), |(y, x)| {
                u8::from((top..top + 8).contains(&y) && (4..12).contains(&x))
            })
        };
        png(&truth, "moved.png", square(4));
        png(&pred, "moved.png", square(7));
        png(&truth, "size.png", square(4));
        png(&pred, "size.png", square(4).slice(ndarray::s![..19, ..]).to_owned());
        png(&truth, "kind.png", square(4));
        write(&pred, "kind.nii", &mask, Affine::identity());
        png(&truth, "twice.png", square(4));
        png(&pred, "twice.png", square(4));
        write(&pred, "twice.nii", &mask, Affine::identity());
        fs::write(truth.join("broken.png"), b"no picture").unwrap();
        png(&pred, "broken.png", square(4));
        let how = MaskJudgement { tolerance: 1.0, lesions: Some(LesionOverlap::ANY), ..MaskJudgement::default() };
        let judged = evaluate_folders(&pred, &truth, how).unwrap();
        assert_eq!(judged.tables().len(), 2);
        let [scan] = judged.volumes.cases.as_slice() else { panic!("{:?}", judged.volumes) };
        assert_eq!((scan.id.as_str(), scan.dice()), ("scan", Some(1.0)));
        let [moved] = judged.pictures.cases.as_slice() else { panic!("{:?}", judged.pictures) };
        // three rows of eight pixels up
        assert_eq!((moved.dice(), moved.classes[0].hd95_mm), (Some(0.625), Some(3.0)));
        assert_eq!(judged.pictures.lesions().unwrap()[0].true_positives, 1);
        let reasons: BTreeMap<&str, &str> =
            judged.failures.iter().map(|f| (f.id.as_str(), f.reason.as_str())).collect();
        assert!(reasons["size"].contains("(1, 19, 24), the truth (1, 20, 24)"), "{reasons:?}");
        assert!(reasons["kind"].contains("the prediction is a volume, the truth a picture"), "{reasons:?}");
        assert!(reasons["twice"].contains("several predictions of this name: twice.nii, twice.png"), "{reasons:?}");
        assert!(reasons["broken"].contains("content is not"), "{reasons:?}");
        assert_eq!(reasons.len(), 4);
    }
}
