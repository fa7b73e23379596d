//! The bytes of a shard: the features of some cases, as safetensors.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ndarray::{Array1, Array2};
use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::{FORMAT, ItemKey, item::hex};
use crate::{Error, Result, doubts::CaseNotes};

/// The one metadata entry; more than one would be written in no fixed order.
pub(super) const HEADER: &str = "dinorad";
/// The tensor of content hashes, `(n, 32)`.
pub(super) const KEYS: &str = ".keys";
/// Follows the name of a sequence: rows of each case.
pub(super) const COUNTS: &str = ".counts";

/// What became of one case.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its features.
    Embedded(ItemFeatures),
    /// Why there are none; must not depend on time or place and must not hold a patient's data.
    Failed(String),
}

/// The features of one case by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ItemFeatures {
    /// One vector per case, such as `cls` `(D)`.
    pub vectors: BTreeMap<String, Array1<f32>>,
    /// Any number of rows per case, such as the `slices` `(S, D)` of a volume or `patches` `(N, D)`.
    pub sequences: BTreeMap<String, Array2<f32>>,
    /// What is noted of it.
    pub notes: CaseNotes,
}

impl ItemFeatures {
    /// Adds a vector.
    #[must_use]
    pub fn with_vector(mut self, name: impl Into<String>, value: Array1<f32>) -> Self {
        self.vectors.insert(name.into(), value);
        self
    }

    /// Adds a sequence of rows.
    #[must_use]
    pub fn with_sequence(mut self, name: impl Into<String>, rows: Array2<f32>) -> Self {
        self.sequences.insert(name.into(), rows);
        self
    }

    /// The same with notes.
    #[must_use]
    pub fn with_notes(mut self, notes: CaseNotes) -> Self {
        self.notes = notes;
        self
    }

    fn names(&self) -> BTreeSet<String> {
        self.vectors.keys().chain(self.sequences.keys()).cloned().collect()
    }
}

/// What stands in a shard beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: u32,
    /// Key of the store.
    pub(super) store: String,
    /// Names of the features that every entry holds.
    pub(super) holds: BTreeSet<String>,
    /// Position among the keys, reason.
    pub(super) failures: Vec<(usize, String)>,
    /// By position among the keys, as far as there is something to note.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) notes: BTreeMap<usize, CaseNotes>,
    /// BLAKE3 of every tensor's bytes.
    pub(super) blake3: BTreeMap<String, String>,
    /// BLAKE3 of everything else here, and of the tensors' types and shapes.
    pub(super) check: String,
}

