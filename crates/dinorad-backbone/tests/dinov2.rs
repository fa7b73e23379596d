//! What holds for every DINOv2, whatever its weights.

use dinorad_backbone::{
    Backbone, Dinov2, Dinov2Config, Error, FinalNorm, Patches, PositionResampling, Request,
    candle::{DType, Device, Tensor},
    tuning::TrainableBackbone,
};
use dinorad_nn::{
    LowRank, Optimizer, Pass, Trainable,
    init::trunc_normal,
    optim::{Algorithm, Group},
};

/// Every kind of block and token in small: with registers, gated, or plain.
fn configs() -> Vec<Dinov2Config> {
    let small = Dinov2Config { embed_dim: 48, depth: 3, heads: 4, hidden: 96, grid: 5, ..Dinov2Config::tiny() };
    let gated = Dinov2Config { feed_forward: dinorad_backbone::FeedForward::SwiGlu, ..small.clone() };
    vec![small.clone(), small.clone().with_registers(4), gated, Dinov2Config { layer_scale: false, ..small }]
}

fn encoder(config: &Dinov2Config, seed: u64) -> Dinov2 {
    let mut encoder = Dinov2::untrained(config, seed, &Device::Cpu).unwrap();
    // Initial values are too tame to show an error: spread them.
    encoder
        .visit_mut("", &mut |name, t| {
            *t = (&*t + trunc_normal(seed + 1, name, t.shape().clone(), 0.2, &Device::Cpu)?)?;
            Ok(())
        })
        .unwrap();
    encoder
}

