//! `dinorad eval HEAD`: a data set and encoders to a run.

use anyhow::{Context, Result, bail};
use dinorad::{
    core::{Protocol, resample::Filter},
    datasets::Bad,
    eval::{
        assembly::Assembly,
        probe::{Head, LinearHead, LogisticHead, MlKnnHead, ProbeOptions, Refit},
    },
    heads::{Knn, ProbePoint, Reduction, TrainingNeighbours},
};

use crate::{
    args::{Avgpool, EvalCommand, EvalKnnArgs, EvalLinearArgs, EvalLogregArgs, EvalMlknnArgs, JudgeArgs},
    encoder,
    features::{Data, options_of},
    judge::{self, Job, PixelOptions},
    listing,
    output::say,
    summary,
};

pub(crate) fn run(command: &EvalCommand) -> Result<usize> {
    match command {
        EvalCommand::Knn(args) => {
            let protocol: Protocol = args.judge.protocol.parse()?;
            judge(&args.judge, "eval knn", knn(args)?, tokens(&args.tokens)?, neighbours_resize(protocol), false)
        }
        EvalCommand::Mlknn(args) => {
            let protocol: Protocol = args.judge.protocol.parse()?;
            let head = mlknn(args, protocol)?;
            judge(&args.judge, "eval mlknn", head, tokens(&args.tokens)?, neighbours_resize(protocol), false)
        }
        EvalCommand::Logreg(args) => {
            judge(&args.judge, "eval logreg", logreg(args)?, tokens(&args.tokens)?, Resize::None, false)
        }
        EvalCommand::Linear(args) => {
            let protocol: Protocol = args.judge.protocol.parse()?;
            let (head, assembly) = linear(args, protocol)?;
            judge(&args.judge, "eval linear", head, assembly, Resize::None, args.augment)
        }
    }
}

/// What happens to images before the crop unless `--resize` says.
#[derive(Clone, Copy)]
enum Resize {
    None,
    /// The study's 256 for 224.
    Margin,
}

fn neighbours_resize(protocol: Protocol) -> Resize {
    match protocol {
        Protocol::Paper => Resize::Margin,
        Protocol::Strict => Resize::None,
    }
}

fn check_k(k: &[usize]) -> Result<()> {
    if k.is_empty() || k.contains(&0) {
        bail!("--k needs numbers of at least 1");
    }
    Ok(())
}

fn positive(name: &str, values: &[f64]) -> Result<()> {
    if values.is_empty() || values.iter().any(|v| !(v.is_finite() && *v > 0.0)) {
        bail!("{name} must be above 0");
    }
    Ok(())
}

fn tokens(args: &crate::args::TokenArgs) -> Result<Assembly> {
    if args.blocks == 0 {
        bail!("--blocks must be at least 1");
    }
    Ok(Assembly { blocks: args.blocks, avgpool: args.avgpool, ..Assembly::default() })
}

fn knn(args: &EvalKnnArgs) -> Result<Head> {
    check_k(&args.k)?;
    positive("--temperature", &[args.temperature])?;
    Ok(Head::Knn(Knn::new(&args.k).with_temperature(args.temperature)))
}

fn mlknn(args: &EvalMlknnArgs, protocol: Protocol) -> Result<Head> {
    check_k(&args.k)?;
    positive("--smoothing", &args.smoothing)?;
    let mut head = MlKnnHead { ks: args.k.clone(), smoothings: args.smoothing.clone(), ..MlKnnHead::new(protocol) };
    head.neighbours = match args.neighbours.as_deref() {
        None => head.neighbours,
        Some("with-itself") => TrainingNeighbours::WithItself,
        Some("without-itself") => TrainingNeighbours::WithoutItself,
        Some(other) => bail!("--neighbours is with-itself or without-itself, not `{other}`"),
    };
    Ok(Head::MlKnn(head))
}

fn logreg(args: &EvalLogregArgs) -> Result<Head> {
    let mut head =
        LogisticHead { tolerance: args.tolerance, max_iterations: args.max_iterations, ..Default::default() };
    if !args.c.is_empty() {
        positive("--c", &args.c)?;
        head.strengths = args.c.clone();
    }
    positive("--tolerance", &[args.tolerance])?;
    Ok(Head::Logreg(head))
}

