//! Learning which slices of a scan matter.

use candle::{Device, Tensor};
use dinorad_aggregate::GatedAttentionPool;
use dinorad_nn::{
    Linear, Pass, Schedule, Trainable, init,
    loss::{Reduction, bce_with_logits, cross_entropy},
    parameters,
    train::{Lesson, Rate, RunOptions, Score, Step, TrainOptions, Trainer, run},
};
use ndarray::ArrayView2;

use crate::{BatchOrder, EpochSampler, Error, Result, Targets};

/// How a [`GatedAttentionPool`] is learned from the labels of scans.
///
/// The pooling and a linear classifier on top of it are trained together by AdamW with a cosine
/// schedule; the classifier is thrown away, and any head may follow the pooling. Slices enter
/// centred and scaled by the mean and the standard deviation of every feature over the training
/// slices, which become part of the pooling's first maps: what comes out is fit for the slices as
/// they are.
///
/// # Examples
/// ```
/// use dinorad_heads::{AttentionTraining, Targets};
/// use ndarray::Array2;
///
/// // the first value says which slice to look at, the second what is to be seen there
/// let scan = |positive: usize| {
///     Array2::from_shape_fn((6, 2), |(slice, c)| match c {
///         0 => f32::from(u8::from(slice == 2)),
///         _ => if slice == 2 { positive as f32 } else { (slice % 2) as f32 },
///     })
/// };
/// let scans: Vec<_> = (0..20).map(|i| scan(i % 2)).collect();
/// let views: Vec<_> = scans.iter().map(|s| s.view()).collect();
/// let y = Targets::classes((0..20).map(|i| i % 2).collect(), 2)?;
/// let training = AttentionTraining { epochs: 200, learning_rate: 1e-2, ..AttentionTraining::default() };
/// let (pool, losses) = training.fit(&views, &y)?;
/// assert!(losses[199] < 0.5 * losses[0]);
/// assert_eq!(pool.dim(), 2);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
///
/// # Source
/// Ilse et al. 2018, arXiv:1802.04712.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AttentionTraining {
    /// Width inside the pooling.
    pub hidden: usize,
    /// Passes over the scans.
    pub epochs: usize,
    /// Scans per step.
    pub batch_size: usize,
    /// Learning rate of the first step.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Seed of the initial weights and the order of the scans.
    pub seed: u64,
}

impl Default for AttentionTraining {
    /// 128 wide, 50 epochs of batches of 16 scans at 1e-3, weight decay 1e-2.
    fn default() -> Self {
        Self { hidden: 128, epochs: 50, batch_size: 16, learning_rate: 1e-3, weight_decay: 1e-2, seed: 0 }
    }
}

impl AttentionTraining {
    /// The pooling, and the mean loss of every epoch.
    ///
    /// # Errors
    /// [`Error::Empty`] without scans, [`Error::Lengths`] unless there is a target for each,
    /// [`Error::OneClass`], [`Error::Shape`] for scans of different width or without slices,
    /// [`Error::NotFinite`] naming the scan, [`Error::Diverged`].
    pub fn fit(&self, scans: &[ArrayView2<'_, f32>], y: &Targets) -> Result<(GatedAttentionPool, Vec<f64>)> {
        let Some(first) = scans.first() else { return Err(Error::Empty { what: "training scans" }) };
        y.check_len(scans.len())?;
        let (n, dim) = (scans.len(), first.ncols());
        if let Targets::Classes { labels, .. } = y
            && let Some(class) = y.positives().iter().position(|c| *c == labels.len())
        {
            return Err(Error::OneClass { class, rows: n });
        }
        for (row, scan) in scans.iter().enumerate() {
            if scan.ncols() != dim || scan.nrows() == 0 {
                return Err(Error::shape("slices of a scan", format!("(at least 1, {dim})"), scan.shape()));
            }
            if scan.iter().any(|v| !v.is_finite()) {
                return Err(Error::NotFinite { what: "slices of training scans", row });
            }
        }
        if self.epochs == 0 || self.batch_size == 0 {
            return Err(Error::parameter("epochs and batch_size", "at least 1", 0));
        }
        let (mean, scale) = moments(scans, dim);
        let device = Device::Cpu;
        let pool = GatedAttentionPool::new(dim, self.hidden, self.seed, &device)?;
        let logits = match y {
            Targets::Classes { n_classes, .. } => *n_classes,
            Targets::Findings(labels) => labels.ncols(),
        };
        let weight = init::trunc_normal(self.seed, "attention_classifier.weight", (logits, dim), 0.01, &device)?;
        let classifier = Linear::new(weight, Some(Tensor::zeros(logits, candle::DType::F32, &device)?));
        let mut order = EpochSampler::new(n, self.seed)?;
        let size = self.batch_size.min(n);
        let steps_an_epoch = n.div_ceil(size);
        let total = self.epochs * steps_an_epoch;
        let batches = (0..total).map(|_| order.next_batch(size)).collect();
        let options = TrainOptions { seed: self.seed, ..TrainOptions::new(Schedule::cosine(total)) };
        let rate = Rate::new(self.learning_rate).with_weight_decay(self.weight_decay);
        let mut trainer = Trainer::new(Pooled { pool, classifier }, &options, &mut |_| Some(rate))?;
        let mut lesson = Scans { scans, y, mean: &mean, scale: &scale, batches };
        let ended = run(&mut trainer, &mut lesson, &RunOptions::default()).map_err(|error| match error {
            dinorad_nn::Error::Diverged { step, .. } => Error::Diverged { what: "attention pooling".to_owned(), step },
            other => other.into(),
        })?;
        let history = ended.losses.chunks(steps_an_epoch).map(|epoch| epoch.iter().sum::<f64>() / epoch.len() as f64);
        Ok((unscaled(&trainer.finish()?.pool, &mean, &scale)?, history.collect()))
    }
}

/// The pooling and the classifier that teaches it.
struct Pooled {
    pool: GatedAttentionPool,
    classifier: Linear,
}

parameters!(Pooled { pool: "", classifier: "classifier" });

/// Scans and their labels, in batches that are drawn before the first step.
struct Scans<'a> {
    scans: &'a [ArrayView2<'a, f32>],
    y: &'a Targets,
    mean: &'a [f32],
    scale: &'a [f32],
    batches: Vec<Vec<usize>>,
}

