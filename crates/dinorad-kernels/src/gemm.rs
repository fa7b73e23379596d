//! Matrix products with a packed right-hand side and what follows them, fused.

use std::ops::Range;

use rayon::prelude::*;

use crate::{Aligned, Epilogue, Kernels, tile::Tile};

/// Bytes of packed panels that stay in the second-level cache while rows pass over them.
pub(crate) const PANEL_GROUP: usize = 256 << 10;

/// A `(k, n)` matrix cut into panels of a few registers' width, each stored row by row, with its
/// bias; the layout that the tiles read in order.
pub struct Panels {
    data: Aligned,
    bias: Aligned,
    k: usize,
    /// Columns of the output (half the stored ones where gate and value are interleaved).
    n: usize,
    /// Stored registers across the whole matrix.
    registers: usize,
    /// Registers across a full panel.
    nv: usize,
    lanes: usize,
    /// Gate and value lie side by side, to be joined by [`Epilogue::SwiGlu`].
    gated: bool,
}

/// A linear layer as stored: `weight` is `(n, k)` row by row, as PyTorch has it.
pub struct Dense<'a> {
    /// `(n, k)`, row by row.
    pub weight: &'a [f32],
    /// `(n,)`
    pub bias: Option<&'a [f32]>,
    /// Distance between rows of `weight`.
    pub stride: usize,
    /// Columns of `weight` that take part.
    pub inputs: Range<usize>,
    /// Factor of every output, weight and bias.
    pub scale: Option<&'a [f32]>,
    /// Rows of `weight` that are the outputs, or the gates where there are `values`.
    pub outputs: Range<usize>,
    /// First row of the values that the gates act on, for a gated layer.
    pub values: Option<usize>,
}

impl Panels {
    /// Packs `dense`, sharing the panels among the threads.
    ///
    /// # Panics
    /// If the slices of `dense` are shorter than its ranges say.
    pub fn pack(kernels: &Kernels, dense: &Dense<'_>) -> Self {
        let (lanes, gated) = (kernels.lanes, dense.values.is_some());
        let nv = if gated { 2 } else { kernels.nv };
        let k = dense.inputs.len();
        let n = dense.outputs.len();
        let registers = n.div_ceil(lanes) * if gated { 2 } else { 1 };
        // the row of `weight` behind a stored column
        let row_of = |column: usize| -> Option<usize> {
            let (at, first) = match dense.values {
                None => (column, dense.outputs.start),
                Some(values) => {
                    let (register, lane) = (column / lanes, column % lanes);
                    let first = if register % 2 == 0 { dense.outputs.start } else { values };
                    (register / 2 * lanes + lane, first)
                }
            };
            (at < n).then_some(first + at)
        };
        let factor = |row: usize| dense.scale.map_or(1.0, |s| s[row]);
        let mut data = Aligned::zeros(k * registers * lanes);
        if k > 0 {
            data.par_chunks_mut(k * nv * lanes).enumerate().for_each(|(j, panel)| {
                let width = panel.len() / k;
                for c in 0..width {
                    let Some(row) = row_of(j * nv * lanes + c) else { continue };
                    let factor = factor(row);
                    let from = row * dense.stride;
                    let weight = &dense.weight[from + dense.inputs.start..from + dense.inputs.end];
                    for (to, w) in panel[c..].iter_mut().step_by(width).zip(weight) {
                        *to = w * factor;
                    }
                }
            });
        }
        let mut bias = Aligned::zeros(registers * lanes);
        if let Some(source) = dense.bias {
            for (c, b) in bias.iter_mut().enumerate() {
                if let Some(row) = row_of(c) {
                    *b = source[row] * factor(row);
                }
            }
        }
        Self { data, bias, k, n, registers, nv, lanes, gated }
    }

    /// Empty panels that [`fill_transposed`](Self::fill_transposed) and
    /// [`fill_rows`](Self::fill_rows) write into, again and again.
    pub fn scratch() -> Self {
        Self {
            data: Aligned::default(),
            bias: Aligned::default(),
            k: 0,
            n: 0,
            registers: 0,
            nv: 1,
            lanes: 1,
            gated: false,
        }
    }

