//! What a reader in a clinic asks first: what was found and on whom, which cases are in it, what a threshold
//! does, and how it was done, in words to copy.

use std::collections::{BTreeMap, BTreeSet};

use dinorad_core::TaskKind;
use dinorad_metrics::{BootstrapOptions, wilson_interval};

use super::{
    Exhibit, Table,
    cards::{count, number},
    labels::{data_name, encoder_name},
    score_title,
};
use crate::{
    Made, MetricValue, Result, RunFolder,
    figures::{Operating, draws_of, groups},
    folder::PREDICTIONS,
};

/// The scores that a finding is told by, the first that a run has.
const MAIN: [&str; 4] = ["auroc", "dice_by_volume", "dice", "accuracy"];

/// One sentence: what, on how many patients, with what interval, against which control.
pub(super) fn finding(run: &RunFolder) -> Result<Option<String>> {
    let Some(metrics) = run.metrics() else { return Ok(None) };
    let scores = metrics.metrics.get("test");
    let Some((name, value)) = MAIN.iter().find_map(|name| Some((*name, scores?.get(*name)?))) else {
        return Ok(None);
    };
    let Some(mean) = value.mean else { return Ok(None) };
    let classes: &[String] = metrics.task.as_ref().map_or(&[], |task| &task.class_names);
    let kind = metrics.task.as_ref().map(|task| task.kind);
    let did = match (kind, classes) {
        (Some(TaskKind::Multilabel), _) => format!("recognised {} findings", classes.len()),
        (Some(TaskKind::Segmentation), [_, names @ ..]) => format!("outlined {}", names.join(", ")),
        (_, [no, yes]) => format!("told {yes} from {no}"),
        _ => format!("told {} classes apart", classes.len()),
    };
    let n = metrics.cases.get("test").map(|counts| counts.n);
    let cases = n.map_or_else(|| "the test cases".to_owned(), |n| format!("{} test cases", count(n)));
    let patients = match patients(run)? {
        Some(patients) => format!("{cases} of {} patients", count(patients)),
        None => cases,
    };
    let title = score_title(name);
    let mean_of = if classes.len() > 2 && name == "auroc" { "a mean" } else { an(&title) };
    let interval = match value.ci95 {
        Some([low, high]) => format!(" (95 % interval {} to {})", number(low), number(high)),
        None => String::new(),
    };
    let method = run.exhibits().method.as_deref().or_else(|| run.description().method()).unwrap_or("the method");
    let encoder = encoder_name(run).unwrap_or_else(|| "the encoder".to_owned());
    let data = data_name(run).map_or_else(String::new, |data| format!(" of {data}"));
    let by = match run.description().encoder() {
        // a network from scratch stands on nothing
        Some("none") => method.to_owned(),
        _ => format!("{method} on {encoder}"),
    };
    let mut text = format!("On {patients}{data}, {by} {did} with {mean_of} {title} of {}{interval}", number(mean));
    let control = |split: &str| metrics.get(split, name).and_then(|v: &MetricValue| v.mean).map(number);
    let against: Vec<String> =
        [("test_shuffled_labels", "on shuffled labels"), ("test_untrained_encoder", "on an untrained encoder")]
            .into_iter()
            .filter_map(|(split, what)| Some(format!("{} {what}", control(split)?)))
            .collect();
    text += &match against.is_empty() {
        true => "; no control was run.".to_owned(),
        false => format!("; the same method reached {}.", against.join(" and ")),
    };
    let untrained = run.exhibits().encoder.as_ref().is_some_and(|card| card.untrained());
    if untrained {
        text += " The encoder is untrained: this shows that everything works, and no more.";
    }
    Ok(Some(text))
}

fn an(word: &str) -> &'static str {
    if word.starts_with(|c: char| "AEIOaeio".contains(c)) { "an" } else { "a" }
}

/// Patients of the test part, where they are told apart.
fn patients(run: &RunFolder) -> Result<Option<usize>> {
    let cases = run.cases()?;
    let of = cases.as_ref().and_then(|cases| cases.patients("test"));
    Ok(of.map(|of| of.into_values().collect::<BTreeSet<_>>().len()))
}

/// Cases found, left out and used, part by part.
pub(super) fn flow(run: &RunFolder) -> Option<Exhibit> {
    let metrics = run.metrics()?;
    let card = run.exhibits().dataset.as_ref()?;
    let layout = run.description().text("data.name").unwrap_or_default();
    let mut table = Table::new("Case flow", ["part", "cases found", "could not be used", "in the numbers"]);
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (split, total) in card.parts() {
        let part = split.rsplit(' ').next().unwrap_or(split);
        let (mut listed, mut inside) = (0, 0);
        for one in metrics.not_judged.iter().filter(|one| one.split == part) {
            // what could not even be listed goes by the name of the data set
            if one.id == layout {
                listed += 1
            } else {
                inside += 1
            }
            *reasons.entry(one.reason.as_str()).or_default() += 1;
        }
        let used = match metrics.cases.get(part) {
            Some(counts) => counts.n,
            None => total.saturating_sub(inside),
        };
        table = table.with_row([split.to_owned(), count(total + listed), count(listed + inside), count(used)]);
    }
    (!table.rows().is_empty()).then_some(Exhibit::Table(table))
}

