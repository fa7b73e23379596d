//! kNN as a method.

use std::{path::Path, sync::Arc};

use dinorad_core::{
    Task,
    description::{counts, positive},
    method::{Answer, Context, Entry, Error, Fitted, Input, Lent, Method, SearchAxis, Setting, model_file},
};
use serde::{Deserialize, Deserializer, Serialize};

use super::{USUAL_NEIGHBOURS, answers, check, cut, setting_of_k, tidied};
use crate::{Fit, Knn, KnnModel, Targets, Vote};

/// `knn`: softmax-weighted vote of the nearest cases, for every `k`.
pub const ENTRY: Entry = Entry {
    name: "knn",
    summary: "softmax-weighted vote of the nearest training cases by cosine similarity, for every k at once",
    keys: &["k", "temperature", "vote"],
    read: |from, _protocol| {
        let said: Description = erased_serde::deserialize(from)?;
        let mut method = said.k.map_or_else(KnnMethod::default, |k| KnnMethod::from(Knn::new(&k)));
        method.head.temperature = said.temperature.unwrap_or(method.head.temperature);
        method.head.vote = said.vote.unwrap_or(method.head.vote);
        Ok(Box::new(method))
    },
    load: |folder| {
        let (model, which) = KnnModel::load(&model_file(folder)?)?;
        Ok(Box::new(KnnFitted { model: Arc::new(model), only: Some(which) }))
    },
};

/// The part of a description that is this method's.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Description {
    #[serde(deserialize_with = "k")]
    k: Option<Vec<usize>>,
    #[serde(deserialize_with = "temperature")]
    temperature: Option<f64>,
    vote: Option<Vote>,
}

pub(super) fn k<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<usize>>, D::Error> {
    counts(from, "k")
}

fn temperature<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    positive(from, "temperature")
}

/// [`Knn`] as a method: every `k` in one pass.
///
/// Equal methods judge alike; who named the numbers of neighbours does not matter.
#[derive(Debug, Clone)]
pub struct KnnMethod {
    head: Knn,
    named: bool,
}

impl Default for KnnMethod {
    /// The [usual](USUAL_NEIGHBOURS) numbers of neighbours, as many as there are cases for.
    fn default() -> Self {
        Self { head: Knn::new(&USUAL_NEIGHBOURS), named: false }
    }
}

impl From<Knn> for KnnMethod {
    /// Numbers of neighbours that are meant as they are, ascending and each once.
    fn from(head: Knn) -> Self {
        Self { head: Knn { ks: tidied(head.ks), ..head }, named: true }
    }
}

impl PartialEq for KnnMethod {
    fn eq(&self, other: &Self) -> bool {
        self.head == other.head
    }
}

impl Serialize for KnnMethod {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Resolved<'a> {
            k: &'a [usize],
            temperature: f64,
            vote: Vote,
        }
        let Knn { ks, temperature, vote } = &self.head;
        Resolved { k: ks, temperature: *temperature, vote: *vote }.serialize(serializer)
    }
}

impl KnnMethod {
    /// The head that is fitted.
    pub fn head(&self) -> &Knn {
        &self.head
    }
}

impl Method for KnnMethod {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn title(&self) -> &'static str {
        "kNN"
    }

    fn input(&self) -> Input {
        Input::Rows
    }

    fn settings(&self) -> Vec<Setting> {
        self.head.ks.iter().map(|k| setting_of_k(*k)).collect()
    }

    fn tables_every_setting(&self) -> bool {
        true
    }

    fn search_axis(&self) -> Option<SearchAxis> {
        Some(SearchAxis { value: "k", label: "number of neighbours k", plot: "auroc-by-k" })
    }

    fn single_setting(&self) -> &'static str {
        "k = [20]"
    }

    fn check(&self, task: &Task) -> Result<(), Error> {
        Ok(check(self.title(), self.head.ks.len(), task)?)
    }

    fn within(&self, cases: usize) -> Result<Option<(Box<dyn Method>, String)>, Error> {
        let with = |(ks, notice)| {
            let head = Knn { ks, ..self.head.clone() };
            (Box::new(Self { head, named: self.named }) as Box<dyn Method>, notice)
        };
        Ok(cut(&self.head.ks, cases, 0)?.map(with))
    }

    fn is_explicit(&self) -> bool {
        self.named
    }

    fn only(&self, which: usize) -> Box<dyn Method> {
        let ks = self.head.ks.get(which).copied().into_iter().collect();
        Box::new(Self { head: Knn { ks, ..self.head.clone() }, named: self.named })
    }

    fn clone_box(&self) -> Box<dyn Method> {
        Box::new(self.clone())
    }

    fn fit(&self, train: &dyn Lent, task: &Task, _context: &Context<'_>) -> Result<Box<dyn Fitted>, Error> {
        self.check(task)?;
        let y = answers(train, task)?;
        Ok(Box::new(KnnFitted { model: Arc::new(self.head.fit(train.rows()?, &y)?), only: None }))
    }
}

/// The gallery, which all settings share.
#[derive(Debug, Clone)]
struct KnnFitted {
    model: Arc<KnnModel>,
    /// The setting whose answers are given, where the others are there for its sake alone.
    only: Option<usize>,
}

impl Fitted for KnnFitted {
    fn predict(&self, cases: &dyn Lent, give: &mut dyn FnMut(usize, Answer) -> Result<(), Error>) -> Result<(), Error> {
        let votes = self.model.votes(cases.rows()?)?.into_iter().enumerate();
        let wanted = votes.filter(|(which, _)| self.only.is_none_or(|only| only == *which));
        for (at, (_, votes)) in wanted.enumerate() {
            give(at, Answer::Probabilities(votes))?;
        }
        Ok(())
    }

    /// The votes of all settings come from one search: all are kept.
    fn keep(&self, _which: usize) -> Box<dyn Fitted> {
        Box::new(self.clone())
    }

    fn learned(&self, number: &mut dyn FnMut(f64)) -> Result<(), Error> {
        self.model.rows().for_each(|v| number(f64::from(v)));
        match self.model.targets() {
            Targets::Classes { labels, .. } => labels.iter().for_each(|l| number(f64::from(*l))),
            Targets::Findings(labels) => labels.iter().for_each(|l| number(f64::from(*l))),
        }
        Ok(())
    }

    fn trained_parameters(&self, _which: usize) -> Option<usize> {
        Some(0)
    }

    fn save_whole(&self, which: usize, path: &Path) -> Result<(), Error> {
        Ok(self.model.save(self.only.unwrap_or(which), path)?)
    }
}
