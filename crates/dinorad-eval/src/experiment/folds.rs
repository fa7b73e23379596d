//! An experiment once for each fold of its cases, and its scores over all of them.

use std::{cmp::Reverse, collections::BTreeMap, path::Path};

use dinorad_datasets::{SplitTable, Unit};
use dinorad_metrics::{RUN_SCORES, fold_score, value_text};
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
    /// Names of the classes, for people.
    #[serde(skip)]
    pub class_names: Vec<String>,
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
        let scores = names.filter_map(over).collect();
        let task = metrics.first().and_then(|m| m.task.as_ref());
        let class_names = task.map_or_else(Vec::new, |task| task.class_names.clone());
        FoldScores { folds: self.folds, repeats: self.repeats, test_to_train, metrics: scores, class_names }
    }
}

impl FoldScores {
    /// Where a score stands, and its name for people: those of the run, of its classes, and of settings that were
    /// not chosen, each in the order of [`RUN_SCORES`].
    fn titled(&self, name: &str) -> (usize, usize, usize, String) {
        // the longest, as `auroc` could begin another
        let known = RUN_SCORES.iter().enumerate().filter(|(_, rule)| name.starts_with(rule.name));
        let Some((place, rule)) = known.max_by_key(|(place, rule)| (rule.name.len(), Reverse(*place))) else {
            return (3, 0, 0, name.replace('_', " "));
        };
        let rest = &name[rule.name.len()..];
        let class = rest.strip_prefix("_class_").and_then(|class| class.parse::<usize>().ok());
        match (rest, class) {
            ("", _) => (0, place, 0, rule.title.to_owned()),
            (_, Some(class)) => {
                let of = self.class_names.get(class).map_or_else(|| format!("class {class}"), String::clone);
                (1, place, class, format!("{} of {of}", rule.title))
            }
            (setting, None) => (2, place, 0, format!("{}, {}", rule.title, setting.trim_start_matches('_'))),
        }
    }

    /// One line a score.
    pub fn table(&self) -> Table {
        let n = self.folds * self.repeats;
        let title = match self.repeats {
            1 => format!("Test scores over {} folds", self.folds),
            repeats => format!("Test scores over {n} folds ({repeats} times {})", self.folds),
        };
        let table = Table::new(title, ["score", "mean", "deviation", "95 % interval", "lowest", "highest"]);
        let mut lines: Vec<_> = self.metrics.iter().map(|(name, score)| (self.titled(name), score)).collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        lines.into_iter().fold(table.with_words(1), |table, ((.., title), score)| {
            let [low, high] = score.ci95;
            let least = score.values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = score.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            table.with_row([
                title,
                value_text(score.mean),
                value_text(score.stdev),
                format!("{} to {}", value_text(low), value_text(high)),
                value_text(least),
                value_text(most),
            ])
        })
    }
}
