//! `metrics.json`: every number of a run, and what was chosen to get it.

use std::collections::BTreeMap;

use dinorad_core::{Target, Task, TaskKind};
use dinorad_metrics::{Interval, IntervalMethod};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LearningCurve, SCHEMA};
use crate::{Comparison, Predictions, failure::rename_failed, renaming::Told};

/// `metrics.json`: what was chosen, numbers by split and name, and what they were taken on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Version of the run's folder, [`SCHEMA`].
    pub schema: u32,
    /// What validation chose, by name: `k`, `C`, `learning_rate`, `blocks`.
    pub setting: BTreeMap<String, Value>,
    /// The same for people: `k = 20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting_label: Option<String>,
    /// Scores by split (`val`, `test`, `test_shuffled_labels`, …), then by name (`auroc`, `auroc_k5`, …).
    pub metrics: BTreeMap<String, BTreeMap<String, MetricValue>>,
    /// What the scores of every split were taken on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cases: BTreeMap<String, CaseCounts>,
    /// Cases of the data set that are in no score, by split, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_judged: Vec<NotJudged>,
    /// The task: kind and class names, as the columns of the predictions have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Every setting that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Runs behind every mean.
    pub n_runs: usize,
    /// How the numbers are meant: absent classes, averaging, protocol, intervals.
    pub convention: String,
    /// A hash over everything the tested model learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What a reader of the numbers should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Scores over something that was varied, by its name: shots, fraction, `shift_noise`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub curves: BTreeMap<String, Vec<CurvePoint>>,
    /// Parameters that training set; 0 for neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_parameters: Option<usize>,
    /// How training went, where it went by steps: by setting, and of the model that was trained again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learning: Vec<LearningCurve>,
    /// Comparisons with others on the same cases, by what they are compared with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub comparisons: BTreeMap<String, Comparison>,
}

impl Metrics {
    /// No numbers yet, of a single run.
    pub fn new(convention: impl Into<String>) -> Self {
        Self { schema: SCHEMA, n_runs: 1, convention: convention.into(), ..Self::default() }
    }

    /// Notes what was chosen: its name for people and its values.
    pub fn choose<N: Into<String>, V: Into<Value>>(
        &mut self,
        label: impl Into<String>,
        values: impl IntoIterator<Item = (N, V)>,
    ) {
        self.setting_label = Some(label.into());
        self.setting = values.into_iter().map(|(name, value)| (name.into(), whole(value.into()))).collect();
    }

    /// Sets one number.
    pub fn set(&mut self, split: impl Into<String>, name: impl Into<String>, value: MetricValue) {
        self.metrics.entry(split.into()).or_default().insert(name.into(), value);
    }

    /// One number; `None` when it was not taken.
    pub fn get(&self, split: &str, name: &str) -> Option<&MetricValue> {
        self.metrics.get(split)?.get(name)
    }

    /// Other names for cases, also where they stand in sentences.
    pub(super) fn rename(&mut self, told: &Told<'_>) {
        for one in &mut self.not_judged {
            rename_failed(&mut one.id, &mut one.reason, told);
        }
        self.convention = told.text(&self.convention);
        self.notices.iter_mut().for_each(|notice| *notice = told.text(notice));
        for point in self.curves.values_mut().flatten() {
            point.notices.iter_mut().for_each(|notice| *notice = told.text(notice));
        }
    }

    /// Counts the cases behind a split's scores, and notes what a reader should know of them
    /// ([`CaseCounts::notices`]).
    pub fn count(&mut self, split: impl Into<String>, predictions: &Predictions, task: &Task) {
        let split = split.into();
        let counts = CaseCounts::of(predictions, task);
        self.notices.extend(counts.notices(&split, task));
        self.cases.insert(split, counts);
    }
}

/// A float that is a whole number as an integer: `k` is 20, not 20.0.
fn whole(value: Value) -> Value {
    match value.as_f64() {
        Some(v) if !value.is_i64() && !value.is_u64() && v.fract() == 0.0 && v.abs() < 9e15 => Value::from(v as i64),
        _ => value,
    }
}

