//! Reading a finished store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ndarray::{Array2, ArrayView2, Axis, concatenate, s};

use super::{
    Failure, ItemKey, MANIFEST, Manifest,
    shard::{ShardContents, decode},
    writer::FeatureKind,
};
use crate::{Error, Result};

/// One vector for every embedded item.
#[derive(Debug, Clone)]
pub struct FeatureTable {
    /// Sample ids by row.
    pub ids: Vec<String>,
    /// Content hashes by row.
    pub fingerprints: Vec<[u8; 32]>,
    /// `(n, D)`.
    pub features: Array2<f32>,
    /// The items without a row.
    pub failures: Vec<Failure>,
}

/// Any number of rows for every embedded item.
#[derive(Debug, Clone)]
pub struct SequenceTable {
    /// Sample ids.
    pub ids: Vec<String>,
    /// Content hashes.
    pub fingerprints: Vec<[u8; 32]>,
    /// All rows, item after item: `(sum of counts, D)`.
    pub rows: Array2<f32>,
    /// Row where each item begins, and the end of the last one: `n + 1` numbers.
    pub offsets: Vec<usize>,
    /// The items without rows.
    pub failures: Vec<Failure>,
}

impl SequenceTable {
    /// The rows of item `i`, `(count, D)`; `None` past the last one.
    pub fn item(&self, i: usize) -> Option<ArrayView2<'_, f32>> {
        let (&start, &end) = (self.offsets.get(i)?, self.offsets.get(i + 1)?);
        Some(self.rows.slice(s![start..end, ..]))
    }
}

/// A finished store.
#[derive(Debug)]
pub struct FeatureStore {
    folder: PathBuf,
    manifest: Manifest,
}

impl FeatureStore {
    /// Opens the store in `folder` (the one with `manifest.json`).
    ///
    /// # Errors
    /// [`Error::File`] when there is no manifest (the store is not finished), [`Error::Damaged`].
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let manifest = serde_json::from_str(&text).map_err(|e| Error::Damaged { path, why: e.to_string() })?;
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// What the store holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// One shard; for stores larger than memory.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the file's hash is not the manifest's, [`Error::File`].
    pub fn shard(&self, shard: usize) -> Result<ShardContents> {
        let record = self.manifest.shards.get(shard).ok_or_else(|| Error::Parameter {
            what: "shard",
            expected: "less than the number of shards",
            got: shard.to_string(),
        })?;
        // The name in the manifest is not trusted to stay inside the folder.
        let path = self.folder.join(super::shard::shard_name(shard));
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        if blake3::hash(&bytes).to_hex().as_str() != record.blake3 {
            return Err(Error::Damaged { path, why: "its hash is not the manifest's; embed again".into() });
        }
        decode(&path, &bytes, &self.manifest.key, shard)
    }

    /// The vectors called `name` of all items.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], and those of [`shard`](Self::shard).
    pub fn table(&self, name: &str) -> Result<FeatureTable> {
        let dim = self.width(name, FeatureKind::Vector)?;
        let mut parts = Vec::new();
        let (mut ids, mut fingerprints) = (Vec::new(), Vec::new());
        for shard in 0..self.manifest.shards.len() {
            let mut contents = self.shard(shard)?;
            push(&mut ids, &mut fingerprints, contents.items);
            parts.extend(contents.vectors.remove(name));
        }
        Ok(FeatureTable { ids, fingerprints, features: stack(&parts, dim)?, failures: self.manifest.failures.clone() })
    }

    /// The sequences called `name` of all items.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], and those of [`shard`](Self::shard).
    pub fn sequences(&self, name: &str) -> Result<SequenceTable> {
        let dim = self.width(name, FeatureKind::Sequence)?;
        let (mut parts, mut offsets) = (Vec::new(), vec![0]);
        let (mut ids, mut fingerprints) = (Vec::new(), Vec::new());
        let mut end = 0;
        for shard in 0..self.manifest.shards.len() {
            let mut contents = self.shard(shard)?;
            push(&mut ids, &mut fingerprints, contents.items);
            if let Some((rows, counts)) = contents.sequences.remove(name) {
                parts.push(rows);
                for count in counts {
                    end += count;
                    offsets.push(end);
                }
            }
        }
        let rows = stack(&parts, dim)?;
        Ok(SequenceTable { ids, fingerprints, rows, offsets, failures: self.manifest.failures.clone() })
    }

    fn width(&self, name: &str, kind: FeatureKind) -> Result<usize> {
        match self.manifest.features.get(name) {
            Some(shape) if shape.kind == kind => Ok(shape.dim),
            _ => Err(Error::NoSuchTensor {
                name: name.to_owned(),
                held: self
                    .manifest
                    .features
                    .iter()
                    .map(|(n, f)| format!("{n} ({:?})", f.kind).to_lowercase())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }
}

fn push(ids: &mut Vec<String>, fingerprints: &mut Vec<[u8; 32]>, items: Vec<ItemKey>) {
    for item in items {
        ids.push(item.id);
        fingerprints.push(item.fingerprint);
    }
}

fn stack(parts: &[Array2<f32>], dim: usize) -> Result<Array2<f32>> {
    if parts.is_empty() {
        return Ok(Array2::zeros((0, dim)));
    }
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    concatenate(Axis(0), &views).map_err(|e| Error::shape("shards", e.to_string(), &[]))
}
