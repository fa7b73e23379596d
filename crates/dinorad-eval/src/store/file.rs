//! A shard on disk: what it holds, and rows of it without reading the rest.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ndarray::Array2;
use safetensors::Dtype;
use serde::Deserialize;

use super::{
    FORMAT, FeatureKind, FeatureShape,
    encode::{COUNTS, HEADER, Header, KEYS, shard_name},
    item::hex,
};
use crate::{CaseNotes, Error, Result};

/// What safetensors itself allows for a header.
const LARGEST_HEADER: u64 = 100_000_000;
/// Bytes of a tensor that are looked at at once.
const WINDOW: usize = 1 << 20;

/// A shard whose header, sizes and keys were checked; its tensors are when they are first read.
#[derive(Debug)]
pub(super) struct ShardFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Length of the file.
    pub(super) bytes: u64,
    /// Content hashes, failed cases included.
    pub(super) keys: Vec<[u8; 32]>,
    /// Row of each key in the tensors; `None` for a failed case.
    pub(super) rows: Vec<Option<usize>>,
    /// Why a key has no row.
    pub(super) failures: BTreeMap<usize, String>,
    /// What is noted of cases, by position.
    pub(super) notes: BTreeMap<usize, CaseNotes>,
    /// Names of the features that every row holds.
    pub(super) holds: BTreeSet<String>,
    /// Their widths; empty where no case has features.
    pub(super) features: BTreeMap<String, FeatureShape>,
    tensors: BTreeMap<String, Place>,
    checked: Mutex<BTreeSet<String>>,
    offsets: Mutex<BTreeMap<String, Arc<Vec<usize>>>>,
}

