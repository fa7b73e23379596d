//! Segmentation of slices by a decoder on frozen patch tokens.
//!
//! Tokens are embedded once ([`crate::embed`] with patch tokens) and lent shard by shard. Every setting
//! of the decoder is trained on the train part and judged on validation; the test part is looked at once,
//! at the masks' own size, pooled over all pixels and by volume.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dinorad_core::{
    Split, Target, Task, TaskKind,
    method::{Answer, Context, Error as MethodError, Fitted, Lent, Method, PatchShard, Setting, View},
};
use dinorad_datasets::{Dataset, PatientKey};
use dinorad_heads::first_best;
use dinorad_metrics::{BootstrapOptions, Interval, MaskScores, RunScore, run_scores, value_text};
use dinorad_report::{LearningCurve, MetricValue, Metrics, RunWriter, Search, SearchAxis, Searched};
use ndarray::{Array2, Array3, Axis};

use crate::{
    Error, Result,
    report::{Exhibit, Table},
    segmenting::{MaskTable, Scans},
    store::FeatureStore,
};

/// Bytes of patch tokens in memory at once.
const PIECE: usize = 64 << 20;

/// The slices of a data set's part, their patch tokens in a store, matched by sample id; slices that
/// could not be embedded are left out. Tokens and masks are read when they are asked for.
pub struct MaskedSlices {
    set: Arc<dyn Dataset>,
    store: FeatureStore,
    ids: Vec<String>,
    targets: Vec<Target>,
    /// Slices with the same text belong to one volume, or one patient; not a name of either.
    volumes: Vec<String>,
    places: Vec<usize>,
    /// What the patch tokens of every block that is lent are called in the store, the last block at the end.
    blocks: Vec<String>,
}

impl std::fmt::Debug for MaskedSlices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaskedSlices").field("ids", &self.ids).finish_non_exhaustive()
    }
}

impl MaskedSlices {
    /// Matches the items of a store with the slices of a data set.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a feature without a case, those of the store.
    pub fn new(store: FeatureStore, set: Arc<dyn Dataset>) -> Result<Self> {
        Self::of_blocks(store, set, 1)
    }

    /// The same with the patch tokens of so many last blocks, see
    /// [`EmbedOptions::patch_blocks`](crate::embed::EmbedOptions::patch_blocks).
    ///
    /// # Errors
    /// As [`new`](Self::new), [`Error::NoSuchTensor`] for a store of fewer blocks.
    pub fn of_blocks(store: FeatureStore, set: Arc<dyn Dataset>, blocks: usize) -> Result<Self> {
        let held = store.features();
        let mut earlier: Vec<usize> =
            held.keys().filter_map(|name| name.strip_prefix("patches.")?.parse().ok()).collect();
        earlier.sort_unstable();
        let wanted = blocks.saturating_sub(1);
        if earlier.len() < wanted && !store.is_empty() {
            let name = format!("patches of {blocks} blocks");
            return Err(Error::NoSuchTensor { name, held: held.keys().cloned().collect::<Vec<_>>().join(", ") });
        }
        let earlier = earlier.iter().skip(earlier.len().saturating_sub(wanted)).map(|block| format!("patches.{block}"));
        let blocks = earlier.chain(["patches".to_owned()]).collect();
        let known: BTreeMap<String, usize> = (0..set.len()).map(|i| (set.sample_id(i), i)).collect();
        let mut out = Self { set, store, blocks, ids: vec![], targets: vec![], volumes: vec![], places: vec![] };
        let mut owners = Vec::new();
        let ids: Vec<String> = out.store.ids().map(str::to_owned).collect();
        for id in ids {
            let &place = known.get(&id).ok_or_else(|| wrong(format!("the data set has no case `{id}`")))?;
            owners.push(out.set.patient_key(place).ok_or_else(|| id.clone()));
            out.targets.push(Target::Unlabelled);
            out.places.push(place);
            out.ids.push(id);
        }
        let sorted: BTreeSet<&std::result::Result<PatientKey, String>> = owners.iter().collect();
        let ranks: BTreeMap<_, usize> = sorted.into_iter().zip(0..).collect();
        out.volumes = owners.iter().map(|owner| format!("volume {:06}", ranks[owner])).collect();
        Ok(out)
    }

    /// Sample id of a slice.
    pub fn id(&self, i: usize) -> &str {
        &self.ids[i]
    }

    /// What the slices of one volume have in common.
    pub fn volume(&self, i: usize) -> &str {
        &self.volumes[i]
    }

    /// Where a slice stands in its data set.
    pub fn place(&self, i: usize) -> usize {
        self.places[i]
    }

