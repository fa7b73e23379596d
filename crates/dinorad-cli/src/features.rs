//! The features of a data set's splits: what every way of judging an encoder begins with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use dinorad::{
    backbone::{Backbone, candle::Device},
    core::{Protocol, Split, Target, Task, TaskKind, in_full, resample::Filter},
    datasets::{Bad, Dataset, Error as DatasetError, OpenOptions, Unit, open},
    eval::{
        Cases, DatasetCases, View,
        assembly::Assembly,
        embed::{EmbedOptions, embed},
        probe::{Labelled, SharedClasses, Splits},
        report::{DatasetCard, Timing},
        store::Failure,
    },
    transforms::{Compose, Shift, Step, presets::classification_eval},
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
    let options = match protocol {
        Protocol::Paper => OpenOptions::paper(),
        Protocol::Strict => OpenOptions::default(),
    };
    // No option of the command line: those are kept in histories and shown to other users.
    match std::env::var("DINORAD_SALT") {
        Ok(salt) if !salt.is_empty() => options.with_salt(salt),
        _ => options,
    }
}

/// What heads learn from and are judged on.
pub(crate) struct Data {
    pub(crate) train: Part,
    pub(crate) val: Option<Part>,
    pub(crate) test: Part,
    /// The labels in common where the test split is another data set's, and the test split of the
    /// one that heads learn from.
    across: Option<Across>,
}

struct Across {
    shared: SharedClasses,
    own_test: Option<Part>,
}

impl Data {
    /// Train and validation of one data set, test of the same one or another that shares labels.
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
        let [first, val, judged] = [part(train, Split::Train)?, part(train, Split::Val)?, part(test, Split::Test)?];
        let (first, judged) = (first.context("no train split")?, judged.context("no test split")?);
        for part in [&first, &judged] {
            if part.set.is_empty() {
                bail!("{}: the {} split of {} has no case", part.root.display(), part.set.split(), part.set.id());
            }
        }
        // One without cases is as good as none.
        let val = val.filter(|part| !part.set.is_empty());
        for part in [Some(&first), val.as_ref(), Some(&judged)].into_iter().flatten() {
            let left_out = part.set.left_out();
            if let Some(overlap) = left_out.iter().find(|e| matches!(e, DatasetError::Overlap { .. })) {
                bail!("{overlap}; a score would be too good: divide anew by patient (dinorad splits --shares)");
            }
        }
        let mut across = None;
        if train != test {
            if first.set.task().is_3d != judged.set.task().is_3d {
                let (a, b) = (first.set.id(), judged.set.id());
                bail!("{a} and {b} do not go together: one has scans, the other single images");
            }
            let shared = SharedClasses::between(first.set.task(), judged.set.task())?;
            // A data set without a test split of its own has nothing to compare with.
            let own_test = part(train, Split::Test).unwrap_or(None);
            across = Some(Across { shared, own_test });
        }
        Ok(Data { train: first, val, test: judged, across })
    }

    /// The task; of two data sets, that of the labels they share.
    pub(crate) fn task(&self) -> &Task {
        self.across.as_ref().map_or_else(|| self.train.set.task(), |across| across.shared.task())
    }

    /// Whose cases are judged, after learning from whose.
    pub(crate) fn title(&self) -> String {
        match &self.across {
            Some(_) => format!("{} → {}", self.train.set.id(), self.test.set.id()),
            None => self.train.set.id().to_owned(),
        }
    }

    /// What a reader of the numbers should know.
    pub(crate) fn notices(&self) -> Vec<String> {
        self.across.as_ref().map_or_else(Vec::new, |across| across.shared.notices())
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.train), self.val.as_ref(), Some(&self.test)].into_iter().flatten()
    }

    /// What the data are, for a report.
    pub(crate) fn card(&self, image_size: usize) -> DatasetCard {
        let task = self.train.set.task();
        let mut card = DatasetCard::new(self.train.set.id())
            .with_fact("task", format!("{:?}, {}", task.kind, if task.is_3d { "3D" } else { "2D" }).to_lowercase())
            .with_fact("image size", format!("{image_size} x {image_size} pixels for the encoder"));
        card = card.with_splits(self.parts().map(|p| match &self.across {
            Some(_) => format!("{} {}", p.set.id(), p.set.split()),
            None => p.set.split().to_string(),
        }));
        if task.kind == TaskKind::Multilabel {
            card = card.with_cases(self.parts().map(|p| p.set.len()).collect::<Vec<_>>());
        }
        for (class, name) in task.class_names.iter().enumerate() {
            // another data set counts its own classes
            let of = |p: &Part| {
                let its = p.set.task();
                let at = if its == task { Some(class) } else { its.class_names.iter().position(|n| n == name) };
                at.map_or(0, |class| count(&*p.set, class, its))
            };
            card = card.with_class(name.clone(), self.parts().map(of).collect::<Vec<_>>());
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
    /// The test split of the data set that heads learn from, where another one is the test.
    pub(crate) own_test: Option<Labelled>,
}

impl Features {
    pub(crate) fn splits(&self) -> Splits<'_> {
        Splits { train: &self.train, val: self.val.as_ref(), test: &self.test }
    }
}

