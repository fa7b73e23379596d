//! What stands beside a run of masks: the same with few labels, and where there is nothing to learn.

use std::{collections::BTreeMap, fs, ops::Range, path::Path};

use dinorad_core::{Task, in_full, method::Context, rng};
use dinorad_metrics::BootstrapOptions;
use dinorad_report::{CurvePoint, MetricValue, Metrics};
use rand::{Rng, seq::SliceRandom};

use super::{
    Subsets,
    runner::{Ready, Runner},
    scans::eyes,
};
use crate::{
    Error, Result,
    segment::{SegmentParts, segment},
    segmenting::{Scans, SegmentMethod},
};

/// The score of a trial: mean over volumes of their mean foreground Dice.
pub(super) const SCORE: &str = "dice_by_volume";

/// Scores over numbers of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct FewLabels {
    /// `volumes` or `patches`.
    pub name: &'static str,
    /// What is counted, for people.
    pub unit: String,
    /// How labels were drawn.
    pub note: String,
    /// One for each number.
    pub points: Vec<CurvePoint>,
}

/// Trainings beside that of a run of masks, judged on the same test part.
#[derive(Debug, Clone, Default)]
pub struct MaskTrials {
    /// With few labels.
    pub few: Vec<FewLabels>,
    /// Dice where every scan learned the mask of another one, by seed.
    pub shuffled: Vec<Option<f64>>,
    /// Dice on an encoder of the same shape with random weights, or why there is none.
    pub untrained: Option<std::result::Result<Option<f64>, String>>,
}

impl MaskTrials {
    /// Puts the numbers among those of the run.
    pub(super) fn write_into(&self, metrics: &mut Metrics) {
        for of in &self.few {
            metrics.curves.insert(of.name.to_owned(), of.points.clone());
            metrics.notices.push(of.note.clone());
        }
        let values: Vec<f64> = self.shuffled.iter().map(|dice| dice.unwrap_or(f64::NAN)).collect();
        if !values.is_empty() {
            metrics.set("test_shuffled_labels", SCORE, MetricValue::over_runs(&values));
        }
        match &self.untrained {
            None => {}
            Some(Ok(dice)) => {
                metrics.set("test_untrained_encoder", SCORE, MetricValue::single(dice.unwrap_or(f64::NAN)));
            }
            Some(Err(why)) => metrics.notices.push(format!("no untrained encoder of the same shape: {why}")),
        }
    }
}

/// What trials are made of.
pub(super) struct Trials<'a> {
    pub(super) runner: &'a Runner<'a>,
    pub(super) ready: &'a Ready,
    /// With the setting that was chosen alone, for as many steps as the run made.
    pub(super) method: SegmentMethod,
    /// What the run learned from.
    pub(super) pool: &'a Scans,
    pub(super) test: &'a Scans,
    pub(super) task: &'a Task,
    pub(super) draws: BootstrapOptions,
    /// Where trainings are kept while they go on, and what ended trials scored.
    pub(super) checkpoints: &'a Path,
}

