//! Voxels of NIfTI files.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use dinorad_core::Affine;
use flate2::read::MultiGzDecoder;
use ndarray::{Array2, Array3};

use super::{DataType, Header};
use crate::{Error, Format, ReadOptions, Result, Volume, dicom::Voi, volume::reorient};

/// No deflate stream grows by more than this factor.
const MAX_INFLATION: u64 = 1032;
/// Bytes converted at a time; divisible by every element size.
const BLOCK: usize = 1 << 18;

/// An integer label for every voxel, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// `(d, h, w)` = (slice, row, column).
    pub data: Array3<u8>,
    /// Voxel index `(i, j, k)` = (column, row, slice) to RAS+ millimetres.
    pub affine: Affine,
}

impl Labels {
    /// The same labels turned as [`Volume::to_canonical`] turns a volume.
    #[must_use]
    pub fn to_canonical(&self) -> Labels {
        let (data, affine) = reorient(self.data.view(), &self.affine, self.affine.closest_axes());
        Labels { data, affine }
    }
}

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
    let volume = read(path, options)?;
    let mut data = Array3::zeros(volume.data.dim());
    for (label, value) in data.iter_mut().zip(&volume.data) {
        if !(0.0..=255.0).contains(value) || value.fract() != 0.0 {
            return Err(Error::Label { path: path.to_owned(), value: f64::from(*value) });
        }
        *label = *value as u8;
    }
    Ok(Labels { data, affine: volume.affine })
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
    let values = source.voxels(skip, n)?;
    Array2::from_shape_vec((h as usize, w as usize), values).map_err(|e| source.damaged(e.to_string()))
}

/// The free text of a header, which may name a patient: only for who asks.
pub(crate) fn free_text(path: &Path) -> Result<Vec<(&'static str, String)>> {
    let source = Source::open(path)?;
    Ok(source.free_text)
}

/// A header that was read and the voxels still to come.
struct Source<R> {
    path: PathBuf,
    free_text: Vec<(&'static str, String)>,
    header: Header,
    stream: Stream<R>,
    /// Most bytes that can still come out of the stream before the voxels are through.
    bound: u64,
}

enum Stream<R> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
}

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(r) => r.read(buf),
            Stream::Gzip(r) => r.read(buf),
        }
    }
}

/// Looks at the first two bytes and puts them back.
fn stream<R: Read>(mut raw: R, size: u64) -> io::Result<(Stream<io::Chain<Cursor<Vec<u8>>, R>>, u64)> {
    let mut magic = Vec::new();
    raw.by_ref().take(2).read_to_end(&mut magic)?;
    let gzip = magic == [0x1f, 0x8b];
    let whole = Cursor::new(magic).chain(raw);
    Ok(if gzip {
        (Stream::Gzip(Box::new(MultiGzDecoder::new(whole))), size.saturating_mul(MAX_INFLATION))
    } else {
        (Stream::Plain(whole), size)
    })
}

type Chained<R> = io::Chain<Cursor<Vec<u8>>, R>;

impl Source<Chained<BufReader<File>>> {
    fn open(path: &Path) -> Result<Self> {
        let path = header_path(path);
        let (file, size) = open(&path)?;
        let mut source = Source::new(file, size, &path)?;
        if source.header.pair {
            let image = image_path(&path).ok_or_else(|| source.damaged("its .img file is missing".into()))?;
            let (file, size) = open(&image)?;
            let (raw, bound) = stream(file, size).map_err(|e| Error::read(&image, e))?;
            source.stream = raw;
            source.bound = bound;
            source.path = image;
            let offset = source.header.vox_offset;
            source.skip(offset)?;
        }
        Ok(source)
    }
}

fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let size = file.metadata().map_err(|e| Error::read(path, e))?.len();
    Ok((BufReader::with_capacity(BLOCK, file), size))
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

fn image_path(header: &Path) -> Option<PathBuf> {
    let name = header.to_string_lossy();
    let stem = name.strip_suffix(".hdr").or_else(|| name.strip_suffix(".hdr.gz"))?;
    [".img", ".img.gz"].iter().map(|s| PathBuf::from(format!("{stem}{s}"))).find(|p| p.is_file())
}

impl<R: Read> Source<Chained<R>> {
    /// Reads the header and stops at the first voxel (of a one-file image).
    fn new(raw: R, size: u64, path: &Path) -> Result<Self> {
        if size == 0 {
            return Err(Error::damaged(path, Format::Nifti, "the file is empty"));
        }
        let (mut stream, bound) = stream(raw, size).map_err(|e| Error::read(path, e))?;
        let mut bytes = Vec::new();
        let mut fill = |bytes: &mut Vec<u8>, upto: usize| -> Result<()> {
            let more = (upto - bytes.len()) as u64;
            stream.by_ref().take(more).read_to_end(bytes).map_err(|e| Error::damaged(path, Format::Nifti, gzip(e)))?;
            Ok(())
        };
        fill(&mut bytes, 4)?;
        if let Some((size, _)) = <&[u8; 4]>::try_from(bytes.as_slice()).ok().and_then(Header::size_of) {
            fill(&mut bytes, size)?;
        }
        let header = Header::parse(&bytes, path)?;
        let done = bytes.len() as u64;
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
        let mut source = Source { path: path.to_owned(), free_text, header, stream, bound: bound.saturating_sub(done) };
        if !source.header.pair {
            let gap = source.header.vox_offset.saturating_sub(done);
            source.skip(gap)?;
        }
        Ok(source)
    }
}

