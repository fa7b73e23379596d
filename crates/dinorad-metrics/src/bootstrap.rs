//! Bootstrap intervals.

use std::collections::HashMap;

use dinorad_core::rng;
use ndarray::{ArrayView1, ArrayView2, Axis};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Label, RankedScores, Result, Score, convention::mean, error::parameter, input, quantile};

/// How a bootstrap draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BootstrapOptions {
    /// Number of draws.
    pub draws: usize,
    /// Seed of the streams, one per draw.
    pub seed: u64,
    /// Coverage of the interval, such as 0.95.
    pub level: f64,
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        BootstrapOptions { draws: 1000, seed: 0, level: 0.95 }
    }
}

impl BootstrapOptions {
    fn check(&self) -> Result<()> {
        if self.draws == 0 {
            return Err(parameter("draws", self.draws, "1 or more"));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(parameter("level", self.level, "between 0 and 1"));
        }
        Ok(())
    }
}

/// How the ends of an interval were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IntervalMethod {
    /// Percentiles of the draws.
    #[default]
    Bootstrap,
    /// [`newcombe_interval`](crate::newcombe_interval): of an AUROC whose draws are all equal.
    Newcombe,
    /// [`wilson_interval`](crate::wilson_interval): of a share whose draws are all equal.
    Wilson,
}

/// A value with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value on the cases as they are.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Standard deviation over the draws.
    pub standard_error: f64,
    /// Coverage meant.
    pub level: f64,
    /// Draws that gave a value.
    pub draws: usize,
    /// Draws that gave none, such as an AUROC of a draw without positives. They are left out.
    pub undefined: usize,
    /// How the ends were found.
    #[serde(default)]
    pub method: IntervalMethod,
}

impl Interval {
    /// Whether both ends are the same number, as of a score whose draws are all equal: they then say
    /// nothing about chance.
    pub fn is_point(&self) -> bool {
        self.low == self.high
    }
}

/// Which cases are drawn together.
///
/// Images of one patient are not independent: draw patients, not images. A draw takes as many
/// groups as there are, with replacement; a case counts as often as its group was drawn.
///
/// # Examples
/// ```
/// use dinorad_metrics::{BootstrapOptions, Resampling};
/// let patients = ["a", "a", "b", "c", "c"];
/// let values = [1.0, 2.0, 3.0, 4.0, 5.0];
/// let resampling = Resampling::by_group(&patients)?;
/// let mean = |weights: &[u32]| {
///     let n: u32 = weights.iter().sum();
///     Some(weights.iter().zip(values).map(|(w, v)| f64::from(*w) * v).sum::<f64>() / f64::from(n))
/// };
/// let interval = resampling.bootstrap(&BootstrapOptions::default(), mean)?;
/// assert_eq!(interval.estimate, 3.0);
/// assert!(interval.low < 3.0 && interval.high > 3.0);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Efron and Tibshirani 1993, *An Introduction to the Bootstrap*, percentile interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resampling {
    /// Group of every case.
    group: Vec<u32>,
    groups: u32,
}

impl Resampling {
    /// Every case by itself.
    ///
    /// # Errors
    /// [`Error::Empty`] without cases, [`Error::Parameter`] beyond 2^32.
    pub fn by_case(cases: usize) -> Result<Self> {
        let groups = Self::check(cases)?;
        Ok(Resampling { group: (0..groups).collect(), groups })
    }

    /// Cases with equal keys together, such as the images of one patient.
    ///
    /// # Errors
    /// [`Error::Empty`] without cases, [`Error::Parameter`] beyond 2^32.
    pub fn by_group<K: std::hash::Hash + Eq>(keys: &[K]) -> Result<Self> {
        Self::check(keys.len())?;
        let mut seen: HashMap<&K, u32> = HashMap::new();
        let group = keys
            .iter()
            .map(|k| {
                let next = seen.len() as u32;
                *seen.entry(k).or_insert(next)
            })
            .collect();
        Ok(Resampling { group, groups: seen.len() as u32 })
    }

    fn check(cases: usize) -> Result<u32> {
        match u32::try_from(cases) {
            Ok(0) => Err(Error::Empty { what: "cases" }),
            Ok(n) => Ok(n),
            Err(_) => Err(parameter("cases", cases, "at most 2^32 - 1")),
        }
    }

