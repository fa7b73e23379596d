//! Convolutions of 3 by 3 by fewer multiplications: Winograd's minimal filtering F(2 × 2, 3 × 3).
//!
//! Four values of the output, two by two, come of a tile of four by four values of the input: by 16 multiplications
//! for every pair of channels in place of 36. Tiles and weights are transformed by additions; between them stand 16
//! products of matrices, one for each place of a tile. The coefficients are 1 and ½, so that results differ from a
//! plain sum by no more than rounding does.
//!
//! Source: Lavin and Gray 2016, arXiv:1509.09308.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    Aligned, Kernels,
    convolution::Convolution,
    product::{Finish, Operand, Product, take},
};

/// Places of a tile.
const PLACES: usize = 16;
/// Transformed values of one place that are held at a time: what a core's second cache has room for.
const HELD: usize = 1 << 16;
/// Tiles of a product, at least and at most.
const TILES: Range<usize> = 64..512;
/// Channels on either side from which on fewer multiplications outweigh more additions.
const CHANNELS: usize = 32;
/// Tiles of all images from which on transforming the weights is worth it.
const WORTH: usize = 512;
/// Sums of the weight's gradient that are made beside each other, and values up to which they are.
const PARTS: usize = 4;
const SUMS: usize = 1 << 23;
/// Values between the ends of the rows of one channel and the next, so that they do not meet in a cache.
const APART: usize = 16;

/// What a place of a tile sees of the nine weights: `G g Gᵀ`.
const OF_WEIGHT: [[f32; 9]; PLACES] = {
    let g: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    let mut all = [[0.0; 9]; PLACES];
    let mut i = 0;
    while i < PLACES * 9 {
        let (place, tap) = (i / 9, i % 9);
        all[place][tap] = g[place / 4][tap / 3] * g[place % 4][tap % 3];
        i += 1;
    }
    all
};

/// A convolution of 3 by 3 without gaps, cut into tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Winograd {
    batch: usize,
    inputs: usize,
    outputs: usize,
    /// Height and width of the input and of the output.
    size: (usize, usize),
    output: (usize, usize),
    padding: usize,
    /// Rows and columns of tiles.
    tiles: (usize, usize),
}

/// Some rows of tiles of images that follow each other.
struct Block {
    rows: Range<usize>,
    /// Tiles, and values from one channel to the next.
    tiles: usize,
    stride: usize,
}

impl Winograd {
    /// The same convolution, where this is faster.
    pub(crate) fn of(c: &Convolution) -> Option<Self> {
        let output = c.output()?;
        let plain = c.kernel == (3, 3) && c.stride == 1 && c.dilation == 1 && c.groups == 1 && c.padding <= 2;
        let tiles = (output.0.div_ceil(2), output.1.div_ceil(2));
        let large = c.inputs.min(c.outputs) >= CHANNELS && c.batch * tiles.0 * tiles.1 >= WORTH;
        let Convolution { batch, inputs, outputs, size, padding, .. } = *c;
        (plain && large).then_some(Self { batch, inputs, outputs, size, output, padding, tiles })
    }

    /// The convolution that makes the gradient of the input of that of the output: with weights turned around.
    pub(crate) fn of_gradient(&self) -> Self {
        Self {
            inputs: self.outputs,
            outputs: self.inputs,
            size: self.output,
            output: self.size,
            padding: 2 - self.padding,
            tiles: (self.size.0.div_ceil(2), self.size.1.div_ceil(2)),
            ..*self
        }
    }

    /// Images whose tiles stand side by side, and rows of tiles of a block. Neither depends on the number of threads.
    fn cut(&self) -> (usize, usize) {
        let (rows, columns) = self.tiles;
        let wanted = (HELD / self.inputs).clamp(TILES.start, TILES.end);
        let together = (wanted / (rows * columns)).clamp(1, self.batch.max(1));
        (together, (wanted / columns).clamp(1, rows * together))
    }

