//! The same seed gives the same numbers on any number of threads.

use dinorad_core::rng;
use dinorad_metrics::*;
use ndarray::Array2;
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