    /// Number of cases.
    pub fn cases(&self) -> usize {
        self.group.len()
    }

    /// Number of groups drawn from.
    pub fn groups(&self) -> usize {
        self.groups as usize
    }

    /// In how many groups any of the cases lies.
    pub(crate) fn groups_of(&self, cases: impl Iterator<Item = usize>) -> usize {
        let mut seen = vec![false; self.groups()];
        cases.for_each(|case| seen[self.group[case] as usize] = true);
        seen.iter().filter(|s| **s).count()
    }

    /// The group of every case, numbered in order of appearance.
    pub(crate) fn group_of_case(&self) -> &[u32] {
        &self.group
    }

    /// How often every case counts in draw number `draw`. The same `(seed, draw)` gives the same
    /// weights on every machine and thread.
    pub fn weights(&self, seed: u64, draw: u64) -> Vec<u32> {
        let mut stream = rng::stream(seed, 0, draw);
        let mut drawn = vec![0u32; self.groups()];
        for _ in 0..self.groups {
            drawn[stream.random_range(0..self.groups) as usize] += 1;
        }
        if self.groups() == self.cases() {
            return drawn; // groups are numbered in order of appearance: one case each
        }
        self.group.iter().map(|g| drawn[*g as usize]).collect()
    }

    /// The percentile interval of a metric of case weights. `None` means that it is undefined for
    /// these weights. For paired comparisons let the metric be a difference.
    ///
    /// Draws run in parallel; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Parameter`] for options out of range, [`Error::Empty`] if the metric is undefined on
    /// the cases as they are or on every draw.
    pub fn bootstrap<F>(&self, options: &BootstrapOptions, metric: F) -> Result<Interval>
    where
        F: Fn(&[u32]) -> Option<f64> + Sync,
    {
        let all = self.bootstrap_many(options, |weights| vec![metric(weights)])?;
        all.into_iter().next().flatten().ok_or(Error::Empty { what: "metric" })
    }

    /// [`Resampling::bootstrap`] of several metrics on the same draws. One that is undefined on the
    /// cases as they are, or on every draw, has no interval.
    ///
    /// # Errors
    /// [`Error::Parameter`] for options out of range, [`Error::Shape`] if the number of metrics
    /// changes.
    pub fn bootstrap_many<F>(&self, options: &BootstrapOptions, metrics: F) -> Result<Vec<Option<Interval>>>
    where
        F: Fn(&[u32]) -> Vec<Option<f64>> + Sync,
    {
        Ok(self.bootstrap_with_draws(options, metrics)?.into_iter().map(|(interval, _)| interval).collect())
    }

    /// The same, each with its draws that gave a value, in ascending order.
    pub(crate) fn bootstrap_with_draws<F>(&self, options: &BootstrapOptions, metrics: F) -> Result<Vec<Drawn>>
    where
        F: Fn(&[u32]) -> Vec<Option<f64>> + Sync,
    {
        options.check()?;
        let estimates = metrics(&vec![1; self.cases()]);
        // one stream per draw and an ordered collect: threads cannot change anything
        let draws: Vec<Vec<Option<f64>>> =
            (0..options.draws as u64).into_par_iter().map(|d| metrics(&self.weights(options.seed, d))).collect();
        if let Some(odd) = draws.iter().find(|d| d.len() != estimates.len()) {
            return Err(Error::Shape { what: "metrics", expected: vec![estimates.len()], got: vec![odd.len()] });
        }
        let drawn = |(m, estimate): (usize, &Option<f64>)| {
            let mut values: Vec<f64> = draws.iter().filter_map(|d| d[m]).collect();
            values.sort_unstable_by(f64::total_cmp);
            (interval(*estimate, &values, options), values)
        };
        Ok(estimates.iter().enumerate().map(drawn).collect())
    }
}

/// An interval, where there is one, and the draws behind it in ascending order.
pub(crate) type Drawn = (Option<Interval>, Vec<f64>);

fn interval(estimate: Option<f64>, sorted: &[f64], options: &BootstrapOptions) -> Option<Interval> {
    let estimate = estimate?;
    let centre = mean(sorted.iter().copied())?;
    let n = sorted.len();
    let variance = sorted.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / (n.max(2) - 1) as f64;
    let tail = 50.0 * (1.0 - options.level);
    Some(Interval {
        estimate,
        low: quantile::of_sorted(sorted, tail)?,
        high: quantile::of_sorted(sorted, 100.0 - tail)?,
        standard_error: variance.sqrt(),
        level: options.level,
        draws: n,
        undefined: options.draws - n,
        method: IntervalMethod::Bootstrap,
    })
}

