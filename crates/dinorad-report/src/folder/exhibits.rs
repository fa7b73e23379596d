//! `exhibits.json`: what a page of the run shows beside its numbers.

use serde::{Deserialize, Serialize};

use super::{PICTURES, SCHEMA};
use crate::{
    Failure,
    failure::rename_failed,
    pages::{Case, DatasetCard, EncoderCard, Exhibit, Shown},
    renaming::Told,
};

/// Cards, pictures of cases, tables: everything of a page that does not follow from the numbers.
///
/// Scores, curves, the confusion matrix, controls and the search follow from `metrics.json` and the
/// predictions and are not kept twice; how long the steps took stands in [`Made`](super::Made).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exhibits {
    /// Version of the run's folder, [`SCHEMA`].
    pub schema: u32,
    /// The heading of the run's section; by default what the description says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A sentence or two below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intro: Option<String>,
    /// How the task was judged, for people: `kNN on the mean of slices`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What the data are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetCard>,
    /// The encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderCard>,
    /// Names of the scores on test that stand in the table of results; by default the most important
    /// ones that there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headlines: Vec<String>,
    /// Single cases, neighbours, weights of slices, overlays, tables: what stands between the curves and
    /// the controls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<Exhibit>,
    /// Files that could not be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

impl Exhibits {
    /// Nothing to show yet.
    pub fn new() -> Self {
        Self { schema: SCHEMA, ..Self::default() }
    }

    /// Every picture, in the order of the page.
    pub(super) fn pictures(&mut self) -> impl Iterator<Item = &mut Shown> {
        self.shown.iter_mut().flat_map(Exhibit::pictures)
    }

    /// Ids of the cases that are shown by themselves, and of those that failed.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        let shown = self.shown.iter().flat_map(Exhibit::cases).map(Case::id);
        shown.chain(self.failures.iter().map(|failure| failure.id.as_str()))
    }

    /// Other names for cases, files and folders.
    pub(super) fn rename(&mut self, told: &Told<'_>) {
        let texts = [&mut self.title, &mut self.intro, &mut self.method];
        texts.into_iter().flatten().for_each(|text| *text = told.text(text));
        self.dataset.iter_mut().for_each(|card| card.rename(told));
        self.encoder.iter_mut().for_each(|card| card.rename(told));
        self.shown.iter_mut().for_each(|exhibit| exhibit.rename(told));
        for failure in &mut self.failures {
            rename_failed(&mut failure.id, &mut failure.reason, told);
        }
    }

    /// Gives every picture the name of its file.
    pub(super) fn named(&self) -> Self {
        let mut out = self.clone();
        out.schema = SCHEMA;
        for (i, picture) in out.pictures().enumerate() {
            picture.file = format!("{PICTURES}/{:04}.png", i + 1);
        }
        out
    }
}