    fn blocks(&self, images: usize) -> impl Iterator<Item = Block> + use<> {
        let ((rows, columns), (_, height)) = (self.tiles, self.cut());
        let all = images * rows;
        (0..all).step_by(height).map(move |from| {
            let rows = from..(from + height).min(all);
            let tiles = rows.len() * columns;
            Block { rows, tiles, stride: PLACES * tiles + APART }
        })
    }

    /// Weights by place, `(16, outputs, inputs)`. With `turned` they are those of the convolution whose gradient this
    /// one makes: stored as `(inputs, outputs, 3, 3)`, and turned around.
    pub(crate) fn weights(&self, weight: &[f32], turned: bool) -> Vec<f32> {
        let (outputs, inputs) = (self.outputs, self.inputs);
        let mut all = vec![0.0; PLACES * outputs * inputs];
        all.par_chunks_mut((outputs * inputs).max(1)).zip(&OF_WEIGHT).for_each(|(to, of)| {
            for (i, to) in to.iter_mut().enumerate() {
                let (output, input) = (i / inputs, i % inputs);
                let at = if turned { input * outputs + output } else { i };
                let nine = &weight[9 * at..9 * at + 9];
                *to = match turned {
                    false => nine.iter().zip(of).map(|(w, of)| w * of).sum(),
                    true => nine.iter().rev().zip(of).map(|(w, of)| w * of).sum(),
                };
            }
        });
        all
    }

    /// `out = weight * x + bias`, with weights by place.
    pub(crate) fn forward(&self, kernels: &Kernels, x: &[f32], weights: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let (together, _) = self.cut();
        let (seen, drawn) = (self.inputs * self.size.0 * self.size.1, self.outputs * self.output.0 * self.output.1);
        let groups = x.par_chunks(together * seen).zip(out.par_chunks_mut(together * drawn));
        groups.for_each(|(x, out)| {
            let (mut v, mut m) = (take(), take());
            for block in self.blocks(x.len() / seen) {
                self.transform(x, &block, &mut v);
                m.reserve(self.outputs * block.stride);
                for place in 0..PLACES {
                    let a = Operand::rows(&weights[place * self.outputs * self.inputs..], self.inputs);
                    let b = Operand::rows(&v[place * block.tiles..], block.stride);
                    let mut product = Product::new((self.outputs, block.tiles, self.inputs), a, b);
                    product.out_stride = block.stride;
                    product.run(kernels, &mut m[place * block.tiles..], Finish::Store);
                }
                self.put(&m, &block, bias, out);
            }
        });
    }

    /// The gradient of the weight, `(outputs, inputs, 3, 3)`, written to `dw`.
    pub(crate) fn backward_weight(&self, kernels: &Kernels, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let (together, _) = self.cut();
        let (seen, drawn) = (self.inputs * self.size.0 * self.size.1, self.outputs * self.output.0 * self.output.1);
        let weights = PLACES * self.outputs * self.inputs;
        let groups: Vec<(&[f32], &[f32])> = x.chunks(together * seen).zip(dy.chunks(together * drawn)).collect();
        // Every part sums up groups of its own: the cut, and so the sum, is the same for any number of threads.
        let parts = groups.len().clamp(1, PARTS).min((SUMS / weights).max(1));
        let mut sums = vec![0.0; parts * weights];
        sums.par_chunks_mut(weights).enumerate().for_each(|(part, sum)| {
            let (mut v, mut m) = (take(), take());
            for (x, dy) in groups.iter().skip(part).step_by(parts) {
                for block in self.blocks(x.len() / seen) {
                    self.transform(x, &block, &mut v);
                    self.spread(dy, &block, &mut m);
                    for (place, sum) in sum.chunks_exact_mut(self.outputs * self.inputs).enumerate() {
                        let a = Operand::rows(&m[place * block.tiles..], block.stride);
                        let b = Operand::rows(&v[place * block.tiles..], block.stride).transposed();
                        let product = Product::new((self.outputs, self.inputs, block.tiles), a, b);
                        product.run(kernels, sum, Finish::Accumulate);
                    }
                }
            }
        });
        let each = self.outputs * self.inputs;
        dw.par_chunks_exact_mut(9).enumerate().with_min_len(256).for_each(|(i, dw)| {
            dw.fill(0.0);
            for (place, of) in OF_WEIGHT.iter().enumerate() {
                let sum: f32 = (0..parts).map(|part| sums[part * weights + place * each + i]).sum();
                dw.iter_mut().zip(of).for_each(|(dw, of)| *dw += sum * of);
            }
        });
    }

