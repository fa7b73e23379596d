//! Logistic regression as a method.

use std::{collections::HashSet, path::Path};

use dinorad_core::{
    Task,
    description::{count, positive, positives},
    method::{Answer, Context, Entry, Error, Fitted, Input, Lent, Method, SearchAxis, Setting, model_file},
};
use serde::{Deserialize, Deserializer, Serialize};

use super::{answers, check};
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
        let named = |(c, text): (&f64, String)| Setting::new(format!("C = {text}"), format!("c{c:e}")).with("C", *c);
        self.c.iter().zip(texts(&self.c)).map(named).collect()
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

/// Strengths as people write them: three digits, or as many as it takes to tell them apart.
fn texts(strengths: &[f64]) -> Vec<String> {
    let different = |of: &mut dyn Iterator<Item = String>| of.collect::<HashSet<_>>().len();
    let values = different(&mut strengths.iter().map(|c| format!("{c:e}")));
    let with = |digits: usize| strengths.iter().map(|c| text(*c, digits)).collect::<Vec<_>>();
    // 17 digits tell any two numbers apart
    (3..17).map(with).find(|texts| different(&mut texts.iter().cloned()) == values).unwrap_or_else(|| with(17))
}

/// A number with so many digits: `0.178`, `10`; far from 1 with its power of ten, `1e-6`.
fn text(value: f64, digits: usize) -> String {
    let rounded = format!("{value:.0$e}", digits - 1).parse().unwrap_or(value);
    if (1e-3..1e5).contains(&rounded) { format!("{rounded}") } else { format!("{rounded:e}") }
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

    fn trained_parameters(&self, which: usize) -> Option<usize> {
        self.0.get(which).map(|model| model.coefficients().len() + model.intercepts().len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_read_well_and_are_told_apart() {
        let of_study: HashSet<String> = LogregMethod::default().settings().into_iter().map(|s| s.label).collect();
        assert_eq!(of_study.len(), 45, "{of_study:?}");
        for one in ["C = 1e-6", "C = 0.178", "C = 1", "C = 10", "C = 1e5"] {
            assert!(of_study.contains(one), "{one} is none of {of_study:?}");
        }
        assert!(of_study.iter().all(|label| label.len() <= "C = 0.00178".len()), "{of_study:?}");
        // as many digits as it takes, for all of them
        assert_eq!(texts(&[0.5, 1.00001, 1.00002]), ["0.5", "1.00001", "1.00002"]);
        let next = f64::from_bits(0.1_f64.to_bits() + 1);
        assert_eq!(texts(&[0.1, next]), ["0.1", "0.10000000000000002"]);
        // the same twice is no reason for more of them
        assert_eq!(texts(&[0.1778279, 0.1778279]), ["0.178", "0.178"]);
    }
}
