//! The page of one or many runs, from their folders alone.

use dinorad_core::{Target, TaskKind, in_full};

use super::{
    Confusion, EncoderCard, Exhibit, Figure, Report, Section, Table, Training, beside,
    cards::{count, number},
    clinic,
    labels::{encoder_name, method, title},
    scores::Tested,
    tables,
};
use crate::{
    Error, Failure, Made, Metrics, Result, RunFolder, Skipped,
    figures::{self, NamedPlot},
    folder::{Constant, PREDICTIONS},
};

/// Cases that are not judged, by id; more are counted.
const NOT_JUDGED: usize = 50;

/// A page over runs: everything in it comes from their folders. `skipped` are runs that could not be
/// read, listed at the end.
///
/// ```no_run
/// use dinorad_report::{pages, runs_below};
///
/// # fn main() -> Result<(), dinorad_report::Error> {
/// let walked = runs_below(&["runs"])?;
/// pages::report(&walked.runs, &walked.skipped)?.write("report.html".as_ref())?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::Parameter`] for no runs; [`Error::File`], [`Error::Damaged`], [`Error::Draw`] and
/// [`Error::Metrics`] for a run that cannot be drawn.
pub fn report(runs: &[RunFolder], skipped: &[Skipped]) -> Result<Report> {
    let Some(first) = runs.first() else {
        return Err(Error::Parameter { what: "runs of a page", expected: "at least one", got: "none".into() });
    };
    let made = runs.iter().map(RunFolder::made).collect::<Result<Vec<_>>>()?;
    let title = match runs {
        [one] => title(one),
        _ => format!("{} runs", runs.len()),
    };
    let mut report = Report::new(title, encoder(runs));
    for run in runs {
        if let Some(text) = clinic::finding(run)? {
            report = report.with_finding(text);
        }
    }
    for (name, value) in facts(first, runs, &made) {
        report = report.with_fact(name, value);
    }
    for section in beside::sections(runs, &made)? {
        report = report.with_section(section);
    }
    for (run, made) in runs.iter().zip(&made) {
        report = report.with_section(section(run, made)?);
    }
    if !skipped.is_empty() {
        let table = Table::new("Not shown", ["run", "why"]);
        let row = |table: Table, one: &Skipped| table.with_row([one.path.display().to_string(), in_full(&one.error)]);
        let table = skipped.iter().fold(table, row);
        report = report.with_section(Section::new("Runs without results").with(Exhibit::Table(table)));
    }
    Ok(report.with_failures(failures(runs)))
}

/// A page whose first section stands before those of the runs: what they say together.
///
/// # Errors
/// As [`report`].
pub fn report_after(first: Section, runs: &[RunFolder]) -> Result<Report> {
    Ok(report(runs, &[])?.with_first_section(first))
}

/// One card for the encoder, or for all of several.
fn encoder(runs: &[RunFolder]) -> EncoderCard {
    let mut cards: Vec<EncoderCard> = Vec::new();
    for run in runs {
        let unknown = || EncoderCard::new(encoder_name(run).unwrap_or_else(|| "unknown".into()), Training::Pretrained);
        let card = run.exhibits().encoder.clone().unwrap_or_else(unknown);
        if !cards.contains(&card) {
            cards.push(card);
        }
    }
    if cards.len() == 1 {
        return cards.remove(0);
    }
    let trained = cards.iter().any(|card| !card.untrained());
    let all = EncoderCard::new(
        format!("{} encoders", cards.len()),
        if trained { Training::Pretrained } else { Training::Untrained },
    );
    cards.iter().fold(all, |all, card| {
        let untrained = if card.untrained() { "untrained: random weights; " } else { "" };
        let facts: Vec<String> = card.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
        all.with_fact(card.name(), format!("{untrained}{}", facts.join(", ")))
    })
}

