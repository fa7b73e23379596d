//! How decoders are trained.

use candle::{DType, Device, Tensor};
use dinorad_core::rng;
use dinorad_nn::{
    Schedule,
    loss::{self, Terms, Weighting},
    optim::Algorithm,
    train::{Rate, TrainOptions, Trainer},
};
use ndarray::Array2;
use rand::{Rng, seq::SliceRandom};

use crate::{Decoder, DecoderInput, Error, LinearDecoder, Result};

/// The loss of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelLoss {
    /// Cross-entropy meaned over pixels.
    #[default]
    CrossEntropy,
    /// Soft Dice, background and absent classes included.
    Dice,
    /// The sum of both.
    DiceCrossEntropy,
}

impl PixelLoss {
    /// The loss of logits `(b, classes, h, w)` with class indices `(b, h, w)`.
    ///
    /// # Errors
    /// If the shapes do not belong together or a label is no class.
    pub fn of(self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.weighted(logits, labels, &Weighting::default())
    }

    /// The same where classes have weights or a label is left out, see [`Weighting`].
    ///
    /// # Errors
    /// As [`of`](Self::of), and for weights below 0 or not one for each class.
    pub fn weighted(self, logits: &Tensor, labels: &Tensor, weighting: &Weighting) -> Result<Tensor> {
        let terms = Terms { dice: self != PixelLoss::CrossEntropy, entropy: self != PixelLoss::Dice };
        Ok(loss::of_pixels(logits, labels, terms, weighting)?)
    }
}

/// Patch tokens of an image and the class of each of its pixels.
#[derive(Debug, Clone)]
pub struct DecoderCase {
    /// `(n, dim)`, row by row.
    pub patches: Tensor,
    /// Rows and columns of patches.
    pub grid: (usize, usize),
    /// `(height, width)` class indices.
    pub mask: Array2<u8>,
}

/// How a [`LinearDecoder`] is trained on cached patch tokens.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DecoderTraining {
    /// Number of classes, background included.
    pub classes: usize,
    /// Passes over the cases.
    pub epochs: usize,
    /// Cases per step.
    pub batch_size: usize,
    /// Learning rate of the first step; falls as a cosine to 0 over all steps.
    pub learning_rate: f64,
    /// How gradients become steps.
    pub algorithm: Algorithm,
    /// Weight decay.
    pub weight_decay: f64,
    /// What is minimised.
    pub loss: PixelLoss,
    /// Seed of the initial weights and the order of the cases.
    pub seed: u64,
}

impl DecoderTraining {
    /// SGD with momentum 0.9 at 0.1, batches of 16, 50 epochs, cross-entropy.
    pub fn new(classes: usize) -> Self {
        DecoderTraining {
            classes,
            epochs: 50,
            batch_size: 16,
            learning_rate: 0.1,
            algorithm: Algorithm::SGD,
            weight_decay: 0.0,
            loss: PixelLoss::default(),
            seed: 0,
        }
    }

    /// Trains a decoder; also gives the mean loss of every epoch.
    ///
    /// Cases of one batch must have the same grid and mask size; a batch ends early where the next
    /// case differs.
    ///
    /// # Errors
    /// [`Error::Empty`] without cases, [`Error::Label`] naming the case with a class out of range,
    /// [`Error::NotFinite`] naming the case with features that are not, [`Error::Shape`] for cases
    /// of different width, [`Error::Diverged`] if the loss left the range of numbers.
    pub fn fit(&self, cases: &[DecoderCase], device: &Device) -> Result<(LinearDecoder, Vec<f64>)> {
        let dim = self.check(cases)?;
        let shape = |i: usize| (cases[i].grid, cases[i].mask.dim());
        let batches: Vec<Vec<Vec<usize>>> = (0..self.epochs)
            .map(|epoch| batches(visiting_order(cases.len(), usize::MAX, self.seed, epoch), self.batch_size, shape))
            .collect();
        let decoder = LinearDecoder::new(dim, self.classes, self.seed, device)?;
        if batches.is_empty() {
            return Ok((decoder, Vec::new()));
        }
        let mut trainer = DecoderTrainer::new(decoder, self, batches.iter().map(Vec::len).sum())?;
        let mut history = Vec::with_capacity(self.epochs);
        for epoch in &batches {
            let mut sum = 0.0;
            for batch in epoch {
                let first = &cases[batch[0]];
                let tokens =
                    batch.iter().map(|i| cases[*i].patches.to_device(device)).collect::<candle::Result<Vec<_>>>()?;
                let masks: Vec<&Array2<u8>> = batch.iter().map(|i| &cases[*i].mask).collect();
                let labels = labels(&masks, device)?;
                let value = trainer.step(&DecoderInput::new(&[Tensor::stack(&tokens, 0)?], first.grid), &labels)?;
                sum += value * batch.len() as f64;
            }
            history.push(sum / cases.len() as f64);
        }
        Ok((trainer.finish()?, history))
    }

    fn check(&self, cases: &[DecoderCase]) -> Result<usize> {
        let first = cases.first().ok_or(Error::Empty { what: "training cases" })?;
        if self.batch_size == 0 {
            return Err(Error::parameter("batch_size", "at least 1", 0));
        }
        let &[_, dim] = first.patches.dims() else {
            return Err(Error::shape("patch tokens", "(n, dim)", first.patches.dims()));
        };
        for (row, case) in cases.iter().enumerate() {
            let n = case.grid.0.checked_mul(case.grid.1);
            if case.patches.rank() != 2 || n != Some(case.patches.dim(0)?) || case.patches.dim(1)? != dim {
                let expected = format!("({} * {}, {dim})", case.grid.0, case.grid.1);
                return Err(Error::shape("patch tokens", expected, case.patches.dims()));
            }
            if case.mask.is_empty() {
                return Err(Error::Empty { what: "mask" });
            }
            if let Some(label) = case.mask.iter().find(|l| usize::from(**l) >= self.classes) {
                let expected = format!("a class below {}", self.classes);
                return Err(Error::Label { row, got: label.to_string(), expected });
            }
            // 0·x is 0 for every finite x and NaN otherwise
            let probe = (case.patches.to_dtype(DType::F32)? * 0.0)?.sum_all()?.to_scalar::<f32>()?;
            if probe.is_nan() {
                return Err(Error::NotFinite { what: "patch tokens", row });
            }
        }
        Ok(dim)
    }
}

