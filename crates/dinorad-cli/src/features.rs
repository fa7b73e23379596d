//! The features of a data set's splits: what every way of judging an encoder begins with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use dinorad::{
    backbone::{Backbone, candle::Device},
    core::{Protocol, Split, Target, Task, TaskKind, resample::Filter},
    datasets::{Bad, Dataset, Error as DatasetError, OpenOptions, Unit, open},
    eval::{
        Cases, DatasetCases,
        assembly::Assembly,
        embed::{EmbedOptions, embed},
        probe::Labelled,
        report::{DatasetCard, Timing},
        store::{Failure, ItemKey},
    },
    transforms::{Compose, presets::classification_eval},
};

use crate::progress::Bar;

/// The pixels an encoder gets unless told otherwise: straight to N x N, min-max per channel, the
/// encoder's own mean and standard deviation.
pub(crate) fn preprocessing(backbone: &dyn Backbone, image_size: usize) -> Compose {
    resized(backbone, image_size, image_size, Filter::BicubicAntialias)
}

/// The same, resized to another size first and then cropped in the middle.
pub(crate) fn resized(backbone: &dyn Backbone, resize: usize, crop: usize, filter: Filter) -> Compose {
    let n = backbone.spec().normalization;
    classification_eval(resize, crop, filter, n.mean.map(f64::from), n.std.map(f64::from))
}

/// One part of a data set on disk.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) set: Arc<dyn Dataset>,
    pub(crate) root: PathBuf,
    /// What a case that cannot be used does.
    pub(crate) bad: Bad,
}

/// How a protocol opens a data set.
pub(crate) fn options_of(protocol: Protocol) -> OpenOptions {
    match protocol {
        Protocol::Paper => OpenOptions::paper(),
        Protocol::Strict => OpenOptions::default(),
    }
}

/// What heads learn from and are judged on.
pub(crate) struct Data {
    pub(crate) train: Part,
    pub(crate) val: Option<Part>,
    pub(crate) test: Part,
}

impl Data {
    /// Train and validation of one data set, test of the same one or another.
    pub(crate) fn open(train: (&str, &Path), test: (&str, &Path), protocol: Protocol) -> Result<Data> {
        Self::open_with(train, test, options_of(protocol).with_bad(Bad::Skip))
    }

    /// The same with options of the caller's; volumes are cases.
    pub(crate) fn open_with(train: (&str, &Path), test: (&str, &Path), options: OpenOptions) -> Result<Data> {
        let options = options.with_unit(Unit::Volumes);
        let part = |(name, root): (&str, &Path), split| -> Result<Option<Part>> {
            match open(name, root, split, &options) {
                Ok(set) => Ok(Some(Part { set: set.into(), root: root.to_owned(), bad: options.bad })),
                Err(DatasetError::NoSplit { .. }) if split == Split::Val => Ok(None),
                Err(error) => Err(error).with_context(|| format!("could not open the {split} split of {name}")),
            }
        };
        let [first, val] = [part(train, Split::Train)?, part(train, Split::Val)?];
        let train = first.context("no train split")?;
        Ok(Data { train, val, test: part(test, Split::Test)?.context("no test split")? })
    }

    pub(crate) fn task(&self) -> &Task {
        self.train.set.task()
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.train), self.val.as_ref(), Some(&self.test)].into_iter().flatten()
    }

    /// What the data are, for a report.
    pub(crate) fn card(&self, image_size: usize) -> DatasetCard {
        let task = self.task();
        let mut card = DatasetCard::new(self.train.set.id())
            .with_fact("task", format!("{:?}, {}", task.kind, if task.is_3d { "3D" } else { "2D" }).to_lowercase())
            .with_fact("image size", format!("{image_size} x {image_size} pixels for the encoder"));
        card = card.with_splits(self.parts().map(|p| p.set.split().to_string()));
        for (class, name) in task.class_names.iter().enumerate() {
            card = card.with_class(name.clone(), self.parts().map(|p| count(&*p.set, class, task)).collect::<Vec<_>>());
        }
        for warning in self.train.set.warnings() {
            card = card.with_note(warning.clone());
        }
        card
    }
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

