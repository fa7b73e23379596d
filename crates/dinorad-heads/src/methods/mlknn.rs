//! ML-kNN as a method.

use std::{path::Path, sync::Arc};

use dinorad_core::{
    Protocol, Task, TaskKind,
    description::positives,
    method::{Answer, Context, Entry, Error, Fitted, Input, Lent, Method, SearchAxis, Setting, model_file},
};
use serde::{Deserialize, Deserializer, Serialize};

use super::{USUAL_NEIGHBOURS, answers, check, cut, knn::k, tidied};
use crate::{Fit, MlKnn, MlKnnModel, TrainingNeighbours};

/// `mlknn`: multi-label nearest neighbours, for every `k` and smoothing.
pub const ENTRY: Entry = Entry {
    name: "mlknn",
    summary: "multi-label nearest neighbours by Zhang and Zhou's rule, for every k and smoothing at once",
    keys: &["k", "smoothing", "neighbours"],
    read: |from, protocol| {
        let said: Description = erased_serde::deserialize(from)?;
        let mut method = MlKnnMethod::new(protocol);
        if let Some(k) = said.k {
            method = method.with_k(k);
        }
        method.smoothings = said.smoothing.unwrap_or(method.smoothings);
        method.neighbours = said.neighbours.unwrap_or(method.neighbours);
        Ok(Box::new(method))
    },
    load: |folder| {
        let (model, which) = MlKnnModel::load(&model_file(folder)?)?;
        Ok(Box::new(MlKnnFitted { models: [model].into(), only: Some(which) }))
    },
};

/// The part of a description that is this method's.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Description {
    #[serde(deserialize_with = "k")]
    k: Option<Vec<usize>>,
    #[serde(deserialize_with = "smoothing")]
    smoothing: Option<Vec<f64>>,
    neighbours: Option<TrainingNeighbours>,
}

fn smoothing<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<f64>>, D::Error> {
    positives(from, "smoothing")
}

/// [`MlKnn`] as a method: every `k` and smoothing from one search.
///
/// Equal methods judge alike; who named the numbers of neighbours does not matter.
#[derive(Debug, Clone)]
pub struct MlKnnMethod {
    ks: Vec<usize>,
    smoothings: Vec<f64>,
    neighbours: TrainingNeighbours,
    named: bool,
}

impl MlKnnMethod {
    /// The [usual](USUAL_NEIGHBOURS) numbers of neighbours, as many as there are cases for, with
    /// smoothing 1; under `paper` a training case counts among its own neighbours, as in the study.
    pub fn new(protocol: Protocol) -> Self {
        let neighbours = match protocol {
            Protocol::Paper => TrainingNeighbours::WithItself,
            Protocol::Strict => TrainingNeighbours::WithoutItself,
        };
        Self { ks: USUAL_NEIGHBOURS.to_vec(), smoothings: vec![1.0], neighbours, named: false }
    }

    /// Numbers of neighbours that are meant as they are, ascending and each once.
    #[must_use]
    pub fn with_k(self, ks: Vec<usize>) -> Self {
        Self { ks: tidied(ks), named: true, ..self }
    }

    /// Other values added to every count.
    #[must_use]
    pub fn with_smoothings(self, smoothings: Vec<f64>) -> Self {
        Self { smoothings, ..self }
    }

    /// Another rule for a case's own neighbours.
    #[must_use]
    pub fn with_neighbours(self, neighbours: TrainingNeighbours) -> Self {
        Self { neighbours, ..self }
    }
}

impl PartialEq for MlKnnMethod {
    fn eq(&self, other: &Self) -> bool {
        (&self.ks, &self.smoothings, self.neighbours) == (&other.ks, &other.smoothings, other.neighbours)
    }
}

impl Serialize for MlKnnMethod {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Resolved<'a> {
            k: &'a [usize],
            smoothing: &'a [f64],
            neighbours: TrainingNeighbours,
        }
        Resolved { k: &self.ks, smoothing: &self.smoothings, neighbours: self.neighbours }.serialize(serializer)
    }
}

