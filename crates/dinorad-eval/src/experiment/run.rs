//! Runs an experiment: features of its parts, the method on top, what the score is worth, a folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime},
};

use dinorad_backbone::tuning::Checked;
use dinorad_core::{
    Progress, Protocol, TaskKind, in_full,
    method::{Context, Input, Method},
};
use dinorad_datasets::{Dataset, Intensity, Kind, Pseudonyms, Unit, label_ids};
use dinorad_metrics::BootstrapOptions;
use dinorad_report::{Existing, Found, Made, RunLock, RunWriter, Status, is_run};
use dinorad_transforms::{Shift, presets::classification_train};

use super::{
    ControlScores, Experiment, Judgements, MethodChoice, Outcome, ShiftCurve, Subsets, Watch, Work,
    data::{self, Data, Part},
    encoder, exhibits,
    features::{Features, Recipe},
    gallery,
    pixels::Pixels,
    predict,
    runner::{Ready, Runner, Subject},
    scans, segmenting, stored,
};
use crate::{
    AugmentedViews, Cases, DatasetCases, Error, Result, date,
    finetune::DatasetPixels,
    memory,
    probe::{
        CasePixels, Draw, Labelled, ProbeOptions, ProbeRun, Refit, SubsetOptions, Views, probe, shuffled_labels,
        subset_curves,
    },
    report::Timing,
    row_layout::{Aggregation, RowLayout},
};

/// The folder of a run in which trainings keep their logs, and what they have until the run is whole.
pub(super) const CHECKPOINTS: &str = "training";