    /// Tiles of the input by channel and place, `(inputs, 16, tiles)`: `Bᵀ d B`.
    fn transform(&self, x: &[f32], block: &Block, to: &mut Aligned) {
        let ((h, w), (tile_rows, columns)) = (self.size, self.tiles);
        to.reserve(self.inputs * block.stride);
        to.par_chunks_mut(block.stride).enumerate().with_min_len(8).for_each(|(channel, to)| {
            let width = 2 * (columns + 1);
            let mut lines = vec![0.0f32; 8 * width];
            let (lines, mixed) = lines.split_at_mut(4 * width);
            for (at, row) in block.rows.clone().enumerate() {
                let (image, top) = (row / tile_rows, 2 * (row % tile_rows));
                let plane = &x[(image * self.inputs + channel) * h * w..][..h * w];
                for (i, line) in lines.chunks_exact_mut(width).enumerate() {
                    match (top + i).checked_sub(self.padding).filter(|y| *y < h) {
                        None => line.fill(0.0),
                        Some(y) => {
                            let n = w.min(width - self.padding);
                            line[..self.padding].fill(0.0);
                            line[self.padding..self.padding + n].copy_from_slice(&plane[y * w..y * w + n]);
                            line[self.padding + n..].fill(0.0);
                        }
                    }
                }
                let [a, b, c, d] = four(lines, width);
                for (k, mixed) in mixed.chunks_exact_mut(width).enumerate() {
                    match k {
                        0 => mixed.iter_mut().zip(a.iter().zip(c)).for_each(|(to, (a, c))| *to = a - c),
                        1 => mixed.iter_mut().zip(b.iter().zip(c)).for_each(|(to, (b, c))| *to = b + c),
                        2 => mixed.iter_mut().zip(b.iter().zip(c)).for_each(|(to, (b, c))| *to = c - b),
                        _ => mixed.iter_mut().zip(b.iter().zip(d)).for_each(|(to, (b, d))| *to = b - d),
                    }
                }
                for (i, mixed) in mixed.chunks_exact(width).enumerate() {
                    let place = |j: usize| (4 * i + j) * block.tiles + at * columns;
                    let each = || mixed.windows(4).step_by(2);
                    let put = |to: &mut [f32], of: fn(&[f32]) -> f32| {
                        to.iter_mut().zip(each()).for_each(|(to, four)| *to = of(four));
                    };
                    put(&mut to[place(0)..][..columns], |t| t[0] - t[2]);
                    put(&mut to[place(1)..][..columns], |t| t[1] + t[2]);
                    put(&mut to[place(2)..][..columns], |t| t[2] - t[1]);
                    put(&mut to[place(3)..][..columns], |t| t[1] - t[3]);
                }
            }
        });
    }

