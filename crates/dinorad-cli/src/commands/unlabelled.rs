//! What `pretrain` and `distill` have in common: slices, a judge, an encoder that trains, a plan.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use dinorad::{
    backbone::{Backbone, Dinov2, LoadOptions, Source, candle::Device, hub::HubOptions, load_dinov2},
    core::{Protocol, Split},
    datasets::{DiscoverOptions, discover_with, open},
    eval::{
        Cases,
        experiment::{Watch, options_of},
        pretraining::{KnnJudge, SliceStore, TrainingPlan, raw_cases, raw_inputs},
    },
    pretrain::{Augmentation, Images, Intensity},
};

use crate::{
    args::{KnnArgs, LearningArgs, UnlabelledArgs},
    listing,
    progress::{BARS, Bar, is_quiet},
};

impl UnlabelledArgs {
    /// What varies between views.
    pub(super) fn augmentation(&self) -> Result<Augmentation> {
        let intensity = match self.modality.as_str() {
            "ct" => Intensity::ct(self.window.parse().context("--window")?),
            "mr" => Intensity::mr(),
            "xray" => Intensity::xray(),
            _ => Intensity::Plain,
        };
        let horizontal_flip = if self.mirror { 0.5 } else { 0.0 };
        Ok(Augmentation { horizontal_flip, ..Augmentation::of(intensity) })
    }

    /// The slices, decoded once into a folder below `out`.
    pub(super) fn slices(&self, out: &Path) -> Result<Arc<SliceStore>> {
        if self.slice_step == 0 || self.max_side == 0 {
            bail!("--slice-step and --max-side must be at least 1");
        }
        let cases: Arc<dyn Cases> = match (&self.dataset, &self.root) {
            (Some(name), Some(root)) => {
                let split = match self.part.as_str() {
                    "val" => Split::Val,
                    "test" => Split::Test,
                    _ => Split::Train,
                };
                let set = open(name, root, split, &options_of(Protocol::Strict))?;
                Arc::new(raw_cases(set.into(), root, self.slice_step))
            }
            _ => {
                if let Some(missing) = self.paths.iter().find(|p| !p.exists()) {
                    bail!("{}: no such file or folder", missing.display());
                }
                let found = {
                    let _bar = Bar::spinner("looking through the files");
                    discover_with(&self.paths, &DiscoverOptions::default())
                };
                found.notices(true).iter().for_each(|notice| listing::note(notice));
                Arc::new(raw_inputs(found, self.slice_step))
            }
        };
        let store = SliceStore::make(&out.join("slices"), cases, self.max_side, &Bar::new("decoding"))?;
        listing::failures(store.failures());
        if store.empty() > 0 {
            listing::note(&format!("{} slices without content are left out", store.empty()));
        }
        Ok(Arc::new(store))
    }
}

impl KnnArgs {
    /// The judge, and every how many steps it is asked.
    pub(super) fn open(&self, side: usize, steps: usize) -> Result<Option<(KnnJudge, usize)>> {
        let (Some(name), Some(root)) = (&self.set, &self.judge_root) else { return Ok(None) };
        let judge = KnnJudge::new(name, root, self.cases, side).context("--judge")?;
        Ok(Some((judge, self.every.unwrap_or_else(|| steps.div_ceil(10)).max(1))))
    }
}

/// An encoder that can be trained so.
///
/// What is drawn anew is drawn from the seed that the name of an untrained encoder has, else from `seed`.
pub(super) fn dinov2(source: &str, registers: Option<usize>, seed: u64) -> Result<Dinov2> {
    let named = source.contains("?seed=");
    let source = match source.starts_with("untrained") && !named {
        true => format!("{source}?seed={seed}"),
        false => source.to_owned(),
    };
    let parsed: Source = source.parse()?;
    let seed = match &parsed {
        Source::Untrained { seed, .. } => *seed,
        _ => seed,
    };
    let options = LoadOptions::default();
    let (encoder, _) = load_dinov2(&parsed, &options, &HubOptions::from_env(), &mut *BARS.download())?;
    match registers {
        None => Ok(encoder),
        Some(_) if !encoder.spec().is_untrained() => {
            bail!("--registers is for an untrained encoder: {source} has its own")
        }
        Some(n) => Ok(Dinov2::untrained(&encoder.config().clone().with_registers(n), seed, &Device::Cpu)?),
    }
}

/// Whether the training is gone on with.
///
/// # Errors
/// If there is an encoder of a training whose checkpoint is gone: it would be taken for that of this one.
pub(super) fn none_of_another(learning: &LearningArgs) -> Result<bool> {
    let (encoder, resumed) = (learning.out.join("encoder"), learning.out.join("last.safetensors").is_file());
    if encoder.exists() && !resumed && !learning.plan {
        bail!("{} is of another training: remove it too, or name another --out", encoder.display());
    }
    Ok(resumed)
}

/// What is about to be done, and whether there is room for it.
pub(super) fn announce(
    plan: &TrainingPlan,
    learning: &LearningArgs,
    slices: &SliceStore,
    seconds: Option<f64>,
) -> Result<()> {
    let gib = |bytes: f64| format!("{:.1} GiB", bytes / f64::from(1 << 30));
    let free = plan.free.map_or_else(String::new, |free| format!(" of {} that are free", gib(free)));
    let time = seconds.map_or_else(String::new, |s| format!("about {}, ", in_words(s)));
    if learning.plan || !is_quiet() {
        eprintln!(
            "{} steps of {} from {} slices ({} on disk): {time}about {} of memory{free}",
            learning.steps,
            learning.batch_size,
            slices.len(),
            gib(slices.bytes() as f64),
            gib(plan.total()),
        );
    }
    Ok(plan.fits()?)
}

fn in_words(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
