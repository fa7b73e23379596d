//! The kernels in plain Rust, summed in f64: what the fast ones are held against.

use super::{Epilogue, attention::Shape, gemm::Dense, norm::Norm};

/// Abramowitz and Stegun 7.1.26 is too coarse here: the series and the continued fraction of erf.
pub(super) fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut fraction = a;
        for n in (1..60).rev() {
            fraction = a + f64::from(n) / 2.0 / fraction;
        }
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

pub(super) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

pub(super) fn swish(x: f64, slope: f64) -> f64 {
    x / (1.0 + (-slope * x).exp())
}

/// `epilogue(input · weightᵀ)` added to or written over `before`, dense `(rows, outputs)`.
pub(super) fn multiply(rows: usize, input: &[f32], dense: &Dense<'_>, before: &[f32], epilogue: Epilogue) -> Vec<f64> {
    let (k, n) = (dense.inputs.len(), dense.outputs.len());
    let product = |i: usize, row: usize, biased: bool| -> f64 {
        let weight = &dense.weight[row * dense.stride + dense.inputs.start..];
        let sum: f64 = (0..k).map(|p| f64::from(input[i * k + p]) * f64::from(weight[p])).sum();
        let bias = if biased { dense.bias.map_or(0.0, |b| f64::from(b[row])) } else { 0.0 };
        (sum + bias) * dense.scale.map_or(1.0, |s| f64::from(s[row]))
    };
    let mut out = Vec::with_capacity(rows * n);
    for i in 0..rows {
        for j in 0..n {
            let row = dense.outputs.start + j;
            let old = f64::from(before[i * n + j]);
            out.push(match epilogue {
                Epilogue::Store => product(i, row, false),
                Epilogue::Accumulate => old + product(i, row, false),
                Epilogue::Bias => product(i, row, true),
                Epilogue::BiasGelu => gelu(product(i, row, true)),
                Epilogue::BiasQuickGelu => swish(product(i, row, true), 1.702),
                Epilogue::Residual => old + product(i, row, true),
                Epilogue::SwiGlu => {
                    swish(product(i, row, true), 1.0) * product(i, dense.values.unwrap_or_default() + j, true)
                }
            });
        }
    }
    out
}

/// LayerNorm of `rows` dense rows.
pub(super) fn layer_norm(rows: usize, input: &[f32], norm: &Norm) -> Vec<f64> {
    let dim = norm.gamma.len();
    let mut out = Vec::with_capacity(rows * dim);
    for row in input.chunks_exact(dim).take(rows) {
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / dim as f64;
        let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / dim as f64;
        let scale = 1.0 / (variance + f64::from(norm.eps)).sqrt();
        out.extend(
            (0..dim).map(|j| (f64::from(row[j]) - mean) * scale * f64::from(norm.gamma[j]) + f64::from(norm.beta[j])),
        );
    }
    out
}

/// Attention on dense `(images * tokens, 3 * dim)`, queries scaled as for the kernel.
pub(super) fn attend(shape: Shape, qkv: &[f32]) -> Vec<f64> {
    let Shape { images, tokens, heads, head_dim, .. } = shape;
    let dim = heads * head_dim;
    let mut out = vec![0.0; images * tokens * dim];
    let at = |image: usize, token: usize, which: usize, head: usize| {
        &qkv[(image * tokens + token) * 3 * dim + which * dim + head * head_dim..][..head_dim]
    };
    for image in 0..images {
        for head in 0..heads {
            for i in 0..tokens {
                let query = at(image, i, 0, head);
                let score = |j: usize| -> f64 {
                    query.iter().zip(at(image, j, 1, head)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let scores: Vec<f64> = (0..tokens).map(score).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp2()).sum();
                let to = &mut out[(image * tokens + i) * dim + head * head_dim..][..head_dim];
                for (j, s) in scores.iter().enumerate() {
                    let weight = (s - max).exp2() / sum;
                    for (o, v) in to.iter_mut().zip(at(image, j, 2, head)) {
                        *o += weight * f64::from(*v);
                    }
                }
            }
        }
    }
    out
}
