//! The kernels of training against plain f64 and central differences, for every instruction set.

mod common;

use std::sync::Mutex;

use common::*;
use dinorad_kernels::{
    activation::{Activation, swiglu, swiglu_backward},
    attention::{self, Shape},
    attention_backward::{self, Saved},
    channel_norm::{self, Maps, Sets},
    convolution::Convolution,
    cross_entropy,
    gemm::{Rows, RowsMut},
    norm::{NormGradients, layer_norm_backward, layer_norm_saving},
    pixel_loss::{PixelLoss, Slopes},
    resize::{self, Axis},
    update::{Adam, Sgd, column_sums, scale_columns},
};
use proptest::prelude::*;

fn plain_attention(shape: Shape, scale: f64, qkv: &[f64]) -> Vec<f64> {
    let Shape { images, tokens, queries, heads, head_dim } = shape;
    let dim = heads * head_dim;
    let at = |image: usize, token: usize, which: usize, head: usize| {
        &qkv[((image * tokens + token) * 3 + which) * dim + head * head_dim..][..head_dim]
    };
    let mut out = vec![0.0; images * queries * dim];
    for image in 0..images {
        for head in 0..heads {
            for i in 0..queries {
                let q = at(image, i, 0, head);
                let scores: Vec<f64> = (0..tokens)
                    .map(|j| scale * q.iter().zip(at(image, j, 1, head)).map(|(a, b)| a * b).sum::<f64>())
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let to = (image * queries + i) * dim + head * head_dim;
                for (j, w) in weights.iter().enumerate() {
                    for (d, v) in at(image, j, 2, head).iter().enumerate() {
                        out[to + d] += w / sum * v;
                    }
                }
            }
        }
    }
    out
}

/// Gradients by the formulas, in f64.
fn plain_attention_gradient(shape: Shape, scale: f64, qkv: &[f64], dout: &[f64]) -> Vec<f64> {
    let Shape { images, tokens, queries, heads, head_dim } = shape;
    let dim = heads * head_dim;
    let place = |image: usize, token: usize, which: usize, head: usize| {
        ((image * tokens + token) * 3 + which) * dim + head * head_dim
    };
    let mut grad = vec![0.0; qkv.len()];
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for image in 0..images {
        for head in 0..heads {
            for i in 0..queries {
                let q = &qkv[place(image, i, 0, head)..][..head_dim];
                let d = &dout[(image * queries + i) * dim + head * head_dim..][..head_dim];
                let s: Vec<f64> =
                    (0..tokens).map(|j| scale * dot(q, &qkv[place(image, j, 1, head)..][..head_dim])).collect();
                let max = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = s.iter().map(|s| (s - max).exp()).sum();
                let p: Vec<f64> = s.iter().map(|s| (s - max).exp() / sum).collect();
                let dp: Vec<f64> = (0..tokens).map(|j| dot(d, &qkv[place(image, j, 2, head)..][..head_dim])).collect();
                let delta: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
                for j in 0..tokens {
                    let ds = p[j] * (dp[j] - delta) * scale;
                    for c in 0..head_dim {
                        grad[place(image, j, 2, head) + c] += p[j] * d[c];
                        grad[place(image, i, 0, head) + c] += ds * qkv[place(image, j, 1, head) + c];
                        grad[place(image, j, 1, head) + c] += ds * q[c];
                    }
                }
            }
        }
    }
    grad
}

