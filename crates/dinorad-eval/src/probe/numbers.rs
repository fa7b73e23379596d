//! How a judgement is told: the numbers of `metrics.json`, and what a reader should know.

use dinorad_core::Task;
use dinorad_metrics::Interval;
use dinorad_report::{MetricValue, Metrics};

use super::Evaluation;

/// Share of draws without a value above which a reader is told.
const FEW_UNDEFINED: f64 = 0.05;

impl Evaluation {
    /// Every number under the name of a part.
    pub fn write_into(&self, file: &mut Metrics, split: &str) {
        file.set(split, "auroc", metric(self.auroc));
        file.set(split, "accuracy", metric(self.accuracy));
        if self.auroc_by_class.len() > 1 {
            for (c, interval) in self.auroc_by_class.iter().enumerate() {
                file.set(split, format!("auroc_class_{c}"), metric(*interval));
            }
            let precisions = self.average_precision_by_class.iter().zip(&self.average_precision_intervals);
            for (c, (value, interval)) in precisions.enumerate() {
                file.set(split, format!("average_precision_class_{c}"), with_interval(*value, interval.as_ref()));
            }
        }
        for other in &self.others {
            file.set(split, other.name.clone(), with_interval(other.value, other.interval.as_ref()));
        }
    }

    /// What a reader of the numbers should know: intervals that stand on a part of the draws.
    pub fn notices(&self, task: &Task) -> Vec<String> {
        let mut notices = Vec::new();
        let named = |name: &str, interval: Option<Interval>| Some((name.to_owned(), interval?));
        let main = [named("AUROC", self.auroc), named("accuracy", self.accuracy)];
        let others = self.others.iter().map(|o| named(&o.name.replace('_', " "), o.interval));
        // a single curve is the score of the run itself
        let several = self.auroc_by_class.len() > 1;
        let by_class = [("AUROC", &self.auroc_by_class), ("average precision", &self.average_precision_intervals)];
        let classes = by_class.into_iter().filter(|_| several).flat_map(|(score, of)| {
            let class =
                move |(c, i): (usize, &Option<Interval>)| named(&format!("{score} of {}", class_name(task, c)), *i);
            of.iter().enumerate().map(class)
        });
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

fn class_name(task: &Task, class: usize) -> String {
    task.class_names.get(class).map_or_else(|| class.to_string(), String::clone)
}

/// A number that may be there without an interval.
fn with_interval(value: Option<f64>, interval: Option<&Interval>) -> MetricValue {
    let value = MetricValue::single(value.unwrap_or(f64::NAN));
    match interval {
        Some(interval) => value.with_interval(interval),
        None => value,
    }
}

/// A number and its interval.
pub(super) fn metric(interval: Option<Interval>) -> MetricValue {
    match interval {
        Some(i) => MetricValue::single(i.estimate).with_interval(&i),
        None => MetricValue::single(f64::NAN),
    }
}
