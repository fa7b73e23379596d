//! The study's metric sets by name, and how a best setting is chosen.

use std::{fmt, str::FromStr};

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{
    ConfusionMatrix, Convention, CountMetric, Error, MultilabelCounts, Overlap, PerClass, Result, auroc,
    error::parameter, multiclass_auroc, multilabel_auroc, top_k_accuracy,
};

/// A named set of metrics, as the study's code calls them. The first member chooses settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricSet {
    /// `auroc` of one finding.
    BinaryAuc,
    /// Macro `auroc` of labels and `_<label>` of each.
    MultilabelAuc,
    /// Macro `accuracy` of labels at one half and `_<label>` of each. (The study's code cannot
    /// build this one.)
    MultilabelAccuracy,
    /// Macro `auroc` of classes against the rest and `_<class>` of each.
    MulticlassAuc,
    /// `top-1` and `top-5` over all cases.
    MeanAccuracy,
    /// `top-1` and `top-5`, mean over classes.
    MeanPerClassAccuracy,
    /// `top-1` and `top-5` of every class.
    PerClassAccuracy,
    /// `dice` and `jaccard` of label maps.
    SegmentationMetrics,
}

const NAMES: [(MetricSet, &str); 8] = [
    (MetricSet::BinaryAuc, "binary_auc"),
    (MetricSet::MultilabelAuc, "multilabel_auc"),
    (MetricSet::MultilabelAccuracy, "multilabel_accuracy"),
    (MetricSet::MulticlassAuc, "multiclass_auc"),
    (MetricSet::MeanAccuracy, "mean_accuracy"),
    (MetricSet::MeanPerClassAccuracy, "mean_per_class_accuracy"),
    (MetricSet::PerClassAccuracy, "per_class_accuracy"),
    (MetricSet::SegmentationMetrics, "segmentation_metrics"),
];

impl fmt::Display for MetricSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(s, _)| s == self).map_or("", |(_, n)| n))
    }
}

impl FromStr for MetricSet {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let expected = "binary_auc, multilabel_auc, multilabel_accuracy, multiclass_auc, mean_accuracy, \
                        mean_per_class_accuracy, per_class_accuracy, segmentation_metrics";
        let found = NAMES.iter().find(|(_, n)| *n == name).map(|(s, _)| *s);
        found.ok_or_else(|| Error::Unknown { what: "metric set", got: name.to_owned(), expected })
    }
}

/// Predictions with their truth, by kind of task.
#[derive(Debug, Clone, Copy)]
pub enum Predictions<'a> {
    /// `(n,)` scores and 0/1 targets.
    Binary(ArrayView1<'a, f64>, ArrayView1<'a, usize>),
    /// `(n, classes)` scores and `(n,)` class indices.
    Multiclass(ArrayView2<'a, f64>, ArrayView1<'a, usize>),
    /// `(n, labels)` scores and 0/1 targets.
    Multilabel(ArrayView2<'a, f64>, ArrayView2<'a, usize>),
    /// Pixels counted by class.
    Segmentation(&'a ConfusionMatrix),
}

/// One result of a set: a number, or one per class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricResult {
    /// Its name.
    pub key: String,
    /// One number, or one per class.
    pub values: Vec<f64>,
    /// Classes on which it is undefined.
    pub absent: Vec<usize>,
}

