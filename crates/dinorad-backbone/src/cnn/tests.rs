use candle::{DType, Device, Tensor};
use dinorad_nn::Pass;
use proptest::prelude::*;

use super::{
    ops::{Affine, ConvLayer, Ops, Parameters, Window},
    *,
};
use crate::{
    Patches,
    testing::{difference, random},
};

fn plain() -> Plain {
    Plain { device: Device::Cpu, dtype: DType::F32 }
}

fn packed() -> Packed {
    Packed::new(Kernels::of(InstructionSet::best()).unwrap())
}

fn norm(seed: u64, name: &str, channels: usize) -> Affine {
    let vector = |part: &str| random(seed, &format!("{name}.{part}"), &[channels]);
    Affine { scale: vector("scale"), shift: vector("shift") }
}

/// Parameters as after training: gains of both signs, variances over several magnitudes.
fn tensors(config: &CnnConfig, seed: u64) -> BTreeMap<String, Tensor> {
    let fill = |(name, shape): (String, Vec<usize>)| {
        let t = random(seed, &name, &shape);
        let inputs = shape.iter().skip(1).product::<usize>() as f64;
        let t = match name.rsplit('.').next() {
            Some("running_var") => t.affine(3.0, 0.0).unwrap().exp().unwrap(),
            _ if shape.len() > 1 => (t * (3.0 / inputs).sqrt()).unwrap(),
            Some("weight") => t.affine(1.0, 0.6).unwrap(),
            _ => t,
        };
        (name, t)
    };
    config.parameters().into_iter().map(fill).collect()
}

fn build(config: &CnnConfig, seed: u64, kernels: CnnKernels) -> Cnn {
    let options = LoadOptions::default();
    let spec = BackboneSpec::untrained(Family::Resnet, seed, &options, "", Normalization::IMAGENET);
    Cnn::from_tensors(config, spec, tensors(config, seed), &options, kernels).unwrap()
}

/// One small network of every kind.
fn networks() -> Vec<CnnConfig> {
    let stage = |blocks, width, out| ResNetStage { blocks, width, out };
    let bottleneck = vec![stage(2, 4, 20), stage(1, 6, 24)];
    let basic = vec![stage(1, 8, 8), stage(2, 12, 12), stage(1, 5, 5)];
    vec![
        CnnConfig::ResNet(ResNetConfig { stem: 8, block: ResNetBlock::Bottleneck, stages: bottleneck }),
        CnnConfig::ResNet(ResNetConfig { stem: 8, block: ResNetBlock::Basic, stages: basic }),
        CnnConfig::DenseNet(DenseNetConfig { stem: 10, growth: 3, bottleneck: 7, blocks: vec![3, 2, 1] }),
        CnnConfig::Vgg(VggConfig { stages: vec![vec![5], vec![6, 17]], batch_norm: false, side: 3, hidden: [70, 9] }),
        CnnConfig::Vgg(VggConfig { stages: vec![vec![5, 4], vec![6]], batch_norm: true, side: 2, hidden: [8, 3] }),
    ]
}

