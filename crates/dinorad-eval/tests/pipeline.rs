//! From files to numbers: embedding, kNN and the linear decoder on the repository's example data.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_backbone::{Backbone, LoadOptions, Patches, Request, load};
use dinorad_core::{Protocol, Split, Target, method::Lent};
use dinorad_datasets::{Dataset, OpenOptions, discover, open};
use dinorad_decoders::{
    PixelLoss,
    methods::linear_decoder::{LinearDecoderMethod, Optimiser},
};
use dinorad_eval::{
    Cases, DatasetCases, Error, InputCases, Prepared, Progress, Settings, Silent,
    embed::{EmbedOptions, Slices, embed},
    probe::{Context, Labelled, ProbeOptions, Splits, probe},
    report::Exhibit,
    segment::{Masked, MaskedSlices, SegmentParts, segment},
    store::{ItemKey, Part},
};
use dinorad_heads::{Knn, methods::knn::KnnMethod};
use dinorad_metrics::{BootstrapOptions, value_text};
use dinorad_report::{Exhibits, Existing, RunWriter, pages};
use dinorad_testkit::{files, kill_after};
use dinorad_transforms::{Compose, Filter, presets};
use ndarray::Axis;

fn data() -> PathBuf {
    std::env::var_os("DINORAD_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data"), PathBuf::from)
}

fn encoder() -> Box<dyn Backbone> {
    load(&"untrained:tiny?seed=3".parse().unwrap(), &LoadOptions::default()).unwrap().0
}

fn preprocessing(encoder: &dyn Backbone, size: usize) -> Compose {
    let n = encoder.spec().normalization;
    let wide = |v: [f32; 3]| v.map(f64::from);
    presets::classification_eval(size, size, Filter::BicubicAntialias, wide(n.mean), wide(n.std))
}

/// The first cases of a data set.
struct First {
    cases: DatasetCases,
    n: usize,
}

impl Cases for First {
    fn settings(&self) -> Settings {
        self.cases.settings()
    }
    fn len(&self) -> usize {
        self.n
    }
    fn key(&self, i: usize) -> ItemKey {
        self.cases.key(i)
    }
    fn load(&self, i: usize) -> Result<Prepared, String> {
        self.cases.load(i)
    }
}

fn xray(split: Split) -> Arc<dyn Dataset> {
    open("medmnist", &data().join("medmnist/pneumoniamnist.npz"), split, &OpenOptions::default()).unwrap().into()
}

fn head(dataset: &Arc<dyn Dataset>, encoder: &dyn Backbone, size: usize, n: usize) -> Arc<First> {
    let cases = DatasetCases::new(Arc::clone(dataset), preprocessing(encoder, size)).with_root(&data());
    Arc::new(First { cases, n })
}

fn folder_with_bad_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    for i in 0..5u8 {
        let (w, h) = if i == 2 { (40, 30) } else { (28, 28) };
        let picture = image::GrayImage::from_fn(w, h, |x, y| image::Luma([(x as u8 ^ y as u8).wrapping_mul(i + 1)]));
        picture.save(sub.join(format!("good-{i}.png"))).unwrap();
    }
    let good = fs::read(sub.join("good-0.png")).unwrap();
    fs::write(sub.join("corrupt.png"), &good[..good.len() / 2]).unwrap();
    fs::write(sub.join("empty.png"), b"").unwrap();
    fs::write(sub.join("notes.txt"), b"not an image").unwrap();
    folder
}

#[derive(Default)]
struct Counting(std::sync::Mutex<(usize, usize)>);

impl Progress for Counting {
    fn set_total(&self, items: usize) {
        self.0.lock().unwrap().0 = items;
    }
    fn advance(&self, items: usize) {
        self.0.lock().unwrap().1 += items;
    }
}