/// Where a tensor lies in its file.
#[derive(Debug)]
struct Place {
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    len: u64,
    blake3: String,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "__metadata__")]
    metadata: HashMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, RawTensor>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl ShardFile {
    /// Reads the header and the keys, and checks them against each other, the file's length, its name
    /// and the store.
    pub(super) fn open(path: &Path, store: &str) -> Result<Self> {
        let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
        let mut file = File::open(path).map_err(Error::file("read", path))?;
        let bytes = file.metadata().map_err(Error::file("read", path))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| damaged("it is cut off".into()))?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER || length.checked_add(8).is_none_or(|end| end > bytes) {
            return Err(damaged("its header does not fit into it".into()));
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(|_| damaged("it is cut off".into()))?;
        let raw: Raw = serde_json::from_slice(&text).map_err(|e| damaged(format!("header: {e}")))?;
        let text = raw.metadata.get(HEADER).ok_or_else(|| damaged("no header of a feature shard".into()))?;
        let mut header: Header = serde_json::from_str(text).map_err(|e| damaged(format!("header: {e}")))?;
        if header.format != FORMAT || header.store != store {
            let why = format!("it belongs to store {} (format {}), not to {store}", header.store, header.format);
            return Err(damaged(why));
        }
        let stated = std::mem::take(&mut header.check);
        let shapes = raw.tensors.iter().map(|(name, t)| (name.as_str(), t.dtype, t.shape.as_slice()));
        if header.sum(shapes) != stated {
            return Err(damaged("its header does not match its checksum".into()));
        }
        let tensors = places(raw.tensors, &header, 8 + length, bytes).map_err(damaged)?;
        let keys = tensors.get(KEYS).ok_or_else(|| damaged("no keys".into()))?;
        if keys.dtype != Dtype::U8 || keys.shape.get(1) != Some(&32) || keys.shape.len() != 2 {
            return Err(damaged("its keys are no hashes".into()));
        }
        // as long as the file at most: checked above
        let mut list = vec![0; keys.len as usize];
        file.seek(SeekFrom::Start(keys.start)).map_err(Error::file("read", path))?;
        file.read_exact(&mut list).map_err(|_| damaged("it is cut off".into()))?;
        if hex(blake3::hash(&list).as_bytes()) != keys.blake3 {
            return Err(damaged("its keys do not match their checksum".into()));
        }
        let keys: Vec<[u8; 32]> = list.chunks_exact(32).map(|c| c.try_into().unwrap_or_default()).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if shard_name(keys.iter(), &header.holds) != name {
            return Err(damaged("its content is that of another shard".into()));
        }
        let failures: BTreeMap<usize, String> = header.failures.into_iter().collect();
        if failures.last_key_value().is_some_and(|(last, _)| *last >= keys.len()) {
            return Err(damaged("a failure of no case".into()));
        }
        if header.notes.last_key_value().is_some_and(|(last, _)| *last >= keys.len()) {
            return Err(damaged("notes on no case".into()));
        }
        let mut n = 0;
        let row = |i: usize| {
            (!failures.contains_key(&i)).then(|| {
                n += 1;
                n - 1
            })
        };
        let rows: Vec<Option<usize>> = (0..keys.len()).map(row).collect();
        let features = features(&tensors, &header.holds, n).map_err(damaged)?;
        Ok(Self {
            name,
            path: path.to_owned(),
            bytes,
            keys,
            rows,
            failures,
            notes: header.notes,
            holds: header.holds,
            features,
            tensors,
            checked: Mutex::default(),
            offsets: Mutex::default(),
        })
    }

    fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), why: why.into() }
    }

    fn place(&self, name: &str) -> Result<&Place> {
        self.tensors.get(name).ok_or_else(|| self.damaged(format!("it holds no `{name}`")))
    }

    /// Reads a tensor through once, in a window, against its checksum; once is enough.
    ///
    /// # Errors
    /// [`Error::Damaged`] for other bytes and for numbers that are not finite, [`Error::File`].
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let done = |set: &Mutex<BTreeSet<String>>| set.lock().unwrap_or_else(PoisonError::into_inner).contains(name);
        if done(&self.checked) {
            return Ok(());
        }
        let place = self.place(name)?;
        let mut file = self.open_file()?;
        file.seek(SeekFrom::Start(place.start)).map_err(Error::file("read", &self.path))?;
        let mut hasher = blake3::Hasher::new();
        let mut window = vec![0; WINDOW.min(place.len as usize)];
        let (mut left, mut finite) = (place.len as usize, true);
        while left > 0 {
            let part = &mut window[..left.min(WINDOW)];
            file.read_exact(part).map_err(|_| self.damaged("it is cut off"))?;
            hasher.update(part);
            if place.dtype == Dtype::F32 {
                finite &= part.chunks_exact(4).fold(true, |all, c| all & value(c).is_finite());
            }
            left -= part.len();
        }
        if hex(hasher.finalize().as_bytes()) != place.blake3 {
            return Err(self.damaged(format!("`{name}` does not match its checksum")));
        }
        if !finite {
            return Err(self.damaged(format!("`{name}` holds numbers that are not finite")));
        }
        self.trust(name);
        Ok(())
    }

    /// Takes a tensor's bytes for right, as after writing them.
    pub(super) fn trust(&self, name: &str) {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    pub(super) fn open_file(&self) -> Result<File> {
        File::open(&self.path).map_err(Error::file("read", &self.path))
    }

    /// Numbers in a row.
    pub(super) fn dim(&self, name: &str) -> Result<usize> {
        Ok(self.place(name)?.shape.get(1).copied().unwrap_or_default())
    }

    /// Row of a sequence where each case begins, and the end of the last one.
    pub(super) fn offsets(&self, name: &str) -> Result<Arc<Vec<usize>>> {
        if let Some(known) = self.offsets.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Arc::clone(known));
        }
        let counts = format!("{name}{COUNTS}");
        self.check(&counts)?;
        let place = self.place(&counts)?;
        let mut bytes = vec![0; place.len as usize];
        let mut file = self.open_file()?;
        file.seek(SeekFrom::Start(place.start)).map_err(Error::file("read", &self.path))?;
        file.read_exact(&mut bytes).map_err(|_| self.damaged("it is cut off"))?;
        let mut offsets = vec![0usize];
        let mut end = 0usize;
        for count in bytes.chunks_exact(8) {
            let count = u64::from_le_bytes(count.try_into().unwrap_or_default());
            let next = usize::try_from(count).ok().and_then(|count| end.checked_add(count));
            end = next.ok_or_else(|| self.damaged(format!("`{name}` has counts that do not add up")))?;
            offsets.push(end);
        }
        if Some(&end) != self.place(name)?.shape.first() {
            return Err(self.damaged(format!("`{name}` has counts that do not add up")));
        }
        let offsets = Arc::new(offsets);
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::clone(&offsets));
        Ok(offsets)
    }

    /// Rows `from..to` of a tensor of features, `(to - from, D)`.
    pub(super) fn read(&self, file: &mut File, name: &str, from: usize, to: usize) -> Result<Array2<f32>> {
        self.check(name)?;
        let place = self.place(name)?;
        let (&[rows, dim], Dtype::F32) = (place.shape.as_slice(), place.dtype) else {
            return Err(self.damaged(format!("`{name}` is not a matrix of f32")));
        };
        if from > to || to > rows {
            return Err(Error::Parameter { what: "row", expected: "one of the shard's", got: to.to_string() });
        }
        // within the tensor, whose size fits into the file
        let mut bytes = vec![0; (to - from) * dim * 4];
        file.seek(SeekFrom::Start(place.start + (from * dim * 4) as u64)).map_err(Error::file("read", &self.path))?;
        file.read_exact(&mut bytes).map_err(Error::file("read", &self.path))?;
        let values = bytes.chunks_exact(4).map(value).collect();
        Array2::from_shape_vec((to - from, dim), values).map_err(|e| Error::shape(name, e.to_string(), &[]))
    }
}

