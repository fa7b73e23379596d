//! Fine-tuning as a method: what a description may say, and one training for every point of a grid.

use std::sync::Arc;

use candle::Device;
use dinorad_backbone::tuning::{Checked, Lora, PeftNames, Scope, TrainableBackbone, check_step};
use dinorad_core::{
    Task, TaskKind,
    method::{Context, Entry, Error, Fitted, Input, Lent, Method, SearchAxis, Setting},
};
use dinorad_nn::{
    Course, Schedule, Trainable, layer_decay,
    optim::{Algorithm, Decay},
    train::{Ended, Rate, RunOptions, TrainOptions, Trainer, run},
};
use serde::{Deserialize, Serialize};

use super::{
    fitted::{Point, Tuned},
    lesson::Learning,
    model::Model,
    plan::MemoryPlan,
};
use crate::{
    Error as EvalError, Result,
    probe::{CasePixels, Labelled},
};

/// `finetune`: the encoder learns too.
pub const ENTRY: Entry = Entry {
    name: "finetune",
    summary: "the encoder learns too: all of it, its biases, norms, last blocks, or LoRA adapters",
    keys: &[
        "tune",
        "learning_rates",
        "encoder_learning_rate",
        "pace",
        "batch_size",
        "accumulate",
        "warm_up",
        "decay",
        "algorithm",
        "weight_decay",
        "clip",
        "ema",
        "layer_decay",
        "drop_path",
        "recompute",
        "augment",
        "max_slices",
        "validate_every",
        "patience",
        "checkpoint_every",
        "peft_names",
        "save_encoder",
        "memory",
        "seed",
    ],
    read: |from, _| {
        let method: FinetuneMethod = erased_serde::deserialize(from)?;
        method.checked().map_err(<erased_serde::Error as serde::de::Error>::custom)?;
        Ok(Box::new(method))
    },
    load: |folder| Ok(Box::new(Tuned::load(folder)?)),
};

/// How long training lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// So many passes over the training cases.
    Epochs(usize),
    /// So many steps.
    Steps(usize),
}

impl Pace {
    /// Steps on `n` cases, of which a step sees `each`.
    pub fn steps(self, n: usize, each: usize) -> usize {
        match self {
            Pace::Steps(steps) => steps,
            Pace::Epochs(epochs) => (epochs * n).div_ceil(each.max(1)).max(1),
        }
    }
}

/// How gradients become steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// AdamW with PyTorch's betas and eps.
    #[default]
    Adamw,
    /// SGD with momentum 0.9.
    Sgd,
}

/// Fine-tuning of an encoder with a linear head on its tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneMethod {
    /// What trains beside the head: `full`, `lora`, `bitfit`, `norm`, `last_blocks`, or several.
    pub tune: Scope,
    /// Learning rates of head, pooling and adapters: each is a training of its own, chosen by validation.
    pub learning_rates: Vec<f64>,
    /// Learning rate of what else trains in the encoder; by default that of the head for biases and norms
    /// alone, a twentieth of it for whole blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_learning_rate: Option<f64>,
    /// How long.
    pub pace: Pace,
    /// Cases whose loss is computed at once.
    pub batch_size: usize,
    /// Such batches for one step.
    pub accumulate: usize,
    /// Share of the steps in which the rates rise.
    pub warm_up: f64,
    /// What the rates do then.
    pub decay: Course,
    /// How gradients become steps.
    pub algorithm: Clock,
    /// Decoupled weight decay of matrices; gains, biases and tokens have none.
    pub weight_decay: f64,
    /// Longest gradient; 0 for any.
    pub clip: f64,
    /// Share of an average of weights that is kept at every step; 0 for none.
    pub ema: f64,
    /// Factor of the learning rate for every block that lies behind.
    pub layer_decay: f64,
    /// Probability that the last block's residual branches are dropped, falling to 0 at the first block.
    pub drop_path: f64,
    /// Activation checkpointing: a block's input alone is kept, the rest is computed again for the backward
    /// pass.
    pub recompute: bool,
    /// Whether training sees random crops and flips.
    pub augment: bool,
    /// Slices of a scan that a step sees at most, drawn anew in every pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_slices: Option<usize>,
    /// Steps between validations; by default a tenth of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every: Option<usize>,
    /// Validations without a better score after which training ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// For which transformers the adapter folder is written.
    pub peft_names: PeftNames,
    /// Whether the tuned encoder is written as a Hugging Face folder too, adapters merged.
    pub save_encoder: bool,
    /// Whether the need of memory is judged before training.
    pub memory: bool,
    /// Seed of the head, the adapters, the order of cases and what training draws.
    pub seed: u64,
}

