//! What is said of cases beside their features: the scale they were shown on, doubts about their values.

use std::{path::Path, sync::Arc};

use dinorad_backbone::{Backbone, LoadOptions, load};
use dinorad_core::Affine;
use dinorad_datasets::{Intensity, discover};
use dinorad_eval::{
    InputCases, Silent,
    embed::{EmbedOptions, EmbedReport, embed},
    store::FeatureStore,
};
use dinorad_io::{Limits, ReadOptions, Volume, nifti};
use dinorad_transforms::{Compose, Filter, presets};
use ndarray::Array3;

fn encoder() -> Box<dyn Backbone> {
    load(&"untrained:tiny?seed=3".parse().unwrap(), &LoadOptions::default()).unwrap().0
}

fn preprocessing(encoder: &dyn Backbone) -> Compose {
    let n = encoder.spec().normalization;
    let wide = |v: [f32; 3]| v.map(f64::from);
    presets::classification_eval(28, 28, Filter::BicubicAntialias, wide(n.mean), wide(n.std))
}

/// A scan of HU whose voxel in the corner has a value of its own.
fn scan(folder: &Path, name: &str, corner: f32) {
    let mut data = Array3::from_shape_fn((3, 20, 20), |(k, y, x)| -1000.0 + (k * 400 + y * 20 + x) as f32);
    data[[0, 0, 0]] = corner;
    nifti::write_volume(&folder.join(name), &Volume::new(data, Affine::from_spacing_mm([1.0; 3]))).unwrap();
}

fn embedded(folder: &Path, root: &Path, change: impl Fn(InputCases) -> InputCases, retry: bool) -> EmbedReport {
    let encoder = encoder();
    let cases = InputCases::new(discover(&[folder.to_owned()]), preprocessing(&*encoder));
    let options = EmbedOptions { retry_failed: retry, ..EmbedOptions::default() };
    embed(Arc::new(change(cases)), &*encoder, root, &options, &Silent).unwrap()
}

#[test]
fn padding_moves_no_feature_and_is_told() {
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    scan(folder.path(), "plain.nii.gz", -1024.0);
    scan(folder.path(), "padded.nii.gz", -3024.0);
    scan(folder.path(), "padded-more.nii.gz", -4000.0);
    let report = embedded(folder.path(), root.path(), |cases| cases, false);
    let table = report.store().unwrap().table("cls").unwrap();
    assert_eq!(table.ids, ["padded-more.nii.gz", "padded.nii.gz", "plain.nii.gz"]);
    assert_eq!(table.features.row(0), table.features.row(2));
    assert_eq!(table.features.row(1), table.features.row(2));
    // the doubt of all three is one sentence with their number
    let notices = report.doubts.notices();
    assert_eq!(
        notices,
        ["no modality is told, values below -500 were taken for HU \
             (3 cases: padded-more.nii.gz, padded.nii.gz, plain.nii.gz)"]
    );
    // each slice from its smallest to its largest value: padding moves everything
    let raw = embedded(folder.path(), root.path(), |cases| cases.with_intensity(Intensity::None), false);
    assert_ne!(raw.folder, report.folder);
    let raw = raw.store().unwrap().table("cls").unwrap();
    assert_ne!(raw.features.row(1), raw.features.row(2));
}

#[test]
fn notes_stay_with_the_features() {
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    scan(folder.path(), "a.nii.gz", -1024.0);
    let first = embedded(folder.path(), root.path(), |cases| cases, false);
    let again = embedded(folder.path(), root.path(), |cases| cases, false);
    assert_eq!((again.embedded, again.reused), (0, 1));
    assert_eq!(again.doubts, first.doubts);
    assert!(!first.doubts.notices().is_empty());
    let store = FeatureStore::open(&first.folder).unwrap();
    assert_eq!(store.notes(0).unwrap().shown.as_deref(), Some("-1024 to 600, limits of HU"));
    let (_, manifest) = FeatureStore::manifest(&first.folder).unwrap();
    let case = &manifest.sets["all"].cases[0];
    assert_eq!(case.shown.as_deref(), Some("-1024 to 600, limits of HU"));
    assert_eq!(case.doubts.len(), 1);
}

#[test]
fn what_failed_is_tried_again_when_asked() {
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    scan(folder.path(), "a.nii.gz", -1024.0);
    let small = ReadOptions::default().with_limits(Limits::default().with_voxel_bytes(1000));
    let refused = embedded(folder.path(), root.path(), |cases| cases.with_read_options(small.clone()), false);
    assert!(refused.failures[0].reason.contains("the limit is 1000"), "{:?}", refused.failures);
    let remembered = embedded(folder.path(), root.path(), |cases| cases, false);
    assert_eq!((remembered.embedded, remembered.failures.len()), (0, 1));
    let tried = embedded(folder.path(), root.path(), |cases| cases, true);
    assert_eq!((tried.embedded, tried.failures.len()), (1, 0));
    // nothing is left to try
    let done = embedded(folder.path(), root.path(), |cases| cases, true);
    assert_eq!((done.embedded, done.reused, done.failures.len()), (0, 1, 0));
}

#[test]
fn another_volume_of_a_file_is_another_case() {
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let golden = dinorad_testkit::golden().join("io/nifti/files/four_d.nii.gz");
    std::fs::copy(golden, folder.path().join("four_d.nii.gz")).unwrap();
    let whole = embedded(folder.path(), root.path(), |cases| cases, false);
    assert!(whole.failures[0].reason.contains("volumes, choose one"), "{:?}", whole.failures);
    let one = |n| {
        let options = ReadOptions::default().with_volume(n);
        let report = embedded(folder.path(), root.path(), |cases| cases.with_read_options(options.clone()), false);
        (report.embedded, report.store().unwrap().table("cls").unwrap().features)
    };
    let ((first, a), (second, b)) = (one(0), one(1));
    assert_eq!((first, second), (1, 1));
    assert_ne!(a, b);
}