impl Header {
    /// What [`check`](Self::check) has to be.
    pub(super) fn sum<'a>(&self, tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize])>) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("dinorad feature shard v2");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(&self.format.to_le_bytes());
        field(self.store.as_bytes());
        field(&(self.holds.len() as u64).to_le_bytes());
        self.holds.iter().for_each(|name| field(name.as_bytes()));
        field(&(self.failures.len() as u64).to_le_bytes());
        for (position, reason) in &self.failures {
            field(&(*position as u64).to_le_bytes());
            field(reason.as_bytes());
        }
        for (position, notes) in &self.notes {
            field(&(*position as u64).to_le_bytes());
            notes.shown.iter().chain(&notes.doubts).for_each(|text| field(text.as_bytes()));
            field(&[u8::from(notes.shown.is_some())]);
        }
        for (name, hash) in &self.blake3 {
            field(name.as_bytes());
            field(hash.as_bytes());
        }
        for (name, dtype, shape) in tensors {
            field(name.as_bytes());
            field(format!("{dtype:?} {shape:?}").as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The file of a shard: its name is a hash of its cases, in order, and of what it holds of them.
pub(super) fn shard_name<'a>(keys: impl Iterator<Item = &'a [u8; 32]>, holds: &BTreeSet<String>) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("dinorad feature shard name v2");
    for name in holds {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    hasher.update(&u64::MAX.to_le_bytes());
    keys.for_each(|key| {
        hasher.update(key);
    });
    format!("shard-{}.safetensors", &hasher.finalize().to_hex()[..32])
}

/// Whether a file's name is that of a shard.
pub(super) fn is_shard_name(name: &str) -> bool {
    let digits = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".safetensors"));
    digits.is_some_and(|d| d.len() == 32 && d.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

/// The bytes of a shard; the same for the same outcomes.
pub(super) fn encode(
    store: &str,
    items: &[&ItemKey],
    holds: &BTreeSet<String>,
    outcomes: &[Outcome],
) -> Result<Vec<u8>> {
    if outcomes.len() != items.len() {
        return Err(Error::shape("outcomes of a shard", format!("({})", items.len()), &[outcomes.len()]));
    }
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let mut insert = |name: String, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>| {
        if tensors.insert(name.clone(), (dtype, shape, bytes)).is_some() {
            return Err(Error::Parameter { what: "name of a feature", expected: "one of its own", got: name });
        }
        Ok(())
    };
    let keys = items.iter().flat_map(|item| item.fingerprint).collect();
    insert(KEYS.to_owned(), Dtype::U8, vec![items.len(), 32], keys)?;
    let embedded: Vec<(&ItemKey, &ItemFeatures)> = items
        .iter()
        .zip(outcomes)
        .filter_map(|(item, outcome)| match outcome {
            Outcome::Embedded(features) => Some((*item, features)),
            Outcome::Failed(_) => None,
        })
        .collect();
    if let Some((item, features)) = embedded.iter().find(|(_, features)| features.names() != *holds) {
        let names = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Error::Parameter {
            what: "names of a case's features",
            expected: "those that the shard is to hold",
            got: format!("`{}` with {} in place of {}", item.id, names(&features.names()), names(holds)),
        });
    }
    if let Some((_, first)) = embedded.first() {
        for (name, vector) in &first.vectors {
            let dim = vector.len();
            let mut bytes = Vec::with_capacity(embedded.len() * dim * 4);
            for (item, features) in &embedded {
                let v = features.vectors.get(name).filter(|v| v.len() == dim);
                let got = features.vectors.get(name).map_or(0, Array1::len);
                let v =
                    v.ok_or_else(|| Error::shape(format!("`{name}` of `{}`", item.id), format!("({dim})"), &[got]))?;
                extend(&mut bytes, v.iter());
            }
            insert(name.clone(), Dtype::F32, vec![embedded.len(), dim], bytes)?;
        }
        for (name, rows) in &first.sequences {
            let dim = rows.ncols();
            let (mut bytes, mut counts, mut total) = (Vec::new(), Vec::new(), 0);
            for (item, features) in &embedded {
                let m = features.sequences.get(name).filter(|m| m.ncols() == dim);
                let got = features.sequences.get(name).map_or(&[0, 0][..], |m| m.shape());
                let m =
                    m.ok_or_else(|| Error::shape(format!("`{name}` of `{}`", item.id), format!("(_, {dim})"), got))?;
                extend(&mut bytes, m.iter());
                counts.extend_from_slice(&(m.nrows() as u64).to_le_bytes());
                total += m.nrows();
            }
            insert(name.clone(), Dtype::F32, vec![total, dim], bytes)?;
            insert(format!("{name}{COUNTS}"), Dtype::U64, vec![embedded.len()], counts)?;
        }
    }
    let failures = outcomes.iter().enumerate().filter_map(|(i, outcome)| match outcome {
        Outcome::Failed(reason) => Some((i, reason.clone())),
        Outcome::Embedded(_) => None,
    });
    let notes = outcomes.iter().enumerate().filter_map(|(i, outcome)| match outcome {
        Outcome::Embedded(features) if !features.notes.is_empty() => Some((i, features.notes.clone())),
        _ => None,
    });
    let mut header = Header {
        format: FORMAT,
        store: store.to_owned(),
        holds: holds.clone(),
        failures: failures.collect(),
        notes: notes.collect(),
        blake3: tensors
            .iter()
            .map(|(name, (_, _, bytes))| (name.clone(), hex(blake3::hash(bytes).as_bytes())))
            .collect(),
        check: String::new(),
    };
    header.check =
        header.sum(tensors.iter().map(|(name, (dtype, shape, _))| (name.as_str(), *dtype, shape.as_slice())));
    let text = serde_json::to_string(&header).map_err(|e| Error::format("shard", "JSON", e))?;
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| Error::format("shard", "safetensors", e))?;
    safetensors::serialize(views, Some(HashMap::from([(HEADER.to_owned(), text)])))
        .map_err(|e| Error::format("shard", "safetensors", e))
}

fn extend<'a>(bytes: &mut Vec<u8>, values: impl Iterator<Item = &'a f32>) {
    for v in values {
        bytes.extend_from_slice(&v.to_le_bytes());
    }
}