#[test]
fn folding_changes_nothing() {
    for seed in 0..20 {
        let (channels, out) = (3, 5);
        let name = |part: &str| format!("bn.{part}");
        let mut parameters = Parameters(BTreeMap::new());
        for part in ["weight", "bias", "running_mean"] {
            parameters.0.insert(name(part), random(seed, part, &[out]));
        }
        // From 1e-8, where the summand in the root counts, to 1e3.
        let variance = random(seed, "variance", &[out]).affine(13.0, -5.0).unwrap().exp().unwrap();
        parameters.0.insert(name("running_var"), variance.clone());
        parameters.0.insert("conv.weight".into(), random(seed, "conv", &[out, channels, 3, 3]));
        let values = |part: &str| parameters.0[&name(part)].reshape((1, out, 1, 1)).unwrap();
        let x = random(seed, "x", &[2, channels, 7, 6]);

        let y = x.conv2d(&parameters.0["conv.weight"], 1, 1, 1, 1).unwrap();
        let deviation = (variance.reshape((1, out, 1, 1)).unwrap() + 1e-5).unwrap().sqrt().unwrap();
        let y = y.broadcast_sub(&values("running_mean")).unwrap().broadcast_div(&deviation).unwrap();
        let want = y.broadcast_mul(&values("weight")).unwrap().broadcast_add(&values("bias")).unwrap();

        let norm = parameters.batch_norm("bn").unwrap();
        let layer = parameters.conv("conv").unwrap().with_batch_norm(&norm).unwrap();
        let ops = plain();
        let got = ops.conv(&ops.conv_layer(layer).unwrap(), &x, None).unwrap();
        // Rounding grows with the values, which small variances make large.
        let range = want.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(difference(&got, &want) < 1e-6 * range.max(1.0), "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn packed_convolutions_are_those_of_candle(
        seed in 0u64..1000,
        batch in 1usize..3,
        (h, w) in (1usize..14, 1usize..14),
        // Of one slab, of several pixels a slab, of several slabs a pixel.
        channels in prop_oneof![8 => 1usize..20, 2 => 90usize..130, 1 => 769usize..800],
        out in 1usize..70,
        (side, stride, padding) in (1usize..6, 1usize..4, 0usize..4),
        (before, add, relu) in any::<(bool, bool, bool)>(),
    ) {
        prop_assume!(h + 2 * padding >= side && w + 2 * padding >= side);
        let x = random(seed, "x", &[batch, channels, h, w]);
        let layer = ConvLayer {
            weight: (random(seed, "w", &[out, channels, side, side]) / ((channels * side * side) as f64).sqrt()).unwrap(),
            bias: random(seed, "b", &[out]),
            stride,
            padding,
            before: before.then(|| norm(seed, "before", channels)),
            relu,
        };
        let size = |n: usize| (n + 2 * padding - side) / stride + 1;
        let onto = add.then(|| random(seed, "add", &[batch, out, size(h), size(w)]));
        let (plain, packed) = (plain(), packed());
        let want = plain.conv(&plain.conv_layer(layer.clone()).unwrap(), &x, onto.clone()).unwrap();
        let input = |t: &Tensor| packed.input(t).unwrap();
        let got = packed.conv(&packed.conv_layer(layer).unwrap(), &input(&x), onto.as_ref().map(input)).unwrap();
        prop_assert!(difference(&packed.tensor(&got).unwrap(), &want) < 2e-5);
    }

    #[test]
    fn packed_poolings_are_those_of_candle(
        seed in 0u64..1000,
        batch in 1usize..3,
        (h, w) in (2usize..20, 2usize..20),
        channels in 1usize..20,
        side in 1usize..8,
    ) {
        // Not negative: what follows a ReLU.
        let x = random(seed, "x", &[batch, channels, h, w]).abs().unwrap();
        let (plain, packed) = (plain(), packed());
        let map = packed.input(&x).unwrap();
        for window in [Window::STEM, Window::HALF] {
            let got = packed.tensor(&packed.max_pool(&map, window).unwrap()).unwrap();
            prop_assert_eq!(difference(&got, &plain.max_pool(&x, window).unwrap()), 0.0);
        }
        let got = packed.tensor(&packed.mean_pool(&map).unwrap()).unwrap();
        prop_assert!(difference(&got, &plain.mean_pool(&x).unwrap()) < 1e-6);
        let got = packed.tensor(&packed.adaptive_mean_pool(&map, side).unwrap()).unwrap();
        prop_assert!(difference(&got, &plain.adaptive_mean_pool(&x, side).unwrap()) < 1e-6);
        prop_assert!(difference(&packed.mean(&map).unwrap(), &plain.mean(&x).unwrap()) < 1e-6);
    }

    #[test]
    fn networks_are_the_same_with_either_kernels_and_in_any_batch(
        seed in 0u64..1000,
        kind in 0usize..5,
        (h, w) in (17usize..70, 17usize..70),
        batch in 2usize..4,
    ) {
        let config = &networks()[kind];
        let x = random(seed, "pixels", &[batch, 3, h, w]);
        let (plain, packed) = (build(config, seed, CnnKernels::Plain), build(config, seed, CnnKernels::Packed));
        let (want, got) = (plain.features(&x).unwrap(), packed.features(&x).unwrap());
        let range = want.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        prop_assert!(difference(&got, &want) < 1e-5 * range.max(1.0));
        for i in 0..batch {
            let one = x.narrow(0, i, 1).unwrap();
            prop_assert_eq!(difference(&packed.features(&one).unwrap(), &got.narrow(0, i, 1).unwrap()), 0.0);
            prop_assert!(difference(&plain.features(&one).unwrap(), &want.narrow(0, i, 1).unwrap()) < 1e-5 * range.max(1.0));
        }
    }
}

#[test]
fn the_least_image_is_the_smallest_that_works() {
    for config in networks() {
        let least = config.least_side();
        for kernels in [CnnKernels::Plain, CnnKernels::Packed] {
            let encoder = build(&config, 1, kernels);
            assert!(encoder.features(&random(1, "x", &[1, 3, least, least + 3])).is_ok(), "{config:?}");
            if least > 1 {
                let small = random(1, "x", &[1, 3, least - 1, 40]);
                let error = encoder.features(&small).unwrap_err().to_string();
                assert!(error.contains(&format!("at least {least}")), "{error}");
                // The number is not only a limit of our own: nothing would be left.
                let Runner::Packed(ops, net) = &encoder.runner else { continue };
                assert!(net.forward(ops, &small, &mut |_, _| Ok(())).is_err(), "{config:?}");
            }
        }
    }
}

#[test]
fn what_a_network_cannot_offer_is_said() {
    let encoder = build(&networks()[0], 0, CnnKernels::Packed);
    let pixels = random(0, "x", &[1, 3, 32, 32]);
    let error = |request: &Request| encoder.forward(&pixels, request).unwrap_err();
    for request in [Request::last(1), Request::cls().with_patches(Patches::Grid)] {
        let text = error(&request).to_string();
        assert!(text.contains("patch tokens") && text.contains("dinov2-small"), "{text}");
    }
    assert!(matches!(error(&Request::last(4).with_patches(Patches::None)), Error::NotOffered { .. }));
    assert!(matches!(error(&Request::cls().with_pass(Pass::GRADIENTS)), Error::Request { .. }));
    for shape in [&[1, 1, 32, 32][..], &[0, 3, 32, 32], &[3, 32, 32]] {
        let wrong = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(encoder.forward(&wrong, &Request::cls()), Err(Error::Shape { .. })));
    }
}

