//! The long computations of the metrics: bootstrap at the size of NIH ChestX-ray14's test split,
//! DeLong's test, surface distances of a large organ.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dinorad::{
    core::rng,
    metrics::{BootstrapOptions, Resampling, SurfaceDistances, bootstrap_multilabel_auroc, delong_paired},
};
use ndarray::{Array2, Array3};
use rand::Rng;

fn noisy(cases: usize, labels: usize) -> (Array2<f32>, Array2<u8>) {
    let mut stream = rng::stream(11, 0, 0);
    let targets = Array2::from_shape_simple_fn((cases, labels), || u8::from(stream.random::<f64>() < 0.1));
    let scores = targets.mapv(|t| 0.3 * f32::from(t) + stream.random::<f32>());
    (scores, targets)
}

fn bootstrap(c: &mut Criterion) {
    let (scores, targets) = noisy(25_596, 14);
    let resampling = Resampling::by_case(25_596).expect("cases");
    let options = BootstrapOptions::default();
    let mut group = c.benchmark_group("bootstrap of AUROC, 1000 draws x 14 labels x 25596 cases");
    group.sample_size(10);
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        group.bench_function(BenchmarkId::from_parameter(threads), |b| {
            b.iter(|| pool.install(|| bootstrap_multilabel_auroc(scores.view(), targets.view(), &resampling, &options)))
        });
    }
}

fn delong(c: &mut Criterion) {
    let (scores, targets) = noisy(1_000_000, 2);
    let mut group = c.benchmark_group("DeLong, two models");
    group.sample_size(10);
    group.bench_function("1000000 cases", |b| {
        b.iter(|| delong_paired(scores.column(0), scores.column(1), black_box(targets.column(0)), 0.95))
    });
}

fn surface(c: &mut Criterion) {
    let ball = |r: f64| {
        Array3::from_shape_fn((200, 512, 512), |(z, y, x)| {
            let at = |i: usize, c: f64, s: f64| ((i as f64 - c) * s).powi(2);
            at(z, 100.0, 1.5) + at(y, 256.0, 0.8) + at(x, 256.0, 0.8) < r * r
        })
    };
    let (a, b) = (ball(100.0), ball(97.0));
    let mut group = c.benchmark_group("surface distances");
    group.sample_size(10);
    group.bench_function("200x512x512", |bencher| {
        bencher.iter(|| SurfaceDistances::between(a.view(), b.view(), &[1.5, 0.8, 0.8]))
    });
}

criterion_group!(benches, bootstrap, delong, surface);
criterion_main!(benches);
