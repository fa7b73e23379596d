//! A case is embedded once: found again by `embed`, as an input or out of a data set, in any order.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use dinorad_backbone::{Backbone, LoadOptions, Patches, Request, load};
use dinorad_core::{Orientation, Protocol, Split, method::TokenLayout, method::View};
use dinorad_datasets::{Dataset, OpenOptions, Unit, discover, discover_inputs, open};
use dinorad_eval::{
    Cases, DatasetCases, InputCases, Settings, Silent,
    embed::{EmbedOptions, EmbedReport, PatchTokens, Slices, embed},
    row_layout::{Aggregation, RowLayout},
    store::FeatureStore,
};
use dinorad_transforms::{Compose, Filter, Shift, presets};

fn encoder(seed: u64) -> Box<dyn Backbone> {
    load(&format!("untrained:tiny?seed={seed}").parse().unwrap(), &LoadOptions::default()).unwrap().0
}

fn pixels() -> Compose {
    presets::classification_eval(28, 28, Filter::BicubicAntialias, presets::IMAGENET_MEAN, presets::IMAGENET_STD)
}

/// `n` different pictures of two classes, three parts of a data set: `train/a/000.png` …
fn pictures(root: &Path, n: usize) {
    for i in 0..n {
        let part = ["train", "train", "train", "val", "test"][i % 5];
        let folder = root.join(part).join(["a", "b"][i / 5 % 2]);
        fs::create_dir_all(&folder).unwrap();
        let shade = |x: u32, y: u32| image::Luma([(x * (i as u32 + 3) + y * y) as u8]);
        image::GrayImage::from_fn(32, 30, shade).save(folder.join(format!("{i:03}.png"))).unwrap();
    }
}

fn splits(root: &Path, protocol: Protocol) -> Vec<Arc<dyn Dataset>> {
    let options = OpenOptions::default().with_unit(Unit::Volumes).with_protocol(protocol);
    [Split::Train, Split::Val, Split::Test]
        .map(|split| open("image-folder", root, split, &options).unwrap().into())
        .into()
}

fn run(cases: impl Cases + 'static, encoder: &dyn Backbone, root: &Path, options: &EmbedOptions) -> EmbedReport {
    embed(Arc::new(cases), encoder, root, options, &Silent).unwrap()
}

fn inputs(folder: &Path) -> InputCases {
    InputCases::of(discover_inputs(&[folder.to_owned()]), pixels())
}

fn all_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), fs::read(p).unwrap())).collect()
}

#[test]
fn embedded_files_are_found_as_a_data_set_and_the_other_way_round() {
    let (data, encoder) = (tempfile::tempdir().unwrap(), encoder(1));
    pictures(data.path(), 40);
    let options = EmbedOptions { shard_size: 16, ..EmbedOptions::default() };
    for files_first in [true, false] {
        let store = tempfile::tempdir().unwrap();
        let files = |set: &str| {
            let options = EmbedOptions { set: set.into(), ..options.clone() };
            run(inputs(data.path()), &*encoder, store.path(), &options)
        };
        let parts = || {
            splits(data.path(), Protocol::Strict)
                .into_iter()
                .map(|set| {
                    let options = EmbedOptions { set: set.split().to_string(), ..options.clone() };
                    run(DatasetCases::new(set, pixels()).with_root(data.path()), &*encoder, store.path(), &options)
                })
                .collect::<Vec<_>>()
        };
        let (new, found) = match files_first {
            true => (vec![files("files")], parts()),
            false => (parts(), vec![files("files")]),
        };
        assert_eq!(new.iter().map(|r| r.embedded).sum::<usize>(), 40);
        assert_eq!(found.iter().map(|r| (r.embedded, r.images)).max(), Some((0, 0)), "files first: {files_first}");
        assert_eq!(found.iter().map(|r| r.reused).sum::<usize>(), 40);
        // the same pictures by either way have the same features
        let by_file = FeatureStore::open_set(&new[0].folder, "files").unwrap();
        let table = by_file.table("cls").unwrap();
        assert_eq!(table.ids[0], "test/a/004.png");
        let test = FeatureStore::open_set(&new[0].folder, "test").unwrap().table("cls").unwrap();
        assert_eq!(test.features.row(0), table.features.row(0));
        let item = by_file.items().iter().find(|item| item.id == "test/a/004.png").unwrap();
        assert_eq!(item.source.as_deref(), Some("test/a/004.png"));
        // all of it once more embeds nothing and changes nothing
        let before = all_files(&new[0].folder);
        assert_eq!(files("files").embedded + parts().iter().map(|r| r.embedded).sum::<usize>(), 0);
        assert_eq!(all_files(&new[0].folder), before);

        // one file more: one case
        let added = data.path().join("train/b/new.png");
        image::GrayImage::from_fn(32, 30, |x, y| image::Luma([(x ^ y) as u8])).save(&added).unwrap();
        let report = files("files");
        assert_eq!((report.embedded, report.images, report.reused), (1, 1, 40));
        assert_eq!(parts()[0].embedded, 0);
        fs::remove_file(&added).unwrap();
        // one renamed: none; and a copy of one: none
        fs::rename(data.path().join("test/a/004.png"), data.path().join("test/b/moved.png")).unwrap();
        fs::copy(data.path().join("val/a/003.png"), data.path().join("val/b/copy.png")).unwrap();
        let report = files("files");
        assert_eq!((report.embedded, report.reused), (0, 41));
        fs::rename(data.path().join("test/b/moved.png"), data.path().join("test/a/004.png")).unwrap();
        fs::remove_file(data.path().join("val/b/copy.png")).unwrap();
    }
}

