//! The heads that the protocol can put on frozen features, and what they become.

use std::{fmt, path::Path};

use dinorad_core::Protocol;
use dinorad_heads::{
    Fit, Knn, KnnModel, LinearModel, LogisticModel, LogisticRegression, MlKnn, MlKnnModel, Predict, Targets,
    TrainingNeighbours,
};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{Labelled, LinearHead, Views};
use crate::{Error, Progress, Result};

/// What is put on frozen features, with everything that is searched.
///
/// A head trains all its settings together; the protocol chooses among them. To add one, give it a
/// variant here and say what its settings are, how they are fitted and what they predict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "head", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Head {
    /// Softmax-weighted vote of the nearest cases, for every `k`.
    Knn(Knn),
    /// Multi-label nearest neighbours, for every `k` and smoothing.
    MlKnn(MlKnnHead),
    /// Logistic regression, for every strength.
    Logreg(LogisticHead),
    /// Linear probes, for every point of a grid.
    Linear(LinearHead),
}

/// ML-kNN over several `k` and smoothings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MlKnnHead {
    /// Numbers of neighbours.
    pub ks: Vec<usize>,
    /// Values added to every count.
    pub smoothings: Vec<f64>,
    /// Which neighbours count in training.
    pub neighbours: TrainingNeighbours,
}

impl MlKnnHead {
    /// The study's `k` with smoothing 1; under `paper` a training case counts among its own
    /// neighbours, as there.
    pub fn new(protocol: Protocol) -> Self {
        let neighbours = match protocol {
            Protocol::Paper => TrainingNeighbours::WithItself,
            Protocol::Strict => TrainingNeighbours::WithoutItself,
        };
        Self { ks: vec![5, 20, 50, 100, 200], smoothings: vec![1.0], neighbours }
    }
}

/// Logistic regression over a path of strengths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogisticHead {
    /// Weights of the data beside the penalty, in the order they are solved.
    pub strengths: Vec<f64>,
    /// Largest entry of the gradient at which a solution counts as one.
    pub tolerance: f64,
    /// Most iterations per strength.
    pub max_iterations: usize,
}

impl Default for LogisticHead {
    /// The study's 45 strengths, tolerance 1e-12, at most 1,000 iterations.
    fn default() -> Self {
        let LogisticRegression { tolerance, max_iterations, .. } = LogisticRegression::default();
        Self { strengths: dinorad_heads::study_strengths(), tolerance, max_iterations }
    }
}

/// One of the settings that a head searches.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// For people: `k = 5`, `C = 0.001`.
    pub label: String,
    /// For file names and keys: `k5`, `c0.001`.
    pub slug: String,
    /// The numbers it is made of, by name.
    pub values: Vec<(&'static str, f64)>,
}

/// What fitting may use beside the cases.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Views of the training cases, for heads that look at the pixels again in every epoch.
    pub views: Option<&'a dyn Views>,
    /// Whom to tell.
    pub progress: &'a dyn Progress,
}

impl Context<'_> {
    /// Cached features only, and nobody is told.
    pub const PLAIN: Context<'static> = Context { views: None, progress: &crate::Silent };
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("views", &self.views.is_some()).finish_non_exhaustive()
    }
}

