//! Judging frozen features by a method on top of them.
//!
//! The protocol is the study's: every setting of the method is trained on the train split and judged on
//! the validation split; the best one is trained again where the protocol says so, and meets the test
//! split. Nothing of the test split enters a search, a weight or a statistic; neighbour methods table every
//! `k` on it beside the chosen one.
//!
//! ```
//! use dinorad_core::{Target, Task, TaskKind};
//! use dinorad_eval::probe::{Context, Labelled, ProbeOptions, Splits, probe};
//! use dinorad_heads::methods::logreg::LogregMethod;
//! use ndarray::Array2;
//!
//! # fn main() -> Result<(), dinorad_eval::Error> {
//! // features that tell the two classes apart, but for some noise
//! let part = |n: usize, offset: usize| {
//!     let ids = (0..n).map(|i| format!("case {}", i + offset)).collect();
//!     let x = Array2::from_shape_fn((n, 2), |(i, c)| ((i + offset) * (c + 3) % 7) as f32 + 4.0 * (i % 2) as f32);
//!     Labelled::new(ids, (0..n).map(|i| Target::Class(i % 2)).collect(), x)
//! };
//! let (train, val, test) = (part(40, 0)?, part(20, 40)?, part(20, 60)?);
//! let splits = Splits { train: &train, val: Some(&val), test: &test };
//! let task = Task { kind: TaskKind::Binary, class_names: vec!["well".into(), "sick".into()], is_3d: false };
//! let run = probe(&LogregMethod::default(), &splits, &task, &ProbeOptions::default(), &Context::PLAIN)?;
//! assert!(run.test().auroc.unwrap().estimate > 0.9);
//! # Ok(()) }
//! ```

mod classes;
mod compare;
mod controls;
mod evaluation;
mod labelled;
mod lent;
mod numbers;
mod pixels;
mod run;
mod subsets;

use std::sync::Arc;

use dinorad_aggregate::GatedAttentionPool;
use dinorad_core::{
    Protocol, Task, TaskKind,
    method::{Answer, Lent},
};
use dinorad_heads::{AttentionTraining, first_best};
use dinorad_metrics::BootstrapOptions;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

pub use classes::{SharedClasses, Spelling};
pub use compare::compare;
pub use controls::shuffled_labels;
pub use dinorad_core::method::{Context, Fitted, Method, Setting};
pub use dinorad_report::Comparison;
use dinorad_report::LearningCurve;
pub use evaluation::{Evaluation, NamedScore, judge, quick_accuracy, quick_auroc};
pub use labelled::{Labelled, Place, SliceRows};
pub use pixels::{CasePixels, EncoderMaker};
pub use run::{OfSetting, ProbeRun};
pub use subsets::{Draw, SubsetCurve, SubsetDraw, SubsetOptions, SubsetPoint, subset_curves};

use crate::{Error, Result};

/// Training cases looked at anew, each time another view of them.
pub trait Views: Send + Sync {
    /// The features of every batch in turn, `(batch, D)`, as wide as the cached ones.
    ///
    /// A batch names the cases and, for each, the pass over the data that it belongs to; the same case
    /// in the same pass is the same view.
    ///
    /// # Errors
    /// What `f` says, and a case that cannot be read or encoded.
    fn for_each(&self, batches: Vec<Vec<(Place, u64)>>, f: &mut dyn FnMut(Array2<f32>) -> Result<()>) -> Result<()>;
}

/// The three parts of a data set, as features.
#[derive(Debug, Clone, Copy)]
pub struct Splits<'a> {
    /// What heads learn from.
    pub train: &'a Labelled,
    /// What settings are chosen by.
    pub val: Option<&'a Labelled>,
    /// What nothing is chosen by.
    pub test: &'a Labelled,
}

/// On what the chosen setting is trained before it meets the test split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refit {
    /// The train split alone: the model that was chosen.
    Train,
    /// The train and validation splits together, as the study does.
    TrainVal,
}

impl Refit {
    /// `paper`: train and validation; `strict`: train.
    pub fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Paper => Refit::TrainVal,
            Protocol::Strict => Refit::Train,
        }
    }
}

/// How a head is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeOptions {
    /// Whose rules.
    pub protocol: Protocol,
    /// What the chosen setting is trained on.
    pub refit: Refit,
    /// How intervals are drawn.
    pub bootstrap: BootstrapOptions,
    /// How the pooling of slices is learned, where it is: on the train split, before the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionTraining>,
}

