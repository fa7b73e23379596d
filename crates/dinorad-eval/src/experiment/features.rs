//! The features of an experiment's parts, from the store where they are there already.

use std::{path::Path, sync::Arc, time::Duration};

use dinorad_backbone::Request;
use dinorad_core::method::View;
use dinorad_datasets::{Intensity, Monochrome1};
use dinorad_report::NotJudged;
use dinorad_transforms::{Compose, Shift, Step};

use super::{
    Loaded, Watch,
    data::{Data, Part},
};
use crate::{
    DatasetCases, Doubts, Error, Result,
    embed::{EmbedOptions, EmbedReport, embed},
    probe::{Labelled, Splits},
    report::Timing,
    row_layout::RowLayout,
    segment::MaskedSlices,
    store::Failure,
};

/// What the test part of the data set that is learned from is called, where another one's is judged.
pub(super) const OWN_TEST: &str = "test_own_data_set";

/// How features are made.
pub(super) struct Recipe<'a> {
    pub(super) encoder: &'a Loaded,
    /// What its bars begin with, where it is not the encoder that is judged.
    pub(super) called: &'static str,
    pub(super) batch: usize,
    pub(super) preprocessing: Compose,
    /// On which scale values are shown.
    pub(super) intensity: Intensity,
    /// What becomes of negatives, where the description says it.
    pub(super) monochrome1: Option<Monochrome1>,
    pub(super) layout: RowLayout,
    /// Every how many slices of a volume one is encoded.
    pub(super) slice_step: usize,
    /// Folder of the feature store.
    pub(super) folder: &'a Path,
    pub(super) patience: Duration,
    pub(super) watch: &'a dyn Watch,
}

/// What making features took, and what was lost on the way.
#[derive(Debug, Default)]
pub struct Work {
    /// Images that went through the encoder.
    pub images: usize,
    /// Seconds in the encoder.
    pub encoding: f64,
    /// Seconds of waiting for files.
    pub waiting: f64,
    /// What the user should hear of.
    pub notices: Vec<String>,
    /// What may be wrong with the values of cases.
    pub doubts: Doubts,
    /// Cases without features, each once.
    pub failures: Vec<Failure>,
    /// The same with the part that each belongs to.
    pub(super) not_judged: Vec<NotJudged>,
}

impl Work {
    pub(super) fn timings(&self) -> [Timing; 2] {
        [Timing::new("waiting for files", self.waiting), Timing::new("encoding", self.encoding)]
    }

    /// A case of a part fails once, however often it was tried.
    pub(super) fn fail(&mut self, split: &str, failures: impl IntoIterator<Item = Failure>) {
        for failure in failures {
            let Failure { id, reason } = failure.clone();
            let one = NotJudged { split: split.to_owned(), id, reason };
            if !self.not_judged.contains(&one) {
                self.not_judged.push(one);
            }
            if !self.failures.contains(&failure) {
                self.failures.push(failure);
            }
        }
    }

    /// Adds the work of another encoder on the same cases, whose failures are known.
    pub(super) fn add_work(&mut self, other: Work) {
        self.images += other.images;
        self.encoding += other.encoding;
        self.waiting += other.waiting;
    }

    fn record(&mut self, split: &str, report: &EmbedReport) {
        self.fail(split, report.failures.iter().cloned());
        self.notices.extend(report.notices.iter().cloned());
        self.doubts.merge(&report.doubts);
        self.images += report.images;
        self.encoding += report.seconds.encoding;
        self.waiting += report.seconds.waiting + report.seconds.hashing;
    }
}

/// The features of all parts, with the labels that are judged.
pub(super) struct Features {
    pub(super) train: Labelled,
    pub(super) val: Option<Labelled>,
    pub(super) test: Labelled,
    /// The test part of the data set that is learned from, where another one is judged.
    pub(super) own_test: Option<Labelled>,
    /// Cases of the test part that are not judged: their class is not among those shared.
    pub(super) passed_over: Vec<NotJudged>,
}

impl Features {
    pub(super) fn splits(&self) -> Splits<'_> {
        Splits { train: &self.train, val: self.val.as_ref(), test: &self.test }
    }
}

