//! Throughput of products in the shapes of a ViT's training step, beside the `gemm` crate and the
//! processor's own peak.
//!
//!     cargo run --release -p dinorad-kernels --example gemm_peak

use std::time::Instant;

use dinorad_kernels::{
    InstructionSet, Kernels,
    matmul::{Mat, Threads, gemm},
    product::{Finish, Operand, Product},
};

fn best(mut f: impl FnMut()) -> f64 {
    f();
    (0..7)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
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
