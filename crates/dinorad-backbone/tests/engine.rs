//! The CPU engine on encoders of real size.

use dinorad_backbone::{
    Backbone, Dinov2, Dinov2Config, FinalNorm, Request,
    candle::{Device, Tensor},
    engine::{CpuEngine, EngineOptions},
};

fn vits14() -> Dinov2 {
    // gains of 1, so that the blocks count
    let config = Dinov2Config { layer_scale_init: 1.0, ..Dinov2Config::vits14() };
    Dinov2::untrained(&config, 1, &Device::Cpu).unwrap()
}

fn pixels(b: usize, h: usize, w: usize) -> Tensor {
    let wave = |i: usize| ((i as f32 * 0.37).sin() + (i as f32 * 0.011).cos()) * 1.2;
    Tensor::from_vec((0..b * 3 * h * w).map(wave).collect(), (b, 3, h, w), &Device::Cpu).unwrap()
}

#[test]
fn a_small_encoder_agrees_with_the_candle_path() {
    let model = vits14();
    let engine = CpuEngine::new(&model, &EngineOptions::default()).unwrap();
    for (b, h, w) in [(2, 224, 224), (1, 518, 518), (1, 98, 126)] {
        let x = pixels(b, h, w);
        for request in [Request::last(1), Request::last(4).with_norm(FinalNorm::Raw)] {
            let (got, want) = (engine.forward(&x, &request).unwrap(), model.forward(&x, &request).unwrap());
            for (fast, plain) in got.layers.iter().zip(&want.layers) {
                for (a, b) in [(Some(&fast.cls), Some(&plain.cls)), (fast.patches.as_ref(), plain.patches.as_ref())] {
                    let difference = (a.unwrap() - b.unwrap()).unwrap().abs().unwrap().max_all().unwrap();
                    let difference = difference.to_scalar::<f32>().unwrap();
                    assert!(difference < 1e-4, "{h}x{w}: {difference}");
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let model = vits14();
    let x = pixels(3, 224, 224);
    let mut first: Option<Vec<u32>> = None;
    for threads in [1, 2, 4] {
        let engine = CpuEngine::new(&model, &EngineOptions::default().with_threads(threads)).unwrap();
        let out = engine.forward(&x, &Request::last(2)).unwrap();
        let mut bytes = Vec::new();
        for layer in &out.layers {
            for t in [&layer.cls, layer.patches.as_ref().unwrap()] {
                bytes.extend(t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()));
            }
        }
        assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "{threads} threads");
    }
}
