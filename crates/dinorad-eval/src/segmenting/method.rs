//! Segmentation of scans as a method.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
    time::Instant,
};

use candle::Device;
use dinorad_backbone::tuning::{Scope, TrainableBackbone};
use dinorad_core::{
    Task, TaskKind,
    method::{Context, Entry, Error, Fitted, Input, Lent, Method, SearchAxis, Setting},
};
use dinorad_decoders::{
    Decoder, FusedDecoder, FusedDecoderConfig, LinearDecoder, PixelLoss, TransUnet, TransUnetConfig, Unet, UnetConfig,
    UnetDecoder, UnetDecoderConfig,
};
use dinorad_nn::{
    Course, Schedule, Trainable, layer_decay,
    optim::{Algorithm, Decay},
    train::{Rate, RunOptions, TrainOptions, Trainer, run},
};
use serde::{Deserialize, Serialize};

pub use super::batches::Planes;
use super::{
    batches::Batches,
    fitted::{Drawn, Point},
    judged::MaskTable,
    lesson::{Drawing, Learning, every_mask},
    net::{Canvas, Net},
    scans::Scans,
    tokens::Tokens,
};
use crate::{
    Error as EvalError, Result,
    finetune::{Clock, Pace},
};

/// `segment`: masks of scans, by a decoder on an encoder or a network from scratch.
pub const ENTRY: Entry = Entry {
    name: "segment",
    summary: "masks of scans: a decoder on an encoder (frozen, LoRA, full …), or a U-Net from scratch",
    keys: &[
        "model",
        "width",
        "image_size",
        "detail",
        "tune",
        "learning_rates",
        "encoder_learning_rate",
        "pace",
        "minutes",
        "batch_size",
        "accumulate",
        "loss",
        "class_weights",
        "dice_of_batch",
        "warm_up",
        "algorithm",
        "weight_decay",
        "clip",
        "ema",
        "layer_decay",
        "augment",
        "mirror",
        "planes",
        "mirrored_votes",
        "largest_component",
        "fill_holes",
        "validate_every",
        "patience",
        "checkpoint_every",
        "seed",
    ],
    read: |from, _| {
        let method: SegmentMethod = erased_serde::deserialize(from)?;
        method.checked().map_err(<erased_serde::Error as serde::de::Error>::custom)?;
        Ok(Box::new(method))
    },
    load: |folder| Ok(Box::new(Drawn::load(folder)?)),
};

