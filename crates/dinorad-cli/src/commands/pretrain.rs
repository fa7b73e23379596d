//! `dinorad pretrain`: an encoder learns from images without labels.

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use dinorad::{
    backbone::{Backbone, Dinov2},
    eval::pretraining::{Ahead, TrainingPlan},
    pretrain::{
        Centring, Feed, HeadConfig, Images, LossWeights, Pretrainer, RunOptions, Settings, Views, run as train,
    },
};

use super::unlabelled::{announce, dinov2, none_of_another};
use crate::{args::PretrainArgs, output::say, progress::Bar};

pub(crate) fn run(args: &PretrainArgs) -> Result<usize> {
    let learning = &args.learning;
    let encoder = dinov2(&args.backbone, args.registers, learning.seed)?;
    let settings = settings(args, &encoder)?;
    settings.check(encoder.spec().patch)?;
    let slices = args.images.slices(&learning.out)?;
    let judge = args.judge.open(encoder.spec().usual_size(), settings.steps)?;
    let plan = TrainingPlan::of_pretraining(&settings, encoder.config());
    plan.fits()?;
    let identity = format!("{} {}", slices.identity(), encoder.spec().digest);
    let feed =
        Arc::new(Feed::new(Arc::<dinorad::eval::pretraining::SliceStore>::clone(&slices), &settings, encoder.spec())?);
    let mut training = Pretrainer::new(encoder, &settings)?;
    let resumed = none_of_another(learning)?;
    let seconds = if resumed && !learning.plan { None } else { Some(seconds_of(&mut training, &feed, &settings)?) };
    announce(&plan, learning, &slices, seconds)?;
    if learning.plan {
        return Ok(0);
    }
    let maker = Arc::clone(&feed);
    let mut ahead = Ahead::new(settings.steps, learning.workers, move |step| maker.batch(step));
    let bar = Bar::new("pre-training");
    let options = RunOptions {
        folder: Some(&learning.out),
        checkpoint_every: learning.checkpoint_every,
        judge_every: judge.as_ref().map_or(0, |(_, every)| *every),
        identity: &identity,
        progress: &bar,
        ..RunOptions::default()
    };
    let mut asked = judge.map(|(judge, _)| {
        move |encoder: &dyn Backbone| -> std::result::Result<f64, Box<dyn std::error::Error + Send + Sync>> {
            Ok(judge.score(encoder)?)
        }
    });
    let judge = asked.as_mut().map(|judge| judge as &mut dinorad::pretrain::Judge<'_>);
    let ended = train(&mut training, &mut |step| ahead.get(step), judge, &options)?;
    drop(bar);
    let folder = learning.out.join("encoder");
    if !folder.exists() {
        training.teacher()?.save_hugging_face(&folder)?;
    }
    if let (Some(first), Some(last)) = (ended.losses.first(), ended.losses.last()) {
        say!("loss {first:.3} to {last:.3} in {} steps on {} slices", ended.losses.len(), slices.len());
    }
    for (steps, score) in &ended.scores {
        say!("after {steps} steps: kNN {score:.4}");
    }
    say!("{}", folder.display());
    Ok(slices.failures().len())
}

fn settings(args: &PretrainArgs, encoder: &Dinov2) -> Result<Settings> {
    let learning = &args.learning;
    let head = HeadConfig { prototypes: args.prototypes, hidden: args.hidden, ..HeadConfig::default() };
    let defaults = Settings::default();
    Ok(Settings {
        seed: learning.seed,
        steps: learning.steps,
        batch_size: learning.batch_size,
        views: Views {
            local: args.local_crops,
            global_size: args.image_size.unwrap_or_else(|| encoder.spec().usual_size()),
            local_size: args.local_size,
            full_size_from: args.full_size_from,
            ..Views::default()
        },
        augmentation: args.images.augmentation()?,
        head,
        patch_head: args.patch_head.then_some(head),
        centring: match args.centring.as_str() {
            "running" => Centring::Running { momentum: 0.9 },
            "off" => Centring::Off,
            _ => Centring::default(),
        },
        momentum: (args.momentum, 1.0),
        learning_rate: learning.lr,
        layer_decay: learning.layer_decay.unwrap_or(defaults.layer_decay),
        drop_path: learning.drop_path,
        recompute: learning.recompute,
        losses: LossWeights { ibot: args.ibot, koleo: args.koleo, ..LossWeights::default() },
        ..defaults
    })
}

/// Seconds that all steps will take, from one of each size; nothing is remembered of them.
fn seconds_of(training: &mut Pretrainer, feed: &Feed, settings: &Settings) -> Result<f64> {
    let mut timed = |step: usize| -> Result<f64> {
        let started = Instant::now();
        training.gradients(&feed.batch(step)?)?;
        Ok(started.elapsed().as_secs_f64())
    };
    let half = (settings.views.full_size_from * settings.steps as f64).min(settings.steps as f64);
    let full = timed(settings.steps.saturating_sub(1))? * (settings.steps as f64 - half);
    Ok(full + if half > 0.0 { timed(0)? * half } else { 0.0 })
}
