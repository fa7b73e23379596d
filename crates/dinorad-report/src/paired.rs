//! Two models on the same cases: paired tests.

use std::collections::BTreeMap;

use dinorad_core::{Target, Task, TaskKind};
use dinorad_metrics::{
    BootstrapOptions, ComparisonMethod, PermutationTest, RankedScores, Resampling, RunScore, ScoreComparison,
    TaskScores, bootstrap_difference, delong_auroc, paired_permutation,
};
use ndarray::{Array2, ArrayView1, Axis};
use serde::{Deserialize, Serialize};

use crate::{Predictions, Result};

/// The difference of two models' scores on the same cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// First minus second.
    pub difference: f64,
    /// Its 95 % interval; `None` for a difference without a standard error.
    pub ci95: Option<[f64; 2]>,
    /// Two-sided; `None` for a difference without a standard error.
    pub p_value: Option<f64>,
    /// `DeLong` or `paired bootstrap over patients` (or `cases`).
    pub method: String,
    /// Cases that both models have judged.
    pub cases: usize,
}

impl Comparison {
    /// Second minus first.
    #[must_use]
    pub fn turned(self) -> Self {
        let ci95 = self.ci95.map(|[low, high]| [-high, -low]);
        Self { difference: -self.difference, ci95, ..self }
    }
}

/// The cases that two models have both judged, side by side.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// Probabilities of the first, `(n, classes)`.
    a: Array2<f32>,
    b: Array2<f32>,
    /// `(n, columns)` of 0 and 1: a single column, that of class 1, for a binary task.
    truth: Array2<u8>,
    /// Columns of the probabilities that stand for those of the truth.
    columns: Vec<usize>,
    /// The class of every case, for tasks with one.
    classes: Option<Vec<usize>>,
    resampling: Resampling,
    /// `patients` or `cases`.
    unit: &'static str,
    /// Cases of the first alone.
    pub only_a: usize,
    /// Cases of the second alone.
    pub only_b: usize,
    /// Cases of both whose truths differ, left out.
    pub other_truth: usize,
    /// Cases of both without a truth, left out.
    pub no_truth: usize,
}

impl Pairs {
    /// Pairs predictions by sample id. `patients` tells the patient of a case of the first: cases of one
    /// patient are drawn and swapped together where all are known. `None` where no case is shared.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless both have a column for each class of the task.
    pub fn new(
        a: &Predictions,
        b: &Predictions,
        task: &Task,
        patients: impl Fn(&str) -> Option<usize>,
    ) -> Result<Option<Self>> {
        for p in [a, b] {
            if p.probabilities.ncols() != task.n_classes() {
                let expected = format!("(n, {})", task.n_classes());
                return Err(crate::Error::shape("probabilities", expected, p.probabilities.shape()));
            }
        }
        let places: BTreeMap<&str, usize> = b.ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let (mut rows_a, mut rows_b, mut shared, mut no_truth) = (Vec::new(), Vec::new(), 0, 0);
        for (i, id) in a.ids.iter().enumerate() {
            let Some(&j) = places.get(id.as_str()) else { continue };
            shared += 1;
            match (&a.targets[i], &b.targets[j]) {
                (Target::Unlabelled | Target::Mask(_), Target::Unlabelled | Target::Mask(_)) => no_truth += 1,
                (x, y) if x == y && fits(x, task) => {
                    rows_a.push(i);
                    rows_b.push(j);
                }
                _ => {}
            }
        }
        if rows_a.is_empty() {
            return Ok(None);
        }
        let targets: Vec<&Target> = rows_a.iter().map(|i| &a.targets[*i]).collect();
        let findings = task.kind == TaskKind::Multilabel;
        let columns: Vec<usize> = match (findings, task.n_classes()) {
            (false, 2) => vec![1],
            (_, n) => (0..n).collect(),
        };
        let truth = Array2::from_shape_fn((targets.len(), columns.len()), |(i, c)| match targets[i] {
            // a single finding reads back as a class
            Target::Class(class) => u8::from(*class == if findings { 1 } else { columns[c] }),
            Target::Labels(labels) => labels.get(c).copied().unwrap_or(0),
            Target::Unlabelled | Target::Mask(_) => 0,
        });
        let class = |t: &&Target| if let Target::Class(c) = t { Some(*c) } else { None };
        let classes: Option<Vec<usize>> = if findings { None } else { targets.iter().map(class).collect() };
        let known: Option<Vec<usize>> = rows_a.iter().map(|i| patients(&a.ids[*i])).collect();
        let (resampling, unit) = match known {
            Some(known) => (Resampling::by_group(&known)?, "patients"),
            None => (Resampling::by_case(rows_a.len())?, "cases"),
        };
        Ok(Some(Self {
            a: a.probabilities.select(Axis(0), &rows_a),
            b: b.probabilities.select(Axis(0), &rows_b),
            truth,
            columns,
            classes,
            resampling,
            unit,
            only_a: a.ids.len() - shared,
            only_b: b.ids.len() - shared,
            other_truth: shared - no_truth - rows_a.len(),
            no_truth,
        }))
    }

