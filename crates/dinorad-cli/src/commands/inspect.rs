//! `dinorad inspect`: what is in a file or folder.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use dinorad::{
    backbone,
    datasets::discover,
    io::{self, Inspection},
};
use serde_json::{Value, json};

use crate::{args::InspectArgs, output::say};

pub(crate) fn run(args: &InspectArgs) -> Result<usize> {
    if let Some(missing) = args.paths.iter().find(|p| !p.exists()) {
        bail!("{}: no such file or folder", missing.display());
    }
    let mut failed = 0;
    let mut all = Vec::new();
    for path in args.paths.iter().flat_map(|p| expand(p)) {
        let found = describe(&path, args.phi);
        if args.json {
            all.push(match &found {
                Ok(Found::File(i)) => json!({ "path": path, "inspection": i }),
                Ok(Found::Weights(w)) => json!({ "path": path, "weights": w }),
                Err(e) => json!({ "path": path, "error": format!("{e:#}") }),
            });
        } else {
            say!("{}", path.display());
            match &found {
                Ok(Found::File(i)) => say!("{i}"),
                Ok(Found::Weights(w)) => say!("{}", serde_json::to_string_pretty(w)?),
                Err(e) => eprintln!("error: {e:#}"),
            }
        }
        failed += usize::from(found.is_err());
    }
    if args.json {
        say!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(failed)
}

enum Found {
    File(Box<Inspection>),
    Weights(Value),
}

fn describe(path: &Path, phi: bool) -> Result<Found> {
    let weights = ["safetensors", "pth", "pt"];
    if path.extension().is_some_and(|e| weights.iter().any(|w| e.eq_ignore_ascii_case(w))) {
        let report = backbone::inspect(path, &backbone::LoadOptions::default())?;
        return Ok(Found::Weights(serde_json::to_value(report)?));
    }
    Ok(Found::File(Box::new(io::inspect(path, phi)?)))
}

/// A folder that is no single series stands for what is in it.
fn expand(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() || io::sniff(path).is_ok() {
        return vec![path.to_owned()];
    }
    let mut inner: Vec<PathBuf> = discover(&[path.to_owned()]).into_iter().map(|input| input.path).collect();
    inner.dedup();
    inner
}
