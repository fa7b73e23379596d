//! Two runs that draw masks, on the same cases: paired tests of their Dice.

use dinorad_core::Task;
use dinorad_metrics::{
    BootstrapOptions, PermutationTest, Resampling, ScoreComparison, bootstrap_mean_difference, paired_permutation_mean,
};
use ndarray::ArrayView1;

use crate::{MaskScore, Result, RunFolder};

/// The Dice of cases that both runs have drawn, side by side.
#[derive(Debug, Clone)]
pub(crate) struct MaskPairs {
    /// Mean foreground Dice, then that of every class; where the truth has none of a class and one run says so, that
    /// one is right: 1.
    columns: Vec<Column>,
    /// Whether cases of one patient are known and drawn together.
    pub(crate) of_patients: bool,
    /// Cases that are compared.
    pub(crate) cases: usize,
    /// Their patients.
    pub(crate) patients: usize,
    pub(crate) only_a: usize,
    pub(crate) only_b: usize,
    /// Cases of both whose truths differ, left out.
    pub(crate) other_truth: usize,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    a: Vec<f64>,
    b: Vec<f64>,
    resampling: Resampling,
}

/// Mean Dice of the classes that either mask has.
fn mean(classes: &[MaskScore]) -> Option<f64> {
    let known: Vec<f64> = classes.iter().filter_map(|class| class.dice).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// Whether two runs have judged a case against the same truth.
fn same_truth(a: &[MaskScore], b: &[MaskScore]) -> bool {
    let close = |(a, b): (&MaskScore, &MaskScore)| (a.truth - b.truth).abs() <= 1e-6 * a.truth.abs().max(b.truth.abs());
    a.len() == b.len() && a.iter().zip(b).all(close)
}

impl MaskPairs {
    /// Pairs the cases of two runs by id, patients as the first knows them; `None` where a run has no masks, or no
    /// case is shared.
    pub(crate) fn new(a: &RunFolder, b: &RunFolder, task: &Task) -> Result<Option<Self>> {
        let (Some(of_a), Some(of_b)) = (a.dice_of_cases()?, b.dice_of_cases()?) else { return Ok(None) };
        let cases = a.cases()?;
        let patients = cases.as_ref().and_then(|cases| cases.patients("test"));
        let (shared, other): (Vec<&String>, Vec<&String>) =
            of_a.keys().filter(|id| of_b.contains_key(*id)).partition(|id| same_truth(&of_a[*id], &of_b[*id]));
        if shared.is_empty() {
            return Ok(None);
        }
        let groups: Option<Vec<usize>> = shared.iter().map(|id| patients.as_ref()?.get(id.as_str()).copied()).collect();
        let of_patients = groups.is_some();
        let groups = groups.unwrap_or_else(|| (0..shared.len()).collect());
        let mut columns = Vec::new();
        for class in 0..task.n_classes() {
            let dice = |of: &[MaskScore]| if class == 0 { mean(of) } else { of.get(class - 1).and_then(|of| of.dice) };
            let (mut values, mut keys) = ((Vec::new(), Vec::new()), Vec::new());
            for (id, group) in shared.iter().zip(&groups) {
                let (x, y) = match (dice(&of_a[*id]), dice(&of_b[*id])) {
                    (Some(x), Some(y)) => (x, y),
                    // the truth is without it: one run says so, the other made some up
                    (Some(x), None) => (x, 1.0),
                    (None, Some(y)) => (1.0, y),
                    (None, None) => continue,
                };
                values.0.push(x);
                values.1.push(y);
                keys.push(*group);
            }
            if keys.is_empty() {
                continue;
            }
            let name = if class == 0 { "case_dice".to_owned() } else { format!("case_dice_class_{class}") };
            let (a, b) = values;
            columns.push(Column { name, a, b, resampling: Resampling::by_group(&keys)? });
        }
        let patients = groups.iter().collect::<std::collections::BTreeSet<_>>().len();
        let both = shared.len() + other.len();
        Ok(Some(Self {
            columns,
            of_patients,
            cases: shared.len(),
            patients,
            only_a: of_a.len() - both,
            only_b: of_b.len() - both,
            other_truth: other.len(),
        }))
    }

    /// What is drawn: `patients` or `cases`.
    pub(crate) fn unit(&self) -> &'static str {
        if self.of_patients { "patients" } else { "cases" }
    }

    /// Every score with its means and tests: the bootstrap of the mean difference, and swapping cases.
    pub(crate) fn tests(&self, draws: &BootstrapOptions) -> Result<Vec<MaskTest>> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let test = |column: &Column| -> Result<MaskTest> {
            let apart: Vec<f64> = column.a.iter().zip(&column.b).map(|(a, b)| a - b).collect();
            let (a, b) = (ArrayView1::from(&column.a), ArrayView1::from(&column.b));
            Ok(MaskTest {
                name: column.name.clone(),
                a: mean(&column.a),
                b: mean(&column.b),
                bootstrap: bootstrap_mean_difference(&apart, &column.resampling, draws)?,
                permutation: paired_permutation_mean(a, b, &column.resampling, draws.draws, draws.seed)?,
            })
        };
        self.columns.iter().map(test).collect()
    }
}

/// A score of both and how it differs, first minus second.
pub(crate) struct MaskTest {
    pub(crate) name: String,
    pub(crate) a: f64,
    pub(crate) b: f64,
    pub(crate) bootstrap: Option<ScoreComparison>,
    pub(crate) permutation: PermutationTest,
}