fn attention_case(shape: Shape, size: f32, seed: u64) {
    let Shape { images, tokens, queries, heads, head_dim } = shape;
    let dim = heads * head_dim;
    let scale = (head_dim as f32).powf(-0.5);
    let qkv = noise(seed, images * tokens * 3 * dim, size);
    let dout = noise(seed + 1, images * queries * dim, 1.0);
    let want = plain_attention(shape, f64::from(scale), &wide(&qkv));
    let want_grad = plain_attention_gradient(shape, f64::from(scale), &wide(&qkv), &wide(&dout));
    for kernels in available() {
        let what = format!("{} {shape:?}", kernels.set().name());
        let parts = on_threads(&what, || {
            let scratch: Vec<_> = (0..3).map(|_| Mutex::default()).collect();
            let (mut out, mut lse) = (vec![f32::NAN; images * queries * dim], vec![f32::NAN; images * heads * queries]);
            let (from, to) = (Rows { data: &qkv, stride: 3 * dim }, RowsMut { data: &mut out, stride: dim });
            attention::attend_saving(kernels, shape, scale, from, to, &mut lse, &scratch);
            let scratch: Vec<_> = (0..3).map(|_| Mutex::default()).collect();
            let mut dqkv = vec![f32::NAN; qkv.len()];
            let saved = Saved { qkv: &qkv, out: &out, lse: &lse, dout: &dout };
            attention_backward::backward(kernels, shape, scale, saved, &mut dqkv, &scratch);
            vec![out, dqkv]
        });
        close(&what, &parts[0], &want, 2e-6 * f64::from(size).max(1.0).powi(2));
        close(&format!("{what}: gradient"), &parts[1], &want_grad, 4e-6 * f64::from(size).max(1.0).powi(3));
    }
}

fn plain_norm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let dim = gamma.len();
    let mut out = Vec::new();
    for row in x.chunks_exact(dim) {
        let mean = row.iter().sum::<f64>() / dim as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / dim as f64;
        out.extend((0..dim).map(|i| (row[i] - mean) / (variance + eps).sqrt() * gamma[i] + beta[i]));
    }
    out
}

fn norm_case(rows: usize, dim: usize, seed: u64) {
    let x: Vec<f32> = noise(seed, rows * dim, 2.0).iter().map(|v| v + 0.5).collect();
    let (gamma, beta, dy) = (noise(seed + 1, dim, 2.0), noise(seed + 2, dim, 1.0), noise(seed + 3, rows * dim, 1.0));
    let before = noise(seed + 4, rows * dim, 1.0);
    let (x64, g64, b64) = (wide(&x), wide(&gamma), wide(&beta));
    let eps = 1e-3f32;
    let f = |x: &[f64], g: &[f64], b: &[f64]| plain_norm(x, g, b, f64::from(eps));
    let dx = differences(&x64, &dy, |x| f(x, &g64, &b64));
    let added: Vec<f64> = dx.iter().zip(&before).map(|(d, b)| d + f64::from(*b)).collect();
    let dgamma = differences(&g64, &dy, |g| f(&x64, g, &b64));
    let dbeta = differences(&b64, &dy, |b| f(&x64, &g64, b));
    for kernels in available() {
        let what = format!("{} norm {rows}x{dim}", kernels.set().name());
        let parts = on_threads(&what, || {
            let (mut out, mut stats) = (vec![f32::NAN; x.len()], vec![f32::NAN; 2 * rows]);
            layer_norm_saving(kernels, &x, &gamma, &beta, eps, &mut out, &mut stats);
            let (mut dx, mut sum) = (vec![f32::NAN; x.len()], before.clone());
            let (mut dgamma, mut dbeta) = (vec![f32::NAN; dim], vec![f32::NAN; dim]);
            let to = NormGradients { dx: Some((&mut dx, false)), parameters: Some((&mut dgamma, &mut dbeta)) };
            layer_norm_backward(kernels, &x, &gamma, &stats, &dy, to);
            let to = NormGradients { dx: Some((&mut sum, true)), parameters: None };
            layer_norm_backward(kernels, &x, &gamma, &stats, &dy, to);
            vec![out, dx, sum, dgamma, dbeta]
        });
        for (part, want) in parts.iter().zip([&f(&x64, &g64, &b64), &dx, &added, &dgamma, &dbeta]) {
            close(&what, part, want, 2e-5);
        }
    }
}

