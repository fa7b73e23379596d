//! The linear probe as a method: a grid in one pass, on cached features or on views that are encoded
//! anew in every epoch, from drawn or given initial weights.

use std::{
    error::Error as StdError,
    fmt,
    path::{Path, PathBuf},
};

use dinorad_core::{
    Protocol, Task,
    description::{checked, count, counts, positives},
    method::{
        Answer, Context, Entry, Error, Fitted, Input, Lent, Method, SearchAxis, Setting, TokenLayout, model_file,
    },
};
use serde::{Deserialize, Deserializer, Serialize};

use super::{answers, check};
use crate::{
    AVGPOOLS, BLOCKS, BatchOrder, CLASSIFICATION_LEARNING_RATES, EpochSampler, InfiniteSampler, InputLayout,
    LinearModel, LinearSweep, Predict, ProbePoint, ProbeTask, Reduction, Start, linear_probe::check_variety,
    probe_start::Given,
};

/// `linear`: linear probes by SGD, for every point of a grid.
pub const ENTRY: Entry = Entry {
    name: "linear",
    summary: "linear probes by SGD with momentum, a whole grid of tokens and learning rates in one pass",
    keys: &[
        "learning_rates",
        "blocks",
        "avgpool",
        "epochs",
        "iterations",
        "batch_size",
        "momentum",
        "reduction",
        "order",
        "seed",
        "augment",
        "init",
    ],
    read: |from, protocol| Ok(Box::new(LinearMethod::read(from, protocol)?)),
    load: |folder| Ok(Box::new(LinearFitted(vec![LinearModel::load(&model_file(folder)?)?]))),
};

/// Which of the grid's points see the mean patch token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Avgpool {
    /// Every point once with it and once without.
    #[default]
    Both,
    /// All.
    With,
    /// None.
    Without,
}

impl Avgpool {
    fn choices(self) -> &'static [bool] {
        match self {
            Avgpool::Both => &AVGPOOLS,
            Avgpool::With => &[true],
            Avgpool::Without => &[false],
        }
    }
}

/// In which order training visits its cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Shuffled passes, each from its own random stream.
    Epochs,
    /// The study's endless sampler.
    Infinite,
}

/// Reads a [`Start`] from a file.
pub type StartReader = fn(&Path) -> Result<Start, Box<dyn StdError + Send + Sync>>;

/// The part of a description that is this method's.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Description {
    #[serde(deserialize_with = "learning_rates")]
    learning_rates: Option<Vec<f64>>,
    #[serde(deserialize_with = "blocks")]
    blocks: Option<Vec<usize>>,
    avgpool: Option<Avgpool>,
    #[serde(deserialize_with = "epochs")]
    epochs: Option<usize>,
    #[serde(deserialize_with = "iterations")]
    iterations: Option<usize>,
    #[serde(deserialize_with = "batch_size")]
    batch_size: Option<usize>,
    #[serde(deserialize_with = "momentum")]
    momentum: Option<f64>,
    reduction: Option<ReductionName>,
    order: Option<Order>,
    seed: Option<u64>,
    augment: Option<bool>,
    init: Option<PathBuf>,
}

/// [`Reduction`] as descriptions say it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReductionName {
    Sum,
    Mean,
}

fn learning_rates<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<f64>>, D::Error> {
    positives(from, "learning_rates")
}

fn blocks<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<usize>>, D::Error> {
    counts(from, "blocks")
}

fn epochs<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    count(from, "epochs")
}

fn iterations<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    count(from, "iterations")
}

fn batch_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    count(from, "batch_size")
}

fn momentum<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    checked(from, "momentum", "from 0 to below 1", |m| (0.0..1.0).contains(m))
}

