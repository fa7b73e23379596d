//! Pre-trains a tiny encoder on the drawn images of this file, half-size first, and writes it as a folder that
//! `transformers` loads.
//!
//! ```text
//! cargo run --release -p dinorad-pretrain --example pretrain -- OUT_FOLDER [STEPS]
//! ```
//!
//! A run that is broken off is gone on with by the same command.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use dinorad_backbone::{Backbone, Dinov2, Dinov2Config, candle::Device};
use dinorad_core::Progress;
use dinorad_pretrain::{Augmentation, Feed, HeadConfig, Intensity, Pretrainer, RunOptions, Settings, Views, run};
use ndarray::Array3;

/// A body with organs that differ from image to image, in HU.
fn slice(i: usize) -> Array3<f32> {
    Array3::from_shape_fn((1, 128, 128), |(_, y, x)| {
        let at = |cy: f32, cx: f32| ((y as f32 - cy).powi(2) + (x as f32 - cx).powi(2)).sqrt();
        let drift = (i % 17) as f32;
        match () {
            _ if at(64.0, 64.0) > 55.0 => -1000.0,
            _ if at(50.0 + drift, 45.0) < 8.0 + (i % 5) as f32 * 2.0 => 60.0,
            _ if at(70.0, 90.0 - drift) < 6.0 + (i % 7) as f32 => 130.0,
            _ if at(95.0, 64.0) < 7.0 => 600.0,
            _ => -80.0 + ((x * 7 + y * 13 + i) % 20) as f32,
        }
    })
}

struct Told;

impl Progress for Told {
    fn message(&self, text: &str) {
        eprintln!("{text}");
    }
}

fn main() -> ExitCode {
    match pretrain() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn pretrain() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = PathBuf::from(arguments.next().ok_or("usage: pretrain OUT_FOLDER [STEPS]")?);
    let steps = arguments.next().map_or(Ok(40), |steps| steps.parse())?;
    let settings = Settings {
        steps,
        batch_size: 8,
        views: Views { local: 4, global_size: 112, local_size: 56, full_size_from: 0.75, ..Views::default() },
        augmentation: Augmentation::of(Intensity::ct("soft-tissue".parse()?)),
        head: HeadConfig { layers: 3, hidden: 256, bottleneck: 64, prototypes: 512 },
        ..Settings::default()
    };
    let config = Dinov2Config { embed_dim: 96, depth: 4, heads: 3, hidden: 384, grid: 8, ..Dinov2Config::tiny() };
    let encoder = Dinov2::untrained(&config.with_registers(2), settings.seed, &Device::Cpu)?;
    let feed = Feed::new(Arc::new((0..64).map(slice).collect::<Vec<_>>()), &settings, encoder.spec())?;
    let mut training = Pretrainer::new(encoder, &settings)?;
    let options = RunOptions {
        folder: Some(&out),
        checkpoint_every: 10,
        identity: "drawn",
        progress: &Told,
        ..RunOptions::default()
    };
    let ended = run(&mut training, &mut |step| feed.batch(step), None, &options)?;
    let folder = out.join("encoder");
    if !folder.exists() {
        training.teacher()?.save_hugging_face(&folder)?;
    }
    let losses = (ended.losses.first(), ended.losses.last());
    if let (Some(first), Some(last)) = losses {
        println!("loss {first:.3} to {last:.3} in {} steps; {}", ended.losses.len(), folder.display());
    }
    Ok(())
}
