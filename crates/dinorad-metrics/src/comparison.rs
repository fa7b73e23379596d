//! Two runs on the same cases: is the difference of their AUROCs more than chance?

use serde::{Deserialize, Serialize};

use crate::{
    BootstrapOptions, Error, Resampling, Result, RunScore, TaskScores, bootstrap::check_cases, delong::delong_of,
};

/// How two runs were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonMethod {
    /// DeLong's test: one curve, independent cases.
    DeLong,
    /// The bootstrap of the difference, both runs on the same draws.
    PairedBootstrap,
}

/// The difference of two scores on the same cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreComparison {
    /// First minus second.
    pub difference: f64,
    /// Its interval; `None` for a difference without a standard error.
    pub interval: Option<[f64; 2]>,
    /// Two-sided probability of such a difference if the runs were equal; `None` for a difference
    /// without a standard error.
    pub p_value: Option<f64>,
    /// How it was found.
    pub method: ComparisonMethod,
}

/// Compares the AUROCs of two runs on the same cases: DeLong's test for a single curve of
/// independent cases, else the bootstrap of the difference over the same draws. `None` where the
/// AUROC of either is undefined.
///
/// The bootstrap's p-value is twice the smaller share of draws on either side of 0, each side with
/// one draw more than seen: `2 min(1 + #{d <= 0}, 1 + #{d >= 0}) / (1 + draws)`, at most 1.
///
/// # Errors
/// [`Error::Shape`] for runs or a resampling of another number of cases or classes, or runs whose
/// truths differ; [`Error::Parameter`] for options out of range.
///
/// # Examples
/// ```
/// use dinorad_metrics::{BootstrapOptions, ComparisonMethod, Resampling, TaskScores, compare_auroc};
/// use ndarray::{Array1, Array2};
/// let truth = Array1::from_shape_fn(60, |i| i % 2);
/// let run = |signal: usize| {
///     let p1 = |i: usize| ((i * 37) % 61 + signal * (i % 2)) as f64 / 122.0;
///     let p = Array2::from_shape_fn((60, 2), |(i, c)| if c == 1 { p1(i) } else { 1.0 - p1(i) });
///     TaskScores::of_classes(p.view(), truth.view())
/// };
/// let options = BootstrapOptions::default();
/// let cases = Resampling::by_case(60)?;
/// let found = compare_auroc(&run(50)?, &run(0)?, &cases, &options)?.unwrap();
/// assert!(found.difference > 0.2 && found.p_value.is_some_and(|p| p < 0.05));
/// assert_eq!(found.method, ComparisonMethod::DeLong);
/// // pairs of cases belong to one patient: they are drawn together
/// let patients: Vec<usize> = (0..60).map(|i| i / 2).collect();
/// let found = compare_auroc(&run(50)?, &run(0)?, &Resampling::by_group(&patients)?, &options)?.unwrap();
/// assert_eq!(found.method, ComparisonMethod::PairedBootstrap);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// DeLong et al. 1988, <https://doi.org/10.2307/2531595>; Efron and Tibshirani 1993, *An Introduction
/// to the Bootstrap*, chapter 15; `+ 1` as in Phipson and Smyth 2010,
/// <https://doi.org/10.2202/1544-6115.1585>.
pub fn compare_auroc(
    a: &TaskScores,
    b: &TaskScores,
    resampling: &Resampling,
    options: &BootstrapOptions,
) -> Result<Option<ScoreComparison>> {
    match delong_auroc(a, b, resampling, options.level)? {
        Some(test) => Ok(Some(test)),
        None => bootstrap_difference(RunScore::Auroc, a, b, resampling, options),
    }
}

fn check(a: &TaskScores, b: &TaskScores, resampling: &Resampling) -> Result<()> {
    check_cases(resampling, a.cases())?;
    if !a.same_truth(b) {
        let (expected, got) = (vec![a.cases(), a.positives().len()], vec![b.cases(), b.positives().len()]);
        return Err(Error::Shape { what: "truth of the second run", expected, got });
    }
    Ok(())
}