/// [`LinearSweep`] as a method.
///
/// The grid is learning rates times blocks times mean patch token; one pass trains all of it. Serde
/// writes every key but `iterations` and `init`, which stay away where there are none.
#[derive(Clone, Serialize)]
pub struct LinearMethod {
    /// Learning rates of the first step.
    pub learning_rates: Vec<f64>,
    /// Numbers of last blocks whose class tokens are seen.
    pub blocks: Vec<usize>,
    /// Whether the mean patch token is seen too.
    pub avgpool: Avgpool,
    /// Passes over the training cases.
    pub epochs: usize,
    /// Steps; in place of whole epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<usize>,
    /// Cases per step.
    pub batch_size: usize,
    /// Share of the last step that is kept.
    pub momentum: f64,
    /// How the losses of several findings become one number.
    #[serde(serialize_with = "reduction_name")]
    pub reduction: Reduction,
    /// The order of the batches.
    pub order: Order,
    /// Seed of the initial weights and the batches.
    pub seed: u64,
    /// Whether training looks at other views of the cases in every pass ([`Lent::views`]).
    pub augment: bool,
    /// A file with initial weights, and batches perhaps, see [`Start`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Reads `init`; by itself a safetensors file ([`Start::read`]). A crate that knows more formats
    /// registers an [`Entry`] of its own that puts another reader here.
    #[serde(skip)]
    pub reader: StartReader,
}

fn reduction_name<S: serde::Serializer>(reduction: &Reduction, serializer: S) -> Result<S::Ok, S::Error> {
    match reduction {
        Reduction::BatchSum => ReductionName::Sum,
        Reduction::Mean => ReductionName::Mean,
    }
    .serialize(serializer)
}

impl LinearMethod {
    /// The study's grid, 100 epochs of batches of 128, seed 0; under `paper` in the order of the study's
    /// sampler and with its sum of multi-label losses, under `strict` with their mean.
    pub fn new(protocol: Protocol) -> Self {
        let (order, reduction) = match protocol {
            Protocol::Paper => (Order::Infinite, Reduction::BatchSum),
            Protocol::Strict => (Order::Epochs, Reduction::Mean),
        };
        let LinearSweep { epochs, batch_size, momentum, seed, .. } = LinearSweep::new(Vec::new());
        Self {
            learning_rates: CLASSIFICATION_LEARNING_RATES.to_vec(),
            blocks: BLOCKS.to_vec(),
            avgpool: Avgpool::Both,
            epochs,
            iterations: None,
            batch_size,
            momentum,
            reduction,
            order,
            seed,
            augment: false,
            init: None,
            reader: |path| Ok(Start::read(path)?),
        }
    }

    /// From its part of a description.
    ///
    /// # Errors
    /// A key that is not known, a value of another type or out of range.
    pub fn read(
        from: &mut dyn erased_serde::Deserializer<'_>,
        protocol: Protocol,
    ) -> Result<Self, erased_serde::Error> {
        let said: Description = erased_serde::deserialize(from)?;
        let usual = Self::new(protocol);
        Ok(Self {
            learning_rates: said.learning_rates.unwrap_or(usual.learning_rates),
            blocks: said.blocks.unwrap_or(usual.blocks),
            avgpool: said.avgpool.unwrap_or(usual.avgpool),
            epochs: said.epochs.unwrap_or(usual.epochs),
            iterations: said.iterations,
            batch_size: said.batch_size.unwrap_or(usual.batch_size),
            momentum: said.momentum.unwrap_or(usual.momentum),
            reduction: match said.reduction {
                Some(ReductionName::Sum) => Reduction::BatchSum,
                Some(ReductionName::Mean) => Reduction::Mean,
                None => usual.reduction,
            },
            order: said.order.unwrap_or(usual.order),
            seed: said.seed.unwrap_or(usual.seed),
            augment: said.augment.unwrap_or(usual.augment),
            init: said.init,
            reader: usual.reader,
        })
    }

    /// The grid, in the order of its settings.
    pub fn points(&self) -> Vec<ProbePoint> {
        ProbePoint::grid(&self.blocks, self.avgpool.choices(), &self.learning_rates)
    }

