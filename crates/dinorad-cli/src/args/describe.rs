//! From what was typed to a description: the only place where options become settings.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinorad::{
    backbone::tuning::Scope,
    datasets::{Columns, DatasetSpec},
    eval::{Error as EvalError, experiment::Experiment},
};
use toml::{Table, Value};

use super::{
    Avgpool, ColumnArgs, EncoderArgs, EvalCommand, EvalKnnArgs, EvalLinearArgs, EvalLogregArgs, EvalMlknnArgs,
    FinetuneArgs, JudgeArgs, Precision, SegmentTrainArgs, TokenArgs, TunedArgs,
};

/// A table of what was given; what was not is left to the protocol.
#[derive(Clone, Default)]
struct Given(Table);

impl Given {
    fn named(name: &str) -> Self {
        Self::default().with("name", name)
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    fn maybe(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// A list, unless it is empty.
    fn list<T: Clone + Into<Value>>(self, key: &str, values: &[T]) -> Self {
        if values.is_empty() { self } else { self.with(key, values.to_vec()) }
    }
}

impl From<Given> for Value {
    fn from(given: Given) -> Self {
        Value::Table(given.0)
    }
}

/// What is said where no encoder is named.
const NO_ENCODER: &str = "name an encoder: --backbone ID, such as facebook/dinov2-small (see `dinorad models`)";

fn whole(n: usize) -> Result<i64> {
    i64::try_from(n).with_context(|| format!("{n} is too large"))
}

fn wholes(numbers: &[usize]) -> Result<Vec<i64>> {
    numbers.iter().map(|n| whole(*n)).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl EvalCommand {
    /// The experiment for each encoder in turn.
    pub(crate) fn experiments(&self) -> Result<Vec<Experiment>> {
        let (judge, method, tokens) = match self {
            EvalCommand::Knn(args) => (&args.judge, args.method()?, Some(&args.tokens)),
            EvalCommand::Mlknn(args) => (&args.judge, args.method()?, Some(&args.tokens)),
            EvalCommand::Logreg(args) => (&args.judge, args.method()?, Some(&args.tokens)),
            EvalCommand::Linear(args) => (&args.judge, args.method()?, None),
        };
        let costly = matches!(self, EvalCommand::Linear(args) if args.augment);
        let description = judge.description(method, tokens, costly)?;
        judge.of_encoders(&description)
    }

    /// What all ways of judging take.
    pub(crate) fn judge(&self) -> &JudgeArgs {
        match self {
            EvalCommand::Knn(args) => &args.judge,
            EvalCommand::Mlknn(args) => &args.judge,
            EvalCommand::Logreg(args) => &args.judge,
            EvalCommand::Linear(args) => &args.judge,
        }
    }
}

impl FinetuneArgs {
    /// The experiment for each encoder in turn.
    pub(crate) fn experiments(&self) -> Result<Vec<Experiment>> {
        let mut description = self.judge.description(self.described()?, Some(&self.tokens), true)?;
        if self.method == LORA_ATTENTION {
            description = description.with("aggregate", "attention");
        }
        self.judge.of_encoders(&description)
    }

    fn described(&self) -> Result<Given> {
        let word = if self.method == LORA_ATTENTION { "lora" } else { &self.method };
        let (_, tune) = self.tuned.described(word, |lora| {
            lora.with("dropout", self.lora_dropout).with("bias", self.lora_bias.clone()).with("rslora", self.rslora)
        })?;
        let pace = paced(self.steps, self.epochs)?;
        Ok(Given::named("finetune")
            .with("tune", tune)
            .list("learning_rates", &self.lr)
            .maybe("encoder_learning_rate", self.encoder_lr)
            .with("pace", pace)
            .with("batch_size", whole(self.batch_size)?)
            .with("accumulate", whole(self.accumulate)?)
            .with("warm_up", self.warm_up)
            .with("decay", self.decay.clone())
            .with("algorithm", self.algorithm.clone())
            .with("weight_decay", self.weight_decay)
            .with("clip", self.clip)
            .with("ema", self.ema)
            .with("layer_decay", self.layer_decay)
            .with("drop_path", self.drop_path)
            .with("recompute", self.recompute)
            .with("augment", self.augment)
            .maybe("max_slices", self.max_slices.map(whole).transpose()?)
            .maybe("validate_every", self.validate_every.map(whole).transpose()?)
            .maybe("patience", self.patience.map(whole).transpose()?)
            .with("checkpoint_every", whole(self.checkpoint_every)?)
            .with("peft_names", self.peft_names.clone())
            .with("save_encoder", self.save_encoder)
            .with("memory", !self.no_memory_check))
    }
}

impl TunedArgs {
    /// What a word such as `lora+bitfit` trains, and its description; `more` says what else adapters are set to.
    fn described(&self, word: &str, more: impl FnOnce(Given) -> Given) -> Result<(Scope, Given)> {
        let mut scope: Scope = word.parse()?;
        scope.last_blocks *= self.last_blocks;
        let lora = scope.lora.is_some().then(|| -> Result<Given> {
            let lora = Given::default().with("rank", whole(self.rank)?).with("alpha", self.alpha);
            Ok(more(lora.list("targets", &self.targets)))
        });
        let tune = Given::default()
            .with("full", scope.full)
            .with("bitfit", scope.bitfit)
            .with("norm", scope.norm)
            .with("last_blocks", whole(scope.last_blocks)?)
            .maybe("lora", lora.transpose()?);
        Ok((scope, tune))
    }
}

/// How long: so many steps, else so many passes.
fn paced(steps: Option<usize>, epochs: Option<usize>) -> Result<Given> {
    Ok(match steps {
        Some(steps) => Given::default().with("steps", whole(steps)?),
        None => Given::default().with("epochs", whole(epochs.unwrap_or(10))?),
    })
}

impl SegmentTrainArgs {
    /// The experiment.
    pub(crate) fn experiment(&self) -> Result<Experiment> {
        let paper = self.protocol == "paper";
        let (scope, tune) = self.tuned.described(&self.tune, |lora| lora)?;
        let pace = paced(self.steps, self.epochs)?;
        let source = match (self.model.is_some(), self.encoder.backbone.as_slice()) {
            (true, _) => dinorad::eval::experiment::NO_ENCODER.to_owned(),
            (false, []) => bail!("{NO_ENCODER}, or a network from scratch with --model unet"),
            (false, [source]) => source.clone(),
            (false, several) => bail!("segment train takes one --backbone, got {}", several.len()),
        };
        let frozen = self.model.is_none() && scope.is_empty();
        let scratch = self.model.is_some();
        let side = self.image_size.or((scratch && paper).then_some(448));
        let method = Given::named("segment")
            .with("model", self.model.clone().unwrap_or_else(|| self.decoder.clone()))
            .with("width", whole(self.width.unwrap_or(if paper { 64 } else { 24 }))?)
            .maybe("image_size", side.filter(|_| scratch).map(whole).transpose()?)
            .with("detail", whole(self.detail)?)
            .with("tune", tune)
            .list("learning_rates", &self.lr)
            .maybe("encoder_learning_rate", self.encoder_lr)
            .with("pace", pace)
            .maybe("minutes", self.minutes)
            .with("batch_size", whole(self.batch_size)?)
            .with("accumulate", whole(self.accumulate)?)
            .with("loss", self.loss.clone())
            .list("class_weights", &self.class_weights)
            .with("dice_of_batch", !(paper || self.dice_by_slice))
            .with("weight_decay", self.weight_decay)
            .with("augment", if frozen { self.augment } else { !self.no_augment })
            .with("mirror", self.mirror)
            .with("planes", self.planes.clone())
            .with("mirrored_votes", self.mirrored_votes)
            .with("largest_component", self.largest_component)
            .with("fill_holes", self.fill_holes)
            .maybe("validate_every", self.validate_every.map(whole).transpose()?)
            .maybe("patience", self.patience.map(whole).transpose()?)
            .with("checkpoint_every", whole(self.checkpoint_every)?);
        let preprocessing = Given::default()
            .maybe("image_size", side.filter(|_| !scratch).map(whole).transpose()?)
            .maybe("intensity", self.intensity.clone());
        let data = Given::named(&self.dataset)
            .with("root", text(&self.root))
            .maybe("splits", self.splits.as_deref().map(text))
            .maybe("channel", (self.channel > 0).then(|| whole(self.channel)).transpose()?)
            .with("bad", if self.strict_data { "stop" } else { "skip" });
        if self.patch_size.len() != 3 {
            bail!("--patch-size takes three numbers: slices, rows and columns, such as 20,20,20");
        }
        let few = !(self.volumes.is_empty() && self.patches.is_empty());
        if self.few_steps.is_some() && !few {
            bail!("--few-steps is of --volumes and --patches: give one of them");
        }
        let subsets = few.then(|| -> Result<Given> {
            Ok(Given::default()
                .list("volumes", &wholes(&self.volumes)?)
                .list("patches", &wholes(&self.patches)?)
                .list("patch_size", &wholes(&self.patch_size)?)
                .with("tries", whole(self.tries)?)
                .maybe("steps", self.few_steps.map(whole).transpose()?))
        });
        let controls = Given::default()
            .with("shuffled_labels", i64::from(self.controls))
            .with("untrained_encoder", self.controls && self.model.is_none());
        let description = Given::default()
            .with("schema", i64::from(dinorad::eval::experiment::SCHEMA))
            .with("protocol", self.protocol.clone())
            .with("seed", i64::try_from(self.seed).context("--seed is too large")?)
            .with("refit", self.refit.clone())
            .with("data", data)
            .with("encoder", self.encoder.described(&source))
            .with("preprocessing", preprocessing)
            .with("intervals", Given::default().with("draws", whole(self.bootstrap)?))
            .maybe("subsets", subsets.transpose()?)
            .with("controls", controls)
            .with("method", method)
            .maybe("about", self.title.as_ref().map(|title| Given::default().with("title", title.clone())));
        Ok(Experiment::from_table(&description.0)?)
    }
}

/// LoRA with the slices of a scan pooled by learned attention.
const LORA_ATTENTION: &str = "lora-attention";

impl JudgeArgs {
    /// A description once for each encoder.
    fn of_encoders(&self, description: &Given) -> Result<Vec<Experiment>> {
        let described = |source: &String| -> Result<Experiment> {
            let table = description.clone().with("encoder", self.encoder.described(source));
            Ok(Experiment::from_table(&table.0)?)
        };
        match &self.embeddings {
            Some(path) => Ok(vec![described(&format!("embeddings:{}", text(path)))?]),
            None if self.encoder.backbone.is_empty() => bail!("{NO_ENCODER}, or features with --embeddings"),
            None => self.encoder.backbone.iter().map(described).collect(),
        }
    }

    /// `costly` where a control costs as much as the run.
    fn description(&self, method: Given, tokens: Option<&TokenArgs>, costly: bool) -> Result<Given> {
        let controls = match (self.no_controls, self.control_seeds) {
            (true, _) => None,
            (false, Some(seeds)) => Some(seeds),
            (false, None) => Some(if costly { 1 } else { 3 }),
        };
        let controls = controls.map(|seeds| -> Result<Given> {
            Ok(Given::default().with("shuffled_labels", whole(seeds)?).with("untrained_encoder", seeds > 0))
        });
        let subsets = (!(self.shots.is_empty() && self.fraction.is_empty())).then(|| -> Result<Given> {
            Ok(Given::default()
                .list("shots", &wholes(&self.shots)?)
                .list("fractions", &self.fraction)
                .with("tries", whole(self.tries)?)
                .maybe("draw", self.shot_rule.clone()))
        });
        if self.tries == 0 {
            bail!("--tries must be at least 1");
        }
        let seed = i64::try_from(self.seed).context("--seed is too large")?;
        let attention = self.attention_epochs.map(|n| whole(n).map(|n| Given::default().with("epochs", n)));
        let preprocessing = Given::default()
            .maybe("image_size", self.image_size.map(whole).transpose()?)
            .maybe("resize", self.resize.map(whole).transpose()?)
            .maybe("slice_step", (self.slice_step != 1).then(|| whole(self.slice_step)).transpose()?)
            .maybe("intensity", self.intensity.clone())
            .maybe("monochrome1", self.monochrome1.clone());
        let mut description = Given::default()
            .with("schema", i64::from(dinorad::eval::experiment::SCHEMA))
            .with("protocol", self.protocol.clone())
            .with("seed", seed)
            .with("aggregate", self.aggregate.clone())
            .maybe("refit", self.refit.clone())
            .list("shifts", &self.shift)
            .with("data", self.data()?)
            .with("preprocessing", preprocessing)
            .maybe("attention", attention.transpose()?)
            .maybe("subsets", subsets.transpose()?)
            .maybe("controls", controls.transpose()?)
            .with("intervals", Given::default().with("draws", whole(self.bootstrap)?))
            .with("method", method)
            .maybe("about", self.title.as_ref().map(|title| Given::default().with("title", title.clone())));
        if let Some(TokenArgs { blocks, avgpool }) = tokens {
            description =
                description.with("tokens", Given::default().with("blocks", whole(*blocks)?).with("avgpool", *avgpool));
        }
        Ok(description)
    }

    /// The data set of --dataset and --root, or those of --train and --test.
    fn data(&self) -> Result<Given> {
        let named = |option: &str, word: &str| -> Result<(String, PathBuf)> {
            let spec: DatasetSpec = word.parse()?;
            let root =
                spec.root.with_context(|| format!("{option} {word}: say where, as in {}:root=PATH", spec.name))?;
            if spec.split.is_some() {
                bail!(
                    "{option} {word}: heads learn from train and validation and are judged on test; leave split= out"
                );
            }
            Ok((spec.name, root))
        };
        if let Some(labels) = &self.labels {
            let data = Given::named("labels").with("root", text(labels));
            let data = data.maybe("splits", self.splits.as_deref().map(text));
            return Ok(data.maybe("columns", self.columns.described()));
        }
        let (name, root) = match (&self.train, &self.dataset, &self.root) {
            (Some(train), None, None) => named("--train", train)?,
            (None, Some(name), Some(root)) => (name.clone(), root.clone()),
            (None, ..) => bail!("name a data set: --dataset NAME --root PATH, or --train NAME:root=PATH"),
            _ => bail!("--train stands for --dataset and --root: give one or the other"),
        };
        let mut data = Given::named(&name)
            .with("root", text(&root))
            .maybe("splits", self.splits.as_deref().map(text))
            .maybe("columns", self.columns.described())
            .with("uncertain", self.uncertain.clone())
            .maybe("labels", self.fold_labels.then_some("folded"))
            .with("bad", if self.strict_data { "stop" } else { "skip" });
        if let Some(test) = &self.test {
            let other = named("--test", test)?;
            if other != (name, root) {
                data = data.with("test", Given::named(&other.0).with("root", text(&other.1)));
            }
        }
        Ok(data)
    }
}

impl ColumnArgs {
    pub(crate) fn chosen(&self) -> Columns {
        Columns {
            path: self.path_column.clone(),
            label: self.label_column.clone(),
            mask: self.mask_column.clone(),
            split: self.split_column.clone(),
            patient: self.patient_column.clone(),
        }
    }

    fn described(&self) -> Option<Given> {
        let Columns { path, label, mask, split, patient } = self.chosen();
        let given = Given::default()
            .maybe("path", path)
            .maybe("label", label)
            .maybe("mask", mask)
            .maybe("split", split)
            .maybe("patient", patient);
        (!self.chosen().is_empty()).then_some(given)
    }
}

impl EncoderArgs {
    fn described(&self, source: &str) -> Given {
        let colours = |values: &Option<Vec<f32>>| {
            values.as_ref().map(|values| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
        };
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        };
        Given::default()
            .with("source", source)
            .with("precision", precision)
            .maybe("weights", (self.weights != "average").then(|| self.weights.clone()))
            .maybe("mean", colours(&self.mean))
            .maybe("std", colours(&self.std))
    }

    /// The one encoder of a command that takes one.
    pub(crate) fn one(&self) -> Result<dinorad::eval::experiment::EncoderChoice> {
        match self.backbone.as_slice() {
            [] => bail!("{NO_ENCODER}"),
            [source] => Ok(Value::from(self.described(source)).try_into()?),
            several => bail!("this command takes one --backbone, got {}: {}", several.len(), several.join(", ")),
        }
    }
}

impl EvalKnnArgs {
    fn method(&self) -> Result<Given> {
        Ok(Given::named("knn").list("k", &wholes(&self.k)?).with("temperature", self.temperature))
    }
}

impl EvalMlknnArgs {
    fn method(&self) -> Result<Given> {
        let given = Given::named("mlknn").list("k", &wholes(&self.k)?).list("smoothing", &self.smoothing);
        Ok(given.maybe("neighbours", self.neighbours.clone()))
    }
}

impl EvalLogregArgs {
    fn method(&self) -> Result<Given> {
        let given = Given::named("logreg").list("c", &self.c).with("tolerance", self.tolerance);
        Ok(given.with("max_iterations", whole(self.max_iterations)?))
    }
}

impl EvalLinearArgs {
    fn method(&self) -> Result<Given> {
        let avgpool = match self.avgpool {
            Avgpool::Both => "both",
            Avgpool::With => "with",
            Avgpool::Without => "without",
        };
        Ok(Given::named("linear")
            .with("learning_rates", self.lr.clone())
            .with("blocks", wholes(&self.blocks)?)
            .with("avgpool", avgpool)
            .with("epochs", whole(self.epochs)?)
            .maybe("iterations", self.iterations.map(whole).transpose()?)
            .with("batch_size", whole(self.batch_size)?)
            .with("momentum", self.momentum)
            .maybe("reduction", self.multilabel_loss.clone())
            .with("augment", self.augment)
            .maybe("init", self.init.as_deref().map(text)))
    }
}

/// The option that sets a key of a description.
const OPTIONS: [(&str, &str); 36] = [
    ("aggregate", "--aggregate"),
    ("attention.epochs", "--attention-epochs"),
    ("data.splits", "--splits"),
    ("encoder.mean", "--mean"),
    ("encoder.source", "--backbone"),
    ("encoder.std", "--std"),
    ("intervals.draws", "--resamples"),
    ("method.avgpool", "--avgpool"),
    ("method.batch_size", "--batch-size"),
    ("method.blocks", "--blocks"),
    ("method.epochs", "--epochs"),
    ("method.encoder_learning_rate", "--encoder-lr"),
    ("method.init", "--init"),
    ("method.iterations", "--iterations"),
    ("method.learning_rates", "--lr"),
    ("method.momentum", "--momentum"),
    ("method.pace", "--steps or --epochs:"),
    ("method.reduction", "--multilabel-loss"),
    ("method.tune", "--method:"),
    ("method.memory", "--no-memory-check"),
    ("preprocessing.image_size", "--image-size"),
    ("preprocessing.intensity", "--intensity"),
    ("preprocessing.monochrome1", "--monochrome1"),
    ("preprocessing.resize", "--resize"),
    ("preprocessing.slice_step", "--slice-step"),
    ("protocol", "--protocol"),
    ("refit", "--refit"),
    ("shifts", "--shift"),
    ("subsets.draw", "--shot-rule"),
    ("subsets.fractions", "--fraction"),
    ("subsets.patch_size", "--patch-size or --few-steps:"),
    ("subsets.patches", "--patches"),
    ("subsets.shots", "--shots"),
    ("subsets.tries", "--tries"),
    ("subsets.volumes", "--volumes"),
    ("tokens.blocks", "--blocks"),
];

/// An error about a key, told about the option that was typed.
pub(crate) fn as_typed(error: anyhow::Error) -> anyhow::Error {
    let Some(EvalError::Description { key, why }) = error.downcast_ref::<EvalError>() else { return error };
    let name = key.strip_prefix("shifts[").map_or(key.as_str(), |_| "shifts");
    let known = OPTIONS.iter().find(|(of, _)| *of == name).map(|(_, option)| (*option).to_owned());
    let option = match (known, name.strip_prefix("method.")) {
        (Some(option), _) => option,
        (None, Some(own)) => format!("--{}", own.replace('_', "-")),
        (None, None) => return error,
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    // What is said of `k = 5` needs no option before it.
    match why.strip_prefix(last).map(str::trim_start) {
        Some(rest) if rest.starts_with('=') => anyhow::anyhow!("{why}"),
        Some(rest) => anyhow::anyhow!("{option} {rest}"),
        None => anyhow::anyhow!("{option} {why}"),
    }
}
