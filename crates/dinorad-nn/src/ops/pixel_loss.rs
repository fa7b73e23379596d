//! Cross-entropy and soft Dice of maps of logits as one operation.

use candle::{DType, Tensor};
use dinorad_kernels::{
    memory::written,
    pixel_loss::{PixelLoss, SMOOTH, Slopes, Sums},
};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, values},
};
use crate::{
    Result,
    loss::{Terms, Weighting},
};

/// The loss of `logits` `(n, classes, ..)` in f32 on the CPU with `labels` `(n, ..)`, all of which are classes or
/// ignored, and weights that fit: checked by the caller.
pub(crate) fn pixel_loss(logits: &Tensor, labels: &Tensor, terms: Terms, weighting: &Weighting) -> Result<Tensor> {
    let (classes, pixels) = (logits.dim(1)?, logits.dims().iter().skip(2).product());
    let (dx, labels) = (dense(logits)?, labels.flatten_all()?.to_dtype(DType::U32)?);
    let spec = Spec { classes, pixels, terms, weighting: weighting.clone() };
    let mut sums = Vec::new();
    let p = {
        let (x, labels) = (values::<f32>(&dx)?, values::<u32>(&labels)?);
        written(x.len(), |p| sums = spec.kernel().forward(&x, &labels, p))
    };
    if weighting.whole_batch {
        sums = vec![all_of(sums)];
    }
    let loss = spec.loss(&sums);
    record(&[Some(logits)], (), vec![loss as f32], || Ok(Loss { spec, p, labels, sums }))
}

/// The sums of a batch.
fn all_of(sums: Vec<Sums>) -> Sums {
    let add = |mut all: Sums, one: Sums| {
        if all.total.is_empty() {
            return one;
        }
        all.overlap.iter_mut().zip(one.overlap).for_each(|(all, one)| *all += one);
        all.total.iter_mut().zip(one.total).for_each(|(all, one)| *all += one);
        all.entropy += one.entropy;
        all.weight += one.weight;
        all
    };
    sums.into_iter().fold(Sums::default(), add)
}

struct Spec {
    classes: usize,
    pixels: usize,
    terms: Terms,
    weighting: Weighting,
}

impl Spec {
    fn kernel(&self) -> PixelLoss<'_> {
        PixelLoss {
            classes: self.classes,
            pixels: self.pixels,
            weights: self.weighting.classes.as_deref(),
            ignored: self.weighting.ignored,
        }
    }

    /// How much the Dice of a class of one image counts in the loss.
    fn share(&self, class: usize, n: usize) -> f64 {
        let weight = self.weighting.classes.as_ref().and_then(|w| w.get(class)).copied().unwrap_or(1.0);
        f64::from(weight) / (n * self.classes) as f64
    }

    fn loss(&self, sums: &[Sums]) -> f64 {
        let mut loss = 0.0;
        if self.terms.dice {
            for one in sums {
                for (class, (overlap, total)) in one.overlap.iter().zip(&one.total).enumerate() {
                    let dice = (2.0 * overlap + SMOOTH) / (total + SMOOTH);
                    loss += self.share(class, sums.len()) * (1.0 - dice);
                }
            }
        }
        let weight: f64 = sums.iter().map(|one| one.weight).sum();
        if self.terms.entropy && weight > 0.0 {
            loss += sums.iter().map(|one| one.entropy).sum::<f64>() / weight;
        }
        loss
    }

    /// How the loss, times `scale`, grows with the probabilities behind some sums, one of `n`.
    fn slopes(&self, one: &Sums, n: usize, weight: f64, scale: f64) -> Slopes {
        let mut slopes = Slopes { all: vec![0.0; self.classes], own: vec![0.0; self.classes], entropy: 0.0 };
        if self.terms.dice {
            for (class, (overlap, total)) in one.overlap.iter().zip(&one.total).enumerate() {
                let (share, below) = (scale * self.share(class, n), total + SMOOTH);
                slopes.own[class] = (-2.0 * share / below) as f32;
                slopes.all[class] = (share * (2.0 * overlap + SMOOTH) / (below * below)) as f32;
            }
        }
        if self.terms.entropy && weight > 0.0 {
            slopes.entropy = (scale / weight) as f32;
        }
        slopes
    }
}

struct Loss {
    spec: Spec,
    p: Vec<f32>,
    labels: Tensor,
    sums: Vec<Sums>,
}

impl Backward for Loss {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let labels = values::<u32>(&self.labels)?;
        let scale = f64::from(dy.first().copied().unwrap_or_default());
        let weight = self.sums.iter().map(|one| one.weight).sum();
        let of = |one: &Sums| self.spec.slopes(one, self.sums.len(), weight, scale);
        let slopes: Vec<Slopes> = match self.sums.as_slice() {
            [all] => vec![of(all); labels.len() / self.spec.pixels.max(1)],
            each => each.iter().map(of).collect(),
        };
        to.put(0, written(self.p.len(), |d| self.spec.kernel().backward(&self.p, &labels, &slopes, d)));
        Ok(())
    }
}
