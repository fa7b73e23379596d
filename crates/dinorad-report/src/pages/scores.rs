//! Scores by their names in `metrics.json`, as people read them.

use std::collections::BTreeMap;

use dinorad_core::{Task, TaskKind};

use super::{Block, Score, Table};
use crate::MetricValue;

/// Names in the order of a page; others follow by the alphabet.
const ORDER: [&str; 13] = [
    "auroc",
    "accuracy",
    "average_precision",
    "sensitivity",
    "specificity",
    "f1",
    "kappa",
    "brier",
    "balanced_accuracy",
    "ece",
    "dice",
    "jaccard",
    "dice_by_volume",
];

/// The scores that stand in a table of results, unless a run names its own: the first group that it has.
const HEADLINES: [&[&str]; 2] = [&["auroc", "accuracy"], &["dice_by_volume", "dice"]];

/// Between a score's name and the class it is of.
const OF_CLASS: &str = "_class_";

/// A score's name as people write it.
pub(crate) fn score_title(name: &str) -> String {
    match name {
        "auroc" => "AUROC".into(),
        "f1" => "F1".into(),
        "kappa" => "Cohen's kappa".into(),
        "brier" => "Brier score".into(),
        "ece" => "calibration error (ECE)".into(),
        "dice" => "Dice".into(),
        "jaccard" => "Jaccard".into(),
        "dice_by_volume" => "Dice by volume".into(),
        other => other.replace('_', " "),
    }
}

/// How a score is meant.
fn note(name: &str, kind: Option<TaskKind>) -> Option<&'static str> {
    Some(match (name, kind?) {
        ("auroc", TaskKind::Binary) => "class 1 against 0; ties count one half",
        ("auroc", TaskKind::Multilabel) => "mean over findings that occur",
        ("auroc", _) => "each class against the rest, mean over classes that occur",
        ("accuracy", TaskKind::Multilabel) => "findings right at 0.5",
        ("accuracy", _) => "most probable class",
        ("dice", _) => "mean over foreground classes, all pixels pooled",
        ("jaccard", _) => "as Dice",
        ("dice_by_volume", _) => "mean over volumes",
        _ => return None,
    })
}

fn of(name: &str, value: &MetricValue, n: Option<usize>, kind: Option<TaskKind>) -> Score {
    let mut score = Score::new(score_title(name), value.mean.unwrap_or(f64::NAN));
    if let Some([low, high]) = value.ci95 {
        score = score.with_ci95(low, high);
    }
    if let Some(n) = n {
        score = score.with_n(n);
    }
    match note(name, kind) {
        Some(note) => score.with_note(note),
        None => score,
    }
}

/// The scores of a split, without those of single classes and of settings that were not chosen.
pub(super) fn whole(
    scores: &BTreeMap<String, MetricValue>,
    n: Option<usize>,
    kind: Option<TaskKind>,
    slugs: &dyn Fn(&str) -> bool,
) -> Vec<Score> {
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    let mut names: Vec<&String> = scores.keys().filter(|name| !name.contains(OF_CLASS) && !slugs(name)).collect();
    names.sort_by_key(|name| (place(name), name.as_str()));
    names.into_iter().filter_map(|name| Some(of(name, scores.get(name)?, n, kind))).collect()
}

/// The scores of a run for a table of results.
pub(super) fn headlines(
    scores: &BTreeMap<String, MetricValue>,
    wanted: &[String],
    n: Option<usize>,
    kind: Option<TaskKind>,
) -> Vec<Score> {
    let usual = || HEADLINES.iter().find(|group| group.iter().any(|name| scores.contains_key(*name)));
    let names: Vec<&str> = match (wanted.is_empty(), usual()) {
        (false, _) => wanted.iter().map(String::as_str).collect(),
        (true, Some(usual)) => usual.to_vec(),
        (true, None) => scores.keys().take(1).map(String::as_str).collect(),
    };
    names.into_iter().filter_map(|name| Some(of(name, scores.get(name)?, n, kind))).collect()
}

/// A row a class with every score that single classes have; `None` where they have none.
pub(super) fn by_class(scores: &BTreeMap<String, MetricValue>, task: &Task) -> Option<Block> {
    let split = |name: &str| {
        let (score, class) = name.split_once(OF_CLASS)?;
        Some((score.to_owned(), class.parse::<usize>().ok()?))
    };
    let of: BTreeMap<(usize, String), &MetricValue> =
        scores.iter().filter_map(|(name, value)| split(name).map(|(score, class)| ((class, score), value))).collect();
    let mut columns: Vec<&String> = of.keys().map(|(_, score)| score).collect();
    columns.sort_by_key(|name| (ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()), *name));
    columns.dedup();
    let mut classes: Vec<usize> = of.keys().map(|(class, _)| *class).collect();
    classes.dedup();
    if classes.is_empty() {
        return None;
    }
    let interval = |column: &String| {
        let any = of.iter().any(|((_, score), value)| score == column && value.ci95.is_some());
        if any { format!("{} (95 % CI)", score_title(column)) } else { score_title(column) }
    };
    let what = if task.kind == TaskKind::Multilabel { "finding" } else { "class" };
    let head = std::iter::once(what.to_owned()).chain(columns.iter().map(|c| interval(c)));
    let mut table = Table::new(format!("By {what}, test split"), head);
    for class in classes {
        let name = task.class_names.get(class).map_or_else(|| class.to_string(), String::clone);
        let cell = |column: &&String| of.get(&(class, (*column).clone())).map_or_else(String::new, |v| v.text());
        table = table.with_row(std::iter::once(name).chain(columns.iter().map(cell)));
    }
    Some(Block::Table(table))
}