    /// Gradients of the output by channel and place, `(outputs, 16, tiles)`: `A dy Aᵀ`.
    fn spread(&self, dy: &[f32], block: &Block, to: &mut Aligned) {
        let ((h, w), (tile_rows, columns)) = (self.output, self.tiles);
        to.reserve(self.outputs * block.stride);
        to.par_chunks_mut(block.stride).enumerate().with_min_len(8).for_each(|(channel, to)| {
            let width = 2 * columns;
            let mut lines = vec![0.0f32; 6 * width];
            let (lines, mixed) = lines.split_at_mut(2 * width);
            for (at, row) in block.rows.clone().enumerate() {
                let (image, top) = (row / tile_rows, 2 * (row % tile_rows));
                let plane = &dy[(image * self.outputs + channel) * h * w..][..h * w];
                for (i, line) in lines.chunks_exact_mut(width).enumerate() {
                    line[w..].fill(0.0);
                    match plane.get((top + i) * w..(top + i + 1) * w) {
                        Some(row) => line[..w].copy_from_slice(row),
                        None => line[..w].fill(0.0),
                    }
                }
                let (a, b) = lines.split_at(width);
                for (k, mixed) in mixed.chunks_exact_mut(width).enumerate() {
                    match k {
                        0 => mixed.copy_from_slice(a),
                        1 => mixed.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (a, b))| *to = a + b),
                        2 => mixed.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (a, b))| *to = a - b),
                        _ => mixed.iter_mut().zip(b).for_each(|(to, b)| *to = -b),
                    }
                }
                for (i, mixed) in mixed.chunks_exact(width).enumerate() {
                    let place = |j: usize| (4 * i + j) * block.tiles + at * columns;
                    let put = |to: &mut [f32], of: fn(f32, f32) -> f32| {
                        to.iter_mut().zip(mixed.chunks_exact(2)).for_each(|(to, two)| *to = of(two[0], two[1]));
                    };
                    put(&mut to[place(0)..][..columns], |a, _| a);
                    put(&mut to[place(1)..][..columns], |a, b| a + b);
                    put(&mut to[place(2)..][..columns], |a, b| a - b);
                    put(&mut to[place(3)..][..columns], |_, b| -b);
                }
            }
        });
    }

    /// Puts products by channel and place where they belong: `Aᵀ m A`.
    fn put(&self, m: &[f32], block: &Block, bias: Option<&[f32]>, out: &mut [f32]) {
        let ((h, w), (tile_rows, columns)) = (self.output, self.tiles);
        out.par_chunks_mut(h * w).enumerate().with_min_len(8).for_each(|(i, plane)| {
            let (image, channel) = (i / self.outputs, i % self.outputs);
            let own = block.rows.start.max(image * tile_rows)..block.rows.end.min((image + 1) * tile_rows);
            if own.is_empty() {
                return;
            }
            let (m, bias) = (&m[channel * block.stride..], bias.map_or(0.0, |bias| bias[channel]));
            let mut mixed = vec![0.0f32; 4 * columns];
            for row in own {
                let (at, top) = (row - block.rows.start, 2 * (row % tile_rows));
                let of = |i: usize, j: usize| &m[(4 * i + j) * block.tiles + at * columns..][..columns];
                for (lower, y) in (top..(top + 2).min(h)).enumerate() {
                    for (j, to) in mixed.chunks_exact_mut(columns).enumerate() {
                        let (b, c) = (of(1, j), of(2, j));
                        let middle = to.iter_mut().zip(b.iter().zip(c));
                        match lower {
                            0 => middle.zip(of(0, j)).for_each(|((to, (b, c)), a)| *to = a + b + c),
                            _ => middle.zip(of(3, j)).for_each(|((to, (b, c)), d)| *to = b - c - d),
                        }
                    }
                    let [a, b, c, d] = four(&mixed, columns);
                    let line = &mut plane[y * w..(y + 1) * w];
                    let sums = a.iter().zip(b).zip(c.iter().zip(d));
                    let mut pairs = line.chunks_exact_mut(2);
                    for (to, ((a, b), (c, d))) in pairs.by_ref().zip(sums) {
                        to[0] = a + b + c + bias;
                        to[1] = b - c - d + bias;
                    }
                    if let [last] = pairs.into_remainder() {
                        *last = a[columns - 1] + b[columns - 1] + c[columns - 1] + bias;
                    }
                }
            }
        });
    }
}

/// Four lines that follow each other.
fn four(lines: &[f32], width: usize) -> [&[f32]; 4] {
    std::array::from_fn(|i| &lines[i * width..(i + 1) * width])
}