    /// The part it is.
    pub fn split(&self) -> Split {
        self.set.split()
    }

    /// The true classes of a slice, `(h, w)` at the size of its file.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a target that is no mask or a case of several slices (open the data set
    /// by slices), [`Error::Dataset`].
    pub fn mask_of(&self, i: usize) -> Result<Array2<u8>> {
        let Target::Mask(mask) = self.set.target(self.places[i])? else {
            return Err(wrong(format!("the target of `{}` is no mask", self.ids[i])));
        };
        if mask.len_of(Axis(0)) != 1 {
            return Err(wrong(format!("`{}` is not one slice; open the data set by slices", self.ids[i])));
        }
        Ok(mask.index_axis_move(Axis(0), 0))
    }

    fn shards(&self, f: &mut dyn FnMut(PatchShard<'_>) -> std::result::Result<(), MethodError>) -> Result<()> {
        if self.store.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.blocks.iter().map(String::as_str).chain(["grid"]).collect();
        for piece in self.store.pieces(&names, PIECE)? {
            let piece = piece?;
            let blocks: Option<Vec<_>> = self.blocks.iter().map(|name| piece.rows(name)).collect();
            let (Some(blocks), Some(grids)) = (blocks, piece.vectors("grid")) else { continue };
            let grids = grids
                .rows()
                .into_iter()
                .zip(piece.cases.clone())
                .map(|(grid, case)| match grid.iter().map(|v| *v as usize).collect::<Vec<_>>().as_slice() {
                    &[1, rows, columns] => Ok((rows, columns)),
                    grid => {
                        let id = &self.ids[case];
                        Err(wrong(format!("`{id}` is not one slice ({grid:?}); open the data set by slices")))
                    }
                })
                .collect::<Result<Vec<_>>>()?;
            let cases: Vec<usize> = piece.cases.clone().collect();
            f(PatchShard { cases: &cases, grids: &grids, blocks: &blocks })?;
        }
        Ok(())
    }
}

impl Lent for MaskedSlices {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn patches(
        &self,
        f: &mut dyn FnMut(PatchShard<'_>) -> std::result::Result<(), MethodError>,
    ) -> std::result::Result<(), MethodError> {
        self.shards(f).map_err(|error| match error {
            Error::Method(error) => error,
            other => MethodError::failed(other),
        })
    }

    fn mask(&self, case: usize, view: Option<View>) -> std::result::Result<Array3<u8>, MethodError> {
        if view.is_some() {
            return Err(MethodError::NotLent { what: "moved masks: its tokens are those of the slices as they are" });
        }
        Ok(self.mask_of(case).map_err(MethodError::failed)?.insert_axis(Axis(0)))
    }
}

fn wrong(why: String) -> Error {
    Error::Protocol { protocol: "segmentation", why }
}

/// Cases with masks: slices with patch tokens, or whole scans.
pub trait Masked: Lent {
    /// What cases of one patient or volume have in common.
    fn group(&self, case: usize) -> &str;

    /// The true classes of a case, `(d, h, w)` at the size of its file.
    ///
    /// # Errors
    /// A mask that cannot be read.
    fn truth(&self, case: usize) -> Result<Array3<u8>>;
}

impl Masked for MaskedSlices {
    fn group(&self, case: usize) -> &str {
        self.volume(case)
    }

    fn truth(&self, case: usize) -> Result<Array3<u8>> {
        Ok(self.mask_of(case)?.insert_axis(Axis(0)))
    }
}

impl Masked for Scans {
    fn group(&self, case: usize) -> &str {
        Scans::group(self, case)
    }

    fn truth(&self, case: usize) -> Result<Array3<u8>> {
        self.mask_of(case)
    }
}

/// The parts of a data set of masks.
#[derive(Clone, Copy)]
pub struct SegmentParts<'a> {
    /// What decoders learn from.
    pub train: &'a dyn Masked,
    /// What settings are chosen by.
    pub val: Option<&'a dyn Masked>,
    /// Both together, where the setting that was chosen is trained again on all of them. A single setting needs no
    /// search and is trained on them alone.
    pub refit: Option<&'a dyn Masked>,
    /// What is looked at once.
    pub test: &'a dyn Masked,
}

impl std::fmt::Debug for SegmentParts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = |cases: Option<&dyn Masked>| cases.map(|cases| cases.len());
        let sizes = (self.train.len(), n(self.val), n(self.refit), self.test.len());
        f.debug_tuple("SegmentParts").field(&sizes).finish()
    }
}

/// What is told of the mask of a test case, as soon as it is drawn.
pub type Sink<'a> = &'a mut dyn FnMut(usize, Array3<u8>) -> Result<()>;

