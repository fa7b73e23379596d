#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

mod auroc;
mod average_precision;
mod bootstrap;
mod calibration;
mod collection;
mod comparison;
mod confusion;
mod convention;
mod counts;
mod curve;
mod delong;
mod distance_transform;
mod error;
mod folds;
mod input;
mod lesions;
mod mask_scores;
mod newcombe;
mod number_text;
mod overlap;
mod permutation;
mod quantile;
mod ranked;
mod score_list;
mod stream;
mod surface;
mod task_scores;
mod top_k;
mod torch_top_k;
mod wilson;

pub use auroc::{auroc, multiclass_auroc, multiclass_auroc_micro, multilabel_auroc, multilabel_auroc_micro};
pub use average_precision::{average_precision, multiclass_average_precision, multilabel_average_precision};
pub use bootstrap::{
    BootstrapOptions, Interval, IntervalMethod, LabelIntervals, Resampling, bootstrap_auroc, bootstrap_multilabel_auroc,
};
pub use calibration::{Calibration, ReliabilityBin, brier_score, log_loss, multiclass_brier_score};
pub use collection::{MetricResult, MetricSet, Predictions, best_index, reference_best_index};
pub use comparison::{
    ComparisonMethod, ScoreComparison, bootstrap_difference, bootstrap_mean_difference, compare_auroc, delong_auroc,
};
pub use confusion::{ConfusionMatrix, KappaWeights};
pub use convention::{Convention, PerClass};
pub use counts::{BinaryCounts, CountMetric, MultilabelCounts};
pub use curve::{
    OperatingPoint, PrecisionRecallCurve, RocCurve, at_sensitivity, at_specificity, at_youden, precision_recall_curve,
    roc_curve,
};
pub use delong::{DeLong, DeLongTest, delong, delong_paired};
pub use distance_transform::distance_transform;
pub use error::{Error, Result};
pub use folds::{FoldScore, fold_score};
pub use input::{Label, Score};
pub use lesions::{LesionOverlap, lesion_counts};
pub use mask_scores::MaskScores;
pub use newcombe::newcombe_interval;
pub use number_text::{signed_text, value_text};
pub use overlap::{Overlap, OverlapPair};
pub use permutation::{PermutationTest, paired_permutation, paired_permutation_auroc, paired_permutation_mean};
pub use ranked::RankedScores;
pub use score_list::{CALIBRATION_BINS, POSITIVE_ABOVE, RUN_SCORES, RunScore, ScoreRule, run_scores};
pub use stream::{BinaryScores, Metric, MulticlassScores, MultilabelScores};
pub use surface::{SurfaceDistances, SurfaceSummary};
pub use task_scores::{ScoreReport, ScoreValue, TaskScores};
pub use top_k::{TopK, top_k_accuracy};
pub use wilson::wilson_interval;
