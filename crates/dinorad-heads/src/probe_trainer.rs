//! A sweep in training: gradients in closed form, all heads in two passes over their weights.

use std::ops::Range;

use candle::Device;
use dinorad_kernels::probe::STRIP;
use dinorad_nn::{cosine_lr, init, loss::Reduction};
use pulp::Arch;
use rayon::prelude::*;

use crate::{
    Error, ProbePoint, ProbeTask, Result, Targets,
    panels::{Gradients, Move, Panel, pack, strip_len},
    probe_loss::{Answers, StripLoss},
    rows::Rows,
};

/// Spread of the initial weights.
const INITIAL_STD: f64 = 0.01;

/// Features whose weights are one piece of work.
const PIECE: usize = 16 * STRIP;

/// Packed rows of the batches that every panel runs through before the next one does, in values:
/// they stay in a cache that all cores share.
const AHEAD: usize = 3 << 18;

/// Where a point's logits are.
struct Head {
    columns: Range<usize>,
    learning_rate: f64,
}

pub(crate) struct Trainer {
    /// In the order of the points.
    heads: Vec<Head>,
    panels: Vec<Panel>,
    /// Columns of all panels.
    stride: usize,
    /// Weight of one value in the loss of the last step.
    scale: f64,
    /// Packed strips of rows; kept, as are the logits, so that no step asks for fresh memory.
    x: Vec<f32>,
    /// `(strips·8, stride)`.
    logits: Vec<f32>,
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
        let (threads, whole) = (rayon::current_num_threads(), matches!(task, ProbeTask::Multiclass(_)));
        let mut heads: Vec<Head> =
            points.iter().map(|p| Head { columns: 0..0, learning_rate: p.learning_rate }).collect();
        let (mut panels, mut stride) = (Vec::new(), 0);
        for (features, members) in &groups {
            let own = Panel::split(stride, members.len(), k, whole, features, threads);
            let used: Vec<usize> = own.iter().flat_map(|p| p.used.clone()).collect();
            for (point, columns) in members.iter().zip(used.chunks_exact(k)) {
                heads[*point].columns = columns[0]..columns[0] + k;
            }
            stride = own.last().map_or(stride, |p| p.columns.end);
            panels.extend(own);
        }
        let (x, logits) = (Vec::new(), Vec::new());
        let (taken, scale) = (0, f64::NAN);
        let mut trainer =
            Trainer { heads, panels, stride, scale, x, logits, dim, task, taken, steps, momentum, reduction };
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

    /// The losses of the last batch, before its step.
    pub(crate) fn losses(&self) -> Vec<f64> {
        let loss = |column| self.panel_of(column).map_or(f64::NAN, |p| p.losses[column - p.columns.start]);
        self.heads.iter().map(|head| head.columns.clone().map(loss).sum::<f64>() * self.scale).collect()
    }

    fn panel_of(&self, column: usize) -> Option<&Panel> {
        self.panels.iter().find(|p| p.columns.contains(&column))
    }

    /// Weights `(logits, width)` and biases of a point.
    pub(crate) fn weights(&self, point: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for column in self.heads[point].columns.clone() {
            if let Some(panel) = self.panel_of(column) {
                weights.extend(panel.column(column));
                bias.push(panel.bias[column - panel.columns.start]);
            }
        }
        (weights, bias)
    }

    pub(crate) fn set_weights(&mut self, point: usize, weights: &[f32], bias: &[f32]) {
        let mut weights = weights.iter();
        for (column, bias) in self.heads[point].columns.clone().zip(bias) {
            if let Some(panel) = self.panels.iter_mut().find(|p| p.columns.contains(&column)) {
                panel.column_mut(column).zip(weights.by_ref()).for_each(|(to, from)| *to = *from);
                panel.bias[column - panel.columns.start] = *bias;
            }
        }
    }

    /// A step of all heads on the rows of each batch, which are within `rows` and `y`.
    ///
    /// No value depends on the schedule: panels on their own where there are enough of them, else
    /// all threads at every step.
    pub(crate) fn run(&mut self, rows: &Rows<'_>, y: &Targets, batches: &[Vec<usize>]) -> Result<()> {
        let arch = Arch::new();
        let longest = batches.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let together = self.panels.len() < rayon::current_num_threads();
        let steps = if together { 1 } else { (AHEAD / (longest.div_ceil(STRIP) * strip_len(self.dim))).max(1) };
        // from within the pool: a thread outside would be woken twice a step
        rayon::scope(|_| {
            for batches in batches.chunks(steps) {
                let answers = batches.iter().map(|batch| Answers::new(self.task, y, batch, self.reduction));
                let answers = answers.collect::<Result<Vec<_>>>()?;
                self.pack(rows, batches);
                let rates: Vec<Vec<f32>> = (0..batches.len()).map(|i| self.rates(self.taken + i)).collect();
                match (&answers[..], &rates[..]) {
                    ([answers], [rates]) if together => self.step_together(arch, answers, rates),
                    _ => self.step_apart(arch, &answers, &rates),
                }
                self.scale = answers.last().map_or(f64::NAN, Answers::scale);
                self.taken += batches.len();
            }
            Ok(())
        })
    }

