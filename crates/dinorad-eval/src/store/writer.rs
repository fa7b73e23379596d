//! Making a store, shard by shard.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use dinorad_report::{
    Failure,
    atomic::{remove_unfinished, write_atomic},
};
use serde::{Deserialize, Serialize};

use super::{
    FORMAT, KeyParts, MANIFEST, Outcome, Part, StorePlan,
    lock::StoreLock,
    shard::{ShardContents, decode, encode, shard_name},
};
use crate::{Error, Result};

/// What `manifest.json` says; written when every shard is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// The store's key, also its folder's name.
    pub key: String,
    /// What the key is made of.
    pub parts: KeyParts,
    /// Number of items, failed ones included.
    pub items: usize,
    /// Items in a full shard.
    pub shard_size: usize,
    /// Width of every feature by name.
    pub features: BTreeMap<String, FeatureShape>,
    /// The files.
    pub shards: Vec<ShardRecord>,
    /// The items without features, in order.
    pub failures: Vec<Failure>,
}

/// How wide a feature is and whether an item has one row of it or many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureShape {
    /// Numbers in a row.
    pub dim: usize,
    /// `vector` or `sequence`.
    pub kind: FeatureKind,
}

/// How many rows of a feature an item has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureKind {
    /// One.
    Vector,
    /// Any number.
    Sequence,
}

/// One file of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Its name.
    pub file: String,
    /// Items in it, failed ones included.
    pub items: usize,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub blake3: String,
}

/// What is known of a shard that is on disk and whole.
#[derive(Debug, Clone)]
struct Known {
    record: ShardRecord,
    features: BTreeMap<String, FeatureShape>,
    failures: Vec<Failure>,
}

/// A store being made; holds its lock until dropped.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    plan: StorePlan,
    part: Part,
    known: Vec<Option<Known>>,
    notices: Vec<String>,
    _lock: StoreLock,
}

impl Store {
    /// Opens `<root>/<key>/`, made if need be, to write one part of it.
    ///
    /// Every shard already there is read and checked; a damaged one counts as missing and is named
    /// in [`notices`](Self::notices). What a killed process left half-written is removed.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process writes the same part (or one of them the whole),
    /// [`Error::File`].
    pub fn open_or_create(root: &Path, plan: StorePlan, part: Part) -> Result<Self> {
        let folder = root.join(plan.key());
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let lock = StoreLock::acquire(root, plan.key(), part)?;
        let tag = part.file_tag();
        remove_unfinished(&folder, if part.is_whole() { None } else { Some(&tag) })?;
        let mut store =
            Self { known: vec![None; plan.n_shards()], folder, plan, part, notices: Vec::new(), _lock: lock };
        for shard in 0..store.plan.n_shards() {
            if part.makes(shard) {
                store.look_at(shard)?;
            }
        }
        Ok(store)
    }

    /// The store's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the store is to hold.
    pub fn plan(&self) -> &StorePlan {
        &self.plan
    }

    /// Shards of this part still to be made, in order.
    pub fn missing_shards(&self) -> Vec<usize> {
        self.known.iter().enumerate().filter(|(i, k)| self.part.makes(*i) && k.is_none()).map(|(i, _)| i).collect()
    }

    /// What the user should hear of: damaged shards that are made again.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Failures in this part's shards so far, in order.
    pub fn part_failures(&self) -> Vec<Failure> {
        let mine = self.known.iter().enumerate().filter(|(shard, _)| self.part.makes(*shard));
        mine.filter_map(|(_, k)| k.as_ref()).flat_map(|k| k.failures.iter().cloned()).collect()
    }

    /// Writes one shard: one outcome for each of [`StorePlan::items_of`] it, in order.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a shard of another part, [`Error::Shape`] for widths or numbers that
    /// do not agree, [`Error::File`].
    pub fn write_shard(&mut self, shard: usize, outcomes: &[Outcome]) -> Result<()> {
        if shard >= self.plan.n_shards() || !self.part.makes(shard) {
            return Err(Error::Parameter {
                what: "shard to write",
                expected: "one of this part's",
                got: format!("{shard} of part {}", self.part),
            });
        }
        let bytes = encode(&self.plan, shard, outcomes)?;
        let path = self.folder.join(shard_name(shard));
        let contents = decode(&path, &bytes, self.plan.key(), shard)?;
        let known = Known::new(shard, &bytes, &contents);
        self.check_widths(shard, &known)?;
        write_atomic(&path, &bytes, &self.part.file_tag())?;
        self.known[shard] = Some(known);
        Ok(())
    }