    /// Cases that are compared.
    pub fn cases(&self) -> usize {
        self.a.nrows()
    }

    /// Patients (or cases, where patients are not known) that are drawn.
    pub fn groups(&self) -> usize {
        self.resampling.groups()
    }

    /// What is drawn: `patients` or `cases`.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// The difference of the AUROCs (the mean over classes or findings that occur): by DeLong's test for a
    /// single curve of independent cases, else by the bootstrap. `None` where either is undefined.
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::Error::Metrics).
    pub fn auroc(&self, draws: &BootstrapOptions) -> Result<Option<Comparison>> {
        match self.delong(draws.level)? {
            Some(test) => Ok(Some(test)),
            None => self.auroc_bootstrap(draws),
        }
    }

    /// DeLong's test of the AUROCs; `None` unless there is a single curve, of cases that are independent
    /// of each other, with cases of both classes.
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::Error::Metrics).
    pub fn delong(&self, level: f64) -> Result<Option<Comparison>> {
        let [a, b] = self.task_scores()?;
        Ok(delong_auroc(&a, &b, &self.resampling, level)?.map(|test| self.told(test)))
    }

    /// The bootstrap of the difference of the AUROCs over the same draws of patients (or cases).
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::Error::Metrics).
    pub fn auroc_bootstrap(&self, draws: &BootstrapOptions) -> Result<Option<Comparison>> {
        self.bootstrap(RunScore::Auroc, draws)
    }

    /// The bootstrap of the difference of the accuracies: shares of cases whose most probable class is
    /// the true one, or of findings that are right at one half.
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::Error::Metrics).
    pub fn accuracy_bootstrap(&self, draws: &BootstrapOptions) -> Result<Option<Comparison>> {
        self.bootstrap(RunScore::Accuracy, draws)
    }

    /// Are the two exchangeable? Their scores, as ranks within each model, are swapped patient by patient
    /// (or case by case), and the AUROCs taken anew. `None` where an AUROC is undefined.
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::Error::Metrics).
    pub fn auroc_permutation(&self, draws: usize, seed: u64) -> Result<Option<PermutationTest>> {
        // Ranks put the scores of two models on one scale.
        let scores =
            |p: &Array2<f32>| -> Vec<Vec<f64>> { self.columns.iter().map(|c| ranks(&p.column(*c).to_vec())).collect() };
        let n = self.cases();
        let mut pooled = Vec::new();
        for ((a, b), truth) in scores(&self.a).into_iter().zip(scores(&self.b)).zip(self.truth.columns()) {
            let both = ndarray::Array1::from([a, b].concat());
            let twice: ndarray::Array1<u8> = truth.iter().chain(&truth).copied().collect();
            let ranked = RankedScores::new(both.view(), twice.view())?;
            if ranked.auroc().is_some() {
                pooled.push(ranked);
            }
        }
        let test = paired_permutation(&self.resampling, draws, seed, |swap| {
            let mut first = vec![0u32; 2 * n];
            for (i, s) in swap.iter().enumerate() {
                first[if *s { n + i } else { i }] = 1;
            }
            let second: Vec<u32> = first.iter().map(|w| 1 - w).collect();
            Some(mean_auroc(&pooled, &first)? - mean_auroc(&pooled, &second)?)
        });
        defined(test)
    }

    /// Are the two right on the same cases? Their answers are swapped patient by patient (or case by case).
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::Error::Metrics).
    pub fn accuracy_permutation(&self, draws: usize, seed: u64) -> Result<Option<PermutationTest>> {
        let apart = self.apart();
        let n = apart.len() as f64;
        defined(paired_permutation(&self.resampling, draws, seed, |swap| {
            Some(apart.iter().zip(swap).map(|(d, s)| if *s { -d } else { *d }).sum::<f64>() / n)
        }))
    }

    /// AUROC and accuracy of the first and of the second on the cases they share.
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::Error::Metrics).
    pub fn scores(&self) -> Result<[(Option<f64>, Option<f64>); 2]> {
        Ok(self.task_scores()?.map(|of| (of.value(RunScore::Auroc), of.value(RunScore::Accuracy))))
    }

    /// The first and the second as the scores of a run are taken.
    fn task_scores(&self) -> Result<[TaskScores; 2]> {
        let of = |p: &Array2<f32>| match &self.classes {
            Some(classes) => TaskScores::of_classes(p.view(), ArrayView1::from(classes)),
            None => TaskScores::of_findings(p.view(), self.truth.view()),
        };
        Ok([of(&self.a)?, of(&self.b)?])
    }

    /// How far each case is right: 1 or 0, or the share of its findings.
    fn right(&self, p: &Array2<f32>) -> Vec<f64> {
        match &self.classes {
            Some(classes) => {
                let predicted = crate::predictions::most_probable(p.view());
                classes.iter().zip(predicted).map(|(truth, p)| f64::from(u8::from(*truth == p))).collect()
            }
            None => p
                .rows()
                .into_iter()
                .zip(self.truth.rows())
                .map(|(p, truth)| {
                    let right = p.iter().zip(truth).filter(|(p, t)| (**p > 0.5) == (**t == 1)).count();
                    right as f64 / truth.len().max(1) as f64
                })
                .collect(),
        }
    }

    /// First minus second.
    fn apart(&self) -> Vec<f64> {
        self.right(&self.a).iter().zip(self.right(&self.b)).map(|(a, b)| a - b).collect()
    }

    fn bootstrap(&self, score: RunScore, draws: &BootstrapOptions) -> Result<Option<Comparison>> {
        let [a, b] = self.task_scores()?;
        Ok(bootstrap_difference(score, &a, &b, &self.resampling, draws)?.map(|test| self.told(test)))
    }

    fn told(&self, test: ScoreComparison) -> Comparison {
        Comparison {
            difference: test.difference,
            ci95: test.interval,
            p_value: test.p_value,
            method: match test.method {
                ComparisonMethod::DeLong => "DeLong".into(),
                ComparisonMethod::PairedBootstrap => format!("paired bootstrap over {}", self.unit),
            },
            cases: self.cases(),
        }
    }
}