    /// Learning rates of all columns.
    fn rates(&self, step: usize) -> Vec<f32> {
        let mut rates = vec![0f32; self.stride];
        for head in &self.heads {
            rates[head.columns.clone()].fill(cosine_lr(head.learning_rate, 0.0, step, self.steps) as f32);
        }
        rates
    }

    /// Packs the rows of all batches, each from a strip of its own.
    fn pack(&mut self, rows: &Rows<'_>, batches: &[Vec<usize>]) {
        let strips: Vec<&[usize]> = batches.iter().flat_map(|batch| batch.chunks(STRIP)).collect();
        let strip = strip_len(self.dim);
        self.x.resize(strips.len() * strip, 0.0);
        self.x.par_chunks_exact_mut(strip).zip(&strips).for_each(|(x, batch)| {
            pack(x, batch.iter().map(|row| &rows.data[row * self.dim..(row + 1) * self.dim]));
        });
    }

    /// Every panel takes all steps by itself; its weights stay in a core's cache.
    fn step_apart(&mut self, arch: Arch, answers: &[Answers], rates: &[Vec<f32>]) {
        let (strip, momentum, x, steps) = (strip_len(self.dim), self.momentum, &self.x, answers.len());
        let buffers = || (Vec::new(), Vec::new(), Vec::new());
        self.panels.par_iter_mut().with_max_len(1).for_each_init(buffers, |(logits, losses, scratch), panel| {
            let stride = panel.columns.len();
            let used = 0..panel.used.len();
            let mut x = &x[..];
            for (i, (answers, rates)) in answers.iter().zip(rates).enumerate() {
                let batch;
                (batch, x) = x.split_at(answers.len().div_ceil(STRIP) * strip);
                let last = i + 1 == steps;
                logits.resize(batch.len() / strip * STRIP * stride, 0f32);
                losses.resize(if last { used.len() } else { 0 }, 0f64);
                panel.losses.fill(0.0);
                for (i, (x, logits)) in
                    batch.chunks_exact(strip).zip(logits.chunks_exact_mut(STRIP * stride)).enumerate()
                {
                    panel.forward(arch, x, logits, stride, 0);
                    let (first, used, phase) = (i * STRIP, used.clone(), panel.phase);
                    arch.dispatch(StripLoss { answers, first, logits, stride, used, phase, losses, scratch });
                    panel.losses.iter_mut().zip(&*losses).for_each(|(sum, loss)| *sum += loss);
                }
                let gradients = Gradients { values: logits, stride, column: 0 };
                let step = Move { momentum, rates: &rates[panel.columns.clone()] };
                panel.descend_bias(gradients, step);
                panel.descents(batch, strip, gradients, step, usize::MAX).for_each(|all| arch.dispatch(all));
            }
        });
    }

    /// One step: all threads share the rows, then the features.
    fn step_together(&mut self, arch: Arch, answers: &Answers, rates: &[f32]) {
        let (strip, stride, momentum, x) = (strip_len(self.dim), self.stride, self.momentum, &self.x);
        self.logits.resize(x.len() / strip * STRIP * stride, 0.0);
        let panels = &self.panels;
        let strips = x.par_chunks_exact(strip).zip(self.logits.par_chunks_exact_mut(STRIP * stride)).enumerate();
        let losses: Vec<Vec<Vec<f64>>> = strips
            .map_init(Vec::new, |scratch, (i, (x, logits))| {
                let one = |panel: &Panel| {
                    let (first, used, phase) = (i * STRIP, panel.used.clone(), panel.phase);
                    let mut losses = vec![0f64; used.len()];
                    panel.forward(arch, x, logits, stride, panel.columns.start);
                    let losses_of =
                        StripLoss { answers, first, logits, stride, used, phase, losses: &mut losses, scratch };
                    arch.dispatch(losses_of);
                    losses
                };
                panels.iter().map(one).collect()
            })
            .collect();
        let values = &self.logits;
        self.panels.par_iter_mut().enumerate().for_each(|(i, panel)| {
            panel.losses.fill(0.0);
            for strip in &losses {
                panel.losses.iter_mut().zip(&strip[i]).for_each(|(sum, loss)| *sum += loss);
            }
            let columns = panel.columns.clone();
            let gradients = Gradients { values, stride, column: columns.start };
            let step = Move { momentum, rates: &rates[columns] };
            panel.descend_bias(gradients, step);
            let pieces: Vec<_> = panel.descents(x, strip, gradients, step, PIECE).collect();
            pieces.into_par_iter().for_each(|piece| arch.dispatch(piece));
        });
    }
}