#[test]
fn bad_files_are_listed_and_end_nothing() {
    let folder = folder_with_bad_files();
    let encoder = encoder();
    let inputs = discover(&[folder.path().to_owned()]);
    let cases = Arc::new(InputCases::new(inputs, preprocessing(&*encoder, 28)));
    let root = tempfile::tempdir().unwrap();
    let counting = Counting::default();
    let report = embed(cases, &*encoder, root.path(), &EmbedOptions::default(), &counting).unwrap();
    assert_eq!((report.embedded, report.reused, report.images), (5, 0, 5));
    assert_eq!(*counting.0.lock().unwrap(), (8, 8));
    let failed: Vec<&str> = report.failures.iter().map(|f| f.id.as_str()).collect();
    assert_eq!(failed.len(), 3, "{:?}", report.failures);
    for name in ["corrupt.png", "empty.png", "notes.txt"] {
        assert!(failed.iter().any(|f| f.ends_with(name)), "{failed:?}");
    }
    for failure in &report.failures {
        assert!(!failure.reason.contains(folder.path().to_str().unwrap()), "{}", failure.reason);
        assert!(!failure.reason.is_empty());
    }
    let manifest = fs::read_to_string(report.folder.join("manifest.json")).unwrap();
    assert!(manifest.contains("notes.txt") && !manifest.contains(folder.path().to_str().unwrap()));
}

#[test]
fn a_size_that_is_no_multiple_of_the_patch_is_an_error() {
    let folder = folder_with_bad_files();
    let encoder = encoder();
    let cases = Arc::new(InputCases::new(discover(&[folder.path().to_owned()]), preprocessing(&*encoder, 30)));
    let root = tempfile::tempdir().unwrap();
    let error = embed(cases, &*encoder, root.path(), &EmbedOptions::default(), &Silent).unwrap_err();
    assert!(matches!(error, Error::Encoder(_)), "{error}");
}

#[test]
fn batches_and_parts_do_not_change_the_features() {
    let encoder = encoder();
    let dataset: Arc<dyn Dataset> =
        open("medmnist", &data().join("medmnist/adrenalmnist3d_64.npz"), Split::Val, &OpenOptions::default())
            .unwrap()
            .into();
    let table = |options: EmbedOptions| {
        let root = tempfile::tempdir().unwrap();
        let cases = head(&dataset, &*encoder, 28, 5);
        let options = EmbedOptions { shard_size: 3, slices: Slices::Keep, ..options };
        let report = embed(cases, &*encoder, root.path(), &options, &Silent).unwrap();
        assert_eq!(report.images, 5 * 64);
        let store = report.store().unwrap();
        (store.table("cls").unwrap(), store.sequences("slices").unwrap())
    };
    let (one, slices) = table(EmbedOptions { batch_size: 1, threads: 1, ..EmbedOptions::default() });
    let (many, _) = table(EmbedOptions { batch_size: 50, threads: 3, ahead: 2, ..EmbedOptions::default() });
    let largest = (&one.features - &many.features).iter().fold(0f32, |a, b| a.max(b.abs()));
    assert!(largest <= 1e-5, "{largest}");
    // The case's vector is the mean of its slices'.
    assert_eq!(slices.item(4).unwrap().dim(), (64, encoder.spec().embed_dim));
    let mean = slices.item(4).unwrap().mean_axis(Axis(0)).unwrap();
    let largest = (&mean - &one.features.row(4)).iter().fold(0f32, |a, b| a.max(b.abs()));
    assert!(largest <= 1e-5, "{largest}");

    // Two parts make what one process makes.
    let (whole, split) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = EmbedOptions { shard_size: 2, ..EmbedOptions::default() };
    let run = |root: &Path, part: Part| {
        let options = EmbedOptions { part, ..options.clone() };
        embed(head(&dataset, &*encoder, 28, 5), &*encoder, root, &options, &Silent).unwrap()
    };
    let expected = files(&run(whole.path(), Part::WHOLE).folder);
    assert!(!run(split.path(), Part::new(2, 2).unwrap()).is_complete());
    let report = run(split.path(), Part::new(1, 2).unwrap());
    assert!(report.is_complete());
    assert_eq!(files(&report.folder), expected);
}