impl Default for ProbeOptions {
    /// Strict, 1000 draws.
    fn default() -> Self {
        Self::new(Protocol::Strict)
    }
}

impl ProbeOptions {
    /// The rules of a protocol, 1000 draws.
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, refit: Refit::of(protocol), bootstrap: BootstrapOptions::default(), attention: None }
    }
}

/// Judges a method on features: searches on validation, trains what was chosen, tests it. Neighbour methods
/// table every `k` on test beside the chosen one; no choice depends on that.
///
/// Settings are chosen by AUROC (mean over classes or findings that occur; of equals the first); where
/// it is undefined on validation, by accuracy, which the run's notices say.
///
/// # Errors
/// [`Error::EmptySplit`] and [`Error::NotFinite`] for features that cannot be used;
/// [`Error::Protocol`] for a task that is no classification, and for several settings without a
/// validation split to choose by; [`Error::Heads`] for a training split of one class, labels of
/// unequal number, more neighbours than there are cases; [`Error::Metrics`].
pub fn probe(
    method: &dyn Method,
    splits: &Splits<'_>,
    task: &Task,
    options: &ProbeOptions,
    context: &Context<'_>,
) -> Result<ProbeRun> {
    let pooled = Pooled::learn(splits, task, options)?;
    let splits = &pooled.as_ref().map_or(*splits, Pooled::splits);
    let chosen = search(method, splits.train, splits.val, task, context).map_err(|error| match error {
        Error::Heads(dinorad_heads::Error::OneClass { class, rows }) => {
            let name = names(task, &[class]);
            Error::unfit(format!("all {rows} training cases are of the class `{name}`: there is nothing to learn"))
        }
        other => other,
    })?;
    let val = match (splits.val, &chosen.val_predictions) {
        (Some(val), Some(p)) => Some(judge(val, p.clone(), task, &options.bootstrap)?),
        _ => None,
    };
    let search_digest = digest(&*chosen.fitted)?;
    let Chosen { fitted, settings, best, mut notices, chosen_by, .. } = chosen;
    let test = splits.test;
    check_test(splits)?;
    let every = method.tables_every_setting();
    let mut learning: Vec<LearningCurve> = settings
        .iter()
        .zip(fitted.learning())
        .enumerate()
        .map(|(i, ((setting, _), of))| LearningCurve::new(&setting.label, &of, i == best))
        .collect();
    let (fitted, trained_on) = refit(method, fitted, best, splits, task, options.refit, context)?;
    if trained_on > splits.train.len() {
        let label = format!("{} on train and validation", settings[best].0.label);
        learning.extend(fitted.learning().first().map(|of| LearningCurve::new(label, of, false)));
    }
    let absent = fitted.absent();
    if !absent.is_empty() {
        notices.push(format!("constant in training, so predicted as a constant: {}", names(task, absent)));
    }
    let mut predicted = probabilities(&*fitted, test)?.into_iter();
    let mut of_setting = Vec::with_capacity(settings.len());
    for (i, (setting, score)) in settings.into_iter().enumerate() {
        let p = if every || i == best { predicted.next() } else { None };
        let test = p.map(|p| judge(test, p, task, &options.bootstrap)).transpose()?;
        of_setting.push(OfSetting { setting, val_auroc: score.auroc, val_accuracy: score.accuracy, test });
    }
    let Some(judged) = of_setting[best].test.clone() else {
        return Err(Error::Protocol { protocol: "probe", why: "the chosen setting gave no prediction".into() });
    };
    if !judged.absent.is_empty() {
        notices.push(format!("without positives or negatives in the test split: {}", names(task, &judged.absent)));
    }
    notices.extend(judged.notices(task));
    let at = if every { best } else { 0 };
    Ok(ProbeRun {
        method: method.clone_box(),
        task: task.clone(),
        options: options.clone(),
        of_setting,
        best,
        val,
        test: judged,
        trained_on,
        chosen_by,
        notices,
        search_digest,
        model_digest: digest(&*fitted)?,
        learning,
        trained_parameters: fitted.trained_parameters(at),
        model: Arc::from(fitted),
        model_at: at,
        pool: pooled.map(|p| p.pool),
    })
}

