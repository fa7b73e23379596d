//! A classification data set through an encoder and kNN, into a run folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result};
use dinorad::{
    backbone::{Backbone, candle::Device},
    core::{Protocol, Split, Target, Task, TaskKind, resample::Filter},
    datasets::{Dataset, Error as DatasetError, OpenOptions, Unit, open},
    eval::{
        Cases, DatasetCases,
        embed::{EmbedOptions, embed},
        knn::{KnnOptions, KnnRun, Labelled, knn},
        report::{DatasetCard, Timing},
        run::RunFolder,
        store::{Failure, ItemKey},
    },
    transforms::{Compose, presets::classification_eval},
};
use serde::Serialize;

use crate::progress::Bar;

/// What to judge, and how.
pub(crate) struct KnnJob<'a> {
    pub(crate) dataset: &'a str,
    pub(crate) root: &'a Path,
    pub(crate) backbone: &'a dyn Backbone,
    pub(crate) device: &'a Device,
    pub(crate) batch: usize,
    pub(crate) image_size: usize,
    /// Every how many slices of a volume one is encoded; 1 for all.
    pub(crate) slice_step: usize,
    pub(crate) knn: KnnOptions,
    pub(crate) features: &'a Path,
    pub(crate) out: &'a Path,
}

/// What came out.
pub(crate) struct KnnDone {
    pub(crate) run: KnnRun,
    pub(crate) task: Task,
    pub(crate) test: Arc<dyn Dataset>,
    pub(crate) card: DatasetCard,
    pub(crate) failures: Vec<Failure>,
    pub(crate) notices: Vec<String>,
    pub(crate) timings: Vec<Timing>,
    pub(crate) images: usize,
}

/// `config.toml`: all that decides the numbers.
#[derive(Serialize)]
struct Config<'a> {
    command: &'static str,
    version: &'static str,
    dataset: &'a str,
    root: PathBuf,
    protocol: Protocol,
    image_size: usize,
    slice_step: usize,
    features: Vec<PathBuf>,
    knn: &'a KnnOptions,
    encoder: &'a dinorad::backbone::BackboneSpec,
    preprocessing: &'a Compose,
}

/// The study's pixels: straight to N x N, min-max per channel, the encoder's own mean and
/// standard deviation.
pub(crate) fn preprocessing(backbone: &dyn Backbone, image_size: usize) -> Compose {
    let n = backbone.spec().normalization;
    classification_eval(image_size, image_size, Filter::BicubicAntialias, n.mean.map(f64::from), n.std.map(f64::from))
}

