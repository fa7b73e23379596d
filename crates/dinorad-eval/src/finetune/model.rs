//! An encoder with a head: slices to the answer of a case.

use candle::{D, DType, Device, Tensor};
use candle_nn::ops::{sigmoid, softmax};
use dinorad_aggregate::GatedAttentionPool;
use dinorad_backbone::{Backbone, Features, Request, tuning::TrainableBackbone};
use dinorad_core::{Task, TaskKind};
use dinorad_nn::{Linear, Pass, Trainable, init, join};
use ndarray::Array3;

use crate::{
    Error, Result,
    row_layout::{Aggregation, RowLayout},
};

/// Width inside a learned pooling of slices.
pub(super) const POOL_WIDTH: usize = 128;

/// An encoder, where it is learned the pooling of slices, and a linear head.
pub(super) struct Model {
    pub(super) encoder: Box<dyn TrainableBackbone>,
    pub(super) pool: Option<GatedAttentionPool>,
    pub(super) head: Linear,
    layout: RowLayout,
}

impl Trainable for Model {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        self.encoder.visit(&join(prefix, "encoder"), f);
        self.pool.visit(&join(prefix, "pool"), f);
        self.head.visit(&join(prefix, "head"), f);
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        self.encoder.visit_mut(&join(prefix, "encoder"), f)?;
        self.pool.visit_mut(&join(prefix, "pool"), f)?;
        self.head.visit_mut(&join(prefix, "head"), f)
    }
}

/// The slices of some cases, one below the other, and how many each case has.
pub(super) struct Batch {
    pub(super) pixels: Tensor,
    pub(super) counts: Vec<usize>,
}

impl Batch {
    pub(super) fn new(cases: &[Vec<Array3<f32>>], device: &Device, dtype: DType) -> Result<Self> {
        let counts: Vec<usize> = cases.iter().map(Vec::len).collect();
        let total: usize = counts.iter().sum();
        let Some(first) = cases.iter().flatten().next() else { return Err(Error::EmptySplit { split: "train" }) };
        let (c, h, w) = first.dim();
        let mut values: Vec<f32> = Vec::with_capacity(total * c * h * w);
        for slice in cases.iter().flatten() {
            if slice.dim() != (c, h, w) {
                return Err(Error::shape("slice", format!("({c}, {h}, {w})"), slice.shape()));
            }
            values.extend(slice);
        }
        let pixels = Tensor::from_vec(values, (total, c, h, w), &Device::Cpu)?;
        Ok(Self { pixels: pixels.to_device(device)?.to_dtype(dtype)?, counts })
    }
}

impl Model {
    /// A fresh head for `task`, and a fresh pooling where slices are pooled by attention.
    pub(super) fn new(
        encoder: Box<dyn TrainableBackbone>,
        layout: RowLayout,
        task: &Task,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let dim = layout.layout(encoder.spec().embed_dim).width();
        let pool = match layout.aggregate {
            Aggregation::Attention => Some(GatedAttentionPool::new(dim, POOL_WIDTH, seed, device)?),
            _ => None,
        };
        // The study's linear probes start so: small normal weights, no bias.
        let weight = init::trunc_normal(seed, "head.weight", (task.n_classes(), dim), 0.01, device)?;
        let bias = Tensor::zeros(task.n_classes(), DType::F32, device)?;
        Ok(Self { encoder, pool, head: Linear::new(weight, Some(bias)), layout })
    }

    pub(super) fn request(&self) -> Request {
        self.layout.request().with_norm(self.encoder.spec().study_norm())
    }

    /// What the head says of the cases of a batch, `(n, classes)`.
    pub(super) fn logits(&self, batch: &Batch, pass: Pass) -> Result<Tensor> {
        let features = self.encoder.forward(&batch.pixels, &self.request().with_pass(pass))?;
        self.answer(&self.rows(&features)?, &batch.counts, pass)
    }

    /// The features of slices, `(slices, dim)`.
    pub(super) fn rows(&self, features: &Features) -> Result<Tensor> {
        Ok(features.linear_input(self.layout.tokens.blocks, self.layout.tokens.avgpool)?.to_dtype(DType::F32)?)
    }

    /// From the features of slices to what the head says of their cases.
    pub(super) fn answer(&self, slices: &Tensor, counts: &[usize], pass: Pass) -> Result<Tensor> {
        Ok(self.head.forward(&self.pooled(slices, counts)?, pass)?)
    }

    fn pooled(&self, slices: &Tensor, counts: &[usize]) -> Result<Tensor> {
        if let Some(pool) = &self.pool {
            return Ok(pool.aggregate_many(slices, counts)?.0);
        }
        if counts.iter().all(|n| *n == 1) {
            return Ok(slices.clone());
        }
        let total: usize = counts.iter().sum();
        let mut cases = Vec::with_capacity(counts.len());
        let mut start = 0;
        let mut means = vec![0f32; counts.len() * total];
        for (case, n) in counts.iter().enumerate() {
            means[case * total + start..case * total + start + n].fill(1.0 / *n as f32);
            let of_case = slices.narrow(0, start, *n)?;
            start += n;
            match self.layout.aggregate {
                Aggregation::Max => cases.push(of_case.max_keepdim(0)?),
                Aggregation::TopK(k) => cases.push(mean_of_largest(&of_case, k)?),
                Aggregation::Mean | Aggregation::Attention => {}
            }
        }
        Ok(match cases.is_empty() {
            false => Tensor::cat(&cases, 0)?,
            true => Tensor::from_vec(means, (counts.len(), total), slices.device())?.matmul(slices)?,
        })
    }
}

/// The mean of the `k` largest values of every column, `(1, dim)`; gradients reach those values.
fn mean_of_largest(x: &Tensor, k: usize) -> Result<Tensor> {
    let (n, dim) = x.dims2()?;
    let k = k.min(n);
    let values = x.detach().to_vec2::<f32>()?;
    let mut mask = vec![0f32; n * dim];
    for column in 0..dim {
        let mut rows: Vec<usize> = (0..n).collect();
        rows.sort_by(|a, b| values[*b][column].total_cmp(&values[*a][column]));
        rows.iter().take(k).for_each(|row| mask[row * dim + column] = 1.0 / k as f32);
    }
    Ok((x * Tensor::from_vec(mask, (n, dim), x.device())?)?.sum_keepdim(0)?)
}

/// Probabilities of logits.
pub(super) fn probabilities(logits: &Tensor, task: TaskKind) -> Result<Tensor> {
    Ok(match task {
        TaskKind::Multilabel => sigmoid(logits)?,
        _ => softmax(logits, D::Minus1)?,
    })
}
