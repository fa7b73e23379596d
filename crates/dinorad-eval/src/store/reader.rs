//! Reading features of a set of cases.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use ndarray::{Array2, ArrayView2, s};

use super::{
    EncoderRecord, Failure, FeatureKind, FeatureShape, ItemKey, Manifest, Pieces, StoreKey,
    index::{Index, Place},
};
use crate::{CaseNotes, Doubts, Error, Result, Settings};

/// Bytes of a piece unless the caller says otherwise.
const PIECE: usize = 64 << 20;

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

/// The features of a set of cases: a list on top of a store.
#[derive(Debug, Clone)]
pub struct FeatureStore {
    folder: PathBuf,
    key: StoreKey,
    index: Arc<Index>,
    items: Arc<[ItemKey]>,
    /// The items that have features.
    embedded: Arc<[usize]>,
    failures: Arc<[Failure]>,
}

impl FeatureStore {
    /// All cases of all sets of the store in `folder`, each once. Sets are gone through by name.
    ///
    /// # Errors
    /// [`Error::File`] when there is no manifest (no set is finished), [`Error::OlderFormat`],
    /// [`Error::Damaged`]; [`Error::DuplicateId`] when two sets give one id to different content:
    /// [`open_set`](Self::open_set) then.
    pub fn open(folder: &Path) -> Result<Self> {
        let (key, manifest) = Self::manifest(folder)?;
        let path = folder.join(super::MANIFEST);
        let (mut items, mut failures) = (Vec::new(), Vec::new());
        let mut seen: BTreeMap<String, [u8; 32]> = BTreeMap::new();
        for set in manifest.sets.values() {
            let failed: BTreeMap<&str, &Failure> = set.failures.iter().map(|f| (f.id.as_str(), f)).collect();
            for item in set.items(&path)? {
                match seen.get(&item.id) {
                    Some(known) if *known == item.fingerprint => continue,
                    Some(_) => return Err(Error::DuplicateId { id: item.id }),
                    None => {}
                }
                seen.insert(item.id.clone(), item.fingerprint);
                failures.extend(failed.get(item.id.as_str()).map(|f| (*f).clone()));
                items.push(item);
            }
        }
        Self::loaded(folder, key, items, failures)
    }

    /// The cases of one set of the store in `folder`.
    ///
    /// # Errors
    /// [`Error::NoSuchSet`], and those of [`open`](Self::open).
    pub fn open_set(folder: &Path, set: &str) -> Result<Self> {
        let (key, manifest) = Self::manifest(folder)?;
        let record = manifest.sets.get(set).ok_or_else(|| Error::NoSuchSet {
            path: folder.to_owned(),
            name: set.to_owned(),
            held: manifest.sets.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let items = record.items(&folder.join(super::MANIFEST))?;
        Self::loaded(folder, key, items, record.failures.clone())
    }

    /// What `manifest.json` of a store says, and its key.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn manifest(folder: &Path) -> Result<(StoreKey, Manifest)> {
        let key = StoreKey::read(folder)?;
        let path = folder.join(super::MANIFEST);
        let missing = || Error::file("read", path)(std::io::Error::from(std::io::ErrorKind::NotFound));
        let manifest = Manifest::read(folder, &key)?.ok_or_else(missing)?;
        Ok((key, manifest))
    }

    fn loaded(folder: &Path, key: StoreKey, items: Vec<ItemKey>, failures: Vec<Failure>) -> Result<Self> {
        let mut index = Index::default();
        if let Some((path, why)) = index.refresh(folder, &key.key)?.into_iter().next() {
            return Err(Error::Damaged { path, why: format!("{why}; embed again") });
        }
        Self::new(folder, key, Arc::new(index), items.into(), failures)
    }

    /// A set of cases on top of the shards there are.
    pub(super) fn new(
        folder: &Path,
        key: StoreKey,
        index: Arc<Index>,
        items: Arc<[ItemKey]>,
        failures: Vec<Failure>,
    ) -> Result<Self> {
        let failed: BTreeSet<&str> = failures.iter().map(|f| f.id.as_str()).collect();
        let embedded = (0..items.len()).filter(|i| !failed.contains(items[*i].id.as_str())).collect();
        Ok(Self { folder: folder.to_owned(), key, index, items, embedded, failures: failures.into() })
    }

    /// The store's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the features were made by.
    pub fn encoder(&self) -> &EncoderRecord {
        &self.key.encoder
    }

    /// What was done to pixels before the encoder.
    pub fn settings(&self) -> &Settings {
        &self.key.settings
    }

    /// Every case of the set, in order, failed ones included.
    pub fn items(&self) -> &[ItemKey] {
        &self.items
    }

    /// The items without features, in order.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Number of cases with features.
    pub fn len(&self) -> usize {
        self.embedded.len()
    }

    /// Whether no case has features.
    pub fn is_empty(&self) -> bool {
        self.embedded.is_empty()
    }

    /// The case of row `i`.
    pub fn item(&self, i: usize) -> Option<&ItemKey> {
        self.items.get(*self.embedded.get(i)?)
    }

    /// What is noted of the case of row `i`, if anything is.
    pub fn notes(&self, i: usize) -> Option<&CaseNotes> {
        self.index.notes(&self.item(i)?.fingerprint)
    }

    /// What may be wrong with the values of the cases, by kind.
    pub fn doubts(&self) -> Doubts {
        let mut out = Doubts::default();
        for i in 0..self.len() {
            if let (Some(item), Some(notes)) = (self.item(i), self.notes(i)) {
                notes.doubts.iter().for_each(|text| out.add(&item.id, text));
            }
        }
        out
    }

    /// Ids of the cases with features, by row.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.embedded.iter().map(|i| self.items[*i].id.as_str())
    }