/// What the threshold that validation chose does on test.
pub(super) fn operating(run: &RunFolder) -> Result<Option<Exhibit>> {
    let (Some(metrics), Some(predictions)) = (run.metrics(), run.predictions(PREDICTIONS)?) else { return Ok(None) };
    let Some(task) = &metrics.task else { return Ok(None) };
    let Some(at) = Operating::of(run, &predictions, task)? else { return Ok(None) };
    let rows: Vec<usize> = at.called.iter().map(|(row, ..)| *row).collect();
    let of = groups(run, &predictions)?;
    let resampling = of.resampling(&rows)?;
    let draws = metrics.metrics.get("test").map_or(BootstrapOptions::default().draws, draws_of);
    let options = BootstrapOptions { draws, ..BootstrapOptions::default() };
    let shares = |weights: &[u32]| -> Vec<Option<f64>> {
        let sum = |keep: &dyn Fn(bool, bool) -> bool| -> f64 {
            let kept = at.called.iter().zip(weights).filter(|((_, truth, said), _)| keep(*truth, *said));
            kept.map(|(_, weight)| f64::from(*weight)).sum()
        };
        let share = |some: f64, all: f64| (all > 0.0).then(|| some / all);
        let right = |of: bool| sum(&|truth, said| truth == of && said == of);
        vec![
            share(right(true), sum(&|truth, _| truth)),
            share(right(false), sum(&|truth, _| !truth)),
            share(right(true), sum(&|_, said| said)),
            share(right(false), sum(&|_, said| !said)),
        ]
    };
    let found = resampling.bootstrap_many(&options, shares)?;
    let whole = shares(&vec![1; rows.len()]);
    let positive = task.class_names.get(1).cloned().unwrap_or_else(|| "class 1".to_owned());
    let heading = format!(
        "Operating point: {positive} where its probability is above {:.3}, chosen on validation by Youden's index",
        at.threshold
    );
    let mut table = Table::new(heading, ["on the test part", "value", "95 % interval"]);
    let names = ["sensitivity", "specificity", "positive predictive value", "negative predictive value"];
    let asked: [&dyn Fn(bool, bool) -> bool; 4] =
        [&|truth, _| truth, &|truth, _| !truth, &|_, said| said, &|_, said| !said];
    for (((name, value), interval), asked) in names.into_iter().zip(whole).zip(found).zip(asked) {
        let ends = match (value, interval) {
            // where all draws are equal they say nothing of how sure it is
            (Some(share), Some(i)) if i.low == i.high => {
                let rows = at.called.iter().filter(|(_, truth, said)| asked(*truth, *said)).map(|(row, ..)| *row);
                Some(wilson_interval(share, of.count(rows), options.level)?)
            }
            (_, interval) => interval.map(|i| (i.low, i.high)),
        };
        let value = value.map_or_else(|| "undefined".to_owned(), number);
        let interval = ends.map_or_else(String::new, |(low, high)| format!("{}–{}", number(low), number(high)));
        table = table.with_row([name.to_owned(), value, interval]);
    }
    Ok(Some(Exhibit::Table(table)))
}

/// How it was done, as a paragraph to copy.
pub(super) fn methods(run: &RunFolder, made: &Made) -> Option<String> {
    let metrics = run.metrics()?;
    let said = run.description();
    let data = data_name(run).unwrap_or_else(|| "the data set".to_owned());
    let mut parts = Vec::new();
    if let Some(card) = &run.exhibits().dataset {
        let words: Vec<String> = card.parts().map(|(split, n)| format!("{} {split}", count(n))).collect();
        if !words.is_empty() {
            parts.push(format!("The cases were those of {data} ({}).", words.join(", ")));
        }
    }
    let encoder = encoder_name(run).unwrap_or_else(|| "the encoder".to_owned());
    let size = said.value("preprocessing.image_size").and_then(toml::Value::as_integer);
    let size = size.map_or_else(String::new, |side| format!(" were resized to {side} x {side} pixels and"));
    let digest = said.encoder_digest().map_or_else(String::new, |d| format!(", BLAKE3 {}", d.get(..16).unwrap_or(d)));
    let given = said.encoder().is_some_and(|source| source.starts_with("embeddings:"));
    parts.push(match given {
        true => format!("Features were given ({encoder}{digest})."),
        false => format!(
            "Images{size} were encoded by {encoder} ({}{digest}; intensity {}).",
            if said.text("method.name") == Some("finetune") { "trained further" } else { "frozen" },
            said.text("preprocessing.intensity").unwrap_or("as stored")
        ),
    });
    if metrics.task.as_ref().is_some_and(|task| task.is_3d) {
        parts.push(format!("The slices of a scan were pooled by {}.", said.text("aggregate").unwrap_or("mean")));
    }
    let method = run.exhibits().method.as_deref().or_else(|| said.method()).unwrap_or("The method");
    let tried = metrics.search.as_ref().map_or(1, |search| search.settings.len());
    let setting = metrics.setting_label.as_deref().map_or_else(String::new, |label| match tried {
        1 => format!(" with {label}"),
        n => format!("; of {n} settings {label} was chosen on validation"),
    });
    parts.push(format!("{}{setting}. The test part was looked at once.", capital(method)));
    if !metrics.convention.is_empty() {
        parts.push(format!("Conventions: {}.", metrics.convention));
    }
    let controls = [
        ("test_shuffled_labels", "shuffled labels"),
        ("test_untrained_encoder", "an untrained encoder of the same shape"),
    ];
    let controls: Vec<&str> =
        controls.iter().filter(|(split, _)| metrics.metrics.contains_key(*split)).map(|(_, what)| *what).collect();
    if !controls.is_empty() {
        parts.push(format!("Controls: the same method on {}.", controls.join(" and on ")));
    }
    let version = made.version.as_deref().map_or_else(String::new, |v| format!(" {v}"));
    let commit = made.commit.as_deref().map_or_else(String::new, |c| format!(" (commit {c})"));
    let seed = said.value("seed").map_or_else(String::new, |seed| format!(", seed {seed}"));
    let protocol = said.protocol().map_or_else(String::new, |p| format!(", protocol {p}"));
    parts.push(format!("Computed with dinorad{version}{commit}{protocol}{seed}."));
    Some(parts.join(" "))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