impl Method for MlKnnMethod {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn title(&self) -> &'static str {
        "ML-kNN"
    }

    fn input(&self) -> Input {
        Input::Rows
    }

    /// Smoothings outermost.
    fn settings(&self) -> Vec<Setting> {
        let grid = self.smoothings.iter().flat_map(|s| self.ks.iter().map(move |k| (*k, *s)));
        let setting = |(k, s): (usize, f64)| {
            Setting::new(format!("k = {k}, s = {s}"), format!("k{k}-s{s}")).with("k", k as f64).with("s", s)
        };
        grid.map(setting).collect()
    }

    fn tables_every_setting(&self) -> bool {
        true
    }

    fn search_axis(&self) -> Option<SearchAxis> {
        Some(SearchAxis { value: "k", label: "number of neighbours k", plot: "auroc-by-k" })
    }

    fn single_setting(&self) -> &'static str {
        "k = [20], smoothing = [1.0]"
    }

    fn check(&self, task: &Task) -> Result<(), Error> {
        check(self.title(), self.ks.len() * self.smoothings.len(), task)?;
        if task.kind == TaskKind::Multilabel { Ok(()) } else { Err(crate::Error::NotMultilabel.into()) }
    }

    fn within(&self, cases: usize) -> Result<Option<(Box<dyn Method>, String)>, Error> {
        let taken = match self.neighbours {
            TrainingNeighbours::WithItself => 0,
            TrainingNeighbours::WithoutItself => 1,
            TrainingNeighbours::SkipFirst(n) => n,
        };
        let with = |(ks, notice)| (Box::new(Self { ks, ..self.clone() }) as Box<dyn Method>, notice);
        Ok(cut(&self.ks, cases, taken)?.map(with))
    }

    fn is_explicit(&self) -> bool {
        self.named
    }

    fn only(&self, which: usize) -> Box<dyn Method> {
        let n = self.ks.len().max(1);
        let ks = self.ks.get(which % n).copied().into_iter().collect();
        let smoothings = self.smoothings.get(which / n).copied().into_iter().collect();
        Box::new(Self { ks, smoothings, ..self.clone() })
    }

    fn clone_box(&self) -> Box<dyn Method> {
        Box::new(self.clone())
    }

    fn fit(&self, train: &dyn Lent, task: &Task, _context: &Context<'_>) -> Result<Box<dyn Fitted>, Error> {
        self.check(task)?;
        let y = answers(train, task)?;
        let mut models: Vec<MlKnnModel> = Vec::with_capacity(self.smoothings.len());
        for &smoothing in &self.smoothings {
            models.push(match models.first() {
                // the neighbours are the same
                Some(first) => first.with_smoothing(smoothing)?,
                None => MlKnn { ks: self.ks.clone(), smoothing, neighbours: self.neighbours }.fit(train.rows()?, &y)?,
            });
        }
        Ok(Box::new(MlKnnFitted { models: models.into(), only: None }))
    }
}

/// A model for each smoothing, which share their neighbours.
#[derive(Debug, Clone)]
struct MlKnnFitted {
    models: Arc<[MlKnnModel]>,
    /// The setting whose answers are given, where the others are there for its sake alone.
    only: Option<usize>,
}

impl Fitted for MlKnnFitted {
    fn predict(&self, cases: &dyn Lent, give: &mut dyn FnMut(usize, Answer) -> Result<(), Error>) -> Result<(), Error> {
        let Some(first) = self.models.first() else { return Ok(()) };
        let near = first.neighbours(cases.rows()?)?;
        let all = self.models.iter().flat_map(|model| model.probabilities_of(&near)).enumerate();
        let wanted = all.filter(|(which, _)| self.only.is_none_or(|only| only == *which));
        for (at, (_, p)) in wanted.enumerate() {
            give(at, Answer::Probabilities(p.mapv(|v| v as f32)))?;
        }
        Ok(())
    }

    /// The answers of all settings come from one search: all are kept.
    fn keep(&self, _which: usize) -> Box<dyn Fitted> {
        Box::new(self.clone())
    }

    fn learned(&self, number: &mut dyn FnMut(f64)) -> Result<(), Error> {
        for model in self.models.iter() {
            model.rows().for_each(|v| number(f64::from(v)));
            model.prior().iter().for_each(|v| number(*v));
            for at in 0..model.options().ks.len() {
                if let Some((with, without)) = model.conditionals(at) {
                    with.iter().chain(without).for_each(|v| number(*v));
                }
            }
        }
        Ok(())
    }

    fn absent(&self) -> &[usize] {
        self.models.first().map_or(&[], |model| model.absent())
    }

    fn save_whole(&self, which: usize, path: &Path) -> Result<(), Error> {
        let which = self.only.unwrap_or(which);
        let n = self.models.first().map_or(1, |model| model.options().ks.len().max(1));
        match self.models.get(which / n) {
            Some(model) => Ok(model.save(which % n, path)?),
            None => Err(Error::Unkept { path: path.to_owned() }),
        }
    }
}
