//! Weights and rows in the order in which the kernels read them.

use std::ops::Range;

use pulp::Arch;

use dinorad_kernels::probe::{BLOCK, Descent, Forward, LANES, PANEL, STRIP};

/// Weights of some neighbouring columns that read the same features, feature after feature.
///
/// Features are kept from the last multiple of eight before the first to the next after the last;
/// those that the panel does not read have zeros, and so have columns past the last head.
pub(crate) struct Panel {
    /// Where its columns are in a row of all logits, whole vectors.
    pub(crate) columns: Range<usize>,
    /// Those that belong to a head.
    pub(crate) used: Range<usize>,
    /// The place of the first column within its head.
    pub(crate) phase: usize,
    /// Which columns of a feature row it reads.
    pub(crate) features: Range<usize>,
    /// `(features, columns)`.
    pub(crate) weights: Vec<f32>,
    /// `(features, columns)`.
    pub(crate) velocity: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) bias_velocity: Vec<f32>,
    /// Unscaled losses of the columns.
    pub(crate) losses: Vec<f64>,
}

impl Panel {
    /// Panels of at most [`PANEL`] columns for `heads` heads of `k` logits, from a `column` that is
    /// a multiple of [`LANES`]; as many for each of `threads` where that is possible. A head lies in
    /// one panel if it has to stay `whole`.
    pub(crate) fn split(
        column: usize,
        heads: usize,
        k: usize,
        whole: bool,
        features: &Range<usize>,
        threads: usize,
    ) -> Vec<Panel> {
        // what is not cut: a head, or a vector of columns
        let (unit, units) = if whole { (k, heads) } else { (LANES, (heads * k).div_ceil(LANES)) };
        let fewest = units.div_ceil((PANEL / unit).max(1));
        let n = fewest.next_multiple_of(threads.max(1)).min(units);
        let blocks = features.end.div_ceil(STRIP) - features.start / STRIP;
        let mut start = column;
        let panels = (0..n).map(|i| {
            let (first, last) = (units * i / n * unit, (units * (i + 1) / n * unit).min(heads * k));
            let width = (last - first).next_multiple_of(LANES);
            let columns = start..start + width;
            start += width;
            Panel {
                used: columns.start..columns.start + last - first,
                columns,
                phase: first % k,
                features: features.clone(),
                weights: vec![0.0; blocks * STRIP * width],
                velocity: vec![0.0; blocks * STRIP * width],
                bias: vec![0.0; width],
                bias_velocity: vec![0.0; width],
                losses: vec![f64::NAN; width],
            }
        });
        panels.collect()
    }

    /// Where the features start in a packed strip.
    pub(crate) fn place(&self) -> usize {
        self.features.start / STRIP * BLOCK
    }

    /// Which of the stored features are read.
    pub(crate) fn live(&self) -> Range<usize> {
        let first = self.features.start / STRIP * STRIP;
        self.features.start - first..self.features.end - first
    }

    /// Logits of one strip of rows into `out`, eight rows of `stride` values.
    pub(crate) fn forward(&self, arch: Arch, x: &[f32], out: &mut [f32], stride: usize, column: usize) {
        let x = &x[self.place()..];
        arch.dispatch(Forward { x, weights: &self.weights, bias: &self.bias, out, stride, column });
    }

    /// The move of the biases.
    pub(crate) fn descend_bias(&mut self, gradients: Gradients<'_>, step: Move<'_>) {
        self.bias_velocity.iter_mut().for_each(|v| *v *= step.momentum);
        for row in gradients.values.chunks_exact(gradients.stride) {
            self.bias_velocity.iter_mut().zip(&row[gradients.column..]).for_each(|(v, g)| *v += g);
        }
        for ((b, v), rate) in self.bias.iter_mut().zip(&self.bias_velocity).zip(step.rates) {
            *b -= rate * v;
        }
    }

