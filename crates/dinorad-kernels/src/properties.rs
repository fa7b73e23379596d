//! Every kernel of every instruction set of this processor against the reference, over odd sizes.

use std::sync::Mutex;

use proptest::prelude::*;

use super::{
    Epilogue, InstructionSet, Kernels,
    attention::{self, Scratch, Shape},
    gemm::{Dense, Panels, Rows, RowsMut, multiply},
    norm::Norm,
    reference,
};

/// Values in `[-scale, scale]` from a seed.
fn noise(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| scale * next()).collect()
}

fn available() -> Vec<&'static Kernels> {
    InstructionSet::ALL.into_iter().filter_map(Kernels::of).collect()
}

/// Dense rows spread to a larger stride, the gaps filled with a marker.
fn spread(dense: &[f32], width: usize, stride: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; dense.len() / width * stride];
    for (from, to) in dense.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
        to[..width].copy_from_slice(from);
    }
    out
}

fn check(what: &str, got: &[f32], stride: usize, want: &[f64], width: usize, tolerance: f64) {
    for (i, row) in want.chunks_exact(width).enumerate() {
        for (j, want) in row.iter().enumerate() {
            let got = f64::from(got[i * stride + j]);
            assert!((got - want).abs() <= tolerance, "{what}: row {i}, column {j}: {got} instead of {want}");
        }
        if stride > width && (i + 1) * stride <= got.len() {
            assert!(got[i * stride + width..(i + 1) * stride].iter().all(|x| x.is_nan()), "{what}: wrote past row {i}");
        }
    }
}

const EPILOGUES: [Epilogue; 7] = [
    Epilogue::Store,
    Epilogue::Accumulate,
    Epilogue::Bias,
    Epilogue::BiasGelu,
    Epilogue::BiasQuickGelu,
    Epilogue::Residual,
    Epilogue::SwiGlu,
];

fn multiply_case(rows: usize, k: usize, n: usize, gap: usize, epilogue: Epilogue, seed: u64) {
    let gated = epilogue == Epilogue::SwiGlu;
    let stored = if gated { 2 * n } else { n };
    let input = noise(seed, rows * k, 1.0);
    let weight = noise(seed + 1, stored * (k + gap), 1.0);
    let (bias, scale) = (noise(seed + 2, stored, 1.0), noise(seed + 3, stored, 2.0));
    let before = noise(seed + 4, rows * n, 1.0);
    let dense = Dense {
        weight: &weight,
        bias: Some(&bias),
        stride: k + gap,
        inputs: gap..k + gap,
        scale: Some(&scale),
        outputs: 0..n,
        values: gated.then_some(n),
    };
    let want = reference::multiply(rows, &input, &dense, &before, epilogue);
    let spread_input = spread(&input, k, k + gap);
    for kernels in available() {
        let panels = Panels::pack(kernels, &dense);
        let mut out = spread(&before, n, n + gap);
        let (from, to) = (Rows { data: &spread_input, stride: k + gap }, RowsMut { data: &mut out, stride: n + gap });
        multiply(kernels, rows, from, &panels, 0..n, to, epilogue);
        let what = format!("{} {epilogue:?} {rows}x{k}x{n}", kernels.set().name());
        // products of up to 2 * k summands of size 2, and a gate of at most that
        let size = if gated { (2.0 * k as f64).sqrt() + 2.0 } else { 1.0 };
        check(&what, &out, n + gap, &want, n, 2e-6 * (k as f64 + 4.0) * size);

        // any panel range, and any cut into rows, gives the same bytes
        let per = panels.panel_columns();
        if n > per && rows > 1 {
            let mut parts = spread(&before, n, n + gap);
            for columns in [0..per, per..n] {
                for at in [0..rows / 2, rows / 2..rows] {
                    let from = Rows { data: &spread_input[at.start * (k + gap)..], stride: k + gap };
                    let to = RowsMut { data: &mut parts[at.start * (n + gap) + columns.start..], stride: n + gap };
                    multiply(kernels, at.len(), from, &panels, columns.clone(), to, epilogue);
                }
            }
            let same = out.iter().zip(&parts).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{what}: parts differ from the whole");
        }
    }
}

fn norm_case(rows: usize, dim: usize, seed: u64) {
    let input: Vec<f32> = noise(seed, rows * dim, 3.0).iter().map(|x| x + 1.0).collect();
    let norm = Norm { gamma: noise(seed + 1, dim, 2.0), beta: noise(seed + 2, dim, 1.0), eps: 1e-6 };
    let want = reference::layer_norm(rows, &input, &norm);
    let spread_input = spread(&input, dim, dim + 3);
    for kernels in available() {
        let mut out = vec![f32::NAN; rows * (dim + 5)];
        let (from, to) = (Rows { data: &spread_input, stride: dim + 3 }, RowsMut { data: &mut out, stride: dim + 5 });
        norm.apply(kernels, rows, from, to);
        let what = format!("{} norm {rows}x{dim}", kernels.set().name());
        check(&what, &out, dim + 5, &want, dim, 2e-5);
    }
}