/// Splits whose slices a learned attention has pooled. Only the train split teaches it.
struct Pooled {
    pool: GatedAttentionPool,
    train: Labelled,
    val: Option<Labelled>,
    test: Labelled,
}

impl Pooled {
    fn learn(splits: &Splits<'_>, task: &Task, options: &ProbeOptions) -> Result<Option<Self>> {
        let Some(training) = &options.attention else { return Ok(None) };
        for (cases, what) in [(Some(splits.train), "train"), (splits.val, "val"), (Some(splits.test), "test")] {
            let Some(cases) = cases else { continue };
            if what != "val" || !cases.is_empty() {
                cases.check(what)?;
            }
        }
        let slices = splits.train.slices.as_ref().ok_or_else(|| Error::Protocol {
            protocol: "attention over slices",
            why: "the features of the single slices were not kept".into(),
        })?;
        let views: Vec<_> = (0..splits.train.len()).map(|i| slices.of(i)).collect();
        let (pool, _) = training.fit(&views, &splits.train.answers(task.n_classes())?)?;
        let val = splits.val.filter(|v| !v.is_empty()).map(|v| v.pooled_by(&pool)).transpose()?;
        Ok(Some(Self { train: splits.train.pooled_by(&pool)?, val, test: splits.test.pooled_by(&pool)?, pool }))
    }

    fn splits(&self) -> Splits<'_> {
        Splits { train: &self.train, val: self.val.as_ref(), test: &self.test }
    }
}

/// What a run is judged by in a hurry: one of many draws or a control.
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    /// AUROC on test; `None` where it is undefined.
    pub auroc: Option<f64>,
    /// Accuracy on test.
    pub accuracy: Option<f64>,
    /// The setting that validation chose.
    pub setting: String,
    /// The score that it was chosen by, as in [`ProbeRun`].
    pub chosen_by: &'static str,
}

/// The protocol of [`probe`] without intervals.
///
/// # Errors
/// As [`probe`].
pub fn quick(
    method: &dyn Method,
    splits: &Splits<'_>,
    task: &Task,
    options: &ProbeOptions,
    context: &Context<'_>,
) -> Result<Tested> {
    let pooled = Pooled::learn(splits, task, options)?;
    let splits = &pooled.as_ref().map_or(*splits, Pooled::splits);
    let Chosen { fitted, settings, best, chosen_by, .. } = search(method, splits.train, splits.val, task, context)?;
    check_test(splits)?;
    let (fitted, _) = refit(method, fitted, best, splits, task, options.refit, context)?;
    let at = if method.tables_every_setting() { best } else { 0 };
    let p = probabilities(&*fitted, splits.test)?.into_iter().nth(at);
    let p = p.ok_or_else(|| Error::shape("predictions", "one for each setting", &[0]))?;
    let setting = settings.into_iter().nth(best).map(|(s, _)| s.label).unwrap_or_default();
    let (auroc, accuracy) = (quick_auroc(splits.test, p.view(), task)?, quick_accuracy(splits.test, p.view(), task)?);
    Ok(Tested { auroc, accuracy, setting, chosen_by })
}

fn check_test(splits: &Splits<'_>) -> Result<()> {
    splits.test.check("test")?;
    let width = splits.train.features.ncols();
    if splits.test.features.ncols() == width {
        return Ok(());
    }
    Err(Error::shape("test features", format!("(n, {width})"), splits.test.features.shape()))
}

/// The model that meets the test split, and how many cases it was trained on.
fn refit(
    method: &dyn Method,
    fitted: Box<dyn Fitted>,
    best: usize,
    splits: &Splits<'_>,
    task: &Task,
    refit: Refit,
    context: &Context<'_>,
) -> Result<(Box<dyn Fitted>, usize)> {
    let every = method.tables_every_setting();
    Ok(match (refit, splits.val.filter(|v| !v.is_empty())) {
        (Refit::TrainVal, Some(val)) => {
            let all = splits.train.concat(val)?;
            let again = if every { method.clone_box() } else { method.only(best) };
            (again.fit(&all, task, context)?, all.len())
        }
        _ if every => (fitted, splits.train.len()),
        _ => (fitted.keep(best), splits.train.len()),
    })
}