/// What stands at the top: what was asked, and how it was made.
fn facts(first: &RunFolder, runs: &[RunFolder], made: &[Made]) -> Vec<(&'static str, String)> {
    let one_of = |values: Vec<Option<String>>| -> Option<String> {
        let mut known: Vec<String> = values.into_iter().flatten().collect();
        known.sort();
        known.dedup();
        (!known.is_empty()).then(|| known.join(", "))
    };
    let version = |m: &Made| {
        let version = m.version.as_ref()?;
        Some(m.commit.as_ref().map_or_else(|| version.clone(), |commit| format!("{version} ({commit})")))
    };
    let dates = {
        let mut dates: Vec<&str> = made.iter().filter_map(|m| m.date.as_deref()).collect();
        dates.sort_unstable();
        match (dates.first(), dates.last()) {
            (Some(first), Some(last)) if first != last => Some(format!("{first} to {last}")),
            (Some(only), _) => Some((*only).to_owned()),
            _ => None,
        }
    };
    let threads = |m: &Made| Some(m.threads?.to_string());
    let (image, memory): (usize, f64) =
        (made.iter().filter_map(|m| m.images).sum(), made.iter().filter_map(|m| m.peak_memory_mb).fold(0.0, f64::max));
    let seconds: f64 = made.iter().filter_map(|m| m.seconds).sum();
    let facts = [
        ("runs", (runs.len() > 1).then(|| count(runs.len()))),
        ("protocol", one_of(runs.iter().map(|r| r.description().protocol().map(str::to_owned)).collect())),
        ("seed", (runs.len() == 1).then(|| first.description().value("seed").map(ToString::to_string)).flatten()),
        ("made", dates),
        ("dinorad", one_of(made.iter().map(version).collect())),
        ("machine", one_of(made.iter().map(|m| m.machine.clone()).collect())),
        ("threads", one_of(made.iter().map(threads).collect())),
        ("images encoded", made.iter().any(|m| m.images.is_some()).then(|| count(image))),
        ("time", (seconds > 0.0).then(|| super::exhibit::duration(seconds))),
        ("peak memory", (memory > 0.0).then(|| format!("{} MB", count(memory.round() as usize)))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Files that could not be used, each once.
fn failures(runs: &[RunFolder]) -> Vec<Failure> {
    let mut out: Vec<Failure> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for failure in runs.iter().flat_map(|run| &run.exhibits().failures) {
        if seen.insert((&failure.id, &failure.reason)) {
            out.push(failure.clone());
        }
    }
    out
}

/// The section about one run.
fn section(run: &RunFolder, made: &Made) -> Result<Section> {
    let exhibits = run.exhibits();
    let mut section = Section::new(title(run)).with_method(method(run));
    let convention = run.metrics().map(|m| m.convention.as_str()).filter(|text| !text.is_empty());
    let intro = exhibits.intro.as_deref().or_else(|| run.description().intro());
    if let Some(text) = intro.or(convention) {
        section = section.with_intro(text);
    }
    if let Some(card) = &exhibits.dataset {
        section = section.with_dataset(card.clone());
    }
    if let Some(block) = clinic::flow(run) {
        section = section.with(block);
    }
    let plots = figures::of_run(run)?;
    if let Some(metrics) = run.metrics() {
        for score in Tested::of(metrics).iter().flat_map(|tested| tested.headlines(&exhibits.headlines)) {
            section = section.with_headline(score);
        }
        for block in judged(run, metrics, &plots)? {
            section = section.with(block);
        }
        if let (Some(convention), true) = (convention, intro.is_some()) {
            section = section.with(Exhibit::Note(convention.to_owned()));
        }
    }
    for block in &exhibits.shown {
        section = section.with(block.clone());
    }
    if let Some(metrics) = run.metrics() {
        for block in varied(metrics, &plots) {
            section = section.with(block);
        }
    }
    if let Some(text) = clinic::methods(run, made) {
        section = section.with(Exhibit::Quote { heading: "Methods, to copy".into(), text });
    }
    if let Some(command) = &made.command {
        section = section.with(Exhibit::Quote { heading: "The command".into(), text: command.clone() });
    }
    if !made.steps.is_empty() {
        section = section.with(Exhibit::Timings(made.steps.clone()));
    }
    Ok(section)
}

fn drawn(plots: &[NamedPlot], varied: bool) -> Vec<Figure> {
    let of = plots.iter().filter(|p| p.varied == varied);
    of.map(|p| Figure::drawn(p.plot.clone(), p.caption.clone())).collect()
}

/// Scores, what they were taken on, curves, the confusion matrix.
fn judged(run: &RunFolder, metrics: &Metrics, plots: &[NamedPlot]) -> Result<Vec<Exhibit>> {
    let mut blocks = Vec::new();
    if let Some(tested) = Tested::of(metrics) {
        // `auroc_k5` is told by the table of settings
        let of_setting = |name: &str| {
            let known = ["auroc_", "accuracy_", "dice_"].iter().find_map(|base| name.strip_prefix(base));
            known.is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.contains(|c: char| c.is_ascii_digit())
            })
        };
        blocks.push(Exhibit::Scores(tested.whole(&of_setting)));
        blocks.extend(tested.by_class());
    }
    blocks.extend(clinic::operating(run)?);
    blocks.extend(cases(metrics));
    let figures = drawn(plots, false);
    if !figures.is_empty() {
        blocks.push(Exhibit::Figures { heading: "Curves".into(), figures });
    }
    if let (Some(predictions), Some(task)) = (run.predictions(PREDICTIONS)?, &metrics.task)
        && matches!(task.kind, TaskKind::Binary | TaskKind::Multiclass)
    {
        let class = |t: &Target| if let Target::Class(c) = t { Some(*c) } else { None };
        let all = predictions.classes();
        let known = predictions.targets.iter().zip(all).filter_map(|(t, p)| Some((class(t)?, p)));
        let (truth, predicted): (Vec<usize>, Vec<usize>) = known.unzip();
        blocks.push(Exhibit::Confusion(Confusion::from_classes(task.class_names.clone(), &truth, &predicted)?));
    }
    blocks.extend(metrics.notices.iter().map(|notice| Exhibit::Note(notice.clone())));
    blocks.extend(not_judged(metrics));
    Ok(blocks)
}

/// What the scores were taken on: cases by class, and what the commonest answer would score.
fn cases(metrics: &Metrics) -> Option<Exhibit> {
    if metrics.cases.is_empty() {
        return None;
    }
    let names: &[String] = metrics.task.as_ref().map_or(&[], |task| &task.class_names);
    let head = ["split".to_owned(), "cases judged".to_owned()].into_iter();
    let head = head.chain(names.iter().cloned()).chain([
        "accuracy of the commonest answer".to_owned(),
        "accuracy of this run".to_owned(),
        String::new(),
    ]);
    let mut table = Table::new("What the scores were taken on", head);
    for (split, counts) in &metrics.cases {
        let positives = (0..names.len()).map(|c| counts.positives.get(c).map_or_else(String::new, |n| count(*n)));
        let accuracy = metrics.get(split, "accuracy").and_then(|v| v.mean);
        let text = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), number);
        let constant = match counts.constant {
            Some(Constant::Probabilities) => "constant: the same probabilities for every case",
            Some(Constant::Answer) => "the same answer for every case",
            None => "",
        };
        let row = [split.clone(), count(counts.n)].into_iter().chain(positives);
        table = table.with_row(row.chain([text(counts.majority_accuracy), text(accuracy), constant.to_owned()]));
    }
    Some(Exhibit::Table(table))
}

