//! How long the hot path of loading takes.
//!
//! `cargo test -p dinorad-transforms --release --test speed -- --ignored --nocapture`

use std::time::Instant;

use dinorad_transforms::{Filter, presets};
use ndarray::Array3;

#[test]
#[ignore = "a timing, run by hand"]
fn resize_and_evaluate() {
    let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
    for (h, w) in [(28, 28), (512, 512), (1024, 1024), (2500, 2048)] {
        let image = Array3::from_shape_fn((1, h, w), |(_, y, x)| ((y * 37 + x * 11) % 255) as f32);
        let preset = presets::classification_eval(224, 224, Filter::BicubicAntialias, mean, std);
        let rounds = 50;
        let time = |work: &dyn Fn()| {
            let best = (0..rounds).map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_secs_f64()
            });
            1e3 * best.fold(f64::INFINITY, f64::min)
        };
        let resize = time(&|| {
            std::hint::black_box(dinorad_transforms::resize(image.view(), 224, 224, Filter::BicubicAntialias).unwrap());
        });
        let all = time(&|| {
            std::hint::black_box(preset.apply(image.clone()).unwrap());
        });
        println!("{h}x{w} to 224x224: resize {resize:.3} ms, whole preset {all:.3} ms");
    }
}