/// Whether a truth is one of the task's.
fn fits(target: &Target, task: &Task) -> bool {
    match (target, task.kind == TaskKind::Multilabel) {
        (Target::Class(class), false) => *class < task.n_classes(),
        (Target::Class(present), true) => task.n_classes() == 1 && *present < 2,
        (Target::Labels(labels), true) => labels.len() == task.n_classes() && labels.iter().all(|l| *l < 2),
        _ => false,
    }
}

/// A difference that is undefined is none.
fn defined<T>(result: dinorad_metrics::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(dinorad_metrics::Error::Empty { .. } | dinorad_metrics::Error::OneClass { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The mean over curves; `None` where one of them is undefined under these weights.
fn mean_auroc(ranked: &[RankedScores], weights: &[u32]) -> Option<f64> {
    let values: Option<Vec<f64>> = ranked.iter().map(|r| r.weighted_auroc(weights)).collect();
    values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / v.len() as f64)
}

/// The place of every value among all, equal ones sharing the mean of theirs.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut out = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let alike = order[from..].iter().take_while(|i| values[**i] == values[order[from]]).count().max(1);
        let mean = from as f64 + (alike - 1) as f64 / 2.0;
        order[from..from + alike].iter().for_each(|i| out[*i] = mean);
        from += alike;
    }
    out
}
