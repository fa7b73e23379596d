//! 2D convolutions as products of gathered windows, forward and backward.
//!
//! A transposed convolution is the backward pass of a convolution and the other way round: both are
//! the three functions here, with the roles of the two maps exchanged.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    Kernels,
    product::{Finish, Operand, Product, take},
    winograd::Winograd,
};

/// Gathered values that are held at a time: what a core's second cache has room for.
const GATHERED: usize = 1 << 16;
/// Columns of a product that are gathered whatever the window: below that, packing the weight costs more than the
/// product.
const FEWEST: usize = 128;
/// Columns of a product up to which the maps of several images stand side by side.
const COLUMNS: usize = 1024;
/// Sums of the weight's gradient that are made beside each other.
const PARTS: usize = 4;
/// Values of a weight from which its gradient is one sum.
const LARGE_WEIGHT: usize = 1 << 20;
/// Channels of the output up to which a product wastes most of a tile, and pairs of channels up to which the values
/// of a window are added up where they are.
const FEW: usize = 8;
const PAIRS: usize = 32;

/// A convolution from `(b, inputs, h, w)` to `(b, outputs, ..)` with a weight of
/// `(outputs, inputs / groups, kernel, kernel)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Height and width of the input.
    pub size: (usize, usize),
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Distance between windows.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
    /// Distance between the values of a window.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Convolution {
    /// Height and width of the output; `None` if no window fits, or the groups do not divide the
    /// channels.
    pub fn output(&self) -> Option<(usize, usize)> {
        let side = |n: usize, k: usize| {
            let room = (n + 2 * self.padding).checked_sub(self.dilation * k.checked_sub(1)? + 1)?;
            Some(room.checked_div(self.stride)? + 1)
        };
        let grouped = |n: usize| self.groups > 0 && n.is_multiple_of(self.groups);
        if !grouped(self.inputs) || !grouped(self.outputs) || self.dilation == 0 {
            return None;
        }
        Some((side(self.size.0, self.kernel.0)?, side(self.size.1, self.kernel.1)?))
    }

    /// Values of the input, the weight and the output.
    fn lengths(&self) -> (usize, usize, usize) {
        let (h, w) = self.output_size();
        let window = self.window();
        (self.batch * self.inputs * self.size.0 * self.size.1, self.outputs * window, self.batch * self.outputs * h * w)
    }

    fn output_size(&self) -> (usize, usize) {
        let size = self.output();
        assert!(size.is_some(), "no such convolution: {self:?}");
        size.unwrap_or_default()
    }

    /// Values of a window, within a group.
    fn window(&self) -> usize {
        self.inputs / self.groups * self.kernel.0 * self.kernel.1
    }

    /// A window is a value of the input, so that nothing has to be gathered.
    fn pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.padding == 0
    }

    /// Ranges of output rows whose windows are gathered together.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (height, width) = self.output_size();
        let rows = if self.pointwise() { height } else { self.columns().div_ceil(width.max(1)) };
        let rows = rows.clamp(1, height.max(1));
        (0..height).step_by(rows).map(move |from| from..(from + rows).min(height))
    }

    /// Images whose windows are gathered together: small maps make one product of some width. It does not depend
    /// on the number of threads, for sums over images would.
    fn together(&self) -> usize {
        (self.columns() / self.map().max(1)).clamp(1, self.batch.max(1))
    }

    /// Columns of a product.
    fn columns(&self) -> usize {
        (GATHERED / self.window().max(1)).clamp(FEWEST, COLUMNS)
    }

    /// The images of the block at `index`.
    fn images(&self, index: usize) -> Range<usize> {
        let together = self.together();
        index * together..((index + 1) * together).min(self.batch)
    }

    /// `out = weight * x + bias`
    ///
    /// # Panics
    /// If a slice is not as long as the sizes say, or there is no such convolution.
    pub fn forward(&self, kernels: &Kernels, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        assert_eq!((x.len(), weight.len(), out.len()), self.lengths());
        assert!(bias.is_none_or(|b| b.len() == self.outputs));
        if self.is_small() {
            return self.forward_in_place(x, weight, bias, out);
        }
        if let Some(tiled) = Winograd::of(self) {
            return tiled.forward(kernels, x, &tiled.weights(weight, false), bias, out);
        }
        let (_, width) = self.output_size();
        let (map, outputs, window) = (self.map(), self.outputs / self.groups, self.window());
        let block = (self.together() * self.outputs * map).max(1);
        out.par_chunks_mut(block).enumerate().for_each(|(index, out)| {
            let images = self.images(index);
            let (mut gathered, mut drawn) = (take(), take());
            for group in 0..self.groups {
                for rows in self.chunks() {
                    let n = images.len() * rows.len() * width;
                    let windows = self.gather(x, images.clone(), group, rows.clone(), &mut gathered);
                    let first = group * outputs;
                    let a = Operand::rows(&weight[first * window..], window);
                    let mut product = Product::new((outputs, n, window), a, windows);
                    if images.len() == 1 {
                        product.out_stride = map;
                        product.run(kernels, &mut out[first * map + rows.start * width..], Finish::Store);
                        continue;
                    }
                    drawn.reserve(outputs * n);
                    product.run(kernels, &mut drawn, Finish::Store);
                    for (channel, from) in drawn.chunks_exact(n).enumerate() {
                        for (image, from) in from.chunks_exact(map).enumerate() {
                            out[(image * self.outputs + first + channel) * map..][..map].copy_from_slice(from);
                        }
                    }
                }
            }
            if let Some(bias) = bias {
                for (plane, b) in out.chunks_exact_mut(map.max(1)).zip(bias.iter().cycle()) {
                    plane.iter_mut().for_each(|x| *x += b);
                }
            }
        });
    }

    /// Whether it has so few channels that nothing is gathered.
    fn is_small(&self) -> bool {
        let plain = self.stride == 1 && self.dilation == 1 && self.groups == 1;
        plain && self.outputs <= FEW && self.inputs * self.outputs <= PAIRS
    }

    /// The convolution, with its weight, that makes the gradient of the input of that of the output.
    fn turned(&self, weight: &[f32]) -> Option<(Self, Vec<f32>)> {
        let padding = self.kernel.0.checked_sub(1 + self.padding)?;
        if self.kernel.0 != self.kernel.1 || self.inputs * self.outputs > PAIRS || self.stride * self.groups != 1 {
            return None;
        }
        let (inputs, outputs, taps) = (self.inputs, self.outputs, self.kernel.0 * self.kernel.1);
        let turned = (0..inputs * outputs).flat_map(|i| {
            let (input, output) = (i / outputs, i % outputs);
            weight[(output * inputs + input) * taps..][..taps].iter().rev().copied()
        });
        let c = Convolution { inputs: outputs, outputs: inputs, size: self.output_size(), padding, ..*self };
        Some((c, turned.collect()))
    }

    /// `out = weight * x + bias`, line by line, every value of a window times its weight.
    fn forward_in_place(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let ((height, width), (h, w), (kh, kw)) = (self.output_size(), self.size, self.kernel);
        out.par_chunks_mut((height * width).max(1)).enumerate().for_each(|(i, plane)| {
            let (image, output) = (i / self.outputs, i % self.outputs);
            plane.fill(bias.map_or(0.0, |bias| bias[output]));
            for (y, line) in plane.chunks_exact_mut(width.max(1)).enumerate() {
                for input in 0..self.inputs {
                    let weight = &weight[(output * self.inputs + input) * kh * kw..][..kh * kw];
                    for (ky, weight) in weight.chunks_exact(kw).enumerate() {
                        let Some(at) = (y + ky).checked_sub(self.padding).filter(|at| *at < h) else { continue };
                        let from = &x[((image * self.inputs + input) * h + at) * w..][..w];
                        for (kx, weight) in weight.iter().enumerate() {
                            let seen = self.seen(kx, w, width);
                            if seen.is_empty() {
                                continue;
                            }
                            let from = &from[seen.start + kx - self.padding..][..seen.len()];
                            line[seen].iter_mut().zip(from).for_each(|(to, x)| *to += weight * x);
                        }
                    }
                }
            }
        });
    }

    /// The gradient of the input, written to `dx`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward_input(&self, kernels: &Kernels, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
        assert_eq!((dx.len(), weight.len(), dy.len()), self.lengths());
        if let Some((c, turned)) = self.turned(weight).filter(|(c, _)| c.is_small()) {
            return c.forward_in_place(dy, &turned, None, dx);
        }
        if let Some(tiled) = Winograd::of(self) {
            let tiled = tiled.of_gradient();
            return tiled.forward(kernels, dy, &tiled.weights(weight, true), None, dx);
        }
        let (_, width) = self.output_size();
        let (outputs, window) = (self.outputs / self.groups, self.window());
        let block = (self.together() * self.inputs * self.size.0 * self.size.1).max(1);
        dx.par_chunks_mut(block).enumerate().for_each(|(index, dx)| {
            let images = self.images(index);
            dx.fill(0.0);
            let (mut gathered, mut side_by_side) = (take(), take());
            for group in 0..self.groups {
                for rows in self.chunks() {
                    let n = images.len() * rows.len() * width;
                    gathered.reserve(window * n);
                    let a = Operand::columns(&weight[group * outputs * window..], window);
                    let from = self.gradients(dy, images.clone(), group, rows.clone(), &mut side_by_side);
                    let product = Product::new((window, n, outputs), a, from);
                    product.run(kernels, &mut gathered, Finish::Store);
                    self.scatter(&gathered, images.len(), group, rows, dx);
                }
            }
        });
    }

    /// The gradient of the weight, written to `dw`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward_weight(&self, kernels: &Kernels, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        assert_eq!((x.len(), dw.len(), dy.len()), self.lengths());
        if let Some(tiled) = Winograd::of(self) {
            return tiled.backward_weight(kernels, x, dy, dw);
        }
        let blocks = self.batch.div_ceil(self.together());
        // Large weights make products that are cut into tasks themselves.
        let parts = if dw.len() > LARGE_WEIGHT { 1 } else { blocks.clamp(1, PARTS) };
        if parts == 1 {
            dw.fill(0.0);
            return (0..blocks).for_each(|block| self.add_weight(kernels, x, dy, block, dw));
        }
        // Every part sums up blocks of its own: the cut, and so the sum, is the same for any number of threads.
        let mut sums = vec![0.0; parts * dw.len()];
        sums.par_chunks_mut(dw.len().max(1)).enumerate().for_each(|(part, sum)| {
            (part..blocks).step_by(parts).for_each(|block| self.add_weight(kernels, x, dy, block, sum));
        });
        let (first, others) = sums.split_at(dw.len());
        dw.copy_from_slice(first);
        for sum in others.chunks_exact(dw.len().max(1)) {
            dw.iter_mut().zip(sum).for_each(|(dw, v)| *dw += v);
        }
    }

    /// Adds what the images of a block say of the weight.
    fn add_weight(&self, kernels: &Kernels, x: &[f32], dy: &[f32], block: usize, dw: &mut [f32]) {
        let (_, width) = self.output_size();
        let (outputs, window) = (self.outputs / self.groups, self.window());
        let images = self.images(block);
        let (mut gathered, mut side_by_side) = (take(), take());
        for group in 0..self.groups {
            for rows in self.chunks() {
                let n = images.len() * rows.len() * width;
                let windows = self.gather(x, images.clone(), group, rows.clone(), &mut gathered);
                let from = self.gradients(dy, images.clone(), group, rows.clone(), &mut side_by_side);
                let product = Product::new((outputs, window, n), from, windows.transposed());
                product.run(kernels, &mut dw[group * outputs * window..], Finish::Accumulate);
            }
        }
    }

    /// Gradients of some output rows of images side by side, `(outputs / groups, images * rows * width)`.
    fn gradients<'a>(
        &self,
        dy: &'a [f32],
        images: Range<usize>,
        group: usize,
        rows: Range<usize>,
        to: &'a mut crate::Aligned,
    ) -> Operand<'a> {
        let (_, width) = self.output_size();
        let (map, outputs) = (self.map(), self.outputs / self.groups);
        let plane = |image: usize, channel: usize| {
            &dy[(image * self.outputs + group * outputs + channel) * map + rows.start * width..]
        };
        if images.len() == 1 {
            return Operand::rows(plane(images.start, 0), map);
        }
        let each = rows.len() * width;
        let n = images.len() * each;
        to.reserve(outputs * n);
        for (channel, to) in to.chunks_exact_mut(n).enumerate() {
            for (image, to) in images.clone().zip(to.chunks_exact_mut(each)) {
                to.copy_from_slice(&plane(image, channel)[..each]);
            }
        }
        Operand::rows(to, n)
    }

    /// The gradient of the bias: the sums of the output's channels, written to `db`.
    ///
    /// # Panics
    /// If a slice is not as long as the sizes say.
    pub fn backward_bias(&self, dy: &[f32], db: &mut [f32]) {
        assert!(dy.len() == self.lengths().2 && db.len() == self.outputs);
        sum_planes(self.map(), dy, db);
    }

    /// Values of a map of the output.
    fn map(&self) -> usize {
        let (h, w) = self.output_size();
        h * w
    }

    /// For one value of the window: which columns of the output see the input, and from where.
    fn seen(&self, offset: usize, n: usize, outputs: usize) -> Range<usize> {
        // output `o` reads `o * stride + offset - padding`
        let first = self.padding.saturating_sub(offset).div_ceil(self.stride);
        let end = (n + self.padding).saturating_sub(offset).div_ceil(self.stride).min(outputs);
        first.min(end)..end
    }

    /// The windows of some output rows of images side by side, `(window, images * rows * width)`.
    fn gather<'a>(
        &self,
        x: &'a [f32],
        images: Range<usize>,
        group: usize,
        rows: Range<usize>,
        to: &'a mut crate::Aligned,
    ) -> Operand<'a> {
        let (_, width) = self.output_size();
        let (h, w) = self.size;
        let channels = self.inputs / self.groups;
        let of = |image: usize| &x[(image * self.inputs + group * channels) * h * w..][..channels * h * w];
        if self.pointwise() && images.len() == 1 {
            return Operand::rows(&of(images.start)[rows.start * width..], h * w);
        }
        let each = rows.len() * width;
        let n = images.len() * each;
        to.reserve(self.window() * n);
        let taps = self.kernel.0 * self.kernel.1;
        to.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, to)| {
            let (channel, tap) = (i / taps, i % taps);
            let (dy, dx) = (tap / self.kernel.1 * self.dilation, tap % self.kernel.1 * self.dilation);
            let seen = self.seen(dx, w, width);
            for (image, to) in images.clone().zip(to.chunks_exact_mut(each.max(1))) {
                let plane = &of(image)[channel * h * w..][..h * w];
                for (row, to) in rows.clone().zip(to.chunks_exact_mut(width)) {
                    let Some(y) = (row * self.stride + dy).checked_sub(self.padding).filter(|y| *y < h) else {
                        to.fill(0.0);
                        continue;
                    };
                    to[..seen.start].fill(0.0);
                    to[seen.end..].fill(0.0);
                    let line = &plane[y * w..][..w];
                    if self.stride == 1 && !seen.is_empty() {
                        // one run of values
                        let from = seen.start + dx - self.padding;
                        to[seen.clone()].copy_from_slice(&line[from..from + seen.len()]);
                        continue;
                    }
                    for column in seen.clone() {
                        to[column] = line[column * self.stride + dx - self.padding];
                    }
                }
            }
        });
        Operand::rows(to, n)
    }

    /// Adds gathered gradients of images to where they came from: `dx` is that of these images.
    fn scatter(&self, from: &[f32], images: usize, group: usize, rows: Range<usize>, dx: &mut [f32]) {
        let (_, width) = self.output_size();
        let (h, w) = self.size;
        let channels = self.inputs / self.groups;
        let each = rows.len() * width;
        let (n, taps) = (images * each, self.kernel.0 * self.kernel.1);
        let first = group * channels;
        dx.par_chunks_mut((h * w).max(1)).enumerate().for_each(|(i, plane)| {
            let (image, channel) = (i / self.inputs, i % self.inputs);
            let Some(c) = channel.checked_sub(first).filter(|c| *c < channels) else { return };
            for tap in 0..taps {
                let (dy, dx) = (tap / self.kernel.1 * self.dilation, tap % self.kernel.1 * self.dilation);
                let from = &from[(c * taps + tap) * n + image * each..][..each];
                let seen = self.seen(dx, w, width);
                for (row, from) in rows.clone().zip(from.chunks_exact(width)) {
                    let Some(y) = (row * self.stride + dy).checked_sub(self.padding).filter(|y| *y < h) else {
                        continue;
                    };
                    let line = &mut plane[y * w..][..w];
                    if self.stride == 1 && !seen.is_empty() {
                        let at = seen.start + dx - self.padding;
                        let to = &mut line[at..at + seen.len()];
                        to.iter_mut().zip(&from[seen.clone()]).for_each(|(to, v)| *to += v);
                        continue;
                    }
                    for column in seen.clone() {
                        line[column * self.stride + dx - self.padding] += from[column];
                    }
                }
            }
        });
    }
}

/// The sums of maps `(b, channels, spatial)` by channel, written to `sums`.
///
/// # Panics
/// If the maps are not of whole images.
pub fn sum_planes(spatial: usize, maps: &[f32], sums: &mut [f32]) {
    let (spatial, channels) = (spatial.max(1), sums.len());
    assert!(maps.len().is_multiple_of(spatial * channels.max(1)));
    sums.par_iter_mut().enumerate().for_each(|(channel, sum)| {
        let planes = maps.chunks_exact(spatial).skip(channel).step_by(channels);
        *sum = planes.map(|plane| sum_of(plane, f64::from)).sum::<f64>() as f32;
    });
}

/// The sum of what `f` makes of values, in f64 and in eight lanes.
pub(crate) fn sum_of(values: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let mut lanes = [0.0f64; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|v| f(*v)).sum();
    chunks.for_each(|chunk| lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += f(*v)));
    lanes.iter().sum::<f64>() + rest
}
