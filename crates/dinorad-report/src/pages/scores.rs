//! Scores by their names in `metrics.json`, as people read them: titles and conventions are those of
//! [`RUN_SCORES`].

use std::collections::BTreeMap;

use dinorad_core::{Task, TaskKind};
use dinorad_metrics::{IntervalMethod, RUN_SCORES, RunScore, ScoreRule, run_scores};

use super::{Exhibit, Score, Table, cards::number};
use crate::{MetricValue, Metrics, folder::CaseCounts};

/// The scores that stand in a table of results, unless a run names its own: the first group that it has.
const HEADLINES: [&[&str]; 2] = [&["auroc", "accuracy"], &["dice_by_volume", "dice"]];

/// Between a score's name and the class it is of.
const OF_CLASS: &str = "_class_";

/// A score's name as people write it.
pub(crate) fn score_title(name: &str) -> String {
    let rule = RUN_SCORES.iter().find(|rule| rule.name == name);
    let of_masks = OF_MASKS.iter().find(|(of, _)| *of == name).map(|(_, title)| (*title).to_owned());
    rule.map(|rule| rule.title.to_owned()).or(of_masks).unwrap_or_else(|| name.replace('_', " "))
}

/// Scores of masks case by case, which have more names than those that all runs share.
const OF_MASKS: [(&str, &str); 6] = [
    ("case_dice", "Dice, mean over cases"),
    ("case_jaccard", "Jaccard, mean over cases"),
    ("hd95_mm", "HD95, mm"),
    ("nsd", "surface Dice (NSD)"),
    ("assd_mm", "ASSD, mm"),
    ("volume_error_ml", "volume error, ml"),
];

/// Where a score stands on a page: in the order of [`RUN_SCORES`]; others follow by the alphabet.
fn place(name: &str) -> usize {
    RUN_SCORES.iter().position(|rule| rule.name == name).unwrap_or(RUN_SCORES.len())
}

/// The kind of task whose scores a run has: two classes are a binary task.
fn scored_as(task: &Task) -> TaskKind {
    match task.kind {
        TaskKind::Multiclass if task.n_classes() == 2 => TaskKind::Binary,
        kind => kind,
    }
}

/// How an interval was found that is not one of the draws.
fn at_the_edge(value: &MetricValue) -> Option<&'static str> {
    match value.ci95.and(value.interval)? {
        IntervalMethod::Newcombe => Some("interval after Newcombe, as all draws are equal"),
        IntervalMethod::Wilson => Some("interval after Wilson, as all draws are equal"),
        _ => None,
    }
}

/// The scores of the test split, with what they were taken on.
pub(super) struct Tested<'a> {
    scores: &'a BTreeMap<String, MetricValue>,
    counts: Option<&'a CaseCounts>,
    task: Option<&'a Task>,
}

impl<'a> Tested<'a> {
    /// `None` for a run without scores on test.
    pub(super) fn of(metrics: &'a Metrics) -> Option<Self> {
        let scores = metrics.metrics.get("test")?;
        Some(Self { scores, counts: metrics.cases.get("test"), task: metrics.task.as_ref() })
    }

