//! Features of a set in pieces, so that a set larger than memory can be gone through.

use std::{collections::BTreeMap, fs::File, ops::Range, sync::Arc};

use ndarray::{Array2, ArrayView2, s};

use super::{FeatureKind, FeatureStore, file::ShardFile};
use crate::{Error, Result};

/// Files kept open at once.
const OPEN: usize = 8;

/// Features of some cases of a set, one after the other.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Which rows of the set: positions in [`FeatureStore::ids`].
    pub cases: Range<usize>,
    /// The shard that the first feature was read from.
    pub shard: String,
    features: BTreeMap<String, (Array2<f32>, Option<Vec<usize>>)>,
}

impl Piece {
    /// The vectors called `name`, a row for each case `(n, D)`; `None` for what was not asked for.
    pub fn vectors(&self, name: &str) -> Option<ArrayView2<'_, f32>> {
        let (rows, offsets) = self.features.get(name)?;
        offsets.is_none().then(|| rows.view())
    }

    /// All rows of a feature, case after case `(rows, D)`.
    pub fn rows(&self, name: &str) -> Option<ArrayView2<'_, f32>> {
        self.features.get(name).map(|(rows, _)| rows.view())
    }

    /// The rows of the sequence called `name` of the `i`-th case of the piece `(count, D)`.
    pub fn sequence(&self, name: &str, i: usize) -> Option<ArrayView2<'_, f32>> {
        let (rows, offsets) = self.features.get(name)?;
        let offsets = offsets.as_ref()?;
        let (&from, &to) = (offsets.get(i)?, offsets.get(i + 1)?);
        Some(rows.slice(s![from..to, ..]))
    }

    /// All rows of a feature, and for a sequence where each case begins.
    pub(crate) fn take(&mut self, name: &str) -> Option<(Array2<f32>, Option<Vec<usize>>)> {
        self.features.remove(name)
    }
}

/// Goes through a set in order; made by [`FeatureStore::pieces`].
#[derive(Debug)]
pub struct Pieces<'a> {
    store: &'a FeatureStore,
    names: Vec<(String, FeatureKind)>,
    budget: usize,
    next: usize,
    files: BTreeMap<String, File>,
    by_shard: bool,
    failed: bool,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(store: &'a FeatureStore, names: Vec<(String, FeatureKind)>, budget: usize) -> Self {
        Self { store, names, budget, next: 0, files: BTreeMap::new(), by_shard: false, failed: false }
    }

    /// Ends a piece where the first feature goes on in another file.
    #[must_use]
    pub fn by_shard(mut self) -> Self {
        self.by_shard = true;
        self
    }

    /// Where a feature of a case lies.
    fn place(&self, case: usize, name: &str) -> Result<(&'a Arc<ShardFile>, usize)> {
        let place = self.store.place(case, name)?;
        place
            .row()
            .map(|row| (&place.shard, row))
            .ok_or_else(|| Error::Damaged { path: place.shard.path.clone(), why: format!("`{name}` lacks a case") })
    }

    /// Bytes of a feature of one case.
    fn size(shard: &ShardFile, row: usize, name: &str, kind: FeatureKind) -> Result<usize> {
        let rows = match kind {
            FeatureKind::Vector => 1,
            FeatureKind::Sequence => {
                let offsets = shard.offsets(name)?;
                offsets.get(row + 1).zip(offsets.get(row)).map_or(0, |(to, from)| to - from)
            }
        };
        Ok(rows.saturating_mul(shard.dim(name)?).saturating_mul(4))
    }

    /// As many cases as fit, and with [`by_shard`](Self::by_shard) lie in one file.
    fn piece(&mut self) -> Result<Option<Piece>> {
        let first = self.next;
        let mut places = vec![Vec::new(); self.names.len()];
        let mut bytes = 0usize;
        while self.next < self.store.len() {
            let mut size = 0usize;
            let mut its = Vec::with_capacity(self.names.len());
            for (name, kind) in &self.names {
                let (shard, row) = self.place(self.next, name)?;
                size = size.saturating_add(Self::size(shard, row, name, *kind)?);
                its.push((shard, row));
            }
            let elsewhere = |(its, all): (&(&Arc<ShardFile>, usize), &Vec<(&Arc<ShardFile>, usize)>)| {
                all.last().is_some_and(|(shard, _)| !Arc::ptr_eq(shard, its.0))
            };
            let cut = self.by_shard && its.iter().zip(&places).next().is_some_and(elsewhere);
            if self.next > first && (cut || bytes.saturating_add(size) > self.budget) {
                break;
            }
            bytes = bytes.saturating_add(size);
            places.iter_mut().zip(its).for_each(|(all, its)| all.push(its));
            self.next += 1;
        }
        let Some((shard, _)) = places.first().and_then(|all| all.first()) else { return Ok(None) };
        let shard = shard.name.clone();
        let mut features = BTreeMap::new();
        for ((name, kind), all) in self.names.clone().iter().zip(places) {
            features.insert(name.clone(), self.gather(name, *kind, &all)?);
        }
        Ok(Some(Piece { cases: first..self.next, shard, features }))
    }

    /// A feature of cases at these places; what lies one after the other is read at once.
    fn gather(
        &mut self,
        name: &str,
        kind: FeatureKind,
        all: &[(&'a Arc<ShardFile>, usize)],
    ) -> Result<(Array2<f32>, Option<Vec<usize>>)> {
        let (mut values, mut rows, mut dim) = (Vec::new(), 0, 0);
        let mut offsets = vec![0];
        let follows =
            |a: &(&Arc<ShardFile>, usize), b: &(&Arc<ShardFile>, usize)| Arc::ptr_eq(a.0, b.0) && a.1 + 1 == b.1;
        for run in all.chunk_by(follows) {
            let Some(&(shard, from)) = run.first() else { continue };
            let to = from + run.len();
            let (from, to) = match kind {
                FeatureKind::Vector => (from, to),
                FeatureKind::Sequence => {
                    let ends = shard.offsets(name)?;
                    let ends = ends.get(from..=to).unwrap_or_default();
                    let start = ends.first().copied().unwrap_or(0);
                    offsets.extend(ends.iter().skip(1).map(|end| rows + end - start));
                    (start, ends.last().copied().unwrap_or(0))
                }
            };
            if !self.files.contains_key(&shard.name) {
                if self.files.len() >= OPEN {
                    self.files.clear();
                }
                self.files.insert(shard.name.clone(), shard.open_file()?);
            }
            let Some(file) = self.files.get_mut(&shard.name) else { continue };
            let read = shard.read(file, name, from, to)?;
            (rows, dim) = (rows + read.nrows(), read.ncols());
            if values.is_empty() {
                values = read.into_raw_vec_and_offset().0;
            } else {
                values.extend(read);
            }
        }
        let matrix = Array2::from_shape_vec((rows, dim), values).map_err(|e| Error::shape(name, e.to_string(), &[]))?;
        Ok((matrix, (kind == FeatureKind::Sequence).then_some(offsets)))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.failed {
            return None;
        }
        let piece = self.piece().transpose();
        self.failed = matches!(piece, Some(Err(_)));
        piece
    }
}
