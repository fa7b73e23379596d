//! Making the features of a list of cases, shard by shard.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_core::markers;
use rayon::prelude::*;

use super::{
    Failure, FeatureStore, ItemKey, MANIFEST, Manifest, Outcome, Part, SetRecord, StoreKey,
    encode::{encode, shard_name},
    file::ShardFile,
    index::{Index, Known},
    lock::{ManifestLock, Patience, StoreLock},
};
use crate::{Error, Result, write_atomic};

/// The ending that marks a file still being written.
const UNFINISHED: &str = ".unfinished";

/// A store while features of a list of cases are made in it; holds its lock until dropped.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    folder: PathBuf,
    key: StoreKey,
    items: Arc<[ItemKey]>,
    needs: BTreeSet<String>,
    /// The first case of every content, in order.
    first: Vec<usize>,
    /// Whether each case is one that this part makes.
    own: Vec<bool>,
    shard_size: usize,
    part: Part,
    /// Ends the names of files this process is writing.
    tag: String,
    index: Arc<Index>,
    notices: Vec<String>,
    _lock: StoreLock,
}

impl Store {
    /// Opens `<root>/<key>/`, made if need be, to make features called `needs` of the cases of a list,
    /// `shard_size` of them in a file.
    ///
    /// What is there already of these cases is read and checked; damaged shards are removed, count as
    /// missing and are named in [`notices`](Self::notices). What a killed process left half-written of
    /// the same list is removed.
    ///
    /// # Errors
    /// [`Error::Parameter`] for no items, no features or a shard size of 0, [`Error::DuplicateId`],
    /// [`Error::Locked`] while another process makes the same part of the same list (or one of them
    /// the whole), [`Error::OlderFormat`], [`Error::File`].
    pub fn open<N: Into<String>>(
        root: &Path,
        key: StoreKey,
        items: Vec<ItemKey>,
        needs: impl IntoIterator<Item = N>,
        shard_size: usize,
        part: Part,
    ) -> Result<Self> {
        Self::open_patiently(root, key, items, needs, (shard_size, part), Patience::NONE)
    }

