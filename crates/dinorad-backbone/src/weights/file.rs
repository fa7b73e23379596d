//! Tensors in files, memory-mapped and read one at a time.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    path::{Path, PathBuf},
};

use candle::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::SafeTensors;

use super::{copies, entry::Entry, in_memory, torch};
use crate::{Error, Result, WeightCopy};

/// One or several weight files as one set of named tensors.
///
/// Nothing is read but headers until a tensor is asked for.
#[derive(Debug)]
pub struct WeightFile {
    /// The file or folder that was named.
    path: PathBuf,
    files: Vec<(PathBuf, Mmap)>,
    entries: BTreeMap<String, (usize, Entry)>,
    /// Names of a second copy of the encoder, which is not looked at.
    set_aside: Vec<String>,
    /// Which copy the names are of, where the files hold two.
    copy: Option<WeightCopy>,
}

impl WeightFile {
    /// Opens safetensors files and PyTorch checkpoints, told apart by their content.
    ///
    /// `path` stands for all of them in messages.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Format`] if a file cannot be read or is damaged.
    pub fn open(path: &Path, files: &[PathBuf]) -> Result<Self> {
        let mut out = WeightFile {
            path: path.to_owned(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            set_aside: Vec::new(),
            copy: None,
        };
        for (index, file) in files.iter().enumerate() {
            let map = map(file)?;
            for (name, entry) in entries(file, &map)? {
                let name = in_memory::without_wrappers(name);
                let first = out.entries.insert(name.clone(), (index, entry));
                if first.is_some() {
                    return Err(Error::BadTensor { path: file.clone(), tensor: name, reason: "is there twice".into() });
                }
            }
            out.files.push((file.clone(), map));
        }
        Ok(out)
    }

    /// Leaves out the copy of the encoder that is not wanted, where the files hold two.
    #[must_use]
    pub fn with_copy(mut self, wanted: WeightCopy) -> Self {
        let others = copies::set_aside(&self.names().collect::<Vec<_>>(), wanted);
        if !others.is_empty() {
            self.entries.retain(|name, _| !others.contains(name));
            self.copy = Some(wanted);
            self.set_aside = others.into_iter().collect();
        }
        self
    }

    /// Which copy the names are of, where the files hold two.
    pub fn copy(&self) -> Option<WeightCopy> {
        self.copy
    }

    /// Names of the copy that was left out.
    pub fn set_aside(&self) -> &[String] {
        &self.set_aside
    }

    /// The file or folder that was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted, without what PyTorch's wrappers (`_orig_mod.` …) add to them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|(_, e)| e.shape.as_slice())
    }

    /// Reads one tensor in the precision of the file.
    ///
    /// # Errors
    /// [`Error::BadTensor`] if there is none or its element type is unknown.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let bad = |reason: String| Error::BadTensor { path: self.path.clone(), tensor: name.to_owned(), reason };
        let (file, entry) = self.entries.get(name).ok_or_else(|| bad("is not there".into()))?;
        let bytes = self.files.get(*file).and_then(|(_, map)| map.get(entry.start..entry.end));
        let bytes = bytes.ok_or_else(|| bad("reaches beyond the end of the file".into()))?;
        let dtype = entry.dtype.ok_or_else(|| bad("has an element type that is not supported".into()))?;
        let packed;
        let bytes = match &entry.strides {
            None => bytes,
            Some(strides) => {
                packed = gather(bytes, dtype.size_in_bytes(), &entry.shape, strides)
                    .ok_or_else(|| bad("reaches beyond its storage".into()))?;
                &packed
            }
        };
        Tensor::from_raw_buffer(bytes, dtype, &entry.shape, device).map_err(|e| bad(e.to_string()))
    }

    /// Element type of a tensor, if it is one this crate knows.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.entries.get(name).and_then(|(_, e)| e.dtype)
    }

    /// BLAKE3 over the bytes of all files, in the order of their names.
    pub fn hash(&self) -> blake3::Hash {
        let mut each: Vec<_> = self
            .files
            .iter()
            .map(|(path, map)| (path.file_name().map(ToOwned::to_owned), blake3::Hasher::new().update(map).finalize()))
            .collect();
        if let [(_, only)] = each.as_slice() {
            return *only;
        }
        each.sort_by(|a, b| a.0.cmp(&b.0));
        let mut all = blake3::Hasher::new();
        for (_, hash) in &each {
            all.update(hash.as_bytes());
        }
        all.finalize()
    }
}

/// Opens a file that is one: to open a pipe is to wait for its writer, perhaps forever.
pub(super) fn open_regular(path: &Path) -> Result<File> {
    let check = |meta: std::io::Result<Metadata>| match meta {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(Error::format(path, "not a regular file")),
        Err(e) => Err(Error::read(path, e)),
    };
    check(fs::metadata(path))?;
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    check(file.metadata())?;
    Ok(file)
}

fn map(path: &Path) -> Result<Mmap> {
    let file = open_regular(path)?;
    if file.metadata().map_err(|e| Error::read(path, e))?.len() == 0 {
        return Err(Error::format(path, "empty"));
    }
    // SAFETY: the map is only read. As for every reader of mapped weights, a file that is cut
    // short by another process while in use ends this one; nothing here can prevent that.
    #[allow(unsafe_code)]
    unsafe { Mmap::map(&file) }.map_err(|e| Error::read(path, e))
}

/// The named tensors of one file, whichever kind it is.
fn entries(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Entry)>> {
    if torch::is_torch(bytes) {
        return torch::entries(bytes).map_err(|reason| Error::format(path, reason));
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|e| Error::format(path, format!("neither safetensors ({e}) nor a PyTorch checkpoint")))?;
    // The header is preceded by its own length in 8 bytes.
    let base = header.saturating_add(8);
    let place = |at: usize| base.checked_add(at).filter(|at| *at <= bytes.len());
    let mut out = Vec::new();
    for (name, info) in metadata.tensors() {
        let (Some(start), Some(end)) = (place(info.data_offsets.0), place(info.data_offsets.1)) else {
            return Err(Error::format(path, format!("tensor `{name}` reaches beyond the end")));
        };
        let dtype = DType::try_from(info.dtype).ok();
        out.push((name, Entry { dtype, shape: info.shape.clone(), start, end, strides: None }));
    }
    Ok(out)
}

/// The elements of a strided tensor row by row; `None` if one lies outside of `bytes`.
fn gather(bytes: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Option<Vec<u8>> {
    let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    // A storage never holds fewer elements than the tensors saved with it.
    if count.checked_mul(size)? > bytes.len() {
        return None;
    }
    let mut out = Vec::with_capacity(count * size);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        let at = index.iter().zip(strides).try_fold(0usize, |at, (i, s)| at.checked_add(i.checked_mul(*s)?))?;
        let from = at.checked_mul(size)?;
        out.extend_from_slice(bytes.get(from..from.checked_add(size)?)?);
        for (i, d) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *d {
                break;
            }
            *i = 0;
        }
    }
    Some(out)
}
