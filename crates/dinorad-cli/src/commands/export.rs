//! `dinorad export`: features for other programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinorad::{
    core::Split,
    datasets::{Dataset, DatasetSpec, Kind, OpenOptions, Pseudonyms, Unit, open},
    eval::{
        Error,
        export::{ExportLabels, ExportOptions, export},
        store::FeatureStore,
    },
};
use serde_json::json;

use crate::{args::ExportArgs, listing, output::say, table::thousands};

pub(crate) fn run(args: &ExportArgs) -> Result<usize> {
    args.names.around(|names| write_out(args, names))
}

fn write_out(args: &ExportArgs, names: Option<Pseudonyms>) -> Result<usize> {
    let options = ExportOptions {
        format: args.format.parse()?,
        features: args.features.clone(),
        per_shard: args.per_shard,
        pseudonyms: names,
    };
    let folder = store_folder(&args.store)?;
    let store = match &args.set {
        Some(set) => FeatureStore::open_set(&folder, set)?,
        None => match FeatureStore::open(&folder) {
            Err(Error::DuplicateId { id }) => {
                let id = options.pseudonyms.as_ref().map_or(id.clone(), |names| names.once(Kind::Case, &id));
                let sets = FeatureStore::manifest(&folder)?.1.sets.into_keys().collect::<Vec<_>>().join(", ");
                bail!("{}: `{id}` is another case in another set: name one with --set ({sets})", folder.display())
            }
            opened => opened?,
        },
    };
    let labels = args.labels.as_deref().map(labels).transpose()?;
    let exported = export(&store, labels.as_ref(), &options, &args.out)?;
    if args.json {
        let told = json!({ "files": exported.files, "rows": exported.rows, "unlabelled": exported.unlabelled });
        say!("{}", serde_json::to_string_pretty(&told)?);
    } else {
        say!("{} rows in {} file(s): {}", thousands(exported.rows as u64), exported.files.len(), args.out.display());
    }
    if exported.unlabelled > 0 {
        listing::note(&format!(
            "{} rows have no label in {}",
            exported.unlabelled,
            args.labels.as_deref().unwrap_or_default()
        ));
    }
    let failures = store.failures().len();
    if failures > 0 {
        eprintln!("note: {failures} cases of the store have no features; its manifest.json says why");
    }
    Ok(0)
}

/// The folder itself, or the only store in it.
fn store_folder(given: &Path) -> Result<PathBuf> {
    if given.join("manifest.json").is_file() {
        return Ok(given.to_owned());
    }
    let entries = std::fs::read_dir(given).with_context(|| format!("could not read {}", given.display()))?;
    let mut stores: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.join("manifest.json").is_file()).collect();
    stores.sort();
    match stores.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("{}: no finished feature store (no manifest.json)", given.display()),
        several => {
            let names: Vec<_> = several.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy()).collect();
            bail!("{}: several stores, name one of them: {}", given.display(), names.join(", "))
        }
    }
}

/// The labels of all splits of a data set, or of the one named.
fn labels(text: &str) -> Result<ExportLabels> {
    let spec: DatasetSpec = text.parse()?;
    let root = spec.root.with_context(|| format!("--labels {text}: say where, as in {}:root=PATH", spec.name))?;
    // Ids of scans, not of their slices, are what `eval` embeds.
    let options = OpenOptions::default().with_unit(Unit::Volumes);
    let (mut sets, mut failed): (Vec<Box<dyn Dataset>>, _) = (Vec::new(), None);
    for split in [Split::Train, Split::Val, Split::Test].into_iter().filter(|s| spec.split.is_none_or(|o| o == *s)) {
        match open(&spec.name, &root, split, &options) {
            Ok(set) => sets.push(set),
            Err(error) => failed = Some(error),
        }
    }
    if let (true, Some(error)) = (sets.is_empty(), failed) {
        return Err(error).with_context(|| format!("could not open {text}"));
    }
    Ok(ExportLabels::new(sets.iter().map(|s| &**s))?)
}
