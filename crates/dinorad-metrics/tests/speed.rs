//! Timings of the long computations, and that threads change nothing in them.
//!
//! `cargo test -p dinorad-metrics --release --test speed -- --ignored --nocapture`

use std::time::Instant;

use dinorad_core::rng;
use dinorad_metrics::*;
use ndarray::{Array1, Array2, Array3};
use rand::Rng;

fn noisy(cases: usize, labels: usize) -> (Array2<f32>, Array2<u8>) {
    let mut stream = rng::stream(11, 0, 0);
    let targets = Array2::from_shape_simple_fn((cases, labels), || u8::from(stream.random::<f64>() < 0.1));
    let scores = targets.mapv(|t| 0.3 * f32::from(t) + stream.random::<f32>());
    (scores, targets)
}

fn threads<T: Send>(n: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(work)
}

#[test]
fn threads_change_nothing() {
    let (scores, targets) = noisy(400, 3);
    let patients: Vec<usize> = (0..400).map(|i| i / 3).collect();
    let resampling = Resampling::by_group(&patients).unwrap();
    let options = BootstrapOptions { draws: 60, seed: 5, level: 0.9 };
    let run = |n| {
        threads(n, || {
            let boot = bootstrap_multilabel_auroc(scores.view(), targets.view(), &resampling, &options).unwrap();
            let (a, b, t) = (scores.column(0), scores.column(1), targets.column(0));
            (boot, paired_permutation_auroc(a, b, t, &resampling, 60, 5).unwrap())
        })
    };
    let one = run(1);
    for n in [2, 5] {
        assert_eq!(run(n), one);
    }
}

#[test]
#[ignore = "a timing, run by hand"]
fn bootstrap_of_chest_radiographs() {
    let (scores, targets) = noisy(25_596, 14);
    let resampling = Resampling::by_case(25_596).unwrap();
    let options = BootstrapOptions::default();
    let mut results = vec![];
    for n in [1, 2] {
        let start = Instant::now();
        let run = || bootstrap_multilabel_auroc(scores.view(), targets.view(), &resampling, &options).unwrap();
        results.push(threads(n, run));
        println!("1,000 draws x 14 labels x 25,596 cases on {n} threads: {:.2} s", start.elapsed().as_secs_f64());
    }
    assert_eq!(results[0], results[1]);
    assert!(results[0].mean.is_some_and(|m| m.draws == 1000));
}

#[test]
#[ignore = "a timing, run by hand"]
fn surface_of_a_large_organ() {
    let ball = |r: f64| {
        Array3::from_shape_fn((200, 512, 512), |(z, y, x)| {
            let at = |i: usize, c: f64, s: f64| ((i as f64 - c) * s).powi(2);
            at(z, 100.0, 1.5) + at(y, 256.0, 0.8) + at(x, 256.0, 0.8) < r * r
        })
    };
    let (a, b) = (ball(100.0), ball(97.0));
    let start = Instant::now();
    let d = SurfaceDistances::between(a.view(), b.view(), &[1.5, 0.8, 0.8]).unwrap();
    println!("surface distances of 200x512x512 in {:.2} s", start.elapsed().as_secs_f64());
    assert!((d.hausdorff().unwrap() - 3.0).abs() < 1.6);
}

#[test]
#[ignore = "a timing, run by hand"]
fn delong_of_many_cases() {
    let (scores, targets) = noisy(1_000_000, 2);
    let start = Instant::now();
    let test = delong_paired(scores.column(0), scores.column(1), targets.column(0), 0.95).unwrap();
    println!("DeLong of two models on a million cases in {:.2} s", start.elapsed().as_secs_f64());
    assert!(test.p_value < 1e-6);
    let ones = Array1::from_elem(3, 1u8);
    assert!(delong(scores.column(0).slice(ndarray::s![..3]), ones.view(), 0.95).is_err());
}