    /// The same, waiting for another process that makes the same: what it makes is found then, and what it
    /// left when it was killed is taken over.
    ///
    /// # Errors
    /// As [`open`](Self::open), [`Error::Locked`] when the patience is at its end.
    pub fn open_patiently<N: Into<String>>(
        root: &Path,
        key: StoreKey,
        items: Vec<ItemKey>,
        needs: impl IntoIterator<Item = N>,
        (shard_size, part): (usize, Part),
        patience: Patience<'_>,
    ) -> Result<Self> {
        let needs: BTreeSet<String> = needs.into_iter().map(Into::into).collect();
        let none = |what| Err(Error::Parameter { what, expected: "at least one", got: "0".into() });
        if items.is_empty() {
            return none("items of a feature store");
        }
        if needs.is_empty() {
            return none("features of a feature store");
        }
        if shard_size == 0 {
            return none("shard size");
        }
        let mut ids: Vec<&str> = items.iter().map(|i| i.id.as_str()).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::DuplicateId { id: pair[0].to_owned() });
        }
        let mut seen = HashSet::new();
        let new = |i: &usize| items[*i].has_content() && seen.insert(items[*i].fingerprint);
        let first: Vec<usize> = (0..items.len()).filter(new).collect();
        let mut own = vec![false; items.len()];
        for (_, piece) in first.chunks(shard_size).enumerate().filter(|(piece, _)| part.makes(*piece)) {
            piece.iter().for_each(|i| own[*i] = true);
        }
        // two lists of the same content, features and shard size are the same work
        let list = shard_name(first.iter().map(|i| &items[*i].fingerprint), &needs);
        let list = blake3::hash(format!("{list} {shard_size}").as_bytes()).to_hex()[..16].to_owned();

        let folder = root.join(&key.key);
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let lock = StoreLock::acquire(root, &key.key, &list, part, patience)?;
        let tag = format!("{list}-{}", part.file_tag());
        remove_unfinished(&folder, if part.is_whole() { &list } else { &tag }, part.is_whole())?;
        let marker = folder.join(markers::STORE);
        // Left alone where it is: whoever came first gave the encoder its name.
        if !marker.exists() {
            write_atomic(&marker, &key.to_json(&marker)?, &tag)?;
        }
        let found = StoreKey::read(&folder)?;
        if found.key != key.key {
            return Err(Error::Damaged { path: marker, why: format!("it is that of store {}", found.key) });
        }
        let mut store = Self {
            root: root.to_owned(),
            folder,
            key: found,
            items: items.into(),
            needs,
            first,
            own,
            shard_size,
            part,
            tag,
            index: Arc::default(),
            notices: Vec::new(),
            _lock: lock,
        };
        store.refresh()?;
        store.check_held()?;
        Ok(store)
    }

    /// The store's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The list, in order.
    pub fn items(&self) -> &[ItemKey] {
        &self.items
    }

    /// Places in the list of the cases that this part makes: one for each content, without those that
    /// could not be read.
    pub fn own(&self) -> impl Iterator<Item = usize> + '_ {
        self.first.iter().copied().filter(|i| self.own[*i])
    }

    /// Number of different contents in the list.
    pub fn n_contents(&self) -> usize {
        self.first.len()
    }

    /// The shards still to be made, each the places in the list of its cases.
    pub fn missing(&self) -> Vec<Vec<usize>> {
        self.shards_of(|known| known.is_none())
    }

    /// The same, and what failed before.
    pub fn missing_or_failed(&self) -> Vec<Vec<usize>> {
        self.shards_of(|known| !matches!(known, Some(Known::Embedded(_))))
    }

    fn shards_of(&self, to_make: impl Fn(Option<Known<'_>>) -> bool) -> Vec<Vec<usize>> {
        let missing: Vec<usize> = self.own().filter(|i| to_make(self.known(*i))).collect();
        missing.chunks(self.shard_size).map(<[usize]>::to_vec).collect()
    }

    /// What the user should hear of: damaged shards that are made again.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Cases that this part makes and that have no features, in order.
    pub fn own_failures(&self) -> Vec<Failure> {
        self.own().filter_map(|i| self.failure(i)).collect()
    }

    fn known(&self, i: usize) -> Option<Known<'_>> {
        self.index.find(&self.items.get(i)?.fingerprint, &self.needs)
    }

    fn failure(&self, i: usize) -> Option<Failure> {
        match self.known(i)? {
            Known::Failed(reason) => Some(Failure { id: self.items[i].id.clone(), reason: reason.to_owned() }),
            Known::Embedded(_) => None,
        }
    }

    /// Writes one shard: an outcome for each of the cases, in order.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a case of another part, [`Error::Shape`] for widths or numbers that do
    /// not agree, [`Error::File`].
    pub fn write(&mut self, shard: &[usize], outcomes: &[Outcome]) -> Result<()> {
        if let Some(other) = shard.iter().find(|i| !self.own.get(**i).copied().unwrap_or(false)) {
            return Err(Error::Parameter {
                what: "case to write",
                expected: "one of this part's",
                got: format!("{other} of part {}", self.part),
            });
        }
        let items: Vec<&ItemKey> = shard.iter().map(|i| &self.items[*i]).collect();
        let written = put(&self.folder, &self.key.key, &items, &self.needs, outcomes, &self.index, &self.tag)?;
        Arc::make_mut(&mut self.index).add(written)
    }

    /// Lists the cases in `manifest.json` under the name of a set and gives the set to be read, when
    /// all parts are made; `None` while some are not. `unread` says why content could not be read.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`].
    pub fn finish(&mut self, set: &str, unread: &[Failure]) -> Result<Option<FeatureStore>> {
        // what other parts made
        self.refresh()?;
        if self.first.iter().any(|i| self.known(*i).is_none()) {
            return Ok(None);
        }
        let unread: BTreeMap<&str, &Failure> = unread.iter().map(|f| (f.id.as_str(), f)).collect();
        let mut failures = Vec::new();
        for (i, item) in self.items.iter().enumerate() {
            if item.has_content() {
                failures.extend(self.failure(i));
            } else {
                let unknown = || Failure { id: item.id.clone(), reason: "its content could not be read".into() };
                failures.push(unread.get(item.id.as_str()).map_or_else(unknown, |f| (*f).clone()));
            }
        }
        self.list(set, &failures)?;
        let index = Arc::clone(&self.index);
        FeatureStore::new(&self.folder, self.key.clone(), index, Arc::clone(&self.items), failures).map(Some)
    }

    /// Puts the set into the manifest.
    fn list(&mut self, name: &str, failures: &[Failure]) -> Result<()> {
        let _lock = ManifestLock::acquire(&self.root, &self.key.key)?;
        let path = self.folder.join(MANIFEST);
        let mut manifest = match Manifest::read(&self.folder, &self.key) {
            Ok(manifest) => manifest.unwrap_or_else(|| Manifest::empty(&self.key)),
            Err(Error::Damaged { why, .. }) => {
                self.notices.push(format!("{MANIFEST} is damaged ({why}) and is made again"));
                Manifest::empty(&self.key)
            }
            Err(e) => return Err(e),
        };
        let set = SetRecord::new(&self.items, failures, |item| self.index.notes(&item.fingerprint));
        let contents: HashSet<&String> = set.cases.iter().filter_map(|case| case.content.as_ref()).collect();
        let shares =
            |old: &SetRecord| old.cases.iter().filter_map(|c| c.content.as_ref()).any(|c| contents.contains(c));
        if manifest.sets.get(name).is_some_and(|old| !shares(old)) {
            self.notices.push(format!(
                "the list of set `{name}` in the feature store named other cases before, as of another table or \
                 split, and now names these; features that were made stay and are found again, nothing is to be done"
            ));
        }
        manifest.put(name, set, self.index.features().clone());
        let mut text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::format(&path, "JSON", e))?;
        text.push(b'\n');
        // Left alone when it already says so: a finished store does not change.
        if !fs::read(&path).is_ok_and(|old| old == text) {
            write_atomic(&path, &text, &self.tag)?;
        }
        Ok(())
    }

    fn refresh(&mut self) -> Result<()> {
        for (path, why) in Arc::make_mut(&mut self.index).refresh(&self.folder, &self.key.key)? {
            self.discard(&path, &why)?;
        }
        Ok(())
    }

    /// Reads what is there of the list's features against its checksums.
    fn check_held(&mut self) -> Result<()> {
        loop {
            let mut held: BTreeMap<&str, Arc<ShardFile>> = BTreeMap::new();
            for i in self.own() {
                if let Some(Known::Embedded(place)) = self.known(i) {
                    held.entry(&place.shard.name).or_insert_with(|| Arc::clone(&place.shard));
                }
            }
            let held: Vec<Arc<ShardFile>> = held.into_values().collect();
            let needs = &self.needs;
            let check = |shard: &Arc<ShardFile>| {
                let all = needs.iter().try_for_each(|name| {
                    shard.check(name)?;
                    match shard.features.get(name).map(|shape| shape.kind) {
                        Some(super::FeatureKind::Sequence) => shard.offsets(name).map(drop),
                        _ => Ok(()),
                    }
                });
                all.err()
            };
            let errors: Vec<Error> = held.par_iter().filter_map(check).collect();
            if errors.is_empty() {
                return Ok(());
            }
            for error in errors {
                match error {
                    Error::Damaged { path, why } => self.discard(&path, &why)?,
                    e => return Err(e),
                }
            }
        }
    }

    /// Removes a damaged shard: its cases are made again.
    fn discard(&mut self, path: &Path, why: &str) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let notice = format!("{name} is damaged ({why}) and is made again");
        tracing::warn!("{notice}");
        self.notices.push(notice);
        Arc::make_mut(&mut self.index).remove(&name);
        match fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
            _ => Ok(()),
        }
    }
}