/// What the scores of a split were taken on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CaseCounts {
    /// Cases with a truth: the number judged.
    pub n: usize,
    /// Cases of every class, or with every finding, in the order of the task's names.
    pub positives: Vec<usize>,
    /// The accuracy of always giving the commonest answer: the commonest class of these cases, or for
    /// every finding the commoner of present and absent. `None` without cases.
    pub majority_accuracy: Option<f64>,
    /// Whether the model tells the cases apart at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constant: Option<Constant>,
}

/// How a model gives every case the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Constant {
    /// The same probabilities for all.
    Probabilities,
    /// The same class for all, or the same findings, with probabilities that differ.
    Answer,
}

/// Cases of a class below which an interval says little.
const FEW: usize = 20;

impl CaseCounts {
    /// Counts predictions against their truths; cases without one are left out.
    pub fn of(predictions: &Predictions, task: &Task) -> Self {
        let names = task.n_classes();
        let mut out = Self { positives: vec![0; names], ..Self::default() };
        let findings = task.kind == TaskKind::Multilabel;
        let mut judged = Vec::new();
        for (row, target) in predictions.targets.iter().enumerate() {
            match target {
                // a single finding reads back as a class
                Target::Class(class) if !(findings && names == 1) => {
                    out.positives.get_mut(*class).into_iter().for_each(|n| *n += 1);
                }
                Target::Class(present) => {
                    out.positives.first_mut().into_iter().for_each(|n| *n += usize::from(*present == 1))
                }
                Target::Labels(labels) => {
                    out.positives.iter_mut().zip(labels).for_each(|(n, label)| *n += usize::from(*label == 1));
                }
                Target::Unlabelled | Target::Mask(_) => continue,
            }
            judged.push(row);
        }
        out.n = judged.len();
        if out.n > 0 {
            let n = out.n as f64;
            out.majority_accuracy = Some(if findings {
                out.positives.iter().map(|p| (*p).max(out.n - p) as f64 / n).sum::<f64>() / names.max(1) as f64
            } else {
                out.positives.iter().copied().max().unwrap_or(0) as f64 / n
            });
        }
        out.constant = constant(predictions, &judged, findings);
        out
    }

    /// What a reader of the split's scores should know: a model that gives one answer, classes with few
    /// cases.
    pub fn notices(&self, split: &str, task: &Task) -> Vec<String> {
        let mut notices = Vec::new();
        match self.constant {
            Some(Constant::Probabilities) => {
                notices.push(format!("{split}: the model is constant: every case gets the same probabilities"));
            }
            Some(Constant::Answer) => notices.push(format!("{split}: the model gives every case the same answer")),
            None => {}
        }
        let few = |(name, n): (&String, &usize)| {
            // of a finding, the cases without it are as few
            let n = if task.kind == TaskKind::Multilabel { (*n).min(self.n - n.min(&self.n)) } else { *n };
            (n < FEW).then(|| format!("{name} ({n})"))
        };
        let few: Vec<String> = task.class_names.iter().zip(&self.positives).filter_map(few).collect();
        if !few.is_empty() {
            let what = if task.kind == TaskKind::Multilabel { "with or without" } else { "of" };
            notices.push(format!(
                "{split}: fewer than {FEW} cases {what} {}: their numbers are coarse and the intervals wide",
                few.join(", ")
            ));
        }
        notices
    }
}

/// Whether all of these rows have one answer; a single row tells nothing.
fn constant(predictions: &Predictions, rows: &[usize], findings: bool) -> Option<Constant> {
    let (first, others) = rows.split_first().filter(|(_, others)| !others.is_empty())?;
    let p = &predictions.probabilities;
    let same = |of: &dyn Fn(usize) -> Vec<f32>| others.iter().all(|row| of(*row) == of(*first));
    if same(&|row| p.row(row).to_vec()) {
        return Some(Constant::Probabilities);
    }
    let classes = predictions.classes();
    let answer = |row: usize| -> Vec<f32> {
        match findings {
            true => p.row(row).iter().map(|v| f32::from(u8::from(*v > 0.5))).collect(),
            false => vec![classes[row] as f32],
        }
    };
    same(&answer).then_some(Constant::Answer)
}

/// A case that is in no score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotJudged {
    /// Of which split.
    pub split: String,
    /// The sample id.
    pub id: String,
    /// Why: it could not be read, it has no label, its class is not among those judged.
    pub reason: String,
}

