//! Two models on the same cases.

use std::collections::BTreeMap;

use dinorad_core::Task;
use dinorad_datasets::PatientKey;
use dinorad_metrics::BootstrapOptions;
use dinorad_report::{Comparison, Pairs};

use super::Evaluation;
use crate::Result;

/// Compares two judgements by AUROC: DeLong's test for a single curve of independent cases, else the
/// bootstrap of the difference over the same draws, of patients where they are known. `None` where
/// the AUROC of either is undefined.
///
/// # Errors
/// [`Error::Report`](crate::Error::Report).
pub fn compare(a: &Evaluation, b: &Evaluation, task: &Task, draws: &BootstrapOptions) -> Result<Option<Comparison>> {
    let mut numbers: BTreeMap<&PatientKey, usize> = BTreeMap::new();
    let mut patients: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, patient) in a.predictions.ids.iter().zip(&a.patients) {
        let Some(patient) = patient else { continue };
        let next = numbers.len();
        patients.insert(id, *numbers.entry(patient).or_insert(next));
    }
    let pairs = Pairs::new(&a.predictions, &b.predictions, task, |id| patients.get(id).copied())?;
    Ok(pairs.map(|pairs| pairs.auroc(draws)).transpose()?.flatten())
}
