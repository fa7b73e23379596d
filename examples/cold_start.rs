//! How long a user waits for the first features of an encoder that is on disk.
//!
//! ```text
//! cargo run --release --example cold_start -- WEIGHTS [SIZE]
//! ```
//!
//! Prints one line of JSON: `checked` is the file mapped, its layout recognised and every tensor's name
//! and shape compared with the architecture; `packed` the same with all bytes hashed, read and packed for
//! the CPU engine; `first` the first image through it, which with `packed` is what the user waits for;
//! `second` the next image.

use std::{path::PathBuf, time::Instant};

use dinorad_backbone::{
    LoadOptions, Request, Source,
    candle::{DType, Device, Tensor},
    inspect, load,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("usage: cold_start WEIGHTS [SIZE]")?);
    let size: usize = arguments.next().map_or(Ok(224), |s| s.parse())?;

    let start = Instant::now();
    let (config, report) = inspect(&path, &LoadOptions::default())?;
    let checked = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let (encoder, _) = load(&Source::Path(path), &LoadOptions::default())?;
    let packed = start.elapsed().as_secs_f64();

    let pixels = Tensor::zeros((1, 3, size, size), DType::F32, &Device::Cpu)?;
    let forward = || -> Result<f64, Box<dyn std::error::Error>> {
        let start = Instant::now();
        encoder.forward(&pixels, &Request::cls())?;
        Ok(start.elapsed().as_secs_f64())
    };
    let (first, second) = (forward()?, forward()?);
    println!(
        "{}",
        serde_json::json!({
            "depth": config.depth, "embed_dim": config.embed_dim, "tensors": report.loaded.len(),
            "checked_s": checked, "packed_s": packed, "first_s": first, "second_s": second,
        })
    );
    Ok(())
}
