//! The linear segmentation decoder as a method: every learning rate in one pass over the shards.

use std::path::Path;

use candle::{Device, Tensor};
use dinorad_core::{
    Task, TaskKind,
    description::{checked, count, positives},
    grid::DecoderPoint,
    method::{
        Answer, Context, Entry, Error, Fitted, Input, Learning, Lent, Method, Period, SearchAxis, Setting, model_file,
    },
};
use dinorad_nn::{Trainable, optim::Algorithm};
use ndarray::{Array3, Axis};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    DecoderTrainer, DecoderTraining, LinearDecoder, PixelLoss,
    decoder_training::{batches, visiting_order},
    patch_tokens::{Slices, for_each_slice},
};

/// `linear-decoder`: patch tokens to masks by one linear map, for every learning rate.
pub const ENTRY: Entry = Entry {
    name: "linear-decoder",
    summary: "patch tokens to masks by one linear map and bilinear upsampling, every learning rate in one pass",
    keys: &["learning_rates", "pixels_per_patch", "epochs", "batch_size", "optimiser", "weight_decay", "loss", "seed"],
    read: |from, _protocol| {
        let said: Description = erased_serde::deserialize(from)?;
        let usual = LinearDecoderMethod::default();
        Ok(Box::new(LinearDecoderMethod {
            learning_rates: said.learning_rates.unwrap_or(usual.learning_rates),
            pixels_per_patch: said.pixels_per_patch.unwrap_or(usual.pixels_per_patch),
            epochs: said.epochs.unwrap_or(usual.epochs),
            batch_size: said.batch_size.unwrap_or(usual.batch_size),
            optimiser: said.optimiser.unwrap_or(usual.optimiser),
            weight_decay: said.weight_decay.unwrap_or(usual.weight_decay),
            loss: said.loss.unwrap_or(usual.loss),
            seed: said.seed.unwrap_or(usual.seed),
            memory: usual.memory,
        }))
    },
    load: |folder| Ok(Box::new(LinearDecoderFitted::of(LinearDecoder::load(&model_file(folder)?, &Device::Cpu)?))),
};

/// The part of a description that is this method's.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Description {
    #[serde(deserialize_with = "learning_rates")]
    learning_rates: Option<Vec<f64>>,
    #[serde(deserialize_with = "pixels_per_patch")]
    pixels_per_patch: Option<usize>,
    #[serde(deserialize_with = "epochs")]
    epochs: Option<usize>,
    #[serde(deserialize_with = "batch_size")]
    batch_size: Option<usize>,
    optimiser: Option<Optimiser>,
    #[serde(deserialize_with = "weight_decay")]
    weight_decay: Option<f64>,
    loss: Option<PixelLoss>,
    seed: Option<u64>,
}

fn learning_rates<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<f64>>, D::Error> {
    positives(from, "learning_rates")
}

fn pixels_per_patch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    checked(from, "pixels_per_patch", "from 1 to 64", |n| (1..=MOST_PIXELS).contains(n))
}

fn epochs<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    count(from, "epochs")
}

fn batch_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    count(from, "batch_size")
}

fn weight_decay<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    checked(from, "weight_decay", "a number from 0", |v: &f64| v.is_finite() && *v >= 0.0)
}

/// Pixels of a training mask for every patch, along each side: what nobody needs more of.
const MOST_PIXELS: usize = 64;

/// How gradients become steps, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimiser {
    /// SGD with momentum 0.9.
    Sgd,
    /// Adam with decoupled weight decay and PyTorch's constants.
    Adamw,
}

impl Optimiser {
    fn algorithm(self) -> Algorithm {
        match self {
            Optimiser::Sgd => Algorithm::SGD,
            Optimiser::Adamw => Algorithm::ADAMW,
        }
    }
}

/// [`LinearDecoder`] as a method.
///
/// All learning rates see the same batches. Training cases whose tokens fit into
/// [`memory`](Self::memory) are read once and visited in one shuffle an epoch; of larger sets every
/// epoch reads the shards again in their order, and as many slices as fit wait to be drawn from, so
/// memory does not grow with the set.
///
/// A learning rate whose loss leaves the range of numbers answers nothing; if all do, the cases are
/// [`Unlearnable`](Error::Unlearnable).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinearDecoderMethod {
    /// Learning rates of the first step.
    pub learning_rates: Vec<f64>,
    /// Training masks have so many pixels for every patch, along each side.
    pub pixels_per_patch: usize,
    /// Passes over the training slices.
    pub epochs: usize,
    /// Slices per step.
    pub batch_size: usize,
    /// How gradients become steps.
    pub optimiser: Optimiser,
    /// Weight decay.
    pub weight_decay: f64,
    /// What is minimised.
    pub loss: PixelLoss,
    /// Seed of the initial weights and the order of the slices.
    pub seed: u64,
    /// Bytes of patch tokens that training may hold.
    #[serde(skip)]
    pub memory: usize,
}

