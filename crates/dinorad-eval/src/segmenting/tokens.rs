//! Patch tokens of training slices, made once and kept on disk as f16.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use candle::{DType, Device, Tensor};
use half::f16;

use super::{
    batches::Place,
    net::{Canvas, Frames, Slice, patch_tokens, request},
    scans::{Eyes, Scans},
};
use crate::{Error, Result};

/// What a file of tokens begins with; then slices, blocks, tokens of a slice and their width as u32.
const MAGIC: &[u8; 8] = b"tokens 1";
const HEADER: u64 = 8 + 4 * 4;

/// The patch tokens of scans, by slice: only those asked for are in memory.
#[derive(Debug)]
pub(super) struct Tokens {
    folder: Folder,
    blocks: usize,
    batch: usize,
    made: BTreeMap<(usize, usize), (PathBuf, Shape)>,
    /// Files that are open, the oldest first: a system lets a program have some hundreds.
    open: VecDeque<((usize, usize), File)>,
}

/// Files that are open at a time.
const OPEN: usize = 64;

/// Where the files lie: in a run's own folder, or for the time being.
#[derive(Debug)]
enum Folder {
    Kept(PathBuf),
    Passing(tempfile::TempDir),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    slices: usize,
    blocks: usize,
    tokens: usize,
    dim: usize,
}

impl Shape {
    fn slice_bytes(self) -> usize {
        2 * self.blocks * self.tokens * self.dim
    }
}

impl Tokens {
    /// Tokens of so many last blocks, encoded `batch` slices at a time.
    pub(super) fn new(folder: Option<&Path>, blocks: usize, batch: usize) -> Result<Self> {
        let folder = match folder {
            Some(folder) => {
                let folder = folder.join("tokens");
                fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
                Folder::Kept(folder)
            }
            None => Folder::Passing(tempfile::tempdir().map_err(Error::file("create", std::env::temp_dir()))?),
        };
        Ok(Self { folder, blocks, batch: batch.max(1), made: BTreeMap::new(), open: VecDeque::new() })
    }

