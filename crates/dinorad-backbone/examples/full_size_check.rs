//! Compares full-size encoders with what transformers and timm computed.
//!
//! ```text
//! python crates/dinorad-backbone/tests/full_size/make.py OUT
//! cargo run -p dinorad-backbone --release --example full_size_check -- OUT
//! ```
//!
//! Prints one row per encoder and input; exits with 1 if a row is off by more than the tolerance.

use std::{collections::BTreeMap, error::Error, fs, path::Path, process::ExitCode};

use dinorad_backbone::{
    Backbone, LoadOptions, Patches, Request,
    candle::{Device, Tensor, safetensors},
    load_path,
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
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (encoder, report) = load_path(&folder.join("model.safetensors"), &LoadOptions::default())?;
        let read = |file: &str| -> Result<BTreeMap<String, Tensor>, Box<dyn Error>> {
            Ok(safetensors::load(folder.join(file), &Device::Cpu)?.into_iter().collect())
        };
        let (inputs, expected) = (read("input.safetensors")?, read("expected.safetensors")?);
        for (size, want) in &expected {
            let pixels = inputs.get(size).ok_or("an expectation without input")?;
            let features = encoder.forward(pixels, &Request::last(1).with_registers().with_patches(Patches::Tokens))?;
            let last = features.last();
            let mut parts = vec![last.cls.unsqueeze(1)?];
            parts.extend(last.registers.clone());
            parts.extend(last.patches.clone());
            let error = (Tensor::cat(&parts, 1)? - want)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            let range = want.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            good &= error <= 1e-3 && report.is_clean();
            println!(
                "| {name} | {size} | {error:.1e} | {range:.1} | {} | {} | {} |",
                report.loaded.len(),
                report.missing.len(),
                report.unused.len()
            );
        }
    }
    Ok(good)
}