#[test]
fn killed_embedding_ends_with_the_same_bytes() {
    let encoder = encoder();
    let cases = || head(&xray(Split::Val), &*encoder, 28, 200);
    let options = EmbedOptions { shard_size: 8, ..EmbedOptions::default() };
    if let Some(root) = std::env::var_os("DINORAD_TEST_EMBED") {
        embed(cases(), &*encoder, Path::new(&root), &options, &Silent).unwrap();
        return;
    }
    let whole = tempfile::tempdir().unwrap();
    let report = embed(cases(), &*encoder, whole.path(), &options, &Silent).unwrap();
    let name = report.folder.file_name().unwrap().to_owned();
    let expected = files(&report.folder);
    // shards, manifest, marker
    assert_eq!(expected.len(), 27);
    let mut interrupted = 0;
    for millis in [60, 110, 170, 240, 320] {
        let root = tempfile::tempdir().unwrap();
        kill_after(millis, "killed_embedding_ends_with_the_same_bytes", "DINORAD_TEST_EMBED", root.path());
        let folder = root.path().join(&name);
        let before = fs::read_dir(&folder).map_or(0, Iterator::count);
        interrupted += usize::from(before > 0 && !folder.join("manifest.json").exists());
        let report = embed(cases(), &*encoder, root.path(), &options, &Silent).unwrap();
        assert_eq!(report.embedded + report.reused, 200);
        assert_eq!(files(&folder), expected, "killed after {millis} ms with {before} files");
    }
    println!("{interrupted} of 5 kills fell into the writing");
}