impl Default for FinetuneMethod {
    /// LoRA on queries and values, 10 passes in batches of 16, AdamW at 1e-3.
    fn default() -> Self {
        Self {
            tune: Scope { lora: Some(Lora::default()), ..Scope::default() },
            learning_rates: vec![1e-3],
            encoder_learning_rate: None,
            pace: Pace::Epochs(10),
            batch_size: 16,
            accumulate: 1,
            warm_up: 0.1,
            decay: Course::Cosine,
            algorithm: Clock::Adamw,
            weight_decay: 0.05,
            clip: 1.0,
            ema: 0.0,
            layer_decay: 1.0,
            drop_path: 0.0,
            recompute: false,
            augment: false,
            max_slices: None,
            validate_every: None,
            patience: None,
            checkpoint_every: 50,
            peft_names: PeftNames::default(),
            save_encoder: false,
            memory: true,
            seed: 0,
        }
    }
}

impl FinetuneMethod {
    fn checked(&self) -> std::result::Result<(), String> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let rates = self.learning_rates.iter().copied().chain(self.encoder_learning_rate);
        let (steps, what) = match self.pace {
            Pace::Steps(n) => (n, "steps"),
            Pace::Epochs(n) => (n, "epochs"),
        };
        let wrong = [
            (
                self.learning_rates.is_empty() || rates.into_iter().any(|r| !positive(r)),
                "learning_rates: one or more numbers above 0",
            ),
            (steps == 0, if what == "steps" { "pace: at least 1 step" } else { "pace: at least 1 epoch" }),
            (self.batch_size == 0, "batch_size: at least 1"),
            (self.accumulate == 0, "accumulate: at least 1"),
            (self.checkpoint_every == 0, "checkpoint_every: at least 1"),
            (!(0.0..=1.0).contains(&self.warm_up), "warm_up: a share of the steps, 0 to 1"),
            (!(self.weight_decay.is_finite() && self.weight_decay >= 0.0), "weight_decay: a number from 0"),
            (!(self.clip.is_finite() && self.clip >= 0.0), "clip: a number from 0"),
            (!(0.0..1.0).contains(&self.ema), "ema: 0 to below 1"),
            (!(self.layer_decay > 0.0 && self.layer_decay <= 1.0), "layer_decay: above 0 and at most 1"),
            (!(0.0..1.0).contains(&self.drop_path), "drop_path: 0 to below 1"),
            (self.max_slices == Some(0), "max_slices: at least 1"),
        ];
        if let Some((_, why)) = wrong.iter().find(|(is, _)| *is) {
            return Err((*why).to_owned());
        }
        match &self.tune.lora {
            Some(lora) => lora.check().map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }

    /// The learning rate of what trains in the encoder beside adapters.
    fn rate_of_encoder(&self, head: f64) -> f64 {
        let whole = self.tune.full || self.tune.last_blocks > 0;
        self.encoder_learning_rate.unwrap_or(if whole { head / 20.0 } else { head })
    }

    /// How fast a parameter of the model moves at a point of the grid; `None` for one that stays.
    pub(super) fn rate(&self, encoder: &dyn TrainableBackbone, name: &str, shape: &[usize], lr: f64) -> Option<Rate> {
        let matrix = shape.len() >= 2 && shape.iter().filter(|n| **n > 1).count() >= 2;
        let rate = match name.strip_prefix("encoder.") {
            None => lr,
            Some(inner) if !self.tune.trains(encoder, inner) => return None,
            Some(inner) if inner.ends_with("lora_A") || inner.ends_with("lora_B") => lr,
            Some(inner) => {
                self.rate_of_encoder(lr) * layer_decay(self.layer_decay, encoder.block_of(inner), encoder.spec().depth)
            }
        };
        // tokens and positions are no maps of anything
        let token = name.ends_with("_token") || name.ends_with("_tokens") || name.ends_with("pos_embed");
        let decay = if matrix && !token { self.weight_decay } else { 0.0 };
        Some(Rate::new(rate).with_weight_decay(decay))
    }