impl MetricSet {
    /// The members in order; the first chooses settings.
    pub fn members(&self) -> &'static [&'static str] {
        match self {
            MetricSet::BinaryAuc => &["auroc"],
            MetricSet::MultilabelAuc | MetricSet::MulticlassAuc => &["auroc", "class-specific_auroc"],
            MetricSet::MultilabelAccuracy => &["accuracy", "class-specific_accuracy"],
            MetricSet::MeanAccuracy | MetricSet::MeanPerClassAccuracy | MetricSet::PerClassAccuracy => {
                &["top-1", "top-5"]
            }
            MetricSet::SegmentationMetrics => &["dice", "jaccard"],
        }
    }

    /// The results in order, the one that chooses settings first.
    ///
    /// # Errors
    /// [`Error::Parameter`] for predictions of another task, [`Error::Shape`] unless there is a
    /// name per class where classes are named, and those of the metrics.
    ///
    /// # Examples
    /// ```
    /// use dinorad_metrics::{Convention, MetricSet, Predictions};
    /// use ndarray::{arr1, arr2};
    /// let scores = arr2(&[[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]);
    /// let targets = arr1(&[0usize, 1, 1]);
    /// let set: MetricSet = "mean_accuracy".parse()?;
    /// let predictions = Predictions::Multiclass(scores.view(), targets.view());
    /// let results = set.evaluate(&predictions, &[], Convention::Strict)?;
    /// assert_eq!((results[0].key.as_str(), results[0].values[0]), ("top-1", 2.0 / 3.0));
    /// # Ok::<(), dinorad_metrics::Error>(())
    /// ```
    pub fn evaluate(
        &self,
        predictions: &Predictions<'_>,
        class_names: &[String],
        convention: Convention,
    ) -> Result<Vec<MetricResult>> {
        match (self, predictions) {
            (MetricSet::BinaryAuc, Predictions::Binary(scores, targets)) => {
                let value = match (auroc(*scores, *targets), convention) {
                    (Err(Error::OneClass { .. }), Convention::TorchMetrics) => 0.0,
                    (value, _) => value?,
                };
                Ok(vec![one("auroc", value)])
            }
            (MetricSet::MultilabelAuc, Predictions::Multilabel(scores, targets)) => {
                classwise("auroc", &multilabel_auroc(*scores, *targets, convention)?, class_names)
            }
            (MetricSet::MultilabelAccuracy, Predictions::Multilabel(scores, targets)) => {
                let counts = MultilabelCounts::at_threshold(*scores, *targets, 0.5)?;
                classwise("accuracy", &counts.per_label(CountMetric::Accuracy, convention), class_names)
            }
            (MetricSet::MulticlassAuc, Predictions::Multiclass(scores, targets)) => {
                classwise("auroc", &multiclass_auroc(*scores, *targets, convention)?, class_names)
            }
            (
                MetricSet::MeanAccuracy | MetricSet::MeanPerClassAccuracy | MetricSet::PerClassAccuracy,
                Predictions::Multiclass(scores, targets),
            ) => {
                let top = |key: &str, k| {
                    let top = top_k_accuracy(*scores, *targets, k, convention)?;
                    let values = match self {
                        MetricSet::MeanAccuracy => vec![top.micro],
                        MetricSet::MeanPerClassAccuracy => vec![top.per_class.mean],
                        _ => top.per_class.values,
                    };
                    Ok(MetricResult { key: key.to_owned(), values, absent: top.per_class.absent })
                };
                Ok(vec![top("top-1", 1)?, top("top-5", 5)?])
            }
            (MetricSet::SegmentationMetrics, Predictions::Segmentation(matrix)) => {
                let pair = Overlap::new(matrix).pair(convention);
                let result = |key: &str, value: f64| MetricResult { absent: pair.absent.clone(), ..one(key, value) };
                Ok(vec![result("dice", pair.dice), result("jaccard", pair.jaccard)])
            }
            _ => Err(parameter("metric set", self, "a set for this kind of task")),
        }
    }
}

fn one(key: &str, value: f64) -> MetricResult {
    MetricResult { key: key.to_owned(), values: vec![value], absent: vec![] }
}

fn classwise(key: &str, all: &PerClass, class_names: &[String]) -> Result<Vec<MetricResult>> {
    if class_names.len() != all.values.len() {
        let (expected, got) = (vec![all.values.len()], vec![class_names.len()]);
        return Err(Error::Shape { what: "class names", expected, got });
    }
    let mut results = vec![MetricResult { absent: all.absent.clone(), ..one(key, all.mean) }];
    results.extend(class_names.iter().zip(&all.values).enumerate().map(|(i, (name, value))| MetricResult {
        absent: if all.absent.contains(&i) { vec![i] } else { vec![] },
        ..one(&format!("_{name}"), *value)
    }));
    Ok(results)
}

/// Index of the largest score, the first of equals; NaN never wins. `None` if nothing is left.
pub fn best_index(scores: &[f64]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, s) in scores.iter().enumerate() {
        if !s.is_nan() && best.is_none_or(|b| *s > scores[b]) {
            best = Some(i);
        }
    }
    best
}

/// The study's code's choice: the best so far starts at 0, so that scores of 0 or less are never
/// chosen (there it crashes). For parity only.
pub fn reference_best_index(scores: &[f64]) -> Option<usize> {
    let (mut best, mut running) = (None, 0.0);
    for (i, s) in scores.iter().enumerate() {
        if *s > running {
            (best, running) = (Some(i), *s);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_label_that_is_absent_is_named_in_the_mean_and_at_its_own_number() {
        let scores = array![[0.9, 0.2, 0.1], [0.8, 0.3, 0.6], [0.3, 0.1, 0.7], [0.1, 0.9, 0.2]];
        // the second label is nobody's; the first is ranked right, of the third's four pairs two are
        let targets = array![[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, 1]];
        let names = ["a", "b", "c"].map(str::to_owned);
        let predictions = Predictions::Multilabel(scores.view(), targets.view());
        let found = MetricSet::MultilabelAuc.evaluate(&predictions, &names, Convention::Strict).unwrap();
        let keys: Vec<&str> = found.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(keys, ["auroc", "_a", "_b", "_c"]);
        let absent: Vec<&[usize]> = found.iter().map(|r| r.absent.as_slice()).collect();
        assert_eq!(absent, [&[1][..], &[], &[1], &[]]);
        assert_eq!((found[1].values[0], found[3].values[0], found[0].values[0]), (1.0, 0.5, 0.75));
        assert!(found[2].values[0].is_nan());
    }
}