fn attention_case(shape: Shape, scale: f32, seed: u64) {
    let Shape { images, tokens, heads, head_dim, .. } = shape;
    let dim = heads * head_dim;
    let qkv = noise(seed, images * tokens * 3 * dim, scale);
    let want = reference::attend(shape, &qkv);
    let spread_qkv = spread(&qkv, 3 * dim, 3 * dim + 7);
    for kernels in available() {
        let mut bytes: Option<Vec<u32>> = None;
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let scratch: Vec<_> = (0..threads).map(|_| Mutex::new(Scratch::default())).collect();
            let mut out = vec![f32::NAN; images * tokens * (dim + 2)];
            for _again in 0..2 {
                let from = Rows { data: &spread_qkv, stride: 3 * dim + 7 };
                let to = RowsMut { data: &mut out, stride: dim + 2 };
                pool.install(|| attention::attend(kernels, shape, from, to, &scratch));
            }
            // a score is rounded in proportion to its size, and a weight errs by as much
            let score = f64::from(scale * scale) * head_dim as f64;
            let what = format!("{} {shape:?}", kernels.set().name());
            check(&what, &out, dim + 2, &want, dim, f64::from(scale) * (1e-5 + 1e-7 * score));
            let now: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
            assert_eq!(bytes.get_or_insert(now.clone()), &now, "{shape:?}: threads change the result");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products(rows in 1usize..40, k in 1usize..90, n in 1usize..130, gap in 1usize..20, e in 0usize..6, seed: u64) {
        multiply_case(rows, k, n, gap, EPILOGUES[e], seed >> 8);
    }

    #[test]
    fn norms(rows in 1usize..4, dim in 2usize..200, seed: u64) {
        norm_case(rows, dim, seed >> 8);
    }

    #[test]
    fn attentions(images in 1usize..3, tokens in 1usize..70, heads in 1usize..4, head_dim in 1usize..90, seed: u64) {
        attention_case(Shape { images, tokens, queries: tokens, heads, head_dim }, 1.0, seed >> 8);
    }
}

#[test]
fn products_at_the_sizes_of_encoders() {
    for (rows, k, n) in [(1, 384, 1152), (17, 384, 384), (257, 588, 24), (5, 1536, 384), (19, 768, 100)] {
        for e in EPILOGUES {
            multiply_case(rows, k, n, 16, e, 7);
        }
    }
}

#[test]
fn attention_at_odd_sizes() {
    for head_dim in [12, 16, 32, 64, 80] {
        for tokens in [1, 17, 257, 384, 385, 400] {
            attention_case(Shape { images: 1, tokens, queries: tokens, heads: 1, head_dim }, 1.0, 3);
        }
    }
    for head_dim in [32, 64, 80] {
        attention_case(Shape { images: 1, tokens: 1370, queries: 1370, heads: 1, head_dim }, 1.0, 4);
    }
}

#[test]
fn attention_with_large_scores() {
    // scores of several thousand: only the running maximum keeps the exponentials finite
    attention_case(Shape { images: 1, tokens: 800, queries: 800, heads: 1, head_dim: 32 }, 20.0, 5);
}

#[test]
fn attention_where_all_scores_are_very_negative() {
    // q = 30, k = -30: every score is -28800, far below the zeros that pad a panel
    let (tokens, dim) = (5, 32);
    let mut qkv = vec![0.0; tokens * 3 * dim];
    for (i, row) in qkv.chunks_exact_mut(3 * dim).enumerate() {
        row[..dim].fill(30.0);
        row[dim..2 * dim].fill(-30.0);
        row[2 * dim..].fill(i as f32);
    }
    let shape = Shape { images: 1, tokens, queries: tokens, heads: 1, head_dim: dim };
    for kernels in available() {
        let mut out = vec![0.0; tokens * dim];
        let scratch = [Mutex::new(Scratch::default())];
        let (from, to) = (Rows { data: &qkv, stride: 3 * dim }, RowsMut { data: &mut out, stride: dim });
        attention::attend(kernels, shape, from, to, &scratch);
        assert!(out.iter().all(|x| (x - 2.0).abs() < 1e-5), "{}: {out:?}", kernels.set().name());
    }
}

#[test]
fn activations_over_their_range() {
    let n = 4001;
    let x: Vec<f32> = (0..n).map(|i| (i as f32 - 2000.0) / 100.0).collect();
    let one = [1.0f32];
    for kernels in available() {
        for epilogue in [Epilogue::BiasGelu, Epilogue::BiasQuickGelu, Epilogue::SwiGlu] {
            // one column times one: the epilogue alone; the value of a gate is its bias, 1
            let gated = epilogue == Epilogue::SwiGlu;
            let weight: &[f32] = if gated { &[1.0, 0.0] } else { &one };
            let bias: &[f32] = if gated { &[0.0, 1.0] } else { &[0.0] };
            let dense = Dense {
                weight,
                bias: Some(bias),
                stride: 1,
                inputs: 0..1,
                scale: None,
                outputs: 0..1,
                values: gated.then_some(1),
            };
            let panels = Panels::pack(kernels, &dense);
            let mut out = vec![0.0; n];
            let (from, to) = (Rows { data: &x, stride: 1 }, RowsMut { data: &mut out, stride: 1 });
            multiply(kernels, n, from, &panels, 0..1, to, epilogue);
            for (x, got) in x.iter().zip(&out) {
                let x = f64::from(*x);
                let want = match epilogue {
                    Epilogue::BiasGelu => reference::gelu(x),
                    Epilogue::BiasQuickGelu => reference::swish(x, 1.702),
                    _ => reference::swish(x, 1.0),
                };
                let error = (f64::from(*got) - want).abs();
                assert!(error < 1e-6 + 1e-6 * x.abs(), "{} {epilogue:?}({x}): {got}, {want}", kernels.set().name());
            }
        }
    }
}

#[test]
fn reference_erf_has_known_values() {
    for (x, want) in [(0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (3.5, 0.999_999_256_901_627_7)] {
        assert!((reference::erf(x) - want).abs() < 1e-14, "erf({x})");
        assert!((reference::erf(-x) + want).abs() < 1e-14, "erf(-{x})");
    }
}