impl Head {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Head::Knn(_) => "knn",
            Head::MlKnn(_) => "mlknn",
            Head::Logreg(_) => "logreg",
            Head::Linear(_) => "linear",
        }
    }

    /// Its name for people.
    pub fn title(&self) -> &'static str {
        match self {
            Head::Knn(_) => "kNN",
            Head::MlKnn(_) => "ML-kNN",
            Head::Logreg(_) => "logistic regression",
            Head::Linear(_) => "linear probe",
        }
    }

    /// What is searched, in order; of equal scores the first wins.
    pub fn settings(&self) -> Vec<Setting> {
        let of_k =
            |k: usize| Setting { label: format!("k = {k}"), slug: format!("k{k}"), values: vec![("k", k as f64)] };
        match self {
            Head::Knn(knn) => knn.ks.iter().map(|k| of_k(*k)).collect(),
            Head::MlKnn(head) => {
                let grid = head.smoothings.iter().flat_map(|s| head.ks.iter().map(move |k| (*k, *s)));
                grid.map(|(k, s)| Setting {
                    label: format!("k = {k}, s = {s}"),
                    slug: format!("k{k}-s{s}"),
                    values: vec![("k", k as f64), ("s", s)],
                })
                .collect()
            }
            Head::Logreg(head) => head
                .strengths
                .iter()
                .map(|c| Setting { label: format!("C = {c:.4e}"), slug: format!("c{c:e}"), values: vec![("C", *c)] })
                .collect(),
            Head::Linear(head) => head.settings(),
        }
    }

    /// Whether every setting is looked at on test, as the study tables every `k`, or only the one
    /// that validation chose.
    pub fn tables_every_setting(&self) -> bool {
        matches!(self, Head::Knn(_) | Head::MlKnn(_))
    }

    /// The head for a training set of `rows` cases: `k` beyond it become the largest there is, which
    /// is said.
    ///
    /// # Errors
    /// [`Error::Protocol`] if there is no neighbour at all.
    pub fn within(&self, rows: usize) -> Result<(Head, Option<String>)> {
        let cut = |ks: &[usize], most: usize| -> Result<(Vec<usize>, Option<String>)> {
            if most == 0 {
                return Err(Error::Protocol {
                    protocol: "neighbours",
                    why: format!("{rows} training case(s) leave no neighbour"),
                });
            }
            let mut kept: Vec<usize> = ks.iter().map(|k| (*k).min(most)).collect();
            kept.sort_unstable();
            kept.dedup();
            let beyond: Vec<String> = ks.iter().filter(|k| **k > most).map(usize::to_string).collect();
            let notice =
                (!beyond.is_empty()).then(|| format!("k = {} became {most}: {rows} training cases", beyond.join(", ")));
            Ok((kept, notice))
        };
        Ok(match self {
            Head::Knn(knn) => {
                let (ks, notice) = cut(&knn.ks, rows)?;
                (Head::Knn(Knn { ks, ..knn.clone() }), notice)
            }
            Head::MlKnn(head) => {
                let taken = match head.neighbours {
                    TrainingNeighbours::WithItself => 0,
                    TrainingNeighbours::WithoutItself => 1,
                    TrainingNeighbours::SkipFirst(n) => n,
                };
                let (ks, notice) = cut(&head.ks, rows.saturating_sub(taken))?;
                (Head::MlKnn(MlKnnHead { ks, ..head.clone() }), notice)
            }
            other => (other.clone(), None),
        })
    }

    /// The same head with its `k` ascending and each once.
    pub(crate) fn tidied(&self) -> Head {
        let mut head = self.clone();
        if let Head::Knn(Knn { ks, .. }) | Head::MlKnn(MlKnnHead { ks, .. }) = &mut head {
            ks.sort_unstable();
            ks.dedup();
        }
        head
    }

    /// The same head with `seed` for what it draws; one that draws nothing stays itself.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        if let Head::Linear(head) = &mut self {
            head.sweep.seed = seed;
        }
        self
    }

    /// The head with the settings at `which` alone.
    pub(crate) fn only(&self, which: usize) -> Head {
        let mut head = self.clone();
        match &mut head {
            Head::Knn(knn) => knn.ks = knn.ks.get(which).copied().into_iter().collect(),
            Head::MlKnn(ml) => {
                let n = ml.ks.len().max(1);
                ml.smoothings = ml.smoothings.get(which / n).copied().into_iter().collect();
                ml.ks = ml.ks.get(which % n).copied().into_iter().collect();
            }
            Head::Logreg(head) => head.strengths = head.strengths.get(which).copied().into_iter().collect(),
            Head::Linear(head) => head.keep(which),
        }
        head
    }

    /// Refuses a task that the head cannot learn, and a head without settings.
    pub(crate) fn check(&self, answers: &Targets) -> Result<()> {
        let needs = |expected: &'static str, got: &'static str| {
            Err(Error::Heads(dinorad_heads::Error::TargetKind { head: self.title(), expected, got }))
        };
        match (self, answers) {
            (Head::MlKnn(_), Targets::Classes { .. }) => needs("multilabel", "class"),
            _ if self.settings().is_empty() => {
                Err(Error::Parameter { what: "settings of the head", expected: "at least one", got: "none".into() })
            }
            _ => Ok(()),
        }
    }

    /// Fits every setting on `train`.
    ///
    /// # Errors
    /// [`Error::Heads`]: what the head refuses.
    pub fn fit(&self, train: &Labelled, classes: usize, context: &Context<'_>) -> Result<Fitted> {
        let y = train.answers(classes)?;
        self.check(&y)?;
        Ok(match self {
            Head::Knn(knn) => Fitted::Knn(knn.fit(train.features.view(), &y)?),
            Head::MlKnn(head) => {
                let mut models: Vec<MlKnnModel> = Vec::with_capacity(head.smoothings.len());
                for &s in &head.smoothings {
                    models.push(match models.first() {
                        // the neighbours are the same
                        Some(first) => first.with_smoothing(s)?,
                        None => MlKnn { ks: head.ks.clone(), smoothing: s, neighbours: head.neighbours }
                            .fit(train.features.view(), &y)?,
                    });
                }
                Fitted::MlKnn(models)
            }
            Head::Logreg(head) => {
                let c = head.strengths.first().copied().unwrap_or(1.0);
                let one = LogisticRegression { c, tolerance: head.tolerance, max_iterations: head.max_iterations };
                Fitted::Logreg(one.sweep(train.features.view(), &y, &head.strengths)?)
            }
            Head::Linear(head) => Fitted::Linear(head.fit(train, &y, context)?),
        })
    }
}

