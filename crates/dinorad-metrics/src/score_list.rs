//! The list of scores that a run writes: which for which task, and how each is meant.

use dinorad_core::TaskKind;
use serde::{Deserialize, Serialize};

/// Bins of the expected calibration error that runs write.
pub const CALIBRATION_BINS: usize = 15;

/// The probability above which a finding counts as present, as in torchmetrics and scikit-learn: one
/// half itself does not. Of two classes the more probable one is called, of equals class 0, which is
/// the same rule.
pub const POSITIVE_ABOVE: f64 = 0.5;

/// A score that a run writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunScore {
    /// Area under the ROC curve.
    Auroc,
    /// Share of answers that are right.
    Accuracy,
    /// Average precision.
    AveragePrecision,
    /// Called positive among the positives.
    Sensitivity,
    /// Called negative among the negatives.
    Specificity,
    /// Harmonic mean of precision and sensitivity.
    F1,
    /// Cohen's kappa.
    Kappa,
    /// Brier score.
    Brier,
    /// Mean recall of the classes.
    BalancedAccuracy,
    /// Expected calibration error.
    Ece,
    /// Mean Dice over the foreground classes, all pixels pooled.
    Dice,
    /// Mean Jaccard over the foreground classes, all pixels pooled.
    Jaccard,
    /// Mean over volumes of a volume's mean Dice.
    DiceByVolume,
}

/// How a score is meant for a kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreRule {
    /// Which score.
    pub score: RunScore,
    /// Its name in `metrics.json`.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The tasks of which this line speaks.
    pub tasks: &'static [TaskKind],
    /// What is computed.
    pub definition: &'static str,
    /// What is positive, what is averaged, what is left out: the note beside the number.
    pub convention: &'static str,
    /// Where the definition comes from.
    pub source: &'static str,
    /// Whether a run draws an interval for it.
    pub interval: bool,
}

const BINARY: &[TaskKind] = &[TaskKind::Binary];
const MULTICLASS: &[TaskKind] = &[TaskKind::Multiclass];
const MULTILABEL: &[TaskKind] = &[TaskKind::Multilabel];
const CLASSES: &[TaskKind] = &[TaskKind::Binary, TaskKind::Multiclass];
const MASKS: &[TaskKind] = &[TaskKind::Segmentation];

const OF_CLASS_1: &str = "class 1 against 0 at the more probable class";
const OF_CLASSES: &str = "each class against the rest at the most probable class, mean over classes that occur";
const OF_FINDINGS: &str = "each finding, called above 0.5, mean over findings that occur";

const HANLEY: &str = "Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747";
const ZHU: &str = "Zhu 2004, Recall, precision and average precision";
const ALTMAN: &str = "Altman and Bland 1994, https://doi.org/10.1136/bmj.308.6943.1552";
const BRIER: &str = "Brier 1950, https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2";
const GUO: &str = "Guo et al. 2017, arXiv:1706.04599";
const RIJSBERGEN: &str = "van Rijsbergen 1979, Information Retrieval, chapter 7";
const COUNTING: &str = "counted";
const DICE: &str = "Dice 1945, https://doi.org/10.2307/1932409";
const JACCARD: &str = "Jaccard 1912, https://doi.org/10.1111/j.1469-8137.1912.tb05611.x";

/// A line of the list; the first three names come in this order.
const fn rule(
    (score, name, title): (RunScore, &'static str, &'static str),
    tasks: &'static [TaskKind],
    definition: &'static str,
    convention: &'static str,
    source: &'static str,
    interval: bool,
) -> ScoreRule {
    ScoreRule { score, name, title, tasks, definition, convention, source, interval }
}

const AUROC: (RunScore, &str, &str) = (RunScore::Auroc, "auroc", "AUROC");
const ACCURACY: (RunScore, &str, &str) = (RunScore::Accuracy, "accuracy", "accuracy");
const PRECISION: (RunScore, &str, &str) = (RunScore::AveragePrecision, "average_precision", "average precision");
const SENSITIVITY: (RunScore, &str, &str) = (RunScore::Sensitivity, "sensitivity", "sensitivity");
const SPECIFICITY: (RunScore, &str, &str) = (RunScore::Specificity, "specificity", "specificity");
const F1: (RunScore, &str, &str) = (RunScore::F1, "f1", "F1");
const KAPPA: (RunScore, &str, &str) = (RunScore::Kappa, "kappa", "Cohen's kappa");
const BRIER_SCORE: (RunScore, &str, &str) = (RunScore::Brier, "brier", "Brier score");
const BALANCED: (RunScore, &str, &str) = (RunScore::BalancedAccuracy, "balanced_accuracy", "balanced accuracy");
const ECE: (RunScore, &str, &str) = (RunScore::Ece, "ece", "calibration error (ECE)");

const PAIRS: &str = "chance that a positive scores above a negative";
const RIGHT: &str = "right among all";
const AP: &str = "mean over positives of the precision at their score, without interpolation";
const RECALL: &str = "called positive among the positives";
const TRUE_NEGATIVE_RATE: &str = "called negative among the negatives";
const F1_RATIO: &str = "2 TP / (2 TP + FP + FN)";
const BINNED: &str = "mean over cases of |accuracy - confidence| of their bin, 15 bins of equal width";