impl Recipe<'_> {
    /// The features of all splits, with the labels that are judged.
    pub(crate) fn all(&self, data: &Data, made: &mut Made) -> Result<Features> {
        let mut of = |part: &Part| self.of(part, made);
        let (train, val, test) = (of(&data.train)?, data.val.as_ref().map(&mut of).transpose()?, of(&data.test)?);
        let Some(Across { shared, own_test }) = &data.across else {
            return Ok(Features { train, val, test, own_test: None });
        };
        let own_test = own_test.as_ref().map(of).transpose()?;
        let source = |cases: Option<Labelled>| cases.map(|cases| shared.of_source(&cases)).transpose();
        Ok(Features {
            train: shared.of_source(&train)?,
            val: source(val)?,
            test: shared.of_target(&test)?,
            own_test: source(own_test)?,
        })
    }

    /// The encoder's mean and standard deviation, as the preprocessing has them.
    pub(crate) fn mean_std(&self) -> ([f64; 3], [f64; 3]) {
        let n = self.backbone.spec().normalization;
        let given = self.preprocessing.steps.iter().find_map(|step| match step {
            Step::Normalize { mean, std } => {
                Some((<[f64; 3]>::try_from(mean.as_slice()).ok()?, <[f64; 3]>::try_from(std.as_slice()).ok()?))
            }
            _ => None,
        });
        given.unwrap_or((n.mean.map(f64::from), n.std.map(f64::from)))
    }

    /// The features of the test split under a shift of its images.
    pub(crate) fn shifted(
        &self,
        data: &Data,
        shift: Shift,
        severity: usize,
        seed: u64,
        made: &mut Made,
    ) -> Result<Labelled> {
        let preprocessing = shift.applied(severity, &self.preprocessing)?;
        let part = &data.test;
        let view = View { seed, number: 0 };
        let cases = DatasetCases::new(Arc::clone(&part.set), preprocessing).with_root(&part.root).with_view(view);
        let cases = Arc::new(cases.with_slice_step(self.slice_step));
        let cases = self.embedded(cases, &format!(", {shift} {severity}"), part, made)?;
        match &data.across {
            Some(across) => Ok(across.shared.of_target(&cases)?),
            None => Ok(cases),
        }
    }

    /// The features of one part, from the store where they are there already.
    pub(crate) fn of(&self, part: &Part, made: &mut Made) -> Result<Labelled> {
        let cases = DatasetCases::new(Arc::clone(&part.set), self.preprocessing.clone()).with_root(&part.root);
        self.embedded(Arc::new(cases.with_slice_step(self.slice_step)), "", part, made)
    }

    /// The features of these pixels of the cases of a part.
    pub(crate) fn embedded(&self, cases: Arc<dyn Cases>, what: &str, part: &Part, made: &mut Made) -> Result<Labelled> {
        let set = &*part.set;
        let mut options = self.assembly.embed_options(EmbedOptions {
            batch_size: self.batch,
            // Volumes fill a batch by themselves; small images want larger shards.
            shard_size: if set.task().is_3d { 64 } else { 1024 },
            device: self.device.clone(),
            bad: part.bad,
            set: format!("{}-{}", set.id(), set.split()),
            ..EmbedOptions::default()
        });
        options.request.norm = self.backbone.spec().study_norm();
        let bar = Bar::new(format!("{} {}{what}", set.id(), set.split()));
        let report = embed(cases, self.backbone, self.features, &options, &bar)?;
        drop(bar);
        made.fail(report.failures.iter().cloned());
        // cases that could not even be listed have no id: their reason names the file
        let root = format!("{}{}", part.root.display(), std::path::MAIN_SEPARATOR);
        let left_out = |e: &DatasetError| Failure { id: set.id().to_owned(), reason: in_full(e).replace(&root, "") };
        made.fail(set.left_out().into_iter().map(left_out));
        made.notices.extend(report.notices.iter().cloned());
        made.images += report.images;
        made.encoding += report.seconds.encoding;
        made.waiting += report.seconds.waiting + report.seconds.hashing;
        if !made.stores.contains(&report.folder) {
            made.stores.push(report.folder.clone());
        }
        let cases = self.assembly.labelled(&report.store()?, self.backbone.spec(), set)?;
        if let (true, Some(first)) = (cases.is_empty(), report.failures.first()) {
            bail!("no case of the {} split has features; the first: {}: {}", set.split(), first.id, first.reason);
        }
        Ok(cases)
    }
}