impl Lesson<Pooled> for Scans<'_> {
    fn loss(&mut self, model: &Pooled, step: Step, pass: Pass) -> dinorad_nn::Result<Tensor> {
        let batch = &self.batches[step.step];
        let counts: Vec<usize> = batch.iter().map(|i| self.scans[*i].nrows()).collect();
        let slices = counts.iter().sum::<usize>();
        let mut rows = Vec::with_capacity(slices * self.mean.len());
        for &i in batch {
            for slice in self.scans[i].outer_iter() {
                rows.extend(slice.iter().zip(self.mean).zip(self.scale).map(|((v, m), s)| (v - m) * s));
            }
        }
        let x = Tensor::from_vec(rows, (slices, self.mean.len()), &Device::Cpu)?;
        let wrapped = |error: &dyn ToString| dinorad_nn::Error::Lesson(error.to_string().into());
        let (embeddings, _) = model.pool.aggregate_many(&x, &counts).map_err(|e| wrapped(&e))?;
        loss(&model.classifier.forward(&embeddings, pass)?, self.y, batch)
    }

    fn validate(&mut self, _: &Pooled) -> dinorad_nn::Result<Option<Score>> {
        Ok(None)
    }
}

fn loss(z: &Tensor, y: &Targets, batch: &[usize]) -> dinorad_nn::Result<Tensor> {
    Ok(match y {
        Targets::Classes { labels, .. } => {
            let labels: Vec<u32> = batch.iter().map(|i| labels[*i]).collect();
            cross_entropy(z, &Tensor::from_vec(labels, batch.len(), z.device())?)?
        }
        Targets::Findings(labels) => {
            let rows: Vec<f32> = batch.iter().flat_map(|i| labels.row(*i).to_vec()).map(f32::from).collect();
            let labels = Tensor::from_vec(rows, (batch.len(), labels.ncols()), z.device())?;
            bce_with_logits(z, &labels, Reduction::Mean)?
        }
    })
}