/// Every score that a run writes, in the order in which it writes them; one line for each kind of
/// task whose meaning differs. See [`run_scores`].
pub const RUN_SCORES: &[ScoreRule] = &[
    rule(AUROC, BINARY, PAIRS, "class 1 against 0; ties count one half", HANLEY, true),
    rule(AUROC, MULTICLASS, PAIRS, "each class against the rest, mean over classes that occur", HANLEY, true),
    rule(AUROC, MULTILABEL, PAIRS, "mean over findings that occur", HANLEY, true),
    rule(ACCURACY, CLASSES, RIGHT, "most probable class", COUNTING, true),
    rule(ACCURACY, MULTILABEL, RIGHT, "findings right, called above 0.5", COUNTING, true),
    rule(PRECISION, BINARY, AP, "class 1 against 0", ZHU, true),
    rule(PRECISION, MULTICLASS, AP, "each class against the rest, mean over classes that occur", ZHU, true),
    rule(PRECISION, MULTILABEL, AP, "mean over findings that occur", ZHU, true),
    rule(SENSITIVITY, BINARY, RECALL, OF_CLASS_1, ALTMAN, true),
    rule(SENSITIVITY, MULTICLASS, RECALL, OF_CLASSES, ALTMAN, true),
    rule(SENSITIVITY, MULTILABEL, RECALL, OF_FINDINGS, ALTMAN, true),
    rule(SPECIFICITY, BINARY, TRUE_NEGATIVE_RATE, OF_CLASS_1, ALTMAN, true),
    rule(SPECIFICITY, MULTICLASS, TRUE_NEGATIVE_RATE, OF_CLASSES, ALTMAN, true),
    rule(SPECIFICITY, MULTILABEL, TRUE_NEGATIVE_RATE, OF_FINDINGS, ALTMAN, true),
    rule(F1, BINARY, F1_RATIO, OF_CLASS_1, RIJSBERGEN, true),
    rule(F1, MULTICLASS, F1_RATIO, OF_CLASSES, RIJSBERGEN, true),
    rule(F1, MULTILABEL, F1_RATIO, OF_FINDINGS, RIJSBERGEN, true),
    rule(
        KAPPA,
        CLASSES,
        "agreement beyond chance: (observed - chance) / (1 - chance)",
        "most probable class, unweighted",
        "Cohen 1960, https://doi.org/10.1177/001316446002000104",
        true,
    ),
    rule(BRIER_SCORE, BINARY, "mean squared difference of probability and truth", "of class 1, 0 to 1", BRIER, true),
    rule(
        BRIER_SCORE,
        MULTICLASS,
        "mean over cases of the squared differences of probability and truth",
        "summed over classes, 0 to 2",
        BRIER,
        true,
    ),
    rule(
        BRIER_SCORE,
        MULTILABEL,
        "mean squared difference of probability and truth",
        "mean over all findings, 0 to 1",
        BRIER,
        true,
    ),
    rule(BALANCED, BINARY, "mean of sensitivity and specificity", OF_CLASS_1, COUNTING, true),
    rule(BALANCED, MULTICLASS, "mean recall of the classes", OF_CLASSES, COUNTING, true),
    rule(ECE, BINARY, BINNED, "of the probability of class 1", GUO, true),
    rule(ECE, MULTICLASS, BINNED, "of the most probable class", GUO, true),
    rule(ECE, MULTILABEL, BINNED, "of all findings pooled", GUO, true),
    rule(
        (RunScore::Dice, "dice", "Dice"),
        MASKS,
        "2 |A and B| / (|A| + |B|)",
        "mean over foreground classes that occur, all pixels pooled",
        DICE,
        false,
    ),
    rule(
        (RunScore::Jaccard, "jaccard", "Jaccard"),
        MASKS,
        "|A and B| / |A or B|",
        "mean over foreground classes that occur, all pixels pooled",
        JACCARD,
        false,
    ),
    rule(
        (RunScore::DiceByVolume, "dice_by_volume", "Dice by volume"),
        MASKS,
        "Dice of the pooled slices of a volume",
        "mean over foreground classes that occur, then over volumes with any",
        DICE,
        true,
    ),
];

/// The scores that a run writes for a kind of task, in order.
///
/// # Examples
/// ```
/// use dinorad_core::TaskKind;
/// let names: Vec<_> = dinorad_metrics::run_scores(TaskKind::Segmentation).map(|r| r.name).collect();
/// assert_eq!(names, ["dice", "jaccard", "dice_by_volume"]);
/// ```
pub fn run_scores(task: TaskKind) -> impl Iterator<Item = &'static ScoreRule> {
    RUN_SCORES.iter().filter(move |rule| rule.tasks.contains(&task))
}

impl RunScore {
    /// How the score is meant for a kind of task; `None` where a run does not write it.
    pub fn rule(self, task: TaskKind) -> Option<&'static ScoreRule> {
        run_scores(task).find(|rule| rule.score == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_every_score_once() {
        for (task, n) in
            [(TaskKind::Binary, 10), (TaskKind::Multiclass, 10), (TaskKind::Multilabel, 8), (TaskKind::Segmentation, 3)]
        {
            let mut names: Vec<_> = run_scores(task).map(|r| r.name).collect();
            assert_eq!(names.len(), n, "{names:?}");
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), n, "{names:?}");
        }
        assert!(RunScore::Kappa.rule(TaskKind::Multilabel).is_none());
        assert!(RunScore::Kappa.rule(TaskKind::Binary).is_some());
    }
}
