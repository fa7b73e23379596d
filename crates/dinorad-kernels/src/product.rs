//! Matrix products of training: either operand transposed, and what follows fused.
//!
//! The inner dimension is cut into parts and the output into blocks, both by sizes alone; every
//! value is the sum of its parts in their order, by one thread. So the bytes do not depend on how
//! many threads there are.

use std::{
    cell::RefCell,
    sync::{Mutex, PoisonError},
};

use rayon::prelude::*;

use crate::{
    Aligned, Epilogue, Kernels,
    gemm::PANEL_GROUP,
    shared::Shared,
    tile::{Finished, Last, Tile},
};

/// Longest part of the inner dimension: the rows of a tile stay in the first-level cache while a group
/// of panels, which stays in the second, passes over them.
const PART: usize = 448;
/// Rows of a block of the output, about.
const BLOCK_ROWS: usize = 132;
/// Tasks for every thread, at least, where there are enough columns.
const TASKS: usize = 4;
/// Multiply-adds that are not worth a second thread.
const SMALL: usize = 1 << 16;

/// A matrix in a slice, as it is or transposed.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    data: &'a [f32],
    stride: usize,
    transposed: bool,
}

impl<'a> Operand<'a> {
    /// Row `i` starts at `i * stride`.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Operand { data, stride, transposed: false }
    }

    /// Column `j` starts at `j * stride`: the transpose of what is stored.
    pub fn columns(data: &'a [f32], stride: usize) -> Self {
        Operand { data, stride, transposed: true }
    }

    /// The transpose.
    #[must_use]
    pub fn transposed(self) -> Self {
        Operand { transposed: !self.transposed, ..self }
    }

    /// Whether `rows` by `columns` values are there.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        let (rows, columns) = if self.transposed { (columns, rows) } else { (rows, columns) };
        rows == 0 || columns == 0 || (columns <= self.stride && (rows - 1) * self.stride + columns <= self.data.len())
    }
}

/// What becomes of a product on its way to memory.
pub enum Finish<'a> {
    /// `out = a·b`
    Store,
    /// `out += a·b`
    Accumulate,
    /// `out = a·b + bias`
    Bias(&'a [f32]),
    /// `before = a·b + bias`, `out = gelu(before)`; `before` is dense.
    Gelu(&'a [f32], &'a mut [f32]),
    /// `before = a·b + bias`, `out = before · sigmoid(1.702 before)`; `before` is dense.
    QuickGelu(&'a [f32], &'a mut [f32]),
    /// `out = residual + gain · (a·b + bias)`; `residual` is dense.
    Residual {
        /// A value for every column.
        bias: &'a [f32],
        /// A factor for every column.
        gain: &'a [f32],
        /// What is added, `(m, n)`.
        residual: &'a [f32],
    },
    /// `out = a·b · gelu'(before)`; `before` is dense.
    GeluGradient(&'a [f32]),
}

/// A product of `(m, k)` by `(k, n)`.
pub struct Product<'a> {
    /// Rows of the output.
    pub m: usize,
    /// Columns of the output.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// `(m, k)`
    pub a: Operand<'a>,
    /// `(k, n)`
    pub b: Operand<'a>,
    /// A factor for every row of `b`.
    pub scale: Option<&'a [f32]>,
    /// Where the sum of every row of `a` goes; `a` has to be transposed.
    pub row_sums: Option<&'a mut [f32]>,
    /// Distance between rows of the output; the other matrices of a [`Finish`] are always dense.
    pub out_stride: usize,
}

impl<'a> Product<'a> {
    /// Without scale and row sums.
    pub fn new((m, n, k): (usize, usize, usize), a: Operand<'a>, b: Operand<'a>) -> Self {
        Product { m, n, k, a, b, scale: None, row_sums: None, out_stride: n }
    }