fn pixels(b: usize, h: usize, w: usize) -> Tensor {
    trunc_normal(9, "pixels", (b, 3, h, w), 1.0, &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    flat(a).iter().zip(flat(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_batch_equals_its_images_one_by_one() {
    for config in configs() {
        let encoder = encoder(&config, 1);
        for (h, w) in [(70, 70), (98, 42), (28, 140), (14, 14)] {
            let batch = pixels(3, h, w);
            let request = Request::last(2).with_registers().with_patches(Patches::Grid);
            let together = encoder.forward(&batch, &request).unwrap();
            for i in 0..3 {
                let alone = encoder.forward(&batch.narrow(0, i, 1).unwrap(), &request).unwrap();
                for (t, a) in together.layers.iter().zip(&alone.layers) {
                    let row = |t: &Tensor| t.narrow(0, i, 1).unwrap();
                    assert!(largest_difference(&row(&t.cls), &a.cls) <= 1e-5);
                    assert!(largest_difference(&row(t.patches.as_ref().unwrap()), a.patches.as_ref().unwrap()) <= 1e-5);
                    assert_eq!(t.registers.is_some(), config.registers > 0);
                    assert_eq!(a.grid, (h / 14, w / 14));
                }
            }
        }
    }
}

#[test]
fn training_and_inference_agree() {
    for config in configs() {
        let mut encoder = encoder(&config, 2);
        let image = pixels(2, 56, 84);
        let run = |encoder: &Dinov2, pass| encoder.forward(&image, &Request::last(3).with_pass(pass)).unwrap();
        let fast = run(&encoder, Pass::Inference);
        encoder.train_only(&mut |_| true).unwrap();
        let (slow, fast_over_variables) = (run(&encoder, Pass::GRADIENTS), run(&encoder, Pass::Inference));
        for (f, s) in fast.layers.iter().zip(&slow.layers) {
            assert!(largest_difference(&f.cls, &s.cls) <= 1e-5);
            assert!(largest_difference(f.patches.as_ref().unwrap(), s.patches.as_ref().unwrap()) <= 1e-5);
        }
        // Inference keeps no graph, even over variables.
        assert!(slow.last().unwrap().cls.track_op() && !fast_over_variables.last().unwrap().cls.track_op());
    }
}

/// The mean square of the class token and all patch tokens of the last block.
fn loss(encoder: &Dinov2, image: &Tensor, mask: Option<&Tensor>) -> Tensor {
    let out = encoder.forward_features(image, mask, Pass::GRADIENTS).unwrap();
    let cls = out.x_norm_clstoken.sqr().unwrap().mean_all().unwrap();
    // The norm fixes the sum of squares; a cube sees every channel.
    let patches = out.x_norm_patchtokens.powf(3.0).unwrap().mean_all().unwrap();
    let registers = out.x_norm_regtokens.map_or(Ok(cls.zeros_like().unwrap()), |r| r.powf(3.0).unwrap().mean_all());
    ((cls + patches).unwrap() + registers.unwrap()).unwrap()
}

#[test]
fn every_trainable_tensor_learns_and_no_frozen_one_moves() {
    let choices: [fn(&str) -> bool; 3] =
        [|_| true, |name| name.ends_with("bias"), |name| name.starts_with("blocks.2.")];
    for config in configs() {
        for choose in choices {
            for algorithm in [Algorithm::SGD, Algorithm::ADAMW] {
                let mut encoder = encoder(&config, 3);
                encoder.train_only(&mut |name| choose(name)).unwrap();
                let before: Vec<_> = encoder.tensors().into_iter().map(|(n, t)| (n, flat(&t))).collect();
                let variables = encoder.variables().unwrap();
                assert!(variables.keys().all(|n| choose(n)) && !variables.is_empty());
                // Not the native size, and some patches masked: positions and the mask token take part.
                let image = pixels(2, 70, 42);
                let mask =
                    Tensor::from_vec((0..30).map(|i| u8::from(i % 4 == 0)).collect(), (2, 15), &Device::Cpu).unwrap();
                let grads = loss(&encoder, &image, Some(&mask)).backward().unwrap();
                for (name, var) in &variables {
                    let grad = grads.get(var).unwrap_or_else(|| panic!("`{name}` has no gradient"));
                    assert!(flat(grad).iter().any(|g| *g != 0.0), "`{name}` has only zero gradients");
                }
                let group = Group::new(variables, 1e-2).with_weight_decay(0.01);
                Optimizer::new(algorithm, vec![group]).unwrap().step(&grads).unwrap();
                for ((name, old), new) in before.iter().zip(encoder.tensors().values()) {
                    assert_eq!(*old != flat(new), choose(name), "`{name}` after a step");
                }
            }
        }
    }
}

#[test]
fn the_original_stays_when_a_copy_trains() {
    let config = &configs()[0];
    let original = encoder(config, 4);
    let mut copy = Dinov2::from_tensors(config, original.spec().clone(), original.tensors()).unwrap();
    copy.train_only(&mut |_| true).unwrap();
    let before = flat(&original.tensors()["norm.weight"]);
    for var in copy.variables().unwrap().values() {
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    assert_eq!(before, flat(&original.tensors()["norm.weight"]));
    assert!(flat(&copy.tensors()["norm.weight"]).iter().all(|v| *v == 0.0));
}

#[test]
fn an_adapter_reaches_inside_a_block() {
    let mut encoder = encoder(&configs()[0], 5);
    let image = pixels(1, 42, 42);
    let cls = |e: &Dinov2| e.forward(&image, &Request::cls()).unwrap().last().unwrap().cls.clone();
    let before = cls(&encoder);
    let random = |name: &str, shape: (usize, usize)| trunc_normal(6, name, shape, 0.3, &Device::Cpu).unwrap();
    let adapter = LowRank::new(random("a", (2, 48)), random("b", (144, 2)), 2.0);
    encoder.blocks_mut()[1].attn.qkv.set_adapters(vec![adapter]).unwrap();
    let adapted = cls(&encoder);
    assert!(largest_difference(&before, &adapted) > 1e-3);
    assert!(encoder.tensors().contains_key("blocks.1.attn.qkv.lora_A"));
    encoder.train_only(&mut |name| name.contains("lora_")).unwrap();
    let grads = loss(&encoder, &image, None).backward().unwrap();
    let variables = encoder.variables().unwrap();
    assert_eq!(variables.len(), 2);
    assert!(variables.values().all(|v| grads.get(v).is_some()));
    encoder.blocks_mut()[1].attn.qkv.merge_adapters().unwrap();
    assert!(largest_difference(&cls(&encoder), &adapted) <= 1e-5);
    let wrong = LowRank::new(random("a", (2, 40)), random("b", (144, 2)), 2.0);
    assert!(encoder.blocks_mut()[1].attn.qkv.set_adapters(vec![wrong]).is_err());
}

#[test]
fn half_precision_is_close() {
    for config in configs() {
        let full = encoder(&config, 7);
        let image = pixels(2, 70, 56);
        for dtype in [DType::F16, DType::BF16] {
            let tensors = full.tensors().into_iter().map(|(n, t)| (n, t.to_dtype(dtype).unwrap())).collect();
            let half = Dinov2::from_tensors(&config, full.spec().clone(), tensors).unwrap();
            for pass in [Pass::Inference, Pass::GRADIENTS] {
                let request = Request::last(1).with_pass(pass);
                let (want, got) = (full.forward(&image, &request).unwrap(), half.forward(&image, &request).unwrap());
                assert_eq!(got.last().unwrap().cls.dtype(), dtype);
                for (w, g) in [
                    (&want.last().unwrap().cls, &got.last().unwrap().cls),
                    (want.last().unwrap().patches.as_ref().unwrap(), got.last().unwrap().patches.as_ref().unwrap()),
                ] {
                    let range = flat(w).iter().fold((f32::MAX, f32::MIN), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
                    let error = largest_difference(w, g) / (range.1 - range.0);
                    assert!(error <= 2e-2, "{dtype:?} {pass:?}: {error}");
                }
            }
        }
    }
}

#[test]
fn requests_say_what_comes_back() {
    let encoder = encoder(&configs()[1], 8);
    let image = pixels(1, 28, 42);
    let run = |request: &Request| encoder.forward(&image, request).unwrap();
    let out = run(&Request::indices([2, 0]).with_norm(FinalNorm::Raw));
    let all = run(&Request::last(3).with_norm(FinalNorm::Raw));
    assert_eq!(out.layers.len(), 2);
    assert_eq!(flat(&out.layers[0].cls), flat(&all.layers[0].cls));
    assert_eq!(flat(&out.layers[1].cls), flat(&all.layers[2].cls));
    assert!(out.last().unwrap().registers.is_none());
    let cls = run(&Request::cls());
    assert!(cls.last().unwrap().patches.is_none());
    assert_eq!(cls.last().unwrap().cls.dims(), [1, 48]);
    assert!(largest_difference(&cls.last().unwrap().cls, &run(&Request::default()).last().unwrap().cls) <= 1e-6);
    let grid = run(&Request::default().with_patches(Patches::Grid).with_registers());
    assert_eq!(grid.last().unwrap().patches.as_ref().unwrap().dims(), [1, 48, 2, 3]);
    assert_eq!(grid.last().unwrap().registers.as_ref().unwrap().dims(), [1, 4, 48]);
    for bad in
        [Request::last(0), Request::last(4), Request::indices([3]), Request::indices([]), Request::indices([1, 1])]
    {
        assert!(matches!(encoder.forward(&image, &bad), Err(Error::Request { depth: 3, .. })), "{bad:?}");
    }
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    let encoder = encoder(&configs()[0], 9);
    let run = |shape: &[usize]| {
        let pixels = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        encoder.forward(&pixels, &Request::default()).unwrap_err()
    };
    let text = run(&[1, 3, 70, 72]).to_string();
    assert!(text.contains("70x72") && text.contains("14"), "{text}");
    assert!(matches!(run(&[1, 3, 0, 14]), Error::InputSize { .. }));
    for shape in [&[1, 1, 14, 14][..], &[3, 14, 14], &[0, 3, 14, 14]] {
        assert!(matches!(run(shape), Error::Shape { .. }));
    }
    let image = pixels(2, 28, 28);
    let mask = Tensor::zeros((2, 5), DType::U8, &Device::Cpu).unwrap();
    assert!(matches!(encoder.prepare_tokens(&image, Some(&mask), Pass::Inference), Err(Error::Shape { .. })));
}

#[test]
fn untrained_encoders_repeat_and_say_what_they_are() {
    let make = |config: &Dinov2Config, seed| Dinov2::untrained(config, seed, &Device::Cpu).unwrap();
    let config = Dinov2Config::tiny();
    let (a, b, c) = (make(&config, 1), make(&config, 1), make(&config, 2));
    for (name, t) in a.tensors() {
        assert_eq!(flat(&t), flat(&b.tensors()[&name]), "{name}");
    }
    assert_eq!(a.spec(), b.spec());
    assert_ne!(a.spec().digest, c.spec().digest);
    assert_ne!(a.spec().digest, make(&config.clone().with_registers(4), 1).spec().digest);
    assert!(a.spec().is_untrained());
    assert_eq!((a.spec().patch, a.spec().embed_dim, a.spec().prefix_tokens), (14, 192, 1));
    assert_eq!((a.spec().depth, a.spec().heads, a.spec().native_size), (6, 3, 224));
    assert!(make(&configs()[0], 1).blocks().len() == 3);
}

#[test]
fn a_moving_position_table_is_never_kept() {
    let mut encoder = encoder(&configs()[0], 10);
    encoder.train_only(&mut |name| name == "pos_embed").unwrap();
    let image = pixels(1, 42, 56);
    let cls = |e: &Dinov2| flat(&e.forward(&image, &Request::cls()).unwrap().last().unwrap().cls);
    let before = cls(&encoder);
    let table = &encoder.variables().unwrap()["pos_embed"];
    table.set(&table.affine(2.0, 0.5).unwrap()).unwrap();
    assert_ne!(before, cls(&encoder));
}

#[test]
fn position_tables_are_only_resampled_where_they_must() {
    let table = trunc_normal(1, "table", (1, 17, 8), 1.0, &Device::Cpu).unwrap();
    let resample = |grid, how| dinorad_backbone::resample_positions(&table, grid, how).unwrap();
    for how in [PositionResampling::OFFICIAL, PositionResampling::ANTIALIASED, PositionResampling::EXACT] {
        assert_eq!(flat(&resample((4, 4), how)), flat(&table));
        // The same number of patches, but not square.
        assert_eq!(resample((2, 8), how).dims(), [1, 17, 8]);
        assert_ne!(flat(&resample((2, 8), how)), flat(&table));
        assert_eq!(flat(&resample((9, 3), how).narrow(1, 0, 1).unwrap()), flat(&table.narrow(1, 0, 1).unwrap()));
    }
    let odd = Tensor::zeros((1, 16, 8), DType::F32, &Device::Cpu).unwrap();
    assert!(dinorad_backbone::resample_positions(&odd, (2, 2), PositionResampling::EXACT).is_err());
}

/// What is asked for decides what is computed, never what comes out: the class token and all gradients are the
/// same whether the last block's patches are computed too, and whether blocks are kept or computed again.
#[test]
fn shortcuts_of_training_change_no_gradient() {
    let config = Dinov2Config { depth: 3, layer_scale_init: 1.0, ..Dinov2Config::tiny() }.with_registers(2);
    let pixels = pixels(2, 42, 56);
    let run = |request: Request, recompute: bool, rate: f64| {
        let mut encoder = Dinov2::untrained(&config, 3, &Device::Cpu).unwrap();
        TrainableBackbone::set_drop_path(&mut encoder, rate).unwrap();
        TrainableBackbone::set_recompute(&mut encoder, recompute).unwrap();
        encoder.train_only(&mut |name| name != "mask_token").unwrap();
        let cls = encoder.forward(&pixels, &request).unwrap().last().unwrap().cls.clone();
        let store = dinorad_nn::ops::backward(&cls.sqr().unwrap().sum_all().unwrap()).unwrap();
        let all: Vec<(String, Vec<f32>)> = encoder
            .variables()
            .unwrap()
            .into_iter()
            .map(|(name, v)| {
                let gradient = store.get(&v).unwrap_or_else(|| panic!("{name} has none"));
                (name, flat(gradient))
            })
            .collect();
        (flat(&cls), all)
    };
    type Result = (Vec<f32>, Vec<(String, Vec<f32>)>);
    let close = |(a, grads): &Result, (b, others): &Result| {
        let off = |a: &[f32], b: &[f32]| {
            let size = b.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
            a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs() / size))
        };
        assert!(off(a, b) < 1e-5);
        for ((name, g), (_, other)) in grads.iter().zip(others) {
            assert!(off(g, other) < 1e-4, "{name}: {}", off(g, other));
        }
    };
    let passes = [(Pass::GRADIENTS, 0.0), (Pass::training(1, 2), 0.5)];
    for (pass, rate) in passes {
        let cls = Request::cls().with_pass(pass);
        let all = cls.clone().with_patches(Patches::Tokens);
        let want = run(all.clone(), false, rate);
        close(&run(cls.clone(), false, rate), &want);
        close(&run(all.clone(), true, rate), &want);
        close(&run(cls.clone(), true, rate), &want);
        // The same to the byte where all of a block is ours; where branches are dropped, candle adds up the
        // gradients of a block that is kept, in an order of its own.
        if rate == 0.0 {
            assert_eq!(run(all, true, rate), want);
            assert_eq!(run(cls.clone(), true, rate), run(cls, false, rate));
        }
    }
}
