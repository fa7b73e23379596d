//! Voxels of NIfTI files.

use std::{
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use ndarray::{Array2, Array3};

use super::Header;
use crate::{
    Error, Format, Labels, ReadOptions, Result, Volume,
    dicom::Voi,
    grid::Compression,
    voxels::{Voxels, open},
};

/// Reads one volume in the file's own unit (slope and intercept applied).
///
/// A two-file image may be named by its `.hdr` or its `.img`. A file with several volumes needs
/// [`ReadOptions::volume`]. Memory: the f32 volume and a small buffer.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Unsupported`] (complex, RGB and 1-bit voxels),
/// [`Error::Orientation`] for an affine without inverse, [`Error::SeveralVolumes`],
/// [`Error::Limit`], [`Error::Read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, nifti};
/// let volume = nifti::read("scan.nii.gz".as_ref(), &ReadOptions::default())?;
/// println!("{:?} voxels of {:?} mm", volume.data.dim(), volume.spacing_mm());
/// # Ok(()) }
/// ```
pub fn read(path: &Path, options: &ReadOptions) -> Result<Volume> {
    let mut source = Source::open(path)?;
    source.volume(options)
}

/// The same from memory (one file, not `.hdr`/`.img`); `path` only names it in errors.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<Volume> {
    let mut source = Source::new(Cursor::new(bytes), bytes.len() as u64, path)?;
    source.volume(options)
}

/// Reads the header alone.
///
/// # Errors
/// As [`read`].
pub fn read_header(path: &Path) -> Result<Header> {
    Ok(Source::open(path)?.header)
}

/// Reads a label volume: `(slice, row, column)` whole numbers, for segmentation masks.
///
/// # Errors
/// [`Error::Label`] at the first voxel that is not a whole number in 0..=255; else as [`read`].
pub fn read_labels(path: &Path, options: &ReadOptions) -> Result<Labels> {
    Labels::of(read(path, options)?, path)
}

/// Reads slice `k` (along the file's third axis) as `(h, w)`, decoding no further than needed.
///
/// # Errors
/// [`Error::Missing`] if there is no such slice; else as [`read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, nifti};
/// let path = "scan.nii.gz".as_ref();
/// let slices = nifti::read_header(path)?.volume_dims()[2];
/// let middle = nifti::read_slice(path, slices as usize / 2, &ReadOptions::default())?;
/// # Ok(()) }
/// ```
pub fn read_slice(path: &Path, k: usize, options: &ReadOptions) -> Result<Array2<f32>> {
    let mut source = Source::open(path)?;
    let [w, h, d] = source.header.volume_dims();
    if k as u64 >= d {
        let (got, has) = (k.to_string(), format!("slices 0..{d}"));
        return Err(Error::Missing { path: path.to_owned(), what: "slice", got, has });
    }
    let index = source.volume_index(options)?;
    // NIfTI-2 declares sizes of 64 bits.
    let skip = w.checked_mul(h).and_then(|slice| {
        let volumes = index.checked_mul(slice.checked_mul(d)?)?;
        volumes.checked_add(slice.checked_mul(k as u64)?)
    });
    let n = options.limits.elements(path, &[w, h], 4)?;
    let values = source.read(skip, n)?;
    Array2::from_shape_vec((h as usize, w as usize), values).map_err(|e| source.voxels.damaged(e.to_string()))
}

/// The free text of a header, which may name a patient: only for who asks.
pub(crate) fn free_text(path: &Path) -> Result<Vec<(&'static str, String)>> {
    let source = Source::open(path)?;
    Ok(source.free_text)
}

/// A header that was read and the voxels still to come.
struct Source<'a> {
    path: PathBuf,
    free_text: Vec<(&'static str, String)>,
    header: Header,
    voxels: Voxels<'a>,
}

/// `x.img` stands for `x.hdr` where that exists.
pub(crate) fn header_path(path: &Path) -> PathBuf {
    let name = path.to_string_lossy();
    for (image, header) in [(".img", ".hdr"), (".img.gz", ".hdr.gz"), (".img.gz", ".hdr")] {
        if let Some(stem) = name.strip_suffix(image) {
            let header = PathBuf::from(format!("{stem}{header}"));
            if header.is_file() {
                return header;
            }
        }
    }
    path.to_owned()
}

pub(crate) fn image_path(header: &Path) -> Option<PathBuf> {
    let name = header.to_string_lossy();
    let stem = name.strip_suffix(".hdr").or_else(|| name.strip_suffix(".hdr.gz"))?;
    [".img", ".img.gz"].iter().map(|s| PathBuf::from(format!("{stem}{s}"))).find(|p| p.is_file())
}