/// What a decompressor's complaint means.
fn gzip(e: io::Error) -> String {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        "the gzip stream ends early".into()
    } else {
        format!("the stream cannot be decompressed ({e})")
    }
}

impl<R: Read> Source<R> {
    fn damaged(&self, what: String) -> Error {
        Error::damaged(&self.path, Format::Nifti, what)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let short = |s: &Self| s.damaged("voxels start beyond the end of the file".into());
        if bytes > self.bound {
            return Err(short(self));
        }
        let done =
            io::copy(&mut self.stream.by_ref().take(bytes), &mut io::sink()).map_err(|e| self.damaged(gzip(e)))?;
        self.bound -= done.min(self.bound);
        if done < bytes { Err(short(self)) } else { Ok(()) }
    }

    fn volume_index(&self, options: &ReadOptions) -> Result<u64> {
        let overflow = || self.damaged("the number of voxels overflows".into());
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
        if bytes.is_none_or(|b| b > self.bound) {
            return Err(self.damaged(format!("{w} x {h} x {d} voxels declared, the file is too short for them")));
        }
        let index = self.volume_index(options)?;
        let n = options.limits.elements(&self.path, &[w, h, d], 4)?;
        let (affine, placement) = self.header.affine(&self.path)?;
        let values = self.voxels(index.checked_mul(n as u64), n)?;
        if index + 1 == self.header.volumes().unwrap_or(1) {
            self.check_end()?;
        }
        let shape = (d as usize, h as usize, w as usize);
        let data = Array3::from_shape_vec(shape, values).map_err(|e| self.damaged(e.to_string()))?;
        let mut volume = Volume::new(data, affine);
        volume.placement = placement;
        volume.windows = self.header.display.map(Voi::between).into_iter().collect();
        volume.header = Some(Box::new(self.header.clone()));
        Ok(volume)
    }

    /// Skips `skip` voxels and decodes `n`, scaled.
    fn voxels(&mut self, skip: Option<u64>, n: usize) -> Result<Vec<f32>> {
        let size = self.header.datatype.size();
        let short = "voxel data is shorter than declared";
        let skip = skip.and_then(|s| s.checked_mul(size as u64)).ok_or_else(|| self.damaged(short.into()))?;
        self.skip(skip)?;
        let mut left = (n as u64).checked_mul(size as u64).ok_or_else(|| self.damaged(short.into()))?;
        if left > self.bound {
            return Err(self.damaged(short.into()));
        }
        // compressed files could lie within the inflation bound: start modestly, grow as data come
        let likely = self.bound / if matches!(self.stream, Stream::Gzip(_)) { 32 } else { 1 };
        let mut out = Vec::with_capacity(n.min((likely as usize / size).saturating_add(1)));
        let mut block = vec![0u8; BLOCK.min(left as usize)];
        while left > 0 {
            let want = block.len().min(left as usize);
            let chunk = &mut block[..want];
            if let Err(e) = self.stream.read_exact(chunk) {
                let early = e.kind() == io::ErrorKind::UnexpectedEof;
                return Err(self.damaged(if early { short.into() } else { gzip(e) }));
            }
            convert(chunk, self.header.datatype, self.header.big_endian, self.header.scaling, &mut out);
            left -= want as u64;
        }
        self.bound = self.bound.saturating_sub(n as u64 * size as u64);
        Ok(out)
    }

    /// Lets the decompressor see the end of the stream, so that it checks the checksum. More data
    /// after the voxels are none of our business.
    fn check_end(&mut self) -> Result<()> {
        if !matches!(self.stream, Stream::Gzip(_)) {
            return Ok(());
        }
        match self.stream.read(&mut [0u8; 64]) {
            Err(e) if e.to_string().contains("checksum") => Err(self.damaged("gzip checksum does not match".into())),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged(gzip(e))),
            _ => Ok(()),
        }
    }
}

/// Appends whole elements of `bytes` as f32; scaling is done in f64.
fn convert(bytes: &[u8], kind: DataType, big: bool, scaling: Option<(f64, f64)>, out: &mut Vec<f32>) {
    macro_rules! push {
        ($t:ty) => {{
            const N: usize = size_of::<$t>();
            let (chunks, _) = bytes.as_chunks::<N>();
            match (scaling, big) {
                (None, false) => out.extend(chunks.iter().map(|b| <$t>::from_le_bytes(*b) as f32)),
                (None, true) => out.extend(chunks.iter().map(|b| <$t>::from_be_bytes(*b) as f32)),
                (Some((m, c)), false) => {
                    out.extend(chunks.iter().map(|b| (<$t>::from_le_bytes(*b) as f64 * m + c) as f32))
                }
                (Some((m, c)), true) => {
                    out.extend(chunks.iter().map(|b| (<$t>::from_be_bytes(*b) as f64 * m + c) as f32))
                }
            }
        }};
    }
    match kind {
        DataType::U8 => push!(u8),
        DataType::I8 => push!(i8),
        DataType::U16 => push!(u16),
        DataType::I16 => push!(i16),
        DataType::U32 => push!(u32),
        DataType::I32 => push!(i32),
        DataType::U64 => push!(u64),
        DataType::I64 => push!(i64),
        DataType::F32 => push!(f32),
        DataType::F64 => push!(f64),
    }
}
