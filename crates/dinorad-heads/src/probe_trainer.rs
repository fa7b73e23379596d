//! A sweep in training: gradients in closed form, all heads in two passes over their weights.

use std::ops::Range;

use candle::Device;
use dinorad_nn::{cosine_lr, init, loss::Reduction};
use pulp::Arch;
use rayon::prelude::*;

use crate::{
    Error, ProbePoint, ProbeTask, Result, Targets,
    panel_kernels::{Descent, Forward, LANES, STRIP},
    panels::{Panel, pack, strip_len},
    probe_loss::{Answers, StripLoss},
    rows::Rows,
};

/// Spread of the initial weights.
const INITIAL_STD: f64 = 0.01;

/// Features whose weights are one piece of work.
const PIECE: usize = 16 * STRIP;

/// Where a point's logits are.
struct Head {
    columns: Range<usize>,
    learning_rate: f64,
}

pub(crate) struct Trainer {
    /// In the order of the points.
    heads: Vec<Head>,
    /// Columns with heads; those of one range of features are one run, padded to whole vectors.
    used: Vec<Range<usize>>,
    panels: Vec<Panel>,
    bias: Vec<f32>,
    bias_velocity: Vec<f32>,
    losses: Vec<f64>,
    batch: Batch,
    dim: usize,
    task: ProbeTask,
    taken: usize,
    steps: usize,
    momentum: f32,
    reduction: Reduction,
}