fn value(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().unwrap_or_default())
}

/// The tensors where they lie, if they fill the file one after the other and are as large as their
/// shapes say.
fn places(
    raw: BTreeMap<String, RawTensor>,
    header: &Header,
    start: u64,
    end: u64,
) -> std::result::Result<BTreeMap<String, Place>, String> {
    let mut spans: Vec<(u64, u64)> = Vec::with_capacity(raw.len());
    let mut out = BTreeMap::new();
    for (name, tensor) in raw {
        let size = match tensor.dtype {
            Dtype::U8 => 1,
            Dtype::F32 => 4,
            Dtype::U64 => 8,
            other => return Err(format!("`{name}` is {other:?}")),
        };
        let count = tensor.shape.iter().try_fold(size, |n: u64, d| n.checked_mul(u64::try_from(*d).ok()?));
        let (from, to) = tensor.data_offsets;
        if count.is_none() || to.checked_sub(from) != count {
            return Err(format!("`{name}` is not as large as its shape {:?} says", tensor.shape));
        }
        let hash = header.blake3.get(&name).ok_or_else(|| format!("`{name}` has no checksum"))?;
        let at = start.checked_add(from).ok_or_else(|| format!("`{name}` lies beyond the file"))?;
        spans.push((from, to));
        out.insert(
            name,
            Place { dtype: tensor.dtype, shape: tensor.shape, start: at, len: to - from, blake3: hash.clone() },
        );
    }
    spans.sort_unstable();
    let mut reached = 0;
    for (from, to) in spans {
        if from != reached {
            return Err("its tensors overlap or leave gaps".into());
        }
        reached = to;
    }
    if start.checked_add(reached) != Some(end) {
        return Err("it is not as long as its tensors".into());
    }
    if header.blake3.len() != out.len() {
        return Err("a checksum of no tensor".into());
    }
    Ok(out)
}

/// The features that are there, which have to be those that are said to be, with a row for each of
/// `n` cases.
fn features(
    tensors: &BTreeMap<String, Place>,
    holds: &BTreeSet<String>,
    n: usize,
) -> std::result::Result<BTreeMap<String, FeatureShape>, String> {
    let mut out = BTreeMap::new();
    let mut used = 1;
    if n > 0 {
        for name in holds {
            let place = tensors.get(name).ok_or_else(|| format!("it holds no `{name}`"))?;
            let (&[rows, dim], Dtype::F32) = (place.shape.as_slice(), place.dtype) else {
                return Err(format!("`{name}` is not a matrix of f32"));
            };
            let kind = match tensors.get(&format!("{name}{COUNTS}")) {
                Some(counts) if counts.dtype == Dtype::U64 && counts.shape == [n] => {
                    used += 1;
                    FeatureKind::Sequence
                }
                Some(_) => return Err(format!("`{name}` has no count for every case")),
                None if rows == n => FeatureKind::Vector,
                None => return Err(format!("`{name}` has {rows} rows for {n} cases")),
            };
            used += 1;
            out.insert(name.clone(), FeatureShape { dim, kind });
        }
    }
    if used != tensors.len() {
        return Err("it holds more than it says".into());
    }
    Ok(out)
}
