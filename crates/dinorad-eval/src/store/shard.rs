//! One shard file: the features of a run of items, as safetensors.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use ndarray::{Array1, Array2};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::{FORMAT, ItemKey, StorePlan};
use crate::{Error, Result};

/// The one metadata entry; more than one would be written in no fixed order.
const HEADER: &str = "dinorad";
const COUNTS: &str = ".counts";

/// What became of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its features.
    Embedded(ItemFeatures),
    /// Why there are none; must not depend on time or place and must not hold a patient's data.
    Failed(String),
}

/// The features of one item by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ItemFeatures {
    /// One vector per item, such as `cls` `(D)`.
    pub vectors: BTreeMap<String, Array1<f32>>,
    /// Any number of rows per item, such as the `slices` `(S, D)` of a volume or `patches` `(N, D)`.
    pub sequences: BTreeMap<String, Array2<f32>>,
}

impl ItemFeatures {
    /// Adds a vector.
    pub fn with_vector(mut self, name: impl Into<String>, value: Array1<f32>) -> Self {
        self.vectors.insert(name.into(), value);
        self
    }

    /// Adds a sequence of rows.
    pub fn with_sequence(mut self, name: impl Into<String>, rows: Array2<f32>) -> Self {
        self.sequences.insert(name.into(), rows);
        self
    }
}

/// A shard read back.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardContents {
    /// The embedded items, in order; row `r` of every tensor is item `r`.
    pub items: Vec<ItemKey>,
    /// The items without features and why.
    pub failures: Vec<(ItemKey, String)>,
    /// `(n, D)` by name.
    pub vectors: BTreeMap<String, Array2<f32>>,
    /// All rows `(sum of counts, D)` and the count of each item, by name.
    pub sequences: BTreeMap<String, (Array2<f32>, Vec<usize>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    key: String,
    shard: usize,
    ids: Vec<String>,
    fingerprints: Vec<String>,
    /// Position within the shard, reason.
    failures: Vec<(usize, String)>,
    /// blake3 of everything else in the file.
    check: String,
}

/// The bytes of shard number `shard`; the same for the same outcomes.
pub(super) fn encode(plan: &StorePlan, shard: usize, outcomes: &[Outcome]) -> Result<Vec<u8>> {
    let items = plan.items_of(shard);
    if outcomes.len() != items.len() {
        return Err(Error::shape(
            format!("outcomes of shard {shard}"),
            format!("({})", items.len()),
            &[outcomes.len()],
        ));
    }
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let embedded: Vec<(&ItemKey, &ItemFeatures)> = items
        .iter()
        .zip(outcomes)
        .filter_map(|(item, outcome)| match outcome {
            Outcome::Embedded(features) => Some((item, features)),
            Outcome::Failed(_) => None,
        })
        .collect();
    if let Some((_, first)) = embedded.first() {
        for (item, features) in &embedded {
            let same = features.vectors.keys().eq(first.vectors.keys())
                && features.sequences.keys().eq(first.sequences.keys());
            if !same {
                let names: Vec<&str> = first.vectors.keys().chain(first.sequences.keys()).map(String::as_str).collect();
                return Err(Error::Parameter {
                    what: "names of an item's features",
                    expected: "the same for every item of a shard",
                    got: format!("`{}` without all of {}", item.id, names.join(", ")),
                });
            }
        }
        for (name, vector) in &first.vectors {
            let dim = vector.len();
            let mut bytes = Vec::with_capacity(embedded.len() * dim * 4);
            for (item, features) in &embedded {
                let v = &features.vectors[name];
                if v.len() != dim {
                    return Err(Error::shape(format!("`{name}` of `{}`", item.id), format!("({dim})"), &[v.len()]));
                }
                extend(&mut bytes, v.iter());
            }
            insert(&mut tensors, name.clone(), Dtype::F32, vec![embedded.len(), dim], bytes)?;
        }
        for (name, rows) in &first.sequences {
            let dim = rows.ncols();
            let (mut bytes, mut counts, mut total) = (Vec::new(), Vec::new(), 0);
            for (item, features) in &embedded {
                let m = &features.sequences[name];
                if m.ncols() != dim {
                    return Err(Error::shape(format!("`{name}` of `{}`", item.id), format!("(_, {dim})"), m.shape()));
                }
                extend(&mut bytes, m.iter());
                counts.extend_from_slice(&(m.nrows() as u64).to_le_bytes());
                total += m.nrows();
            }
            insert(&mut tensors, name.clone(), Dtype::F32, vec![total, dim], bytes)?;
            insert(&mut tensors, format!("{name}{COUNTS}"), Dtype::U64, vec![embedded.len()], counts)?;
        }
    }
    let mut header = Header {
        format: FORMAT,
        key: plan.key().to_owned(),
        shard,
        ids: items.iter().map(|i| i.id.clone()).collect(),
        fingerprints: items.iter().map(|i| hex(&i.fingerprint)).collect(),
        failures: outcomes
            .iter()
            .enumerate()
            .filter_map(|(i, o)| if let Outcome::Failed(reason) = o { Some((i, reason.clone())) } else { None })
            .collect(),
        check: String::new(),
    };
    header.check = check(&header, tensors.iter().map(|(n, (d, s, b))| (n.as_str(), *d, s.as_slice(), b.as_slice())));
    let text = serde_json::to_string(&header).map_err(|e| Error::format(shard_name(shard), "JSON", e))?;
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| Error::format(shard_name(shard), "safetensors", e))?;
    safetensors::serialize(views, Some(HashMap::from([(HEADER.to_owned(), text)])))
        .map_err(|e| Error::format(shard_name(shard), "safetensors", e))
}