/// DeLong's test of two AUROCs; `None` unless there is a single curve, of cases that are independent of
/// each other, with cases of both classes.
///
/// # Errors
/// As [`compare_auroc`].
pub fn delong_auroc(
    a: &TaskScores,
    b: &TaskScores,
    resampling: &Resampling,
    level: f64,
) -> Result<Option<ScoreComparison>> {
    check(a, b, resampling)?;
    let independent = resampling.groups() == resampling.cases();
    let (Some((of_a, truth)), Some((of_b, _)), true) = (a.only_curve(), b.only_curve(), independent) else {
        return Ok(None);
    };
    match delong_of(of_a, of_b, truth, level) {
        Ok(test) => Ok(Some(ScoreComparison {
            difference: test.difference,
            interval: test.p_value.map(|_| [test.low, test.high]),
            p_value: test.p_value,
            method: ComparisonMethod::DeLong,
        })),
        Err(Error::OneClass { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The bootstrap of the difference of a score, both runs on the same draws; `None` where it is undefined.
/// Its p-value is that of [`compare_auroc`].
///
/// # Errors
/// As [`compare_auroc`].
pub fn bootstrap_difference(
    score: RunScore,
    a: &TaskScores,
    b: &TaskScores,
    resampling: &Resampling,
    options: &BootstrapOptions,
) -> Result<Option<ScoreComparison>> {
    check(a, b, resampling)?;
    let difference = |weights: &[u32]| Some(a.weighted_value(score, weights)? - b.weighted_value(score, weights)?);
    bootstrapped(resampling, options, difference)
}

/// The bootstrap of the mean of paired differences, such as those of two models' Dice case by case; `None` without a
/// case. Its p-value is that of [`compare_auroc`].
///
/// # Errors
/// [`Error::Shape`] for a resampling of another number of cases, [`Error::NaN`] naming a case whose difference is no
/// number; [`Error::Parameter`] for options out of range.
///
/// # Examples
/// ```
/// use dinorad_metrics::{BootstrapOptions, Resampling, bootstrap_mean_difference};
/// let apart: Vec<f64> = (0..40).map(|i| 0.01 + 0.001 * f64::from(i % 5)).collect();
/// let test = bootstrap_mean_difference(&apart, &Resampling::by_case(40)?, &BootstrapOptions::default())?.unwrap();
/// assert!((test.difference - 0.012).abs() < 1e-12 && test.p_value.is_some_and(|p| p < 0.01));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
pub fn bootstrap_mean_difference(
    apart: &[f64],
    resampling: &Resampling,
    options: &BootstrapOptions,
) -> Result<Option<ScoreComparison>> {
    check_cases(resampling, apart.len())?;
    if let Some(case) = apart.iter().position(|d| d.is_nan()) {
        return Err(Error::NaN { case, column: 0 });
    }
    bootstrapped(resampling, options, |weights: &[u32]| {
        let (sum, n) = apart.iter().zip(weights).fold((0.0, 0.0), |(sum, n), (d, w)| {
            let w = f64::from(*w);
            (sum + d * w, n + w)
        });
        (n > 0.0).then(|| sum / n)
    })
}

fn bootstrapped(
    resampling: &Resampling,
    options: &BootstrapOptions,
    difference: impl Fn(&[u32]) -> Option<f64> + Sync,
) -> Result<Option<ScoreComparison>> {
    let found = resampling.bootstrap_with_draws(options, |weights| vec![difference(weights)])?;
    let Some((interval, draws)) = found.into_iter().next().and_then(|(i, draws)| Some((i?, draws))) else {
        return Ok(None);
    };
    let share =
        |side: fn(&f64) -> bool| (1 + draws.iter().filter(|d| side(d)).count()) as f64 / (1 + draws.len()) as f64;
    let p_value = (2.0 * share(|d| *d <= 0.0).min(share(|d| *d >= 0.0))).min(1.0);
    // draws that all differ by the same say nothing about chance
    let known = interval.estimate == 0.0 || interval.standard_error > 0.0;
    Ok(Some(ScoreComparison {
        difference: interval.estimate,
        interval: known.then_some([interval.low, interval.high]),
        p_value: known.then_some(p_value),
        method: ComparisonMethod::PairedBootstrap,
    }))
}