#[test]
fn knn_writes_what_it_promises() {
    let encoder = encoder();
    let root = tempfile::tempdir().unwrap();
    let labelled = |split, n| {
        let dataset = xray(split);
        let cases = head(&dataset, &*encoder, 28, n);
        let report = embed(cases, &*encoder, root.path(), &EmbedOptions::default(), &Silent).unwrap();
        Labelled::from_table(report.store().unwrap().table("cls").unwrap(), &*dataset).unwrap()
    };
    let (train, val, test) = (labelled(Split::Train, 400), labelled(Split::Val, 120), labelled(Split::Test, 150));
    let task = xray(Split::Train).task().clone();
    let judge = |ks: &[usize], val: Option<&Labelled>, protocol| {
        let splits = Splits { train: &train, val, test: &test };
        probe(&KnnMethod::from(Knn::new(ks)), &splits, &task, &ProbeOptions::new(protocol), &Context::PLAIN)
    };
    let strict = judge(&[20, 1, 5], Some(&val), Protocol::Strict).unwrap();
    assert_eq!((strict.trained_on(), strict.of_setting().len()), (400, 3));
    assert_eq!(judge(&[20, 1, 5], Some(&val), Protocol::Paper).unwrap().trained_on(), 520);
    assert!(matches!(judge(&[20, 1, 5], None, Protocol::Strict), Err(Error::Protocol { .. })));
    assert_eq!(judge(&[3], None, Protocol::Strict).unwrap().best().slug, "k3");
    let best_k = strict.best().values[0].1;

    let mut writer = RunWriter::create(&root.path().join("run"), Existing::Refuse).unwrap();
    writer.config(strict.options()).unwrap();
    writer.metrics(&strict.metrics()).unwrap();
    strict.write(&writer).unwrap();
    let run = writer.finish().unwrap();
    for name in ["predictions.csv", "predictions-k1.csv", "predictions-k5.csv", "predictions-k20.csv", "metrics.json"] {
        assert!(run.path().join(name).exists(), "{name}");
    }
    assert!(run.path().join("plots/roc.svg").exists() && run.path().join("plots/auroc-by-k.svg").exists());
    let predictions = |name: &str| run.predictions(name).unwrap().unwrap();
    let best = predictions("predictions");
    assert_eq!(best, predictions(&format!("predictions-{}", strict.best().slug)));
    let metrics = run.metrics().unwrap();
    assert_eq!(*metrics, strict.metrics());
    let value = |split: &str, name: &str| metrics.get(split, name).unwrap().mean.unwrap();
    assert_eq!(metrics.setting["k"].as_f64(), Some(best_k));
    for k in [1, 5, 20] {
        // The numbers again from the files alone.
        let p = predictions(&format!("predictions-k{k}"));
        assert_eq!(p.ids, test.ids);
        for row in p.probabilities.rows() {
            assert!((row.sum() - 1.0).abs() < 1e-5);
        }
        let truth: Vec<usize> =
            p.targets.iter().map(|t| if let Target::Class(c) = t { *c } else { panic!("{t:?}") }).collect();
        let (mut wins, mut pairs) = (0.0, 0.0);
        for (i, a) in truth.iter().enumerate() {
            for (j, b) in truth.iter().enumerate() {
                if *a == 1 && *b == 0 {
                    let (x, y) = (p.probabilities[[i, 1]], p.probabilities[[j, 1]]);
                    wins += if x > y {
                        1.0
                    } else if x == y {
                        0.5
                    } else {
                        0.0
                    };
                    pairs += 1.0;
                }
            }
        }
        assert!((value("test", &format!("auroc_k{k}")) - wins / pairs).abs() < 1e-12);
        let right = p.classes().iter().zip(&truth).filter(|(p, t)| p == t).count();
        assert!((value("test", &format!("accuracy_k{k}")) - right as f64 / 150.0).abs() < 1e-12);
        assert!(value("val", &format!("auroc_k{k}")) <= value("val", "auroc"));
    }
    let [low, high] = metrics.get("test", "auroc").unwrap().ci95.unwrap();
    assert!(low < value("test", "auroc") && value("test", "auroc") < high);
    // and a page of them
    let page = pages::report(std::slice::from_ref(&run), &[]).unwrap().to_html().unwrap();
    let auroc = metrics.get("test", "auroc").unwrap().text();
    for told in [auroc.as_str(), "k = 1<", "k = 5<", "k = 20<", "<svg"] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn a_linear_decoder_learns_to_segment() {
    let encoder = encoder();
    let root = tempfile::tempdir().unwrap();
    let mut task = None;
    let mut cases = |split, n| {
        let dataset: Arc<dyn Dataset> =
            open("msd", &data().join("msd-hippocampus"), split, &OpenOptions::default()).unwrap().into();
        task = Some(dataset.task().clone());
        let options = EmbedOptions { request: Request::default(), ..EmbedOptions::default() };
        assert_eq!(options.request.patches, Patches::Tokens);
        let report = embed(head(&dataset, &*encoder, 112, n), &*encoder, root.path(), &options, &Silent).unwrap();
        MaskedSlices::new(report.store().unwrap(), dataset).unwrap()
    };
    let (train, val, test) = (cases(Split::Train, 150), cases(Split::Val, 60), cases(Split::Test, 60));
    assert_eq!((train.len(), val.len(), test.len()), (150, 60, 60));
    let mut slices = 0;
    train
        .patches(&mut |shard| {
            slices += shard.cases.len();
            assert!(shard.grids.iter().all(|grid| *grid == (8, 8)), "{:?}", shard.grids);
            Ok(())
        })
        .unwrap();
    assert_eq!(slices, 150);
    // decoders that want several blocks get them, the last one as it was
    let dataset: Arc<dyn Dataset> =
        open("msd", &data().join("msd-hippocampus"), Split::Test, &OpenOptions::default()).unwrap().into();
    let options = EmbedOptions { request: Request::last(3), patch_blocks: 3, ..EmbedOptions::default() };
    let report =
        embed(head(&dataset, &*encoder, 112, 20), &*encoder, &root.path().join("blocks"), &options, &Silent).unwrap();
    let several = MaskedSlices::of_blocks(report.store().unwrap(), Arc::clone(&dataset), 3).unwrap();
    let (mut all, mut last) = (Vec::new(), Vec::new());
    several
        .patches(&mut |shard| {
            assert_eq!(shard.blocks.len(), 3);
            assert!(shard.blocks[0] != shard.blocks[1] && shard.blocks[1] != shard.blocks[2]);
            assert_eq!(shard.tokens()?, shard.blocks[2]);
            all.extend(shard.blocks[2].iter().copied());
            Ok(())
        })
        .unwrap();
    test.patches(&mut |shard| {
        assert_eq!(shard.blocks.len(), 1);
        last.extend(shard.tokens()?.iter().copied());
        Ok(())
    })
    .unwrap();
    // apart by the rounding of batches of other sizes at most
    assert!(!all.is_empty() && all.iter().zip(&last).all(|(a, b): (&f32, &f32)| (a - b).abs() < 1e-4));
    let four = MaskedSlices::of_blocks(report.store().unwrap(), dataset, 4);
    assert!(matches!(four, Err(Error::NoSuchTensor { .. })));
    let method = LinearDecoderMethod {
        learning_rates: vec![0.01, 0.1],
        // Few pixels are foreground, and random features have a small scale: Dice and Adam mind neither.
        epochs: 20,
        optimiser: Optimiser::Adamw,
        loss: PixelLoss::DiceCrossEntropy,
        ..LinearDecoderMethod::default()
    };
    let task = task.unwrap();
    let judge = |parts: SegmentParts<'_>, masks: &mut Vec<ndarray::Array3<u8>>| {
        let draws = BootstrapOptions::default();
        segment(&method, &parts, &task, &draws, &Context::PLAIN, &mut |_, mask| {
            masks.push(mask);
            Ok(())
        })
        .unwrap()
    };
    let mut predictions = Vec::new();
    let run = judge(SegmentParts { train: &train, val: Some(&val), refit: None, test: &test }, &mut predictions);
    let best = run.best();
    println!("dice {:?} by volume {:?}, {}", run.test.dice, run.test.dice_by_volume, best.label);
    assert!(method.learning_rates.iter().any(|rate| best.values == [("learning_rate", *rate)]), "{best:?}");
    // Four volumes and random features do not carry over; what was seen is fitted (all background
    // would score 0).
    let seen = judge(SegmentParts { train: &train, val: Some(&train), refit: None, test: &train }, &mut Vec::new());
    println!("dice on the training slices {:?}, {}", seen.test.dice, seen.best().label);
    assert!(seen.test.dice.unwrap() > 0.15, "{:?}", seen.test);
    let losses: Vec<f64> = {
        let chosen = seen.learning.iter().find(|curve| curve.chosen).unwrap();
        assert_eq!(chosen.label, seen.best().label);
        chosen.losses.iter().map(|(_, loss)| *loss).collect()
    };
    assert_eq!(losses.len(), 20);
    assert!(losses.last().unwrap() < &(0.8 * losses[0]), "{losses:?}");
    assert_eq!(predictions.len(), 60);
    assert_eq!(predictions[7].dim(), Masked::truth(&test, 7).unwrap().dim());
    // Pooled Dice of class 1, counted anew.
    let (mut both, mut sum) = (0u64, 0u64);
    for (i, predicted) in predictions.iter().enumerate() {
        for (t, p) in test.mask_of(i).unwrap().iter().zip(predicted) {
            both += u64::from(*t == 1 && *p == 1);
            sum += u64::from(*t == 1) + u64::from(*p == 1);
        }
    }
    let dice = 2.0 * both as f64 / sum as f64;
    assert!((run.test.dice_by_class[1].unwrap() - dice).abs() < 1e-12);
    let blocks = run.blocks();
    assert!(matches!(blocks.as_slice(), [Exhibit::Table(_)]), "{blocks:?}");
    let mut writer = RunWriter::create(&root.path().join("run"), Existing::Refuse).unwrap();
    writer.config(&run.method()).unwrap();
    writer.metrics(&run.metrics()).unwrap();
    writer.exhibits(&Exhibits { shown: blocks, ..Exhibits::new() }).unwrap();
    run.write(&writer).unwrap();
    let folder = writer.finish().unwrap();
    let metrics = folder.metrics().unwrap();
    assert!(metrics.get("test", "dice_class_2").is_some());
    assert_eq!(metrics.setting["learning_rate"].as_f64(), Some(run.best().values[0].1));
    assert!(folder.path().join("model.safetensors").exists());
    // Scores, classes and losses are on its page.
    let page = pages::report(std::slice::from_ref(&folder), &[]).unwrap().to_html().unwrap();
    let shown = |name: &str, value: f64| format!("<td>{name}</td><td class=\"num main\">{}<", value_text(value));
    let pooled = shown("Dice", run.test.dice.unwrap());
    let by_volume = shown("Dice by volume", run.test.dice_by_volume.unwrap().estimate);
    for told in [pooled.as_str(), by_volume.as_str(), task.class_names[2].as_str(), "Training loss by epoch", "<svg"] {
        assert!(page.contains(told), "{told}");
    }
}
