//! The hot path of loading: gray images of several sizes to 224 x 224, resized alone and through
//! the whole preprocessing of a classifier. Throughput is in input pixels.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dinorad::transforms::{Filter, presets, resize};
use ndarray::Array3;

fn to_224(c: &mut Criterion) {
    let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
    let preset = presets::classification_eval(224, 224, Filter::BicubicAntialias, mean, std);
    let mut group = c.benchmark_group("to 224x224");
    for (h, w) in [(28, 28), (512, 512), (1024, 1024), (2500, 2048)] {
        let image = Array3::from_shape_fn((1, h, w), |(_, y, x)| ((y * 37 + x * 11) % 255) as f32);
        group.throughput(Throughput::Elements((h * w) as u64));
        group.bench_function(BenchmarkId::new("resize", format!("{h}x{w}")), |b| {
            b.iter(|| resize(black_box(image.view()), 224, 224, Filter::BicubicAntialias))
        });
        group.bench_function(BenchmarkId::new("classification_eval", format!("{h}x{w}")), |b| {
            b.iter(|| preset.apply(black_box(image.clone())))
        });
    }
}

criterion_group!(benches, to_224);
criterion_main!(benches);
