//! `dinorad distill`: a small encoder learns the tokens of a large one.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, bail};
use dinorad::{
    backbone::{
        Backbone, LoadOptions, Request, Source,
        candle::{DType, Device, Tensor},
        hub::HubOptions,
        load_with,
    },
    eval::{
        experiment::Watch,
        pretraining::{Ahead, TrainingPlan},
    },
    nn::train::RunOptions,
    pretrain::{
        Images,
        distill::{DistillFeed, DistillSettings, TeacherTokens, distill},
    },
};

use super::unlabelled::{announce, dinov2, none_of_another};
use crate::{
    args::DistillArgs,
    output::say,
    progress::{BARS, Bar},
};

pub(crate) fn run(args: &DistillArgs) -> Result<usize> {
    let learning = &args.learning;
    let defaults = DistillSettings::default();
    let settings = DistillSettings {
        seed: learning.seed,
        steps: learning.steps,
        batch_size: learning.batch_size,
        views: args.views,
        grid: args.grid,
        augmentation: args.images.augmentation()?,
        learning_rate: learning.lr.unwrap_or(defaults.learning_rate),
        layer_decay: learning.layer_decay.unwrap_or(defaults.layer_decay),
        drop_path: learning.drop_path,
        recompute: learning.recompute,
        ..defaults
    };
    settings.check()?;
    let source: Source = args.teacher.parse()?;
    let (teacher, _) = load_with(&source, &LoadOptions::default(), &HubOptions::from_env(), &mut *BARS.download())?;
    if teacher.spec().patch < 2 {
        bail!("--teacher: {} has no patch tokens", teacher.spec().id);
    }
    let student = dinov2(&args.student, None, learning.seed)?;
    let folder = learning.out.join("encoder");
    let slices = args.images.slices(&learning.out)?;
    let judge = args.judge.open(student.spec().usual_size(), settings.steps)?;
    let plan = TrainingPlan::of_distillation(&settings, student.config(), teacher.spec().embed_dim);
    let feed = DistillFeed::new(
        Arc::<dinorad::eval::pretraining::SliceStore>::clone(&slices),
        &settings,
        teacher.spec(),
        student.spec(),
    )?;
    let looks = seconds_a_view(&*teacher, args.grid)? * feed.views() as f64;
    announce(&plan, learning, &slices, None)?;
    eprintln!("the teacher looks at {} views once, in about {:.0} s", feed.views(), looks);
    if learning.plan {
        return Ok(0);
    }
    none_of_another(learning)?;
    let tokens = {
        let bar = Bar::new("the teacher looks");
        let at = learning.out.join("teacher");
        Arc::new(TeacherTokens::make(&at, &*teacher, &feed, slices.identity(), &bar)?)
    };
    let identity = format!("{} {} {}", slices.identity(), teacher.spec().digest, student.spec().digest);
    let width = tokens.dim();
    drop(teacher);
    // Every step asks for the same blocks; of pre-training large and small crops ask for others, and what is kept of
    // both would be twice as much as either.
    crate::keep_memory();
    let mut ahead = Ahead::new(settings.steps, learning.workers, move |step| feed.batch(step, &tokens));
    let bar = Bar::new("distilling");
    let options = RunOptions {
        validate_every: judge.as_ref().map_or(0, |(_, every)| *every),
        checkpoint_every: learning.checkpoint_every,
        folder: Some(&learning.out),
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
    let (learned, ended) = distill(&student, width, &settings, &mut |step| ahead.get(step), judge, &options)?;
    drop(bar);
    if !folder.exists() {
        learned.save_hugging_face(&folder)?;
    }
    if let (Some(first), Some(last)) = (ended.losses.first(), ended.losses.last()) {
        say!("loss {first:.4} to {last:.4} in {} steps on {} slices", ended.losses.len(), slices.len());
    }
    for (steps, score) in &ended.scores {
        say!("after {steps} steps: kNN {score:.4}");
    }
    say!("{}", folder.display());
    Ok(slices.failures().len())
}

/// Seconds that a teacher takes for a view.
fn seconds_a_view(teacher: &dyn Backbone, grid: usize) -> Result<f64> {
    const VIEWS: usize = 4;
    let side = grid * teacher.spec().patch;
    let pixels = Tensor::zeros((VIEWS, 3, side, side), DType::F32, &Device::Cpu)?;
    teacher.forward(&pixels, &Request::last(1))?;
    let started = Instant::now();
    teacher.forward(&pixels, &Request::last(1))?;
    Ok(started.elapsed().as_secs_f64() / VIEWS as f64)
}