    /// Steps on a training set of `n` cases.
    pub fn steps(&self, n: usize) -> usize {
        self.iterations.unwrap_or_else(|| self.sweep(None).steps(n))
    }

    fn sweep(&self, layout: Option<InputLayout>) -> LinearSweep {
        LinearSweep {
            points: self.points(),
            layout,
            epochs: self.epochs,
            batch_size: self.batch_size,
            momentum: self.momentum,
            reduction: self.reduction,
            seed: self.seed,
        }
    }

    fn start(&self) -> Result<Option<Start>, Error> {
        self.init.as_deref().map(self.reader).transpose().map_err(Error::Failed)
    }
}

impl PartialEq for LinearMethod {
    fn eq(&self, other: &Self) -> bool {
        self.sweep(None) == other.sweep(None)
            && (self.iterations, self.order, self.augment) == (other.iterations, other.order, other.augment)
            && self.init == other.init
    }
}

impl fmt::Debug for LinearMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinearMethod")
            .field("sweep", &self.sweep(None))
            .field("iterations", &self.iterations)
            .field("order", &self.order)
            .field("augment", &self.augment)
            .field("init", &self.init)
            .finish()
    }
}

/// Where the tokens are in rows of `width` values.
fn layout_of(tokens: Option<TokenLayout>, width: usize) -> Result<Option<InputLayout>, crate::Error> {
    let Some(TokenLayout { blocks, avgpool }) = tokens else { return Ok(None) };
    let parts = blocks + usize::from(avgpool);
    if parts == 0 || !width.is_multiple_of(parts) {
        return Err(crate::Error::shape("rows of features", format!("(n, a multiple of {parts})"), &[width]));
    }
    Ok(Some(InputLayout { dim: width / parts, blocks, avgpool }))
}

