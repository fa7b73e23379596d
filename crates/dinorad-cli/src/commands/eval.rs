//! `dinorad eval HEAD`: a data set and encoders to a run.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinorad::{
    core::{Protocol, resample::Filter},
    datasets::{Bad, DatasetSpec},
    eval::{
        assembly::{Aggregation, Assembly},
        probe::{Head, LinearHead, LogisticHead, MlKnnHead, ProbeOptions, Refit},
        report::{EncoderCard, Report, Section, Training},
    },
    heads::{AttentionTraining, Knn, ProbePoint, Reduction, TrainingNeighbours},
    transforms::Shift,
};

use crate::{
    args::{Avgpool, EvalCommand, EvalKnnArgs, EvalLinearArgs, EvalLogregArgs, EvalMlknnArgs, JudgeArgs},
    curves,
    encoder::{self, Loaded},
    features::{Data, options_of},
    judge::{self, Done, Job, PixelOptions, Subsets},
    listing,
    output::say,
    summary,
};

pub(crate) fn run(command: &EvalCommand) -> Result<usize> {
    match command {
        EvalCommand::Knn(args) => {
            let protocol: Protocol = args.judge.protocol.parse()?;
            let neighbours = Neighbours::of(&args.k);
            judge(
                &args.judge,
                "eval knn",
                (knn(args)?, neighbours),
                tokens(&args.tokens)?,
                neighbours_resize(protocol),
                false,
            )
        }
        EvalCommand::Mlknn(args) => {
            let protocol: Protocol = args.judge.protocol.parse()?;
            let head = (mlknn(args, protocol)?, Neighbours::of(&args.k));
            judge(&args.judge, "eval mlknn", head, tokens(&args.tokens)?, neighbours_resize(protocol), false)
        }
        EvalCommand::Logreg(args) => {
            let head = (logreg(args)?, Neighbours::Named);
            judge(&args.judge, "eval logreg", head, tokens(&args.tokens)?, Resize::None, false)
        }
        EvalCommand::Linear(args) => {
            let protocol: Protocol = args.judge.protocol.parse()?;
            let (head, assembly) = linear(args, protocol)?;
            judge(&args.judge, "eval linear", (head, Neighbours::Named), assembly, Resize::None, args.augment)
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

/// Where the numbers of neighbours come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbours {
    /// From --k: they are what is judged, or nothing.
    Named,
    /// Nobody named any: as many of the usual ones as there are cases for.
    Usual,
}

impl Neighbours {
    /// The numbers of neighbours where --k names none.
    const USUAL: [usize; 5] = [5, 20, 50, 100, 200];

    fn of(k: &[usize]) -> Self {
        if k.is_empty() { Neighbours::Usual } else { Neighbours::Named }
    }

    /// The head for so many training cases, before any of them is encoded.
    fn fitted(self, head: Head, data: &Data) -> Result<Head> {
        let rows = data.train.set.len();
        let (within, notice) = head.within(rows)?;
        let Some(notice) = notice else { return Ok(head) };
        let id = data.train.set.id();
        match self {
            Neighbours::Named => {
                let most = neighbours_of(&within).iter().copied().max().unwrap_or(0);
                let beyond = neighbours_of(&head).iter().filter(|k| **k > most).map(usize::to_string);
                let beyond = beyond.collect::<Vec<_>>().join(", ");
                bail!("k = {beyond} neighbours asked of the {rows} training cases of {id}: at most {most}")
            }
            Neighbours::Usual => {
                eprintln!("note: {notice} in {id}");
                Ok(within)
            }
        }
    }
}

fn neighbours_of(head: &Head) -> &[usize] {
    match head {
        Head::Knn(knn) => &knn.ks,
        Head::MlKnn(head) => &head.ks,
        _ => &[],
    }
}

/// The numbers of neighbours of --k, or the usual ones.
fn ks(k: &[usize]) -> Result<&[usize]> {
    if k.contains(&0) {
        bail!("--k needs numbers of at least 1");
    }
    Ok(if k.is_empty() { &Neighbours::USUAL } else { k })
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
    positive("--temperature", &[args.temperature])?;
    Ok(Head::Knn(Knn::new(ks(&args.k)?).with_temperature(args.temperature)))
}

fn mlknn(args: &EvalMlknnArgs, protocol: Protocol) -> Result<Head> {
    positive("--smoothing", &args.smoothing)?;
    let mut head =
        MlKnnHead { ks: ks(&args.k)?.to_vec(), smoothings: args.smoothing.clone(), ..MlKnnHead::new(protocol) };
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
    let counts =
        [("--epochs", Some(args.epochs)), ("--iterations", args.iterations), ("--batch-size", Some(args.batch_size))];
    if let Some((name, _)) = counts.iter().find(|(_, value)| *value == Some(0)) {
        bail!("{name} must be at least 1");
    }
    if !(0.0..1.0).contains(&args.momentum) {
        bail!("--momentum {} is not from 0 to below 1", args.momentum);
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
    (head, neighbours): (Head, Neighbours),
    assembly: Assembly,
    resize: Resize,
    augment: bool,
) -> Result<usize> {
    let protocol: Protocol = args.protocol.parse()?;
    let aggregate: Aggregation = args.aggregate.parse()?;
    let assembly = Assembly { aggregate, ..assembly };
    let options = options(args, protocol, aggregate)?;
    let pixels = |crop: usize| PixelOptions {
        resize: args.resize.unwrap_or_else(|| match resize {
            Resize::None => crop,
            Resize::Margin => (crop * 256).div_ceil(224),
        }),
        crop,
        filter: if protocol == Protocol::Paper { Filter::Bicubic } else { Filter::BicubicAntialias },
    };
    let subsets = subsets(args)?;
    let shifts = args.shift.iter().map(|s| s.parse()).collect::<Result<Vec<Shift>, _>>()?;
    let data = data(args, protocol)?;
    judge::check(&data, &head, &assembly)?;
    let head = neighbours.fitted(head, &data)?;
    // With views encoded anew in every epoch a control costs as much as the run.
    let control_seeds = args.control_seeds.unwrap_or(if augment { 1 } else { 3 });
    let backbones = &args.encoder.backbone;
    let fitting = |name: &str| -> Result<(Loaded, PixelOptions)> {
        let encoder = encoder::load_one(name, &args.encoder, protocol)?;
        let spec = encoder.backbone.spec();
        let size = encoder::image_size(&*encoder.backbone, args.image_size)?;
        if let Err(error) = spec.check(&assembly.request()) {
            let mean_patch = if assembly.avgpool { ", and no mean patch token" } else { "" };
            bail!("{}: {error}; every encoder takes --blocks 1{mean_patch}", spec.id);
        }
        Ok((encoder, pixels(size)))
    };
    if backbones.len() > 1 {
        // The last of them shall not fail when the others have been judged for hours.
        for name in backbones {
            fitting(name)?;
        }
    }
    let (mut done, mut cards) = (Vec::new(), Vec::new());
    let mut last_job = None;
    for (i, name) in backbones.iter().enumerate() {
        let (encoder, pixels) = fitting(name)?;
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
            subsets: subsets.clone(),
            shifts: shifts.clone(),
            control_seeds: if args.no_controls { 0 } else { control_seeds },
        };
        let out = match backbones.len() {
            1 => args.out.clone(),
            _ => args.out.join(folder_of(i, &encoder.backbone.spec().id)),
        };
        let twin = || encoder::untrained_twin(name, &*encoder.backbone, &args.encoder, protocol);
        done.push(job.run(&encoder, &twin, &out)?);
        cards.push(encoder::card(&encoder));
        last_job = Some(job);
    }
    let Some(job) = last_job else { bail!("no --backbone was given") };
    job.compare(&mut done)?;
    report(&job, &done, cards)?.write(&args.out.join("report.html"))?;
    tell(args, &job, &done)
}

/// The rules of a protocol, and what the command line says otherwise.
fn options(args: &JudgeArgs, protocol: Protocol, aggregate: Aggregation) -> Result<ProbeOptions> {
    let mut options = ProbeOptions::new(protocol);
    options.refit = match args.refit.as_deref() {
        None => options.refit,
        Some("train") => Refit::Train,
        Some("train-val") => Refit::TrainVal,
        Some(other) => bail!("--refit is train or train-val, not `{other}`"),
    };
    options.bootstrap.seed = args.seed;
    options.bootstrap.draws = args.bootstrap;
    if aggregate == Aggregation::Attention {
        let default = AttentionTraining::default();
        let epochs = args.attention_epochs.unwrap_or(default.epochs);
        options.attention = Some(AttentionTraining { epochs, seed: args.seed, ..default });
    }
    Ok(options)
}

fn subsets(args: &JudgeArgs) -> Result<Subsets> {
    if args.bootstrap == 0 {
        bail!("--draws must be at least 1");
    }
    if args.tries == 0 || args.shots.contains(&0) {
        bail!("--shots and --tries need numbers of at least 1");
    }
    if let Some(f) = args.fraction.iter().find(|f| !(**f > 0.0 && **f <= 1.0)) {
        bail!("--fraction {f} is not above 0 and at most 1");
    }
    Ok(Subsets {
        shots: args.shots.clone(),
        fractions: args.fraction.clone(),
        tries: args.tries,
        draw: args.shot_rule.as_deref().map(str::parse).transpose()?,
    })
}

/// The data set of --dataset and --root, or those of --train and --test.
fn data(args: &JudgeArgs, protocol: Protocol) -> Result<Data> {
    let named = |option: &str, text: &str| -> Result<(String, PathBuf)> {
        let spec: DatasetSpec = text.parse()?;
        let root = spec.root.with_context(|| format!("{option} {text}: say where, as in {}:root=PATH", spec.name))?;
        if spec.split.is_some() {
            bail!("{option} {text}: heads learn from train and validation and are judged on test; leave split= out");
        }
        Ok((spec.name, root))
    };
    let train = match (&args.train, &args.dataset, &args.root) {
        (Some(train), None, None) => named("--train", train)?,
        (None, Some(name), Some(root)) => (name.clone(), root.clone()),
        (None, ..) => bail!("name a data set: --dataset NAME --root PATH, or --train NAME:root=PATH"),
        _ => bail!("--train stands for --dataset and --root: give one or the other"),
    };
    let test = match &args.test {
        Some(test) => named("--test", test)?,
        None => train.clone(),
    };
    let mut open = options_of(protocol).with_bad(if args.strict_data { Bad::Stop } else { Bad::Skip });
    open.uncertain = args.uncertain.parse()?;
    open.splits = args.splits.clone();
    Data::open_with((&train.0, &train.1), (&test.0, &test.1), open)
}

/// A page about all encoders.
fn report(job: &Job<'_>, done: &[Done], cards: Vec<EncoderCard>) -> Result<Report> {
    let mut cards = cards.into_iter();
    let card = match done {
        [_] => cards.next(),
        _ => {
            let trained = done.iter().any(|d| !d.spec.is_untrained());
            let training = if trained { Training::Pretrained } else { Training::Untrained };
            let card = EncoderCard::new(format!("{} encoders", done.len()), training);
            Some(done.iter().fold(card, |card, d| {
                let s = &d.spec;
                let blocks = if s.depth == 1 { "block" } else { "blocks" };
                let untrained = if s.is_untrained() { ", untrained: random weights" } else { "" };
                let shape = format!("patch {}, width {}, {} {blocks}{untrained}", s.patch, s.embed_dim, s.depth);
                card.with_fact(s.id.clone(), shape)
            }))
        }
    };
    let card = card.context("no encoder was judged")?;
    let mut report = Report::new(format!("dinorad {}", job.command), card)
        .with_fact("command", format!("dinorad {}", job.command))
        .with_fact("protocol", job.options.protocol.to_string());
    if done.len() > 1 {
        let section = Section::new("All encoders").with_method(job.head.title()).with(curves::encoder_block(done));
        report = report.with_section(section);
    }
    for one in done {
        report = report.with_section(job.section(one)?).with_failures(one.made.failures.clone());
    }
    Ok(report)
}

/// Tables on stdout, notes on stderr; how many cases failed.
fn tell(args: &JudgeArgs, job: &Job<'_>, done: &[Done]) -> Result<usize> {
    match done {
        [one] => {
            say!("{}", summary::by_setting(&one.run));
            for table in curves::tables(one) {
                say!("{table}");
            }
            for note in curves::notes(one) {
                say!("{note}");
            }
        }
        several => {
            say!("{}", curves::by_encoder(several));
            for one in several.iter().filter(|one| !(one.subsets.is_empty() && one.shifts.is_empty())) {
                say!("{}", one.spec.id);
                for table in curves::tables(one) {
                    say!("{table}");
                }
                for note in curves::notes(one) {
                    say!("{note}");
                }
            }
        }
    }
    if let Some(one) = done.first() {
        say!("{}", one.run.convention());
    }
    let images: usize = done.iter().map(|d| d.made.images).sum();
    say!("{images} images encoded; written to {}", args.out.display());
    listing::notices(&job.data.notices());
    let mut failed = 0;
    for one in done {
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
