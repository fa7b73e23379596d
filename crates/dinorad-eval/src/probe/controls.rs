//! What a score is worth: the same head on labels that mean nothing.

use dinorad_core::{Target, Task, rng};
use rand::seq::SliceRandom;

use super::{Context, Labelled, Method, ProbeOptions, Splits, Tested, quick};
use crate::Result;

/// The whole protocol with the labels of train and validation shuffled among their cases, once for
/// every seed; the test split keeps its own. A head that has nothing to learn scores as chance does.
///
/// # Errors
/// As [`probe`](super::probe).
pub fn shuffled_labels(
    method: &dyn Method,
    splits: &Splits<'_>,
    task: &Task,
    options: &ProbeOptions,
    seeds: &[u64],
    context: &Context<'_>,
) -> Result<Vec<Tested>> {
    let shuffle = |cases: &Labelled, seed: u64, name: &str| -> Result<Labelled> {
        let mut targets: Vec<Target> = cases.targets.clone();
        targets.shuffle(&mut rng::named(seed, &format!("shuffled labels {name}")));
        cases.with_targets(targets)
    };
    let mut out = Vec::with_capacity(seeds.len());
    for &seed in seeds {
        let train = shuffle(splits.train, seed, "train")?;
        let val = splits.val.map(|val| shuffle(val, seed, "val")).transpose()?;
        let splits = Splits { train: &train, val: val.as_ref(), test: splits.test };
        out.push(quick(method, &splits, task, options, context)?);
    }
    Ok(out)
}
