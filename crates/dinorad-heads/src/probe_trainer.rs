//! The arithmetic of a sweep: gradients in closed form, fused over heads.

use std::ops::Range;

use candle::Device;
use dinorad_nn::{cosine_lr, init, loss::Reduction};
use rayon::prelude::*;

use crate::{
    Error, ProbePoint, ProbeTask, Result, Targets,
    fast_math::{exp, sigmoid},
    matmul::{Mat, Threads, gemm},
    rows::Rows,
};

/// Spread of the initial weights.
const INITIAL_STD: f64 = 0.01;

/// Heads that read the same columns: their weights lie one below the other.
struct Group {
    columns: Range<usize>,
    /// Which points, in order.
    points: Vec<usize>,
    /// `(heads·logits, width)`.
    weights: Vec<f32>,
    velocity: Vec<f32>,
    bias: Vec<f32>,
    bias_velocity: Vec<f32>,
    /// `(batch, heads·logits)`: logits, then the gradient at them.
    logits: Vec<f32>,
}

pub(crate) struct Trainer {
    groups: Vec<Group>,
    /// Group and place of every point.
    places: Vec<(usize, usize)>,
    rates: Vec<f64>,
    losses: Vec<f64>,
    batch: Vec<f32>,
    dim: usize,
    task: ProbeTask,
    taken: usize,
    steps: usize,
    momentum: f32,
    reduction: Reduction,
}

impl Trainer {
    pub(crate) fn new(
        points: &[ProbePoint],
        columns: &[Range<usize>],
        dim: usize,
        task: ProbeTask,
        steps: usize,
        momentum: f32,
        reduction: Reduction,
        seed: u64,
    ) -> Result<Self> {
        let k = task.logits();
        let mut groups: Vec<Group> = Vec::new();
        let mut places = Vec::with_capacity(points.len());
        for (i, (point, columns)) in points.iter().zip(columns).enumerate() {
            let width = columns.len();
            let elements = k.checked_mul(width).filter(|n| *n > 0 && columns.end <= dim);
            elements.ok_or_else(|| Error::shape("probe weights", "(logits > 0, width > 0)", &[k, width]))?;
            let at = match groups.iter().position(|g| g.columns == *columns) {
                Some(at) => at,
                None => {
                    groups.push(Group {
                        columns: columns.clone(),
                        points: Vec::new(),
                        weights: Vec::new(),
                        velocity: Vec::new(),
                        bias: Vec::new(),
                        bias_velocity: Vec::new(),
                        logits: Vec::new(),
                    });
                    groups.len() - 1
                }
            };
            let group = &mut groups[at];
            places.push((at, group.points.len()));
            group.points.push(i);
            let start = init::trunc_normal(seed, &format!("{point}.weight"), (k, width), INITIAL_STD, &Device::Cpu)?;
            group.weights.extend(start.flatten_all()?.to_vec1::<f32>()?);
        }
        for group in &mut groups {
            group.velocity = vec![0.0; group.weights.len()];
            group.bias = vec![0.0; group.points.len() * k];
            group.bias_velocity = group.bias.clone();
        }
        Ok(Trainer {
            groups,
            places,
            rates: points.iter().map(|p| p.learning_rate).collect(),
            losses: vec![f64::NAN; points.len()],
            batch: Vec::new(),
            dim,
            task,
            taken: 0,
            steps,
            momentum,
            reduction,
        })
    }

    pub(crate) fn steps_taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn losses(&self) -> Vec<f64> {
        self.losses.clone()
    }

    fn rows_of(&self, point: usize) -> (usize, Range<usize>) {
        let k = self.task.logits();
        let (group, place) = self.places[point];
        (group, place * k..(place + 1) * k)
    }

    pub(crate) fn weights(&self, point: usize) -> (Vec<f32>, Vec<f32>) {
        let (group, rows) = self.rows_of(point);
        let group = &self.groups[group];
        let width = group.columns.len();
        (group.weights[rows.start * width..rows.end * width].to_vec(), group.bias[rows].to_vec())
    }

    pub(crate) fn set_weights(&mut self, point: usize, weight: &[f32], bias: &[f32]) {
        let (group, rows) = self.rows_of(point);
        let group = &mut self.groups[group];
        let width = group.columns.len();
        group.weights[rows.start * width..rows.end * width].copy_from_slice(weight);
        group.bias[rows].copy_from_slice(bias);
    }