impl Trials<'_> {
    /// All that the experiment asks for.
    ///
    /// # Errors
    /// [`Error::Io`]; a control whose training fails. A draw of few labels that cannot be trained on is a point
    /// without a score that says why.
    pub(super) fn run(&self) -> Result<MaskTrials> {
        let asked = &self.ready.experiment;
        let mut out = MaskTrials::default();
        if let Some(subsets) = &asked.subsets {
            let sizes = [("volumes", &subsets.volumes), ("patches", &subsets.patches)];
            for (name, sizes) in sizes.into_iter().filter(|(_, sizes)| !sizes.is_empty()) {
                out.few.push(self.few(name, sizes, subsets)?);
            }
        }
        for i in 0..asked.controls.shuffled_labels as u64 {
            let seed = asked.seed.wrapping_add(i);
            let Some(order) = others(self.pool.len(), seed) else {
                self.runner.watch.note("one scan to learn from: there is no other whose mask it could have");
                break;
            };
            let train = self.pool.with_masks_of(&order)?;
            out.shuffled.push(self.dice("control: masks of other scans", &train, self.test, &self.method)?);
        }
        if asked.controls.untrained_encoder && self.method.model.wants_encoder() {
            out.untrained = Some(self.untrained()?);
        }
        Ok(out)
    }

    fn untrained(&self) -> Result<std::result::Result<Option<f64>, String>> {
        let (ready, runner) = (self.ready, self.runner);
        let (backbone, protocol) = (&*ready.encoder.backbone, ready.experiment.protocol);
        let twin = match ready.experiment.encoder.untrained_twin(backbone, protocol, &runner.device, runner.watch) {
            Ok(twin) => twin,
            Err(why) => return Ok(Err(in_full(&why))),
        };
        let eyes = eyes(&twin, ready.pixels.crop, ready.pixels.filter);
        let (train, test) = (self.pool.clone().with_eyes(eyes.clone()), self.test.clone().with_eyes(eyes));
        Ok(Ok(self.dice("control: untrained encoder", &train, &test, &self.method)?))
    }

    /// Every number of labels, each drawn several times. Within a draw the fewer are among the more.
    fn few(&self, name: &'static str, sizes: &[usize], subsets: &Subsets) -> Result<FewLabels> {
        let [d, h, w] = subsets.patch_size;
        let of_patches = name == "patches";
        let unit = if of_patches { format!("patches of {d} × {h} × {w} voxels") } else { "volumes".to_owned() };
        let steps = subsets.steps.unwrap_or_else(|| self.method.steps(self.pool));
        let mut points = Vec::with_capacity(sizes.len());
        for &n in sizes {
            let (mut dice, mut notices) = (Vec::new(), Vec::new());
            for attempt in 0..subsets.tries as u64 {
                let train = match of_patches {
                    true => Some(self.patches(n, subsets.patch_size, attempt)?),
                    false => (n <= self.pool.len()).then(|| self.pool.chosen(&self.order(attempt)[..n])),
                };
                let Some(train) = train else {
                    notices.push(format!("there are {} volumes to learn from", self.pool.len()));
                    dice.push(f64::NAN);
                    continue;
                };
                let seed = self.method.seed.wrapping_add(attempt);
                let method = SegmentMethod { pace: crate::finetune::Pace::Steps(steps), seed, ..self.method.clone() };
                let what = format!("{n} {name}, draw {} of {}", attempt + 1, subsets.tries);
                match self.dice(&what, &train, self.test, &method) {
                    Ok(score) => dice.push(score.unwrap_or(f64::NAN)),
                    // what cannot be written ends a run; what cannot be learned is told
                    Err(error) if is_of_files(&error) => return Err(error),
                    Err(error) => {
                        notices.push(in_full(&error));
                        dice.push(f64::NAN);
                    }
                }
            }
            notices.sort();
            notices.dedup();
            let metrics = BTreeMap::from([(SCORE.to_owned(), MetricValue::over_runs(&dice))]);
            points.push(CurvePoint { x: n as f64, cases: None, metrics, notices });
        }
        let drawn = if of_patches {
            "each around a foreground voxel of a training volume of its own as long as there are enough; beyond a \
             patch the image is seen and no voxel is labelled"
        } else {
            "of the volumes that the run learned from, by patient"
        };
        let note = format!("few labels: {unit}, drawn by seed, {drawn}; {steps} steps each, at the rate of the run");
        Ok(FewLabels { name, unit, note, points })
    }

    /// Scans in a random order of their patients.
    fn order(&self, attempt: u64) -> Vec<usize> {
        let seed = self.ready.experiment.seed;
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        (0..self.pool.len()).for_each(|i| groups.entry(self.pool.group(i)).or_default().push(i));
        let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
        groups.shuffle(&mut rng::named(seed, &format!("few labels {attempt}")));
        groups.concat()
    }

    fn patches(&self, n: usize, size: [usize; 3], attempt: u64) -> Result<Scans> {
        let (order, seed) = (self.order(attempt), self.ready.experiment.seed);
        let boxes = (0..n).map(|i| -> Result<(usize, [Range<usize>; 3])> {
            let scan = order[i % order.len().max(1)];
            let rng = &mut rng::named(seed, &format!("patch {attempt} {i}"));
            Ok((scan, patch(&self.pool.mask_of(scan)?, size, rng)))
        });
        self.pool.within(&boxes.collect::<Result<Vec<_>>>()?)
    }

    /// The Dice of one training, unless it is known from a run that was broken off.
    fn dice(&self, what: &str, train: &Scans, test: &Scans, method: &SegmentMethod) -> Result<Option<f64>> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(serde_json::to_string(method).unwrap_or_default().as_bytes());
        hasher.update(self.draws.draws.to_string().as_bytes());
        for scans in [train, test] {
            hasher.update(scans.eyes().map_or_else(String::new, |eyes| eyes.fingerprint()).as_bytes());
            (0..scans.len()).for_each(|i| {
                hasher.update(scans.fingerprint(i).as_bytes());
            });
        }
        let path = self.checkpoints.join(format!("trial-{}.json", &hasher.finalize().to_hex()[..16]));
        let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Option<f64>>(&text).ok());
        if let Some(dice) = known {
            return Ok(dice);
        }
        let stage = self.runner.watch.stage(what);
        let context = Context { progress: &*stage, checkpoints: Some(self.checkpoints), ..Context::PLAIN };
        let parts = SegmentParts { train, val: None, refit: None, test };
        let run = segment(method, &parts, self.task, &self.draws, &context, &mut |_, _| Ok(()))?;
        let dice = run.test.dice_by_volume.map(|i| i.estimate);
        let text = serde_json::to_vec(&dice).map_err(|e| Error::format(&path, "JSON", e))?;
        crate::write_atomic(&path, &text, "segment")?;
        Ok(dice)
    }
}