impl<'a> Source<'a> {
    fn open(path: &Path) -> Result<Self> {
        let path = header_path(path);
        let (file, size) = open(&path)?;
        let mut source = Source::new(file, size, &path)?;
        if source.header.pair {
            let image = image_path(&path).ok_or_else(|| source.voxels.damaged("its .img file is missing"))?;
            let (file, size) = open(&image)?;
            source.voxels = Voxels::sniffed(file, size, Compression::None, &image, Format::Nifti)?;
            source.path = image;
            source.voxels.skip(source.header.vox_offset)?;
        }
        Ok(source)
    }

    /// Reads the header and stops at the first voxel (of a one-file image).
    fn new(raw: impl Read + 'a, size: u64, path: &Path) -> Result<Self> {
        if size == 0 {
            return Err(Error::damaged(path, Format::Nifti, "the file is empty"));
        }
        let mut voxels = Voxels::sniffed(raw, size, Compression::None, path, Format::Nifti)?;
        let mut bytes = voxels.bytes(4)?;
        if let Some((size, _)) = <&[u8; 4]>::try_from(bytes.as_slice()).ok().and_then(Header::size_of) {
            bytes.extend(voxels.bytes(size - 4)?);
        }
        let header = Header::parse(&bytes, path)?;
        let places: &[(&str, usize, usize)] = if header.version == 1 {
            &[("db_name", 14, 18), ("descrip", 148, 80), ("aux_file", 228, 24), ("intent_name", 328, 16)]
        } else {
            &[("descrip", 240, 80), ("aux_file", 320, 24), ("intent_name", 508, 16)]
        };
        let mut free_text = Vec::new();
        for (name, at, length) in places {
            let text = String::from_utf8_lossy(bytes.get(*at..at + length).unwrap_or_default());
            let text = text.split('\0').next().unwrap_or_default().trim();
            if !text.is_empty() {
                free_text.push((*name, text.to_owned()));
            }
        }
        if !header.pair {
            voxels.skip(header.vox_offset.saturating_sub(bytes.len() as u64))?;
        }
        Ok(Source { path: path.to_owned(), free_text, header, voxels })
    }

    fn volume_index(&self, options: &ReadOptions) -> Result<u64> {
        let overflow = || self.voxels.damaged("the number of voxels overflows");
        let volumes = self.header.volumes().ok_or_else(overflow)?;
        match options.volume {
            None if volumes > 1 => {
                Err(Error::SeveralVolumes { path: self.path.clone(), volumes: volumes.min(usize::MAX as u64) as usize })
            }
            None => Ok(0),
            Some(v) if (v as u64) < volumes => Ok(v as u64),
            Some(v) => {
                let (got, has) = (v.to_string(), format!("volumes 0..{volumes}"));
                Err(Error::Missing { path: self.path.clone(), what: "volume", got, has })
            }
        }
    }

    fn volume(&mut self, options: &ReadOptions) -> Result<Volume> {
        let [w, h, d] = self.header.volume_dims();
        // a size no file could hold is the file's fault, not the limit's
        let voxels = w.checked_mul(h).and_then(|n| n.checked_mul(d));
        let bytes = voxels.and_then(|n| n.checked_mul(self.header.datatype.size() as u64));
        if !self.voxels.may_hold(bytes) {
            return Err(self
                .voxels
                .damaged(format!("{w} x {h} x {d} voxels declared, the file is too short for them")));
        }
        let index = self.volume_index(options)?;
        let n = options.limits.elements(&self.path, &[w, h, d], 4)?;
        let (affine, placement) = self.header.affine(&self.path)?;
        let values = self.read(index.checked_mul(n as u64), n)?;
        if index + 1 == self.header.volumes().unwrap_or(1) {
            self.voxels.check_end()?;
        }
        let shape = (d as usize, h as usize, w as usize);
        let data = Array3::from_shape_vec(shape, values).map_err(|e| self.voxels.damaged(e.to_string()))?;
        let mut volume = Volume::new(data, affine);
        volume.placement = placement;
        volume.windows = self.header.display.map(Voi::between).into_iter().collect();
        volume.header = Some(Box::new(self.header.clone()));
        Ok(volume)
    }

    /// Skips `skip` voxels and decodes `n`, scaled.
    fn read(&mut self, skip: Option<u64>, n: usize) -> Result<Vec<f32>> {
        let h = &self.header;
        self.voxels.read(skip, n, (0, 1), h.datatype, h.big_endian, h.scaling)
    }
}