/// Every setting that was tried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// The score that settings are chosen by, and drawn by: `auroc`, `dice`.
    pub score: String,
    /// The value that scores are drawn over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<SearchAxis>,
    /// In the order they were tried.
    pub settings: Vec<Searched>,
}

/// The value over which the scores of a search are drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchAxis {
    /// One of the names of [`Searched::values`].
    pub value: String,
    /// What stands below the axis: `number of neighbours k`.
    pub label: String,
    /// The plot's file name without ending: `auroc-by-k`.
    pub plot: String,
}

/// What one setting gave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Searched {
    /// For people: `k = 5`.
    pub label: String,
    /// The numbers it is made of, by name.
    pub values: BTreeMap<String, f64>,
    /// Scores by split and name; on test only where every setting is tabled.
    pub metrics: BTreeMap<String, BTreeMap<String, MetricValue>>,
    /// Whether it is the one that was chosen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chosen: bool,
}

impl Searched {
    /// One number; `None` when it was not taken.
    pub fn get(&self, split: &str, name: &str) -> Option<&MetricValue> {
        self.metrics.get(split)?.get(name)
    }
}

/// One point of a curve of scores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// What was varied: shots per class, fraction of the cases, severity.
    pub x: f64,
    /// Training cases behind the point, the mean over draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cases: Option<f64>,
    /// Scores by name, over draws.
    pub metrics: BTreeMap<String, MetricValue>,
    /// Why draws gave no score, or what was changed to get one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// A number over runs; `None` (JSON `null`) where it is undefined, as the AUROC of one class alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// Mean over the runs where it is defined.
    pub mean: Option<f64>,
    /// Sample standard deviation over runs; absent for fewer than two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdev: Option<f64>,
    /// One value a run.
    pub values: Vec<Option<f64>>,
    /// 95 % confidence interval over cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// How the interval was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalMethod>,
    /// Bootstrap draws that gave a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draws: Option<usize>,
    /// Bootstrap draws that gave none, as those without a positive case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undefined: Option<usize>,
}

impl MetricValue {
    /// The value of one run; NaN and infinity count as undefined.
    pub fn single(value: f64) -> Self {
        Self::over_runs(&[value])
    }

    /// The values of several runs.
    pub fn over_runs(values: &[f64]) -> Self {
        // minus zero plus zero is zero
        let values: Vec<Option<f64>> = values.iter().map(|v| v.is_finite().then_some(*v + 0.0)).collect();
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let n = known.len() as f64;
        let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / n);
        let stdev = mean
            .filter(|_| known.len() > 1)
            .map(|m| (known.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
        Self { mean, stdev, values, ..Self::default() }
    }

    /// For people: `0.912 (0.884–0.936)`, or a dash where it is undefined.
    pub fn text(&self) -> String {
        let number = crate::pages::number;
        match (self.mean, self.ci95) {
            (Some(mean), Some([low, high])) => format!("{} ({}–{})", number(mean), number(low), number(high)),
            (Some(mean), None) => number(mean),
            (None, _) => "–".into(),
        }
    }

    /// For people, over draws: `0.912 ± 0.013 (0.890–0.934)`, from the smallest to the largest.
    pub fn text_over_draws(&self) -> String {
        let number = crate::pages::number;
        let Some(mean) = self.mean else { return "–".into() };
        let known = self.values.iter().flatten();
        let (low, high) = known.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        match self.stdev {
            Some(sd) => format!("{} ± {} ({}–{})", number(mean), number(sd), number(low), number(high)),
            None => number(mean),
        }
    }

    /// Adds an interval with the draws that it stands on.
    #[must_use]
    pub fn with_interval(self, interval: &Interval) -> Self {
        Self {
            interval: Some(interval.method),
            draws: Some(interval.draws),
            undefined: Some(interval.undefined),
            ..self.with_ci95(interval.low, interval.high)
        }
    }

    /// Adds a confidence interval; ignored unless both ends are finite.
    #[must_use]
    pub fn with_ci95(mut self, low: f64, high: f64) -> Self {
        self.ci95 = (low.is_finite() && high.is_finite()).then_some([low, high]);
        self
    }
}