fn plain_convolution(c: &Convolution, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
    let (oh, ow) = c.output().unwrap();
    let ((h, width), (kh, kw)) = (c.size, c.kernel);
    let (per_in, per_out) = (c.inputs / c.groups, c.outputs / c.groups);
    let mut out = Vec::new();
    for b in 0..c.batch {
        for o in 0..c.outputs {
            for y in 0..oh {
                for column in 0..ow {
                    let mut sum = bias[o];
                    for i in 0..per_in {
                        for ky in 0..kh {
                            for kx in 0..kw {
                                let sy = (y * c.stride + ky * c.dilation) as i64 - c.padding as i64;
                                let sx = (column * c.stride + kx * c.dilation) as i64 - c.padding as i64;
                                if sy < 0 || sx < 0 || sy >= h as i64 || sx >= width as i64 {
                                    continue;
                                }
                                let channel = o / per_out * per_in + i;
                                let at = ((b * c.inputs + channel) * h + sy as usize) * width + sx as usize;
                                sum += x[at] * w[((o * per_in + i) * kh + ky) * kw + kx];
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

fn convolution_case(c: Convolution, seed: u64) {
    let Some((oh, ow)) = c.output() else { return };
    let x = noise(seed, c.batch * c.inputs * c.size.0 * c.size.1, 1.0);
    let w = noise(seed + 1, c.outputs * (c.inputs / c.groups) * c.kernel.0 * c.kernel.1, 1.0);
    let bias = noise(seed + 2, c.outputs, 1.0);
    let dy = noise(seed + 3, c.batch * c.outputs * oh * ow, 1.0);
    let (x64, w64, b64) = (wide(&x), wide(&w), wide(&bias));
    let want = plain_convolution(&c, &x64, &w64, &b64);
    let dx = differences(&x64, &dy, |x| plain_convolution(&c, x, &w64, &b64));
    let dw = differences(&w64, &dy, |w| plain_convolution(&c, &x64, w, &b64));
    let db = differences(&b64, &dy, |b| plain_convolution(&c, &x64, &w64, b));
    for kernels in available() {
        let what = format!("{} {c:?}", kernels.set().name());
        let parts = on_threads(&what, || {
            let (mut out, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
            let (mut dw, mut db) = (vec![f32::NAN; w.len()], vec![f32::NAN; c.outputs]);
            c.forward(kernels, &x, &w, Some(&bias), &mut out);
            c.backward_input(kernels, &w, &dy, &mut dx);
            c.backward_weight(kernels, &x, &dy, &mut dw);
            c.backward_bias(&dy, &mut db);
            vec![out, dx, dw, db]
        });
        for (part, want) in parts.iter().zip([&want, &dx, &dw, &db]) {
            close(&what, part, want, 3e-6);
        }
    }
}

/// The gradients of input and weight by the formulas, in f64, of a convolution without groups.
fn plain_convolution_gradients(c: &Convolution, x: &[f64], w: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let ((oh, ow), (h, width), (kh, kw)) = (c.output().unwrap(), c.size, c.kernel);
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    for (at, dy) in dy.iter().enumerate() {
        let (column, y) = (at % ow, at / ow % oh);
        let (o, b) = (at / (ow * oh) % c.outputs, at / (ow * oh * c.outputs));
        for (i, tap) in (0..c.inputs).flat_map(|i| (0..kh * kw).map(move |tap| (i, tap))) {
            let sy = (y * c.stride + tap / kw * c.dilation).wrapping_sub(c.padding);
            let sx = (column * c.stride + tap % kw * c.dilation).wrapping_sub(c.padding);
            if sy < h && sx < width {
                let (from, of) = (((b * c.inputs + i) * h + sy) * width + sx, (o * c.inputs + i) * kh * kw + tap);
                dx[from] += dy * w[of];
                dw[of] += dy * x[from];
            }
        }
    }
    (dx, dw)
}

/// Many channels, 3 by 3: what is done by tiles.
fn tiled_case(c: Convolution, seed: u64) {
    let (oh, ow) = c.output().unwrap();
    let x = noise(seed, c.batch * c.inputs * c.size.0 * c.size.1, 1.0);
    let w = noise(seed + 1, c.outputs * c.inputs * 9, 1.0);
    let (bias, dy) = (noise(seed + 2, c.outputs, 1.0), noise(seed + 3, c.batch * c.outputs * oh * ow, 1.0));
    let (x64, w64, dy64) = (wide(&x), wide(&w), wide(&dy));
    let want = plain_convolution(&c, &x64, &w64, &wide(&bias));
    let (want_dx, want_dw) = plain_convolution_gradients(&c, &x64, &w64, &dy64);
    for kernels in available() {
        let what = format!("{} {c:?}", kernels.set().name());
        let parts = on_threads(&what, || {
            let (mut out, mut dx, mut dw) =
                (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()], vec![f32::NAN; w.len()]);
            c.forward(kernels, &x, &w, Some(&bias), &mut out);
            c.backward_input(kernels, &w, &dy, &mut dx);
            c.backward_weight(kernels, &x, &dy, &mut dw);
            vec![out, dx, dw]
        });
        for (part, want) in parts.iter().zip([&want, &want_dx, &want_dw]) {
            close(&what, part, want, 3e-6);
        }
    }
}

#[test]
fn convolutions_by_tiles() {
    for (i, (batch, inputs, outputs, size, padding)) in [
        (2, 32, 41, (32, 33), 1),
        (1, 40, 33, (48, 47), 0),
        (1, 48, 32, (44, 45), 2),
        // maps of several images side by side, and a last group that is smaller
        (61, 33, 32, (5, 6), 1),
        // a row of tiles is longer than a block
        (1, 320, 32, (4, 520), 1),
    ]
    .into_iter()
    .enumerate()
    {
        let (kernel, stride, dilation, groups) = ((3, 3), 1, 1, 1);
        let c = Convolution { batch, inputs, outputs, size, kernel, stride, padding, dilation, groups };
        tiled_case(c, 100 * i as u64);
    }
}

/// By image, then class: probabilities of all pixels seen, and of those of the class; behind them the weighted
/// cross-entropy of the image.
fn plain_pixel_sums(loss: &PixelLoss<'_>, x: &[f64], labels: &[u32]) -> Vec<f64> {
    let (classes, pixels) = (loss.classes, loss.pixels);
    let mut out = Vec::new();
    for (x, labels) in x.chunks(classes * pixels).zip(labels.chunks(pixels)) {
        let mut sums = vec![0.0; 2 * classes + 1];
        for (i, label) in labels.iter().enumerate().filter(|(_, label)| loss.ignored != Some(**label)) {
            let all: f64 = (0..classes).map(|c| x[c * pixels + i].exp()).sum();
            let p = |c: usize| x[c * pixels + i].exp() / all;
            (0..classes).for_each(|c| sums[2 * c] += p(c));
            let own = *label as usize;
            sums[2 * own + 1] += p(own);
            let weight = loss.weights.map_or(1.0, |w| f64::from(w[own]));
            sums[2 * classes] -= weight * p(own).ln();
        }
        out.extend(sums);
    }
    out
}

#[test]
fn losses_over_pixels() {
    for (images, classes, pixels, weights, ignored) in
        [(2, 3, 70, None, None), (3, 2, 129, Some([0.5f32, 3.0]), Some(255)), (1, 4, 1, None, Some(2))]
    {
        let loss = PixelLoss { classes, pixels, weights: weights.as_ref().map(|w| &w[..]), ignored };
        let x = noise(3, images * classes * pixels, 4.0);
        let label = |i: usize| ignored.filter(|_| i % 5 == 2).unwrap_or((i * 7 % classes) as u32);
        let labels: Vec<u32> = (0..images * pixels).map(label).collect();
        let slopes: Vec<Slopes> = (0..images as u64)
            .map(|i| Slopes { all: noise(i, classes, 1.0), own: noise(i + 9, classes, 1.0), entropy: 0.3 + i as f32 })
            .collect();
        let parts = on_threads("pixel loss", || {
            let (mut p, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            let sums = loss.forward(&x, &labels, &mut p);
            loss.backward(&p, &labels, &slopes, &mut dx);
            let flat = sums.iter().zip(labels.chunks(pixels)).flat_map(|(sums, labels)| {
                let count = |c: usize| labels.iter().filter(|l| **l as usize == c && ignored != Some(**l)).count();
                let all = (0..classes).flat_map(move |c| [sums.total[c] - count(c) as f64, sums.overlap[c]]);
                all.chain([sums.entropy]).map(|v| v as f32).collect::<Vec<f32>>()
            });
            vec![flat.collect(), dx]
        });
        close("sums", &parts[0], &plain_pixel_sums(&loss, &wide(&x), &labels), 1e-6);
        let by_sum =
            |s: &Slopes| -> Vec<f32> { (0..classes).flat_map(|c| [s.all[c], s.own[c]]).chain([s.entropy]).collect() };
        let weights: Vec<f32> = slopes.iter().flat_map(by_sum).collect();
        let want = differences(&wide(&x), &weights, |x| plain_pixel_sums(&loss, x, &labels));
        close("gradient", &parts[1], &want, 2e-6);
    }
}

fn plain_channel_norm(maps: Maps, sets: Sets, x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let set_of = |i: usize| {
        let (b, c) = (i / (maps.channels * maps.spatial), i / maps.spatial % maps.channels);
        match sets {
            Sets::Batch => c,
            Sets::Groups(g) => b * g + c / (maps.channels / g),
        }
    };
    let n = maps.sets(sets);
    let (mut sums, mut counts, mut squares) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    for (i, v) in x.iter().enumerate() {
        sums[set_of(i)] += v;
        counts[set_of(i)] += 1.0;
    }
    for (i, v) in x.iter().enumerate() {
        squares[set_of(i)] += (v - sums[set_of(i)] / counts[set_of(i)]).powi(2);
    }
    let value = |(i, v): (usize, &f64)| {
        let (s, c) = (set_of(i), i / maps.spatial % maps.channels);
        (v - sums[s] / counts[s]) / (squares[s] / counts[s] + eps).sqrt() * gamma[c] + beta[c]
    };
    x.iter().enumerate().map(value).collect()
}

fn channel_norm_case(maps: Maps, sets: Sets, seed: u64) {
    let n = maps.batch * maps.channels * maps.spatial;
    let (x, dy) = (noise(seed, n, 2.0), noise(seed + 1, n, 1.0));
    let (gamma, beta) = (noise(seed + 2, maps.channels, 2.0), noise(seed + 3, maps.channels, 1.0));
    let (x64, g64, b64) = (wide(&x), wide(&gamma), wide(&beta));
    let eps = 1e-3;
    let f = |x: &[f64], g: &[f64], b: &[f64]| plain_channel_norm(maps, sets, x, g, b, eps);
    let what = format!("{maps:?} {sets:?}");
    let parts = on_threads(&what, || {
        let mut stats = vec![(0.0, 0.0); maps.sets(sets)];
        let (mut out, mut again, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n], vec![f32::NAN; n]);
        channel_norm::forward(maps, sets, &x, &gamma, &beta, eps, &mut out, &mut stats);
        channel_norm::apply(maps, sets, &x, &gamma, &beta, eps, &stats, &mut again);
        assert_eq!(out, again, "known statistics");
        let (mut dgamma, mut dbeta) = (vec![f32::NAN; maps.channels], vec![f32::NAN; maps.channels]);
        let parameters = (&mut dgamma[..], &mut dbeta[..]);
        channel_norm::backward(maps, sets, &x, &gamma, eps, &stats, false, &dy, &mut dx, parameters);
        vec![out, dx, dgamma, dbeta]
    });
    close(&what, &parts[0], &f(&x64, &g64, &b64), 1e-5);
    close(&what, &parts[1], &differences(&x64, &dy, |x| f(x, &g64, &b64)), 1e-5);
    close(&what, &parts[2], &differences(&g64, &dy, |g| f(&x64, g, &b64)), 1e-5);
    close(&what, &parts[3], &differences(&b64, &dy, |b| f(&x64, &g64, b)), 1e-5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn attentions(images in 0usize..3, tokens in 1usize..90, heads in 1usize..4, head_dim in 1usize..70, seed: u64) {
        let queries = if seed & 1 == 0 { tokens } else { (seed >> 1) as usize % (tokens + 1) };
        attention_case(Shape { images, tokens, queries, heads, head_dim }, 1.0, seed >> 8);
    }

    #[test]
    fn norms(rows in 0usize..5, dim in 1usize..70, seed: u64) {
        norm_case(rows, dim, seed >> 8);
    }

    #[test]
    fn convolutions(
        batch in 0usize..3, per in (1usize..4, 1usize..4), groups in 1usize..3, size in (1usize..9, 1usize..9),
        kernel in (1usize..4, 1usize..4), stride in 1usize..4, padding in 0usize..3, dilation in 1usize..3, seed: u64,
    ) {
        let c = Convolution {
            batch, inputs: per.0 * groups, outputs: per.1 * groups, size, kernel, stride, padding, dilation, groups,
        };
        convolution_case(c, seed >> 8);
    }

    #[test]
    fn channel_norms(batch in 1usize..4, groups in 1usize..4, per in 1usize..4, spatial in 1usize..20, seed: u64) {
        let maps = Maps { batch, channels: groups * per, spatial };
        for sets in [Sets::Batch, Sets::Groups(groups)] {
            channel_norm_case(maps, sets, seed >> 8);
        }
    }

    #[test]
    fn cross_entropies(rows in 0usize..40, classes in 1usize..12, size in 1f32..40.0, seed: u64) {
        let logits = noise(seed >> 8, rows * classes, size);
        let labels: Vec<u32> = (0..rows).map(|i| (i * 7 % classes) as u32).collect();
        let f = |x: &[f64]| -> Vec<f64> {
            let row = |(i, row): (usize, &[f64])| {
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                max + row.iter().map(|v| (v - max).exp()).sum::<f64>().ln() - row[labels[i] as usize]
            };
            x.chunks_exact(classes).enumerate().map(row).collect()
        };
        let parts = on_threads("cross-entropy", || {
            let (mut losses, mut lse) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
            cross_entropy::forward(classes, &logits, &labels, &mut losses, &mut lse);
            let mut gradient = vec![f32::NAN; logits.len()];
            cross_entropy::backward(classes, &logits, &labels, &lse, 0.5, &mut gradient);
            vec![losses, gradient]
        });
        close("losses", &parts[0], &f(&wide(&logits)), 1e-6);
        close("gradient", &parts[1], &differences(&wide(&logits), &vec![0.5; rows], f), 1e-5);
    }

    #[test]
    fn columns(rows in 0usize..200, dim in 1usize..20, seed: u64) {
        let (x, y, gain) = (noise(seed >> 8, rows * dim, 1.0), noise(seed >> 9, rows * dim, 1.0), noise(seed >> 7, dim, 2.0));
        let parts = on_threads("columns", || {
            let (mut plain, mut product, mut scaled) = (vec![f32::NAN; dim], vec![f32::NAN; dim], vec![f32::NAN; x.len()]);
            column_sums(&x, None, &mut plain);
            column_sums(&x, Some(&y), &mut product);
            scale_columns(&mut scaled, &x, &gain);
            vec![plain, product, scaled]
        });
        let sum = |f: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..dim).map(|c| (0..rows).map(|r| f(r * dim + c)).sum()).collect()
        };
        close("sums", &parts[0], &sum(&|i| f64::from(x[i])), 1e-5);
        close("products", &parts[1], &sum(&|i| f64::from(x[i]) * f64::from(y[i])), 1e-5);
        let want: Vec<f64> = (0..x.len()).map(|i| f64::from(x[i]) * f64::from(gain[i % dim])).collect();
        close("scaled", &parts[2], &want, 1e-6);
    }
}

#[test]
fn attention_over_several_tiles_and_blocks() {
    for (tokens, head_dim, size) in [(257, 64, 1.0), (385, 33, 1.0), (800, 16, 1.0), (150, 32, 8.0)] {
        for queries in [tokens, 1, tokens - 1] {
            attention_case(Shape { images: 1, tokens, queries, heads: 2, head_dim }, size, 5);
        }
    }
}

#[test]
fn norms_over_several_chunks() {
    for (rows, dim) in [(64, 3), (129, 2), (200, 1)] {
        norm_case(rows, dim, 2);
    }
    norm_case(2, 384, 3);
}

#[test]
fn a_transposed_convolution_is_the_other_way_round() {
    // torch.nn.functional.conv_transpose2d(tensor([[[[1., 2.], [3., 4.]]]]), arange(1., 10).reshape(1, 1, 3, 3), stride=2)
    let c = Convolution {
        batch: 1,
        inputs: 1,
        outputs: 1,
        size: (5, 5),
        kernel: (3, 3),
        stride: 2,
        padding: 0,
        dilation: 1,
        groups: 1,
    };
    assert_eq!(c.output(), Some((2, 2)));
    let weight: Vec<f32> = (1..10).map(|v| v as f32).collect();
    let mut out = vec![f32::NAN; 25];
    for kernels in available() {
        c.backward_input(kernels, &weight, &[1.0, 2.0, 3.0, 4.0], &mut out);
        let want: [f32; 25] = [
            1.0, 2.0, 5.0, 4.0, 6.0, //
            4.0, 5.0, 14.0, 10.0, 12.0, //
            10.0, 14.0, 36.0, 24.0, 30.0, //
            12.0, 15.0, 34.0, 20.0, 24.0, //
            21.0, 24.0, 55.0, 32.0, 36.0,
        ];
        assert_eq!(out, want);
    }
}

#[test]
fn convolutions_that_do_not_exist() {
    let c = Convolution {
        batch: 1,
        inputs: 2,
        outputs: 2,
        size: (2, 2),
        kernel: (3, 3),
        stride: 1,
        padding: 0,
        dilation: 1,
        groups: 1,
    };
    assert_eq!(c.output(), None);
    assert_eq!(Convolution { groups: 3, padding: 1, ..c }.output(), None);
    assert_eq!(Convolution { stride: 0, padding: 1, ..c }.output(), None);
    assert_eq!(Convolution { kernel: (0, 1), ..c }.output(), None);
}

#[test]
fn activations_over_their_range() {
    let x: Vec<f32> = (0..4001).map(|i| (i as f32 - 2000.0) / 150.0).collect();
    let dy = noise(1, x.len(), 2.0);
    for kernels in available() {
        for (f, plain) in [
            (Activation::Gelu, &gelu as &dyn Fn(f64) -> f64),
            (Activation::QuickGelu, &|x| swish(x, 1.702)),
            (Activation::Silu, &|x| swish(x, 1.0)),
        ] {
            let what = format!("{} {f:?}", kernels.set().name());
            let parts = on_threads(&what, || {
                let (mut out, mut grad) = (vec![f32::NAN; x.len()], dy.clone());
                f.forward(kernels, &x, &mut out);
                f.backward(kernels, &x, &mut grad);
                vec![out, grad]
            });
            let want: Vec<f64> = x.iter().map(|x| plain(f64::from(*x))).collect();
            let slope = |x: f64| (plain(x + 1e-5) - plain(x - 1e-5)) / 2e-5;
            let want_grad: Vec<f64> = x.iter().zip(&dy).map(|(x, d)| slope(f64::from(*x)) * f64::from(*d)).collect();
            close(&what, &parts[0], &want, 2e-7);
            close(&what, &parts[1], &want_grad, 1e-6);
        }
    }
}

#[test]
fn gated_activations() {
    for (rows, hidden) in [(0, 3), (1, 1), (3, 7), (2, 33)] {
        let (both, dy) = (noise(3, rows * 2 * hidden, 4.0), noise(4, rows * hidden, 1.0));
        let f = |both: &[f64]| -> Vec<f64> {
            let row = |row: &[f64]| (0..hidden).map(|i| swish(row[i], 1.0) * row[hidden + i]).collect::<Vec<_>>();
            both.chunks_exact(2 * hidden).flat_map(row).collect()
        };
        for kernels in available() {
            let parts = on_threads("swiglu", || {
                let (mut out, mut grad) = (vec![f32::NAN; dy.len()], vec![f32::NAN; both.len()]);
                swiglu(kernels, hidden, &both, &mut out);
                swiglu_backward(kernels, hidden, &both, &dy, &mut grad);
                vec![out, grad]
            });
            close("swiglu", &parts[0], &f(&wide(&both)), 1e-6);
            close("swiglu gradient", &parts[1], &differences(&wide(&both), &dy, f), 1e-6);
        }
    }
}

#[test]
fn resizing() {
    let weights = [[0.25f32, 0.75], [1.0, 0.0], [-0.5, 1.5]];
    let rows = Axis::new(
        3,
        [(0, &weights[0][..]), (1, &weights[1][..]), (1, &weights[2][..]), (2, &weights[1][..1])].into_iter(),
    );
    let columns = Axis::new(2, [(0, &weights[2][..]), (1, &weights[1][..1]), (0, &weights[0][..])].into_iter());
    let (x, dy) = (noise(1, 4 * 6, 1.0), noise(2, 4 * 12, 1.0));
    let f = |x: &[f64]| -> Vec<f64> {
        let r: [(usize, &[f32]); 4] = [(0, &weights[0]), (1, &weights[1]), (1, &weights[2]), (2, &weights[1][..1])];
        let c: [(usize, &[f32]); 3] = [(0, &weights[2]), (1, &weights[1][..1]), (0, &weights[0])];
        let mut out = Vec::new();
        for map in x.chunks_exact(6) {
            for (y, wy) in r {
                for (x, wx) in c {
                    let mut sum = 0.0;
                    for (i, wy) in wy.iter().enumerate() {
                        for (j, wx) in wx.iter().enumerate() {
                            sum += f64::from(*wy) * f64::from(*wx) * map[(y + i) * 2 + x + j];
                        }
                    }
                    out.push(sum);
                }
            }
        }
        out
    };
    let parts = on_threads("resize", || {
        let (mut out, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
        resize::forward(&rows, &columns, &x, &mut out);
        resize::backward(&rows, &columns, &dy, &mut dx);
        vec![out, dx]
    });
    close("resized", &parts[0], &f(&wide(&x)), 1e-6);
    close("gradient", &parts[1], &differences(&wide(&x), &dy, f), 1e-6);
}

#[test]
fn optimiser_steps() {
    let n = 40_001;
    for decoupled in [true, false] {
        let (mut p, g) = (noise(1, n, 1.0), noise(2, n, 1.0));
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        let (mut p64, mut m64, mut v64) = (wide(&p), vec![0.0; n], vec![0.0; n]);
        let (lr, b1, b2, eps, wd, scale) = (0.01, 0.9, 0.99, 1e-8, 0.1, 0.5);
        for step in 1..4 {
            let adam = Adam { lr, betas: (b1, b2), eps, weight_decay: wd, decoupled, step, gradient_scale: scale };
            let bytes = on_threads("adam", || {
                let (mut p, mut m, mut v) = (p.clone(), m.clone(), v.clone());
                adam.apply(&mut p, &g, &mut m, &mut v);
                vec![p, m, v]
            });
            [p, m, v] = bytes.try_into().unwrap();
            for i in 0..n {
                let mut g = f64::from(g[i]) * f64::from(scale);
                if decoupled {
                    p64[i] *= 1.0 - lr * wd;
                } else {
                    g += wd * p64[i];
                }
                m64[i] = b1 * m64[i] + (1.0 - b1) * g;
                v64[i] = b2 * v64[i] + (1.0 - b2) * g * g;
                let (c1, c2) = (1.0 - f64::powi(b1, step as i32), 1.0 - f64::powi(b2, step as i32));
                p64[i] -= lr / c1 * m64[i] / ((v64[i] / c2).sqrt() + eps);
            }
            close("adam", &p, &p64, 2e-6);
        }
    }
    let (mut p, g, mut v) = (noise(1, n, 1.0), noise(2, n, 1.0), vec![0.0; n]);
    let (mut p64, mut v64) = (wide(&p), vec![0.0; n]);
    for _ in 0..3 {
        Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, gradient_scale: 2.0 }.apply(&mut p, &g, &mut v);
        for i in 0..n {
            v64[i] = 0.9 * v64[i] + 2.0 * f64::from(g[i]) + 0.01 * p64[i];
            p64[i] -= 0.1 * v64[i];
        }
    }
    close("sgd", &p, &p64, 1e-6);
}
