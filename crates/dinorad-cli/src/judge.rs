//! The one job behind every `dinorad eval HEAD`: features of the splits, the head on top, what the
//! score is worth, a run folder.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use dinorad::{
    backbone::BackboneSpec,
    core::{Protocol, Target, TaskKind, resample::Filter},
    datasets::Dataset,
    eval::{
        AugmentedViews,
        assembly::{Aggregation, Assembly},
        probe::{
            Comparison, Context, Draw, Head, Judged, LinearHead, ProbeOptions, ProbeRun, Start, SubsetCurve,
            SubsetOptions, Tested, Views, probe, shuffled_labels, subset_curves,
        },
        report::{Block, Section, Timing},
        run::{CurvePoint, MetricValue, MetricsFile, RunFolder},
    },
    transforms::{Compose, Shift, presets::classification_train},
};
use serde::Serialize;

use crate::{
    cases, curves,
    encoder::Loaded,
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
    pub(crate) subsets: Subsets,
    pub(crate) shifts: Vec<Shift>,
    /// Seeds of the shuffled-label control; none for no controls at all.
    pub(crate) control_seeds: usize,
}

/// Small training sets to try.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subsets {
    pub(crate) shots: Vec<usize>,
    pub(crate) fractions: Vec<f64>,
    pub(crate) tries: usize,
    /// The protocol's own unless given.
    pub(crate) draw: Option<Draw>,
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
    pub(crate) controls: Option<Controls>,
    pub(crate) subsets: Vec<SubsetCurve>,
    pub(crate) shifts: Vec<ShiftCurve>,
    /// The test split of the data set it was trained on, where another one is the test.
    pub(crate) own_test: Option<Judged>,
    /// This encoder minus the first, where there are several.
    pub(crate) comparison: Option<Comparison>,
    pub(crate) out: PathBuf,
}

/// What the score is worth.
pub(crate) struct Controls {
    pub(crate) shuffled: Vec<Tested>,
    /// The same head on an encoder of the same shape with random weights, or why there is none.
    pub(crate) untrained: Result<ProbeRun, String>,
}

/// Scores under a shift of the test images, from severity 0.
pub(crate) struct ShiftCurve {
    pub(crate) shift: Shift,
    pub(crate) points: Vec<Judged>,
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
    control_seeds: usize,
    shifts: &'a [Shift],
    features: &'a [PathBuf],
    protocol: Protocol,
    pixels: PixelOptions,
    assembly: Assembly,
    probe: &'a ProbeOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    subsets: Option<&'a SubsetOptions>,
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

    /// Features and the head of one encoder, and the run folder `out`. `twin` makes the encoder of
    /// the same shape with random weights, for the control.
    pub(crate) fn run(&self, encoder: &Loaded, twin: &dyn Fn() -> Result<Loaded>, out: &Path) -> Result<Done> {
        let done = self.run_in(encoder, twin, out);
        if done.is_err() {
            // A folder that was made for results that never came; one with anything in it stays.
            let _ = std::fs::remove_dir(out);
        }
        done
    }

    fn run_in(&self, encoder: &Loaded, twin: &dyn Fn() -> Result<Loaded>, out: &Path) -> Result<Done> {
        let recipe = self.recipe(encoder);
        let mut made = Made::default();
        let folder = RunFolder::create(out)?;
        let features = recipe.all(self.data, &mut made)?;
        let started = Instant::now();
        let run = self.probe(encoder, &recipe, &features)?;
        let judging = started.elapsed().as_secs_f64();
        let own_test = features.own_test.as_ref().map(|cases| run.judge(cases)).transpose()?;

        let mut timings = vec![Timing::new(format!("{} and bootstrap", self.head.title()), judging)];
        let started = Instant::now();
        let subset_options = self.subset_options();
        let subsets = match &subset_options {
            Some(options) => self.with_context("small training sets", encoder, &recipe, |context| {
                let splits = features.splits();
                Ok(subset_curves(&self.head, &splits, self.data.task(), &self.options, options, context)?)
            })?,
            None => Vec::new(),
        };
        if !subsets.is_empty() {
            timings.push(Timing::new("small training sets", started.elapsed().as_secs_f64()));
        }
        let started = Instant::now();
        let shifts = self.shifts(&recipe, &run, &mut made)?;
        if !shifts.is_empty() {
            timings.push(Timing::new("shifts of the test images", started.elapsed().as_secs_f64()));
        }
        let started = Instant::now();
        let controls = self.controls(encoder, &recipe, &features, twin, &mut made)?;
        if controls.is_some() {
            timings.push(Timing::new("controls", started.elapsed().as_secs_f64()));
        }
        timings.splice(0..0, made.timings());

        let spec = encoder.backbone.spec().clone();
        folder.clear()?;
        folder.write_config(&Config {
            command: self.command,
            version: env!("CARGO_PKG_VERSION"),
            dataset: self.data.train.set.id(),
            root: &self.data.train.root,
            test_dataset: self.data.test.set.id(),
            test_root: &self.data.test.root,
            augment: self.augment,
            slice_step: self.slice_step,
            seed: self.seed,
            control_seeds: self.control_seeds,
            shifts: &self.shifts,
            features: &made.stores,
            protocol: self.options.protocol,
            pixels: self.pixels,
            assembly: self.assembly,
            probe: &self.options,
            subsets: subset_options.as_ref(),
            head: run.head(),
            encoder: &spec,
            preprocessing: &recipe.preprocessing,
        })?;
        run.write_parts(&folder)?;
        folder.log(&serde_json::json!({
            "event": self.command, "dataset": self.data.train.set.id(), "encoder": spec.id,
            "images": made.images, "setting": run.best().label,
            "seconds": { "encoding": made.encoding, "waiting": made.waiting, "judging": judging },
            "failures": made.failures,
        }))?;
        let shown = cases::blocks(self.data, &features, &run, self.slice_step)?;
        let out = out.to_owned();
        let done = Done { spec, run, made, timings, shown, controls, subsets, shifts, own_test, comparison: None, out };
        for (name, svg, _) in curves::plots(&done)? {
            folder.write_plot(&name, &svg)?;
        }
        folder.write_metrics(&self.metrics(&done))?;
        Ok(done)
    }

