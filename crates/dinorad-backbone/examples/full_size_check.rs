//! Compares full-size encoders with what each one's own library computed.
//!
//! ```text
//! python crates/dinorad-backbone/tests/full_size/make.py OUT
//! cargo run -p dinorad-backbone --release --example full_size_check -- OUT
//! ```
//!
//! Prints one row per encoder and input; exits with 1 if a row is off by more than the tolerance.
//! Memory is the peak of the process so far: of the last encoder, if each is checked by itself.

use std::{collections::BTreeMap, error::Error, fs, path::Path, process::ExitCode, time::Instant};

use dinorad_backbone::{
    LayerTokens, LoadOptions, Output, Request, Source,
    candle::{Device, Tensor, safetensors},
    load,
};

fn main() -> ExitCode {
    let Some(root) = std::env::args().nth(1) else {
        eprintln!("usage: full_size_check FOLDER");
        return ExitCode::from(2);
    };
    match run(Path::new(&root)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(err) => {
            eprintln!("error: {err}");
            ExitCode::from(2)
        }
    }
}

fn run(root: &Path) -> Result<bool, Box<dyn Error>> {
    let mut folders: Vec<_> = fs::read_dir(root)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    folders.retain(|f| f.join("check.json").is_file());
    folders.sort();
    if folders.is_empty() {
        return Err(format!("{}: no encoder to check", root.display()).into());
    }
    let mut good = true;
    for folder in folders {
        good &= check(&folder)?;
    }
    Ok(good)
}

fn check(folder: &Path) -> Result<bool, Box<dyn Error>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let about: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("check.json"))?)?;
    let tolerance = about["tolerance"].as_f64().ok_or("check.json without a tolerance")? as f32;
    let weights = about["weights"].as_str().unwrap_or("model.safetensors");
    let start = Instant::now();
    let (encoder, report) = load(&Source::Path(folder.join(weights)), &LoadOptions::default())?;
    let loading = start.elapsed().as_secs_f64();
    let read = |file: &str| -> Result<BTreeMap<String, Tensor>, Box<dyn Error>> {
        Ok(safetensors::load(folder.join(file), &Device::Cpu)?.into_iter().collect())
    };
    let (inputs, expected) = (read("input.safetensors")?, read("expected.safetensors")?);
    let mut good = !expected.is_empty() && report.is_clean();
    for (key, want) in &expected {
        let (size, part) = key.split_once('.').unwrap_or((key, ""));
        let pixels = inputs.get(size).ok_or("an expectation without input")?;
        let request = match encoder.spec().outputs.contains(&Output::Patches) {
            true => Request::last(1).with_registers(),
            false => Request::cls(),
        };
        let start = Instant::now();
        let features = encoder.forward(pixels, &request)?;
        let forward = start.elapsed().as_secs_f64();
        let got = part_of(features.last()?, part)?;
        if got.dims() != want.dims() {
            return Err(format!("{name}: {key} has shape {:?}, expected {:?}", got.dims(), want.dims()).into());
        }
        let error = largest(&(got - want)?)?;
        good &= error <= tolerance;
        println!(
            "| {name} | {key} | {error:.1e} | {:.1} | {} | {} | {} | {} | {loading:.1} | {forward:.2} | {} |",
            largest(want)?,
            report.loaded.len(),
            report.missing.len(),
            report.unused.len(),
            report.ignored.len(),
            peak_mb().map_or_else(|| "-".to_owned(), |mb| mb.to_string()),
        );
    }
    Ok(good)
}

/// All tokens in the order of the encoder, or one kind of them.
fn part_of(layer: &LayerTokens, part: &str) -> Result<Tensor, Box<dyn Error>> {
    match part {
        "cls" => Ok(layer.cls.clone()),
        "patches" => Ok(layer.patches.clone().ok_or("no patches")?),
        "" => {
            let mut parts = vec![layer.cls.unsqueeze(1)?];
            parts.extend(layer.registers.clone());
            parts.extend(layer.patches.clone());
            Ok(Tensor::cat(&parts, 1)?)
        }
        other => Err(format!("unknown part `{other}`").into()),
    }
}

fn largest(t: &Tensor) -> Result<f32, Box<dyn Error>> {
    Ok(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?)
}

/// The largest memory this process has had, in MB, where the system tells.
fn peak_mb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb / 1024)
}