/// AUROC with its bootstrap interval. Scores are sorted once; each draw is one pass over them.
///
/// # Errors
/// Those of [`auroc`](crate::auroc) and [`Resampling::bootstrap`], and [`Error::Shape`] if
/// `resampling` has another number of cases.
///
/// # Examples
/// ```
/// use dinorad_metrics::{BootstrapOptions, Resampling, bootstrap_auroc};
/// use ndarray::Array1;
/// let scores = Array1::from_shape_fn(200, |i| ((i * 37) % 101) as f64 + 60.0 * (i % 2) as f64);
/// let targets = Array1::from_shape_fn(200, |i| (i % 2) as u8);
/// let patients: Vec<usize> = (0..200).map(|i| i / 4).collect();
/// let resampling = Resampling::by_group(&patients)?;
/// let ci = bootstrap_auroc(scores.view(), targets.view(), &resampling, &BootstrapOptions::default())?;
/// assert!(ci.low < ci.estimate && ci.estimate < ci.high);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
pub fn bootstrap_auroc<S: Score, L: Label>(
    scores: ArrayView1<'_, S>,
    targets: ArrayView1<'_, L>,
    resampling: &Resampling,
    options: &BootstrapOptions,
) -> Result<Interval> {
    let ranked = RankedScores::new(scores, targets)?;
    check_cases(resampling, ranked.len())?;
    if ranked.auroc().is_none() {
        return Err(ranked.one_class());
    }
    resampling.bootstrap(options, |weights| ranked.weighted_auroc(weights))
}

/// Bootstrap intervals of the AUROC of every label and of their mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelIntervals {
    /// By label; `None` for an absent one.
    pub labels: Vec<Option<Interval>>,
    /// Of the mean over the labels present. A draw that loses a label's positives or negatives gives
    /// no mean, so that every draw averages the same labels.
    pub mean: Option<Interval>,
    /// Labels without positives or negatives.
    pub absent: Vec<usize>,
}

/// AUROC of every label and their mean with bootstrap intervals, all on the same draws.
/// `scores` and `targets` are `(n, labels)`.
///
/// # Errors
/// As [`bootstrap_auroc`], but a label without positives or negatives is listed as absent.
pub fn bootstrap_multilabel_auroc<S: Score, L: Label>(
    scores: ArrayView2<'_, S>,
    targets: ArrayView2<'_, L>,
    resampling: &Resampling,
    options: &BootstrapOptions,
) -> Result<LabelIntervals> {
    let (scores, targets) = input::multilabel(scores, targets)?;
    check_cases(resampling, scores.nrows())?;
    let label =
        |(s, t): (ArrayView1<'_, f64>, ArrayView1<'_, bool>)| RankedScores::from_parts(&s.to_vec(), &t.to_vec());
    let ranked: Vec<_> = scores.axis_iter(Axis(1)).zip(targets.axis_iter(Axis(1))).map(label).collect::<Result<_>>()?;
    let present: Vec<bool> = ranked.iter().map(|r| r.auroc().is_some()).collect();
    let metrics = |weights: &[u32]| {
        let mut values: Vec<Option<f64>> = ranked.iter().map(|r| r.weighted_auroc(weights)).collect();
        let counted: Option<Vec<f64>> = values.iter().zip(&present).filter(|(_, p)| **p).map(|(v, _)| *v).collect();
        values.push(counted.and_then(|v| mean(v.into_iter())));
        values
    };
    let mut labels = resampling.bootstrap_many(options, metrics)?;
    let mean = labels.pop().flatten();
    let absent = present.iter().enumerate().filter(|(_, p)| !**p).map(|(i, _)| i).collect();
    Ok(LabelIntervals { labels, mean, absent })
}

pub(crate) fn check_cases(resampling: &Resampling, cases: usize) -> Result<()> {
    if resampling.cases() == cases {
        return Ok(());
    }
    Err(Error::Shape { what: "resampling", expected: vec![cases], got: vec![resampling.cases()] })
}