/// The overlap of predicted and true masks.
#[derive(Debug, Clone)]
pub struct Overlaps {
    /// Mean Dice over the foreground classes that occur, all pixels of the split pooled.
    pub dice: Option<f64>,
    /// Mean Jaccard (intersection over union), the same way.
    pub jaccard: Option<f64>,
    /// Dice by class, background first; `None` for a class that is nowhere.
    pub dice_by_class: Vec<Option<f64>>,
    /// Jaccard by class.
    pub jaccard_by_class: Vec<Option<f64>>,
    /// Mean over volumes of a volume's mean foreground Dice, with its interval over volumes.
    pub dice_by_volume: Option<Interval>,
    /// Volumes with foreground in the truth or the prediction.
    pub volumes: usize,
}

/// A trained decoder and what it did.
#[derive(Debug)]
pub struct SegmentRun {
    method: Box<dyn Method>,
    task: Task,
    bootstrap: BootstrapOptions,
    best: Setting,
    model: Box<dyn Fitted>,
    /// How training went, by setting.
    pub learning: Vec<LearningCurve>,
    /// Parameters of the decoder that was tested.
    pub trained_parameters: Option<usize>,
    /// On validation, with every setting; `None` for one that gave no masks.
    pub val: Vec<(Setting, Option<Overlaps>)>,
    /// On test, with the setting chosen.
    pub test: Overlaps,
    /// On what the tested model was trained, for people.
    pub trained_on: &'static str,
    /// Every test case by itself, where whole scans were judged.
    pub cases: Option<MaskTable>,
    /// Means over the cases, with their intervals.
    means: Vec<(String, Interval)>,
}

/// Trains every setting, keeps the best on validation by mean foreground Dice (of equals the first), trains it
/// again where that is asked for, and judges it on test; `give` gets the masks of the test cases one by one.
///
/// # Errors
/// [`Error::Protocol`] for a task that is no segmentation, a part without cases, several settings without
/// validation, settings that all ran away; [`Error::Method`]; what `give` says.
pub fn segment(
    method: &dyn Method,
    parts: &SegmentParts<'_>,
    task: &Task,
    draws: &BootstrapOptions,
    context: &Context<'_>,
    give: Sink<'_>,
) -> Result<SegmentRun> {
    if task.kind != TaskKind::Segmentation {
        return Err(wrong("the task has no masks".into()));
    }
    if parts.train.is_empty() || parts.test.is_empty() {
        return Err(wrong("train and test need at least one case each".into()));
    }
    let settings = method.settings();
    let val = parts.val.filter(|val| !val.is_empty());
    if val.is_none() && settings.len() > 1 {
        return Err(wrong("choosing among several settings needs a validation split; name one".into()));
    }
    // with nothing to choose, what is tested is all that is trained
    let searched = match parts.refit {
        Some(_) if settings.len() == 1 => None,
        _ => Some(search(method, (parts.train, val), task, draws, context)?),
    };
    let best = searched.as_ref().map_or(0, |found| found.best);
    let mut learning = searched.as_ref().map_or_else(Vec::new, |found| found.learning.clone());
    let (judged, model) = match (searched, parts.refit) {
        (Some(found), None) => (found.judged, found.fitted.keep(best)),
        (found, refit) => {
            let label = settings.get(best).map_or_else(String::new, |s| s.label.clone());
            let label = if found.is_some() { format!("{label} on train and validation") } else { label };
            let model = method.only(best).fit(refit.unwrap_or(parts.train), task, context)?;
            let chosen = found.is_none();
            learning.extend(model.learning().first().map(|of| LearningCurve::new(label, of, chosen)));
            (found.map_or_else(Vec::new, |found| found.judged), model)
        }
    };
    let trained_parameters = model.trained_parameters(0);
    let mut scores = MaskScores::new(task.n_classes())?;
    let mut drawn = 0;
    each_mask(&*model, parts.test, &mut |_, case, mask| {
        scores.update(parts.test.group(case), mask.view(), parts.test.truth(case)?.view())?;
        drawn += 1;
        give(case, mask)
    })?;
    if drawn != parts.test.len() {
        return Err(wrong("every setting diverged".into()));
    }
    let test = Overlaps::of(&scores, draws)?;
    let best = settings.into_iter().nth(best).unwrap_or_else(|| Setting::new("the only one", "one"));
    Ok(SegmentRun {
        method: method.clone_box(),
        task: task.clone(),
        bootstrap: *draws,
        best,
        model,
        learning,
        trained_parameters,
        val: judged,
        test,
        trained_on: if parts.refit.is_some() { "train and validation" } else { "train" },
        cases: None,
        means: Vec::new(),
    })
}