    /// How a score is meant; `None` where the task is not known, or has no such score.
    fn rule(&self, name: &str) -> Option<&'static ScoreRule> {
        run_scores(scored_as(self.task?)).find(|rule| rule.name == name)
    }

    /// What stands beside a score: how it is meant, and what it is to be held against.
    fn note(&self, name: &str, value: &MetricValue) -> String {
        let rule = self.rule(name);
        let commonest = rule
            .filter(|rule| rule.score == RunScore::Accuracy)
            .and_then(|_| self.counts?.majority_accuracy)
            .map(|v| format!("{} for the commonest answer", number(v)));
        let convention = rule.map(|rule| rule.convention.to_owned());
        let edge = at_the_edge(value).map(str::to_owned);
        convention.into_iter().chain(commonest).chain(edge).collect::<Vec<_>>().join("; ")
    }

    fn line(&self, name: &str) -> Option<Score> {
        let value = self.scores.get(name)?;
        let mut score = Score::new(score_title(name), value.mean.unwrap_or(f64::NAN));
        if let Some([low, high]) = value.ci95 {
            score = score.with_ci95(low, high);
        }
        if let Some(counts) = self.counts {
            score = score.with_n(counts.n);
        }
        let note = self.note(name, value);
        Some(if note.is_empty() { score } else { score.with_note(note) })
    }

    /// All of them, without those of single classes and of settings that were not chosen.
    pub(super) fn whole(&self, of_setting: &dyn Fn(&str) -> bool) -> Vec<Score> {
        let whole = |name: &&String| !name.contains(OF_CLASS) && !of_setting(name);
        let mut names: Vec<&String> = self.scores.keys().filter(whole).collect();
        names.sort_by_key(|name| (place(name), name.as_str()));
        names.into_iter().filter_map(|name| self.line(name)).collect()
    }

    /// Those for a table of results.
    pub(super) fn headlines(&self, wanted: &[String]) -> Vec<Score> {
        let usual = || HEADLINES.iter().find(|group| group.iter().any(|name| self.scores.contains_key(*name)));
        let names: Vec<&str> = match (wanted.is_empty(), usual()) {
            (false, _) => wanted.iter().map(String::as_str).collect(),
            (true, Some(usual)) => usual.to_vec(),
            (true, None) => self.scores.keys().take(1).map(String::as_str).collect(),
        };
        names.into_iter().filter_map(|name| self.line(name)).collect()
    }

    /// A row a class with every score that single classes have; `None` where they have none.
    pub(super) fn by_class(&self) -> Option<Exhibit> {
        let task = self.task?;
        let split = |name: &str| {
            let (score, class) = name.split_once(OF_CLASS)?;
            Some((class.parse::<usize>().ok()?, score.to_owned()))
        };
        let of: BTreeMap<(usize, String), &MetricValue> =
            self.scores.iter().filter_map(|(name, value)| Some((split(name)?, value))).collect();
        let mut columns: Vec<&String> = of.keys().map(|(_, score)| score).collect();
        columns.sort_by_key(|name| (place(name), *name));
        columns.dedup();
        let mut classes: Vec<usize> = of.keys().map(|(class, _)| *class).collect();
        classes.dedup();
        if classes.is_empty() {
            return None;
        }
        let title = |column: &&String| {
            let any = of.iter().any(|((_, score), value)| score == *column && value.ci95.is_some());
            if any { format!("{} (95 % CI)", score_title(column)) } else { score_title(column) }
        };
        // a last column says which intervals are not those of the draws, where any is not
        let edge = of.values().any(|value| at_the_edge(value).is_some());
        let notes = |class: usize| {
            let cells = columns.iter().filter_map(|column| Some((*column, of.get(&(class, (*column).clone()))?)));
            let notes = cells.filter_map(|(column, value)| Some((column, at_the_edge(value)?)));
            notes.map(|(column, note)| format!("{}: {note}", score_title(column))).collect::<Vec<_>>().join("; ")
        };
        let what = if task.kind == TaskKind::Multilabel { "finding" } else { "class" };
        let head = std::iter::once(what.to_owned()).chain(columns.iter().map(title));
        let head = head.chain(edge.then(String::new));
        let mut table = Table::new(format!("By {what}, test split"), head);
        for class in classes {
            let name = task.class_names.get(class).map_or_else(|| class.to_string(), String::clone);
            let cell = |column: &&String| of.get(&(class, (*column).clone())).map_or_else(String::new, |v| v.text());
            let row = std::iter::once(name).chain(columns.iter().map(cell));
            table = table.with_row(row.chain(edge.then(|| notes(class))));
        }
        Some(Exhibit::Table(table))
    }
}
