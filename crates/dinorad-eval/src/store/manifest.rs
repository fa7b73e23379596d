//! `manifest.json`: the sets of cases that a store was made for.

use std::{collections::BTreeMap, fs, io, path::Path};

use dinorad_report::Failure;
use serde::{Deserialize, Serialize};

use super::{
    EncoderRecord, FORMAT, ItemKey, MANIFEST, StoreKey,
    item::{hex, unhex},
};
use crate::{CaseNotes, Error, Result, Settings};

/// What `manifest.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// The store's key, also its folder's name.
    pub key: String,
    /// The encoder.
    pub encoder: EncoderRecord,
    /// What was done to pixels before it.
    pub settings: Settings,
    /// Number of different cases in all sets, failed ones included.
    pub items: usize,
    /// Width of every feature by name.
    pub features: BTreeMap<String, FeatureShape>,
    /// The cases without features, of all sets.
    pub failures: Vec<Failure>,
    /// The lists of cases, by name.
    pub sets: BTreeMap<String, SetRecord>,
}

/// A list of cases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SetRecord {
    /// In order, failed ones included.
    pub cases: Vec<CaseRecord>,
    /// Those without features, in order.
    pub failures: Vec<Failure>,
}

/// A case of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CaseRecord {
    /// Its id.
    pub id: String,
    /// BLAKE3 of its content, which finds its features; `None` where the content could not be read.
    pub content: Option<String>,
    /// The file or folder it is from, relative to the root of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A salted hash of its patient's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// How its values came to the encoder's scale, where that is not each slice from its smallest to its
    /// largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// What may be wrong with its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// How wide a feature is and whether an item has one row of it or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

impl SetRecord {
    pub(super) fn new<'a>(
        items: &[ItemKey],
        failures: &[Failure],
        notes: impl Fn(&ItemKey) -> Option<&'a CaseNotes>,
    ) -> Self {
        let case = |item: &ItemKey| {
            let CaseNotes { shown, doubts } = notes(item).cloned().unwrap_or_default();
            CaseRecord {
                id: item.id.clone(),
                content: item.has_content().then(|| hex(&item.fingerprint)),
                source: item.source.clone(),
                patient: item.patient.clone(),
                shown,
                doubts,
            }
        };
        Self { cases: items.iter().map(case).collect(), failures: failures.to_vec() }
    }

    /// The cases as keys.
    pub(super) fn items(&self, path: &Path) -> Result<Vec<ItemKey>> {
        let key = |case: &CaseRecord| {
            let content = match &case.content {
                Some(text) => unhex(text).ok_or_else(|| Error::Damaged {
                    path: path.to_owned(),
                    why: format!("the content of `{}` is no hash", case.id),
                })?,
                None => [0; 32],
            };
            let mut key = ItemKey::new(&case.id, content);
            key.source.clone_from(&case.source);
            key.patient.clone_from(&case.patient);
            Ok(key)
        };
        self.cases.iter().map(key).collect()
    }
}

impl Manifest {
    /// One without a set.
    pub(super) fn empty(key: &StoreKey) -> Self {
        Self {
            format: FORMAT,
            key: key.key.clone(),
            encoder: key.encoder.clone(),
            settings: key.settings.clone(),
            items: 0,
            features: BTreeMap::new(),
            failures: Vec::new(),
            sets: BTreeMap::new(),
        }
    }

    /// The manifest in the folder of a store; `None` where no set is complete.
    pub(super) fn read(folder: &Path, key: &StoreKey) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(Error::Damaged { path, why: "it is no text".into() });
            }
            Err(e) => return Err(Error::file("read", path)(e)),
        };
        let manifest: Self =
            serde_json::from_str(&text).map_err(|e| Error::Damaged { path: path.clone(), why: e.to_string() })?;
        if manifest.key != key.key || manifest.format != FORMAT {
            let why = format!("it is that of store {}, not of {}", manifest.key, key.key);
            return Err(Error::Damaged { path, why });
        }
        Ok(Some(manifest))
    }

    /// Puts a set in, in place of one of the same name, and counts anew.
    pub(super) fn put(&mut self, name: &str, set: SetRecord, features: BTreeMap<String, FeatureShape>) {
        self.sets.insert(name.to_owned(), set);
        self.features = features;
        let mut seen = std::collections::BTreeSet::new();
        let mut failures: Vec<Failure> = Vec::new();
        let mut told = std::collections::BTreeSet::new();
        for set in self.sets.values() {
            seen.extend(set.cases.iter().map(|case| (&case.id, &case.content)));
            for failure in &set.failures {
                if told.insert((failure.id.clone(), failure.reason.clone())) {
                    failures.push(failure.clone());
                }
            }
        }
        self.items = seen.len();
        self.failures = failures;
    }
}
