//! Writes the tokens of an encoder folder for noise of two sizes: what `tests/transformers/check_export.py` compares
//! with those of `transformers`.
//!
//! ```text
//! cargo run --release -p dinorad-pretrain --example tokens -- ENCODER_FOLDER TOKENS.safetensors
//! ```

use std::{path::PathBuf, process::ExitCode};

use dinorad_backbone::{Backbone, LoadOptions, load_path};
use dinorad_nn::{Pass, init, store};

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn write() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: tokens ENCODER_FOLDER TOKENS.safetensors";
    let (folder, out) = (arguments.next().ok_or(usage)?, PathBuf::from(arguments.next().ok_or(usage)?));
    let (encoder, report) = load_path(folder.as_ref(), &LoadOptions::default())?;
    assert!(report.missing.is_empty() && report.unused.is_empty(), "{report:?}");
    let (native, patch) = (encoder.config().native_size(), encoder.spec().patch);
    let mut all = Vec::new();
    for (rows, columns) in [(native, native), (native / 2 / patch * patch, native + 2 * patch)] {
        let pixels = init::trunc_normal(1, "pixels", (2, 3, rows, columns), 1.0, encoder.device())?;
        let tokens = encoder.vit().forward_tokens(&pixels, None, Pass::Inference)?;
        let tokens = encoder.vit().normalise(&tokens, Pass::Inference)?;
        all.push((format!("{rows}x{columns}.pixels"), pixels));
        all.push((format!("{rows}x{columns}.tokens"), tokens));
    }
    let named: Vec<_> = all.iter().map(|(name, t)| (name.as_str(), t)).collect();
    Ok(store::save(&out, &named, &[])?)
}
