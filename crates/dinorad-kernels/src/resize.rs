//! Separable resampling of maps, forward and backward.

use rayon::prelude::*;

/// For every output position of one axis, which inputs it is the weighted sum of.
#[derive(Debug, Clone)]
pub struct Axis {
    input: usize,
    /// First input and where the weights end, for every output.
    spans: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

impl Axis {
    /// From `input` positions to as many as there are `spans`: the first input of each and its weights.
    ///
    /// # Panics
    /// If a span reaches beyond the input.
    pub fn new<'a>(input: usize, spans: impl Iterator<Item = (usize, &'a [f32])>) -> Self {
        let mut axis = Axis { input, spans: Vec::new(), weights: Vec::new() };
        for (first, weights) in spans {
            assert!(first + weights.len() <= input, "taps beyond the input");
            axis.weights.extend_from_slice(weights);
            axis.spans.push((first, axis.weights.len()));
        }
        axis
    }

    /// Positions before.
    pub fn input_len(&self) -> usize {
        self.input
    }

    /// Positions after.
    pub fn output_len(&self) -> usize {
        self.spans.len()
    }

    /// Output, its first input and its weights.
    fn taps(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let mut start = 0;
        self.spans.iter().enumerate().map(move |(i, (first, end))| {
            let weights = &self.weights[start..*end];
            start = *end;
            (i, *first, weights)
        })
    }
}

/// Resizes every `(h, w)` map of `x` into one of `out`.
///
/// # Panics
/// If the lengths do not fit.
pub fn forward(rows: &Axis, columns: &Axis, x: &[f32], out: &mut [f32]) {
    let (from, to) = (rows.input * columns.input, rows.output_len() * columns.output_len());
    assert!(from > 0 && to > 0 && x.len() / from == out.len() / to);
    assert!(x.len().is_multiple_of(from) && out.len().is_multiple_of(to));
    x.par_chunks(from).zip(out.par_chunks_mut(to)).for_each_init(Vec::new, |narrow, (x, out)| {
        // columns first, then rows
        let width = columns.output_len();
        narrow.clear();
        narrow.resize(rows.input * width, 0.0f32);
        for (x, narrow) in x.chunks_exact(columns.input).zip(narrow.chunks_exact_mut(width)) {
            for (i, first, weights) in columns.taps() {
                narrow[i] = weights.iter().zip(&x[first..]).map(|(w, x)| w * x).sum();
            }
        }
        out.fill(0.0);
        for (i, first, weights) in rows.taps() {
            let to = &mut out[i * width..(i + 1) * width];
            for (w, row) in weights.iter().zip(narrow[first * width..].chunks_exact(width)) {
                to.iter_mut().zip(row).for_each(|(to, x)| *to += w * x);
            }
        }
    });
}

/// The gradient of [`forward`], written to `dx`.
///
/// # Panics
/// If the lengths do not fit.
pub fn backward(rows: &Axis, columns: &Axis, dy: &[f32], dx: &mut [f32]) {
    let (from, to) = (rows.input * columns.input, rows.output_len() * columns.output_len());
    assert!(from > 0 && to > 0 && dx.len() / from == dy.len() / to);
    assert!(dx.len().is_multiple_of(from) && dy.len().is_multiple_of(to));
    dx.par_chunks_mut(from).zip(dy.par_chunks(to)).for_each_init(Vec::new, |narrow, (dx, dy)| {
        let width = columns.output_len();
        narrow.clear();
        narrow.resize(rows.input * width, 0.0f32);
        for (i, first, weights) in rows.taps() {
            let from = &dy[i * width..(i + 1) * width];
            for (w, row) in weights.iter().zip(narrow[first * width..].chunks_exact_mut(width)) {
                row.iter_mut().zip(from).for_each(|(to, d)| *to += w * d);
            }
        }
        dx.fill(0.0);
        for (dx, narrow) in dx.chunks_exact_mut(columns.input).zip(narrow.chunks_exact(width)) {
            for (i, first, weights) in columns.taps() {
                weights.iter().zip(&mut dx[first..]).for_each(|(w, dx)| *dx += w * narrow[i]);
            }
        }
    });
}