    /// Writes `manifest.json` when all shards of all parts are there; `None` while some are not.
    ///
    /// # Errors
    /// [`Error::Shape`] when shards disagree on a width, [`Error::File`].
    pub fn finish(&mut self) -> Result<Option<Manifest>> {
        for shard in 0..self.plan.n_shards() {
            if self.known[shard].is_none() {
                self.look_at(shard)?;
            }
        }
        let Some(known) = self.known.iter().cloned().collect::<Option<Vec<Known>>>() else { return Ok(None) };
        let mut features = BTreeMap::new();
        for (shard, k) in known.iter().enumerate() {
            self.check_widths(shard, k)?;
            features.extend(k.features.clone());
        }
        let manifest = Manifest {
            format: FORMAT,
            key: self.plan.key().to_owned(),
            parts: self.plan.parts().clone(),
            items: self.plan.items().len(),
            shard_size: self.plan.shard_size(),
            features,
            failures: known.iter().flat_map(|k| k.failures.iter().cloned()).collect(),
            shards: known.into_iter().map(|k| k.record).collect(),
        };
        let path = self.folder.join(MANIFEST);
        let mut text = serde_json::to_string_pretty(&manifest).map_err(|e| Error::format(&path, "JSON", e))?;
        text.push('\n');
        // Left alone when it already says so: a finished store does not change.
        if !fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
            write_atomic(&path, text.as_bytes(), &self.part.file_tag())?;
        }
        Ok(Some(manifest))
    }

    /// Reads a shard that may be there.
    fn look_at(&mut self, shard: usize) -> Result<()> {
        let path = self.folder.join(shard_name(shard));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::file("read", path)(e)),
        };
        match decode(&path, &bytes, self.plan.key(), shard) {
            Ok(contents) => self.known[shard] = Some(Known::new(shard, &bytes, &contents)),
            Err(Error::Damaged { why, .. }) => {
                let notice = format!("{} is damaged ({why}) and is made again", shard_name(shard));
                tracing::warn!("{notice}");
                self.notices.push(notice);
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Every shard with embedded items has the same features of the same width.
    fn check_widths(&self, shard: usize, new: &Known) -> Result<()> {
        let other = self.known.iter().enumerate().find(|(i, k)| {
            *i != shard && k.as_ref().is_some_and(|k| !k.features.is_empty() && !new.features.is_empty())
        });
        if let Some((i, Some(k))) = other
            && k.features != new.features
        {
            return Err(Error::Shape {
                what: format!("features of shard {shard}"),
                expected: format!("as shard {i}: {:?}", k.features),
                got: new.features.values().map(|f| f.dim).collect(),
            });
        }
        Ok(())
    }
}

impl Known {
    fn new(shard: usize, bytes: &[u8], contents: &ShardContents) -> Self {
        let vectors = contents
            .vectors
            .iter()
            .map(|(n, a)| (n.clone(), FeatureShape { dim: a.ncols(), kind: FeatureKind::Vector }));
        let sequences = contents
            .sequences
            .iter()
            .map(|(n, (a, _))| (n.clone(), FeatureShape { dim: a.ncols(), kind: FeatureKind::Sequence }));
        Self {
            record: ShardRecord {
                file: shard_name(shard),
                items: contents.items.len() + contents.failures.len(),
                bytes: bytes.len() as u64,
                blake3: blake3::hash(bytes).to_hex().to_string(),
            },
            features: vectors.chain(sequences).collect(),
            failures: contents
                .failures
                .iter()
                .map(|(item, reason)| Failure { id: item.id.clone(), reason: reason.clone() })
                .collect(),
        }
    }
}