#[test]
fn what_changes_numbers_has_a_store_of_its_own() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    pictures(data.path(), 10);
    let (one, two) = (encoder(1), encoder(2));
    let options = EmbedOptions::default();
    let mut folders = std::collections::BTreeSet::new();
    let mut count = |report: EmbedReport, new: bool| {
        assert_eq!(report.embedded > 0, new, "{report:?}");
        assert_eq!(folders.insert(report.folder.clone()), new);
    };
    let train = || splits(data.path(), Protocol::Strict).remove(0);
    let shifted = || Shift::Blur.applied(3, &pixels()).unwrap();
    let random = || Shift::Noise.applied(2, &pixels()).unwrap();
    count(run(inputs(data.path()), &*one, store.path(), &options), true);
    count(run(inputs(data.path()), &*two, store.path(), &options), true);
    count(run(DatasetCases::new(train(), pixels()), &*one, store.path(), &options), false);
    count(run(DatasetCases::new(train(), shifted()), &*one, store.path(), &options), true);
    for (seed, pass) in [(0, 0), (0, 1), (1, 0)] {
        let view = || DatasetCases::new(train(), random()).with_view(View { seed, pass });
        count(run(view(), &*one, store.path(), &options), true);
        count(run(view(), &*one, store.path(), &options), false);
    }
    // a seed without anything random is none
    let seeded = DatasetCases::new(train(), pixels()).with_view(View { seed: 7, pass: 0 });
    count(run(seeded, &*one, store.path(), &options), false);
    let f16 = load(&"untrained:tiny?seed=1".parse().unwrap(), &LoadOptions::default().with_dtype(candle::DType::BF16));
    count(run(inputs(data.path()), &*f16.unwrap().0, store.path(), &options), true);
}

#[test]
fn a_view_goes_by_the_content_not_by_the_place() {
    let data = tempfile::tempdir().unwrap();
    pictures(data.path(), 10);
    let cases = |n| InputCases::of(discover_inputs(&[data.path().to_owned()]), n).with_view(View { seed: 4, pass: 0 });
    let random = Shift::Noise.applied(2, &pixels()).unwrap();
    let before = cases(random.clone());
    let at = |cases: &InputCases, id: &str| cases.inputs().iter().position(|i| i.id == id).unwrap();
    let id = "val/b/008.png";
    let (place, seen) = (at(&before, id), before.load(at(&before, id)).unwrap());
    fs::remove_file(data.path().join("test/a/004.png")).unwrap();
    let after = cases(random);
    assert_ne!(at(&after, id), place);
    assert_eq!(after.load(at(&after, id)).unwrap(), seen);
    let other = after.load(at(&after, "train/a/000.png")).unwrap();
    assert_eq!(other.slices[0].dim(), seen.slices[0].dim());
}

#[test]
fn a_store_that_holds_more_serves_who_needs_less() {
    let (data, store, encoder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), encoder(1));
    pictures(data.path(), 10);
    let all = EmbedOptions { request: Request::last(3).with_patches(Patches::Tokens), ..EmbedOptions::default() };
    let rich = EmbedOptions { slices: Slices::Keep, patch_tokens: PatchTokens::All, ..all };
    let report = run(inputs(data.path()), &*encoder, store.path(), &rich);
    assert_eq!(report.embedded, 10);
    let needs = |blocks, avgpool, aggregate| RowLayout { tokens: TokenLayout { blocks, avgpool }, aggregate };
    for layout in [
        needs(1, false, Aggregation::Mean),
        needs(3, true, Aggregation::Mean),
        needs(2, true, Aggregation::Max),
        needs(1, false, Aggregation::Attention),
    ] {
        let set = splits(data.path(), Protocol::Strict).remove(0);
        let options = layout.embed_options(EmbedOptions::default());
        let report = run(DatasetCases::new(Arc::clone(&set), pixels()), &*encoder, store.path(), &options);
        assert_eq!((report.embedded, report.reused), (0, 6), "{layout:?}");
        let labelled = layout.labelled(&report.store().unwrap(), encoder.spec(), &*set).unwrap();
        // and are what an encoding for this alone gives
        let own = tempfile::tempdir().unwrap();
        let fresh = run(DatasetCases::new(Arc::clone(&set), pixels()), &*encoder, own.path(), &options);
        assert_eq!(fresh.embedded, 6);
        let fresh = layout.labelled(&fresh.store().unwrap(), encoder.spec(), &*set).unwrap();
        assert_eq!(labelled.features, fresh.features, "{layout:?}");
    }
    // who needs more embeds anew, once, and what others needed stays served
    let plain = tempfile::tempdir().unwrap();
    assert_eq!(run(inputs(data.path()), &*encoder, plain.path(), &EmbedOptions::default()).embedded, 10);
    assert_eq!(run(inputs(data.path()), &*encoder, plain.path(), &rich).embedded, 10);
    assert_eq!(run(inputs(data.path()), &*encoder, plain.path(), &rich).embedded, 0);
    assert_eq!(run(inputs(data.path()), &*encoder, plain.path(), &EmbedOptions::default()).embedded, 0);
}