    /// The head on features made before.
    fn probe(&self, encoder: &Loaded, recipe: &Recipe<'_>, features: &Features) -> Result<ProbeRun> {
        self.with_context(self.head.title(), encoder, recipe, |context| {
            probe(&self.head, &features.splits(), self.data.task(), &self.options, context)
                .with_context(|| format!("could not judge by {}", self.head.title()))
        })
    }

    /// With a progress bar, and views of the training images where they are wanted.
    fn with_context<T>(
        &self,
        what: &str,
        encoder: &Loaded,
        recipe: &Recipe<'_>,
        f: impl FnOnce(&Context<'_>) -> Result<T>,
    ) -> Result<T> {
        let views = if self.augment { Some(self.views(encoder, recipe)?) } else { None };
        let bar = Bar::new(what);
        f(&Context { views: views.as_ref().map(|v| v as &dyn Views), progress: &bar })
    }

    fn views<'a>(&self, encoder: &'a Loaded, recipe: &Recipe<'_>) -> Result<AugmentedViews<'a>> {
        // The pixels of the features, but for the crop and the flip.
        let (mean, std) = recipe.mean_std();
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

    fn subset_options(&self) -> Option<SubsetOptions> {
        let Subsets { shots, fractions, tries, draw } = &self.subsets;
        (!(shots.is_empty() && fractions.is_empty())).then(|| SubsetOptions {
            shots: shots.clone(),
            fractions: fractions.clone(),
            tries: *tries,
            seed: self.seed,
            draw: draw.unwrap_or_else(|| Draw::of(self.options.protocol, self.data.train.set.id())),
        })
    }

    /// The model that was tested, on ever worse images of the test split.
    fn shifts(&self, recipe: &Recipe<'_>, run: &ProbeRun, made: &mut Made) -> Result<Vec<ShiftCurve>> {
        let mut curves = Vec::new();
        for &shift in &self.shifts {
            let mut points = vec![run.test().clone()];
            for severity in 1..=Shift::SEVERITIES {
                let cases = recipe.shifted(self.data, shift, severity, self.seed, made)?;
                points.push(run.judge(&cases)?);
            }
            curves.push(ShiftCurve { shift, points });
        }
        Ok(curves)
    }

    /// The same head on labels without meaning, and on features without training.
    fn controls(
        &self,
        encoder: &Loaded,
        recipe: &Recipe<'_>,
        features: &Features,
        twin: &dyn Fn() -> Result<Loaded>,
        made: &mut Made,
    ) -> Result<Option<Controls>> {
        if self.control_seeds == 0 {
            return Ok(None);
        }
        let seeds: Vec<u64> = (0..self.control_seeds as u64).map(|i| self.seed.wrapping_add(i)).collect();
        let shuffled = {
            self.with_context("shuffled labels", encoder, recipe, |context| {
                let splits = features.splits();
                Ok(shuffled_labels(&self.head, &splits, self.data.task(), &self.options, &seeds, context)?)
            })?
        };
        let untrained = match twin() {
            Ok(twin) => {
                // The pixels stay those of the encoder that is judged.
                let recipe = Recipe { preprocessing: recipe.preprocessing.clone(), ..self.recipe(&twin) };
                let mut own = Made::default();
                let features = recipe.all(self.data, &mut own)?;
                made.images += own.images;
                made.encoding += own.encoding;
                made.waiting += own.waiting;
                made.stores.extend(own.stores);
                Ok(self.probe(&twin, &recipe, &features)?)
            }
            Err(why) => Err(format!("{why:#}")),
        };
        Ok(Some(Controls { shuffled, untrained }))
    }

    /// `metrics.json`.
    fn metrics(&self, done: &Done) -> MetricsFile {
        let mut file = done.run.metrics();
        if let Some(controls) = &done.controls {
            let over = |of: fn(&Tested) -> Option<f64>| {
                let values: Vec<f64> = controls.shuffled.iter().map(|t| of(t).unwrap_or(f64::NAN)).collect();
                MetricValue::over_runs(&values)
            };
            file.set("test_shuffled_labels", "auroc", over(|t| t.auroc));
            file.set("test_shuffled_labels", "accuracy", over(|t| t.accuracy));
            match &controls.untrained {
                Ok(run) => done.run.set_all(&mut file, "test_untrained_encoder", run.test()),
                Err(why) => file.notices.push(format!("no untrained encoder of the same shape: {why}")),
            }
        }
        if let Some(own) = &done.own_test {
            done.run.set_all(&mut file, "test_own_data_set", own);
        }
        file.notices.extend(self.data.notices());
        file.notices.extend(curves::notes(done));
        for curve in &done.subsets {
            let points = curve.points.iter().map(|p| p.to_curve_point()).collect();
            file.curves.insert(curve.name.to_owned(), points);
        }
        for curve in &done.shifts {
            let points = curve.points.iter().enumerate().map(|(severity, judged)| {
                let mut of = MetricsFile::default();
                done.run.set_all(&mut of, "test", judged);
                let metrics = of.metrics.remove("test").unwrap_or_default();
                CurvePoint { x: severity as f64, metrics, ..CurvePoint::default() }
            });
            file.curves.insert(format!("shift_{}", curve.shift), points.collect());
        }
        file
    }

    /// Tells every run how it differs from the first.
    pub(crate) fn compare(&self, done: &mut [Done]) -> Result<()> {
        let Some((first, others)) = done.split_first_mut() else { return Ok(()) };
        for other in others {
            let compared = dinorad::eval::probe::compare(
                other.run.test(),
                first.run.test(),
                self.data.task(),
                &self.options.bootstrap,
            )?;
            if let Some(comparison) = compared {
                let folder = RunFolder::open(&other.out)?;
                let mut metrics = folder.read_metrics()?;
                metrics.comparisons.insert(format!("auroc minus that of {}", first.spec.id), comparison.clone());
                folder.write_metrics(&metrics)?;
                other.comparison = Some(comparison);
            }
        }
        Ok(())
    }

    /// The section of a report about one encoder.
    pub(crate) fn section(&self, done: &Done) -> Result<Section> {
        let aggregation = match (self.data.task().is_3d, self.assembly.aggregate) {
            (false, _) => String::new(),
            (true, Aggregation::Mean) => " on the mean of slices".into(),
            (true, other) => format!(" on slices pooled by {other}"),
        };
        let mut section = Section::new(format!("{}: {}", self.data.title(), done.spec.id))
            .with_method(format!("{}{aggregation}, {}", self.head.title(), done.run.best().label))
            .with_intro(done.run.convention())
            .with_dataset(self.data.card(self.pixels.crop));
        for score in done.run.scores() {
            section = section.with_headline(score);
        }
        let shown = done.shown.iter().cloned();
        for block in done.run.blocks()?.into_iter().chain(shown).chain(curves::blocks(done)?) {
            section = section.with(block);
        }
        Ok(section)
    }
}

/// Refuses what cannot work with these data, before anything is encoded.
pub(crate) fn check(data: &Data, head: &Head, assembly: &Assembly) -> Result<()> {
    let (id, task) = (data.train.set.id(), data.task());
    if assembly.aggregate != Aggregation::Mean && !task.is_3d {
        bail!("--aggregate {} pools the slices of scans; the cases of {id} are single images", assembly.aggregate);
    }
    if task.kind == TaskKind::Segmentation {
        bail!("{id} is a segmentation; this command judges classes and findings");
    }
    if matches!(head, Head::MlKnn(_)) && task.kind != TaskKind::Multilabel {
        bail!(
            "ML-kNN is for multilabel data, whose cases may have several findings; those of {id} have one class: use eval knn"
        );
    }
    let settings = head.settings().len();
    if data.val.is_none() && settings > 1 {
        let one = match head {
            Head::Knn(_) => "--k 20",
            Head::MlKnn(_) => "--k 20 --smoothing 1",
            Head::Logreg(_) => "--c 1",
            _ => "--lr 0.01 --blocks 1 --avgpool without",
        };
        bail!(
            "{id} has no validation split to choose among {settings} settings by: name one setting (such as {one}), or \
             cut a split with `dinorad splits` and give it with --splits"
        );
    }
    if let Head::Linear(LinearHead { init: Some(init), .. }) = head {
        Start::read(init).context("--init")?;
    }
    one_class(&*data.train.set)
}

/// Refuses training cases that are all of one class, as far as their targets can be read.
fn one_class(train: &dyn Dataset) -> Result<()> {
    let mut seen = None;
    for i in 0..train.len() {
        match (train.target(i), seen) {
            (Ok(Target::Class(class)), None) => seen = Some(class),
            (Ok(Target::Class(class)), Some(first)) if class == first => {}
            _ => return Ok(()),
        }
    }
    let Some(class) = seen else { return Ok(()) };
    let name = train.task().class_names.get(class).cloned().unwrap_or_else(|| class.to_string());
    bail!("all {} training cases of {} are of the class `{name}`: there is nothing to learn", train.len(), train.id())
}