    fn reshape(&mut self, kernels: &Kernels, nv: usize, k: usize, n: usize) {
        (self.k, self.n, self.nv, self.lanes, self.gated) = (k, n, nv, kernels.lanes, false);
        self.registers = n.div_ceil(kernels.lanes);
        self.data.reserve(k * self.registers * self.lanes);
    }

    /// Becomes the transpose of the `(n, k)` matrix whose row `i` starts at `rows[i * stride]`.
    pub fn fill_transposed(&mut self, kernels: &Kernels, rows: &[f32], stride: usize, n: usize, k: usize) {
        if n == 0 || k == 0 {
            return self.reshape(kernels, kernels.nv, k, n);
        }
        assert!((n - 1) * stride + k <= rows.len());
        self.reshape(kernels, kernels.nv, k, n);
        let (lanes, full) = (self.lanes, self.nv * self.lanes);
        let squares = k / lanes * lanes;
        for (j, panel) in self.data.chunks_mut(k * full).enumerate() {
            let width = panel.len() / k;
            for c in (0..width).step_by(lanes) {
                let first = j * full + c;
                let whole = if first + lanes <= n { squares } else { 0 };
                for p in (0..whole).step_by(lanes) {
                    // SAFETY: rows `first..first + lanes` are below `n` and columns `p..p + lanes`
                    // below `k`, which `rows` was measured for; the panel has `k` rows of `width`,
                    // and `c + lanes <= width` because panels are whole registers wide.
                    unsafe {
                        let from = rows.as_ptr().add(first * stride + p);
                        (kernels.transpose)(from, stride, panel.as_mut_ptr().add(p * width + c), width);
                    }
                }
                for p in whole..k {
                    for i in 0..lanes {
                        panel[p * width + c + i] = if first + i < n { rows[(first + i) * stride + p] } else { 0.0 };
                    }
                }
            }
        }
    }

    /// Becomes the `(k, n)` matrix whose row `p` starts at `rows[p * stride]`.
    pub fn fill_rows(&mut self, kernels: &Kernels, rows: &[f32], stride: usize, k: usize, n: usize) {
        let registers = n.div_ceil(kernels.lanes);
        let nv = if registers <= 4 && kernels.rows(registers.max(1)) >= 4 { registers.max(1) } else { kernels.nv };
        self.reshape(kernels, nv, k, n);
        let full = nv * self.lanes;
        for (j, panel) in self.data.chunks_mut((k * full).max(1)).enumerate() {
            let width = panel.len() / k;
            let columns = (n - j * full).min(width);
            for (p, to) in panel.chunks_exact_mut(width).enumerate() {
                let from = p * stride + j * full;
                to[..columns].copy_from_slice(&rows[from..from + columns]);
                to[columns..].fill(0.0);
            }
        }
    }

    /// Width of the output.
    pub fn columns(&self) -> usize {
        self.n
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        4 * (self.data.len() + self.bias.len())
    }

    /// Output columns of one full panel.
    pub fn panel_columns(&self) -> usize {
        self.nv * self.lanes / if self.gated { 2 } else { 1 }
    }

    fn panels(&self) -> usize {
        self.registers.div_ceil(self.nv)
    }
}

/// Rows of a matrix inside a larger buffer: row `i` is `data[i * stride..][..width]`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The buffer, from the first row on.
    pub data: &'a [f32],
    /// Distance between rows.
    pub stride: usize,
}

/// The same to write to.
pub struct RowsMut<'a> {
    /// The buffer, from the first row on.
    pub data: &'a mut [f32],
    /// Distance between rows.
    pub stride: usize,
}

