//! The kernels of the CPU engine one by one, at the sizes of ViT-S and ViT-B, on one thread, beside
//! the `gemm` crate at the same sizes. Throughput is in operations (two per multiply-add).

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use dinorad_backbone::engine::{
    InstructionSet,
    probe::{After, Attention, Norm, Product},
};

fn sets() -> impl Iterator<Item = InstructionSet> {
    InstructionSet::ALL.into_iter().filter(|s| s.is_available() && *s != InstructionSet::Portable)
}

fn group<'a>(c: &'a mut Criterion, name: String, operations: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(operations as u64));
    group
}

fn products(c: &mut Criterion) {
    for (rows, inputs, outputs) in [(128, 384, 1152), (128, 384, 384), (128, 768, 2304), (257, 384, 384)] {
        let mut group = group(c, format!("product/{rows}x{inputs}x{outputs}"), 2 * rows * inputs * outputs);
        for set in sets() {
            for after in [After::Bias, After::Gelu, After::Residual] {
                let Some(mut product) = Product::new(set, rows, inputs, outputs, after) else { continue };
                group.bench_function(format!("{}/{after:?}", set.name()), |b| b.iter(|| product.run()));
            }
        }
        let (a, b) = (vec![0.1f32; rows * inputs], vec![0.1f32; inputs * outputs]);
        let mut out = vec![0f32; rows * outputs];
        group.bench_function("gemm", |bencher| {
            bencher.iter(|| gemm_crate(rows, inputs, outputs, &a, &b, black_box(&mut out)))
        });
        group.finish();
    }
    for (rows, inputs, outputs) in [(128, 1536, 384)] {
        let mut group = group(c, format!("gated/{rows}x{inputs}x{outputs}"), 4 * rows * inputs * outputs);
        for set in sets() {
            let Some(mut product) = Product::new(set, rows, inputs, outputs, After::SwiGlu) else { continue };
            group.bench_function(set.name(), |b| b.iter(|| product.run()));
        }
        group.finish();
    }
}

/// `out = a · bᵀ` with `b` as PyTorch stores weights.
#[allow(unsafe_code)]
fn gemm_crate(m: usize, k: usize, n: usize, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() == m * k && b.len() == n * k && out.len() == m * n);
    // SAFETY: the strides stay within the lengths asserted above; `out` is not read.
    unsafe {
        let (to, a, b) = (out.as_mut_ptr(), a.as_ptr(), b.as_ptr());
        let (row, inner) = (n as isize, k as isize);
        gemm::gemm(
            m,
            n,
            k,
            to,
            1,
            row,
            false,
            a,
            1,
            inner,
            b,
            inner,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

fn attentions(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    for (tokens, head_dim) in [(257, 64), (1370, 64), (257, 32), (257, 80)] {
        let mut group = group(c, format!("attention/{tokens}x{head_dim}"), 4 * tokens * tokens * head_dim);
        for set in sets() {
            let Some(mut attention) = pool.install(|| Attention::new(set, tokens, 1, head_dim)) else { continue };
            group.bench_function(set.name(), |b| pool.install(|| b.iter(|| attention.run())));
        }
        group.finish();
    }
}

fn norms(c: &mut Criterion) {
    for (rows, dim) in [(128, 384), (128, 768)] {
        let mut group = group(c, format!("norm/{rows}x{dim}"), rows * dim);
        for set in sets() {
            let Some(mut norm) = Norm::new(set, rows, dim) else { continue };
            group.bench_function(set.name(), |b| b.iter(|| norm.run()));
        }
        group.finish();
    }
}

criterion_group!(benches, products, attentions, norms);
criterion_main!(benches);