pub(crate) fn run(job: &KnnJob<'_>) -> Result<KnnDone> {
    let options = match job.knn.protocol {
        Protocol::Paper => OpenOptions::paper(),
        Protocol::Strict => OpenOptions::default(),
    }
    .with_unit(Unit::Volumes);
    let open_split = |split| -> Result<Option<Arc<dyn Dataset>>> {
        match open(job.dataset, job.root, split, &options) {
            Ok(set) => Ok(Some(set.into())),
            Err(DatasetError::NoSplit { .. }) if split == Split::Val => Ok(None),
            Err(error) => Err(error).with_context(|| format!("could not open the {split} split of {}", job.dataset)),
        }
    };
    let [train, val, test] = [open_split(Split::Train)?, open_split(Split::Val)?, open_split(Split::Test)?];
    let (train, test) = (train.context("no train split")?, test.context("no test split")?);
    let task = train.task().clone();

    let preprocessing = preprocessing(job.backbone, job.image_size);
    let run = RunFolder::create(job.out)?;
    let (mut failures, mut notices, mut stores) = (Vec::new(), Vec::new(), Vec::new());
    let (mut images, mut encoding, mut waiting) = (0, 0.0, 0.0);
    let mut features = |set: &Arc<dyn Dataset>| -> Result<Labelled> {
        let cases = DatasetCases::new(Arc::clone(set), preprocessing.clone()).with_root(job.root);
        let cases: Arc<dyn Cases> = match job.slice_step {
            0 | 1 => Arc::new(cases),
            step => Arc::new(EveryNth { cases, step }),
        };
        let settings = format!("{} slice-step={}", preprocessing.hash(), job.slice_step.max(1));
        let embedding = EmbedOptions {
            batch_size: job.batch,
            // Volumes fill a batch by themselves; small images want larger shards.
            shard_size: if task.is_3d { 64 } else { 1024 },
            device: job.device.clone(),
            ..EmbedOptions::default()
        };
        let bar = Bar::new(format!("{} {}", set.id(), set.split()));
        let report = embed(cases, job.backbone, &settings, job.features, &embedding, &bar)?;
        drop(bar);
        failures.extend(report.failures.iter().cloned());
        notices.extend(report.notices.iter().cloned());
        images += report.images;
        encoding += report.seconds.encoding;
        waiting += report.seconds.waiting + report.seconds.hashing;
        stores.push(report.folder.clone());
        Ok(Labelled::from_table(report.store()?.table("cls")?, &**set)?)
    };
    let train_features = features(&train)?;
    let val_features = val.as_ref().map(&mut features).transpose()?;
    let test_features = features(&test)?;

    let judging = Instant::now();
    let result = knn(&train_features, val_features.as_ref(), &test_features, &task, &job.knn)?;
    let judging = judging.elapsed().as_secs_f64();
    run.write_config(&Config {
        command: "eval knn",
        version: env!("CARGO_PKG_VERSION"),
        dataset: job.dataset,
        root: job.root.to_owned(),
        protocol: job.knn.protocol,
        image_size: job.image_size,
        slice_step: job.slice_step,
        features: stores,
        knn: &job.knn,
        encoder: job.backbone.spec(),
        preprocessing: &preprocessing,
    })?;
    result.write(&run)?;
    run.log(&serde_json::json!({
        "event": "eval knn", "dataset": job.dataset, "encoder": job.backbone.spec().id,
        "images": images, "seconds": { "encoding": encoding, "waiting": waiting, "judging": judging },
        "failures": failures,
    }))?;

    let mut card = DatasetCard::new(train.id())
        .with_fact("task", format!("{:?}, {}", task.kind, if task.is_3d { "3D" } else { "2D" }).to_lowercase())
        .with_fact("image size", format!("{0} x {0} pixels for the encoder", job.image_size));
    let splits: Vec<&Arc<dyn Dataset>> = [Some(&train), val.as_ref(), Some(&test)].into_iter().flatten().collect();
    card = card.with_splits(splits.iter().map(|s| s.split().to_string()));
    for (class, name) in task.class_names.iter().enumerate() {
        card = card.with_class(name.clone(), splits.iter().map(|s| count(&***s, class, &task)).collect::<Vec<_>>());
    }
    for warning in train.warnings() {
        card = card.with_note(warning.clone());
    }
    let timings = vec![
        Timing::new("encoding", encoding),
        Timing::new("reading ahead of the encoder (waited)", waiting),
        Timing::new("kNN and bootstrap", judging),
    ];
    Ok(KnnDone { run: result, task, test, card, failures, notices, timings, images })
}

/// Cases of a class (multilabel: with the finding).
fn count(set: &dyn Dataset, class: usize, task: &Task) -> usize {
    (0..set.len())
        .filter(|i| match set.target(*i) {
            Ok(Target::Class(c)) => c == class,
            Ok(Target::Labels(l)) if task.kind == TaskKind::Multilabel => l.get(class) == Some(&1),
            _ => false,
        })
        .count()
}

/// Every n-th slice of a case.
struct EveryNth {
    cases: DatasetCases,
    step: usize,
}

impl Cases for EveryNth {
    fn len(&self) -> usize {
        self.cases.len()
    }

    fn key(&self, i: usize) -> ItemKey {
        self.cases.key(i)
    }

    fn load(&self, i: usize) -> Result<Vec<ndarray::Array3<f32>>, String> {
        Ok(self.cases.load(i)?.into_iter().skip(self.step / 2).step_by(self.step).collect())
    }
}