/// For each of `n` scans another one, all in one ring: none keeps its own mask. `None` where there is no other.
fn others(n: usize, seed: u64) -> Option<Vec<usize>> {
    if n < 2 {
        return None;
    }
    let mut ring: Vec<usize> = (0..n).collect();
    ring.shuffle(&mut rng::named(seed, "shuffled masks"));
    let mut order = vec![0; n];
    for (at, scan) in ring.iter().enumerate() {
        order[*scan] = ring[(at + 1) % n];
    }
    Some(order)
}

/// Whether an error, or one behind it, is of a file that could not be written or read.
fn is_of_files(error: &Error) -> bool {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        let of_eval = matches!(error.downcast_ref(), Some(Error::File { .. } | Error::Report(_) | Error::Io(_)));
        if of_eval || matches!(error.downcast_ref(), Some(dinorad_nn::Error::File { .. })) {
            return true;
        }
        at = error.source();
    }
    false
}

/// A box of a size, or of a scan's where that is smaller, around a foreground voxel; anywhere in a scan without one.
fn patch(mask: &ndarray::Array3<u8>, size: [usize; 3], rng: &mut impl Rng) -> [Range<usize>; 3] {
    let there = mask.iter().filter(|class| **class > 0).count();
    let wanted = rng.random_range(0..there.max(1));
    let found = mask.indexed_iter().filter(|(_, class)| **class > 0).nth(wanted).map(|((z, y, x), _)| [z, y, x]);
    let dims = [mask.dim().0, mask.dim().1, mask.dim().2];
    let centre = found.unwrap_or_else(|| dims.map(|n| rng.random_range(0..n.max(1))));
    std::array::from_fn(|axis| {
        let n = size[axis].clamp(1, dims[axis].max(1));
        let start = centre[axis].saturating_sub(n / 2).min(dims[axis] - n.min(dims[axis]));
        start..start + n
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scan_keeps_its_own_mask() {
        for (n, seed) in [(2, 0), (3, 1), (17, 2), (17, 3)] {
            let order = others(n, seed).unwrap();
            assert!(order.iter().enumerate().all(|(scan, other)| scan != *other), "{order:?}");
            let mut all = order.clone();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
        assert_eq!(others(1, 0), None);
        assert_ne!(others(17, 2), others(17, 3));
    }

    #[test]
    fn patches_lie_within_their_scan_around_what_is_labelled() {
        let mut mask = ndarray::Array3::zeros((5, 30, 40));
        mask[[0, 29, 39]] = 2;
        let rng = &mut rng::named(0, "patches");
        assert_eq!(patch(&mask, [20, 20, 20], rng), [0..5, 10..30, 20..40]);
        mask[[0, 29, 39]] = 0;
        for _ in 0..50 {
            let of = patch(&mask, [2, 7, 40], rng);
            let lengths = of.clone().map(|range| range.len());
            assert_eq!(lengths, [2, 7, 40]);
            assert!(of[0].end <= 5 && of[1].end <= 30 && of[2].end <= 40, "{of:?}");
        }
    }
}