/// Writes a shard and opens it; its bytes were just checked against what is in memory.
pub(super) fn put(
    folder: &Path,
    store: &str,
    items: &[&ItemKey],
    holds: &BTreeSet<String>,
    outcomes: &[Outcome],
    index: &Index,
    tag: &str,
) -> Result<ShardFile> {
    for outcome in outcomes {
        let Outcome::Embedded(features) = outcome else { continue };
        let vectors = features.vectors.iter().map(|(name, v)| (name, v.len()));
        for (name, dim) in vectors.chain(features.sequences.iter().map(|(name, m)| (name, m.ncols()))) {
            if let Some(known) = index.features().get(name).filter(|known| known.dim != dim) {
                let expected = format!("{} wide as in the store's other shards", known.dim);
                return Err(Error::shape(format!("`{name}`"), expected, &[dim]));
            }
        }
    }
    let bytes = encode(store, items, holds, outcomes)?;
    let path = folder.join(shard_name(items.iter().map(|item| &item.fingerprint), holds));
    write_atomic(&path, &bytes, tag)?;
    let shard = ShardFile::open(&path, store)?;
    holds.iter().filter(|name| shard.features.contains_key(*name)).for_each(|name| shard.trust(name));
    Ok(shard)
}

/// Removes what killed writers of the same list left; of a part only its own files.
fn remove_unfinished(folder: &Path, tag: &str, all_parts: bool) -> Result<()> {
    for (path, name) in unfinished(folder)? {
        let mine = match all_parts {
            true => name.contains(&format!(".{tag}-")),
            false => name.ends_with(&format!(".{tag}{UNFINISHED}")),
        };
        if !mine {
            continue;
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file("remove", path)(e)),
            _ => {}
        }
    }
    Ok(())
}

/// The files in a store that were never finished, with their names.
pub(super) fn unfinished(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let entry = entry.map_err(Error::file("list", folder))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') && name.ends_with(UNFINISHED) {
            out.push((entry.path(), name));
        }
    }
    out.sort();
    Ok(out)
}
