//! One pre-training step, written down so that `step.py` can do the same in PyTorch and compare losses, gradients,
//! time and memory.
//!
//! ```text
//! cargo run --release -p dinorad-pretrain --example step -- FOLDER [SIDE OF LARGE CROPS] [BATCH] [STEPS TO TIME]
//! python crates/dinorad-pretrain/examples/step.py FOLDER [STEPS TO TIME]
//! ```

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use dinorad_backbone::{Backbone, Dinov2, Dinov2Config, candle::Device};
use dinorad_nn::{Trainable, store};
use dinorad_pretrain::{Feed, HeadConfig, Pretrainer, Settings, Views};
use ndarray::Array3;

fn main() -> ExitCode {
    match step() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn image(i: usize) -> Array3<f32> {
    Array3::from_shape_fn((1, 256, 256), |(_, y, x)| {
        ((y * (i % 7 + 1) + x * (i % 5 + 2)) % 97 + (y / 40 * x / 30) % 50) as f32
    })
}

fn step() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: step FOLDER [SIDE] [BATCH] [STEPS]")?);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |v| v.parse());
    let (side, batch_size, timed) = (number(224)?, number(8)?, number(0)?);
    let settings = Settings {
        steps: 1000,
        batch_size,
        views: Views { global_size: side, local_size: (side * 7 / 16).div_ceil(14) * 14, ..Views::default() },
        head: HeadConfig::default(),
        ..Settings::default()
    };
    let encoder = Dinov2::untrained(&Dinov2Config::tiny(), 0, &Device::Cpu)?;
    let feed = Feed::new(Arc::new((0..64).map(image).collect::<Vec<_>>()), &settings, encoder.spec())?;
    let mut training = Pretrainer::new(encoder, &settings)?;
    std::fs::create_dir_all(&folder)?;
    training.teacher()?.save_hugging_face(&folder.join("encoder"))?;

    let batch = feed.batch(0)?;
    let gradients = training.gradients(&batch)?;
    let mut all = vec![
        ("global".to_owned(), batch.global.clone()),
        ("local".to_owned(), batch.local.clone().ok_or("no small crops")?),
        ("masks".to_owned(), batch.masks.tensor(&Device::Cpu)?),
    ];
    for (name, t) in training.student().tensors() {
        all.push((format!("weight.{name}"), t.detach()));
    }
    for name in gradients.names() {
        all.extend(gradients.get(name).map(|t| (format!("gradient.{name}"), t.clone())));
    }
    // copies: the step writes in place
    let all = all.into_iter().map(|(name, t)| Ok((name, t.copy()?))).collect::<Result<Vec<_>, dinorad_nn::Error>>()?;
    let losses = training.step(&batch)?.losses;
    let named: Vec<_> = all.iter().map(|(name, t)| (name.as_str(), t)).collect();
    store::save(&folder.join("step.safetensors"), &named, &[])?;
    std::fs::write(folder.join("losses.json"), serde_json::to_string(&losses)?)?;
    println!("losses {losses:?}");
    if timed > 0 {
        let mut seconds = Vec::new();
        for i in 1..=timed {
            let batch = feed.batch(i)?;
            let started = Instant::now();
            training.step(&batch)?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        println!("{median:.3} s a step, {:.2} images/s", batch_size as f64 / median);
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
        }
    }
    Ok(())
}
