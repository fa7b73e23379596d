//! Voxels as a stream of elements, packed or not, which never takes more memory than is asked for.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use flate2::read::{MultiGzDecoder, ZlibDecoder};

use crate::{Error, Format, Result, grid::Compression, nifti::DataType};

/// No deflate stream grows by more than this factor.
const MAX_INFLATION: u64 = 1032;
/// Bytes converted at a time; divisible by every element size.
const BLOCK: usize = 1 << 18;

/// The bytes of a file from some place on, unpacked.
pub(crate) struct Voxels<'a> {
    path: PathBuf,
    format: Format,
    stream: Box<dyn Read + 'a>,
    packing: Compression,
    /// Most bytes that can still come out of the stream.
    bound: u64,
}

/// A file and its size.
pub(crate) fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let size = file.metadata().map_err(|e| Error::read(path, e))?.len();
    Ok((BufReader::with_capacity(BLOCK, file), size))
}

/// What a decompressor's complaint means.
fn unpacking(e: io::Error, packing: Compression) -> String {
    let kind = if packing == Compression::Zlib { "zlib" } else { "gzip" };
    if e.kind() == io::ErrorKind::UnexpectedEof {
        format!("the {kind} stream ends early")
    } else {
        format!("the stream cannot be decompressed ({e})")
    }
}

impl<'a> Voxels<'a> {
    /// `size` bytes of `raw`, packed as told.
    pub(crate) fn new(raw: impl Read + 'a, size: u64, packing: Compression, path: &Path, format: Format) -> Self {
        let (stream, bound): (Box<dyn Read + 'a>, u64) = match packing {
            Compression::None => (Box::new(raw), size),
            Compression::Gzip => (Box::new(MultiGzDecoder::new(raw)), size.saturating_mul(MAX_INFLATION)),
            Compression::Zlib => (Box::new(ZlibDecoder::new(raw)), size.saturating_mul(MAX_INFLATION)),
        };
        Self { path: path.to_owned(), format, stream, packing, bound }
    }

    /// The same, packed by gzip if the first two bytes say so, else as told.
    pub(crate) fn sniffed(
        mut raw: impl Read + 'a,
        size: u64,
        otherwise: Compression,
        path: &Path,
        format: Format,
    ) -> Result<Self> {
        let mut magic = Vec::new();
        raw.by_ref().take(2).read_to_end(&mut magic).map_err(|e| Error::read(path, e))?;
        let packing = if magic == [0x1f, 0x8b] { Compression::Gzip } else { otherwise };
        Ok(Self::new(Cursor::new(magic).chain(raw), size, packing, path, format))
    }

    pub(crate) fn packing(&self) -> Compression {
        self.packing
    }

    /// The file that the stream comes from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(&self.path, self.format, what)
    }

    /// Up to `n` bytes, fewer at the end of the stream: for headers.
    pub(crate) fn bytes(&mut self, n: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let read = self.stream.by_ref().take(n as u64).read_to_end(&mut out);
        read.map_err(|e| self.damaged(unpacking(e, self.packing)))?;
        self.bound = self.bound.saturating_sub(out.len() as u64);
        Ok(out)
    }

    /// Whether so many bytes can still come out of the stream.
    pub(crate) fn may_hold(&self, bytes: Option<u64>) -> bool {
        bytes.is_some_and(|b| b <= self.bound)
    }

    /// Passes over bytes.
    pub(crate) fn skip(&mut self, bytes: u64) -> Result<()> {
        let short = |s: &Self| s.damaged("voxels start beyond the end of the file");
        if bytes > self.bound {
            return Err(short(self));
        }
        let done = io::copy(&mut self.stream.by_ref().take(bytes), &mut io::sink())
            .map_err(|e| self.damaged(unpacking(e, self.packing)))?;
        self.bound -= done.min(self.bound);
        if done < bytes { Err(short(self)) } else { Ok(()) }
    }

    /// Passes over `skip` voxels and decodes the `n` after them, scaled. Of `every` voxels that lie side
    /// by side only the one numbered `pick` counts; plain voxels have `(0, 1)`.
    pub(crate) fn read(
        &mut self,
        skip: Option<u64>,
        n: usize,
        (pick, every): (u64, u64),
        kind: DataType,
        big: bool,
        scaling: Option<(f64, f64)>,
    ) -> Result<Vec<f32>> {
        let size = kind.size();
        let short = "voxel data is shorter than declared";
        let skip = skip.and_then(|s| s.checked_mul(size as u64)).ok_or_else(|| self.damaged(short))?;
        self.skip(skip)?;
        let all = (n as u64).checked_mul(size as u64).and_then(|bytes| bytes.checked_mul(every));
        let mut left = all.filter(|bytes| *bytes <= self.bound).ok_or_else(|| self.damaged(short))?;
        // compressed files could lie within the inflation bound: start modestly, grow as data come
        let likely = self.bound / if self.packing == Compression::None { 1 } else { 32 };
        let mut out = Vec::with_capacity(n.min((likely as usize / size).saturating_add(1)));
        let mut side_by_side = Vec::new();
        let mut at = 0u64;
        let mut block = vec![0u8; (BLOCK as u64).min(left) as usize];
        while left > 0 {
            let want = (block.len() as u64).min(left) as usize;
            let chunk = &mut block[..want];
            if let Err(e) = self.stream.read_exact(chunk) {
                let early = e.kind() == io::ErrorKind::UnexpectedEof;
                return Err(self.damaged(if early { short.into() } else { unpacking(e, self.packing) }));
            }
            if every == 1 {
                convert(chunk, kind, big, scaling, &mut out);
            } else {
                side_by_side.clear();
                convert(chunk, kind, big, scaling, &mut side_by_side);
                for value in &side_by_side {
                    if at % every == pick {
                        out.push(*value);
                    }
                    at += 1;
                }
            }
            left -= want as u64;
            self.bound = self.bound.saturating_sub(want as u64);
        }
        Ok(out)
    }

    /// Lets the decompressor see the end of the stream, so that it checks the checksum. More data
    /// after the voxels are none of our business.
    pub(crate) fn check_end(&mut self) -> Result<()> {
        if self.packing == Compression::None {
            return Ok(());
        }
        match self.stream.read(&mut [0u8; 64]) {
            Err(e) if e.to_string().contains("checksum") => Err(self.damaged("gzip checksum does not match")),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged(unpacking(e, self.packing))),
            // zlib's own checksum has no message of its own, and nothing stands behind it
            Err(e) if self.packing == Compression::Zlib => Err(self.damaged(unpacking(e, self.packing))),
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