    /// One step of all heads on the rows at `batch`, which are within `rows` and `y`.
    pub(crate) fn step(&mut self, rows: &Rows, y: &Targets, batch: &[usize]) {
        let (n, k, dim) = (batch.len(), self.task.logits(), self.dim);
        self.batch.clear();
        for &row in batch {
            self.batch.extend_from_slice(&rows.data[row * dim..(row + 1) * dim]);
        }
        let loss = LossOf { task: self.task, reduction: self.reduction, y, batch };
        for group in &mut self.groups {
            let (width, outputs) = (group.columns.len(), group.bias.len());
            let x = Mat::strided(&self.batch[group.columns.start..], n, width, dim);
            group.logits.resize(n * outputs, 0.0);
            let weights = Mat::new(&group.weights, outputs, width);
            gemm(&mut group.logits, 0.0, x, weights.t(), 1.0, Threads::All);
            let sums: Vec<Vec<f64>> = group
                .logits
                .par_chunks_mut(outputs)
                .enumerate()
                .with_min_len(8)
                .map(|(row, logits)| {
                    logits.iter_mut().zip(&group.bias).for_each(|(z, b)| *z += b);
                    loss.gradients(row, logits, k)
                })
                .collect();
            for (place, point) in group.points.iter().enumerate() {
                self.losses[*point] = sums.iter().map(|s| s[place]).sum();
            }
            // velocity = momentum·velocity + gradientᵀ·x, in one product
            let gradients = Mat::new(&group.logits, n, outputs);
            gemm(&mut group.velocity, self.momentum, gradients.t(), x, 1.0, Threads::All);
            group.bias_velocity.iter_mut().for_each(|v| *v *= self.momentum);
            for row in group.logits.chunks_exact(outputs) {
                group.bias_velocity.iter_mut().zip(row).for_each(|(v, g)| *v += g);
            }
            let rate = |row: usize| cosine_lr(self.rates[group.points[row / k]], 0.0, self.taken, self.steps) as f32;
            let rates: Vec<f32> = (0..outputs).map(rate).collect();
            let moves = group.velocity.par_chunks(width).zip(&rates);
            group.weights.par_chunks_mut(width).zip(moves).with_min_len(16).for_each(|(w, (v, rate))| {
                w.iter_mut().zip(v).for_each(|(w, v)| *w -= rate * v);
            });
            for ((b, v), rate) in group.bias.iter_mut().zip(&group.bias_velocity).zip(&rates) {
                *b -= rate * v;
            }
        }
        self.taken += 1;
    }
}

/// The loss of a batch.
struct LossOf<'a> {
    task: ProbeTask,
    reduction: Reduction,
    y: &'a Targets,
    batch: &'a [usize],
}

impl LossOf<'_> {
    /// Replaces the logits of one row by the loss's gradient; gives every head's share of the loss.
    fn gradients(&self, row: usize, logits: &mut [f32], k: usize) -> Vec<f64> {
        let n = self.batch.len() as f32;
        let index = self.batch[row];
        match (self.task, self.y) {
            (ProbeTask::Binary, Targets::Classes { labels, .. }) => {
                let y = labels[index] as f32;
                binary(logits, 1, &[y], 1.0 / n)
            }
            (ProbeTask::Multiclass(_), Targets::Classes { labels, .. }) => {
                softmax(logits, k, labels[index] as usize, 1.0 / n)
            }
            (_, Targets::Findings(labels)) => {
                let y: Vec<f32> = labels.row(index).iter().map(|v| f32::from(*v)).collect();
                let scale = match self.reduction {
                    Reduction::Mean => 1.0 / (n * k as f32),
                    Reduction::BatchSum => 1.0 / k as f32,
                };
                binary(logits, k, &y, scale)
            }
            // the trainer's caller has compared the tasks
            (ProbeTask::Multilabel(_), Targets::Classes { .. }) => {
                logits.fill(0.0);
                vec![f64::NAN; logits.len() / k]
            }
        }
    }
}

/// Binary cross-entropy of every logit.
fn binary(logits: &mut [f32], k: usize, y: &[f32], scale: f32) -> Vec<f64> {
    let heads = logits.chunks_exact_mut(k);
    heads
        .map(|head| {
            let mut loss = 0f32;
            for (z, y) in head.iter_mut().zip(y) {
                let e = exp(-z.abs());
                loss += z.max(0.0) - *z * y + (1.0 + e).ln();
                *z = (sigmoid(*z) - y) * scale;
            }
            f64::from(loss) * f64::from(scale)
        })
        .collect()
}

/// Cross-entropy of every head's logits.
fn softmax(logits: &mut [f32], k: usize, label: usize, scale: f32) -> Vec<f64> {
    let heads = logits.chunks_exact_mut(k);
    heads
        .map(|head| {
            let top = head.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let own = head[label] - top;
            head.iter_mut().for_each(|z| *z = exp(*z - top));
            let sum: f32 = head.iter().sum();
            head.iter_mut().for_each(|z| *z *= scale / sum);
            head[label] -= scale;
            (f64::from(sum).ln() - f64::from(own)) * f64::from(scale)
        })
        .collect()
}
