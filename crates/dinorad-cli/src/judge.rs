//! The one job behind every `dinorad eval HEAD`: features of the splits, the head on top, a run
//! folder.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use dinorad::{
    backbone::BackboneSpec,
    core::{Protocol, TaskKind, resample::Filter},
    eval::{
        AugmentedViews,
        assembly::{Aggregation, Assembly},
        probe::{Context, Head, ProbeOptions, ProbeRun, Splits, Views, probe},
        report::{Block, Report, Section, Timing},
        run::RunFolder,
    },
    transforms::{Compose, presets::classification_train},
};
use serde::Serialize;

use crate::{
    cases,
    encoder::{self, Loaded},
    features::{Data, Features, Made, Recipe, resized},
    progress::Bar,
};

/// What to judge, and how.
pub(crate) struct Job<'a> {
    /// `eval knn` and so on, for the record.
    pub(crate) command: &'static str,
    pub(crate) data: &'a Data,
    pub(crate) head: Head,
    pub(crate) options: ProbeOptions,
    pub(crate) assembly: Assembly,
    pub(crate) pixels: PixelOptions,
    /// Every how many slices of a volume one is encoded; 1 for all.
    pub(crate) slice_step: usize,
    pub(crate) augment: bool,
    pub(crate) batch: usize,
    pub(crate) seed: u64,
    pub(crate) features: PathBuf,
}

/// Sizes of the images that the encoder sees.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct PixelOptions {
    /// Side of the square before the crop.
    pub(crate) resize: usize,
    /// Side of the square the encoder sees.
    pub(crate) crop: usize,
    #[serde(skip)]
    pub(crate) filter: Filter,
}

impl PixelOptions {
    pub(crate) fn square(size: usize) -> Self {
        Self { resize: size, crop: size, filter: Filter::BicubicAntialias }
    }
}

/// One encoder judged.
pub(crate) struct Done {
    pub(crate) spec: BackboneSpec,
    pub(crate) run: ProbeRun,
    pub(crate) made: Made,
    pub(crate) timings: Vec<Timing>,
    /// Single cases for a report.
    pub(crate) shown: Vec<Block>,
}

/// `config.toml`: all that decides the numbers.
#[derive(Serialize)]
struct Config<'a> {
    command: &'static str,
    version: &'static str,
    dataset: &'a str,
    root: &'a Path,
    test_dataset: &'a str,
    test_root: &'a Path,
    augment: bool,
    slice_step: usize,
    seed: u64,
    features: &'a [PathBuf],
    protocol: Protocol,
    pixels: PixelOptions,
    assembly: Assembly,
    probe: &'a ProbeOptions,
    head: &'a Head,
    encoder: &'a BackboneSpec,
    preprocessing: &'a Compose,
}

