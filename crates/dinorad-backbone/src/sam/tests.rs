use candle::{DType, Device, Tensor};
use dinorad_nn::{Pass, Trainable};
use proptest::prelude::*;

use super::*;
use crate::testing::{difference, random};

fn small() -> SamConfig {
    SamConfig {
        embed_dim: 24,
        depth: 3,
        heads: 3,
        patch: 4,
        grid: 6,
        window: 4,
        global: vec![1],
        hidden: 32,
        neck: 10,
        ..SamConfig::large()
    }
}

/// With parameters that all count.
fn build(config: &SamConfig, seed: u64) -> Sam {
    let tensors = config.parameters().into_iter().map(|(name, shape)| {
        let scale = if shape.len() == 1 { 0.3 } else { 0.4 };
        let shift = if shape.len() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
        let t = random(seed, &name, &shape).affine(scale, shift).unwrap();
        (name, t)
    });
    let spec = BackboneSpec::untrained(Family::Sam, seed, &LoadOptions::default(), "", Normalization::IMAGENET);
    Sam::from_tensors(config, spec, tensors.collect()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn batches_are_single_images_at_any_size(
        seed in 0u64..1000,
        (h, w) in (1usize..9, 1usize..9),
        batch in 2usize..4,
    ) {
        let encoder = build(&small(), seed);
        let x = random(seed, "pixels", &[batch, 3, 4 * h, 4 * w]);
        let (states, grid) = encoder.hidden_states(&x, Pass::Inference).unwrap();
        prop_assert_eq!(grid, (h, w));
        let (training, _) = encoder.hidden_states(&x, Pass::GRADIENTS).unwrap();
        for (fast, slow) in states.iter().zip(&training) {
            prop_assert!(difference(fast, slow) < 1e-4);
        }
        let embedding = encoder.embedding(&x, Pass::Inference).unwrap();
        prop_assert_eq!(embedding.dims(), &[batch, 10, h, w]);
        for i in 0..batch {
            let one = x.narrow(0, i, 1).unwrap();
            let (single, _) = encoder.hidden_states(&one, Pass::Inference).unwrap();
            for (all, single) in states.iter().zip(&single) {
                prop_assert!(difference(&all.narrow(0, i, 1).unwrap(), single) < 1e-5);
            }
            let single = encoder.embedding(&one, Pass::Inference).unwrap();
            prop_assert!(difference(&embedding.narrow(0, i, 1).unwrap(), &single) < 1e-4);
        }
    }
}

/// Scores written out one by one.
#[test]
fn attention_is_the_sum_over_all_pairs() {
    let (h, w, heads, head) = (3, 4, 2, 5);
    let (n, dim) = (h * w, heads * head);
    let linear = |name: &str, out: usize| Linear::new(random(1, name, &[out, dim]), None);
    let attention = attention::Attention {
        qkv: linear("qkv", 3 * dim),
        proj: Linear::new(Tensor::eye(dim, DType::F32, &Device::Cpu).unwrap(), None),
        rel_pos_h: Some(random(1, "rows", &[2 * h - 1, head])),
        rel_pos_w: Some(random(1, "columns", &[2 * w - 1, head])),
        heads,
    };
    let x = random(1, "x", &[1, n, dim]);
    let qkv = attention.qkv.forward(&x, Pass::Inference).unwrap().squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    let table = |t: &Option<Tensor>| t.as_ref().unwrap().to_vec2::<f32>().unwrap();
    let (rows, columns) = (table(&attention.rel_pos_h), table(&attention.rel_pos_w));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut want = vec![vec![0f32; dim]; n];
    for (token, want) in want.iter_mut().enumerate() {
        for i in 0..heads {
            let part = |token: usize, which: usize| &qkv[token][which * dim + i * head..][..head];
            let q = part(token, 0);
            let scores: Vec<f32> = (0..n)
                .map(|key| {
                    let (dy, dx) = (token / w + h - 1 - key / w, token % w + w - 1 - key % w);
                    let near = dot(q, &rows[dy]) + dot(q, &columns[dx]);
                    (dot(q, part(key, 1)) / (head as f32).sqrt() + near).exp()
                })
                .collect();
            let sum: f32 = scores.iter().sum();
            for (key, score) in scores.iter().enumerate() {
                for (to, v) in want[i * head..].iter_mut().zip(part(key, 2)) {
                    *to += score / sum * v;
                }
            }
        }
    }
    let want = Tensor::new(want, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    for pass in [Pass::Inference, Pass::GRADIENTS] {
        let got = attention.forward(&x, (h, w), pass).unwrap();
        assert!(difference(&got, &want) < 1e-5);
    }
}

#[test]
fn gradients_reach_every_parameter() {
    let mut encoder = build(&small(), 0);
    encoder.train_only(&mut |_| true).unwrap();
    let variables = encoder.variables().unwrap();
    let names: Vec<String> = small().parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(variables.len(), names.len());
    let out = encoder.embedding(&random(0, "x", &[1, 3, 24, 24]), Pass::GRADIENTS).unwrap();
    let weight = random(0, "weight", out.dims());
    let grads = (out * weight).unwrap().sum_all().unwrap().backward().unwrap();
    for name in names {
        let grad = grads.get(&variables[&name]).unwrap_or_else(|| panic!("no gradient of `{name}`"));
        let largest = grad.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(largest > 0.0, "`{name}` has a gradient of zero");
    }
}

#[test]
fn requests_are_answered_block_by_block() {
    let encoder = build(&small(), 5);
    let pixels = random(5, "x", &[2, 3, 24, 16]);
    let (states, _) = encoder.hidden_states(&pixels, Pass::Inference).unwrap();
    let features = encoder.forward(&pixels, &Request::indices([2, 0]).with_patches(Patches::Grid)).unwrap();
    for (layer, state) in features.layers.iter().zip([&states[1], &states[3]]) {
        let maps = layer.patches.as_ref().unwrap();
        assert_eq!(maps.dims(), [2, 24, 6, 4]);
        let tokens = maps.flatten_from(2).unwrap().transpose(1, 2).unwrap();
        assert_eq!(difference(&tokens, state), 0.0);
        assert!(difference(&layer.cls, &state.mean(1).unwrap()) == 0.0);
        assert_eq!(layer.grid, (6, 4));
    }
    assert!(matches!(encoder.forward(&pixels, &Request::last(4)), Err(Error::Request { .. })));
    let odd = random(5, "x", &[1, 3, 24, 15]);
    assert!(matches!(encoder.forward(&odd, &Request::cls()), Err(Error::InputSize { .. })));
}

#[test]
fn an_encoder_without_neck_has_no_embedding() {
    let encoder = build(&SamConfig { neck: 0, absolute_positions: false, relative_positions: false, ..small() }, 0);
    let pixels = random(0, "x", &[1, 3, 24, 24]);
    assert!(encoder.forward(&pixels, &Request::last(1)).is_ok());
    assert!(matches!(encoder.embedding(&pixels, Pass::Inference), Err(Error::Architecture { .. })));
}
