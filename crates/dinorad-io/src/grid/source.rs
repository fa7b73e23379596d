//! A header in common terms, and the voxels still to come.

use std::{
    io::Read,
    path::{Component, Path, PathBuf},
};

use dinorad_core::Affine;
use ndarray::{Array2, Array3};

use super::{Compression, GridHeader};
use crate::{
    Error, Format, Placement, ReadOptions, Result, Volume,
    voxels::{Voxels, open},
};

/// What a header says, whichever format it is of.
pub(crate) struct Grid {
    pub(crate) header: GridHeader,
    pub(crate) affine: Affine,
    pub(crate) placement: Placement,
    /// How many volumes lie voxel by voxel side by side; the others follow one another.
    pub(crate) inner: u64,
    /// What a reader of the volume should know.
    pub(crate) remarks: Vec<String>,
    /// May name a patient: only for who asks.
    pub(crate) free_text: Vec<(String, String)>,
}

/// Where voxels lie that are not behind their header.
pub(crate) struct Detached {
    /// As the header names it.
    pub(crate) name: String,
    /// What the header calls it, for errors.
    pub(crate) field: &'static str,
}

impl Detached {
    /// The file, which must lie in the header's folder or below it.
    pub(crate) fn path(&self, header: &Path) -> Result<PathBuf> {
        let name = Path::new(&self.name);
        let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
        if self.name.is_empty() || !name.components().all(inside) {
            let what = format!("the voxel data ({} leads out of the folder)", self.field);
            return Err(Error::Elsewhere { path: header.to_owned(), what });
        }
        Ok(header.with_file_name("").join(name))
    }

    pub(crate) fn open(&self, header: &Path) -> Result<(impl Read + 'static, u64, PathBuf)> {
        let path = self.path(header)?;
        let (file, size) = open(&path)?;
        Ok((file, size, path))
    }
}

/// A header that was read, and the voxels from the first one on.
pub(crate) struct Source<'a> {
    pub(crate) grid: Grid,
    voxels: Voxels<'a>,
}

/// Where the first voxel lies in what follows the header, or in a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// So many bytes further, after unpacking.
    After(u64),
    /// The voxels are the last bytes of the file.
    FromEnd,
}

impl<'a> Source<'a> {
    /// `size` bytes of `raw`, packed as the header says, at whose start, or in whose end, the voxels lie.
    pub(crate) fn new(grid: Grid, raw: impl Read + 'a, size: u64, start: Start, path: &Path) -> Result<Self> {
        let GridHeader { format, compression, .. } = grid.header;
        let voxels = Voxels::new(raw, size, compression, path, format);
        let skip = match start {
            Start::After(bytes) => bytes,
            Start::FromEnd if compression != Compression::None => {
                return Err(Error::unsupported(path, format, "packed voxels counted from the end of the file"));
            }
            Start::FromEnd => {
                let needed = grid.bytes().filter(|b| *b <= size);
                size - needed.ok_or_else(|| grid.too_short(&voxels))?
            }
        };
        Self::at(grid, voxels, skip)
    }

    /// The voxels start so many bytes on.
    pub(crate) fn at(grid: Grid, mut voxels: Voxels<'a>, skip: u64) -> Result<Self> {
        voxels.skip(skip)?;
        Ok(Self { grid, voxels })
    }

    /// The volume that the options choose.
    pub(crate) fn volume(mut self, options: &ReadOptions) -> Result<Volume> {
        let h = &self.grid.header;
        let [w, height, d] = h.sizes;
        // a size no file could hold is the file's fault, not the limit's
        let one = voxels_of(h.sizes).and_then(|n| n.checked_mul(h.datatype.size() as u64));
        if !self.voxels.may_hold(one) {
            return Err(self.grid.too_short(&self.voxels));
        }
        let index = self.index(options)?;
        let n = options.limits.elements(self.voxels.path(), &[w, height, d], 4)?;
        let values = self.read(index, 0, n as u64, n)?;
        let last = index / self.grid.inner + 1 == self.grid.header.volumes / self.grid.inner;
        if last {
            self.voxels.check_end()?;
        }
        let shape = (d as usize, height as usize, w as usize);
        let data = Array3::from_shape_vec(shape, values).map_err(|e| self.voxels.damaged(e.to_string()))?;
        let mut volume = Volume::new(data, self.grid.affine);
        volume.placement = self.grid.placement;
        volume.remarks = self.grid.remarks;
        Ok(volume)
    }