impl Method for LinearMethod {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn title(&self) -> &'static str {
        "linear probe"
    }

    fn input(&self) -> Input {
        Input::Rows
    }

    fn wants_views(&self) -> bool {
        self.augment
    }

    fn start_file(&self) -> Option<&Path> {
        self.init.as_deref()
    }

    fn tokens(&self) -> Option<TokenLayout> {
        let blocks = self.blocks.iter().copied().max().unwrap_or(1);
        Some(TokenLayout { blocks, avgpool: self.avgpool != Avgpool::Without })
    }

    fn settings(&self) -> Vec<Setting> {
        let setting = |point: ProbePoint| {
            let plural = if point.blocks == 1 { "" } else { "s" };
            let mean = if point.avgpool { " + mean patch" } else { "" };
            let label = format!("lr {}, {} block{plural}{mean}", point.learning_rate, point.blocks);
            Setting::new(label, point.to_string())
                .with("blocks", point.blocks as f64)
                .with("avgpool", f64::from(u8::from(point.avgpool)))
                .with("learning_rate", point.learning_rate)
        };
        self.points().into_iter().map(setting).collect()
    }

    fn search_axis(&self) -> Option<SearchAxis> {
        Some(SearchAxis { value: "learning_rate", label: "learning rate", plot: "auroc-by-learning-rate" })
    }

    fn single_setting(&self) -> &'static str {
        "learning_rates = [0.01], blocks = [1], avgpool = \"without\""
    }

    /// Reads `init` too, so that nothing is encoded for a file that cannot be used.
    fn check(&self, task: &Task) -> Result<(), Error> {
        check(self.title(), self.points().len(), task)?;
        self.start().map(drop)
    }

    fn with_seed(&self, seed: u64) -> Box<dyn Method> {
        Box::new(Self { seed, ..self.clone() })
    }

    fn only(&self, which: usize) -> Box<dyn Method> {
        let point = self.points().get(which).copied();
        let mut one = self.clone();
        one.blocks = point.map(|p| p.blocks).into_iter().collect();
        one.learning_rates = point.map(|p| p.learning_rate).into_iter().collect();
        one.avgpool = point.map_or(self.avgpool, |p| if p.avgpool { Avgpool::With } else { Avgpool::Without });
        Box::new(one)
    }

    fn clone_box(&self) -> Box<dyn Method> {
        Box::new(self.clone())
    }

    fn fit(&self, train: &dyn Lent, task: &Task, context: &Context<'_>) -> Result<Box<dyn Fitted>, Error> {
        check(self.title(), self.points().len(), task)?;
        let y = answers(train, task)?;
        check_variety(&y)?;
        let x = train.rows()?;
        let (n, dim) = x.dim();
        let steps = self.steps(n);
        let sweep = self.sweep(layout_of(train.tokens(), dim)?);
        let mut trainer = sweep.trainer(dim, ProbeTask::of(&y), steps)?;
        let start = self.start()?;
        if let Some(start) = &start {
            start.apply(&mut trainer, &sweep.points)?;
        }
        let mut order: Box<dyn BatchOrder> = match (start.and_then(Start::into_batches), self.order) {
            (Some(batches), _) => Box::new(Given::new(batches, n, steps)?),
            (None, Order::Epochs) => Box::new(EpochSampler::new(n.max(1), self.seed)?),
            (None, Order::Infinite) => Box::new(InfiniteSampler::new(n.max(1), self.seed as u32, 0)?),
        };
        let size = sweep.batch_size.min(n);
        context.progress.set_total(steps);
        if !self.augment {
            trainer.train(x, &y, &mut *order, size, steps, &mut |done| context.progress.advance(done))?;
            return Ok(Box::new(LinearFitted(trainer.into_models()?)));
        }
        let views = train.views().ok_or(Error::NotLent { what: "other views of its cases (augment)" })?;
        let batches: Vec<Vec<usize>> = (0..steps).map(|_| order.next_batch(size)).collect();
        // the pass over the data that a place of the order belongs to
        let mut at = 0;
        let mut visit = |row: &usize| {
            let pass = at / n.max(1);
            at += 1;
            (*row, pass as u64)
        };
        let visits = batches.iter().map(|batch| batch.iter().map(&mut visit).collect()).collect();
        let mut step = 0;
        views.for_each(visits, &mut |features| {
            let batch = batches.get(step).ok_or_else(|| crate::Error::shape("views", "one batch a step", &[step]))?;
            trainer.step(features.view(), &y.select(batch)?)?;
            step += 1;
            context.progress.advance(1);
            Ok(())
        })?;
        if step != steps {
            return Err(crate::Error::shape("views", format!("{steps} batches"), &[step]).into());
        }
        Ok(Box::new(LinearFitted(trainer.into_models()?)))
    }
}

/// A model for each point.
#[derive(Debug)]
struct LinearFitted(Vec<LinearModel>);

impl Fitted for LinearFitted {
    fn predict(&self, cases: &dyn Lent, give: &mut dyn FnMut(usize, Answer) -> Result<(), Error>) -> Result<(), Error> {
        let x = cases.rows()?;
        for (which, model) in self.0.iter().enumerate() {
            give(which, Answer::Probabilities(model.predict(x)?))?;
        }
        Ok(())
    }

    fn keep(&self, which: usize) -> Box<dyn Fitted> {
        Box::new(Self(self.0.get(which).cloned().into_iter().collect()))
    }

    fn learned(&self, number: &mut dyn FnMut(f64)) -> Result<(), Error> {
        for model in &self.0 {
            for part in [model.weight(), model.bias()] {
                let values = part.flatten_all().and_then(|v| v.to_vec1::<f32>()).map_err(crate::Error::from)?;
                values.into_iter().for_each(|v| number(f64::from(v)));
            }
        }
        Ok(())
    }

    fn trained_parameters(&self, which: usize) -> Option<usize> {
        self.0.get(which).map(|model| model.weight().elem_count() + model.bias().elem_count())
    }

    fn save(&self, which: usize, path: &Path) -> Result<bool, Error> {
        match self.0.get(which) {
            Some(model) => Ok(model.save(path).map(|()| true)?),
            None => Ok(false),
        }
    }
}
