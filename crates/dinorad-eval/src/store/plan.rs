//! What a store is to hold, in which order, in which files.

use std::{collections::BTreeMap, fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use super::FORMAT;
use crate::{Error, Result};

/// One case: its id and a hash of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemKey {
    /// The sample id, unique within a store.
    pub id: String,
    /// blake3 of the content; all zero when the content could not be read.
    pub fingerprint: [u8; 32],
}

impl ItemKey {
    /// An item of this id and content.
    pub fn new(id: impl Into<String>, fingerprint: [u8; 32]) -> Self {
        Self { id: id.into(), fingerprint }
    }
}

/// What the numbers depend on besides the items; goes into the key and, readable, into the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts {
    /// The preprocessing, as its own hash or stable text.
    pub preprocessing: String,
    /// Digest of the encoder's weights.
    pub weights: String,
    /// What was asked of the encoder (layers, norm, patches).
    pub request: String,
    /// Anything else (orientation, dtype, …), by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
    /// Version of this crate.
    #[serde(rename = "crate")]
    pub crate_version: String,
}

impl KeyParts {
    /// The parts every store has.
    pub fn new(preprocessing: impl Into<String>, weights: impl Into<String>, request: impl Into<String>) -> Self {
        Self {
            preprocessing: preprocessing.into(),
            weights: weights.into(),
            request: request.into(),
            extra: BTreeMap::new(),
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Adds a named part.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }
}

/// The items of a store in order, cut into shards of equal size.
#[derive(Debug, Clone)]
pub struct StorePlan {
    parts: KeyParts,
    items: Vec<ItemKey>,
    shard_size: usize,
    key: String,
}

impl StorePlan {
    /// A plan for `items` in this order, `shard_size` of them in a file.
    ///
    /// # Errors
    /// [`Error::Parameter`] for no items or a shard size of 0, [`Error::DuplicateId`].
    pub fn new(parts: KeyParts, items: Vec<ItemKey>, shard_size: usize) -> Result<Self> {
        if items.is_empty() {
            return Err(Error::Parameter {
                what: "items of a feature store",
                expected: "at least one",
                got: "0".into(),
            });
        }
        if shard_size == 0 {
            return Err(Error::Parameter { what: "shard size", expected: "1 or more", got: "0".into() });
        }
        let mut ids: Vec<&str> = items.iter().map(|i| i.id.as_str()).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::DuplicateId { id: pair[0].to_owned() });
        }
        let key = key(&parts, &items, shard_size);
        Ok(Self { parts, items, shard_size, key })
    }

    /// Hash of everything the store's bytes depend on: 32 hexadecimal digits.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the key is made of besides the items.
    pub fn parts(&self) -> &KeyParts {
        &self.parts
    }

    /// All items in order.
    pub fn items(&self) -> &[ItemKey] {
        &self.items
    }

    /// Items in a full shard.
    pub fn shard_size(&self) -> usize {
        self.shard_size
    }

    /// Number of shard files.
    pub fn n_shards(&self) -> usize {
        self.items.len().div_ceil(self.shard_size)
    }

    /// Positions in [`items`](Self::items) of one shard; empty past the last one.
    pub fn range_of(&self, shard: usize) -> Range<usize> {
        let start = shard.saturating_mul(self.shard_size).min(self.items.len());
        start..start.saturating_add(self.shard_size).min(self.items.len())
    }

    /// The items of one shard; empty past the last one.
    pub fn items_of(&self, shard: usize) -> &[ItemKey] {
        &self.items[self.range_of(shard)]
    }
}

/// Length-prefixed fields: no two different plans give the same byte string.
fn key(parts: &KeyParts, items: &[ItemKey], shard_size: usize) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("dinorad feature store key");
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(&FORMAT.to_le_bytes());
    for text in [&parts.preprocessing, &parts.weights, &parts.request, &parts.crate_version] {
        field(text.as_bytes());
    }
    field(&(parts.extra.len() as u64).to_le_bytes());
    for (name, value) in &parts.extra {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    field(&(shard_size as u64).to_le_bytes());
    field(&(items.len() as u64).to_le_bytes());
    for item in items {
        field(item.id.as_bytes());
        field(&item.fingerprint);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Which shards of a store one process makes: number `index` of `of`, counted from 1 (`3/16`).
///
/// Part `i` makes the shards `i-1`, `i-1+n`, `i-1+2n`, …; the parts of one split never share a
/// shard and together make all.
///
/// ```
/// use dinorad_eval::store::Part;
/// let part: Part = "3/16".parse()?;
/// assert!(part.makes(2) && part.makes(18) && !part.makes(3));
/// # Ok::<(), dinorad_eval::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    index: usize,
    of: usize,
}

impl Part {
    /// Everything in one process.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    /// Part `index` (from 1) of `of`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `1 <= index <= of`.
    pub fn new(index: usize, of: usize) -> Result<Self> {
        if index == 0 || index > of {
            return Err(bad_part(&format!("{index}/{of}")));
        }
        Ok(Self { index, of })
    }

    /// Whether this is everything.
    pub fn is_whole(self) -> bool {
        self.of == 1
    }

    /// Whether this part makes that shard.
    pub fn makes(self, shard: usize) -> bool {
        shard % self.of == self.index - 1
    }

    /// A name for this part's own files.
    pub(super) fn file_tag(self) -> String {
        format!("{}-of-{}", self.index, self.of)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Part {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let (index, of) = s.split_once('/').ok_or_else(|| bad_part(s))?;
        match (index.trim().parse(), of.trim().parse()) {
            (Ok(index), Ok(of)) => Self::new(index, of),
            _ => Err(bad_part(s)),
        }
    }
}

fn bad_part(got: &str) -> Error {
    Error::Parameter { what: "shard", expected: "I/N with 1 <= I <= N, such as 3/16", got: got.to_owned() }
}