/// `out = epilogue(input · panels)` on `rows` rows, for the output columns `columns` of the panels
/// (the whole of them, or a range that starts and ends at panels), written to `out` from its first
/// column on.
///
/// # Panics
/// If a buffer is shorter than the shapes say.
pub fn multiply(
    kernels: &Kernels,
    rows: usize,
    input: Rows<'_>,
    panels: &Panels,
    columns: Range<usize>,
    out: RowsMut<'_>,
    epilogue: Epilogue,
) {
    multiply_any(kernels, rows, input, 1, panels, columns, out, epilogue);
}

/// [`multiply`] with the transpose of `input`: its rows are the columns of what is stored.
///
/// # Panics
/// If a buffer is shorter than the shapes say.
pub(crate) fn multiply_transposed(
    kernels: &Kernels,
    rows: usize,
    input: Rows<'_>,
    panels: &Panels,
    out: RowsMut<'_>,
    epilogue: Epilogue,
) {
    let columns = Rows { data: input.data, stride: 1 };
    multiply_any(kernels, rows, columns, input.stride, panels, 0..panels.n, out, epilogue);
}

/// The values of a row of `input` are `step` apart.
fn multiply_any(
    kernels: &Kernels,
    rows: usize,
    input: Rows<'_>,
    step: usize,
    panels: &Panels,
    columns: Range<usize>,
    out: RowsMut<'_>,
    epilogue: Epilogue,
) {
    if rows == 0 || columns.is_empty() {
        return;
    }
    let per = panels.panel_columns();
    assert!(columns.end <= panels.n && columns.start.is_multiple_of(per));
    assert!(columns.end == panels.n || columns.end.is_multiple_of(per));
    assert!(panels.lanes == kernels.lanes && panels.gated == (epilogue == Epilogue::SwiGlu));
    assert!((rows - 1) * input.stride + panels.k.saturating_sub(1) * step < input.data.len() || panels.k == 0);
    assert!((rows - 1) * out.stride + columns.len() <= out.data.len());
    // Panels without bias (scratch) have an empty `bias` and may only be stored or accumulated.
    let biased = !matches!(epilogue, Epilogue::Store | Epilogue::Accumulate);
    assert!(!biased || panels.bias.len() == panels.registers * panels.lanes);
    assert!(panels.data.len() == panels.k * panels.registers * panels.lanes);

    let first = columns.start / per;
    let last = columns.end.div_ceil(per);
    debug_assert!(last <= panels.panels());
    let panel_len = panels.k * panels.nv * panels.lanes;
    let group = (PANEL_GROUP / (4 * panel_len).max(1)).max(1);
    let out_data = out.data.as_mut_ptr();
    for from in (first..last).step_by(group) {
        let to = (from + group).min(last);
        let mut row = 0;
        while row < rows {
            let mut height = usize::MAX;
            for j in from..to {
                let registers = (panels.registers - j * panels.nv).min(panels.nv);
                let tiles = kernels.tiles[registers - 1];
                if height == usize::MAX {
                    height = kernels.rows(panels.nv).min(rows - row);
                }
                let column = j * per - columns.start;
                // SAFETY: `Kernels` exists only where the processor has the instruction set. Rows
                // `row..row + height` lie below `rows`, for which the input, the output and the
                // panels were measured by the assertions above; a tile reads `k` registers rows of
                // panel `j < last` and writes `columns.end - j * per` columns at most. The last
                // panel may be narrower, whose table of tiles is at least as long as that of `nv`.
                unsafe {
                    let tile = Tile {
                        k: panels.k,
                        a: input.data.as_ptr().add(row * input.stride),
                        lda: input.stride,
                        step,
                        b: panels.data.as_ptr().add(j * panel_len),
                        bias: if biased {
                            panels.bias.as_ptr().add(j * panels.nv * panels.lanes)
                        } else {
                            std::ptr::null()
                        },
                        c: out_data.add(row * out.stride + column),
                        ldc: out.stride,
                        columns: (columns.end - j * per).min(per),
                        epilogue,
                    };
                    tiles[height - 1](&tile);
                }
            }
            row += height;
        }
    }
}