    /// Writes rows to `out`.
    ///
    /// # Panics
    /// If a slice is shorter than the shapes say.
    pub fn run(mut self, kernels: &Kernels, out: &mut [f32], finish: Finish<'_>) {
        let (m, n, k) = (self.m, self.n, self.k);
        assert!(self.a.holds(m, k) && self.b.holds(k, n) && self.out_stride >= n);
        assert!(m == 0 || (m - 1) * self.out_stride + n <= out.len());
        assert!(self.scale.is_none_or(|s| s.len() >= k));
        if m == 0 || n == 0 {
            if let Some(sums) = self.row_sums.as_deref_mut() {
                assert!(sums.len() >= m && self.a.transposed);
                sum_columns(self.a.data, self.a.stride, k, &mut sums[..m]);
            }
            return;
        }
        let (lanes, registers) = (kernels.lanes, n.div_ceil(kernels.lanes));
        let null = (std::ptr::null_mut(), 0);
        let none: &[f32] = &[];
        let (start, last, bias, gain, second) = match finish {
            Finish::Store => (false, Last::Store, none, none, null),
            Finish::Accumulate => (true, Last::Store, none, none, null),
            Finish::Bias(bias) => (false, Last::Bias, bias, none, null),
            Finish::Gelu(bias, before) => (false, Last::Gelu, bias, none, (before.as_mut_ptr(), before.len())),
            Finish::QuickGelu(bias, before) => {
                (false, Last::QuickGelu, bias, none, (before.as_mut_ptr(), before.len()))
            }
            Finish::Residual { bias, gain, residual } => {
                assert!(gain.len() >= n);
                (false, Last::Residual, bias, gain, (residual.as_ptr().cast_mut(), residual.len()))
            }
            Finish::GeluGradient(before) => {
                (false, Last::GeluGradient, none, none, (before.as_ptr().cast_mut(), before.len()))
            }
        };
        assert!(matches!(last, Last::Store | Last::GeluGradient) || bias.len() >= n);
        assert!(matches!(last, Last::Store | Last::Bias) || second.1 >= m * n);

        let mut packed = take();
        packed.reserve(k * registers * lanes);
        let parallel = m * n * k > SMALL;
        let parts = k.div_ceil(PART).max(1);
        let length = k.div_ceil(parts).max(1);
        self.pack(kernels, &mut packed, length, parallel);

        let height = kernels.rows(kernels.nv);
        // The cut into tasks is free: it decides which thread computes a value, not how.
        let threads = if parallel { rayon::current_num_threads() } else { 1 };
        let blocks = m.div_ceil(BLOCK_ROWS).next_multiple_of(threads);
        let rows = m.div_ceil(blocks).next_multiple_of(height);
        let blocks = m.div_ceil(rows);
        let width = kernels.nv * lanes;
        let panels = registers.div_ceil(kernels.nv);
        let wide = panels.div_ceil((TASKS * threads).div_ceil(blocks)).max(1);
        let ranges = panels.div_ceil(wide);
        let row_sums = self.row_sums.as_deref_mut().map(|sums| {
            assert!(sums.len() >= m && self.a.transposed);
            Shared::new(sums)
        });
        let (out, second) = (Shared::new(out), Shared::from_raw(second.0, second.1));
        let (a, packed, ldc) = (self.a, &packed[..], self.out_stride);
        let task = |index: usize| {
            // neighbouring tasks read the same rows
            let (block, range) = (index / ranges, index % ranges);
            let (first, end) = (block * rows, ((block + 1) * rows).min(m));
            let from = range * wide;
            let to = (from + wide).min(panels);
            A_PACKED.with_borrow_mut(|a_packed| {
                for part in 0..parts {
                    let (p0, p1) = (part * length, ((part + 1) * length).min(k));
                    let depth = p1 - p0;
                    if a.transposed && depth > 0 {
                        let sums = row_sums.as_ref().filter(|_| range == 0);
                        // SAFETY: this task alone has rows `first..end` of the sums.
                        let sums = sums.map(|s| unsafe { s.slice(first, end - first) });
                        pack_rows(a, first..end, p0..p1, height, a_packed, sums.map(|s| (s, part > 0)));
                    }
                    let group = (PANEL_GROUP / (4 * depth * width).max(1)).max(1);
                    let passes = (from..to).step_by(group).flat_map(|panel| {
                        let group = panel..(panel + group).min(to);
                        (first..end).step_by(height).flat_map(move |row| group.clone().map(move |j| (row, j)))
                    });
                    for (row, j) in passes {
                        let wide = (registers - j * kernels.nv).min(kernels.nv);
                        let column = j * width;
                        let columns = (n - column).min(width);
                        let tall = height.min(end - row);
                        let (pointer, lda, step) = if a.transposed {
                            (a_packed.as_ptr().wrapping_add((row - first) * depth), 1, tall)
                        } else {
                            (a.data.as_ptr().wrapping_add(row * a.stride + p0), a.stride, 1)
                        };
                        // SAFETY: rows `row..row + tall` are below `m`, parts below `k`,
                        // which the assertions measured the operands for; the panel of
                        // `depth` rows of `wide` registers lies in `packed`, and `columns`
                        // columns of the rows of `out`, `second`, `bias` and `gain` exist,
                        // the first two of which this task alone has.
                        unsafe {
                            let tile = Tile {
                                k: depth,
                                a: pointer,
                                lda,
                                step,
                                b: packed.as_ptr().add(p0 * registers * lanes + depth * column),
                                bias: std::ptr::null(),
                                c: out.at(row * ldc + column),
                                ldc,
                                columns,
                                epilogue: if start || part > 0 { Epilogue::Accumulate } else { Epilogue::Store },
                            };
                            (kernels.tiles[wide - 1][tall - 1])(&tile);
                            if part + 1 == parts && last != Last::Store {
                                (kernels.finish)(&Finished {
                                    last,
                                    rows: tall,
                                    columns,
                                    c: tile.c,
                                    ldc,
                                    bias: bias.as_ptr().wrapping_add(column),
                                    gain: gain.as_ptr().wrapping_add(column),
                                    second: second.at_or_null(row * n + column),
                                    ld2: n,
                                });
                            }
                        }
                    }
                }
            });
        };
        if parallel {
            (0..blocks * ranges).into_par_iter().with_max_len(1).for_each(task);
        } else {
            (0..blocks * ranges).for_each(task);
        }
        if k == 0 {
            // no part ran over an inner dimension, but all finished: only the sums are missing
            if let Some(sums) = self.row_sums {
                sums[..m].fill(0.0);
            }
        }
    }

