//! An experiment once for each fold of its cases, and its scores over all of them.

use std::{collections::BTreeMap, path::Path};

use dinorad_datasets::{SplitTable, Unit};
use dinorad_metrics::{fold_score, value_text};
use dinorad_report::Metrics;
use serde::Serialize;

use super::{Experiment, Outcome, Planned, data::options_of};
use crate::{Error, Result, probe::Refit, report::Table};

/// Cross-validation: cases cut into folds by patient and class, each of which is the test part once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossValidation {
    /// Folds, 3 or more: one is the test part, the next one the validation part, the others the training part.
    pub folds: usize,
    /// How often the cases are cut anew.
    pub repeats: usize,
}

/// Scores over the folds of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoldScores {
    /// Folds.
    pub folds: usize,
    /// Repeats.
    pub repeats: usize,
    /// Test cases of a fold over the cases that were learned from.
    pub test_to_train: f64,
    /// By metric.
    pub metrics: BTreeMap<String, OverFolds>,
}

/// One score over folds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverFolds {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub stdev: f64,
    /// 95 % interval of the mean, see [`fold_score`].
    pub ci95: [f64; 2],
    /// One value a fold, repeat after repeat.
    pub values: Vec<f64>,
}

impl CrossValidation {
    /// Cuts the cases of an experiment's data set and gives one experiment for each fold, with its run in
    /// `out/repeat-R-fold-F` and its table of parts in `tables`. The same seed gives the same folds.
    ///
    /// # Errors
    /// [`Error::Description`] for fewer than 3 folds or no repeat, and for an experiment that has parts of its own;
    /// [`Error::Dataset`] for more folds than patients and for tables that cannot be written.
    pub fn planned(&self, experiment: &Experiment, out: &Path, tables: &Path) -> Result<Vec<Planned>> {
        let wrong = |key: &str, why: &str| Err(Error::description(key, why.to_owned()));
        if self.folds < 3 {
            return wrong(
                "folds",
                "must be 3 or more: one to test, one to choose settings by, the others to learn from",
            );
        }
        if self.repeats == 0 {
            return wrong("repeats", "must be 1 or more");
        }
        let data = &experiment.data;
        if data.test.is_some() || data.splits.is_some() {
            return wrong(
                "folds",
                "cut the cases of one data set: no other test set and no table of parts beside them",
            );
        }
        let mut options = options_of(experiment.protocol).with_bad(data.bad).with_unit(Unit::Volumes);
        options.uncertain = data.uncertain;
        options.columns = data.columns.clone();
        let table = SplitTable::of(&data.name, &data.root, &options)?;
        let mut planned = Vec::new();
        for repeat in 0..self.repeats {
            // far from the seeds of other repeats: a fold takes one of its own
            let seed = experiment.seed.wrapping_add((repeat as u64) << 32);
            for (fold, parts) in table.cross_validation(self.folds, seed)?.iter().enumerate() {
                let name = format!("repeat-{}-fold-{}", repeat + 1, fold + 1);
                let path = tables.join(format!("{name}.csv"));
                parts.write(&path)?;
                let mut of_fold = experiment.clone();
                of_fold.data.splits = Some(path);
                planned.push(Planned::new(&name, of_fold, out.join(&name)));
            }
        }
        Ok(planned)
    }

    /// The test scores of the folds together: those that every fold has.
    pub fn scores(&self, experiment: &Experiment, done: &[Outcome]) -> FoldScores {
        let metrics: Vec<_> = done.iter().map(Outcome::metrics).collect();
        // validation cases are learned from where the chosen setting is trained on both
        let both = experiment.refit.unwrap_or(Refit::of(experiment.protocol)) == Refit::TrainVal;
        let test_to_train = 1.0 / (self.folds - if both { 1 } else { 2 }) as f64;
        let names = metrics.first().and_then(|m| m.metrics.get("test")).into_iter().flat_map(|test| test.keys());
        let over = |name: &String| {
            let value = |m: &Metrics| m.metrics.get("test")?.get(name)?.mean;
            let values = metrics.iter().map(value).collect::<Option<Vec<f64>>>()?;
            let score = fold_score(&values, test_to_train, 0.95)?;
            let (low, high) = score.interval;
            Some((name.clone(), OverFolds { mean: score.mean, stdev: score.stdev, ci95: [low, high], values }))
        };
        let metrics = names.filter_map(over).collect();
        FoldScores { folds: self.folds, repeats: self.repeats, test_to_train, metrics }
    }
}

impl FoldScores {
    /// One line a score.
    pub fn table(&self) -> Table {
        let n = self.folds * self.repeats;
        let title = match self.repeats {
            1 => format!("Test scores over {} folds", self.folds),
            repeats => format!("Test scores over {n} folds ({repeats} times {})", self.folds),
        };
        let table = Table::new(title, ["score", "mean", "deviation", "95 % interval", "lowest", "highest"]);
        self.metrics.iter().fold(table, |table, (name, score)| {
            let [low, high] = score.ci95;
            let least = score.values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = score.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            table.with_row([
                name.clone(),
                value_text(score.mean),
                value_text(score.stdev),
                format!("{} to {}", value_text(low), value_text(high)),
                value_text(least),
                value_text(most),
            ])
        })
    }
}
