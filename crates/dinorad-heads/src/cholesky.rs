//! Cholesky factors of dense symmetric matrices, in blocks.

use std::ops::Range;

use dinorad_kernels::matmul::{Mat, Threads, gemm};

/// Columns factored together; the rest of the matrix is updated by matrix products.
const BLOCK: usize = 64;

/// `A = L·Lᵀ` of a positive definite matrix.
#[derive(Debug, Clone)]
pub(crate) struct Cholesky {
    /// `(n, n)`, row after row; only the lower triangle is meant.
    lower: Vec<f64>,
    n: usize,
}

impl Cholesky {
    /// Factors `(n, n)`, of which the lower triangle is read; `None` if it is not positive definite.
    pub(crate) fn new(mut a: Vec<f64>, n: usize, threads: Threads) -> Option<Self> {
        let mut panel = Vec::new();
        let mut product = Vec::new();
        for start in (0..n).step_by(BLOCK) {
            let end = (start + BLOCK).min(n);
            for col in start..end {
                for row in col..n {
                    let (head, tail) = a.split_at_mut(row * n);
                    let own = &mut tail[..n];
                    // the row of the pivot: an earlier row, or this one when on the diagonal
                    let sum: f64 = if row == col {
                        own[start..col].iter().map(|v| v * v).sum()
                    } else {
                        let pivot = &head[col * n + start..col * n + col];
                        pivot.iter().zip(&own[start..col]).map(|(a, b)| a * b).sum()
                    };
                    if row == col {
                        let d = own[col] - sum;
                        if !(d > 0.0 && d.is_finite()) {
                            return None;
                        }
                        own[col] = d.sqrt();
                    } else {
                        own[col] = (own[col] - sum) / head[col * n + col];
                    }
                }
            }
            let (rest, width) = (n - end, end - start);
            if rest == 0 {
                break;
            }
            panel.clear();
            for row in end..n {
                panel.extend_from_slice(&a[row * n + start..row * n + end]);
            }
            product.resize(rest * rest, 0.0);
            let panel = Mat::new(&panel, rest, width);
            gemm(&mut product, 0.0, panel, panel.t(), 1.0, threads);
            for (row, values) in product.chunks_exact(rest).enumerate() {
                let at = (end + row) * n + end;
                a[at..at + row + 1].iter_mut().zip(values).for_each(|(a, p)| *a -= p);
            }
        }
        Some(Cholesky { lower: a, n })
    }

    /// Solves `A·x = b` in place for every row `b` of a `(rows, n)` matrix.
    ///
    /// Substitution within blocks, matrix products between them.
    pub(crate) fn solve(&self, rows: &mut [f64], threads: Threads) {
        let n = self.n;
        let starts = (0..n).step_by(BLOCK);
        let mut solved = Vec::new();
        let mut product = Vec::new();
        for start in starts.clone() {
            let end = (start + BLOCK).min(n);
            for b in rows.chunks_exact_mut(n) {
                for row in start..end {
                    let own = &self.lower[row * n + start..row * n + row + 1];
                    let sum: f64 = own.iter().zip(&b[start..row]).map(|(l, x)| l * x).sum();
                    b[row] = (b[row] - sum) / own[row - start];
                }
            }
            // what is solved leaves the rows below the block
            if end < n {
                let below = Mat::strided(&self.lower[end * n + start..], n - end, end - start, n);
                subtract(rows, n, start..end, end..n, below.t(), &mut solved, &mut product, threads);
            }
        }
        for start in starts.rev() {
            let end = (start + BLOCK).min(n);
            for b in rows.chunks_exact_mut(n) {
                for row in (start..end).rev() {
                    let own = &self.lower[row * n + start..row * n + row + 1];
                    let x = b[row] / own[row - start];
                    b[row] = x;
                    b[start..row].iter_mut().zip(own).for_each(|(b, l)| *b -= l * x);
                }
            }
            if start > 0 {
                let left = Mat::strided(&self.lower[start * n..], end - start, start, n);
                subtract(rows, n, start..end, 0..start, left, &mut solved, &mut product, threads);
            }
        }
    }
}

/// `rows[:, to] -= rows[:, from]·factor`.
fn subtract(
    rows: &mut [f64],
    n: usize,
    from: Range<usize>,
    to: Range<usize>,
    factor: Mat<'_, f64>,
    solved: &mut Vec<f64>,
    product: &mut Vec<f64>,
    threads: Threads,
) {
    let count = rows.len() / n;
    solved.clear();
    for row in rows.chunks_exact(n) {
        solved.extend_from_slice(&row[from.clone()]);
    }
    product.resize(count * to.len(), 0.0);
    gemm(product, 0.0, Mat::new(solved, count, from.len()), factor, 1.0, threads);
    for (row, product) in rows.chunks_exact_mut(n).zip(product.chunks_exact(to.len())) {
        row[to.clone()].iter_mut().zip(product).for_each(|(b, p)| *b -= p);
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn solves_across_blocks() {
        for n in [1usize, 5, BLOCK, 2 * BLOCK + 7] {
            let mut rng = dinorad_core::rng::stream(n as u64, 0, 0);
            let m: Vec<f64> = (0..n * n).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut a = vec![0.0; n * n];
            gemm(&mut a, 0.0, Mat::new(&m, n, n), Mat::new(&m, n, n).t(), 1.0, Threads::One);
            (0..n).for_each(|i| a[i * n + i] += 1.0);
            let x: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
            let b: Vec<f64> = a.chunks(n).map(|r| r.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
            let mut rows = [b.clone(), b.iter().map(|v| -2.0 * v).collect()].concat();
            Cholesky::new(a, n, Threads::One).unwrap().solve(&mut rows, Threads::One);
            for (i, want) in x.iter().enumerate() {
                assert!((rows[i] - want).abs() < 1e-9, "n {n}: {} {want}", rows[i]);
                assert!((rows[n + i] + 2.0 * want).abs() < 1e-9);
            }
        }
        assert!(Cholesky::new(vec![-1.0], 1, Threads::One).is_none());
        assert!(Cholesky::new(vec![f64::NAN], 1, Threads::One).is_none());
    }
}
