//! Throughput of products in the shapes of a ViT's training step, beside the `gemm` crate and the
//! processor's own peak.
//!
//!     cargo run --release -p dinorad-kernels --example gemm_peak
//!
//! On Linux in time on the processor, so that others who use it disturb little: per core.

use dinorad_kernels::{
    InstructionSet, Kernels,
    matmul::{Mat, Threads, gemm},
    product::{Finish, Operand, Product},
};

/// Seconds that this process has had a processor.
fn now() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let times = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("schedstat")).ok());
    times.filter_map(|s| s.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

fn best(mut f: impl FnMut()) -> f64 {
    f();
    (0..15)
        .map(|_| {
            let start = now();
            f();
            now() - start
        })
        .fold(f64::INFINITY, f64::min)
}

fn main() {
    let Some(kernels) = Kernels::of(InstructionSet::best()) else { return };
    println!("{} on {} threads", kernels.set().name(), rayon::current_num_threads());
    let rows = 2056;
    for (dim, hidden) in [(384, 1152), (384, 384), (384, 1536), (1536, 384), (768, 3072), (3072, 768)] {
        let wave = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 0.37).sin()).collect() };
        let (x, w, y) = (wave(rows * dim), wave(hidden * dim), wave(rows * hidden));
        let mut out = vec![0.0; (rows * hidden).max(rows * dim).max(dim * hidden)];
        let rate = |t: f64| 2.0 * (rows * dim * hidden) as f64 / t / 1e9;
        let forward = best(|| {
            let (a, b) = (Operand::rows(&x, dim), Operand::columns(&w, dim));
            Product::new((rows, hidden, dim), a, b).run(kernels, &mut out, Finish::Store);
        });
        let input = best(|| {
            let (a, b) = (Operand::rows(&y, hidden), Operand::rows(&w, dim));
            Product::new((rows, dim, hidden), a, b).run(kernels, &mut out, Finish::Store);
        });
        let weight = best(|| {
            let (a, b) = (Operand::columns(&y, hidden), Operand::rows(&x, dim));
            Product::new((hidden, dim, rows), a, b).run(kernels, &mut out, Finish::Store);
        });
        let theirs = best(|| {
            let (a, b) = (Mat::new(&x, rows, dim), Mat::new(&w, hidden, dim).t());
            gemm(&mut out[..rows * hidden], 0.0, a, b, 1.0, Threads::All);
        });
        println!(
            "{rows} x {dim} -> {hidden}: forward {:.0}, to the input {:.0}, to the weight {:.0}; gemm crate {:.0} GFLOP/s",
            rate(forward),
            rate(input),
            rate(weight),
            rate(theirs)
        );
    }
}