/// A decoder in training: a step for every batch, learning rates falling as a cosine to 0 over all.
#[derive(Debug)]
pub struct DecoderTrainer<D> {
    trainer: Trainer<D>,
    loss: PixelLoss,
    weighting: Weighting,
}

impl<D: Decoder> DecoderTrainer<D> {
    /// All of the decoder learns, in `total` steps, as `training` says.
    ///
    /// # Errors
    /// If there are no steps, or a parameter cannot be made trainable.
    pub fn new(decoder: D, training: &DecoderTraining, total: usize) -> Result<Self> {
        let options = TrainOptions {
            algorithm: training.algorithm,
            seed: training.seed,
            ..TrainOptions::new(Schedule::cosine(total))
        };
        let rate = Rate::new(training.learning_rate).with_weight_decay(training.weight_decay);
        let trainer = Trainer::new(decoder, &options, &mut |_| Some(rate))?;
        Ok(Self { trainer, loss: training.loss, weighting: Weighting::default() })
    }

    /// The same with weights of classes, or a label that is left out.
    #[must_use]
    pub fn with_weighting(self, weighting: Weighting) -> Self {
        Self { weighting, ..self }
    }

    /// One step on images with class indices `(b, height, width)`; gives the loss before it.
    ///
    /// # Errors
    /// [`Error::Shape`] for tokens that the decoder does not fit, [`Error::Diverged`] if the loss left
    /// the range of numbers.
    pub fn step(&mut self, input: &DecoderInput<'_>, labels: &Tensor) -> Result<f64> {
        let (_, height, width) = labels.dims3()?;
        let (kind, weighting) = (self.loss, &self.weighting);
        // What the decoder says stays what it is, on its way through the trainer.
        let mut refused = None;
        let stepped = self.trainer.step(&mut |decoder, _, pass| {
            let logits = decoder.forward(&input.with_pass(pass), (height, width));
            logits.and_then(|logits| kind.weighted(&logits, labels, weighting)).map_err(|error| {
                let lesson = dinorad_nn::Error::Lesson(error.to_string().into());
                refused = Some(error);
                lesson
            })
        });
        match (stepped, refused) {
            (_, Some(error)) => Err(error),
            (Err(dinorad_nn::Error::Diverged { step, .. }), _) => {
                Err(Error::Diverged { what: "decoder loss".to_owned(), step })
            }
            (stepped, None) => Ok(stepped?.loss),
        }
    }

    /// The decoder, frozen.
    ///
    /// # Errors
    /// If a parameter cannot be frozen.
    pub fn finish(self) -> Result<D> {
        Ok(self.trainer.finish()?)
    }
}

/// Class indices `(b, height, width)` of masks of one size.
pub(crate) fn labels(masks: &[&Array2<u8>], device: &Device) -> Result<Tensor> {
    let (height, width) = masks.first().map_or((0, 0), |mask| mask.dim());
    let values: Vec<u8> = masks.iter().flat_map(|mask| mask.iter().copied()).collect();
    Ok(Tensor::from_vec(values, (masks.len(), height, width), device)?)
}

/// The order in which an epoch visits `n` images that are read one after the other while at most
/// `held` of them wait: a shuffle of all where all can wait, else each time one of those that wait.
///
/// An image is visited no later than `n` and no earlier than it can have been read: the image at place
/// `i` of the order is among the first `i + held`.
pub(crate) fn visiting_order(n: usize, held: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let rng = &mut rng::stream(seed, epoch as u64, u64::MAX);
    let mut waiting: Vec<usize> = (0..n.min(held)).collect();
    let mut order = Vec::with_capacity(n);
    for next in waiting.len()..n {
        match waiting.len() {
            0 => order.push(next),
            some => order.push(std::mem::replace(&mut waiting[rng.random_range(0..some)], next)),
        }
    }
    waiting.shuffle(rng);
    order.extend(waiting);
    order
}

/// Batches of at most `size`, each of images of one shape: a batch ends early where the next differs.
pub(crate) fn batches<S: PartialEq>(order: Vec<usize>, size: usize, shape: impl Fn(usize) -> S) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match batches.last_mut() {
            Some(batch) if batch.len() < size && shape(batch[0]) == shape(i) => batch.push(i),
            _ => batches.push(vec![i]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_visits_all_once_and_none_before_it_is_read() {
        for (n, held) in [(50, 7), (50, 50), (50, 500), (50, 1), (5, 0)] {
            let order = visiting_order(n, held, 3, 1);
            let mut all = order.clone();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
            assert!(order.iter().enumerate().all(|(place, image)| *image < place + held.max(1)), "{n} {held}");
            assert_eq!(order, visiting_order(n, held, 3, 1));
        }
        assert_ne!(visiting_order(50, 7, 3, 1), visiting_order(50, 7, 3, 2));
        // images wander far: the first to be read is not always the first to be seen
        assert!(visiting_order(50, 7, 3, 1).iter().position(|i| *i == 0).is_some_and(|place| place > 0));
    }
}
