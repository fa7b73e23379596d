//! How a judgement is told: the numbers of `metrics.json`, the table of a report, what a reader should
//! know.

use dinorad_core::{Task, TaskKind};
use dinorad_metrics::{Interval, IntervalMethod, RunScore, run_scores, value_text};

use super::Judged;
use crate::{
    report::Score,
    run::{MetricValue, MetricsFile},
};

/// Share of draws without a value above which a reader is told.
const FEW_UNDEFINED: f64 = 0.05;

impl Judged {
    /// Every number under the name of a split.
    pub fn write_into(&self, file: &mut MetricsFile, split: &str) {
        file.set(split, "cases", MetricValue::single(self.predictions.ids.len() as f64));
        for (c, positives) in self.positives.iter().enumerate() {
            file.set(split, format!("positives_class_{c}"), MetricValue::single(*positives as f64));
        }
        file.set(split, "majority_accuracy", MetricValue::single(self.majority_accuracy));
        file.set(split, "auroc", metric(self.auroc));
        file.set(split, "accuracy", metric(self.accuracy));
        if self.auroc_by_class.len() > 1 {
            for (c, interval) in self.auroc_by_class.iter().enumerate() {
                file.set(split, format!("auroc_class_{c}"), metric(*interval));
            }
            for (c, value) in self.average_precision_by_class.iter().enumerate() {
                let value = MetricValue::single(value.unwrap_or(f64::NAN));
                file.set(split, format!("average_precision_class_{c}"), value);
            }
        }
        for other in &self.others {
            let value = MetricValue::single(other.value.unwrap_or(f64::NAN));
            file.set(split, other.name.clone(), other.interval.map_or(value.clone(), |i| value.with_interval(&i)));
        }
    }

    /// Every number for a report's table, AUROC and accuracy first, each with how it is meant.
    pub fn scores(&self, task: &Task) -> Vec<Score> {
        let n = self.predictions.ids.len();
        let mut scores = Vec::new();
        for rule in run_scores(scored_as(task)) {
            let (value, interval, note) = match rule.score {
                RunScore::Auroc => (self.auroc.map(|i| i.estimate), self.auroc, String::new()),
                RunScore::Accuracy => {
                    let frequent = format!("; {} for the most frequent answer", value_text(self.majority_accuracy));
                    (self.accuracy.map(|i| i.estimate), self.accuracy, frequent)
                }
                _ => match self.others.iter().find(|o| o.name == rule.name) {
                    Some(other) => (other.value, other.interval, String::new()),
                    None => continue,
                },
            };
            scores.push(line(rule.title, value, interval, n, &format!("{}{note}", rule.convention)));
        }
        if self.auroc_by_class.len() > 1 {
            for (c, interval) in self.auroc_by_class.iter().enumerate() {
                let positives = self.positives.get(c).copied().unwrap_or(0);
                let (title, note) = (format!("AUROC, {}", class_name(task, c)), format!("{positives} positive cases"));
                scores.push(line(&title, interval.map(|i| i.estimate), *interval, n, &note));
            }
        }
        scores
    }

    /// What a reader of the numbers should know: a prediction that tells nothing apart, intervals that
    /// stand on a part of the draws.
    pub fn notices(&self, task: &Task) -> Vec<String> {
        let mut notices = Vec::new();
        if self.constant {
            notices.push("the prediction is the same for every case: it tells nothing apart".to_owned());
        }
        let named = |name: &str, interval: Option<Interval>| Some((name.to_owned(), interval?));
        let main = [named("AUROC", self.auroc), named("accuracy", self.accuracy)];
        let others = self.others.iter().map(|o| named(&o.name.replace('_', " "), o.interval));
        let classes = self.auroc_by_class.iter().enumerate().skip(usize::from(self.auroc_by_class.len() == 1));
        let classes = classes.map(|(c, interval)| named(&format!("AUROC of {}", class_name(task, c)), *interval));
        let mut thin: Vec<(String, Interval)> = main.into_iter().chain(others).chain(classes).flatten().collect();
        thin.retain(|(_, i)| i.undefined as f64 > FEW_UNDEFINED * (i.draws + i.undefined) as f64);
        if let Some(fewest) = thin.iter().map(|(_, i)| *i).min_by_key(|i| i.draws) {
            let names: Vec<&str> = thin.iter().map(|(name, _)| name.as_str()).collect();
            notices.push(format!(
                "intervals on a part of the draws, {} of {} at the least, as the others lack positives or negatives: {}",
                fewest.draws,
                fewest.draws + fewest.undefined,
                names.join(", ")
            ));
        }
        notices
    }
}

/// The kind of task whose scores a run has: two classes are a binary task.
fn scored_as(task: &Task) -> TaskKind {
    match task.kind {
        TaskKind::Multiclass if task.n_classes() == 2 => TaskKind::Binary,
        kind => kind,
    }
}

fn class_name(task: &Task, class: usize) -> String {
    task.class_names.get(class).map_or_else(|| class.to_string(), String::clone)
}

/// A line of a report's table.
fn line(title: &str, value: Option<f64>, interval: Option<Interval>, n: usize, note: &str) -> Score {
    let mut score = Score::new(title, value.unwrap_or(f64::NAN)).with_n(n);
    let mut note = note.to_owned();
    if let Some(i) = interval {
        score = score.with_ci95(i.low, i.high);
        if i.method == IntervalMethod::Newcombe {
            note += "; interval after Newcombe, as all draws are equal";
        }
    }
    score.with_note(note)
}

/// A number and its interval.
pub(super) fn metric(interval: Option<Interval>) -> MetricValue {
    match interval {
        Some(i) => MetricValue::single(i.estimate).with_interval(&i),
        None => MetricValue::single(f64::NAN),
    }
}