    /// The features that every case of the set has, with their widths.
    pub fn features(&self) -> BTreeMap<String, FeatureShape> {
        let mut cases = self.embedded.iter().map(|i| self.index.held(&self.items[*i].fingerprint));
        let Some(mut common) = cases.next() else { return BTreeMap::new() };
        for held in cases {
            common.retain(|name| held.contains(name));
        }
        let known = self.index.features();
        common.into_iter().filter_map(|name| Some((name.to_owned(), *known.get(name)?))).collect()
    }

    pub(super) fn place(&self, case: usize, name: &str) -> Result<&Place> {
        let item = self.item(case).ok_or_else(|| Error::Parameter {
            what: "case of a set",
            expected: "less than their number",
            got: case.to_string(),
        })?;
        self.index.entry(&item.fingerprint, name).ok_or_else(|| Error::NoSuchTensor {
            name: name.to_owned(),
            held: match self.index.held(&item.fingerprint).into_iter().collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => format!("nothing of `{}`: embed again", item.id),
                some => format!("{some} of `{}`", item.id),
            },
        })
    }

    /// Some features of all cases, in order, in pieces of at most `bytes` (or one case): memory stays
    /// flat however large the set is.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), dinorad_eval::Error> {
    /// let store = dinorad_eval::store::FeatureStore::open("features/0123".as_ref())?;
    /// for piece in store.pieces(&["patches"], 64 << 20)? {
    ///     let piece = piece?;
    ///     for (i, case) in piece.cases.clone().enumerate() {
    ///         let tokens = piece.sequence("patches", i);
    ///         println!("{:?}: {:?}", store.item(case), tokens.map(|t| t.dim()));
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a name that no case has; each piece [`Error::Damaged`] for a file
    /// that is not as it was written, [`Error::NoSuchTensor`] for a case that lacks a feature,
    /// [`Error::File`].
    pub fn pieces(&self, names: &[&str], bytes: usize) -> Result<Pieces<'_>> {
        let known = self.index.features();
        let kind = |name: &&str| {
            let shape = known.get(*name).ok_or_else(|| self.no_such(name))?;
            Ok(((*name).to_owned(), shape.kind))
        };
        let names = names.iter().map(kind).collect::<Result<Vec<_>>>()?;
        Ok(Pieces::new(self, names, bytes))
    }

    /// The vectors called `name` of all items.
    ///
    /// # Errors
    /// Those of [`pieces`](Self::pieces); [`Error::NoSuchTensor`] for a sequence.
    pub fn table(&self, name: &str) -> Result<FeatureTable> {
        let dim = self.width(name, FeatureKind::Vector)?;
        let mut features = Array2::zeros((self.len(), dim));
        for piece in self.pieces(&[name], PIECE)? {
            let piece = piece?;
            if let Some(rows) = piece.vectors(name) {
                features.slice_mut(s![piece.cases.clone(), ..]).assign(&rows);
            }
        }
        let (ids, fingerprints) = self.names();
        Ok(FeatureTable { ids, fingerprints, features, failures: self.failures.to_vec() })
    }

    /// The sequences called `name` of all items.
    ///
    /// # Errors
    /// Those of [`pieces`](Self::pieces); [`Error::NoSuchTensor`] for a vector.
    pub fn sequences(&self, name: &str) -> Result<SequenceTable> {
        let dim = self.width(name, FeatureKind::Sequence)?;
        let (mut values, mut offsets) = (Vec::new(), vec![0]);
        let mut end = 0;
        for piece in self.pieces(&[name], PIECE)? {
            let Some((rows, Some(of))) = piece?.take(name) else { continue };
            offsets.extend(of.iter().skip(1).map(|at| end + at));
            end += rows.nrows();
            values.extend(rows);
        }
        let rows = Array2::from_shape_vec((end, dim), values).map_err(|e| Error::shape(name, e.to_string(), &[]))?;
        let (ids, fingerprints) = self.names();
        Ok(SequenceTable { ids, fingerprints, rows, offsets, failures: self.failures.to_vec() })
    }

    fn names(&self) -> (Vec<String>, Vec<[u8; 32]>) {
        let item = |i: &usize| (self.items[*i].id.clone(), self.items[*i].fingerprint);
        self.embedded.iter().map(item).unzip()
    }

    fn width(&self, name: &str, kind: FeatureKind) -> Result<usize> {
        match self.index.features().get(name) {
            Some(shape) if shape.kind == kind => Ok(shape.dim),
            _ => Err(self.no_such(name)),
        }
    }

    fn no_such(&self, name: &str) -> Error {
        let held = self.features();
        let words = held.iter().map(|(n, f)| format!("{n} ({:?})", f.kind).to_lowercase());
        Error::NoSuchTensor { name: name.to_owned(), held: words.collect::<Vec<_>>().join(", ") }
    }
}