/// What draws the masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// One linear map of the last block's patch tokens, upsampled.
    Linear,
    /// The study's hierarchical U-Net over the last five blocks.
    Hierarchical,
    /// Several blocks and the image itself, see [`FusedDecoder`].
    #[default]
    Fused,
    /// The U-Net from scratch.
    Unet,
    /// TransUNet from scratch.
    TransUnet,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Linear, Self::Hierarchical, Self::Fused, Self::Unet, Self::TransUnet];

    /// Its name in descriptions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Hierarchical => "hierarchical",
            Self::Fused => "fused",
            Self::Unet => "unet",
            Self::TransUnet => "trans-unet",
        }
    }

    /// Whether it stands on an encoder.
    pub fn wants_encoder(self) -> bool {
        !matches!(self, Self::Unet | Self::TransUnet)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Segmentation of scans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentMethod {
    /// What draws the masks.
    pub model: Architecture,
    /// Channels at full size of a network from scratch (64 in the study), or inside the fused decoder.
    pub width: usize,
    /// Side in pixels that slices are resized to for a network from scratch (448 in the study); 0 for their own
    /// size. Of an encoder it is `preprocessing.image_size`.
    pub image_size: usize,
    /// Masks are drawn on so many pixels a patch of the encoder, along each side, before they come to the size of
    /// the slice.
    pub detail: usize,
    /// What trains in the encoder; nothing: it stays frozen.
    pub tune: Scope,
    /// Learning rates of decoder and adapters at their top; each is a training of its own, chosen by validation.
    pub learning_rates: Vec<f64>,
    /// Learning rate of what else trains in the encoder; by default a twentieth of the decoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_learning_rate: Option<f64>,
    /// How long.
    pub pace: Pace,
    /// Minutes for search, last training and test together, by which the pace is cut; 0 for no limit.
    pub minutes: f64,
    /// Slices whose loss is computed at once.
    pub batch_size: usize,
    /// Such batches for one step.
    pub accumulate: usize,
    /// What is minimised.
    pub loss: PixelLoss,
    /// How much every class counts in it, background first; without, all alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class_weights: Vec<f32>,
    /// Whether the soft Dice is that of all slices of a batch together, in place of one for each slice (the study's).
    pub dice_of_batch: bool,
    /// Share of the steps in which the rates rise.
    pub warm_up: f64,
    /// How gradients become steps.
    pub algorithm: Clock,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// Longest gradient; 0 for any.
    pub clip: f64,
    /// Share of an average of weights that is kept at every step; 0 for none.
    pub ema: f64,
    /// Factor of the learning rate for every block of the encoder that lies behind.
    pub layer_decay: f64,
    /// Whether training sees slices turned, stretched, brighter and darker. A frozen encoder then looks at every
    /// slice anew.
    pub augment: bool,
    /// Whether it sees them mirrored, left for right, too.
    pub mirror: bool,
    /// Along which axes scans are cut.
    pub planes: Planes,
    /// Whether the mirrored slice votes too when masks are drawn.
    pub mirrored_votes: bool,
    /// Whether of every class the largest piece alone stays.
    pub largest_component: bool,
    /// Whether holes in a class are closed.
    pub fill_holes: bool,
    /// Steps between validations; by default a fifth of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every: Option<usize>,
    /// Validations without a better score after which training ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Seed of the weights, the order of slices and what training draws.
    pub seed: u64,
}

impl Default for SegmentMethod {
    /// The fused decoder on a frozen encoder, 10 passes in batches of 16, Dice and cross-entropy, AdamW at 2e-3.
    fn default() -> Self {
        Self {
            model: Architecture::default(),
            width: 64,
            image_size: 0,
            detail: 4,
            tune: Scope::default(),
            learning_rates: vec![2e-3],
            encoder_learning_rate: None,
            pace: Pace::Epochs(10),
            minutes: 0.0,
            batch_size: 16,
            accumulate: 1,
            loss: PixelLoss::DiceCrossEntropy,
            class_weights: Vec::new(),
            dice_of_batch: true,
            warm_up: 0.05,
            algorithm: Clock::Adamw,
            weight_decay: 1e-2,
            clip: 5.0,
            ema: 0.0,
            layer_decay: 1.0,
            augment: false,
            mirror: false,
            planes: Planes::default(),
            mirrored_votes: false,
            largest_component: false,
            fill_holes: false,
            validate_every: None,
            patience: None,
            checkpoint_every: 200,
            seed: 0,
        }
    }
}

impl SegmentMethod {
    fn checked(&self) -> std::result::Result<(), String> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let rates = self.learning_rates.iter().copied().chain(self.encoder_learning_rate);
        let (Pace::Steps(length) | Pace::Epochs(length)) = self.pace;
        let wrong = [
            (
                self.learning_rates.is_empty() || rates.into_iter().any(|r| !positive(r)),
                "learning_rates: one or more numbers above 0",
            ),
            (length == 0, "pace: at least 1"),
            (!(self.minutes.is_finite() && self.minutes >= 0.0), "minutes: a number from 0"),
            (
                self.class_weights.iter().any(|w| !(w.is_finite() && *w >= 0.0)),
                "class_weights: numbers from 0, one for each class",
            ),
            (self.batch_size == 0, "batch_size: at least 1"),
            (self.accumulate == 0, "accumulate: at least 1"),
            (self.checkpoint_every == 0, "checkpoint_every: at least 1"),
            (!(1..=1024).contains(&self.width), "width: from 1 to 1024"),
            (self.image_size > 0 && !(16..=4096).contains(&self.image_size), "image_size: 0, or from 16 to 4096"),
            (!(1..=32).contains(&self.detail), "detail: from 1 to 32"),
            (!(0.0..=1.0).contains(&self.warm_up), "warm_up: a share of the steps, 0 to 1"),
            (!(self.weight_decay.is_finite() && self.weight_decay >= 0.0), "weight_decay: a number from 0"),
            (!(self.clip.is_finite() && self.clip >= 0.0), "clip: a number from 0"),
            (!(0.0..1.0).contains(&self.ema), "ema: 0 to below 1"),
            (!(self.layer_decay > 0.0 && self.layer_decay <= 1.0), "layer_decay: above 0 and at most 1"),
            (
                !self.tune.is_empty() && !self.model.wants_encoder(),
                "tune: a network from scratch has no encoder to tune",
            ),
            (
                self.model == Architecture::TransUnet && self.image_size == 0,
                "image_size: TransUNet needs one size, a multiple of 16",
            ),
        ];
        if let Some((_, why)) = wrong.iter().find(|(is, _)| *is) {
            return Err((*why).to_owned());
        }
        match &self.tune.lora {
            Some(lora) => lora.check().map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }

    /// Whether slices' tokens are made once and kept.
    fn keeps_tokens(&self) -> bool {
        self.model.wants_encoder() && self.tune.is_empty() && !self.augment
    }

    /// The same with one learning rate of the grid.
    pub(crate) fn at_rate(&self, which: usize) -> Self {
        let one = self.learning_rates.get(which).copied();
        Self { learning_rates: one.into_iter().collect(), ..self.clone() }
    }

    /// A fresh network for scans of a task.
    pub(super) fn net(&self, scans: &Scans, task: &Task) -> Result<Net> {
        let (classes, seed, device) = (task.n_classes(), self.seed, &Device::Cpu);
        let eyes = scans.eyes().filter(|_| self.model.wants_encoder());
        let missing = || EvalError::description("encoder", format!("the decoder `{}` stands on one", self.model));
        let dim = || eyes.map(token_width).ok_or_else(missing)?;
        let decoder: Box<dyn Decoder> = match self.model {
            Architecture::Linear => Box::new(LinearDecoder::new(dim()?, classes, seed, device)?),
            Architecture::Hierarchical => {
                Box::new(UnetDecoder::new(UnetDecoderConfig::new(dim()?, classes), seed, device)?)
            }
            Architecture::Fused => {
                let config = FusedDecoderConfig::new(dim()?, classes).with_width(self.width.next_multiple_of(8));
                Box::new(FusedDecoder::new(config, seed, device)?)
            }
            Architecture::Unet => {
                Box::new(Unet::new(UnetConfig::new(3, classes).with_width(self.width), seed, device)?)
            }
            Architecture::TransUnet => {
                let size = (self.image_size, self.image_size);
                // the published widths from the width of the study's networks on
                let config = match self.width {
                    64.. => TransUnetConfig::published(classes, size),
                    _ => TransUnetConfig::narrow(classes, size),
                };
                Box::new(TransUnet::new(config, seed, device)?)
            }
        };
        let encoder = match eyes {
            Some(eyes) if !self.tune.is_empty() => {
                let mut encoder = (eyes.fresh)()?;
                self.tune.prepare(&mut *encoder, seed)?;
                Some(encoder)
            }
            _ => None,
        };
        Ok(Net { encoder, decoder })
    }

    pub(super) fn drawing(&self, scans: &Scans, task: &Task) -> Drawing {
        let canvas = match (scans.eyes().filter(|_| self.model.wants_encoder()), self.image_size) {
            (Some(eyes), _) => Canvas::Square(eyes.side / eyes.backbone.spec().patch.max(1) * self.detail),
            (None, 0) => Canvas::Own,
            (None, side) => Canvas::Square(side),
        };
        Drawing {
            canvas,
            planes: self.planes,
            mirrored: self.mirrored_votes,
            largest_component: self.largest_component,
            fill_holes: self.fill_holes,
            batch: self.batch_size,
            classes: task.n_classes(),
        }
    }

    /// How fast a parameter moves; `None` for one that stays.
    fn rate(&self, net: &Net, name: &str, shape: &[usize], lr: f64) -> Option<Rate> {
        let matrix = shape.len() >= 2 && shape.iter().filter(|n| **n > 1).count() >= 2;
        let rate = match (name.strip_prefix("encoder."), &net.encoder) {
            (Some(inner), Some(encoder)) => {
                let encoder: &dyn TrainableBackbone = &**encoder;
                if !self.tune.trains(encoder, inner) {
                    return None;
                }
                if inner.ends_with("lora_A") || inner.ends_with("lora_B") {
                    lr
                } else {
                    let depth = encoder.spec().depth;
                    self.encoder_learning_rate.unwrap_or(lr / 20.0)
                        * layer_decay(self.layer_decay, encoder.block_of(inner), depth)
                }
            }
            _ if name.ends_with("running_mean") || name.ends_with("running_var") => return None,
            _ => lr,
        };
        Some(Rate::new(rate).with_weight_decay(if matrix { self.weight_decay } else { 0.0 }))
    }

    fn options(&self, steps: usize) -> TrainOptions {
        let warm_up = ((steps as f64 * self.warm_up).round() as usize).min(steps);
        TrainOptions {
            algorithm: match self.algorithm {
                Clock::Adamw => Algorithm::Adam { betas: (0.9, 0.999), eps: 1e-8, decay: Decay::Decoupled },
                Clock::Sgd => Algorithm::SGD,
            },
            schedule: Schedule { total: steps, warm_up, course: Course::Cosine, floor: 0.0 },
            clip: (self.clip > 0.0).then_some(self.clip),
            accumulate: self.accumulate,
            ema: (self.ema > 0.0).then_some(self.ema),
            seed: self.seed,
        }
    }

    fn batches(&self, scans: &Scans) -> Batches {
        Batches::new(scans, self.planes, self.batch_size, self.seed)
    }

    /// Steps on these scans.
    pub fn steps(&self, scans: &Scans) -> usize {
        match self.pace {
            Pace::Steps(steps) => steps,
            Pace::Epochs(epochs) => (epochs * self.batches(scans).per_pass()).div_ceil(self.accumulate).max(1),
        }
    }

    fn learning<'a>(
        &'a self,
        train: &'a Scans,
        val: Option<&'a Scans>,
        task: &Task,
        context: &Context<'_>,
        blocks: usize,
    ) -> Result<Learning<'a>> {
        let tokens = match self.keeps_tokens() {
            true => Some(Tokens::new(context.checkpoints, blocks, self.batch_size)?),
            false => None,
        };
        let batches = self.batches(train);
        let drawing = self.drawing(train, task);
        Ok(Learning { method: self, train, val, batches, tokens, drawing, recent: VecDeque::new() })
    }

    /// The tokens of every training slice, with progress.
    fn encode(&self, learning: &mut Learning<'_>, context: &Context<'_>) -> Result<()> {
        let (scans, Some(tokens)) = (learning.train, &mut learning.tokens) else { return Ok(()) };
        let Some(eyes) = scans.eyes() else { return Ok(()) };
        context.progress.set_total(scans.len());
        let of_scan = |i: usize| -> usize {
            let dims = scans.dims(i);
            self.planes.axes(dims).iter().map(|axis| [dims.0, dims.1, dims.2][*axis]).sum()
        };
        let slices: usize = (0..scans.len()).map(of_scan).sum();
        let side = eyes.side / eyes.backbone.spec().patch.max(1);
        let bytes = slices as f64 * (2 * tokens.blocks() * side * side * token_width(eyes)?) as f64;
        for scan in 0..scans.len() {
            for &axis in self.planes.axes(scans.dims(scan)) {
                tokens.make(scans, eyes, scan, axis)?;
            }
            context
                .progress
                .message(&format!("encoding training slices, {:.1} GiB on disk", bytes / f64::from(1 << 30)));
            context.progress.advance(1);
        }
        Ok(())
    }

    fn rates(&self, net: &Net, lr: f64) -> BTreeMap<String, Rate> {
        let mut rates = BTreeMap::new();
        net.visit("", &mut |name, t| {
            if let Some(rate) = self.rate(net, name, t.dims(), lr) {
                rates.insert(name.to_owned(), rate);
            }
        });
        rates
    }

    /// One training of the grid.
    fn train(
        &self,
        lr: f64,
        (train, val): (&Scans, Option<&Scans>),
        task: &Task,
        context: &Context<'_>,
    ) -> Result<Point> {
        let net = self.net(train, task)?;
        let steps = self.steps(train);
        let mut lesson = self.learning(train, val, task, context, net.decoder.blocks())?;
        self.encode(&mut lesson, context)?;
        let rates = self.rates(&net, lr);
        let mut trainer = Trainer::new(net, &self.options(steps), &mut |name| rates.get(name).copied())?;
        let trained: Vec<String> = trainer.variables().keys().cloned().collect();
        let identity = self.identity(lr, train, val, task);
        let folder = context.checkpoints.map(|folder| folder.join(format!("lr{lr}-{}", &identity[..12])));
        let options = RunOptions {
            validate_every: self.validate_every.unwrap_or_else(|| steps.div_ceil(5)),
            patience: self.patience,
            checkpoint_every: self.checkpoint_every,
            folder: folder.as_deref(),
            identity: &identity,
            progress: context.progress,
        };
        let ended = run(&mut trainer, &mut lesson, &options)?;
        let net = trainer.finish()?;
        let mut kept: BTreeMap<String, candle::Tensor> = BTreeMap::new();
        let tensors = net.tensors();
        // a decoder is kept whole, its statistics with it; of an encoder what trained
        for (name, tensor) in &tensors {
            if !name.starts_with("encoder.") || trained.contains(name) {
                kept.insert(name.clone(), tensor.detach());
            }
        }
        let moved = trained.iter().filter_map(|name| tensors.get(name)).map(candle::Tensor::elem_count).sum();
        Ok(Point { kept, moved, ended, learning_rate: lr })
    }

    /// What tells this training from every other one.
    fn identity(&self, lr: f64, train: &Scans, val: Option<&Scans>, task: &Task) -> String {
        let alone = SegmentMethod { learning_rates: vec![lr], minutes: 0.0, ..self.clone() };
        let mut hasher = blake3::Hasher::new();
        hasher.update(serde_json::to_string(&alone).unwrap_or_default().as_bytes());
        hasher.update(format!("{:?}", task.class_names).as_bytes());
        for scans in [Some(train), val].into_iter().flatten() {
            hasher.update(b"scans");
            for i in 0..scans.len() {
                hasher.update(scans.fingerprint(i).as_bytes());
            }
        }
        // what is not held comes in another order
        hasher.update(format!("held {}", train.is_held()).as_bytes());
        if let Some(eyes) = train.eyes() {
            hasher.update(eyes.fingerprint().as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// What a step and the mask of a scan take: some of the first are timed, and one of the second.
    fn speed(&self, train: &Scans, task: &Task, context: &Context<'_>, steps: usize) -> Result<Speed> {
        let net = self.net(train, task)?;
        let mut lesson = self.learning(train, None, task, context, net.decoder.blocks())?;
        self.encode(&mut lesson, context)?;
        let rates = self.rates(&net, 1e-6);
        let mut trainer = Trainer::new(net, &self.options(steps + 1), &mut |name| rates.get(name).copied())?;
        let mut step = |trainer: &mut Trainer<Net>| {
            trainer.step(&mut |net, at, pass| dinorad_nn::train::Lesson::loss(&mut lesson, net, at, pass))
        };
        // the first one makes room
        step(&mut trainer)?;
        let before = Instant::now();
        for _ in 0..steps {
            step(&mut trainer)?;
        }
        let per_step = before.elapsed().as_secs_f64() / steps.max(1) as f64;
        let net = trainer.finish()?;
        let one = train.first(1);
        let before = Instant::now();
        let mut table = MaskTable::new(task, 1.0);
        every_mask(&net, &one, &self.drawing(train, task), &mut |case, mask| {
            // with what is done to a test case
            table.judge("", "", (&mask, &one.mask_of(case)?), [1.0; 3]).map(|_| ())
        })?;
        // scans differ in size
        let voxels = |scans: &Scans| {
            let each = (0..scans.len()).map(|i| scans.dims(i)).map(|(d, h, w)| d * h * w);
            each.sum::<usize>() as f64
        };
        let share = (voxels(train) / train.len() as f64) / voxels(&one).max(1.0);
        Ok(Speed { per_step, per_scan: before.elapsed().as_secs_f64() * share })
    }

    /// Seconds that trainings and tests will take as they are described, for a network whose steps cost the most; a
    /// step and the mask of a scan are timed. `None` for a decoder on tokens that are kept: its slices are encoded
    /// first, and what that takes is seen then.
    ///
    /// # Errors
    /// What the scans and the encoder say.
    pub fn estimate(
        &self,
        train: &Scans,
        task: &Task,
        (fits, drawn, validated): (usize, usize, usize),
        context: &Context<'_>,
    ) -> Result<Option<f64>> {
        if self.keeps_tokens() || train.is_empty() {
            return Ok(None);
        }
        let Speed { per_step, per_scan } = self.speed(train, task, context, 1)?;
        let steps = self.steps(train);
        let validations = steps.div_ceil(self.validate_every.unwrap_or(steps.div_ceil(5)).max(1));
        Ok(Some(per_step * (fits * steps) as f64 + per_scan * (drawn + validations * validated) as f64))
    }

    /// The method with as many steps as its minutes allow, and what was cut, in words: some steps and the mask of a
    /// scan are timed. `fits` trainings will follow, masks of `drawn` scans, and at every validation those of
    /// `validated` scans, over all trainings.
    ///
    /// # Errors
    /// What the scans and the encoder say; [`EvalError::Unfit`] where no step would be left.
    pub fn within_minutes(
        &self,
        train: &Scans,
        task: &Task,
        (fits, drawn, validated): (usize, usize, usize),
        context: &Context<'_>,
    ) -> Result<(Self, Option<String>)> {
        if self.minutes == 0.0 || train.is_empty() {
            return Ok((self.clone(), None));
        }
        let started = Instant::now();
        let Speed { per_step, per_scan } = self.speed(train, task, context, 4)?;
        let left = 60.0 * self.minutes - started.elapsed().as_secs_f64() - per_scan * drawn as f64;
        let wanted = self.steps(train);
        // what validations take, by step
        let every = self.validate_every.unwrap_or(wanted.div_ceil(5)).max(1) as f64;
        let per_step = per_step + per_scan * validated as f64 / every / fits.max(1) as f64;
        // a tenth for checkpoints and what else a run does
        let allowed = (0.9 * left / per_step / fits.max(1) as f64).floor();
        if allowed < 1.0 {
            let why = format!(
                "{} minutes are too few: encoding took {:.0} s, the masks of {drawn} scans will take {:.0} s, a step {per_step:.1} s",
                self.minutes,
                started.elapsed().as_secs_f64(),
                per_scan * drawn as f64,
            );
            return Err(EvalError::unfit(why));
        }
        let steps = wanted.min(allowed as usize);
        let cut = (steps < wanted).then(|| {
            format!(
                "{} minutes: {steps} of {wanted} steps in each of {fits} trainings, {per_step:.2} s a step",
                self.minutes
            )
        });
        Ok((Self { pace: Pace::Steps(steps), ..self.clone() }, cut))
    }
}

/// Seconds.
struct Speed {
    per_step: f64,
    per_scan: f64,
}

/// Width of the patch tokens of an encoder: as it says, or measured where it projects what it says.
fn token_width(eyes: &super::Eyes) -> Result<usize> {
    let spec = eyes.backbone.spec();
    let side = spec.patch.max(1) * 2;
    let seen = candle::Tensor::zeros((1, 3, side, side), candle::DType::F32, &Device::Cpu)?;
    let tokens = super::net::patch_tokens(&*eyes.backbone, &seen, &super::net::request(&*eyes.backbone, 1))?;
    let first = tokens.first().ok_or_else(|| EvalError::unfit(format!("{} gives no patch tokens", spec.id)))?;
    Ok(first.dim(2)?)
}

/// The scans behind what is lent.
pub(super) fn scans(lent: &dyn Lent) -> std::result::Result<&Scans, Error> {
    lent.lender().and_then(|lender| lender.downcast_ref::<Scans>()).ok_or(Error::NotLent { what: "scans" })
}

impl Method for SegmentMethod {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn title(&self) -> &'static str {
        use Architecture as A;
        match (self.model, self.tune.is_empty(), self.tune.full, self.tune.lora.is_some()) {
            (A::Unet, ..) => "U-Net from scratch",
            (A::TransUnet, ..) => "TransUNet from scratch",
            (A::Linear, true, ..) => "linear decoder",
            (A::Hierarchical, true, ..) => "hierarchical decoder",
            (A::Fused, true, ..) => "fused decoder",
            (A::Linear, _, true, _) => "linear decoder and full fine-tuning",
            (A::Hierarchical, _, true, _) => "hierarchical decoder and full fine-tuning",
            (A::Fused, _, true, _) => "fused decoder and full fine-tuning",
            (A::Linear, _, _, true) => "linear decoder and LoRA",
            (A::Hierarchical, _, _, true) => "hierarchical decoder and LoRA",
            (A::Fused, _, _, true) => "fused decoder and LoRA",
            _ => "decoder and partial fine-tuning",
        }
    }

    fn input(&self) -> Input {
        Input::Pixels
    }

    fn draws_masks(&self) -> bool {
        true
    }

    fn settings(&self) -> Vec<Setting> {
        let setting =
            |lr: &f64| Setting::new(format!("learning rate {lr}"), format!("lr{lr}")).with("learning_rate", *lr);
        self.learning_rates.iter().map(setting).collect()
    }

    fn search_axis(&self) -> Option<SearchAxis> {
        Some(SearchAxis { value: "learning_rate", label: "learning rate", plot: "dice-by-learning-rate" })
    }

    fn single_setting(&self) -> &'static str {
        "learning_rates = [0.002]"
    }

    fn check(&self, task: &Task) -> std::result::Result<(), Error> {
        match task.kind {
            TaskKind::Segmentation if self.class_weights.is_empty() || self.class_weights.len() == task.n_classes() => {
                Ok(())
            }
            TaskKind::Segmentation => {
                let (n, classes) = (self.class_weights.len(), task.class_names.join(", "));
                Err(Error::failed(format!("{n} class weights for the classes {classes}: one for each")))
            }
            _ => Err(Error::failed("masks are drawn where cases have masks")),
        }
    }

    fn with_seed(&self, seed: u64) -> Box<dyn Method> {
        Box::new(Self { seed, ..self.clone() })
    }

    fn only(&self, which: usize) -> Box<dyn Method> {
        Box::new(self.at_rate(which))
    }

    fn clone_box(&self) -> Box<dyn Method> {
        Box::new(self.clone())
    }

    fn fit(&self, train: &dyn Lent, task: &Task, context: &Context<'_>) -> std::result::Result<Box<dyn Fitted>, Error> {
        let train = scans(train)?;
        let val = context.val.map(scans).transpose()?.filter(|val| !val.is_empty());
        let mut points = Vec::with_capacity(self.learning_rates.len());
        let mut diverged = None;
        for lr in &self.learning_rates {
            context.progress.message(&format!("learning rate {lr}"));
            match self.train(*lr, (train, val), task, context) {
                Ok(point) => points.push(Some(Arc::new(point))),
                // a rate that is too large is a bad rate, not a broken run
                Err(error @ EvalError::Nn(dinorad_nn::Error::Diverged { .. })) => {
                    context.progress.message(&format!("learning rate {lr}: {error}"));
                    diverged = Some(error);
                    points.push(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        match diverged {
            Some(error) if points.iter().all(Option::is_none) => Err(error.into()),
            _ => Ok(Box::new(Drawn::new(self.clone(), task.clone(), points))),
        }
    }
}