/// Mean of every feature over all slices, and one over its standard deviation.
fn moments(scans: &[ArrayView2<'_, f32>], dim: usize) -> (Vec<f32>, Vec<f32>) {
    let n = scans.iter().map(|s| s.nrows()).sum::<usize>().max(1) as f64;
    let (mut sum, mut squares) = (vec![0f64; dim], vec![0f64; dim]);
    for slice in scans.iter().flat_map(|s| s.outer_iter()) {
        sum.iter_mut().zip(&slice).for_each(|(s, v)| *s += f64::from(*v));
    }
    sum.iter_mut().for_each(|s| *s /= n);
    for slice in scans.iter().flat_map(|s| s.outer_iter()) {
        for ((q, v), m) in squares.iter_mut().zip(&slice).zip(&sum) {
            *q += (f64::from(*v) - m).powi(2);
        }
    }
    let scale = squares.iter().map(|q| if *q > 0.0 { (1.0 / (q / n).sqrt()) as f32 } else { 1.0 }).collect();
    (sum.into_iter().map(|m| m as f32).collect(), scale)
}

/// The same pooling for slices that are neither centred nor scaled: `V·((x − m)·s) + b` is
/// `(V·s)·x + (b − (V·s)·m)`.
fn unscaled(pool: &GatedAttentionPool, mean: &[f32], scale: &[f32]) -> Result<GatedAttentionPool> {
    let device = Device::Cpu;
    let dim = mean.len();
    let scale = Tensor::from_slice(scale, (1, dim), &device)?;
    let mean = Tensor::from_slice(mean, (dim, 1), &device)?;
    let tensors = pool.tensors();
    let of = |name: &str| {
        let tensor = tensors.get(name).ok_or_else(|| Error::shape("attention pooling", name, &[]))?;
        Ok::<_, Error>(tensor.detach())
    };
    let folded = |part: &str| -> Result<Linear> {
        let weight = of(&format!("{part}.weight"))?.broadcast_mul(&scale)?;
        let shift = weight.matmul(&mean)?.flatten_all()?;
        let bias = (of(&format!("{part}.bias"))? - shift)?;
        Ok(Linear::new(weight, Some(bias)))
    };
    let score = Linear::new(of("score.weight")?, Some(of("score.bias")?));
    Ok(GatedAttentionPool::from_parts(folded("tanh")?, folded("gate")?, score)?)
}

#[cfg(test)]
mod tests {
    use dinorad_aggregate::Aggregate;
    use ndarray::Array2;
    use rand::Rng;

    use super::*;

    #[test]
    fn attention_finds_the_slice_that_tells() {
        let mut rng = dinorad_core::rng::stream(3, 0, 0);
        let mut place = Vec::new();
        let scans: Vec<Array2<f32>> = (0..60)
            .map(|i| {
                let (slices, at) = (5 + i % 4, rng.random_range(0..5));
                place.push(at);
                Array2::from_shape_fn((slices, 8), |(s, c)| match c {
                    // far from zero and of very different scales
                    0 => 500.0 + if s == at { 40.0 } else { 0.0 },
                    // what other slices say is a coin: only the marked one can be trusted
                    1 => 0.01 * if s == at { (i % 2) as f32 } else { rng.random_range(0..2) as f32 },
                    _ => rng.random_range(-1.0..1.0),
                })
            })
            .collect();
        let views: Vec<_> = scans.iter().map(|s| s.view()).collect();
        let y = Targets::classes((0..60).map(|i| i % 2).collect(), 2).unwrap();
        let training = AttentionTraining { epochs: 60, learning_rate: 1e-2, ..AttentionTraining::default() };
        let (pool, losses) = training.fit(&views, &y).unwrap();
        assert!(losses[59] < 0.3 * losses[0], "{losses:?}");
        let mut found = [0; 2];
        for (i, (scan, at)) in scans.iter().zip(&place).enumerate() {
            let weights = pool.aggregate_weighted(scan.view()).unwrap().weights;
            let best = (0..weights.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b])).unwrap();
            found[i % 2] += usize::from(best == *at);
        }
        // Scans of one class rest on the slice that tells; those of the other on its absence.
        assert!(found[0].max(found[1]) > 27, "{found:?} of 30 each");
        let again = training.fit(&views, &y).unwrap();
        assert_eq!(again.1, losses);
    }

    #[test]
    fn scans_that_cannot_be_learned_from_are_named() {
        let scan = Array2::<f32>::ones((3, 2));
        let (narrow, none) = (Array2::<f32>::ones((3, 1)), Array2::<f32>::ones((0, 2)));
        let mut broken = scan.clone();
        broken[[1, 1]] = f32::NAN;
        let y = |labels: Vec<u32>| Targets::classes(labels, 2).unwrap();
        let fit = |scans: &[&Array2<f32>], y: &Targets| {
            AttentionTraining::default().fit(&scans.iter().map(|s| s.view()).collect::<Vec<_>>(), y).unwrap_err()
        };
        assert!(matches!(fit(&[], &y(vec![])), Error::Empty { .. }));
        assert!(matches!(fit(&[&scan, &scan], &y(vec![1, 1])), Error::OneClass { class: 1, rows: 2 }));
        assert!(matches!(fit(&[&scan, &broken], &y(vec![0, 1])), Error::NotFinite { row: 1, .. }));
        assert!(matches!(fit(&[&scan, &narrow], &y(vec![0, 1])), Error::Shape { .. }));
        assert!(matches!(fit(&[&scan, &none], &y(vec![0, 1])), Error::Shape { .. }));
        assert!(matches!(fit(&[&scan], &y(vec![0, 1])), Error::Lengths { .. }));
    }
}