impl Job<'_> {
    fn recipe<'a>(&'a self, encoder: &'a Loaded) -> Recipe<'a> {
        let PixelOptions { resize, crop, filter } = self.pixels;
        Recipe {
            backbone: &*encoder.backbone,
            device: &encoder.device,
            batch: self.batch,
            preprocessing: resized(&*encoder.backbone, resize, crop, filter),
            assembly: self.assembly,
            slice_step: self.slice_step,
            features: &self.features,
        }
    }

    /// Features and the head of one encoder, and the run folder `out`.
    pub(crate) fn run(&self, encoder: &Loaded, out: &Path) -> Result<Done> {
        let recipe = self.recipe(encoder);
        let mut made = Made::default();
        let run_folder = RunFolder::create(out)?;
        let features = recipe.all(self.data, &mut made)?;
        let judging = Instant::now();
        let run = self.probe(encoder, &features)?;
        let judging = judging.elapsed().as_secs_f64();

        let spec = encoder.backbone.spec().clone();
        run_folder.write_config(&Config {
            command: self.command,
            version: env!("CARGO_PKG_VERSION"),
            dataset: self.data.train.set.id(),
            root: &self.data.train.root,
            test_dataset: self.data.test.set.id(),
            test_root: &self.data.test.root,
            augment: self.augment,
            slice_step: self.slice_step,
            seed: self.seed,
            features: &made.stores,
            protocol: self.options.protocol,
            pixels: self.pixels,
            assembly: self.assembly,
            probe: &self.options,
            head: run.head(),
            encoder: &spec,
            preprocessing: &recipe.preprocessing,
        })?;
        run.write(&run_folder)?;
        run_folder.log(&serde_json::json!({
            "event": self.command, "dataset": self.data.train.set.id(), "encoder": spec.id,
            "images": made.images, "setting": run.best().label,
            "seconds": { "encoding": made.encoding, "waiting": made.waiting, "judging": judging },
            "failures": made.failures,
        }))?;
        let mut timings = made.timings();
        timings.push(Timing::new(format!("{} and bootstrap", self.head.title()), judging));
        let shown = cases::blocks(self.data, &features, &run, self.slice_step)?;
        Ok(Done { spec, run, made, timings, shown })
    }

    /// The head on features made before.
    fn probe(&self, encoder: &Loaded, features: &Features) -> Result<ProbeRun> {
        let views = if self.augment { Some(self.views(encoder)?) } else { None };
        let bar = Bar::new(self.head.title());
        let context = Context { views: views.as_ref().map(|v| v as &dyn Views), progress: &bar };
        let splits = Splits { train: &features.train, val: features.val.as_ref(), test: &features.test };
        probe(&self.head, &splits, self.data.task(), &self.options, &context)
            .with_context(|| format!("could not judge by {}", self.head.title()))
    }

    fn views<'a>(&self, encoder: &'a Loaded) -> Result<AugmentedViews<'a>> {
        let n = encoder.backbone.spec().normalization;
        let (mean, std) = (n.mean.map(f64::from), n.std.map(f64::from));
        let random = classification_train(self.pixels.crop, self.pixels.filter, mean, std);
        let sets = [Some(&self.data.train), self.data.val.as_ref()].into_iter().flatten();
        let views = AugmentedViews::new(
            &*encoder.backbone,
            sets.map(|part| part.set.clone()),
            random,
            self.assembly,
            self.seed,
        )?;
        Ok(views.on(&encoder.device, self.batch))
    }

    /// The section of a report about one encoder.
    pub(crate) fn section(&self, done: &Done) -> Result<Section> {
        let aggregation = match (self.data.task().is_3d, self.assembly.aggregate) {
            (false, _) => String::new(),
            (true, Aggregation::Mean) => " on the mean of slices".into(),
            (true, other) => format!(" on slices pooled by {other}"),
        };
        let mut section = Section::new(format!("{}: {}", self.data.train.set.id(), done.spec.id))
            .with_method(format!("{}{aggregation}, {}", self.head.title(), done.run.best().label))
            .with_intro(done.run.convention())
            .with_dataset(self.data.card(self.pixels.crop));
        for score in done.run.scores() {
            section = section.with_headline(score);
        }
        for block in done.run.blocks()?.into_iter().chain(done.shown.iter().cloned()) {
            section = section.with(block);
        }
        Ok(section.with(Block::Timings(done.timings.clone())))
    }

    /// A page about all encoders.
    pub(crate) fn report(&self, encoder: &Loaded, done: &[Done]) -> Result<Report> {
        let mut report = Report::new(format!("dinorad {}", self.command), encoder::card(encoder))
            .with_fact("command", format!("dinorad {}", self.command))
            .with_fact("protocol", self.options.protocol.to_string());
        for one in done {
            report = report.with_section(self.section(one)?).with_failures(one.made.failures.clone());
        }
        Ok(report)
    }
}

/// Refuses a pooling of slices where there are none.
pub(crate) fn check_aggregation(data: &Data, assembly: &Assembly) -> Result<()> {
    if assembly.aggregate != Aggregation::Mean && !data.task().is_3d {
        anyhow::bail!(
            "--aggregate {} pools the slices of scans; the cases of {} are single images",
            assembly.aggregate,
            data.train.set.id()
        );
    }
    if data.task().kind == TaskKind::Segmentation {
        anyhow::bail!("{} is a segmentation; this command judges classes and findings", data.train.set.id());
    }
    Ok(())
}
