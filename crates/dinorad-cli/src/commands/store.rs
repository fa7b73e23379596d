//! `dinorad store`: what the feature stores in a folder hold, and tidying them.

use std::time::SystemTime;

use anyhow::Result;
use dinorad::eval::{
    date::utc,
    store::{PruneOptions, StoreSummary, list, prune},
};
use serde_json::json;

use crate::{
    args::{StoreCommand, StoreListArgs, StorePruneArgs},
    output::say,
    table::{thousands, told, width},
};

pub(crate) fn run(command: &StoreCommand) -> Result<usize> {
    match command {
        StoreCommand::List(args) => run_list(args),
        StoreCommand::Prune(args) => run_prune(args),
    }
}

fn run_list(args: &StoreListArgs) -> Result<usize> {
    let listing = list(&args.folder)?;
    if args.json {
        let stores = listing.stores.iter().map(|s| {
            json!({
                "folder": s.folder, "key": s.key, "cases": s.cases, "bytes": s.bytes,
                "sets": s.sets.iter().map(|(name, n)| json!({ "name": name, "cases": n })).collect::<Vec<_>>(),
                "modified": s.modified.map(date), "damaged": s.damaged.iter().map(|(p, _)| p).collect::<Vec<_>>(),
            })
        });
        let older = listing.older.iter().map(|s| json!({ "folder": s.folder, "format": s.format, "bytes": s.bytes }));
        let all = json!({ "stores": stores.collect::<Vec<_>>(), "older": older.collect::<Vec<_>>() });
        say!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(0);
    }
    if listing.stores.is_empty() && listing.older.is_empty() {
        say!("no feature store in {}", args.folder.display());
    }
    let mut rows = Vec::new();
    for store in &listing.stores {
        let encoder = &store.key.encoder;
        rows.push(vec![
            store.key.key.clone(),
            format!("{} {} {}", encoder.id, encoder.precision, encoder.device),
            thousands(store.cases as u64),
            size(store.bytes),
            store.modified.map_or_else(String::new, date),
            sets(store),
        ]);
    }
    if !listing.stores.is_empty() {
        let head = ["store", "encoder", "cases", "size", "written", "sets"];
        say!("{}", told(&head, 6, &rows, width()));
        for store in &listing.stores {
            say!("{}: {}", store.key.key, store.key.settings);
        }
    }
    for store in &listing.stores {
        for (path, why) in &store.damaged {
            eprintln!("damaged: {}: {why}", path.display());
        }
    }
    for store in &listing.older {
        let (folder, bytes) = (store.folder.display(), size(store.bytes));
        say!(
            "{folder}: format {}, which this version does not read ({bytes}); prune --older-format removes it",
            store.format
        );
    }
    Ok(0)
}

fn sets(store: &StoreSummary) -> String {
    let words: Vec<String> = store.sets.iter().map(|(name, n)| format!("{name} ({})", thousands(*n as u64))).collect();
    if words.is_empty() { "none finished".into() } else { words.join(", ") }
}

fn run_prune(args: &StorePruneArgs) -> Result<usize> {
    let mut options = PruneOptions::default();
    options.encoder.clone_from(&args.encoder);
    options.older_format = args.older_format;
    options.act = args.yes;
    let removals = prune(&args.folder, &options)?;
    let bytes: u64 = removals.iter().map(|r| r.bytes).sum();
    if args.json {
        let told = removals.iter().map(|r| json!({ "path": r.path, "why": r.why.to_string(), "bytes": r.bytes }));
        let told = json!({ "removed": args.yes, "bytes": bytes, "files": told.collect::<Vec<_>>() });
        say!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(0);
    }
    for removal in &removals {
        say!("{}: {} ({})", removal.path.display(), removal.why, size(removal.bytes));
    }
    match (removals.is_empty(), args.yes) {
        (true, _) => say!("nothing to remove in {}", args.folder.display()),
        (false, true) => say!("{} removed", size(bytes)),
        (false, false) => say!("{} would go; --yes removes them", size(bytes)),
    }
    Ok(0)
}

/// Bytes in words.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A day, in UTC.
fn date(time: SystemTime) -> String {
    utc(time).chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn dates_and_sizes_read_well() {
        assert_eq!(date(UNIX_EPOCH + Duration::from_secs(1_709_251_199)), "2024-02-29");
        assert_eq!((size(999), size(1000), size(1_500_000)), ("999 B".into(), "1.0 kB".into(), "1.5 MB".into()));
    }
}