/// Memory of one step, used again by the next.
struct Batch {
    /// Logits of a row, then the loss's gradient at them; an odd number of cache lines, so that
    /// the rows of a panel do not meet in a few places of the cache.
    stride: usize,
    /// Packed strips of rows.
    x: Vec<f32>,
    /// `(strips·8, stride)`.
    logits: Vec<f32>,
    /// `(strips, stride)`.
    losses: Vec<f64>,
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
        // points that read the same features lie side by side
        let mut groups: Vec<(&Range<usize>, Vec<usize>)> = Vec::new();
        for (point, features) in columns.iter().enumerate() {
            let width = features.len();
            let elements = k.checked_mul(width).filter(|n| *n > 0 && features.end <= dim);
            elements.ok_or_else(|| Error::shape("probe weights", "(logits > 0, width > 0)", &[k, width]))?;
            match groups.iter_mut().find(|g| g.0 == features) {
                Some(group) => group.1.push(point),
                None => groups.push((features, vec![point])),
            }
        }
        let mut heads: Vec<Head> =
            points.iter().map(|p| Head { columns: 0..0, learning_rate: p.learning_rate }).collect();
        let (mut used, mut panels, mut column) = (Vec::new(), Vec::new(), 0);
        for (features, members) in &groups {
            used.push(column..column + members.len() * k);
            panels.extend(Panel::split(column, members.len() * k, features));
            for (place, point) in members.iter().enumerate() {
                heads[*point].columns = column + place * k..column + (place + 1) * k;
            }
            column += (members.len() * k).next_multiple_of(LANES);
        }
        let stride = (column / LANES | 1) * LANES;
        let mut trainer = Trainer {
            heads,
            used,
            panels,
            bias: vec![0.0; stride],
            bias_velocity: vec![0.0; stride],
            losses: vec![f64::NAN; points.len()],
            batch: Batch { stride, x: Vec::new(), logits: Vec::new(), losses: Vec::new() },
            dim,
            task,
            taken: 0,
            steps,
            momentum,
            reduction,
        };
        for (point, features) in columns.iter().enumerate() {
            let (name, shape) = (format!("{}.weight", points[point]), (k, features.len()));
            let start = init::trunc_normal(seed, &name, shape, INITIAL_STD, &Device::Cpu)?;
            trainer.set_weights(point, &start.flatten_all()?.to_vec1::<f32>()?, &vec![0.0; k]);
        }
        Ok(trainer)
    }

    pub(crate) fn steps_taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn losses(&self) -> Vec<f64> {
        self.losses.clone()
    }

    /// Weights `(logits, width)` and biases of a point.
    pub(crate) fn weights(&self, point: usize) -> (Vec<f32>, Vec<f32>) {
        let columns = self.heads[point].columns.clone();
        let mut weights = Vec::new();
        for column in columns.clone() {
            let panel = self.panels.iter().filter(|p| p.columns.contains(&column));
            weights.extend(panel.flat_map(|p| p.column(column)));
        }
        (weights, self.bias[columns].to_vec())
    }

    pub(crate) fn set_weights(&mut self, point: usize, weights: &[f32], bias: &[f32]) {
        let columns = self.heads[point].columns.clone();
        let mut weights = weights.iter();
        for column in columns.clone() {
            for panel in self.panels.iter_mut().filter(|p| p.columns.contains(&column)) {
                panel.column_mut(column).zip(weights.by_ref()).for_each(|(to, from)| *to = *from);
            }
        }
        self.bias[columns].copy_from_slice(bias);
    }

    /// A step of all heads on the rows of each batch, which are within `rows` and `y`.
    pub(crate) fn run(&mut self, rows: &Rows, y: &Targets, batches: &[Vec<usize>]) -> Result<()> {
        let arch = Arch::new();
        // from within the pool: a thread outside would be woken twice a step
        rayon::scope(|_| {
            for batch in batches {
                let answers = Answers::new(self.task, y, batch, self.reduction)?;
                self.forward(arch, rows, batch, &answers);
                self.descend(arch);
                self.taken += 1;
            }
            Ok(())
        })
    }

    /// Packs the rows; logits, then the loss's gradients at them.
    fn forward(&mut self, arch: Arch, rows: &Rows, batch: &[usize], answers: &Answers) {
        let (stride, strip, strips) = (self.batch.stride, strip_len(self.dim), batch.len().div_ceil(STRIP));
        self.batch.x.resize(strips * strip, 0.0);
        self.batch.logits.resize(strips * STRIP * stride, 0.0);
        self.batch.losses.resize(strips * stride, 0.0);
        // a panel stays in a core's cache for the strips of a piece; no value depends on the pieces
        let piece = strips.div_ceil(2 * rayon::current_num_threads()).max(1);
        let x = self.batch.x.par_chunks_mut(piece * strip);
        let logits = self.batch.logits.par_chunks_mut(piece * STRIP * stride);
        let losses = self.batch.losses.par_chunks_mut(piece * stride);
        let pieces = x.zip(logits).zip(losses).zip(batch.par_chunks(piece * STRIP)).enumerate();
        pieces.for_each_init(
            || vec![0f32; stride],
            |scratch, (at, (((x, logits), losses), batch))| {
                for (x, batch) in x.chunks_exact_mut(strip).zip(batch.chunks(STRIP)) {
                    pack(x, batch.iter().map(|row| &rows.data[row * self.dim..(row + 1) * self.dim]));
                }
                for panel in &self.panels {
                    for (x, out) in x.chunks_exact(strip).zip(logits.chunks_exact_mut(STRIP * stride)) {
                        let (x, bias) = (&x[panel.place()..], &self.bias[panel.columns.clone()]);
                        let column = panel.columns.start;
                        arch.dispatch(Forward { x, weights: &panel.weights, bias, out, stride, column });
                    }
                }
                let strips = logits.chunks_exact_mut(STRIP * stride).zip(losses.chunks_exact_mut(stride));
                for (i, (logits, losses)) in strips.enumerate() {
                    let (first, heads) = ((at * piece + i) * STRIP, &self.used[..]);
                    arch.dispatch(StripLoss { answers, first, heads, logits, stride, losses, scratch });
                }
            },
        );
        for (loss, head) in self.losses.iter_mut().zip(&self.heads) {
            let strips = self.batch.losses.chunks_exact(stride);
            *loss = strips.flat_map(|s| &s[head.columns.clone()]).sum::<f64>() * answers.scale();
        }
    }

    /// Moves weights and biases.
    fn descend(&mut self, arch: Arch) {
        let Batch { stride, x, logits, .. } = &self.batch;
        let (stride, strip, momentum) = (*stride, strip_len(self.dim), self.momentum);
        let mut rates = vec![0f32; stride];
        for head in &self.heads {
            rates[head.columns.clone()].fill(cosine_lr(head.learning_rate, 0.0, self.taken, self.steps) as f32);
        }
        self.bias_velocity.iter_mut().for_each(|v| *v *= momentum);
        for row in logits.chunks_exact(stride) {
            self.bias_velocity.iter_mut().zip(row).for_each(|(v, g)| *v += g);
        }
        for ((b, v), rate) in self.bias.iter_mut().zip(&self.bias_velocity).zip(&rates) {
            *b -= rate * v;
        }
        // backwards: the last weights of the forward pass are still in the cache
        self.panels.par_iter_mut().rev().for_each(|panel| {
            let (live, place, columns) = (panel.live(), panel.place(), panel.columns.clone());
            let pieces = panel.velocity.par_chunks_mut(PIECE * columns.len());
            pieces.zip(panel.weights.par_chunks_mut(PIECE * columns.len())).enumerate().with_max_len(2).for_each(
                |(at, (velocity, weights))| {
                    let first = at * PIECE;
                    arch.dispatch(Descent {
                        x,
                        strip,
                        place: place + first * STRIP,
                        gradients: logits,
                        stride,
                        column: columns.start,
                        momentum,
                        rates: &rates[columns.clone()],
                        velocity,
                        weights,
                        live: live.start.saturating_sub(first)..live.end.saturating_sub(first),
                    });
                },
            );
        });
    }
}