#[test]
fn halves_are_rounded_results() {
    let options = LoadOptions::default().with_dtype(DType::BF16);
    let config = &networks()[2];
    let full = Cnn::untrained(config, 3, &LoadOptions::default()).unwrap();
    let half = Cnn::untrained(config, 3, &options).unwrap();
    let pixels = random(0, "x", &[1, 3, 40, 40]);
    let (full_out, half_out) = (full.features(&pixels).unwrap(), half.features(&pixels).unwrap());
    assert_eq!(half_out.dtype(), DType::BF16);
    assert_ne!(full.spec().digest, half.spec().digest);
    let rounded = full_out.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    assert_eq!(difference(&rounded, &half_out.to_dtype(DType::F32).unwrap()), 0.0);
}

#[test]
fn slabs_cover_all_inputs_once() {
    for (channels, pixels) in
        [(3, 49), (64, 9), (128, 9), (512, 9), (512, 49), (768, 1), (769, 1), (1920, 1), (2000, 9)]
    {
        let slabs = packed::PackedConv::slabs(channels, pixels);
        let mut next = 0;
        for slab in &slabs {
            assert_eq!(slab.start, next);
            assert!(!slab.is_empty() && slab.len() <= 768);
            // Whole pixels, or a part of one.
            let (first, last) = (slab.start / channels, (slab.end - 1) / channels);
            assert!(first == last || (slab.start % channels == 0 && slab.end % channels == 0));
            next = slab.end;
        }
        assert_eq!(next, channels * pixels);
    }
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let config = &networks()[0];
    let encoder = build(config, 2, CnnKernels::Packed);
    let pixels = random(2, "x", &[2, 3, 61, 47]);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| encoder.features(&pixels).unwrap())
    };
    let one = on(1);
    for threads in [2, 3, 8] {
        assert_eq!(difference(&one, &on(threads)), 0.0);
    }
}
