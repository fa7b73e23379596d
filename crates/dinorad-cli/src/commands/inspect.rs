//! `dinorad inspect`: what is in a file or folder.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use dinorad::{
    backbone::{self, LoadOptions, Source},
    datasets::{Intensity, discover},
    eval::shown_as,
    io::{self, Inspection, ReadOptions},
};
use serde_json::{Value, json};

use crate::{args::InspectArgs, output::say};

pub(crate) fn run(args: &InspectArgs) -> Result<usize> {
    if let Some(missing) = args.paths.iter().find(|p| !p.exists()) {
        bail!("{}: no such file or folder", missing.display());
    }
    let intensity: Intensity = args.intensity.parse()?;
    let mut failed = 0;
    let mut all = Vec::new();
    for path in args.paths.iter().flat_map(|p| expand(p)) {
        let found = describe(&path, args.phi);
        let shown = match &found {
            Ok(Found::File(_)) => shown(&path, intensity),
            _ => None,
        };
        if args.json {
            all.push(match &found {
                Ok(Found::File(i)) => json!({ "path": path, "inspection": i, "shown": shown }),
                Ok(Found::Weights(w)) => json!({ "path": path, "weights": [w.shape, w.report] }),
                Err(e) => json!({ "path": path, "error": format!("{e:#}") }),
            });
        } else {
            say!("{}", path.display());
            match &found {
                Ok(Found::File(i)) => match shown {
                    Some(shown) => say!("{}\nfor encoders {shown}\n", i.to_string().trim_end()),
                    None => say!("{i}"),
                },
                Ok(Found::Weights(w)) => say!("{}", w.text()),
                Err(e) => eprintln!("error: {e:#}"),
            }
        }
        // pixels that cannot be decoded are a failure, though the header was read
        let undecoded = matches!(&found, Ok(Found::File(i)) if i.undecoded.is_some());
        failed += usize::from(found.is_err() || undecoded);
    }
    if args.json {
        say!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(failed)
}

/// What the values of a case become for an encoder; nothing of what is no case.
fn shown(path: &Path, intensity: Intensity) -> Option<String> {
    let inputs = discover(&[path.to_owned()]);
    let [input] = inputs.as_slice() else { return None };
    let pixels = input.load(&ReadOptions::default()).ok()?;
    Some(shown_as(&pixels, intensity))
}

enum Found {
    File(Box<Inspection>),
    Weights(Weights),
}

/// An encoder's shape, and what would become of its tensors.
struct Weights {
    shape: Value,
    report: backbone::LoadReport,
}

impl Weights {
    fn read(path: &Path) -> Result<Self> {
        let options = LoadOptions::default();
        // A DINOv2 file that does not fit can be told about in full; of the others only one that loads.
        if let Ok((config, report)) = backbone::inspect(path, &options) {
            return Ok(Self { shape: serde_json::to_value(config)?, report });
        }
        let (encoder, report) = backbone::load(&Source::Path(path.to_owned()), &options)?;
        Ok(Self { shape: serde_json::to_value(encoder.spec())?, report })
    }

    /// For people: the tensors are counted, those that do not fit are named.
    fn text(&self) -> String {
        /// How many names of a kind are told.
        const SHOWN: usize = 10;
        let mut lines = vec![("format".to_owned(), "weights of an encoder".to_owned())];
        if let Some(shape) = self.shape.as_object() {
            let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            lines.extend(shape.iter().map(|(name, v)| (name.replace('_', " "), plain(v))));
        }
        lines.push(("tensors".into(), self.report.to_string()));
        let r = &self.report;
        let kinds: [(&str, Vec<String>); 4] = [
            ("missing", r.missing.iter().map(ToString::to_string).collect()),
            ("unused", r.unused.iter().map(ToString::to_string).collect()),
            ("wrong shape", r.wrong_shape.iter().map(|w| w.name.clone()).collect()),
            ("ignored", r.ignored.clone()),
        ];
        for (kind, names) in kinds {
            lines.extend(names.iter().take(SHOWN).map(|name| (kind.to_owned(), name.clone())));
            if names.len() > SHOWN {
                lines.push((kind.to_owned(), format!("… and {} more, all with --json", names.len() - SHOWN)));
            }
        }
        lines.iter().map(|(name, what)| format!("{name:<16} {what}\n")).collect()
    }
}

fn describe(path: &Path, phi: bool) -> Result<Found> {
    if holds_weights(path) {
        return Ok(Found::Weights(Weights::read(path)?));
    }
    Ok(Found::File(Box::new(io::inspect(path, phi)?)))
}

/// Whether a file's name says that it holds weights, or that of a file right in the folder.
fn holds_weights(path: &Path) -> bool {
    let named = |p: &Path| {
        let endings = ["safetensors", "pth", "pt", "bin"];
        p.extension().is_some_and(|e| endings.iter().any(|ending| e.eq_ignore_ascii_case(ending)))
    };
    match std::fs::read_dir(path) {
        Ok(entries) => {
            let configured = ["config.json", "open_clip_config.json"].iter().any(|name| path.join(name).is_file());
            configured && entries.flatten().any(|e| named(&e.path()))
        }
        Err(_) => named(path),
    }
}

/// A folder stands for the files and the folders of series in it; one of an encoder for itself.
fn expand(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() || holds_weights(path) {
        return vec![path.to_owned()];
    }
    let mut seen = BTreeSet::new();
    let inner = discover(&[path.to_owned()]).into_iter().map(|input| input.path);
    inner.filter(|path| seen.insert(path.clone())).collect()
}