/// A [`Head`] with all its settings fitted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Fitted {
    /// The gallery.
    Knn(KnnModel),
    /// A model for each smoothing.
    MlKnn(Vec<MlKnnModel>),
    /// A model for each strength.
    Logreg(Vec<LogisticModel>),
    /// A model for each point.
    Linear(Vec<LinearModel>),
}

impl Fitted {
    /// The model of the setting at `which` alone, for heads with a model for each.
    pub(crate) fn at(&self, which: usize) -> Fitted {
        match self {
            Fitted::Logreg(models) => Fitted::Logreg(models.get(which).cloned().into_iter().collect()),
            Fitted::Linear(models) => Fitted::Linear(models.get(which).cloned().into_iter().collect()),
            Fitted::Knn(_) | Fitted::MlKnn(_) => self.clone(),
        }
    }

    /// Probabilities `(n, classes)` by every setting, in their order. Those of a setting that left
    /// the range of numbers are NaN.
    ///
    /// # Errors
    /// [`Error::Heads`] for features of another width, none, or such as are not finite.
    pub fn predict(&self, cases: &Labelled) -> Result<Vec<Array2<f32>>> {
        let x = cases.features.view();
        let narrow = |p: Array2<f64>| p.mapv(|v| v as f32);
        Ok(match self {
            Fitted::Knn(model) => model.votes(x)?,
            Fitted::MlKnn(models) => {
                let Some(first) = models.first() else { return Ok(Vec::new()) };
                let near = first.neighbours(x)?;
                models.iter().flat_map(|model| model.probabilities_of(&near)).map(narrow).collect()
            }
            Fitted::Logreg(models) => {
                models.iter().map(|model| Ok(narrow(model.probabilities(x)?))).collect::<Result<_>>()?
            }
            Fitted::Linear(models) => models.iter().map(|model| Ok(model.predict(x)?)).collect::<Result<_>>()?,
        })
    }

    /// Classes that training did not show, or findings that no or every training case had: their
    /// probabilities are constants.
    pub fn absent(&self) -> &[usize] {
        match self {
            Fitted::MlKnn(models) => models.first().map_or(&[], |m| m.absent()),
            Fitted::Logreg(models) => models.first().map_or(&[], |m| m.absent()),
            Fitted::Knn(_) | Fitted::Linear(_) => &[],
        }
    }

    /// A hash over every number that was learned, by all settings: equal models have equal ones.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn digest(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let mut f64s = |values: &mut dyn Iterator<Item = f64>| {
            for v in values {
                hasher.update(&v.to_le_bytes());
            }
        };
        match self {
            Fitted::Knn(model) => {
                f64s(&mut model.rows().map(f64::from));
                match model.targets() {
                    Targets::Classes { labels, .. } => f64s(&mut labels.iter().map(|l| f64::from(*l))),
                    Targets::Findings(labels) => f64s(&mut labels.iter().map(|l| f64::from(*l))),
                }
            }
            Fitted::MlKnn(models) => {
                for model in models {
                    f64s(&mut model.rows().map(f64::from));
                    f64s(&mut model.prior().iter().copied());
                    for at in 0..model.options().ks.len() {
                        if let Some((with, without)) = model.conditionals(at) {
                            f64s(&mut with.iter().chain(without).copied());
                        }
                    }
                }
            }
            Fitted::Logreg(models) => {
                for model in models {
                    f64s(&mut model.coefficients().iter().chain(model.intercepts()).copied());
                }
            }
            Fitted::Linear(models) => {
                for model in models {
                    for part in [model.weight(), model.bias()] {
                        f64s(&mut part.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from));
                    }
                }
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Writes the model of the setting at `which`; `false` for heads whose model is the training
    /// features themselves.
    ///
    /// # Errors
    /// [`Error::Heads`] if the file cannot be written.
    pub fn save(&self, which: usize, path: &Path) -> Result<bool> {
        match self {
            Fitted::Linear(models) => match models.get(which) {
                Some(model) => model.save(path).map(|()| true).map_err(Error::from),
                None => Ok(false),
            },
            Fitted::Logreg(models) => match models.get(which) {
                Some(model) => model.save(path).map(|()| true).map_err(Error::from),
                None => Ok(false),
            },
            Fitted::Knn(_) | Fitted::MlKnn(_) => Ok(false),
        }
    }
}