impl Runner<'_> {
    /// Runs `experiment` into the folder `out`. Relative paths of the description count from the
    /// current folder; see [`Experiment::based_at`].
    ///
    /// # Errors
    /// [`Error::Description`] for what is wrong with the description, [`Error::Occupied`] for a folder
    /// that holds another experiment's run, [`Error::Report`] for one that another process writes; what the
    /// data, the encoder and the method say. A folder that was made for results that never came is removed.
    pub fn run(&self, experiment: &Experiment, out: &Path) -> Result<Outcome> {
        let ready = self.ready(experiment)?;
        self.run_ready(ready, out)
    }

    /// Looks for everything that can be wrong before anything is encoded.
    pub(super) fn ready(&self, experiment: &Experiment) -> Result<Ready> {
        experiment.check()?;
        if self.batch == 0 {
            return Err(Error::Parameter { what: "batch", expected: "at least 1", got: "0".into() });
        }
        let mut experiment = experiment.clone();
        let protocol = experiment.protocol;
        let choice = experiment.method.as_ref().map(|m| m.resolve(protocol)).transpose()?;
        let seeded = choice.map(|m| m.with_seed(experiment.seed));
        let input = seeded.as_ref().map(|m| m.input());
        let subject = match seeded {
            None => Subject::Shown,
            Some(method) => {
                let unit = if input == Some(Input::Patches) { Unit::Slices } else { Unit::Volumes };
                let orientation = experiment.preprocessing.orientation;
                let data = Data::open(&experiment.data, protocol, unit, orientation, self.pseudonyms.as_ref())?;
                let method = fitting(method, &data, &experiment, self.watch)?;
                experiment.method = Some(MethodChoice::replaced(method.clone())?);
                Subject::Judged { data, method }
            }
        };
        let tokens = match &subject {
            Subject::Judged { method, .. } => method.tokens().unwrap_or(experiment.tokens),
            Subject::Shown => experiment.tokens,
        };
        // A method that trains the encoder pools slices itself: the features here only show that cases can be read.
        let pooled = if input == Some(Input::Pixels) { Aggregation::Mean } else { experiment.aggregate };
        let layout = RowLayout { tokens, aggregate: pooled };
        let mut encoder = experiment.encoder.load(protocol, &self.device, self.watch)?;
        if let (Some(stored), Subject::Judged { method, .. }) = (encoder.stored.clone(), &subject) {
            let needed = [
                (method.wants_views(), "method", "new views of the training images"),
                (method.input() != Input::Rows, "method", "more than one row of features a case"),
                (!experiment.shifts.is_empty(), "shifts", "the images themselves"),
                (experiment.aggregate != Aggregation::Mean, "aggregate", "the slices of scans"),
            ];
            if let Some((_, key, what)) = needed.iter().find(|(needed, ..)| *needed) {
                return Err(Error::description(*key, format!("embeddings that are given have no encoder for {what}")));
            }
            if stored.is_nameless() {
                let ids = label_ids(&experiment.data.root, &experiment.data.columns)?;
                encoder.stored = Some(Arc::new(stored.named(ids)?));
            }
        }
        if let Some(caution) = encoder.caution() {
            self.watch.note(caution);
        }
        let masks = experiment.method.as_ref().is_some_and(|m| m.draws_masks());
        let scratch = experiment.method.as_ref().map(MethodChoice::segmenting).transpose()?.flatten();
        let scratch = scratch.is_some_and(|method| !method.model.wants_encoder());
        if encoder.is_none() != scratch {
            let why = if scratch {
                format!("a network from scratch stands on none: source = \"{}\"", super::NO_ENCODER)
            } else {
                "this method needs one".to_owned()
            };
            return Err(Error::description("encoder.source", why));
        }
        let of_classes = |s: &Subsets| !(s.shots.is_empty() && s.fractions.is_empty()) || s.draw.is_some();
        let of_masks = |s: &Subsets| !(s.volumes.is_empty() && s.patches.is_empty()) || s.steps.is_some();
        if !(masks && input == Some(Input::Pixels)) && experiment.subsets.as_ref().is_some_and(of_masks) {
            let why = "volumes and patches are of methods that draw the masks of scans".into();
            return Err(Error::description("subsets", why));
        }
        if masks && input == Some(Input::Pixels) {
            let unknown = [
                (experiment.subsets.as_ref().is_some_and(of_classes), "subsets.shots"),
                (!experiment.shifts.is_empty(), "shifts"),
                (experiment.preprocessing.slice_step > 1, "preprocessing.slice_step"),
                (experiment.preprocessing.percentiles, "preprocessing.percentiles"),
                (
                    experiment.preprocessing.resize.is_some_and(|n| Some(n) != experiment.preprocessing.image_size),
                    "preprocessing.resize",
                ),
            ];
            if let Some((_, key)) = unknown.iter().find(|(is, _)| *is) {
                return Err(Error::description(*key, "masks of scans are drawn without it".into()));
            }
        }
        let spec = encoder.backbone.spec();
        if let Err(error) = spec.check(&layout.request()) {
            let mean_patch = if tokens.avgpool { ", and no mean patch token" } else { "" };
            let why = format!("{}: {error}; every encoder takes 1{mean_patch}", spec.id);
            return Err(Error::description("tokens.blocks", why));
        }
        let neighbours = experiment.method.as_ref().is_some_and(|m| m.tables_every_setting());
        let pixels = Pixels::new(&experiment.preprocessing, &*encoder.backbone, protocol, neighbours)?;
        // Nothing is left open any more.
        let given = &mut experiment.preprocessing;
        if !scratch {
            (given.image_size, given.patches) = (Some(pixels.crop), None);
            (given.resize, given.filter) = (Some(pixels.resize), Some(pixels.filter));
        }
        // limits of every slice are a scale of their own
        let plain = given.percentiles || protocol == Protocol::Paper;
        given.intensity.get_or_insert(if plain { Intensity::None } else { Intensity::Auto });
        experiment.tokens = tokens;
        // masks are learned from all there is, as networks for them usually are
        let whole = masks && input == Some(Input::Pixels);
        experiment.refit.get_or_insert(if whole { Refit::TrainVal } else { Refit::of(protocol) });
        experiment.encoder.digest = Some(spec.digest.clone());
        if let Some(table) = &experiment.data.splits {
            experiment.data.splits_digest = Some(data::digest_of(table)?);
        }
        if experiment.aggregate == Aggregation::Attention {
            experiment.attention.get_or_insert_default();
        } else {
            experiment.attention = None;
        }
        Ok(Ready { experiment, subject, encoder, pixels, layout })
    }

    /// Makes one step of a fine-tuning, and tells of every tensor whether it trains, got a gradient and moved.
    ///
    /// # Errors
    /// [`Error::Description`] for an experiment of another method; as [`run`](Self::run).
    pub fn check_training(&self, experiment: &Experiment) -> Result<Vec<Checked>> {
        let ready = self.ready(experiment)?;
        let Subject::Judged { data, method } = &ready.subject else {
            return Err(Error::description("method", "there is none that trains".into()));
        };
        let tuned = ready.experiment.method.as_ref().map(MethodChoice::finetune).transpose()?.flatten();
        let Some(tuned) = tuned else {
            return Err(Error::description("method", format!("{} trains nothing in the encoder", method.title())));
        };
        let options = ready.experiment.probe_options();
        let job = Job { runner: self, checkpoints: PathBuf::new(), ready: &ready, data, method: &**method, options };
        let features = job.features(&self.recipe(&ready, &ready.encoder), &mut Work::default())?;
        tuned.check_step(&features.train, data.task())
    }

    pub(super) fn run_ready(&self, ready: Ready, out: &Path) -> Result<Outcome> {
        // Before it is looked at: what is found stays as it is until this run has ended.
        let lock = RunLock::take(out)?;
        if self.existing == Existing::Refuse
            && Found::of(out, &told(&ready.experiment, out, self.pseudonyms.as_ref()))? == Found::Other
        {
            return Err(Error::Occupied { folder: out.to_owned() });
        }
        let masks = out.join(scans::MASKS);
        let draws = ready.experiment.method.as_ref().is_some_and(|m| m.draws_masks() && m.input() == Input::Pixels);
        if draws && masks.exists() && !is_run(out) {
            let why = format!("{} is there already and of no run: name another folder", masks.display());
            return Err(Error::unfit(why));
        }
        let mut writer = RunWriter::begin(lock, Existing::Replace)?;
        match self.run_in(ready, &mut writer) {
            Ok(mut done) => {
                done.folder = Some(writer.finish()?);
                Ok(done)
            }
            // What hours of training have reached is not thrown away with what came to nothing.
            Err(error) if has_checkpoint(out) => {
                // A full disk may not take the mark either; the error that came first is the one to tell.
                let _ = writer.fail(in_full(&error));
                self.watch.note(&format!(
                    "the last checkpoints are kept in {}: the same command goes on from there",
                    out.join(CHECKPOINTS).display()
                ));
                Err(error)
            }
            Err(error) => {
                writer.abandon(in_full(&error))?;
                Err(error)
            }
        }
    }

    /// Whether the folder holds the whole run of this very experiment.
    pub(super) fn is_done(&self, ready: &Ready, out: &Path) -> Result<bool> {
        Ok(Found::of(out, &told(&ready.experiment, out, self.pseudonyms.as_ref()))? == Found::Same(Status::Finished))
    }

    fn run_in(&self, ready: Ready, writer: &mut RunWriter) -> Result<Outcome> {
        let started = Instant::now();
        memory::forget_peak();
        // First, so that a run which was stopped is known again.
        writer.config(&told(&ready.experiment, writer.path(), self.pseudonyms.as_ref()))?;
        let done = match &ready.subject {
            Subject::Shown => gallery::show(self, &ready, writer)?,
            Subject::Judged { data, method } if method.input() == Input::Patches => {
                segmenting::segment(self, &ready, data, &**method, writer)?
            }
            Subject::Judged { data, method } => match ready.experiment.method.as_ref().map(MethodChoice::segmenting) {
                Some(segmenting) if method.draws_masks() => match segmenting? {
                    Some(method) => scans::scans(self, &ready, data, method, writer)?,
                    None => {
                        return Err(Error::description(
                            "method",
                            format!("{} draws no masks of scans", method.title()),
                        ));
                    }
                },
                _ => self.judge(&ready, data, &**method, writer)?,
            },
        };
        writer.metrics(&done.metrics())?;
        writer.exhibits(&done.exhibits())?;
        writer.log(&serde_json::json!({
            "event": done.experiment.label(), "dataset": done.title, "encoder": done.spec.id,
            "images": done.made.images,
            "setting": done.probe().map(|run| run.best().label.clone()),
            "seconds": { "encoding": done.made.encoding, "waiting": done.made.waiting, "all": seconds(started) },
            "failures": done.made.failures,
        }))?;
        writer.config(&told(&done.experiment, writer.path(), self.pseudonyms.as_ref()))?;
        writer.made(&Made {
            date: Some(date::utc(SystemTime::now())),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            commit: self.commit.clone(),
            command: self.command.clone().filter(|_| self.pseudonyms.is_none()),
            machine: Some(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
            threads: Some(rayon::current_num_threads()),
            seconds: Some(seconds(started)),
            peak_memory_mb: memory::peak().map(|bytes| bytes / 1e6),
            images: Some(done.made.images),
            steps: done.timings.clone(),
        })?;
        Ok(done)
    }

    /// A method that gives one answer a case.
    fn judge(&self, ready: &Ready, data: &Data, method: &dyn Method, folder: &RunWriter) -> Result<Outcome> {
        let mut options = ready.experiment.probe_options();
        if method.input() == Input::Pixels {
            // Such a method pools slices itself, and learns the pooling with the rest.
            options.attention = None;
        }
        let checkpoints = folder.path().join(CHECKPOINTS);
        let job = Job { runner: self, checkpoints, ready, data, method, options };
        let recipe = self.recipe(ready, &ready.encoder);
        let mut made = Work::default();
        let features = job.features(&recipe, &mut made)?;
        let started = Instant::now();
        let run = job.probe(&features)?;
        let mut timings = vec![Timing::new(format!("{} and bootstrap", method.title()), seconds(started))];
        let own_test = features.own_test.as_ref().map(|cases| run.judge(cases)).transpose()?;

        let started = Instant::now();
        let subset_options = job.subset_options();
        let subsets = match &subset_options {
            Some(options) => {
                let stage = self.watch.stage("small training sets");
                let context = job.context(&*stage);
                subset_curves(method, &features.splits(), data.task(), &job.options, options, &context)?
            }
            None => Vec::new(),
        };
        if !subsets.is_empty() {
            timings.push(Timing::new("small training sets", seconds(started)));
        }
        let started = Instant::now();
        let shifts = job.shifts(&recipe, &run, &mut made)?;
        if !shifts.is_empty() {
            timings.push(Timing::new("shifts of the test images", seconds(started)));
        }
        let started = Instant::now();
        let controls = job.controls(&recipe, &features, &mut made)?;
        if controls.is_some() {
            timings.push(Timing::new("controls", seconds(started)));
        }
        timings.splice(0..0, made.timings());

        let mut experiment = ready.experiment.clone();
        if let (Some(subsets), Some(options)) = (&mut experiment.subsets, subset_options) {
            subsets.draw = Some(options.draw);
        }
        run.write(folder)?;
        job.forget()?;
        if self.whole_models {
            run.save_model(folder.path())?;
        }
        predict::keep(folder, &recipe.cases(&data.train, recipe.preprocessing.clone()), recipe.slice_step)?;
        let shown = exhibits::blocks(data, &features, &run, experiment.preprocessing.slice_step)?;
        Ok(Outcome {
            spec: ready.encoder.backbone.spec().clone(),
            judgements: Judgements::Classes { run, controls, subsets, shifts, own_test },
            made,
            timings,
            folder: None,
            passed_over: features.passed_over.clone(),
            title: data.title(),
            encoder_card: encoder::card(&ready.encoder),
            dataset_card: Some(data.card(ready.pixels.crop)),
            shown,
            data_notices: data.notices(),
            experiment,
        })
    }
}