impl Recipe<'_> {
    pub(super) fn all(&self, data: &Data, made: &mut Work) -> Result<Features> {
        let train = self.of(&data.train, made)?;
        let val = data.val.as_ref().map(|part| self.of(part, made)).transpose()?;
        let test = self.of(&data.test, made)?;
        let Some(across) = &data.across else {
            return Ok(Features { train, val, test, own_test: None, passed_over: Vec::new() });
        };
        let own_test = across.own_test.as_ref().map(|part| self.of_split(OWN_TEST, part, made)).transpose()?;
        let shared = &across.shared;
        let source = |cases: Option<Labelled>| cases.map(|cases| shared.of_source(&cases)).transpose();
        Ok(Features {
            train: shared.of_source(&train)?,
            val: source(val)?,
            passed_over: shared.passed_over(&test, data.test.set.task()),
            test: shared.of_target(&test)?,
            own_test: source(own_test)?,
        })
    }

    /// The encoder's mean and standard deviation, as the preprocessing has them.
    pub(super) fn mean_std(&self) -> ([f64; 3], [f64; 3]) {
        let n = self.encoder.backbone.spec().normalization;
        let given = self.preprocessing.steps.iter().find_map(|step| match step {
            Step::Normalize { mean, std } => {
                Some((<[f64; 3]>::try_from(mean.as_slice()).ok()?, <[f64; 3]>::try_from(std.as_slice()).ok()?))
            }
            _ => None,
        });
        given.unwrap_or((n.mean.map(f64::from), n.std.map(f64::from)))
    }

    /// The features of the test part under a shift of its images.
    pub(super) fn shifted(
        &self,
        data: &Data,
        shift: Shift,
        severity: usize,
        seed: u64,
        made: &mut Work,
    ) -> Result<Labelled> {
        let part = &data.test;
        let cases = self.shifted_cases(part, shift, severity, seed)?;
        let cases = self.embedded(cases, &format!(", {shift} {severity}"), ("test", part), made)?;
        match &data.across {
            Some(across) => across.shared.of_target(&cases),
            None => Ok(cases),
        }
    }

    /// The cases of a part under a shift.
    pub(super) fn shifted_cases(&self, part: &Part, shift: Shift, severity: usize, seed: u64) -> Result<DatasetCases> {
        let preprocessing = shift.applied(severity, &self.preprocessing)?;
        Ok(self.cases(part, preprocessing).with_view(View { seed, pass: 0 }))
    }

    fn of(&self, part: &Part, made: &mut Work) -> Result<Labelled> {
        self.of_split(&part.set.split().to_string(), part, made)
    }

    /// The features of a part that is called so in `metrics.json`.
    fn of_split(&self, split: &str, part: &Part, made: &mut Work) -> Result<Labelled> {
        let cases = self.cases(part, self.preprocessing.clone());
        self.embedded(cases, "", (split, part), made)
    }

    /// The cases of a part behind a preprocessing.
    pub(super) fn cases(&self, part: &Part, preprocessing: Compose) -> DatasetCases {
        let cases = DatasetCases::new(Arc::clone(&part.set), preprocessing).with_root(&part.root);
        let cases = cases.with_intensity(self.intensity);
        match self.monochrome1 {
            Some(monochrome1) => cases.with_monochrome1(monochrome1),
            None => cases,
        }
    }

    /// The features of these pixels of the cases of a part.
    fn embedded(
        &self,
        cases: DatasetCases,
        what: &str,
        (split, part): (&str, &Part),
        made: &mut Work,
    ) -> Result<Labelled> {
        let set = &*part.set;
        let encoder = &*self.encoder.backbone;
        if let Some(stored) = &self.encoder.stored {
            let (cases, failures) = stored.labelled(set)?;
            if let (true, Some(first)) = (cases.is_empty(), failures.first()) {
                let why =
                    format!("no case of the {split} split has a row in {}; the first: {}", encoder.spec().id, first.id);
                return Err(Error::unfit(why));
            }
            made.fail(split, failures);
            made.fail(split, part.left_out());
            return Ok(cases);
        }
        let mut options = self.layout.embed_options(self.options(part));
        options.request.norm = encoder.spec().study_norm();
        let stage = self.watch.stage(&format!("{}{} {}{what}", self.called, set.id(), set.split()));
        let cases = Arc::new(cases.with_slice_step(self.slice_step));
        let report = embed(cases, encoder, self.folder, &options, &*stage)?;
        drop(stage);
        made.record(split, &report);
        made.fail(split, part.left_out());
        let cases = self.layout.labelled(&report.store()?, encoder.spec(), set)?;
        if let (true, Some(first)) = (cases.is_empty(), report.failures.first()) {
            let Failure { id, reason } = first;
            return Err(Error::unfit(format!("no case of the {split} split has features; the first: {id}: {reason}")));
        }
        Ok(cases)
    }

    /// The patch tokens of so many last blocks of a part's slices, in the store.
    pub(super) fn patches(&self, part: &Part, blocks: usize, made: &mut Work) -> Result<MaskedSlices> {
        let (set, split) = (&part.set, &*part.set.split().to_string());
        let cases = self.cases(part, self.preprocessing.clone());
        let options =
            EmbedOptions { request: Request::last(blocks), patch_blocks: blocks, shard_size: 64, ..self.options(part) };
        let stage = self.watch.stage(&format!("{} {}", set.id(), set.split()));
        let report = embed(Arc::new(cases), &*self.encoder.backbone, self.folder, &options, &*stage)?;
        drop(stage);
        made.record(split, &report);
        made.fail(split, part.left_out());
        MaskedSlices::of_blocks(report.store()?, Arc::clone(set), blocks)
    }

    fn options(&self, part: &Part) -> EmbedOptions {
        EmbedOptions {
            batch_size: self.batch,
            // Volumes fill a batch by themselves; small images want larger shards.
            shard_size: if part.set.task().is_3d { 64 } else { 1024 },
            device: self.encoder.device.clone(),
            bad: part.bad,
            patience: self.patience,
            set: format!("{}-{}", part.set.id(), part.set.split()),
            ..EmbedOptions::default()
        }
    }
}
