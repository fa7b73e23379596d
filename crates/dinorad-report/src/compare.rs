//! Two runs beside each other, from their folders alone.

use std::fmt;

use dinorad_core::{Task, TaskKind};
use dinorad_metrics::BootstrapOptions;
use serde::Serialize;

use crate::{
    Difference, Error, Pairs, Result, RunFolder,
    folder::{PREDICTIONS, differences},
    mask_pairs::MaskPairs,
    pages::score_title,
};

/// How two runs compare on the test cases that both have judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunComparison {
    /// Name of the first run's folder.
    pub a: String,
    /// Name of the second's.
    pub b: String,
    /// Which cases are compared.
    pub cases: ComparedCases,
    /// Scores on the cases compared, and paired tests of their differences, first minus second.
    pub scores: Vec<ComparedScore>,
    /// What settings were chosen, where they differ, and how the descriptions differ.
    pub differences: Vec<Difference>,
}

/// Which cases two runs are compared on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ComparedCases {
    /// Judged by both, with the same truth.
    pub compared: usize,
    /// Their patients; `None` where the first run does not tell patients apart.
    pub patients: Option<usize>,
    /// Judged by the first alone.
    pub only_a: usize,
    /// Judged by the second alone.
    pub only_b: usize,
    /// Judged by both against different truths, left out.
    pub other_truth: usize,
    /// Judged by both without a truth, left out.
    pub no_truth: usize,
}

/// A score of both, and the tests of its difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedScore {
    /// `auroc`, `accuracy`, `case_dice`, `case_dice_class_1`, ….
    pub name: String,
    /// The class it is of alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Of the first, on the cases compared; `None` where undefined.
    pub a: Option<f64>,
    /// Of the second.
    pub b: Option<f64>,
    /// In the order of how far they can be relied on.
    pub tests: Vec<Test>,
}

impl ComparedScore {
    /// Its name for people.
    pub fn title(&self) -> String {
        match (&self.class, self.name.split_once("_class_")) {
            (Some(class), Some((name, _))) => format!("{}, {class}", score_title(name)),
            _ => score_title(&self.name),
        }
    }
}

/// One paired test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    /// `DeLong`, `paired bootstrap over patients`, `paired permutation of cases`.
    pub method: String,
    /// First minus second; by ranks within each model for the permutation of AUROCs.
    pub difference: f64,
    /// Its interval, for those that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Two-sided; `None` for a difference without a standard error.
    pub p_value: Option<f64>,
    /// Draws behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draws: Option<usize>,
}

/// Compares two runs by the predictions on test that lie in their folders.
///
/// # Errors
/// [`Error::NotComparable`] for runs without predictions, of different tasks, or without a test case in
/// common; [`Error::File`], [`Error::Damaged`], [`Error::Metrics`].
pub fn compare_runs(a: &RunFolder, b: &RunFolder, draws: &BootstrapOptions) -> Result<RunComparison> {
    let fail = |why: String| Error::NotComparable { a: a.path().to_owned(), b: b.path().to_owned(), why };
    let task = same_task(a, b).map_err(fail)?;
    let mut different = settings(a, b);
    different.extend(differences(a.config(), b.config()));
    if task.kind == TaskKind::Segmentation {
        return compare_masks((a, b), task, draws, different);
    }
    let of = |run: &RunFolder| {
        run.predictions(PREDICTIONS)?.ok_or_else(|| fail(format!("{} has no predictions", run.path().display())))
    };
    let (of_a, of_b) = (of(a)?, of(b)?);
    let pairs = pairs(a, &of_a, &of_b, task)?.ok_or_else(|| {
        let (n, m) = (of_a.ids.len(), of_b.ids.len());
        fail(format!("of {n} and {m} test cases none is judged by both against the same truth"))
    })?;
    let [(auroc_a, accuracy_a), (auroc_b, accuracy_b)] = pairs.scores()?;
    let unit = pairs.unit();
    let from = |c: crate::Comparison, draws: Option<usize>| Test {
        method: c.method,
        difference: c.difference,
        interval: c.ci95,
        p_value: c.p_value,
        draws,
    };
    let swapped = |t: dinorad_metrics::PermutationTest| Test {
        method: format!("paired permutation of {unit}"),
        difference: t.difference,
        interval: None,
        p_value: Some(t.p_value),
        draws: Some(t.draws),
    };
    let n = Some(draws.draws);
    let auroc = [
        pairs.delong(draws.level)?.map(|c| from(c, None)),
        pairs.auroc_bootstrap(draws)?.map(|c| from(c, n)),
        pairs.auroc_permutation(draws.draws, draws.seed)?.map(swapped),
    ];
    let accuracy = [
        pairs.accuracy_bootstrap(draws)?.map(|c| from(c, n)),
        pairs.accuracy_permutation(draws.draws, draws.seed)?.map(swapped),
    ];
    Ok(RunComparison {
        a: a.name(),
        b: b.name(),
        cases: ComparedCases {
            compared: pairs.cases(),
            patients: (unit == "patients").then_some(pairs.groups()),
            only_a: pairs.only_a,
            only_b: pairs.only_b,
            other_truth: pairs.other_truth,
            no_truth: pairs.no_truth,
        },
        scores: vec![
            ComparedScore {
                name: "auroc".into(),
                class: None,
                a: auroc_a,
                b: auroc_b,
                tests: auroc.into_iter().flatten().collect(),
            },
            ComparedScore {
                name: "accuracy".into(),
                class: None,
                a: accuracy_a,
                b: accuracy_b,
                tests: accuracy.into_iter().flatten().collect(),
            },
        ],
        differences: different,
    })
}