impl Experiment {
    /// The rules of the protocol, and what the description says otherwise.
    pub(super) fn probe_options(&self) -> ProbeOptions {
        let mut options = ProbeOptions::new(self.protocol);
        options.refit = self.refit.unwrap_or(options.refit);
        options.bootstrap = self.bootstrap();
        options.attention = (self.aggregate == Aggregation::Attention)
            .then(|| self.attention.clone().unwrap_or_default().training(self.seed));
        options
    }

    pub(super) fn bootstrap(&self) -> BootstrapOptions {
        BootstrapOptions { draws: self.intervals.draws, seed: self.seed, level: self.intervals.level }
    }
}

/// Whether a training has left one in the folder of a run.
fn has_checkpoint(run: &Path) -> bool {
    let trainings = std::fs::read_dir(run.join(CHECKPOINTS)).into_iter().flatten().flatten();
    trainings.into_iter().any(|training| training.path().join(dinorad_nn::train::LAST).is_file())
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// The method for these data, or why it cannot work with them.
fn fitting(method: Box<dyn Method>, data: &Data, of: &Experiment, watch: &dyn Watch) -> Result<Box<dyn Method>> {
    let (id, task) = (data.train.set.id(), data.task());
    if of.aggregate != Aggregation::Mean && !task.is_3d {
        let why = format!("{} pools the slices of scans; the cases of {id} are single images", of.aggregate);
        return Err(Error::description("aggregate", why));
    }
    if let Some(why) = of.refuses(task.kind) {
        return Err(Error::description("method", format!("{id}: {why}")));
    }
    method.check(task).map_err(|e| {
        let why = in_full(&e);
        match method.start_file() {
            Some(file) if why.contains(&file.display().to_string()) => Error::description("method.init", why),
            _ => Error::description("method", format!("{id}: {why}")),
        }
    })?;
    if task.kind != TaskKind::Segmentation {
        data.check_classes()?;
    }
    let settings = method.settings().len();
    if data.val.is_none() && settings > 1 {
        let why = format!(
            "{id} has no validation split to choose among {settings} settings by: name one setting (such as {}), or cut \
             a split with `dinorad splits` and name its table",
            method.single_setting()
        );
        return Err(Error::description("method", why));
    }
    let cases = data.train.set.len();
    match method.within(cases).map_err(|e| Error::description("method", format!("{id}: {e}")))? {
        None => Ok(method),
        Some((_, notice)) if method.is_explicit() => {
            // `k = 13, 40 became 12: 12 training cases`
            let (asked, rest) = notice.split_once(" became ").unwrap_or((&notice, ""));
            let most = rest.split(':').next().unwrap_or_default();
            let why = format!("{asked} asked of the {cases} training cases of {id}: at most {most}");
            Err(Error::description("method.k", why))
        }
        Some((within, notice)) => {
            watch.note(&format!("{notice} in {id}"));
            Ok(within)
        }
    }
}

/// One experiment whose method gives one answer a case.
struct Job<'a> {
    runner: &'a Runner<'a>,
    /// Where a training that takes long keeps what it has.
    checkpoints: PathBuf,
    ready: &'a Ready,
    data: &'a Data,
    method: &'a dyn Method,
    options: ProbeOptions,
}