/// Cases that are in no score.
fn not_judged(metrics: &Metrics) -> Option<Exhibit> {
    let all = &metrics.not_judged;
    if all.is_empty() {
        return None;
    }
    let heading = format!("Cases that are not judged: {}", count(all.len()));
    let mut table = Table::new(heading, ["split", "case", "why"]);
    for one in all.iter().take(NOT_JUDGED) {
        table = table.with_row([one.split.clone(), one.id.clone(), one.reason.clone()]);
    }
    if all.len() > NOT_JUDGED {
        let more = format!("… {} more in metrics.json", count(all.len() - NOT_JUDGED));
        table = table.with_row([String::new(), more, String::new()]);
    }
    Some(Exhibit::Table(table))
}

/// The search, controls, smaller training sets and shifts.
fn varied(metrics: &Metrics, plots: &[NamedPlot]) -> Vec<Exhibit> {
    let mut blocks = Vec::new();
    // one setting alone is no search
    let searched = metrics.search.as_ref().is_some_and(|search| search.settings.len() > 1);
    blocks.extend(tables::settings(metrics).filter(|_| searched).map(Exhibit::Table));
    blocks.extend(tables::controls(metrics).map(Exhibit::Table));
    let figures = drawn(plots, true);
    if !figures.is_empty() {
        blocks.push(Exhibit::Figures { heading: "Fewer cases, worse images".into(), figures });
    }
    for (name, x) in [("shots", "shots"), ("fraction", "fraction"), ("volumes", "volumes"), ("patches", "patches")] {
        blocks.extend(metrics.curves.get(name).map(|points| Exhibit::Table(tables::small_sets(points, x))));
    }
    blocks.extend(tables::shifts(metrics).map(Exhibit::Table));
    blocks
}