    fn options(&self, steps: usize) -> TrainOptions {
        let warm_up = ((steps as f64 * self.warm_up).round() as usize).min(steps);
        TrainOptions {
            algorithm: match self.algorithm {
                Clock::Adamw => Algorithm::Adam { betas: (0.9, 0.999), eps: 1e-8, decay: Decay::Decoupled },
                Clock::Sgd => Algorithm::SGD,
            },
            schedule: Schedule { total: steps, warm_up, course: self.decay, floor: 0.0 },
            clip: (self.clip > 0.0).then_some(self.clip),
            accumulate: self.accumulate,
            ema: (self.ema > 0.0).then_some(self.ema),
            seed: self.seed,
        }
    }

    /// Steps on `n` training cases.
    pub fn steps(&self, n: usize) -> usize {
        self.pace.steps(n, self.batch_size * self.accumulate)
    }

    /// A fresh encoder with what the method puts in.
    pub(super) fn encoder(&self, source: &dyn CasePixels) -> Result<Box<dyn TrainableBackbone>> {
        let mut encoder = source.encoder()?;
        self.tune.prepare(&mut *encoder, self.seed)?;
        encoder.set_drop_path(self.drop_path)?;
        encoder.set_recompute(self.recompute)?;
        Ok(encoder)
    }

    /// A fresh model for a task.
    pub(super) fn model(&self, source: &dyn CasePixels, task: &Task) -> Result<Model> {
        Model::new(self.encoder(source)?, source.layout(), task, self.seed, &Device::Cpu)
    }

    /// Makes one step and tells of every parameter what it did.
    ///
    /// # Errors
    /// What the cases and the encoder say.
    pub fn check_step(&self, train: &Labelled, task: &Task) -> Result<Vec<Checked>> {
        let source = pixels_of(train)?;
        let model = self.model(&*source, task)?;
        let lr = self.learning_rates.first().copied().unwrap_or(1e-3);
        let mut rates = std::collections::BTreeMap::new();
        model.visit("", &mut |name, t| {
            if let Some(rate) = self.rate(&*model.encoder, name, t.dims(), lr) {
                rates.insert(name.to_owned(), rate);
            }
        });
        let mut lesson = Learning::new(self, task, train, None, source, Device::Cpu, 1)?;
        let lesson = &mut lesson;
        let (_, checked) = check_step(model, &mut |name| rates.get(name).copied(), &mut |model, at, pass| {
            dinorad_nn::train::Lesson::loss(lesson, model, at, pass)
        })?;
        Ok(checked)
    }

    /// One training of the grid.
    fn train(&self, lr: f64, learning: &Cases<'_>, task: &Task, context: &Context<'_>) -> Result<Point> {
        let Cases { train, val, source } = learning;
        let model = self.model(&**source, task)?;
        let steps = self.steps(train.len());
        if self.memory {
            MemoryPlan::of(self, &model, train, &**source)?.fits()?;
        }
        let mut rates = std::collections::BTreeMap::new();
        model.visit("", &mut |name, t| {
            if let Some(rate) = self.rate(&*model.encoder, name, t.dims(), lr) {
                rates.insert(name.to_owned(), rate);
            }
        });
        let mut trainer = Trainer::new(model, &self.options(steps), &mut |name| rates.get(name).copied())?;
        let trained: Vec<String> = trainer.variables().keys().cloned().collect();
        let identity = self.identity(lr, train, *val, &**source);
        let folder = context.checkpoints.map(|folder| folder.join(format!("lr{lr}-{}", &identity[..12])));
        let options = RunOptions {
            validate_every: self.validate_every.unwrap_or_else(|| steps.div_ceil(10)),
            patience: self.patience,
            checkpoint_every: self.checkpoint_every,
            folder: folder.as_deref(),
            identity: &identity,
            progress: context.progress,
        };
        let mut lesson = Learning::new(self, task, train, *val, Arc::clone(source), Device::Cpu, steps)?;
        let ended: Ended = run(&mut trainer, &mut lesson, &options)?;
        let tensors = trainer.finish()?.tensors();
        let kept = trained.into_iter().filter_map(|name| Some((name.clone(), tensors.get(&name)?.detach())));
        Ok(Point { trained: kept.collect(), ended, learning_rate: lr })
    }