fn linear(args: &EvalLinearArgs, protocol: Protocol) -> Result<(Head, Assembly)> {
    positive("--lr", &args.lr)?;
    if args.blocks.contains(&0) || args.blocks.is_empty() {
        bail!("--blocks needs numbers of at least 1");
    }
    for (name, value) in [("--epochs", args.epochs), ("--batch-size", args.batch_size)] {
        if value == 0 {
            bail!("{name} must be at least 1");
        }
    }
    let avgpools: &[bool] = match args.avgpool {
        Avgpool::Both => &[true, false],
        Avgpool::With => &[true],
        Avgpool::Without => &[false],
    };
    let mut head = LinearHead::new(protocol);
    head.sweep.points = ProbePoint::grid(&args.blocks, avgpools, &args.lr);
    head.sweep.epochs = args.epochs;
    head.sweep.batch_size = args.batch_size;
    head.sweep.momentum = args.momentum;
    head.sweep.seed = args.judge.seed;
    head.sweep.reduction = match (args.multilabel_loss.as_deref(), protocol) {
        (Some("sum"), _) | (None, Protocol::Paper) => Reduction::BatchSum,
        (Some("mean"), _) | (None, Protocol::Strict) => Reduction::Mean,
        (Some(other), _) => bail!("--multilabel-loss is sum or mean, not `{other}`"),
    };
    head.iterations = args.iterations;
    head.init = args.init.clone();
    let assembly = Assembly {
        blocks: args.blocks.iter().copied().max().unwrap_or(1),
        avgpool: args.avgpool != Avgpool::Without,
        ..Assembly::default()
    };
    Ok((Head::Linear(head), assembly))
}

/// Every encoder through the one job, and what came out on stdout.
fn judge(
    args: &JudgeArgs,
    command: &'static str,
    head: Head,
    assembly: Assembly,
    resize: Resize,
    augment: bool,
) -> Result<usize> {
    let protocol: Protocol = args.protocol.parse()?;
    let mut options = ProbeOptions::new(protocol);
    options.refit = match args.refit.as_deref() {
        None => options.refit,
        Some("train") => Refit::Train,
        Some("train-val") => Refit::TrainVal,
        Some(other) => bail!("--refit is train or train-val, not `{other}`"),
    };
    options.bootstrap.seed = args.seed;
    options.bootstrap.draws = args.draws;
    let assembly = Assembly { aggregate: args.aggregate.parse()?, ..assembly };
    let pixels = |crop: usize| PixelOptions {
        resize: args.resize.unwrap_or_else(|| match resize {
            Resize::None => crop,
            Resize::Margin => (crop * 256).div_ceil(224),
        }),
        crop,
        filter: if protocol == Protocol::Paper { Filter::Bicubic } else { Filter::BicubicAntialias },
    };
    let at = (args.dataset.as_str(), args.root.as_path());
    let mut open = options_of(protocol).with_bad(if args.strict_data { Bad::Stop } else { Bad::Skip });
    open.uncertain = args.uncertain.parse()?;
    open.splits = args.splits.clone();
    let data = Data::open_with(at, at, open)?;
    judge::check_aggregation(&data, &assembly)?;
    let several = args.encoder.backbone.len() > 1;
    let (mut done, mut job_data) = (Vec::new(), None);
    let mut first = None;
    for (i, name) in args.encoder.backbone.iter().enumerate() {
        let encoder = encoder::load_one(name, &args.encoder, protocol)?;
        let pixels = pixels(encoder::image_size(&*encoder.backbone, args.image_size)?);
        let request = assembly.request();
        encoder.backbone.spec().check(&request).context("every encoder has the class token of its last block")?;
        encoder::warn_if_untrained(&*encoder.backbone);
        let job = Job {
            command,
            data: &data,
            head: head.clone(),
            options: options.clone(),
            assembly,
            pixels,
            slice_step: 1,
            augment,
            batch: args.encoder.batch,
            seed: args.seed,
            features: args.features.clone().unwrap_or_else(|| "features".into()),
        };
        let out = if several { args.out.join(folder_of(i, &encoder.backbone.spec().id)) } else { args.out.clone() };
        done.push(job.run(&encoder, &out)?);
        first.get_or_insert(encoder);
        job_data = Some(job);
    }
    let (Some(job), Some(first)) = (job_data, first) else { bail!("no --backbone was given") };
    job.report(&first, &done)?.write(&args.out.join("report.html"))?;
    match done.as_slice() {
        [one] => say!("{}", summary::by_setting(&one.run)),
        several => say!("{}", summary::by_encoder(several)),
    }
    let mut failed = 0;
    if let Some(one) = done.first() {
        say!("{}", one.run.convention());
    }
    let images: usize = done.iter().map(|d| d.made.images).sum();
    say!("{images} images encoded; written to {}", args.out.display());
    for one in &done {
        listing::notices(one.run.notices());
        listing::notices(&one.made.notices);
        listing::failures(&one.made.failures);
        failed += one.made.failures.len();
    }
    Ok(failed)
}

/// A folder name for one of several encoders.
fn folder_of(i: usize, id: &str) -> String {
    let last = id.rsplit(['/', '\\']).find(|p| !p.is_empty()).unwrap_or("encoder");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    format!("{}-{}", i + 1, last.chars().map(plain).collect::<String>())
}