    /// Blocks whose tokens are kept.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Kept(path) => path,
            Folder::Passing(folder) => folder.path(),
        }
    }

    /// Makes the tokens of a scan's slices along an axis, unless they are there.
    pub(super) fn make(&mut self, scans: &Scans, eyes: &Eyes, scan: usize, axis: usize) -> Result<()> {
        if self.made.contains_key(&(scan, axis)) {
            return Ok(());
        }
        let text = format!("{} {} {axis} {}", scans.content(scan), eyes.fingerprint(), self.blocks);
        let path = self.folder().join(format!("{}.f16", &blake3::hash(text.as_bytes()).to_hex()[..32]));
        let slices = [scans.dims(scan).0, scans.dims(scan).1, scans.dims(scan).2][axis];
        if let Some((_, shape)) = opened(&path, slices, self.blocks)? {
            self.made.insert((scan, axis), (path, shape));
            return Ok(());
        }
        let (whole, request) = (scans.scan(scan)?, request(&*eyes.backbone, self.blocks));
        let failed = |e: std::io::Error| Error::file("write", &path)(e);
        let mut file = tempfile::NamedTempFile::new_in(self.folder()).map_err(failed)?;
        let mut known = None;
        for start in (0..slices).step_by(self.batch) {
            let some: Vec<Slice> = (start..(start + self.batch).min(slices))
                .map(|k| Slice::of(&whole, Place { scan, axis, k }, false))
                .collect();
            let frames = Frames::new(&some, Canvas::Square(1), Some(eyes))?;
            let Some(seen) = &frames.seen else { continue };
            let tokens = patch_tokens(&*eyes.backbone, seen, &request)?;
            let Some(first) = tokens.first() else { continue };
            let (b, n, dim) = first.dims3()?;
            let of = Shape { slices, blocks: tokens.len(), tokens: n, dim };
            if known.is_none() {
                known = Some(of);
                file.write_all(MAGIC).map_err(failed)?;
                for size in [of.slices, of.blocks, of.tokens, of.dim] {
                    let size = u32::try_from(size).map_err(|_| Error::unfit("tokens without number".into()))?;
                    file.write_all(&size.to_le_bytes()).map_err(failed)?;
                }
            }
            // what is too large for 16 bits is as large as they go
            let most = f64::from(f16::MAX);
            let tokens =
                tokens.iter().map(|t| t.clamp(-most, most)?.to_dtype(DType::F16)?.flatten_all()?.to_vec1::<f16>());
            let tokens = tokens.collect::<candle::Result<Vec<_>>>()?;
            for slice in 0..b {
                for block in &tokens {
                    let row = &block[slice * n * dim..(slice + 1) * n * dim];
                    let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
                    file.write_all(&bytes).map_err(failed)?;
                }
            }
        }
        file.persist(&path).map_err(|e| failed(e.error))?;
        let found = opened(&path, slices, self.blocks)?;
        let (_, shape) =
            found.ok_or_else(|| Error::Damaged { path: path.clone(), why: "tokens that were just written".into() })?;
        self.made.insert((scan, axis), (path, shape));
        Ok(())
    }

    /// The open file of a scan's slices along an axis.
    fn file(&mut self, of: (usize, usize)) -> Result<(&mut File, Shape)> {
        let missing = || Error::unfit("a scan's tokens were not made".into());
        let (path, shape) = self.made.get(&of).ok_or_else(missing)?;
        let at = match self.open.iter().position(|(known, _)| *known == of) {
            Some(at) => at,
            None => {
                if self.open.len() >= OPEN {
                    self.open.pop_front();
                }
                self.open.push_back((of, File::open(path).map_err(Error::file("open", path))?));
                self.open.len() - 1
            }
        };
        let (_, file) = self.open.get_mut(at).ok_or_else(missing)?;
        Ok((file, *shape))
    }

    /// The tokens of slices whose scans have been made, `(b, n, dim)` of each block.
    pub(super) fn of(&mut self, places: &[Place]) -> Result<Vec<Tensor>> {
        let mut blocks: Vec<Vec<f32>> = Vec::new();
        let mut shape = None;
        let mut bytes = Vec::new();
        for place in places {
            let (file, of) = self.file((place.scan, place.axis))?;
            shape.get_or_insert(of);
            blocks.resize_with(of.blocks, Vec::new);
            bytes.resize(of.slice_bytes(), 0);
            let at = HEADER + (place.k * of.slice_bytes()) as u64;
            let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes));
            read.map_err(|e| Error::unfit(format!("tokens of training slices cannot be read: {e}")))?;
            for (block, part) in blocks.iter_mut().zip(bytes.chunks_exact(2 * of.tokens * of.dim)) {
                block.extend(part.chunks_exact(2).map(|v| f16::from_le_bytes([v[0], v[1]]).to_f32()));
            }
        }
        let Some(Shape { tokens, dim, .. }) = shape else { return Ok(Vec::new()) };
        let tensors = blocks.into_iter().map(|v| Tensor::from_vec(v, (places.len(), tokens, dim), &Device::Cpu));
        Ok(tensors.collect::<candle::Result<_>>()?)
    }
}

/// A file of tokens with its sizes; `None` where there is none, or one that was not meant.
fn opened(path: &Path, slices: usize, blocks: usize) -> Result<Option<(File, Shape)>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::file("open", path)(e)),
    };
    let mut head = [0u8; HEADER as usize];
    if file.read_exact(&mut head).is_err() || head[..8] != *MAGIC {
        return Ok(None);
    }
    let number =
        |i: usize| u32::from_le_bytes([head[8 + 4 * i], head[9 + 4 * i], head[10 + 4 * i], head[11 + 4 * i]]) as usize;
    let shape = Shape { slices: number(0), blocks: number(1), tokens: number(2), dim: number(3) };
    let length = file.metadata().map_err(Error::file("read", path))?.len();
    let fits = shape.slices == slices
        && shape.blocks == blocks
        && Some(length)
            == shape
                .tokens
                .checked_mul(shape.dim)
                .and_then(|n| n.checked_mul(2 * slices * blocks))
                .map(|n| n as u64 + HEADER);
    Ok(fits.then_some((file, shape)))
}