    /// What tells this training from every other one.
    fn identity(&self, lr: f64, train: &Labelled, val: Option<&Labelled>, source: &dyn CasePixels) -> String {
        let cases = |of: &Labelled| {
            let mut hasher = blake3::Hasher::new();
            for (id, target) in of.ids.iter().zip(&of.targets) {
                hasher.update(format!("{id}\0{target:?}\0").as_bytes());
            }
            hasher.finalize().to_hex().to_string()
        };
        let alone =
            FinetuneMethod { learning_rates: vec![lr], peft_names: PeftNames::V5, save_encoder: false, ..self.clone() };
        let settings = serde_json::to_string(&alone).unwrap_or_default();
        let val = val.map_or_else(String::new, cases);
        let text = format!("{settings} {} {val} {}", cases(train), source.identity());
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

/// Cases that are learned from, and those that training stops by.
struct Cases<'a> {
    train: &'a Labelled,
    val: Option<&'a Labelled>,
    source: Arc<dyn CasePixels>,
}

/// The pixels behind lent cases.
pub(super) fn pixels_of(cases: &Labelled) -> Result<Arc<dyn CasePixels>> {
    cases
        .pixels
        .clone()
        .ok_or_else(|| EvalError::Protocol { protocol: "fine-tuning", why: "the cases lend no pixels".into() })
}

/// The lender itself.
pub(super) fn labelled(cases: &dyn Lent) -> std::result::Result<&Labelled, Error> {
    cases.lender().and_then(|lender| lender.downcast_ref::<Labelled>()).ok_or(Error::NotLent { what: "pixels" })
}

impl From<EvalError> for Error {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Nn(dinorad_nn::Error::Diverged { .. }) => Error::unlearnable(error),
            _ => Error::failed(error),
        }
    }
}

impl Method for FinetuneMethod {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn title(&self) -> &'static str {
        let Scope { full, bitfit, norm, last_blocks, lora } = &self.tune;
        match (full, bitfit, norm, last_blocks, lora) {
            (true, ..) => "full fine-tuning",
            (_, false, false, 0, Some(_)) => "LoRA",
            (_, true, false, 0, Some(_)) => "LoRA and BitFit",
            (_, true, false, 0, None) => "BitFit",
            (_, false, true, 0, None) => "norms fine-tuned",
            (_, false, false, 1.., None) => "last blocks fine-tuned",
            (_, false, false, 0, None) => "linear head by fine-tuning",
            _ => "partial fine-tuning",
        }
    }

    fn input(&self) -> Input {
        Input::Pixels
    }

    fn settings(&self) -> Vec<Setting> {
        let setting =
            |lr: &f64| Setting::new(format!("learning rate {lr}"), format!("lr{lr}")).with("learning_rate", *lr);
        self.learning_rates.iter().map(setting).collect()
    }

    fn search_axis(&self) -> Option<SearchAxis> {
        Some(SearchAxis { value: "learning_rate", label: "learning rate", plot: "auroc-by-learning-rate" })
    }

    fn single_setting(&self) -> &'static str {
        "learning_rates = [0.001]"
    }

    fn check(&self, task: &Task) -> std::result::Result<(), Error> {
        match task.kind {
            TaskKind::Segmentation => Err(Error::failed("fine-tuning here judges classes and findings, not masks")),
            _ => Ok(()),
        }
    }

    fn with_seed(&self, seed: u64) -> Box<dyn Method> {
        Box::new(Self { seed, ..self.clone() })
    }

    fn only(&self, which: usize) -> Box<dyn Method> {
        let one = self.learning_rates.get(which).copied();
        Box::new(Self { learning_rates: one.into_iter().collect(), ..self.clone() })
    }

    fn clone_box(&self) -> Box<dyn Method> {
        Box::new(self.clone())
    }

    fn fit(&self, train: &dyn Lent, task: &Task, context: &Context<'_>) -> std::result::Result<Box<dyn Fitted>, Error> {
        let train = labelled(train)?;
        let val = context.val.map(labelled).transpose()?.filter(|val| !val.is_empty());
        let cases = Cases { train, val, source: pixels_of(train)? };
        let mut points = Vec::with_capacity(self.learning_rates.len());
        for lr in &self.learning_rates {
            context.progress.message(&format!("learning rate {lr}"));
            points.push(self.train(*lr, &cases, task, context)?);
        }
        Ok(Box::new(Tuned::new(self.clone(), task.clone(), points)))
    }
}
