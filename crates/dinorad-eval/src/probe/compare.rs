//! Two models on the same cases.

use std::collections::BTreeMap;

use dinorad_core::Task;
use dinorad_datasets::PatientKey;
use dinorad_heads::Targets;
use dinorad_metrics::{BootstrapOptions, ComparisonMethod, Resampling, compare_auroc};
use dinorad_report::Comparison;
use ndarray::Axis;

use super::{Judged, judged::scores_of};
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
    let truth = Targets::from_samples(&targets, task.n_classes())?;
    let scores = |judged: &Judged, rows: &[usize]| {
        scores_of(&truth, judged.predictions.probabilities.select(Axis(0), rows).view())
    };
    let (scores_a, scores_b) = (scores(a, &of_a)?, scores(b, &of_b)?);
    let patients: Option<Vec<&PatientKey>> = of_a.iter().map(|i| a.patients[*i].as_ref()).collect();
    let resampling = match &patients {
        Some(patients) => Resampling::by_group(patients)?,
        None => Resampling::by_case(pairs.len())?,
    };
    let Some(found) = compare_auroc(&scores_a, &scores_b, &resampling, draws)? else { return Ok(None) };
    let unit = if patients.is_some() { "patients" } else { "cases" };
    Ok(Some(Comparison {
        difference: found.difference,
        ci95: found.interval,
        p_value: found.p_value,
        method: match found.method {
            ComparisonMethod::DeLong => "DeLong".into(),
            ComparisonMethod::PairedBootstrap => format!("paired bootstrap over {unit}"),
        },
        cases: pairs.len(),
    }))
}
