//! Logistic regression as a method.

use std::path::Path;

use dinorad_core::{
    Task,
    method::{Answer, Context, Entry, Error, Fitted, Input, Lent, Method, SearchAxis, Setting},
};
use serde::{Deserialize, Deserializer, Serialize};

use super::{answers, check, count, model_file, positive, positives};
use crate::{LogisticModel, LogisticRegression, study_strengths};

/// `logreg`: logistic regression, for every strength.
pub const ENTRY: Entry = Entry {
    name: "logreg",
    summary: "L2-regularised logistic regression along a path of strengths, each started from the one before",
    keys: &["c", "tolerance", "max_iterations"],
    read: |from, _protocol| {
        let said: Description = erased_serde::deserialize(from)?;
        let usual = LogregMethod::default();
        Ok(Box::new(LogregMethod {
            c: said.c.unwrap_or(usual.c),
            tolerance: said.tolerance.unwrap_or(usual.tolerance),
            max_iterations: said.max_iterations.unwrap_or(usual.max_iterations),
        }))
    },
    load: |folder| Ok(Box::new(LogregFitted(vec![LogisticModel::load(&model_file(folder)?)?]))),
};

/// The part of a description that is this method's.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Description {
    #[serde(deserialize_with = "c")]
    c: Option<Vec<f64>>,
    #[serde(deserialize_with = "tolerance")]
    tolerance: Option<f64>,
    #[serde(deserialize_with = "max_iterations")]
    max_iterations: Option<usize>,
}

fn c<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<f64>>, D::Error> {
    positives(from, "c")
}

fn tolerance<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    positive(from, "tolerance")
}

fn max_iterations<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    count(from, "max_iterations")
}

/// [`LogisticRegression`] as a method: a whole path of strengths.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogregMethod {
    /// Weights of the data beside the penalty, in the order they are solved.
    pub c: Vec<f64>,
    /// Largest entry of the gradient at which a solution counts as one.
    pub tolerance: f64,
    /// Most iterations per strength.
    pub max_iterations: usize,
}

impl Default for LogregMethod {
    /// The study's 45 strengths, tolerance 1e-12, at most 1,000 iterations.
    fn default() -> Self {
        let LogisticRegression { tolerance, max_iterations, .. } = LogisticRegression::default();
        Self { c: study_strengths(), tolerance, max_iterations }
    }
}

impl Method for LogregMethod {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn title(&self) -> &'static str {
        "logistic regression"
    }

    fn input(&self) -> Input {
        Input::Rows
    }

    fn settings(&self) -> Vec<Setting> {
        self.c.iter().map(|c| Setting::new(format!("C = {c:.4e}"), format!("c{c:e}")).with("C", *c)).collect()
    }

    fn search_axis(&self) -> Option<SearchAxis> {
        Some(SearchAxis { value: "C", label: "inverse regularisation C", plot: "auroc-by-c" })
    }

    fn single_setting(&self) -> &'static str {
        "c = [1.0]"
    }

    fn check(&self, task: &Task) -> Result<(), Error> {
        Ok(check(self.title(), self.c.len(), task)?)
    }

    fn only(&self, which: usize) -> Box<dyn Method> {
        Box::new(Self { c: self.c.get(which).copied().into_iter().collect(), ..self.clone() })
    }

    fn clone_box(&self) -> Box<dyn Method> {
        Box::new(self.clone())
    }

    fn fit(&self, train: &dyn Lent, task: &Task, _context: &Context<'_>) -> Result<Box<dyn Fitted>, Error> {
        self.check(task)?;
        let y = answers(train, task)?;
        let c = self.c.first().copied().unwrap_or(1.0);
        let one = LogisticRegression { c, tolerance: self.tolerance, max_iterations: self.max_iterations };
        Ok(Box::new(LogregFitted(one.sweep(train.rows()?, &y, &self.c)?)))
    }
}

/// A model for each strength.
#[derive(Debug)]
struct LogregFitted(Vec<LogisticModel>);

impl Fitted for LogregFitted {
    fn predict(&self, cases: &dyn Lent, give: &mut dyn FnMut(usize, Answer) -> Result<(), Error>) -> Result<(), Error> {
        let x = cases.rows()?;
        for (which, model) in self.0.iter().enumerate() {
            give(which, Answer::Probabilities(crate::Predict::predict(model, x)?))?;
        }
        Ok(())
    }

    fn keep(&self, which: usize) -> Box<dyn Fitted> {
        Box::new(Self(self.0.get(which).cloned().into_iter().collect()))
    }

    fn learned(&self, number: &mut dyn FnMut(f64)) -> Result<(), Error> {
        for model in &self.0 {
            model.coefficients().iter().chain(model.intercepts()).for_each(|v| number(*v));
        }
        Ok(())
    }

    fn absent(&self) -> &[usize] {
        self.0.first().map_or(&[], |model| model.absent())
    }

    fn save(&self, which: usize, path: &Path) -> Result<bool, Error> {
        match self.0.get(which) {
            Some(model) => Ok(model.save(path).map(|()| true)?),
            None => Ok(false),
        }
    }
}