/// What came of the search.
struct Chosen {
    fitted: Box<dyn Fitted>,
    settings: Vec<(Setting, Quick)>,
    best: usize,
    notices: Vec<String>,
    chosen_by: &'static str,
    val_predictions: Option<Array2<f32>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Quick {
    auroc: Option<f64>,
    accuracy: Option<f64>,
}

/// The first half of [`probe`], which never sees a test split.
fn search(
    method: &dyn Method,
    train: &Labelled,
    val: Option<&Labelled>,
    task: &Task,
    context: &Context<'_>,
) -> Result<Chosen> {
    if task.kind == TaskKind::Segmentation {
        return Err(Error::Protocol { protocol: "probe", why: "a segmentation has no single answer per case".into() });
    }
    method.check(task)?;
    train.check("train")?;
    let val = val.filter(|v| !v.is_empty());
    if let Some(val) = val {
        val.check("val")?;
    }
    let settings = method.settings();
    if settings.is_empty() {
        return Err(Error::Parameter { what: "settings of the method", expected: "at least one", got: "none".into() });
    }
    if val.is_none() && settings.len() > 1 {
        return Err(Error::Protocol {
            protocol: "probe",
            why: format!("choosing among {} settings needs a validation split; name one setting", settings.len()),
        });
    }
    let mut notices = Vec::new();
    let answers = train.answers(task.n_classes())?;
    let counts = answers.positives();
    if task.kind != TaskKind::Multilabel {
        if let Some(class) = counts.iter().position(|n| *n == train.len()) {
            return Err(dinorad_heads::Error::OneClass { class, rows: train.len() }.into());
        }
        let missing: Vec<usize> = (0..counts.len()).filter(|c| counts[*c] == 0).collect();
        if !missing.is_empty() {
            notices.push(format!("without a training case: {}", names(task, &missing)));
        }
    }
    let context = Context { val: val.map(|val| val as &dyn Lent), ..*context };
    let fitted = method.fit(train, task, &context)?;
    let predicted = val.map(|val| probabilities(&*fitted, val)).transpose()?;
    let mut scores = vec![Quick::default(); settings.len()];
    if let (Some(val), Some(predicted)) = (val, &predicted) {
        for (score, p) in scores.iter_mut().zip(predicted) {
            score.auroc = quick_auroc(val, p.view(), task)?;
            score.accuracy = quick_accuracy(val, p.view(), task)?;
        }
    }
    let number = |v: Option<f64>| v.unwrap_or(f64::NAN);
    let by = |of: fn(&Quick) -> Option<f64>| first_best(&scores.iter().map(|s| number(of(s))).collect::<Vec<_>>());
    let (best, chosen_by) = match (by(|s| s.auroc), by(|s| s.accuracy)) {
        (Some(best), _) => (best, "auroc"),
        (None, Some(best)) => {
            if settings.len() > 1 {
                notices.push(
                    "AUROC is undefined on the validation split, which shows one class: chosen by accuracy".into(),
                );
            }
            (best, "accuracy")
        }
        (None, None) if val.is_none() => (0, "nothing: one setting"),
        (None, None) => {
            let what = format!("weights of every setting of the {}", method.title());
            return Err(dinorad_heads::Error::Diverged { what, step: 0 }.into());
        }
    };
    let val_predictions = predicted.and_then(|p| p.into_iter().nth(best));
    let settings = settings.into_iter().zip(scores).collect();
    Ok(Chosen { fitted, settings, best, notices, chosen_by, val_predictions })
}

/// Probabilities `(n, classes)` by every setting, in their order.
pub(crate) fn probabilities(fitted: &dyn Fitted, cases: &Labelled) -> Result<Vec<Array2<f32>>> {
    let mut all = Vec::new();
    fitted.predict(cases, &mut |_, answer| {
        if let Answer::Probabilities(p) = answer {
            all.push(p);
        }
        Ok(())
    })?;
    Ok(all)
}

/// A hash over every number that was learned, by all settings: equal models have equal ones.
pub(crate) fn digest(fitted: &dyn Fitted) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    fitted.learned(&mut |v| {
        hasher.update(&v.to_le_bytes());
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Class names for a sentence.
fn names(task: &Task, classes: &[usize]) -> String {
    let name = |c: &usize| task.class_names.get(*c).cloned().unwrap_or_else(|| c.to_string());
    classes.iter().map(name).collect::<Vec<_>>().join(", ")
}