/// Two runs that draw masks, by the Dice of their test cases.
fn compare_masks(
    (a, b): (&RunFolder, &RunFolder),
    task: &Task,
    draws: &BootstrapOptions,
    differences: Vec<Difference>,
) -> Result<RunComparison> {
    let pairs = MaskPairs::new(a, b, task)?.ok_or_else(|| Error::NotComparable {
        a: a.path().to_owned(),
        b: b.path().to_owned(),
        why: "they have no test case in common whose mask both have drawn and judged by itself".into(),
    })?;
    let unit = pairs.unit();
    let scores = pairs.tests(draws)?.into_iter().map(|test| {
        let n = Some(draws.draws);
        let bootstrap = test.bootstrap.map(|found| Test {
            method: format!("paired bootstrap over {unit}"),
            difference: found.difference,
            interval: found.interval,
            p_value: found.p_value,
            draws: n,
        });
        let swapped = Test {
            method: format!("paired permutation of {unit}"),
            difference: test.permutation.difference,
            interval: None,
            p_value: Some(test.permutation.p_value),
            draws: Some(test.permutation.draws),
        };
        let class = test.name.rsplit_once("_class_").and_then(|(_, class)| class.parse::<usize>().ok());
        ComparedScore {
            class: class.and_then(|class| task.class_names.get(class).cloned()),
            name: test.name,
            a: Some(test.a),
            b: Some(test.b),
            tests: bootstrap.into_iter().chain([swapped]).collect(),
        }
    });
    let scores = scores.collect();
    Ok(RunComparison {
        a: a.name(),
        b: b.name(),
        cases: ComparedCases {
            compared: pairs.cases,
            patients: pairs.of_patients.then_some(pairs.patients),
            only_a: pairs.only_a,
            only_b: pairs.only_b,
            other_truth: pairs.other_truth,
            no_truth: 0,
        },
        scores,
        differences,
    })
}

/// The test cases of two runs in pairs; patients as the first run knows them.
pub(crate) fn pairs(
    a: &RunFolder,
    of_a: &crate::Predictions,
    of_b: &crate::Predictions,
    task: &Task,
) -> Result<Option<Pairs>> {
    let cases = a.cases()?;
    let patients = cases.as_ref().and_then(|cases| cases.patients("test"));
    Pairs::new(of_a, of_b, task, |id| patients.as_ref()?.get(id).copied())
}

/// The task that both runs answer: the same kind with the same classes in the same order.
pub(crate) fn same_task<'a>(a: &'a RunFolder, b: &RunFolder) -> std::result::Result<&'a Task, String> {
    let task = |run: &'a RunFolder| run.metrics().and_then(|m| m.task.as_ref());
    let of_b = b.metrics().and_then(|m| m.task.as_ref());
    let (Some(of_a), Some(of_b)) = (task(a), of_b) else { return Err("a run without a task has no answers".into()) };
    if of_a.kind != of_b.kind {
        return Err(format!("one is {}, the other {}", kind(of_a), kind(of_b)));
    }
    if of_a.class_names != of_b.class_names {
        let names = |task: &Task| task.class_names.join(", ");
        return Err(format!("their classes differ: {} and {}", names(of_a), names(of_b)));
    }
    Ok(of_a)
}

fn kind(task: &Task) -> String {
    format!("{:?}", task.kind).to_lowercase()
}

/// The settings that were chosen, where they differ.
fn settings(a: &RunFolder, b: &RunFolder) -> Vec<Difference> {
    let (Some(a), Some(b)) = (a.metrics(), b.metrics()) else { return Vec::new() };
    let mut names: Vec<&String> = a.setting.keys().chain(b.setting.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differs = |name: &&String| a.setting.get(*name) != b.setting.get(*name);
    let text = |value: Option<&serde_json::Value>| value.map(ToString::to_string);
    names
        .into_iter()
        .filter(differs)
        .map(|name| Difference {
            key: format!("chosen {name}"),
            a: text(a.setting.get(name)),
            b: text(b.setting.get(name)),
        })
        .collect()
}

impl fmt::Display for ComparedCases {
    /// `586 cases of 512 patients compared; 38 only in the first, 0 only in the second`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases", self.compared)?;
        if let Some(patients) = self.patients {
            write!(f, " of {patients} patients")?;
        }
        write!(f, " compared; {} only in the first, {} only in the second", self.only_a, self.only_b)?;
        if self.other_truth > 0 {
            write!(f, "; {} left out whose truths differ", self.other_truth)?;
        }
        if self.no_truth > 0 {
            write!(f, "; {} left out without a truth", self.no_truth)?;
        }
        Ok(())
    }
}