/// How features are made.
pub(crate) struct Recipe<'a> {
    pub(crate) backbone: &'a dyn Backbone,
    pub(crate) device: &'a Device,
    pub(crate) batch: usize,
    pub(crate) preprocessing: Compose,
    pub(crate) assembly: Assembly,
    /// Every how many slices of a volume one is encoded; 1 for all.
    pub(crate) slice_step: usize,
    /// Folder of the feature stores.
    pub(crate) features: &'a Path,
}

/// What the making of features told.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) stores: Vec<PathBuf>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) notices: Vec<String>,
    pub(crate) images: usize,
    pub(crate) encoding: f64,
    pub(crate) waiting: f64,
}

impl Made {
    /// Notes failures, each of them once: a case may be embedded in several ways.
    fn fail(&mut self, failures: impl Iterator<Item = Failure>) {
        for failure in failures {
            if !self.failures.contains(&failure) {
                self.failures.push(failure);
            }
        }
    }

    pub(crate) fn timings(&self) -> Vec<Timing> {
        vec![Timing::new("encoding", self.encoding), Timing::new("reading ahead of the encoder (waited)", self.waiting)]
    }
}

/// Features of the three splits.
pub(crate) struct Features {
    pub(crate) train: Labelled,
    pub(crate) val: Option<Labelled>,
    pub(crate) test: Labelled,
}

impl Recipe<'_> {
    /// The features of all splits.
    pub(crate) fn all(&self, data: &Data, made: &mut Made) -> Result<Features> {
        Ok(Features {
            train: self.of(&data.train, made)?,
            val: data.val.as_ref().map(|val| self.of(val, made)).transpose()?,
            test: self.of(&data.test, made)?,
        })
    }

    /// The features of one part, from the store where they are there already.
    pub(crate) fn of(&self, part: &Part, made: &mut Made) -> Result<Labelled> {
        let cases = DatasetCases::new(Arc::clone(&part.set), self.preprocessing.clone()).with_root(&part.root);
        let cases: Arc<dyn Cases> = match self.slice_step {
            0 | 1 => Arc::new(cases),
            step => Arc::new(EveryNth { cases, step }),
        };
        let settings = format!("{} slice-step={}", self.preprocessing.hash(), self.slice_step.max(1));
        self.embedded(cases, &settings, "", part, made)
    }

    /// The features of other pixels of the same cases; `settings` say what pixels.
    pub(crate) fn embedded(
        &self,
        cases: Arc<dyn Cases>,
        settings: &str,
        what: &str,
        part: &Part,
        made: &mut Made,
    ) -> Result<Labelled> {
        let set = &*part.set;
        let mut options = self.assembly.embed_options(EmbedOptions {
            batch_size: self.batch,
            // Volumes fill a batch by themselves; small images want larger shards.
            shard_size: if set.task().is_3d { 64 } else { 1024 },
            device: self.device.clone(),
            bad: part.bad,
            ..EmbedOptions::default()
        });
        options.request.norm = self.backbone.spec().study_norm();
        let bar = Bar::new(format!("{} {}{what}", set.id(), set.split()));
        let report = embed(cases, self.backbone, settings, self.features, &options, &bar)?;
        drop(bar);
        made.fail(report.failures.iter().cloned());
        // cases that could not even be listed have no id: their reason names the file
        let root = format!("{}{}", part.root.display(), std::path::MAIN_SEPARATOR);
        let left_out =
            |e: &DatasetError| Failure { id: set.split().to_string(), reason: e.to_string().replace(&root, "") };
        made.fail(set.left_out().into_iter().map(left_out));
        made.notices.extend(report.notices.iter().cloned());
        made.images += report.images;
        made.encoding += report.seconds.encoding;
        made.waiting += report.seconds.waiting + report.seconds.hashing;
        made.stores.push(report.folder.clone());
        Ok(self.assembly.labelled(&report.store()?, self.backbone.spec(), set)?)
    }
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