/// What came of the search.
struct Found {
    fitted: Box<dyn Fitted>,
    judged: Vec<(Setting, Option<Overlaps>)>,
    learning: Vec<LearningCurve>,
    best: usize,
}

fn search(
    method: &dyn Method,
    (train, val): (&dyn Masked, Option<&dyn Masked>),
    task: &Task,
    draws: &BootstrapOptions,
    context: &Context<'_>,
) -> Result<Found> {
    let settings = method.settings();
    let stopped = val.map(|val| val as &dyn Lent);
    let fitted = method.fit(train, task, &Context { val: stopped, ..*context })?;
    let mut judged: Vec<(Setting, Option<Overlaps>)> = Vec::new();
    if let Some(val) = val {
        let mut scores = Vec::with_capacity(settings.len());
        for _ in &settings {
            scores.push((MaskScores::new(task.n_classes())?, 0));
        }
        each_mask(&*fitted, val, &mut |setting, case, mask| {
            if let Some((scores, n)) = scores.get_mut(setting) {
                scores.update(val.group(case), mask.view(), val.truth(case)?.view())?;
                *n += 1;
            }
            Ok(())
        })?;
        for (setting, (scores, n)) in settings.iter().zip(&scores) {
            let overlap = (*n == val.len()).then(|| Overlaps::of(scores, draws)).transpose()?;
            judged.push((setting.clone(), overlap));
        }
    }
    let dice: Vec<f64> = judged.iter().map(|(_, o)| o.as_ref().and_then(|o| o.dice).unwrap_or(f64::NAN)).collect();
    let best = match first_best(&dice) {
        Some(best) => best,
        None if judged.iter().any(|(_, o)| o.is_some()) || judged.is_empty() => 0,
        None => return Err(wrong("every setting diverged".into())),
    };
    let learned = fitted.learning();
    let labelled = settings.iter().zip(&learned).enumerate();
    let learning = labelled.map(|(i, (s, of))| LearningCurve::new(&s.label, of, i == best)).collect();
    Ok(Found { fitted, judged, learning, best })
}

/// The masks of every case by every setting, one by one.
fn each_mask(
    fitted: &dyn Fitted,
    cases: &dyn Masked,
    f: &mut dyn FnMut(usize, usize, Array3<u8>) -> Result<()>,
) -> Result<()> {
    fitted.predict(cases, &mut |setting, answer| match answer {
        Answer::Mask { case, classes } => Ok(f(setting, case, classes)?),
        Answer::Probabilities(_) => Ok(()),
    })?;
    Ok(())
}

/// Compares predicted masks with the true ones.
///
/// # Errors
/// [`Error::Shape`] for lists of unequal length, [`Error::Metrics`] for labels past the classes.
pub fn overlaps(
    cases: &dyn Masked,
    predictions: &[Array3<u8>],
    task: &Task,
    draws: &BootstrapOptions,
) -> Result<Overlaps> {
    if cases.len() != predictions.len() {
        return Err(Error::shape("predicted masks", format!("({})", cases.len()), &[predictions.len()]));
    }
    let mut scores = MaskScores::new(task.n_classes())?;
    for (i, predicted) in predictions.iter().enumerate() {
        scores.update(cases.group(i), predicted.view(), cases.truth(i)?.view())?;
    }
    Overlaps::of(&scores, draws)
}

impl Overlaps {
    fn of(scores: &MaskScores, draws: &BootstrapOptions) -> Result<Self> {
        Ok(Self {
            dice: scores.dice(),
            jaccard: scores.jaccard(),
            dice_by_class: scores.dice_by_class(),
            jaccard_by_class: scores.jaccard_by_class(),
            dice_by_volume: scores.dice_by_volume(draws)?,
            volumes: scores.dice_of_volumes().len(),
        })
    }

    /// One of the scores that a run writes, with its interval where it has one.
    fn score(&self, score: RunScore) -> (Option<f64>, Option<Interval>) {
        match score {
            RunScore::Dice => (self.dice, None),
            RunScore::Jaccard => (self.jaccard, None),
            RunScore::DiceByVolume => {
                // draws that are all equal, as those of a single volume, say nothing about chance
                (self.dice_by_volume.map(|i| i.estimate), self.dice_by_volume.filter(|i| !i.is_point()))
            }
            _ => (None, None),
        }
    }
}

impl SegmentRun {
    /// The method.
    pub fn method(&self) -> &dyn Method {
        &*self.method
    }