impl Default for LinearDecoderMethod {
    /// Learning rates 0.01, 0.1 and 1; 4 pixels a patch, 1 GiB of tokens; [`DecoderTraining::new`]
    /// otherwise.
    fn default() -> Self {
        let DecoderTraining { epochs, batch_size, weight_decay, loss, seed, .. } = DecoderTraining::new(2);
        Self {
            learning_rates: vec![0.01, 0.1, 1.0],
            pixels_per_patch: 4,
            epochs,
            batch_size,
            optimiser: Optimiser::Sgd,
            weight_decay,
            loss,
            seed,
            memory: 1 << 30,
        }
    }
}

impl LinearDecoderMethod {
    fn training(&self, classes: usize, learning_rate: f64) -> DecoderTraining {
        DecoderTraining {
            classes,
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate,
            algorithm: self.optimiser.algorithm(),
            weight_decay: self.weight_decay,
            loss: self.loss,
            seed: self.seed,
        }
    }
}

impl Method for LinearDecoderMethod {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn title(&self) -> &'static str {
        "linear decoder"
    }

    fn input(&self) -> Input {
        Input::Patches
    }

    fn settings(&self) -> Vec<Setting> {
        let setting = |rate: &f64| {
            let slug = DecoderPoint { decoder: "linear".to_owned(), learning_rate: *rate }.to_string();
            Setting::new(format!("lr {rate}"), slug).with("learning_rate", *rate)
        };
        self.learning_rates.iter().map(setting).collect()
    }

    fn search_axis(&self) -> Option<SearchAxis> {
        Some(SearchAxis { value: "learning_rate", label: "learning rate", plot: "dice-by-learning-rate" })
    }

    fn single_setting(&self) -> &'static str {
        "learning_rates = [0.1]"
    }

    fn check(&self, task: &Task) -> Result<(), Error> {
        if self.learning_rates.is_empty() {
            return Err(crate::Error::parameter("settings", "at least one", "none").into());
        }
        if !(1..=MOST_PIXELS).contains(&self.pixels_per_patch) {
            return Err(crate::Error::parameter("pixels_per_patch", "from 1 to 64", self.pixels_per_patch).into());
        }
        if self.batch_size == 0 {
            return Err(crate::Error::parameter("batch_size", "at least 1", self.batch_size).into());
        }
        if task.kind != TaskKind::Segmentation {
            let (head, expected) = (self.title(), "mask");
            return Err(crate::Error::TargetKind { head, expected, got: "class or multilabel" }.into());
        }
        Ok(())
    }

    fn with_seed(&self, seed: u64) -> Box<dyn Method> {
        Box::new(Self { seed, ..self.clone() })
    }

    fn only(&self, which: usize) -> Box<dyn Method> {
        let learning_rates = self.learning_rates.get(which).copied().into_iter().collect();
        Box::new(Self { learning_rates, ..self.clone() })
    }

    fn clone_box(&self) -> Box<dyn Method> {
        Box::new(self.clone())
    }

    fn fit(&self, train: &dyn Lent, task: &Task, context: &Context<'_>) -> Result<Box<dyn Fitted>, Error> {
        self.check(task)?;
        let classes = task.n_classes();
        let slices = Slices::survey(train, classes, self.pixels_per_patch, self.memory)?;
        let order = |epoch| visiting_order(slices.len(), slices.held(), self.seed, epoch);
        let epochs: Vec<Vec<Vec<usize>>> =
            (0..self.epochs).map(|epoch| batches(order(epoch), self.batch_size, |i| slices.shape(i))).collect();
        let total = epochs.iter().map(Vec::len).sum();
        context.progress.set_total(total);
        let mut trainers = Vec::with_capacity(self.learning_rates.len());
        for rate in &self.learning_rates {
            let decoder = LinearDecoder::new(slices.dim(), classes, self.seed, &Device::Cpu)?;
            trainers.push(Some(DecoderTrainer::new(decoder, &self.training(classes, *rate), total)?));
        }
        let mut diverged = None;
        let mut losses = vec![Vec::with_capacity(self.epochs); self.learning_rates.len()];
        for epoch in &epochs {
            let mut sums = vec![0.0; self.learning_rates.len()];
            slices.visit(train, epoch, &mut |input, labels, batch| {
                for ((trainer, rate), sum) in trainers.iter_mut().zip(&self.learning_rates).zip(&mut sums) {
                    let Some(alive) = trainer else { continue };
                    match alive.step(input, labels) {
                        Ok(loss) => *sum += loss * batch as f64,
                        // a rate that is too large is a bad rate, not a broken run
                        Err(e @ crate::Error::Diverged { .. }) => {
                            context.progress.message(&format!("learning rate {rate}: {e}"));
                            diverged = Some(e);
                            *trainer = None;
                        }
                        Err(e) => return Err(e),
                    }
                }
                context.progress.advance(1);
                Ok(())
            })?;
            for ((losses, sum), _) in
                losses.iter_mut().zip(sums).zip(&trainers).filter(|(_, trainer)| trainer.is_some())
            {
                losses.push(sum / slices.len() as f64);
            }
        }
        let decoders = trainers.into_iter().map(|t| t.map(DecoderTrainer::finish).transpose());
        let decoders = decoders.collect::<Result<Vec<_>, _>>()?;
        match diverged {
            Some(e) if decoders.iter().all(Option::is_none) => Err(e.into()),
            _ => Ok(Box::new(LinearDecoderFitted { decoders, losses })),
        }
    }
}

