//! Numbers on the way to a model that its predictions alone would not show to be wrong.

use dinorad_core::rng;
use dinorad_heads::{AttentionTraining, Fit, LogisticRegression, Targets};
use ndarray::{Array2, ArrayView2};
use rand::Rng;

/// Features whose columns have very different scales, and a class that follows from some of them.
fn scaled(rows: usize, dim: usize, seed: u64) -> (Array2<f32>, Targets) {
    let mut rng = rng::stream(seed, 0, 0);
    let x = Array2::from_shape_fn((rows, dim), |(_, c)| 10f32.powi(c as i32 % 4 - 2) * rng.random_range(-1.0..1.0));
    let y = (0..rows).map(|r| {
        let signal = x[[r, 0]] * 100.0 + x[[r, 1]] * 10.0 - x[[r, 2]] + rng.random_range(-0.7..0.7);
        u32::from(signal > 0.0) + u32::from(signal > 1.0)
    });
    let y = Targets::classes(y.collect(), 3).unwrap();
    (x, y)
}

/// A wrong preconditioner, scale or line search reaches the same optimum of a convex problem, later.
#[test]
fn logistic_regression_needs_few_iterations() {
    for (c, most) in [(1e-3, MOST[0]), (1.0, MOST[1]), (1e3, MOST[2])] {
        let (x, y) = scaled(400, 24, 3);
        let model = LogisticRegression::new(c).fit(x.view(), &y).unwrap();
        assert!(model.converged(), "C = {c}");
        assert!(model.iterations() <= most, "C = {c}: {} iterations, expected {most} at the most", model.iterations());
    }
}

/// It takes 13, 17 and 31.
const MOST: [usize; 3] = [16, 21, 36];

/// Slices are centred and scaled before the pooling learns: other units change nothing.
#[test]
fn attention_does_not_depend_on_the_unit_of_features() {
    let mut rng = rng::stream(9, 0, 0);
    let scans: Vec<Array2<f32>> = (0..24)
        .map(|i| {
            Array2::from_shape_fn((3 + i % 4, 5), |(s, c)| {
                let mark = if s == 1 && c == 0 { (i % 2) as f32 * 2.0 } else { 0.0 };
                mark + rng.random_range(-0.5..0.5)
            })
        })
        .collect();
    let y = Targets::classes((0..24).map(|i| i % 2).collect(), 2).unwrap();
    let training = AttentionTraining { hidden: 8, epochs: 6, ..AttentionTraining::default() };
    let fitted = |unit: f32, offset: f32| {
        let other: Vec<Array2<f32>> = scans.iter().map(|s| s.mapv(|v| unit * v + offset)).collect();
        let views: Vec<ArrayView2<'_, f32>> = other.iter().map(|s| s.view()).collect();
        training.fit(&views, &y).unwrap().1
    };
    let (plain, large) = (fitted(1.0, 0.0), fitted(64.0, 8.0));
    assert!(plain[5] < plain[0], "{plain:?}");
    for (a, b) in plain.iter().zip(&large) {
        assert!((a - b).abs() < 1e-3, "{plain:?} {large:?}");
    }
}