    /// The setting that validation chose.
    pub fn best(&self) -> &Setting {
        &self.best
    }

    /// The decoder that was tested.
    pub fn model(&self) -> &dyn Fitted {
        &*self.model
    }

    /// The same with every test case by itself.
    ///
    /// # Errors
    /// [`Error::Metrics`].
    pub fn with_cases(self, cases: MaskTable) -> Result<Self> {
        Ok(Self { means: cases.means(&self.bootstrap)?, cases: Some(cases), ..self })
    }

    /// How the numbers are meant.
    pub fn convention(&self) -> String {
        format!(
            "strict; tested model trained on {}; dice and jaccard: mean over foreground classes that occur, all pixels \
             pooled; dice_by_volume: mean over volumes; ci95: percentile bootstrap over volumes, {} resamples, seed {}",
            self.trained_on, self.bootstrap.draws, self.bootstrap.seed
        )
    }

    /// The numbers of the run.
    pub fn metrics(&self) -> Metrics {
        let mut all = Metrics::new(self.convention());
        all.choose(self.best.label.clone(), self.best.values.iter().copied());
        all.task = Some(self.task.clone());
        all.learning = self.learning.clone();
        all.trained_parameters = self.trained_parameters;
        let chosen = self.val.iter().find(|(setting, _)| *setting == self.best);
        for (split, overlaps) in [("val", chosen.and_then(|(_, o)| o.as_ref())), ("test", Some(&self.test))] {
            let Some(o) = overlaps else { continue };
            for rule in run_scores(TaskKind::Segmentation) {
                let (value, interval) = o.score(rule.score);
                let mut value = MetricValue::single(value.unwrap_or(f64::NAN));
                if let Some(i) = interval {
                    value = value.with_interval(&i);
                }
                all.set(split, rule.name, value);
            }
            let mut set = |name: String, v: Option<f64>| {
                all.set(split, name, MetricValue::single(v.unwrap_or(f64::NAN)));
            };
            for (c, (dice, jaccard)) in o.dice_by_class.iter().zip(&o.jaccard_by_class).enumerate().skip(1) {
                set(format!("dice_class_{c}"), *dice);
                set(format!("jaccard_class_{c}"), *jaccard);
            }
        }
        for (name, interval) in &self.means {
            // what is pooled over all pixels has these names already
            let name = if name.starts_with("dice") || name.starts_with("jaccard") {
                format!("case_{name}")
            } else {
                name.clone()
            };
            let value = MetricValue::single(interval.estimate);
            all.set("test", name, if interval.is_point() { value } else { value.with_interval(interval) });
        }
        if let Some(empty) = self.cases.as_ref().map(MaskTable::without_surface).filter(|n| *n > 0) {
            all.notices.push(format!(
                "{empty} times one mask has a class and the other does not: Dice 0, and in no mean of distances"
            ));
        }
        let axis = self.method.search_axis().map(|axis| SearchAxis {
            value: axis.value.to_owned(),
            label: axis.label.to_owned(),
            plot: axis.plot.replace("auroc", "dice"),
        });
        let settings = self.val.iter().map(|(setting, overlaps)| {
            let dice = MetricValue::single(overlaps.as_ref().and_then(|o| o.dice).unwrap_or(f64::NAN));
            Searched {
                label: setting.label.clone(),
                values: setting.values.iter().map(|(name, v)| ((*name).to_owned(), *v)).collect(),
                metrics: BTreeMap::from([("val".to_owned(), BTreeMap::from([("dice".to_owned(), dice)]))]),
                chosen: *setting == self.best,
            }
        });
        let settings: Vec<Searched> = settings.collect();
        all.search = (!settings.is_empty()).then(|| Search { score: "dice".into(), axis, settings });
        all
    }

    /// Writes the decoder.
    ///
    /// # Errors
    /// [`Error::Method`].
    pub fn write(&self, run: &RunWriter) -> Result<()> {
        self.model.save(0, &run.model_path())?;
        Ok(())
    }

    /// The table of classes, for a report's section.
    pub fn blocks(&self) -> Vec<Exhibit> {
        let text = |v: &Option<f64>| v.map_or_else(|| "undefined".to_owned(), value_text);
        let mut classes = Table::new("By class, all test pixels pooled", ["class", "Dice", "Jaccard"]);
        let numbers = self.test.dice_by_class.iter().zip(&self.test.jaccard_by_class);
        for (name, (dice, jaccard)) in self.task.class_names.iter().zip(numbers).skip(1) {
            classes = classes.with_row([name.clone(), text(dice), text(jaccard)]);
        }
        vec![Exhibit::Table(classes)]
    }
}