#[derive(Debug)]
struct LinearDecoderFitted {
    /// One for each learning rate that did not diverge.
    decoders: Vec<Option<LinearDecoder>>,
    /// Mean loss of every epoch, by learning rate.
    losses: Vec<Vec<f64>>,
}

impl LinearDecoderFitted {
    /// A decoder that was trained before.
    fn of(decoder: LinearDecoder) -> Self {
        Self { decoders: vec![Some(decoder)], losses: Vec::new() }
    }
}

impl Fitted for LinearDecoderFitted {
    fn predict(&self, cases: &dyn Lent, give: &mut dyn FnMut(usize, Answer) -> Result<(), Error>) -> Result<(), Error> {
        for (which, decoder) in self.decoders.iter().enumerate() {
            let Some(decoder) = decoder else { continue };
            masks(decoder, cases, &mut |case, classes| give(which, Answer::Mask { case, classes }))?;
        }
        Ok(())
    }

    fn keep(&self, which: usize) -> Box<dyn Fitted> {
        let decoders = self.decoders.get(which).cloned().into_iter().collect();
        let losses = self.losses.get(which).cloned().into_iter().collect();
        Box::new(Self { decoders, losses })
    }

    fn learned(&self, number: &mut dyn FnMut(f64)) -> Result<(), Error> {
        for tensor in self.decoders.iter().flatten().flat_map(|decoder| decoder.tensors().into_values()) {
            let values = tensor.flatten_all().and_then(|v| v.to_vec1::<f32>()).map_err(crate::Error::from)?;
            values.into_iter().for_each(|v| number(f64::from(v)));
        }
        Ok(())
    }

    fn learning(&self) -> Vec<Learning> {
        let one = |losses: &Vec<f64>| Learning { by: Period::Epoch, losses: losses.clone(), scores: Vec::new() };
        self.losses.iter().map(one).collect()
    }

    fn trained_parameters(&self, which: usize) -> Option<usize> {
        Some(self.decoders.get(which)?.as_ref()?.parameter_count().0)
    }

    fn save(&self, which: usize, path: &Path) -> Result<bool, Error> {
        match self.decoders.get(which) {
            Some(Some(decoder)) => Ok(decoder.save(path).map(|()| true)?),
            _ => Ok(false),
        }
    }
}

/// The mask of every case in turn, `(d, h, w)` at the size of the case's own.
fn masks(
    decoder: &LinearDecoder,
    cases: &dyn Lent,
    give: &mut dyn FnMut(usize, Array3<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    // the case at hand, its mask so far, and how many slices of it are done
    let mut current: Option<(usize, Array3<u8>, usize)> = None;
    let whole = |(case, mask, done): (usize, Array3<u8>, usize),
                 give: &mut dyn FnMut(usize, Array3<u8>) -> Result<(), Error>| {
        if done == mask.dim().0 {
            return give(case, mask);
        }
        let expected = format!("{}, as its mask (case {case})", mask.dim().0);
        Err(crate::Error::shape("slices of a case", expected, &[done]).into())
    };
    for_each_slice(cases, &mut |case, grid, tokens| {
        if let Some(before) = current.take_if(|(of, ..)| *of != case) {
            whole(before, give)?;
        }
        let (_, mask, done) = match &mut current {
            Some(current) => current,
            none => none.insert((case, Array3::zeros(cases.mask(case, None)?.dim()), 0)),
        };
        let (depth, height, width) = mask.dim();
        if *done >= depth || height == 0 || width == 0 {
            let expected = format!("{depth}, as its mask (case {case})");
            return Err(crate::Error::shape("slices of a case", expected, &[*done + 1]).into());
        }
        let shape = (1, tokens.nrows(), tokens.ncols());
        let tokens = Tensor::from_iter(tokens.iter().copied(), &Device::Cpu).and_then(|t| t.reshape(shape));
        let classes = decoder.predict_mask(&tokens.map_err(crate::Error::from)?, grid, (height, width))?;
        let classes = classes.flatten_all().and_then(|v| v.to_vec1::<u8>()).map_err(crate::Error::from)?;
        mask.index_axis_mut(Axis(0), *done).iter_mut().zip(classes).for_each(|(to, class)| *to = class);
        *done += 1;
        Ok(())
    })?;
    current.map_or(Ok(()), |last| whole(last, give))
}