    /// The move of the weights, in pieces of `piece` features that do not depend on each other.
    pub(crate) fn descents<'a>(
        &'a mut self,
        x: &'a [f32],
        strip: usize,
        gradients: Gradients<'a>,
        step: Move<'a>,
        piece: usize,
    ) -> impl Iterator<Item = Descent<'a>> {
        let (live, place, size) = (self.live(), self.place(), piece.saturating_mul(self.columns.len()));
        let pieces = self.velocity.chunks_mut(size).zip(self.weights.chunks_mut(size)).enumerate();
        pieces.map(move |(at, (velocity, weights))| {
            let first = at * piece;
            Descent {
                x,
                strip,
                place: place + first * STRIP,
                gradients: gradients.values,
                stride: gradients.stride,
                column: gradients.column,
                momentum: step.momentum,
                rates: step.rates,
                velocity,
                weights,
                live: live.start.saturating_sub(first)..live.end.saturating_sub(first),
            }
        })
    }

    /// The weights of one column.
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = &f32> {
        let at = column - self.columns.start;
        self.weights
            .chunks_exact(self.columns.len())
            .map(move |row| &row[at])
            .skip(self.live().start)
            .take(self.features.len())
    }

    /// The same to be written.
    pub(crate) fn column_mut(&mut self, column: usize) -> impl Iterator<Item = &mut f32> {
        let (at, live) = (column - self.columns.start, self.live());
        self.weights.chunks_exact_mut(self.columns.len()).map(move |row| &mut row[at]).skip(live.start).take(live.len())
    }
}

/// Gradients of a batch, the rows of some strips `stride` apart, a panel's from `column`.
#[derive(Clone, Copy)]
pub(crate) struct Gradients<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) column: usize,
}

/// What a step does with a gradient.
#[derive(Clone, Copy)]
pub(crate) struct Move<'a> {
    pub(crate) momentum: f32,
    /// Learning rates of the panel's columns.
    pub(crate) rates: &'a [f32],
}

/// Values of a packed strip of rows of `dim` features.
pub(crate) fn strip_len(dim: usize) -> usize {
    dim.div_ceil(STRIP) * BLOCK
}

/// Packs up to eight rows: `[feature / 8][row][feature % 8]`, zeros where there is none.
pub(crate) fn pack<'a>(strip: &mut [f32], rows: impl Iterator<Item = &'a [f32]>) {
    let mut packed = 0;
    for (i, row) in rows.take(STRIP).enumerate() {
        let (whole, rest) = row.as_chunks::<STRIP>();
        let mut blocks = strip.chunks_exact_mut(BLOCK).map(|block| &mut block[i * STRIP..][..STRIP]);
        for (values, block) in whole.iter().zip(blocks.by_ref()) {
            block.copy_from_slice(values);
        }
        if let (Some(block), false) = (blocks.next(), rest.is_empty()) {
            block.fill(0.0);
            block[..rest.len()].copy_from_slice(rest);
        }
        packed = i + 1;
    }
    for i in packed..STRIP {
        strip.chunks_exact_mut(BLOCK).for_each(|block| block[i * STRIP..][..STRIP].fill(0.0));
    }
}

#[cfg(test)]
mod tests {
    use pulp::Arch;
    use rand::Rng;

    use super::*;

    /// Plain Rust and every kind of vectors that this processor has.
    fn every_arch() -> Vec<Arch> {
        #[allow(unused_mut)]
        let mut all = vec![Arch::Scalar, Arch::new()];
        #[cfg(target_arch = "x86_64")]
        all.extend(pulp::x86::V3::try_new().map(Arch::V3));
        all
    }

    struct Step {
        logits: Vec<f32>,
        velocity: Vec<f32>,
        weights: Vec<f32>,
    }

