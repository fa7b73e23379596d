//! Numbers on the way to a model that its predictions alone would not show to be wrong.

use candle::{Device, Tensor};
use dinorad_core::rng;
use dinorad_heads::{
    AttentionTraining, DecoderCase, DecoderTraining, Fit, LinearDecoder, LogisticRegression, PixelLoss, Targets,
};
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

/// At a learning rate of 0 an epoch's loss is that of the first weights over all cases.
#[test]
fn an_epoch_tells_the_mean_loss_of_its_cases() {
    let mut rng = rng::stream(4, 0, 0);
    let cases: Vec<DecoderCase> = (0..5)
        .map(|_| {
            let values: Vec<f32> = (0..6 * 4).map(|_| rng.random_range(-1.0..1.0)).collect();
            let patches = Tensor::from_vec(values, (6, 4), &Device::Cpu).unwrap();
            DecoderCase { patches, grid: (2, 3), mask: Array2::from_shape_fn((4, 6), |(y, x)| ((y + x) % 3) as u8) }
        })
        .collect();
    let training = DecoderTraining { epochs: 1, batch_size: 2, learning_rate: 0.0, ..DecoderTraining::new(3) };
    let (_, history) = training.fit(&cases, &Device::Cpu).unwrap();
    let decoder = LinearDecoder::new(4, 3, training.seed, &Device::Cpu).unwrap();
    let loss = |case: &DecoderCase| {
        let logits = decoder.forward(&case.patches.unsqueeze(0).unwrap(), (2, 3), (4, 6)).unwrap();
        let labels: Vec<u8> = case.mask.iter().copied().collect();
        let labels = Tensor::from_vec(labels, (1, 4, 6), &Device::Cpu).unwrap();
        f64::from(PixelLoss::default().of(&logits, &labels).unwrap().to_scalar::<f32>().unwrap())
    };
    let mean = cases.iter().map(loss).sum::<f64>() / cases.len() as f64;
    assert!((history[0] - mean).abs() < 1e-5, "{history:?}, expected {mean}");
}
