//! Which shard holds what of which case.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{FeatureShape, encode::is_shard_name, file::ShardFile};
use crate::{Error, Result, doubts::CaseNotes};

/// The shards of a store and the places of every case in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// By name, so that of equals the same one is chosen every time.
    shards: BTreeMap<String, Arc<ShardFile>>,
    places: HashMap<[u8; 32], Vec<Place>>,
    features: BTreeMap<String, FeatureShape>,
}

/// A case in a shard.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) shard: Arc<ShardFile>,
    /// Among the shard's keys.
    pub(super) position: usize,
}

impl Place {
    /// Its row in the shard's tensors; `None` for a failed case.
    pub(super) fn row(&self) -> Option<usize> {
        self.shard.rows.get(self.position).copied().flatten()
    }

    pub(super) fn notes(&self) -> Option<&CaseNotes> {
        self.shard.notes.get(&self.position)
    }

    fn failure(&self) -> Option<&str> {
        self.shard.failures.get(&self.position).map(String::as_str)
    }
}

/// What is known of a case.
#[derive(Debug, Clone)]
pub(super) enum Known<'a> {
    Embedded(&'a Place),
    Failed(&'a str),
}

impl Index {
    /// Adds the shards of `folder` that are not known yet, and gives back the damaged ones.
    pub(super) fn refresh(&mut self, folder: &Path, store: &str) -> Result<Vec<(PathBuf, String)>> {
        let mut damaged = Vec::new();
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
            let entry = entry.map_err(Error::file("list", folder))?;
            names.extend(entry.file_name().into_string().ok().filter(|name| is_shard_name(name)));
        }
        names.sort_unstable();
        for name in names.into_iter().filter(|name| !self.shards.contains_key(name)).collect::<Vec<_>>() {
            let path = folder.join(&name);
            match ShardFile::open(&path, store).and_then(|shard| self.add(shard)) {
                Ok(()) => {}
                Err(Error::Damaged { path, why }) => damaged.push((path, why)),
                // tidied away meanwhile
                Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(damaged)
    }

    /// Adds a shard, in place of one of the same name.
    ///
    /// # Errors
    /// [`Error::Damaged`] for features that are as wide nowhere else in the store.
    pub(super) fn add(&mut self, shard: ShardFile) -> Result<()> {
        for (name, shape) in &shard.features {
            let known = self.features.get(name).unwrap_or(shape);
            if known != shape {
                let why = format!("`{name}` is {} wide, in other shards {}", shape.dim, known.dim);
                return Err(Error::Damaged { path: shard.path, why });
            }
        }
        self.features.extend(shard.features.iter().map(|(name, shape)| (name.clone(), *shape)));
        let shard = Arc::new(shard);
        if self.shards.insert(shard.name.clone(), Arc::clone(&shard)).is_some() {
            self.places.values_mut().for_each(|places| places.retain(|place| place.shard.name != shard.name));
        }
        for (position, key) in shard.keys.iter().enumerate() {
            let places = self.places.entry(*key).or_default();
            places.push(Place { shard: Arc::clone(&shard), position });
            // the richest first; of equals the one whose name comes first
            places.sort_by(|a, b| {
                b.shard.holds.len().cmp(&a.shard.holds.len()).then_with(|| a.shard.name.cmp(&b.shard.name))
            });
        }
        Ok(())
    }

    /// Forgets a shard.
    pub(super) fn remove(&mut self, name: &str) {
        let Some(shard) = self.shards.remove(name) else { return };
        for key in &shard.keys {
            if let Some(places) = self.places.get_mut(key) {
                places.retain(|place| place.shard.name != name);
                if places.is_empty() {
                    self.places.remove(key);
                }
            }
        }
    }

    /// What is known of a case for whoever needs these features. A failure counts for all who need at
    /// least what was asked for when it failed.
    pub(super) fn find(&self, key: &[u8; 32], needs: &BTreeSet<String>) -> Option<Known<'_>> {
        let places = self.places.get(key)?;
        let embedded = |place: &&Place| place.row().is_some() && needs.is_subset(&place.shard.holds);
        if let Some(place) = places.iter().find(embedded) {
            return Some(Known::Embedded(place));
        }
        // what failed once and then succeeded was no fault of the case
        let overtaken = |holds: &BTreeSet<String>| {
            places.iter().any(|place| place.row().is_some() && holds.is_subset(&place.shard.holds))
        };
        let mut failed = places.iter().filter(|p| p.shard.holds.is_subset(needs) && !overtaken(&p.shard.holds));
        failed.find_map(Place::failure).map(Known::Failed)
    }

    /// The richest entry of a case that holds a feature.
    pub(super) fn entry(&self, key: &[u8; 32], name: &str) -> Option<&Place> {
        self.places.get(key)?.iter().find(|place| place.row().is_some() && place.shard.holds.contains(name))
    }

    /// What is noted of a case.
    pub(super) fn notes(&self, key: &[u8; 32]) -> Option<&CaseNotes> {
        self.places.get(key)?.iter().find_map(Place::notes)
    }

    /// Names of everything that is held of a case.
    pub(super) fn held(&self, key: &[u8; 32]) -> BTreeSet<&str> {
        let places = self.places.get(key).into_iter().flatten().filter(|place| place.row().is_some());
        places.flat_map(|place| place.shard.holds.iter().map(String::as_str)).collect()
    }

    /// All places of a case, the richest first.
    pub(super) fn places(&self, key: &[u8; 32]) -> &[Place] {
        self.places.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = &Arc<ShardFile>> {
        self.shards.values()
    }

    /// Number of different cases.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Width of every feature.
    pub(super) fn features(&self) -> &BTreeMap<String, FeatureShape> {
        &self.features
    }
}
