//! The page about experiments that have just run.

use super::{Judgements, Outcome, tables};
use crate::{
    Result,
    assembly::Aggregation,
    probe::{Comparison, compare},
    report::{Block, EncoderCard, Report, Section, Training},
};

/// How every outcome's AUROC differs from the first's on the same cases; `None` for the first, and
/// where there is nothing to compare.
///
/// # Errors
/// [`Error::Metrics`](crate::Error::Metrics).
pub fn comparisons(done: &[Outcome]) -> Result<Vec<Option<Comparison>>> {
    let first = done.first().and_then(Outcome::probe);
    done.iter()
        .enumerate()
        .map(|(i, other)| match (i, first, other.probe()) {
            (1.., Some(first), Some(run)) => compare(run.test(), first.test(), run.task(), &run.options().bootstrap),
            _ => Ok(None),
        })
        .collect()
}

/// A page about one outcome or several.
///
/// # Errors
/// [`Error::Draw`](crate::Error::Draw).
pub fn report(title: &str, command: &str, done: &[Outcome], compared: &[Option<Comparison>]) -> Result<Report> {
    let card = match done {
        [one] => one.encoder_card.clone(),
        _ => several(done),
    };
    let mut report = Report::new(title, card).with_fact("command", command);
    if let [first, ..] = done {
        report = report.with_fact("protocol", first.experiment.protocol.to_string());
    }
    if compared.iter().any(Option::is_some) {
        let method = done.first().and_then(Outcome::probe).map_or("", |run| run.method().title());
        let table = tables::encoders(done, compared).block();
        report = report.with_section(Section::new("All encoders").with_method(method).with(table));
    }
    for one in done {
        report = report.with_section(one.section()?).with_failures(one.made.failures.clone());
    }
    Ok(report)
}

/// The card of several encoders, or of one that served several experiments.
fn several(done: &[Outcome]) -> EncoderCard {
    let mut specs: Vec<_> = done.iter().map(|d| (&d.spec, &d.encoder_card)).collect();
    specs.dedup_by(|a, b| a.0.digest == b.0.digest);
    if let [(_, card)] = specs.as_slice() {
        return (*card).clone();
    }
    let trained = specs.iter().any(|(spec, _)| !spec.is_untrained());
    let training = if trained { Training::Pretrained } else { Training::Untrained };
    let card = EncoderCard::new(format!("{} encoders", specs.len()), training);
    specs.into_iter().fold(card, |card, (s, _)| {
        let blocks = if s.depth == 1 { "block" } else { "blocks" };
        let untrained = if s.is_untrained() { ", untrained: random weights" } else { "" };
        let shape = format!("patch {}, width {}, {} {blocks}{untrained}", s.patch, s.embed_dim, s.depth);
        card.with_fact(s.id.clone(), shape)
    })
}

impl Outcome {
    /// How it was judged, in few words.
    pub fn method(&self) -> String {
        match &self.judgements {
            Judgements::Classes { run, .. } => {
                let aggregation = match (run.task().is_3d, self.experiment.aggregate) {
                    (false, _) => String::new(),
                    (true, Aggregation::Mean) => " on the mean of slices".into(),
                    (true, other) => format!(" on slices pooled by {other}"),
                };
                format!("{}{aggregation}, {}", run.method().title(), run.best().label)
            }
            Judgements::Masks { run } => format!("{}, {}", run.method().title(), run.best().label),
            Judgements::Shown { .. } => "mean class token of all slices".into(),
        }
    }

    /// The section of a report about it.
    ///
    /// # Errors
    /// [`Error::Draw`](crate::Error::Draw).
    pub fn section(&self) -> Result<Section> {
        let about = &self.experiment.about;
        let mut section = Section::new(self.heading()).with_method(self.method());
        let intro = match &self.judgements {
            _ if about.intro.is_some() => about.intro.clone(),
            Judgements::Classes { run, .. } => Some(run.convention()),
            Judgements::Masks { run } => Some(run.convention()),
            Judgements::Shown { .. } => None,
        };
        section = intro.into_iter().fold(section, Section::with_intro);
        if let Some(card) = &self.dataset_card {
            let card =
                about.facts.iter().fold(card.clone(), |card, (name, value)| card.with_fact(name.as_str(), value));
            section = section.with_dataset(card);
        }
        let blocks = match &self.judgements {
            Judgements::Classes { run, .. } => {
                section = run.scores().into_iter().fold(section, Section::with_headline);
                let mut blocks = run.blocks()?;
                blocks.extend(self.shown.iter().cloned());
                blocks.extend(tables::blocks(self)?);
                blocks
            }
            Judgements::Masks { run } => {
                // The mean over volumes: it has an interval.
                section = run.scores().pop().into_iter().fold(section, Section::with_headline);
                let mut blocks = self.shown.clone();
                blocks.extend(run.blocks()?);
                blocks.push(Block::Timings(self.timings.clone()));
                blocks
            }
            Judgements::Shown { .. } => {
                let mut blocks = self.shown.clone();
                blocks.push(Block::Timings(self.timings.clone()));
                blocks
            }
        };
        Ok(blocks.into_iter().fold(section, Section::with))
    }
}