    /// Slice `k` of the volume that the options choose, as `(h, w)`.
    pub(crate) fn slice(mut self, k: usize, options: &ReadOptions) -> Result<Array2<f32>> {
        let [w, h, d] = self.grid.header.sizes;
        if k as u64 >= d {
            let (got, has) = (k.to_string(), format!("slices 0..{d}"));
            return Err(Error::Missing { path: self.voxels.path().to_owned(), what: "slice", got, has });
        }
        let index = self.index(options)?;
        let n = options.limits.elements(self.voxels.path(), &[w, h], 4)?;
        let whole = voxels_of([w, h, d]).ok_or_else(|| self.grid.too_short(&self.voxels))?;
        let values = self.read(index, (n as u64).saturating_mul(k as u64), whole, n)?;
        Array2::from_shape_vec((h as usize, w as usize), values).map_err(|e| self.voxels.damaged(e.to_string()))
    }

    /// `n` voxels of volume `index`, from voxel `first` of its `whole` on.
    fn read(&mut self, index: u64, first: u64, whole: u64, n: usize) -> Result<Vec<f32>> {
        let (inner, h) = (self.grid.inner, &self.grid.header);
        let before = (index / inner).checked_mul(whole).and_then(|v| v.checked_add(first));
        let skip = before.and_then(|v| v.checked_mul(inner));
        self.voxels.read(skip, n, (index % inner, inner), h.datatype, h.big_endian, None)
    }

    fn index(&self, options: &ReadOptions) -> Result<u64> {
        let volumes = self.grid.header.volumes;
        let path = || self.voxels.path().to_owned();
        match options.volume {
            None if volumes > 1 => {
                Err(Error::SeveralVolumes { path: path(), volumes: volumes.min(usize::MAX as u64) as usize })
            }
            None => Ok(0),
            Some(v) if (v as u64) < volumes => Ok(v as u64),
            Some(v) => {
                let (got, has) = (v.to_string(), format!("volumes 0..{volumes}"));
                Err(Error::Missing { path: path(), what: "volume", got, has })
            }
        }
    }
}

fn voxels_of(sizes: [u64; 3]) -> Option<u64> {
    sizes.iter().try_fold(1u64, |n, s| n.checked_mul(*s))
}

impl Grid {
    /// Bytes of all volumes.
    fn bytes(&self) -> Option<u64> {
        let h = &self.header;
        voxels_of(h.sizes)?.checked_mul(h.volumes)?.checked_mul(h.datatype.size() as u64)
    }

    fn too_short(&self, voxels: &Voxels<'_>) -> Error {
        let [w, h, d] = self.header.sizes;
        voxels.damaged(format!("{w} x {h} x {d} voxels declared, the file is too short for them"))
    }
}

/// Sizes along all axes, checked: at least 1 each, and a product that a file could hold.
pub(crate) fn checked_sizes(sizes: &[i64], path: &Path, format: Format) -> Result<Vec<u64>> {
    let mut all = 1u64;
    let mut out = Vec::new();
    for (n, size) in sizes.iter().enumerate() {
        let good = u64::try_from(*size).ok().filter(|s| *s > 0);
        let size = good.ok_or_else(|| Error::damaged(path, format, format!("axis {n} has the size {size}")))?;
        all = all.checked_mul(size).ok_or_else(|| Error::damaged(path, format, "the number of voxels overflows"))?;
        out.push(size);
    }
    Ok(out)
}