impl Job<'_> {
    fn context<'c>(&'c self, progress: &'c dyn Progress) -> Context<'c> {
        let checkpoints = (self.method.input() == Input::Pixels).then_some(self.checkpoints.as_path());
        Context { progress, checkpoints, ..Context::PLAIN }
    }

    /// The features of all parts, with views of the training images where the method wants them.
    fn features(&self, recipe: &Recipe<'_>, made: &mut Work) -> Result<Features> {
        let mut features = recipe.all(self.data, made)?;
        if self.method.input() == Input::Pixels {
            let parts = [Some(&self.data.train), self.data.val.as_ref(), Some(&self.data.test)];
            let pixels: Arc<dyn CasePixels> = Arc::new(self.pixels(recipe, parts.into_iter().flatten()));
            let lent = [Some(&mut features.train), features.val.as_mut(), Some(&mut features.test)];
            for cases in lent.into_iter().flatten() {
                cases.pixels = Some(Arc::clone(&pixels));
            }
            // the test part of the data set that is learned from has places of its own
            let own = self.data.across.as_ref().and_then(|across| across.own_test.as_ref());
            if let (Some(cases), Some(part)) = (&mut features.own_test, own) {
                cases.pixels = Some(Arc::new(self.pixels(recipe, [part])));
            }
        }
        if self.method.wants_views() {
            let views: Arc<dyn Views> = Arc::new(self.views(recipe)?);
            let of_train: [Option<&mut Labelled>; 2] = [Some(&mut features.train), features.val.as_mut()];
            for cases in of_train.into_iter().flatten() {
                cases.views = Some(Arc::clone(&views));
            }
        }
        Ok(features)
    }

    /// The pixels of parts, as they are judged and as training draws views of them.
    fn pixels<'p>(&self, recipe: &Recipe<'_>, parts: impl IntoIterator<Item = &'p Part>) -> DatasetPixels {
        let (mean, std) = recipe.mean_std();
        let Pixels { crop, filter, .. } = self.ready.pixels;
        let random = classification_train(crop, filter, mean, std);
        let step = recipe.slice_step;
        let parts = parts.into_iter().map(|part| {
            let plain = recipe.cases(part, recipe.preprocessing.clone()).with_slice_step(step);
            let seen = recipe.cases(part, random.clone()).with_slice_step(step);
            (part.set.clone(), plain, seen)
        });
        self.behind(recipe, parts)
    }

    /// The pixels of cases, and the encoder that made the features.
    fn behind(
        &self,
        recipe: &Recipe<'_>,
        parts: impl IntoIterator<Item = (Arc<dyn Dataset>, DatasetCases, DatasetCases)>,
    ) -> DatasetPixels {
        let digest = recipe.encoder.backbone.spec().digest.clone();
        let layout = RowLayout { aggregate: self.ready.experiment.aggregate, ..self.ready.layout };
        DatasetPixels::new(parts, Arc::clone(&recipe.encoder.fresh), digest, layout)
    }

    fn views(&self, recipe: &Recipe<'_>) -> Result<AugmentedViews> {
        // The pixels of the features, but for the crop and the flip.
        let (mean, std) = recipe.mean_std();
        let Pixels { crop, filter, .. } = self.ready.pixels;
        let random = classification_train(crop, filter, mean, std);
        let sets = [Some(&self.data.train), self.data.val.as_ref()].into_iter().flatten();
        let sets = sets.map(|part| part.set.clone());
        let settings = recipe.cases(&self.data.train, random).settings();
        let encoder = Arc::clone(&recipe.encoder.backbone);
        let views = AugmentedViews::new(encoder, sets, settings, self.ready.layout, self.ready.experiment.seed)?;
        Ok(views.on(&recipe.encoder.device, self.runner.batch))
    }

    fn probe(&self, features: &Features) -> Result<ProbeRun> {
        let stage = self.runner.watch.stage(self.method.title());
        let context = self.context(&*stage);
        let doing = || format!("could not judge by {}", self.method.title());
        probe(self.method, &features.splits(), self.data.task(), &self.options, &context)
            .map_err(|error| Error::While { doing: doing(), source: Box::new(error) })
    }

    /// Removes the checkpoints of trainings whose results have been written; their logs stay.
    fn forget(&self) -> Result<()> {
        let Ok(trainings) = std::fs::read_dir(&self.checkpoints) else { return Ok(()) };
        for training in trainings.flatten() {
            for file in std::fs::read_dir(training.path()).into_iter().flatten().flatten() {
                let path = file.path();
                if path.extension().is_some_and(|e| e == "safetensors") {
                    std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    fn subset_options(&self) -> Option<SubsetOptions> {
        let given = self.ready.experiment.subsets.as_ref()?;
        (!(given.shots.is_empty() && given.fractions.is_empty())).then(|| SubsetOptions {
            shots: given.shots.clone(),
            fractions: given.fractions.clone(),
            tries: given.tries,
            seed: self.ready.experiment.seed,
            draw: given.draw.unwrap_or_else(|| Draw::of(self.options.protocol, self.data.train.set.id())),
        })
    }

    /// The model that was tested, on ever worse images of the test part.
    fn shifts(&self, recipe: &Recipe<'_>, run: &ProbeRun, made: &mut Work) -> Result<Vec<ShiftCurve>> {
        let mut curves = Vec::new();
        for &shift in &self.ready.experiment.shifts {
            let mut points = vec![run.test().clone()];
            for severity in 1..=Shift::SEVERITIES {
                let seed = self.ready.experiment.seed;
                let mut cases = recipe.shifted(self.data, shift, severity, seed, made)?;
                if self.method.input() == Input::Pixels {
                    let shown = recipe.shifted_cases(&self.data.test, shift, severity, seed)?;
                    let shown = shown.with_slice_step(recipe.slice_step);
                    let part = (self.data.test.set.clone(), shown.clone(), shown);
                    cases.pixels = Some(Arc::new(self.behind(recipe, [part])));
                }
                points.push(run.judge(&cases)?);
            }
            curves.push(ShiftCurve { shift, points });
        }
        Ok(curves)
    }

    /// The same method on labels without meaning, and on features without training.
    fn controls(&self, recipe: &Recipe<'_>, features: &Features, made: &mut Work) -> Result<Option<ControlScores>> {
        let Experiment { controls, seed, protocol, encoder, .. } = &self.ready.experiment;
        if controls.shuffled_labels == 0 && !controls.untrained_encoder {
            return Ok(None);
        }
        let seeds: Vec<u64> = (0..controls.shuffled_labels as u64).map(|i| seed.wrapping_add(i)).collect();
        let shuffled = {
            let stage = self.runner.watch.stage("shuffled labels");
            let context = self.context(&*stage);
            shuffled_labels(self.method, &features.splits(), self.data.task(), &self.options, &seeds, &context)?
        };
        // Cost is said before it is paid.
        if controls.untrained_encoder && self.ready.encoder.stored.is_none() {
            let cases: usize = self.data.parts().map(|part| part.set.len()).sum();
            let views = if self.method.wants_views() { ", and their views anew in every pass" } else { "" };
            self.runner.watch.note(&format!(
                "the control encodes all {cases} cases once more with an untrained encoder of the same shape{views}; \
                 --no-controls leaves it out"
            ));
        }
        let untrained = controls.untrained_encoder.then(|| {
            let (device, watch) = (&self.runner.device, self.runner.watch);
            let twin = encoder.untrained_twin(&*self.ready.encoder.backbone, *protocol, device, watch);
            twin.map_err(|why| dinorad_core::in_full(&why))
        });
        let untrained = match untrained {
            None => None,
            Some(Err(why)) => Some(Err(why)),
            Some(Ok(twin)) => {
                // The pixels stay those of the encoder that is judged.
                let preprocessing = recipe.preprocessing.clone();
                let called = "control, untrained encoder: ";
                let recipe = Recipe { preprocessing, called, ..self.runner.recipe(self.ready, &twin) };
                let mut own = Work::default();
                let features = self.features(&recipe, &mut own)?;
                made.add_work(own);
                Some(Ok(self.probe(&features)?))
            }
        };
        Ok(Some(ControlScores { shuffled, untrained }))
    }
}

/// The description as it lies in a run's folder: paths are told from there, or by pseudonyms.
fn told(experiment: &Experiment, folder: &Path, names: Option<&Pseudonyms>) -> Experiment {
    let mut told = experiment.clone();
    let Some(names) = names else { return told.told_from(folder) };
    let hide = |path: &mut PathBuf| {
        let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
        *path = names.of(Kind::File, &whole.display().to_string()).into();
    };
    if let Some(mut path) = stored::place(&told.encoder.source) {
        hide(&mut path);
        told.encoder.source = format!("{}{}", stored::PREFIX, path.display());
    }
    hide(&mut told.data.root);
    told.data.splits.iter_mut().for_each(hide);
    if let Some(test) = &mut told.data.test {
        hide(&mut test.root);
    }
    told
}