    /// Packs `b`: parts of `length` rows, each cut into panels.
    fn pack(&self, kernels: &Kernels, packed: &mut Aligned, length: usize, parallel: bool) {
        let (n, k, b) = (self.n, self.k, self.b);
        if k == 0 {
            return;
        }
        let lanes = kernels.lanes;
        let registers = n.div_ceil(lanes);
        let width = kernels.nv * lanes;
        let fill = |part: usize, j: usize, panel: &mut [f32]| {
            let (p0, p1) = (part * length, ((part + 1) * length).min(k));
            let (depth, first) = (p1 - p0, j * width);
            let wide = panel.len() / depth;
            let columns = wide.min(n - first);
            if !b.transposed {
                for (p, to) in panel.chunks_exact_mut(wide).enumerate() {
                    to[..columns].copy_from_slice(&b.data[(p0 + p) * b.stride + first..][..columns]);
                    to[columns..].fill(0.0);
                }
            } else {
                let squares = depth / lanes * lanes;
                for c in (0..wide).step_by(lanes) {
                    let whole = if first + c + lanes <= n { squares } else { 0 };
                    for p in (0..whole).step_by(lanes) {
                        // SAFETY: columns up to `first + c + lanes <= n` and rows up to
                        // `p0 + p + lanes <= p1` of `b` exist, and so do those of the panel.
                        unsafe {
                            let from = b.data.as_ptr().add((first + c) * b.stride + p0 + p);
                            (kernels.transpose)(from, b.stride, panel.as_mut_ptr().add(p * wide + c), wide);
                        }
                    }
                    for p in whole..depth {
                        for i in 0..lanes {
                            let at = (first + c + i) * b.stride + p0 + p;
                            panel[p * wide + c + i] = if first + c + i < n { b.data[at] } else { 0.0 };
                        }
                    }
                }
            }
            if let Some(scale) = self.scale {
                for (row, factor) in panel.chunks_exact_mut(wide).zip(&scale[p0..p1]) {
                    row.iter_mut().for_each(|x| *x *= factor);
                }
            }
        };
        let packed = &mut packed[..];
        for (part, values) in packed.chunks_mut(length * registers * lanes).enumerate() {
            let depth = values.len() / (registers * lanes);
            if parallel {
                values.par_chunks_mut(depth * width).enumerate().for_each(|(j, panel)| fill(part, j, panel));
            } else {
                values.chunks_mut(depth * width).enumerate().for_each(|(j, panel)| fill(part, j, panel));
            }
        }
    }
}

