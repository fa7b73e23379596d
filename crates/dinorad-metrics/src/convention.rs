//! Named conventions, and per-class results that say which classes were absent.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Whose rules decide where a metric is undefined. Print it with every number.
///
/// | | `strict` | `paper` | `torchmetrics` (1.0.3) | `monai` |
/// |---|---|---|---|---|
/// | AUROC of a class without positives or negatives | absent, left out | absent, left out | 0, counted | absent, left out |
/// | average precision without positives | absent, left out | absent, left out | NaN, left out | absent, left out |
/// | multi-class recall, precision, F1, specificity, accuracy: class never a target | absent, left out | 0, counted if predicted | 0, counted if predicted | absent, left out |
/// | multi-label ratios 0 / 0 | absent, left out | 0, counted | 0, counted | absent, left out |
/// | overlap of a segmentation | foreground Dice and Jaccard | the reference's `ignore_index = 0` pair | the same pair | Dice and Jaccard over classes that the target holds |
/// | surface distances, one mask empty | infinite | infinite | infinite | infinite, percentiles NaN |
///
/// Whatever the convention, [`PerClass::absent`] lists the classes on which the metric is undefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// What we recommend: undefined is absent, left out of means, and said.
    #[default]
    Strict,
    /// The study's published method, without a silent 0 for an absent class in a mean of AUROCs.
    Paper,
    /// torchmetrics 1.0.3, which the study's code pins, to the last digit.
    TorchMetrics,
    /// MONAI.
    Monai,
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Convention::Strict => "strict",
            Convention::Paper => "paper",
            Convention::TorchMetrics => "torchmetrics",
            Convention::Monai => "monai",
        })
    }
}

impl FromStr for Convention {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s.to_ascii_lowercase().as_str() {
            "strict" => Ok(Convention::Strict),
            "paper" => Ok(Convention::Paper),
            "torchmetrics" => Ok(Convention::TorchMetrics),
            "monai" => Ok(Convention::Monai),
            _ => Err(Error::Unknown {
                what: "convention",
                got: s.to_owned(),
                expected: "strict, paper, torchmetrics, monai",
            }),
        }
    }
}

/// One value per class or label, their mean, and the classes that have none.
///
/// # Examples
/// ```
/// use dinorad_metrics::{Convention, multilabel_auroc};
/// use ndarray::arr2;
/// let scores = arr2(&[[0.9, 0.1], [0.2, 0.4], [0.6, 0.3]]);
/// let targets = arr2(&[[1u8, 0], [0, 0], [1, 0]]); // nobody has finding 1
/// let strict = multilabel_auroc(scores.view(), targets.view(), Convention::Strict)?;
/// assert_eq!((strict.mean, strict.absent), (1.0, vec![1]));
/// let theirs = multilabel_auroc(scores.view(), targets.view(), Convention::TorchMetrics)?;
/// assert_eq!((theirs.mean, theirs.absent), (0.5, vec![1]));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerClass {
    /// By class index. An absent class holds what the convention says: NaN or 0.
    pub values: Vec<f64>,
    /// Classes on which the metric is undefined, in order.
    pub absent: Vec<usize>,
    /// Mean over the classes that the convention counts; NaN if there are none.
    pub mean: f64,
    /// Whose rules were followed.
    pub convention: Convention,
}

impl PerClass {
    /// From the value of each class and whether the mean counts it; `filler` stands for no value.
    pub(crate) fn new(entries: Vec<(Option<f64>, bool)>, filler: f64, convention: Convention) -> Self {
        let values: Vec<f64> = entries.iter().map(|(v, _)| v.unwrap_or(filler)).collect();
        let absent = entries.iter().enumerate().filter(|(_, e)| e.0.is_none()).map(|(i, _)| i).collect();
        let counted = values.iter().zip(&entries).filter(|(_, e)| e.1).map(|(v, _)| *v);
        let mean = mean(counted).unwrap_or(f64::NAN);
        PerClass { values, absent, mean, convention }
    }

    /// Absent classes are NaN and left out.
    pub(crate) fn left_out(values: Vec<Option<f64>>, convention: Convention) -> Self {
        PerClass::new(values.into_iter().map(|v| (v, v.is_some())).collect(), f64::NAN, convention)
    }

    /// The mean over defined classes weighted by `weights`, such as the number of positives of each.
    /// NaN if no weight is left.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is one weight per class.
    pub fn weighted_mean(&self, weights: &[f64]) -> Result<f64> {
        if weights.len() != self.values.len() {
            let (expected, got) = (vec![self.values.len()], vec![weights.len()]);
            return Err(Error::Shape { what: "weights", expected, got });
        }
        let defined = |i: &usize| !self.absent.contains(i);
        let total: f64 = (0..weights.len()).filter(defined).map(|i| weights[i]).sum();
        Ok((0..weights.len()).filter(defined).map(|i| weights[i] * self.values[i]).sum::<f64>() / total)
    }
}

pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0usize), |(s, n), v| (s + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// `a / b`, or nothing for 0 / 0.
pub(crate) fn ratio(a: u64, b: u64) -> Option<f64> {
    (b > 0).then(|| a as f64 / b as f64)
}
