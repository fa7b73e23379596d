//! The engine against the candle path, and against itself on other threads and in other batches.

use candle::{Device, Tensor};
use dinorad_nn::{LowRank, Pass};

use super::{CpuEngine, EngineOptions, InstructionSet, PixelScale};
use crate::{Backbone, Dinov2, Dinov2Config, Error, FeedForward, FinalNorm, Patches, Request};

fn pixels(shape: (usize, usize, usize, usize), seed: u64) -> Tensor {
    let n = shape.0 * shape.1 * shape.2 * shape.3;
    let mut state = seed | 1;
    let values: Vec<f32> = (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    let to = |t: &Tensor| t.to_dtype(candle::DType::F32).unwrap();
    (to(a) - to(b)).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn bytes(t: &Tensor) -> Vec<u32> {
    t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

/// A small encoder whose gains and widths leave no kernel at a round size.
fn odd(feed_forward: FeedForward, registers: usize) -> Dinov2 {
    let config = Dinov2Config {
        embed_dim: 60,
        depth: 3,
        heads: 5,
        hidden: if feed_forward == FeedForward::Mlp { 410 } else { 394 },
        feed_forward,
        grid: 5,
        layer_scale_init: 0.7,
        ..Dinov2Config::tiny()
    };
    Dinov2::untrained(&config.with_registers(registers), 5, &Device::Cpu).unwrap()
}

fn requests() -> Vec<Request> {
    vec![
        Request::last(1),
        Request::last(3).with_norm(FinalNorm::Raw),
        Request::cls(),
        Request::indices([2, 0]).with_patches(Patches::None),
        Request::indices([1]).with_patches(Patches::Grid).with_registers(),
        Request::last(2).with_patches(Patches::None).with_registers(),
    ]
}

#[test]
fn every_request_agrees_with_the_candle_path() {
    for (kind, registers) in [(FeedForward::Mlp, 0), (FeedForward::SwiGlu, 0), (FeedForward::Mlp, 3)] {
        let model = odd(kind, registers);
        for set in InstructionSet::ALL.into_iter().filter(|s| s.is_available()) {
            let engine = CpuEngine::new(&model, &EngineOptions::default().with_instruction_set(set)).unwrap();
            assert_eq!(engine.instruction_set(), set);
            assert_eq!(engine.spec(), model.spec());
            for shape in [(2, 3, 70, 70), (1, 3, 98, 126), (3, 3, 14, 14)] {
                let x = pixels(shape, 3);
                for request in requests() {
                    let (got, want) = (engine.forward(&x, &request).unwrap(), model.forward(&x, &request).unwrap());
                    assert_eq!(got.layers.len(), want.layers.len());
                    for (g, w) in got.layers.iter().zip(&want.layers) {
                        assert_eq!(g.grid, w.grid);
                        assert!(difference(&g.cls, &w.cls) < 2e-5, "{} {shape:?} {request:?}", set.name());
                        for (g, w) in [(&g.patches, &w.patches), (&g.registers, &w.registers)] {
                            assert_eq!(g.is_some(), w.is_some(), "{request:?}");
                            if let (Some(g), Some(w)) = (g, w) {
                                assert!(difference(g, w) < 2e-5, "{} {shape:?} {request:?}", set.name());
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn threads_batches_and_requests_do_not_change_a_bit() {
    let model = odd(FeedForward::Mlp, 2);
    let x = pixels((7, 3, 84, 56), 8);
    let mut first = None;
    for threads in [1, 2, 3, 4, 7] {
        let engine = CpuEngine::new(&model, &EngineOptions::default().with_threads(threads)).unwrap();
        let all = engine.forward(&x, &Request::last(1)).unwrap();
        let (cls, patches) = (bytes(&all.last().unwrap().cls), bytes(all.last().unwrap().patches.as_ref().unwrap()));
        let alone = engine.forward(&x.narrow(0, 4, 1).unwrap(), &Request::last(1)).unwrap();
        assert_eq!(bytes(&all.last().unwrap().cls.narrow(0, 4, 1).unwrap()), bytes(&alone.last().unwrap().cls));
        let cls_only = engine.forward(&x, &Request::cls()).unwrap();
        assert_eq!(cls, bytes(&cls_only.last().unwrap().cls), "the class token alone");
        let want = first.get_or_insert((cls.clone(), patches.clone()));
        assert!(*want == (cls, patches), "{threads} threads");
    }
}

#[test]
fn a_pool_of_the_callers_is_used() {
    let model = odd(FeedForward::SwiGlu, 0);
    let engine = CpuEngine::new(&model, &EngineOptions::default()).unwrap();
    let x = pixels((2, 3, 70, 70), 1);
    let outside = engine.forward(&x, &Request::cls()).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let inside = pool.install(|| engine.forward(&x, &Request::cls())).unwrap();
    assert_eq!(bytes(&outside.last().unwrap().cls), bytes(&inside.last().unwrap().cls));
}

#[test]
fn calls_at_the_same_time_do_not_disturb_each_other() {
    let engine = CpuEngine::new(&odd(FeedForward::Mlp, 0), &EngineOptions::default()).unwrap();
    let inputs: Vec<_> = (0..6).map(|i| pixels((1 + i % 3, 3, 14 * (1 + i), 70), i as u64)).collect();
    let want: Vec<_> =
        inputs.iter().map(|x| bytes(&engine.forward(x, &Request::cls()).unwrap().last().unwrap().cls)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (x, want) in inputs.iter().zip(&want) {
                    assert_eq!(&bytes(&engine.forward(x, &Request::cls()).unwrap().last().unwrap().cls), want);
                }
            });
        }
    });
}

#[test]
fn the_normalisation_can_be_folded_in() {
    let model = odd(FeedForward::Mlp, 0);
    let unit = ((pixels((2, 3, 70, 70), 2) + 1.0).unwrap() / 2.0).unwrap();
    let n = model.spec().normalization;
    let per_channel = |v: [f32; 3]| Tensor::new(&v, &Device::Cpu).unwrap().reshape((1, 3, 1, 1)).unwrap();
    let normalised = unit.broadcast_sub(&per_channel(n.mean)).unwrap().broadcast_div(&per_channel(n.std)).unwrap();
    let engine = CpuEngine::new(&model, &EngineOptions::default().with_pixels(PixelScale::Unit)).unwrap();
    let got = engine.forward(&unit, &Request::default()).unwrap();
    let want = model.forward(&normalised, &Request::default()).unwrap();
    assert!(difference(&got.last().unwrap().cls, &want.last().unwrap().cls) < 2e-5);
}

#[test]
fn adapters_are_merged() {
    let mut model = odd(FeedForward::Mlp, 0);
    for block in model.blocks_mut() {
        let a = (pixels((1, 1, 2, 60), 4) * 0.3).unwrap().reshape((2, 60)).unwrap();
        let b = (pixels((1, 1, 180, 2), 5) * 0.3).unwrap().reshape((180, 2)).unwrap();
        block.attn.qkv.set_adapters(vec![LowRank::new(a, b, 2.0)]).unwrap();
    }
    let engine = CpuEngine::new(&model, &EngineOptions::default()).unwrap();
    let x = pixels((2, 3, 70, 70), 2);
    let (got, want) = (engine.forward(&x, &Request::cls()).unwrap(), model.forward(&x, &Request::cls()).unwrap());
    assert!(difference(&got.last().unwrap().cls, &want.last().unwrap().cls) < 2e-5);
    let plain = odd(FeedForward::Mlp, 0).forward(&x, &Request::cls()).unwrap();
    assert!(difference(&plain.last().unwrap().cls, &want.last().unwrap().cls) > 1e-3, "the adapter does nothing");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let engine = CpuEngine::new(&odd(FeedForward::Mlp, 0), &EngineOptions::default()).unwrap();
    let forward = |x: &Tensor, r: &Request| engine.forward(x, r).map(|_| ());
    let x = pixels((1, 3, 70, 70), 1);
    assert!(matches!(forward(&pixels((1, 3, 70, 71), 1), &Request::cls()), Err(Error::InputSize { width: 71, .. })));
    assert!(matches!(forward(&pixels((1, 4, 70, 70), 1), &Request::cls()), Err(Error::Shape { .. })));
    assert!(matches!(forward(&x, &Request::last(4)), Err(Error::Request { .. })));
    assert!(matches!(forward(&x, &Request::cls().with_pass(Pass::GRADIENTS)), Err(Error::Request { .. })));
    // views and other precisions of pixels are fine
    let flipped = x.transpose(2, 3).unwrap();
    let copy = flipped.contiguous().unwrap();
    let (a, b) = (engine.forward(&flipped, &Request::cls()).unwrap(), engine.forward(&copy, &Request::cls()).unwrap());
    assert_eq!(bytes(&a.last().unwrap().cls), bytes(&b.last().unwrap().cls));
    forward(&x.to_dtype(candle::DType::F16).unwrap(), &Request::cls()).unwrap();
}