thread_local! {
    /// Transposed rows of one block.
    static A_PACKED: RefCell<Aligned> = RefCell::default();
}

/// Packed right-hand sides that wait for their next use.
static FREE: Mutex<Vec<Aligned>> = Mutex::new(Vec::new());

/// A buffer that goes back when it is dropped.
pub(crate) struct Borrowed(Aligned);

impl std::ops::Deref for Borrowed {
    type Target = Aligned;
    fn deref(&self) -> &Aligned {
        &self.0
    }
}

impl std::ops::DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Aligned {
        &mut self.0
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.0));
    }
}

/// A buffer of whatever an earlier use left.
pub(crate) fn take() -> Borrowed {
    Borrowed(FREE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default())
}

/// Packs rows of the transposed `a` into tiles: `[row / height][p][row % height]`; adds their values
/// to `sums`, or starts them.
fn pack_rows(
    a: Operand<'_>,
    rows: std::ops::Range<usize>,
    depth: std::ops::Range<usize>,
    height: usize,
    to: &mut Aligned,
    sums: Option<(&mut [f32], bool)>,
) {
    let (count, long) = (rows.len(), depth.len());
    to.reserve(count * long);
    let whole = count / height * height;
    for (p, at) in depth.clone().enumerate() {
        let from = &a.data[at * a.stride + rows.start..][..count];
        let mut place = p * height;
        match height {
            // constant sizes become single moves
            6 => {
                for values in from[..whole].chunks_exact(6) {
                    to[place..place + 6].copy_from_slice(values);
                    place += 6 * long;
                }
            }
            9 => {
                for values in from[..whole].chunks_exact(9) {
                    to[place..place + 9].copy_from_slice(values);
                    place += 9 * long;
                }
            }
            _ => {
                for values in from[..whole].chunks_exact(height) {
                    to[place..place + height].copy_from_slice(values);
                    place += height * long;
                }
            }
        }
        let rest = count - whole;
        to[whole * long + p * rest..][..rest].copy_from_slice(&from[whole..]);
    }
    if let Some((sums, add)) = sums {
        if add {
            let mut part = vec![0.0; count];
            sum_columns(&a.data[depth.start * a.stride + rows.start..], a.stride, long, &mut part);
            sums.iter_mut().zip(&part).for_each(|(s, p)| *s += p);
        } else {
            sum_columns(&a.data[depth.start * a.stride + rows.start..], a.stride, long, sums);
        }
    }
}

/// Sums of `sums.len()` columns over `rows` rows.
fn sum_columns(data: &[f32], stride: usize, rows: usize, sums: &mut [f32]) {
    sums.fill(0.0);
    for i in 0..rows {
        let row = &data[i * stride..][..sums.len()];
        sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
}
