//! Encoders: architecture x batch x size x precision x engine.
//!
//! `cargo bench --bench encoder` runs the small encoder; `-- vitb14` or any other part of a name
//! picks what is named so, and `DINORAD_BENCH_ALL=1` adds the base encoder and 518 pixels.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dinorad_backbone::{
    Backbone, LoadOptions, Request,
    candle::{DType, Device, Tensor},
    engine::{CpuEngine, EngineOptions},
    hub::{HubOptions, Silent},
    load_dinov2,
};

fn encoders(c: &mut Criterion) {
    let all = std::env::var_os("DINORAD_BENCH_ALL").is_some();
    let architectures: &[&str] = if all { &["tiny", "vits14", "vitb14"] } else { &["tiny", "vits14"] };
    let inputs: &[(usize, usize)] =
        if all { &[(1, 224), (8, 224), (32, 224), (1, 518)] } else { &[(1, 224), (8, 224)] };
    for arch in architectures {
        for (precision, dtype) in [("f32", DType::F32), ("bf16", DType::BF16)] {
            let source = format!("untrained:{arch}").parse().expect("a known encoder");
            let options = LoadOptions::default().with_dtype(dtype);
            let (model, _) =
                load_dinov2(&source, &options, &HubOptions::default(), &mut Silent).expect("random weights");
            let packed = CpuEngine::new(&model, &EngineOptions::default()).expect("packed weights");
            // candle's half precision on the CPU is for tests, not for waiting for
            let engines: &[(&str, &dyn Backbone)] =
                if dtype == DType::F32 { &[("cpu", &packed), ("candle", &model)] } else { &[("cpu", &packed)] };
            for &(batch, size) in inputs {
                let pixels = Tensor::rand(-1f32, 1.0, (batch, 3, size, size), &Device::Cpu).expect("pixels");
                let mut group = c.benchmark_group(format!("{arch}/b{batch}/{size}/{precision}"));
                group.throughput(Throughput::Elements(batch as u64)).sample_size(10);
                group.measurement_time(Duration::from_secs(5));
                for (name, engine) in engines {
                    for (what, request) in [("tokens", Request::last(1)), ("cls", Request::cls())] {
                        group.bench_function(format!("{name}/{what}"), |b| {
                            b.iter(|| black_box(engine.forward(&pixels, &request).expect("features")));
                        });
                    }
                }
                group.finish();
            }
        }
    }
}

/// What comes before the first features of a large encoder: packing its weights, and packing with
/// one forward pass.
fn packing(c: &mut Criterion) {
    if std::env::var_os("DINORAD_BENCH_ALL").is_none() {
        return;
    }
    let source = "untrained:vitl14".parse().expect("a known encoder");
    let (model, _) =
        load_dinov2(&source, &LoadOptions::default(), &HubOptions::default(), &mut Silent).expect("random weights");
    let pack = || CpuEngine::new(&model, &EngineOptions::default()).expect("packed weights");
    let pixels = Tensor::zeros((1, 3, 224, 224), DType::F32, &Device::Cpu).expect("pixels");
    let mut group = c.benchmark_group("vitl14/first features");
    group.sample_size(10);
    group.bench_function("pack", |b| b.iter(pack));
    group.bench_function("pack and one image", |b| b.iter(|| black_box(pack().forward(&pixels, &Request::cls()))));
}

criterion_group!(benches, encoders, packing);
criterion_main!(benches);