/// A volume of 5 slices of 12 x 10 voxels as NIfTI, off the canonical axes.
fn volume(path: &Path, seed: usize) {
    let data = ndarray::Array3::from_shape_fn((5, 12, 10), |(k, j, i)| ((k * 7 + j * 3 + i * (seed + 1)) % 50) as f32);
    let affine = dinorad_core::Affine::new([
        [-1.0, 0.0, 0.0, 10.0],
        [0.0, 0.0, 2.0, 3.0],
        [0.0, 1.0, 0.0, -4.0],
        [0.0, 0.0, 0.0, 1.0],
    ])
    .unwrap();
    dinorad_io::nifti::write_volume(path, &dinorad_io::Volume::new(data, affine)).unwrap();
}

#[test]
fn volumes_are_shared_too_whatever_the_axes() {
    let (data, encoder) = (tempfile::tempdir().unwrap(), encoder(1));
    let mut table = "path,label,split\n".to_owned();
    for i in 0..6 {
        volume(&data.path().join(format!("scan-{i}.nii")), i);
        table +=
            &format!("scan-{i}.nii,{},{}\n", ["x", "y"][i % 2], ["train", "train", "val", "val", "test", "test"][i]);
    }
    fs::write(data.path().join("table.csv"), table).unwrap();
    for orientation in [Orientation::Canonical, Orientation::AsStored] {
        for step in [1, 2] {
            let store = tempfile::tempdir().unwrap();
            let options = OpenOptions::default().with_unit(Unit::Volumes).with_orientation(orientation);
            let sets = [Split::Train, Split::Val, Split::Test]
                .map(|split| Arc::from(open("csv", &data.path().join("table.csv"), split, &options).unwrap()));
            let mut of_sets = Vec::new();
            for set in sets {
                let cases = DatasetCases::new(set, pixels()).with_slice_step(step);
                let fresh = tempfile::tempdir().unwrap();
                let report = run(cases.clone(), &*encoder, fresh.path(), &EmbedOptions::default());
                of_sets.extend(report.store().unwrap().table("cls").unwrap().features);
                let report = run(cases, &*encoder, store.path(), &EmbedOptions::default());
                assert_eq!(report.embedded, 2);
            }
            let found = discover(&[data.path().to_owned()]);
            let found = found.into_iter().filter(|i| i.id.ends_with(".nii")).collect();
            let cases = InputCases::new(found, pixels()).with_orientation(orientation).with_slice_step(step);
            let report = run(cases.clone(), &*encoder, store.path(), &EmbedOptions::default());
            assert_eq!((report.embedded, report.reused), (0, 6), "{orientation} {step}");
            // and rightly so: embedded by itself a file gives the same numbers
            let fresh = tempfile::tempdir().unwrap();
            let report = run(cases, &*encoder, fresh.path(), &EmbedOptions::default());
            let slices: usize = if orientation == Orientation::Canonical { 12 } else { 5 };
            // one of every `step`, from the middle of the first such group
            assert_eq!(report.images, 6 * (slices - step / 2).div_ceil(step));
            let by_file: Vec<f32> = report.store().unwrap().table("cls").unwrap().features.into_iter().collect();
            assert_eq!(by_file, of_sets, "{orientation} {step}");
        }
    }
}

#[test]
fn settings_go_through_their_file_and_read_well() {
    let settings = Settings::new(pixels()).with_slice_step(4);
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    assert!(serde_json::from_str::<Settings>(&json.replacen('{', "{\"unknown\": 1,", 1)).is_err());
    let words = settings.to_string();
    assert!(words.contains("resize") && words.contains("one slice in 4") && !words.contains('\n'), "{words}");
}
