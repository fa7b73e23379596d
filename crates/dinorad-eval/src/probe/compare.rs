//! Two models on the same cases.

use std::collections::BTreeMap;

use dinorad_core::Task;
use dinorad_heads::Targets;
use dinorad_metrics::{BootstrapOptions, RankedScores, Resampling, delong_paired};
use dinorad_report::Comparison;
use ndarray::{Array2, Axis};
use rayon::prelude::*;

use super::Judged;
use crate::Result;

/// Compares two judgements by AUROC: DeLong's test for a single curve of independent cases, else the
/// bootstrap of the difference over the same draws, of patients where they are known. `None` where
/// the AUROC of either is undefined.
///
/// # Errors
/// [`Error::Metrics`](crate::Error::Metrics).
pub fn compare(a: &Judged, b: &Judged, task: &Task, draws: &BootstrapOptions) -> Result<Option<Comparison>> {
    let places: BTreeMap<&str, usize> = b.predictions.ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let pairs: Vec<(usize, usize)> = a
        .predictions
        .ids
        .iter()
        .enumerate()
        .filter_map(|(i, id)| Some((i, *places.get(id.as_str())?)))
        .filter(|(i, j)| a.predictions.targets[*i] == b.predictions.targets[*j])
        .collect();
    if pairs.is_empty() {
        return Ok(None);
    }
    let (of_a, of_b): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
    let targets: Vec<_> = of_a.iter().map(|i| a.predictions.targets[*i].clone()).collect();
    let p_a = a.predictions.probabilities.select(Axis(0), &of_a);
    let p_b = b.predictions.probabilities.select(Axis(0), &of_b);
    let (truth, columns): (Array2<u8>, Vec<usize>) = match Targets::from_samples(&targets, task.n_classes())? {
        Targets::Classes { labels, n_classes: 2 } => {
            (Array2::from_shape_fn((labels.len(), 1), |(i, _)| u8::from(labels[i] == 1)), vec![1])
        }
        Targets::Classes { labels, n_classes } => {
            let one_hot = |(i, c): (usize, usize)| u8::from(labels[i] as usize == c);
            (Array2::from_shape_fn((labels.len(), n_classes), one_hot), (0..n_classes).collect())
        }
        Targets::Findings(labels) => {
            let n = labels.ncols();
            (labels, (0..n).collect())
        }
    };
    let patients: Option<Vec<&String>> = of_a.iter().map(|i| a.patients[*i].as_ref()).collect();
    let resampling = match &patients {
        Some(patients) => Resampling::by_group(patients)?,
        None => Resampling::by_case(pairs.len())?,
    };
    let independent = resampling.groups() == resampling.cases();
    if columns.len() == 1 && independent {
        return match delong_paired(p_a.column(columns[0]), p_b.column(columns[0]), truth.column(0), draws.level) {
            Ok(test) => Ok(Some(Comparison {
                difference: test.difference,
                ci95: [test.low, test.high],
                p_value: test.p_value,
                method: "DeLong".into(),
                cases: pairs.len(),
            })),
            Err(dinorad_metrics::Error::OneClass { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        };
    }
    let ranked = |p: &Array2<f32>| -> Result<Vec<RankedScores>> {
        let mut out = Vec::new();
        for (at, &c) in columns.iter().enumerate() {
            let ranked = RankedScores::new(p.column(c), truth.column(at))?;
            if ranked.auroc().is_some() {
                out.push(ranked);
            }
        }
        Ok(out)
    };
    let (ranked_a, ranked_b) = (ranked(&p_a)?, ranked(&p_b)?);
    let mean = |ranked: &[RankedScores], weights: &[u32]| -> Option<f64> {
        let values: Option<Vec<f64>> = ranked.iter().map(|r| r.weighted_auroc(weights)).collect();
        values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / v.len() as f64)
    };
    let difference = |weights: &[u32]| Some(mean(&ranked_a, weights)? - mean(&ranked_b, weights)?);
    let interval = match resampling.bootstrap(draws, difference) {
        Ok(interval) => interval,
        Err(dinorad_metrics::Error::Empty { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let signs: Vec<f64> = (0..draws.draws as u64)
        .into_par_iter()
        .filter_map(|d| difference(&resampling.weights(draws.seed, d)))
        .collect();
    let share = |f: fn(&f64) -> bool| (1 + signs.iter().filter(|d| f(d)).count()) as f64 / (1 + signs.len()) as f64;
    let p_value = (2.0 * share(|d| *d <= 0.0).min(share(|d| *d >= 0.0))).min(1.0);
    let unit = if patients.is_some() { "patients" } else { "cases" };
    Ok(Some(Comparison {
        difference: interval.estimate,
        ci95: [interval.low, interval.high],
        p_value,
        method: format!("paired bootstrap over {unit}"),
        cases: pairs.len(),
    }))
}