    /// One step by the kernels, compared with plain loops in f64.
    fn step(arch: Arch, rows: usize, dim: usize, features: &Range<usize>, outputs: usize) -> Vec<Step> {
        let mut rng = dinorad_core::rng::stream((rows * dim * outputs) as u64, 0, 0);
        let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let (offset, strip, strips) = (LANES, strip_len(dim), rows.div_ceil(STRIP));
        let (data, bias, answers) = (random(rows * dim), random(outputs), random(rows * outputs));
        let stride = offset + outputs.next_multiple_of(LANES) + LANES;
        let mut x = vec![f32::NAN; strips * strip];
        for (x, rows) in x.chunks_exact_mut(strip).zip(data.chunks(STRIP * dim)) {
            pack(x, rows.chunks(dim));
        }
        let mut all_bias = vec![0f32; stride];
        all_bias[offset..offset + outputs].copy_from_slice(&bias);
        let rates: Vec<f32> = (0..stride).map(|c| 0.1 + c as f32 * 0.01).collect();
        let mut panels = Panel::split(offset, outputs, 1, false, features, 2);
        let mut wanted = Vec::new();
        for panel in &mut panels {
            for column in panel.columns.clone().filter(|c| *c < offset + outputs) {
                let (weights, velocity) = (random(features.len()), random(features.len()));
                panel.column_mut(column).zip(&weights).for_each(|(to, from)| *to = *from);
                std::mem::swap(&mut panel.weights, &mut panel.velocity);
                panel.column_mut(column).zip(&velocity).for_each(|(to, from)| *to = *from);
                std::mem::swap(&mut panel.weights, &mut panel.velocity);
                wanted.push((weights, velocity));
            }
        }
        let mut logits = vec![0f32; strips * STRIP * stride];
        let mut gradients = logits.clone();
        for (to, from) in gradients.chunks_exact_mut(stride).zip(answers.chunks(outputs)) {
            to[offset..offset + outputs].copy_from_slice(from);
        }
        let mut out = Vec::new();
        for panel in &mut panels {
            let (column, columns) = (panel.columns.start, panel.columns.clone());
            panel.bias.copy_from_slice(&all_bias[columns.clone()]);
            for (x, out) in x.chunks_exact(strip).zip(logits.chunks_exact_mut(STRIP * stride)) {
                panel.forward(arch, x, out, stride, column);
            }
            let gradients = Gradients { values: &gradients, stride, column };
            let step = Move { momentum: 0.9, rates: &rates[columns] };
            panel.descents(&x, strip, gradients, step, 2 * STRIP).for_each(|piece| arch.dispatch(piece));
        }
        let at = |row: usize, feature: usize| f64::from(data[row * dim + features.start + feature]);
        for (output, (weights, velocity)) in wanted.iter().enumerate() {
            let column = offset + output;
            for row in 0..rows {
                let sum: f64 = weights.iter().enumerate().map(|(f, w)| f64::from(*w) * at(row, f)).sum();
                let got = f64::from(logits[row * stride + column]);
                assert!((got - sum - f64::from(bias[output])).abs() < 1e-5, "{rows} {dim} {outputs}: {got} {sum}");
            }
            let panel = panels.iter().find(|p| p.columns.contains(&column)).unwrap();
            for (feature, got) in panel.column(column).enumerate() {
                let sum: f64 = (0..rows).map(|r| f64::from(answers[r * outputs + output]) * at(r, feature)).sum();
                let moved = 0.9 * f64::from(velocity[feature]) + sum;
                let want = f64::from(weights[feature]) - f64::from(rates[column]) * moved;
                assert!((f64::from(*got) - want).abs() < 1e-5, "{rows} {dim} {outputs}: {got} {want}");
            }
        }
        for mut panel in panels {
            // whatever no head reads is zero and stays so
            let own = panel.columns.clone().filter(|c| *c < offset + outputs).count() * features.len();
            assert!(panel.weights.iter().filter(|w| **w != 0.0).count() <= own);
            assert!(panel.velocity.iter().filter(|v| **v != 0.0).count() <= own);
            for column in panel.columns.clone().filter(|c| *c >= offset + outputs) {
                assert!(logits.iter().skip(column).step_by(stride).all(|z| *z == 0.0));
                assert!(panel.column_mut(column).all(|w| *w == 0.0));
            }
            out.push(Step { logits: logits.clone(), velocity: panel.velocity, weights: panel.weights });
        }
        out
    }

    #[test]
    fn odd_sizes_equal_plain_loops_with_all_kinds_of_vectors() {
        for rows in [1, 8, 19] {
            for (dim, features) in [(5, 0..5), (16, 0..16), (23, 3..23), (61, 11..42), (40, 7..8)] {
                for outputs in [1, 16, 17, 48, 65] {
                    let all: Vec<Vec<Step>> =
                        every_arch().into_iter().map(|arch| step(arch, rows, dim, &features, outputs)).collect();
                    // those that fuse multiply and add agree to the bit
                    for (a, b) in all[1].iter().zip(all.last().unwrap()) {
                        let fused = cfg!(target_arch = "x86_64") && all.len() > 2;
                        assert!(!fused || (a.logits == b.logits && a.velocity == b.velocity && a.weights == b.weights));
                    }
                }
            }
        }
    }
}
