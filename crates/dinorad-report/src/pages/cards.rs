//! What was used: the encoder, the data, and the numbers that came out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::renaming::Told;

/// Whether the encoder has learned anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Training {
    /// Weights from training.
    Pretrained,
    /// Random weights: the page opens with a warning.
    Untrained,
}

/// The encoder behind every number of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderCard {
    pub(super) name: String,
    pub(super) training: Training,
    #[serde(default)]
    pub(super) facts: Vec<(String, String)>,
}

impl EncoderCard {
    /// An encoder's name, such as `facebook/dinov2-small`.
    pub fn new(name: impl Into<String>, training: Training) -> Self {
        Self { name: name.into(), training, facts: Vec::new() }
    }

    /// A fact, such as `width` and `384`, or `weights` and the digest of their bytes.
    pub fn with_fact(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.facts.push((name.into(), value.to_string()));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn rename(&mut self, told: &Told<'_>) {
        self.name = told.text(&self.name);
        self.facts.iter_mut().for_each(|(_, value)| *value = told.text(value));
    }

    pub(super) fn untrained(&self) -> bool {
        self.training == Training::Untrained
    }
}

/// A number with its interval and what it was taken on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ci95: Option<(f64, f64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Score {
    /// A named value; NaN is shown as undefined.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value: value.is_finite().then_some(value), ci95: None, n: None, note: None }
    }

    /// Its 95 % confidence interval.
    pub fn with_ci95(mut self, low: f64, high: f64) -> Self {
        self.ci95 = (low.is_finite() && high.is_finite()).then_some((low, high));
        self
    }

    /// The number of cases it was taken on.
    pub fn with_n(mut self, cases: usize) -> Self {
        self.n = Some(cases);
        self
    }

    /// Its convention, such as `macro mean over classes`.
    pub fn with_note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn value_text(&self) -> String {
        self.value.map_or_else(|| "undefined".into(), number)
    }

    pub(super) fn ci_text(&self) -> String {
        self.ci95.map_or_else(String::new, |(l, h)| format!("{} – {}", number(l), number(h)))
    }

    pub(super) fn n_text(&self) -> String {
        self.n.map_or_else(String::new, count)
    }

    pub(super) fn note(&self) -> &str {
        self.note.as_deref().unwrap_or_default()
    }
}

/// How a note ends that stands for remarks.
const REMARKS: &str = "not told under pseudonyms";

/// What a data set is, how it is split and how its classes are balanced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetCard {
    pub(super) name: String,
    #[serde(default)]
    pub(super) facts: Vec<(String, String)>,
    #[serde(default)]
    pub(super) splits: Vec<String>,
    #[serde(default)]
    pub(super) classes: Vec<ClassCount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cases: Option<Vec<usize>>,
    /// Who the cases are of, by split: patients, age, sex, scanner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rows: Vec<(String, Vec<String>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// The cases of one class in every split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    pub(super) name: String,
    pub(super) counts: Vec<usize>,
}

impl DatasetCard {
    /// A data set's name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A fact, such as `modality`, `task`, `licence` or `source`.
    pub fn with_fact(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.facts.push((name.into(), value.to_string()));
        self
    }

    /// The splits in the order of [`with_class`](Self::with_class)'s counts.
    pub fn with_splits<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.splits = names.into_iter().map(Into::into).collect();
        self
    }

    /// A class and its cases by split.
    pub fn with_class(mut self, name: impl Into<String>, counts: impl Into<Vec<usize>>) -> Self {
        self.classes.push(ClassCount { name: name.into(), counts: counts.into() });
        self
    }

    /// The cases by split, where they are not the sum of the classes: a case may have several
    /// findings, or none.
    pub fn with_cases(mut self, counts: impl Into<Vec<usize>>) -> Self {
        self.cases = Some(counts.into());
        self
    }

    /// A row of what is known of the cases by split, such as patients, age or sex.
    pub fn with_row<S: Into<String>>(mut self, name: impl Into<String>, cells: impl IntoIterator<Item = S>) -> Self {
        self.rows.push((name.into(), cells.into_iter().map(Into::into).collect()));
        self
    }

    /// Every split with its cases.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.splits.iter().enumerate().map(|(at, split)| (split.as_str(), self.total(at)))
    }

    /// What a reader should know, such as that the voxels are shape masks.
    pub fn with_note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }

    /// Other names in facts; a remark may hold any name in words of its own and is not told.
    pub(crate) fn rename(&mut self, told: &Told<'_>) {
        self.name = told.text(&self.name);
        self.facts.iter_mut().for_each(|(_, value)| *value = told.text(value));
        self.note.iter_mut().filter(|note| !note.ends_with(REMARKS)).for_each(|note| {
            *note = format!("remarks on the data set are {REMARKS}");
        });
    }

    /// The class's count in a split with its share of the split, 0–100.
    pub(super) fn cells(&self, class: &ClassCount) -> Vec<(String, u32)> {
        (0..self.splits.len())
            .map(|s| {
                let n = class.counts.get(s).copied().unwrap_or(0);
                (count(n), (n as f64 * 100.0 / self.total(s).max(1) as f64).round() as u32)
            })
            .collect()
    }

    pub(super) fn totals(&self) -> Vec<String> {
        (0..self.splits.len()).map(|s| count(self.total(s))).collect()
    }

    /// Cases of a split.
    fn total(&self, split: usize) -> usize {
        let sum = || self.classes.iter().map(|c| c.counts.get(split).copied().unwrap_or(0)).sum();
        self.cases.as_ref().and_then(|cases| cases.get(split).copied()).unwrap_or_else(sum)
    }
}

/// Three decimals; what rounds to nothing has no sign.
pub(crate) fn number(v: f64) -> String {
    dinorad_metrics::value_text(v)
}

/// A count with thin spaces between thousands.
pub(super) fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(d);
    }
    out
}