/// Reads a shard and checks that it is whole and belongs to this place.
pub(super) fn decode(path: &Path, bytes: &[u8], key: &str, shard: usize) -> Result<ShardContents> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let (_, meta) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
    let text = meta.metadata().as_ref().and_then(|m| m.get(HEADER)).ok_or_else(|| damaged("no header".into()))?;
    let mut header: Header = serde_json::from_str(text).map_err(|e| damaged(format!("header: {e}")))?;
    if header.format != FORMAT || header.key != key || header.shard != shard {
        return Err(damaged(format!(
            "it is shard {} of store {} (format {}), not shard {shard} of store {key}",
            header.shard, header.key, header.format
        )));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    let mut tensors: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    let stated = std::mem::take(&mut header.check);
    if check(&header, tensors.iter().map(|(n, t)| (n.as_str(), t.dtype(), t.shape(), t.data()))) != stated {
        return Err(damaged("its content does not match its checksum".into()));
    }
    if header.ids.len() != header.fingerprints.len() {
        return Err(damaged("ids and fingerprints differ in number".into()));
    }
    let mut reasons: BTreeMap<usize, String> = header.failures.into_iter().collect();
    let (mut items, mut failures) = (Vec::new(), Vec::new());
    for (i, (id, print)) in header.ids.into_iter().zip(header.fingerprints).enumerate() {
        let item = ItemKey::new(id, unhex(&print).ok_or_else(|| damaged("a fingerprint is not 32 bytes".into()))?);
        match reasons.remove(&i) {
            Some(reason) => failures.push((item, reason)),
            None => items.push(item),
        }
    }
    let n = items.len();
    let counted: Vec<String> = tensors.keys().filter_map(|name| name.strip_suffix(COUNTS)).map(str::to_owned).collect();
    let mut sequences = BTreeMap::new();
    for name in counted {
        let (Some(counts), Some(rows)) = (tensors.remove(&format!("{name}{COUNTS}")), tensors.remove(&name)) else {
            return Err(damaged(format!("`{name}` lacks its rows or counts")));
        };
        let counts: Vec<usize> = counts
            .data()
            .chunks_exact(8)
            .map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default()) as usize)
            .collect();
        let rows = matrix(&rows).ok_or_else(|| damaged(format!("`{name}` is not a matrix of f32")))?;
        if counts.len() != n || counts.iter().try_fold(0usize, |a, &c| a.checked_add(c)) != Some(rows.nrows()) {
            return Err(damaged(format!("`{name}` has counts that do not add up")));
        }
        sequences.insert(name, (rows, counts));
    }
    let mut vectors = BTreeMap::new();
    for (name, tensor) in tensors {
        let rows = matrix(&tensor).ok_or_else(|| damaged(format!("`{name}` is not a matrix of f32")))?;
        if rows.nrows() != n {
            return Err(damaged(format!("`{name}` has {} rows for {n} items", rows.nrows())));
        }
        vectors.insert(name, rows);
    }
    Ok(ShardContents { items, failures, vectors, sequences })
}

pub(super) fn shard_name(shard: usize) -> String {
    format!("shard-{shard:05}.safetensors")
}

fn insert(
    tensors: &mut BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
) -> Result<()> {
    if tensors.insert(name.clone(), (dtype, shape, bytes)).is_some() {
        return Err(Error::Parameter { what: "name of a feature", expected: "one of its own", got: name });
    }
    Ok(())
}

fn extend<'a>(bytes: &mut Vec<u8>, values: impl Iterator<Item = &'a f32>) {
    for v in values {
        bytes.extend_from_slice(&v.to_le_bytes());
    }
}

fn matrix(tensor: &TensorView<'_>) -> Option<Array2<f32>> {
    let &[rows, cols] = tensor.shape() else { return None };
    if tensor.dtype() != Dtype::F32 {
        return None;
    }
    let values = tensor.data().chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap_or_default())).collect();
    Array2::from_shape_vec((rows, cols), values).ok()
}

/// blake3 over the header without its check and every tensor, in the order of their names.
fn check<'a>(header: &Header, tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], &'a [u8])>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(&header.format.to_le_bytes());
    field(header.key.as_bytes());
    field(&(header.shard as u64).to_le_bytes());
    for list in [&header.ids, &header.fingerprints] {
        field(&(list.len() as u64).to_le_bytes());
        list.iter().for_each(|text| field(text.as_bytes()));
    }
    field(&(header.failures.len() as u64).to_le_bytes());
    for (i, reason) in &header.failures {
        field(&(*i as u64).to_le_bytes());
        field(reason.as_bytes());
    }
    for (name, dtype, shape, bytes) in tensors {
        field(name.as_bytes());
        field(format!("{dtype:?} {shape:?}").as_bytes());
        field(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|h| *h.as_bytes())
}
