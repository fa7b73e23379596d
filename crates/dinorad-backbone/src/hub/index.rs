//! The index of weights that are spread over several files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{HubError, HubId, id::is_plain_path};

/// An index names a handful of shards; this stops a hostile one.
const MAX_SHARDS: usize = 1024;
pub(super) const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The shards that an index names, in order of name.
pub(super) fn shard_names(id: &HubId, file: &str, path: &Path) -> Result<Vec<String>, HubError> {
    let bad = |reason: String| HubError::Index { id: id.clone(), file: file.to_owned(), reason };
    let length = fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if length > MAX_INDEX_BYTES {
        return Err(bad(format!("{length} bytes are more than an index can have")));
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = fs::read(path).map_err(|e| bad(e.to_string()))?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| bad(format!("no index of weights: {e}")))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(bad(format!("it names {} files", names.len())));
    }
    // Names are relative to the index.
    let folder = file.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
    let inside = |name: String| match is_plain_path(&name) {
        true => Ok(format!("{folder}{name}")),
        false => Err(bad(format!("`{name}` is no file of the repository"))),
    };
    names.into_iter().map(inside).collect()
}
