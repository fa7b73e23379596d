//! Reading, decoding and preparing pictures for a classifier, as fast as the machine can.
//!
//! ```console
//! python crates/dinorad-datasets/examples/loader_pictures.py 1000 FOLDER
//! cargo run --release -p dinorad-datasets --example loader_speed -- FOLDER 4000 2
//! python crates/dinorad-datasets/examples/loader_speed.py FOLDER 4000 2
//! ```
//!
//! Both go over the pictures of a folder again and again until the given number is reached, in
//! order, with the given number of threads (processes in Python), through the study's preprocessing
//! for kNN: 256 x 256 by antialiased bicubic, the middle 224 x 224, each channel to 0..1, three
//! channels, ImageNet's mean and standard deviation.

use std::{env, error::Error, path::PathBuf, time::Instant};

use dinorad_datasets::{Error as DatasetError, LoadOptions, Loader};
use dinorad_io::image;
use dinorad_transforms::{
    Filter,
    presets::{IMAGENET_MEAN, IMAGENET_STD, classification_eval},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let folder = args.next().ok_or("usage: loader_speed FOLDER [PICTURES] [THREADS]")?;
    let wanted: usize = args.next().map_or(Ok(4000), |n| n.parse())?;
    let threads: usize = args.next().map_or(Ok(2), |n| n.parse())?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|f| f.extension().is_some_and(|e| e == "png"));
    files.sort();
    if files.is_empty() {
        return Err(format!("no .png files in {folder}").into());
    }
    let preset = classification_eval(256, 224, Filter::BicubicAntialias, IMAGENET_MEAN, IMAGENET_STD);
    let options = LoadOptions { threads, ahead: 4 * threads, ..LoadOptions::default() };
    let start = Instant::now();
    let mut loader = Loader::new(wanted, &options, move |i| {
        let path = &files[i % files.len()];
        let image = image::read(path)?;
        preset.apply(image.data).map_err(|source| DatasetError::Transform { path: path.clone(), source })
    });
    let (mut sum, mut early) = (0.0f64, 0);
    for item in loader.by_ref() {
        let (i, pixels) = item?;
        sum += pixels.iter().map(|v| f64::from(*v)).sum::<f64>();
        if i + 1 == wanted / 4 {
            early = resident_kib();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{wanted} pictures, {threads} threads: {seconds:.2} s, {:.1} pictures/s", wanted as f64 / seconds);
    println!(
        "memory {:.0} MiB after a quarter, {:.0} MiB at the end",
        early as f64 / 1024.0,
        resident_kib() as f64 / 1024.0
    );
    println!("{} skipped, mean {:.6}", loader.skipped().len(), sum / (wanted as f64 * 3.0 * 224.0 * 224.0));
    Ok(())
}

/// Resident memory in KiB where the system tells, else 0.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
