//! Paired permutation tests: are two models exchangeable on the same cases?

use dinorad_core::rng;
use ndarray::ArrayView1;
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Label, RankedScores, Resampling, Result, Score, bootstrap::check_cases, error::parameter, input};

/// What a permutation test found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PermutationTest {
    /// First model minus second.
    pub difference: f64,
    /// Two-sided: `(1 + draws at least as far apart) / (1 + draws)`, never 0.
    pub p_value: f64,
    /// Draws that gave a difference.
    pub draws: usize,
    /// Draws that gave none, left out.
    pub undefined: usize,
}

/// Tests a difference of two models by swapping their predictions group by group.
///
/// `difference` gets one flag per case, true where the two models' predictions are to be swapped,
/// and returns first minus second, or `None` if it is undefined. All cases of a group of
/// `resampling` swap together, each group with probability one half. The result does not depend on
/// the number of threads.
///
/// # Errors
/// [`Error::Parameter`] for no draws, [`Error::Empty`] if the difference is undefined without
/// swapping.
///
/// # Source
/// Good 2005, *Permutation, Parametric and Bootstrap Tests of Hypotheses*; `+ 1` as in Phipson and
/// Smyth 2010, <https://doi.org/10.2202/1544-6115.1585>.
pub fn paired_permutation<F>(resampling: &Resampling, draws: usize, seed: u64, difference: F) -> Result<PermutationTest>
where
    F: Fn(&[bool]) -> Option<f64> + Sync,
{
    if draws == 0 {
        return Err(parameter("draws", draws, "1 or more"));
    }
    let observed = difference(&vec![false; resampling.cases()]).ok_or(Error::Empty { what: "difference" })?;
    let drawn: Vec<Option<f64>> = (0..draws as u64)
        .into_par_iter()
        .map(|draw| {
            let mut stream = rng::stream(seed, 1, draw);
            let swapped: Vec<bool> = (0..resampling.groups()).map(|_| stream.random()).collect();
            let cases: Vec<bool> = resampling.group_of_case().iter().map(|g| swapped[*g as usize]).collect();
            difference(&cases)
        })
        .collect();
    let defined = drawn.iter().flatten().count();
    // sums in another order may differ in the last digits: those count as equal
    let far = observed.abs() * (1.0 - 1e-12);
    let extreme = drawn.iter().flatten().filter(|d| d.abs() >= far).count();
    Ok(PermutationTest {
        difference: observed,
        p_value: (1 + extreme) as f64 / (1 + defined) as f64,
        draws: defined,
        undefined: draws - defined,
    })
}

/// Tests the mean difference of two per-case values, such as the Dice of two models.
///
/// # Errors
/// [`Error::Shape`] for different lengths, [`Error::NaN`] for a value that is not a number, and
/// those of [`paired_permutation`].
///
/// # Examples
/// ```
/// use dinorad_metrics::{Resampling, paired_permutation_mean};
/// use ndarray::Array1;
/// let a = Array1::from_shape_fn(30, |i| 0.8 + 0.001 * (i % 7) as f64);
/// let b = &a - 0.05;
/// let test = paired_permutation_mean(a.view(), b.view(), &Resampling::by_case(30)?, 999, 0)?;
/// assert!(test.p_value < 0.01);
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
pub fn paired_permutation_mean<A: Score, B: Score>(
    a: ArrayView1<'_, A>,
    b: ArrayView1<'_, B>,
    resampling: &Resampling,
    draws: usize,
    seed: u64,
) -> Result<PermutationTest> {
    if a.len() != b.len() {
        return Err(Error::Shape { what: "values", expected: vec![a.len()], got: vec![b.len()] });
    }
    check_cases(resampling, a.len())?;
    let apart: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (*a).into() - (*b).into()).collect();
    if let Some(case) = apart.iter().position(|d| d.is_nan()) {
        return Err(Error::NaN { case, column: 0 });
    }
    let n = apart.len() as f64;
    paired_permutation(resampling, draws, seed, |swap| {
        Some(apart.iter().zip(swap).map(|(d, s)| if *s { -d } else { *d }).sum::<f64>() / n)
    })
}

/// Tests the difference of two models' AUROCs by swapping their scores.
///
/// Swapping needs scores on one scale: pass calibrated probabilities, or the ranks of the scores
/// within each model. Both models' scores are sorted together once; a draw is one pass over them.
///
/// # Errors
/// Those of [`auroc`](crate::auroc) and [`paired_permutation`].
///
/// # Source
/// Venkatraman and Begg 1996, <https://doi.org/10.1093/biomet/83.4.835>, in its simple form on the
/// area.
pub fn paired_permutation_auroc<A: Score, B: Score, L: Label>(
    scores_a: ArrayView1<'_, A>,
    scores_b: ArrayView1<'_, B>,
    targets: ArrayView1<'_, L>,
    resampling: &Resampling,
    draws: usize,
    seed: u64,
) -> Result<PermutationTest> {
    let (a, positive) = input::binary(scores_a, targets)?;
    let (b, _) = input::binary(scores_b, targets)?;
    check_cases(resampling, a.len())?;
    let n = a.len();
    let (both, twice) = ([a, b].concat(), [positive.clone(), positive].concat());
    let pooled = RankedScores::from_parts(&both, &twice)?;
    if pooled.auroc().is_none() {
        let (positives, negatives) = (pooled.positives() / 2, pooled.negatives() / 2);
        return Err(Error::OneClass { positives, negatives, needed: 1 });
    }
    paired_permutation(resampling, draws, seed, |swap| {
        // a model's scores are those of the pool that have weight one
        let mut first = vec![0u32; 2 * n];
        for (i, s) in swap.iter().enumerate() {
            first[if *s { n + i } else { i }] = 1;
        }
        let second: Vec<u32> = first.iter().map(|w| 1 - w).collect();
        Some(pooled.weighted_auroc(&first)? - pooled.weighted_auroc(&second)?)
    })
}
