//! 2D convolutions as products of gathered windows, forward and backward.
//!
//! A transposed convolution is the backward pass of a convolution and the other way round: both are
//! the three functions here, with the roles of the two maps exchanged.

use rayon::prelude::*;

use crate::{
    Kernels,
    product::{Finish, Operand, Product, take},
    shared::Shared,
};

/// Gathered values that are held at a time.
const GATHERED: usize = 1 << 21;

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
    fn chunks(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (height, width) = self.output_size();
        let rows = if self.pointwise() { height } else { GATHERED / (self.window() * width).max(1) };
        let rows = rows.clamp(1, height.max(1));
        (0..height).step_by(rows).map(move |from| from..(from + rows).min(height))
    }

    /// `out = weight * x + bias`
    ///
    /// # Panics
    /// If a slice is not as long as the sizes say, or there is no such convolution.
    pub fn forward(&self, kernels: &Kernels, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        assert_eq!((x.len(), weight.len(), out.len()), self.lengths());
        assert!(bias.is_none_or(|b| b.len() == self.outputs));
        let (_, width) = self.output_size();
        let (map, outputs, window) = (self.map(), self.outputs / self.groups, self.window());
        let mut gathered = take();
        for image in 0..self.batch {
            for group in 0..self.groups {
                for rows in self.chunks() {
                    let n = rows.len() * width;
                    let windows = self.gather(x, image, group, rows.clone(), &mut gathered);
                    let first = group * outputs;
                    let to = &mut out[(image * self.outputs + first) * map + rows.start * width..];
                    let a = Operand::rows(&weight[first * window..], window);
                    let mut product = Product::new((outputs, n, window), a, windows);
                    product.out_stride = map;
                    product.run(kernels, to, Finish::Store);
                }
            }
        }
        if let Some(bias) = bias {
            out.par_chunks_mut(map.max(1)).enumerate().for_each(|(i, plane)| {
                let b = bias[i % self.outputs];
                plane.iter_mut().for_each(|x| *x += b);
            });
        }
    }

    /// The gradient of the input, written to `dx`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward_input(&self, kernels: &Kernels, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
        assert_eq!((dx.len(), weight.len(), dy.len()), self.lengths());
        let (_, width) = self.output_size();
        let (map, outputs, window) = (self.map(), self.outputs / self.groups, self.window());
        dx.fill(0.0);
        let mut gathered = take();
        for image in 0..self.batch {
            for group in 0..self.groups {
                for rows in self.chunks() {
                    let n = rows.len() * width;
                    gathered.reserve(window * n);
                    let first = group * outputs;
                    let a = Operand::columns(&weight[first * window..], window);
                    let from = &dy[(image * self.outputs + first) * map + rows.start * width..];
                    let product = Product::new((window, n, outputs), a, Operand::rows(from, map));
                    product.run(kernels, &mut gathered, Finish::Store);
                    self.scatter(&gathered, image, group, rows, dx);
                }
            }
        }
    }

    /// The gradient of the weight, written to `dw`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward_weight(&self, kernels: &Kernels, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        assert_eq!((x.len(), dw.len(), dy.len()), self.lengths());
        let (_, width) = self.output_size();
        let (map, outputs, window) = (self.map(), self.outputs / self.groups, self.window());
        dw.fill(0.0);
        let mut gathered = take();
        for image in 0..self.batch {
            for group in 0..self.groups {
                for rows in self.chunks() {
                    let n = rows.len() * width;
                    let windows = self.gather(x, image, group, rows.clone(), &mut gathered);
                    let first = group * outputs;
                    let from = &dy[(image * self.outputs + first) * map + rows.start * width..];
                    let product = Product::new((outputs, window, n), Operand::rows(from, map), windows.transposed());
                    product.run(kernels, &mut dw[first * window..], Finish::Accumulate);
                }
            }
        }
    }

    /// The gradient of the bias: the sums of the output's channels, written to `db`.
    ///
    /// # Panics
    /// If a slice is not as long as the sizes say.
    pub fn backward_bias(&self, dy: &[f32], db: &mut [f32]) {
        assert!(dy.len() == self.lengths().2 && db.len() == self.outputs);
        let map = self.map();
        db.par_iter_mut().enumerate().for_each(|(c, db)| {
            let planes = (0..self.batch).map(|b| &dy[(b * self.outputs + c) * map..][..map]);
            *db = planes.map(|p| p.iter().map(|v| f64::from(*v)).sum::<f64>()).sum::<f64>() as f32;
        });
    }

    /// Values of a map of the output.
    fn map(&self) -> usize {
        let (h, w) = self.output_size();
        h * w
    }

    /// For one value of the window: which columns of the output see the input, and from where.
    fn seen(&self, offset: usize, n: usize, outputs: usize) -> std::ops::Range<usize> {
        // output `o` reads `o * stride + offset - padding`
        let first = self.padding.saturating_sub(offset).div_ceil(self.stride);
        let end = (n + self.padding).saturating_sub(offset).div_ceil(self.stride).min(outputs);
        first.min(end)..end
    }

    /// The windows of some output rows, `(window, rows * width)`.
    fn gather<'a>(
        &self,
        x: &'a [f32],
        image: usize,
        group: usize,
        rows: std::ops::Range<usize>,
        to: &'a mut crate::Aligned,
    ) -> Operand<'a> {
        let (_, width) = self.output_size();
        let (h, w) = self.size;
        let channels = self.inputs / self.groups;
        let x = &x[(image * self.inputs + group * channels) * h * w..][..channels * h * w];
        if self.pointwise() {
            return Operand::rows(&x[rows.start * width..], h * w);
        }
        let n = rows.len() * width;
        to.reserve(self.window() * n);
        let taps = self.kernel.0 * self.kernel.1;
        to.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, to)| {
            let (plane, tap) = (&x[i / taps * h * w..][..h * w], i % taps);
            let (dy, dx) = (tap / self.kernel.1 * self.dilation, tap % self.kernel.1 * self.dilation);
            let seen = self.seen(dx, w, width);
            for (row, to) in rows.clone().zip(to.chunks_exact_mut(width)) {
                let Some(y) = (row * self.stride + dy).checked_sub(self.padding).filter(|y| *y < h) else {
                    to.fill(0.0);
                    continue;
                };
                to[..seen.start].fill(0.0);
                to[seen.end..].fill(0.0);
                for column in seen.clone() {
                    to[column] = plane[y * w + column * self.stride + dx - self.padding];
                }
            }
        });
        Operand::rows(to, n)
    }

    /// Adds gathered gradients to where they came from.
    fn scatter(&self, from: &[f32], image: usize, group: usize, rows: std::ops::Range<usize>, dx: &mut [f32]) {
        let (_, width) = self.output_size();
        let (h, w) = self.size;
        let channels = self.inputs / self.groups;
        let n = rows.len() * width;
        let taps = self.kernel.0 * self.kernel.1;
        let planes = Shared::new(&mut dx[(image * self.inputs + group * channels) * h * w..][..channels * h * w]);
        (0..channels).into_par_iter().for_each(|c| {
            // SAFETY: this task alone has this channel.
            let plane = unsafe { planes.slice(c * h * w, h * w) };
            for tap in 0..taps {
                let (dy, dx) = (tap / self.kernel.1 * self.dilation, tap % self.kernel.1 * self.dilation);
                let from = &from[(c * taps + tap) * n..][..n];
                let seen = self.seen(dx, w, width);
                for (row, from) in rows.clone().zip(from.chunks_exact(width)) {
                    let Some(y) = (row * self.stride + dy).checked_sub(self.padding).filter(|y| *y < h) else {
                        continue;
                    };
                    for column in seen.clone() {
                        plane[y * w + column * self.stride + dx - self.padding] += from[column];
                    }
                }
            }
        });
    }
}
