//! Heads on disk: safetensors files whose metadata say what they hold.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use candle::{Device, Tensor, WithDType};
use ndarray::Array2;
use safetensors::SafeTensors;

use crate::{Error, Result, rows::Rows};

/// The one entry of a file's metadata: a JSON object of texts.
const HEADER: &str = "dinorad";

/// Writes to a neighbouring temporary name, then renames: a reader never sees half a file.
pub(crate) fn save(path: &Path, tensors: &[(&str, &Tensor)], metadata: &[(&str, String)]) -> Result<()> {
    let write = |source| Error::File { action: "write", path: path.to_owned(), source };
    // One entry: the file lists several in no fixed order, and the same head is to be the same file.
    let entries: BTreeMap<&str, &String> = metadata.iter().map(|(k, v)| (*k, v)).collect();
    let header =
        serde_json::to_string(&entries).map_err(|e| Error::Format { path: path.to_owned(), reason: e.to_string() })?;
    let metadata = HashMap::from([(HEADER.to_owned(), header)]);
    let tensors = tensors.iter().map(|(name, t)| Ok((*name, t.contiguous()?))).collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(tensors.iter().map(|(n, t)| (*n, t)), Some(metadata))
        .map_err(|e| Error::Format { path: path.to_owned(), reason: e.to_string() })?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let put = || {
        let mut file = fs::File::create(&temporary)?;
        std::io::Write::write_all(&mut file, &bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    put().map_err(|e| {
        // the rename did not happen; what is left is of no use to anyone
        let _ = fs::remove_file(&temporary);
        write(e)
    })
}

/// A matrix as a tensor.
pub(crate) fn tensor<T: WithDType>(matrix: &Array2<T>) -> Result<Tensor> {
    Ok(Tensor::from_iter(matrix.iter().copied(), &Device::Cpu)?.reshape(matrix.dim())?)
}

/// Counts with commas between.
pub(crate) fn listed(counts: &[usize]) -> String {
    counts.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// A head's file.
pub(crate) struct Stored {
    path: PathBuf,
    metadata: HashMap<String, String>,
    tensors: HashMap<String, Tensor>,
}

pub(crate) fn load(path: &Path) -> Result<Stored> {
    let bytes = fs::read(path).map_err(|source| Error::File { action: "read", path: path.to_owned(), source })?;
    let bad = |e: safetensors::SafeTensorError| Error::Format { path: path.to_owned(), reason: e.to_string() };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
    SafeTensors::deserialize(&bytes).map_err(bad)?;
    let not_ours = |reason: String| Error::Format { path: path.to_owned(), reason };
    let entry = header.metadata().as_ref().and_then(|m| m.get(HEADER));
    let entry = entry.ok_or_else(|| not_ours(format!("no `{HEADER}` in its metadata")))?;
    let metadata = serde_json::from_str(entry).map_err(|e| not_ours(format!("its metadata: {e}")))?;
    Ok(Stored { path: path.to_owned(), metadata, tensors: candle::safetensors::load_buffer(&bytes, &Device::Cpu)? })
}

impl Stored {
    pub(crate) fn bad(&self, reason: impl Into<String>) -> Error {
        Error::Format { path: self.path.clone(), reason: reason.into() }
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        self.metadata.get(key).map(String::as_str).ok_or_else(|| self.bad(format!("no `{key}` in its metadata")))
    }

    pub(crate) fn number(&self, key: &str) -> Result<usize> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.bad(format!("`{key}` is `{text}`, not a number")))
    }

    /// A number that was written with as many digits as tell it from all others.
    pub(crate) fn real(&self, key: &str) -> Result<f64> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.bad(format!("`{key}` is `{text}`, not a number")))
    }

    /// Counts with commas between.
    pub(crate) fn counts(&self, key: &str) -> Result<Vec<usize>> {
        let text = self.text(key)?;
        let counts: Option<Vec<usize>> = text.split(',').map(|count| count.parse().ok()).collect();
        counts.ok_or_else(|| self.bad(format!("`{key}` is `{text}`, not numbers")))
    }

    /// A matrix of a type.
    pub(crate) fn matrix<T: WithDType>(&self, name: &str) -> Result<Array2<T>> {
        let tensor = self.tensor(name)?;
        let shape = tensor.dims2().map_err(|_| self.bad(format!("`{name}` is no matrix")))?;
        let values =
            tensor.flatten_all()?.to_vec1::<T>().map_err(|_| self.bad(format!("`{name}` is of another type")))?;
        Array2::from_shape_vec(shape, values).map_err(|e| self.bad(format!("`{name}`: {e}")))
    }

    /// Training rows of unit length, as they were written: they are not made so again.
    pub(crate) fn gallery(&self) -> Result<Rows<'static>> {
        let rows = self.matrix::<f32>("gallery")?;
        let (n, dim) = rows.dim();
        if n == 0 || dim == 0 || rows.iter().any(|v| !v.is_finite()) {
            return Err(self.bad("its `gallery` has no rows, or some that are not finite"));
        }
        Ok(Rows { data: Cow::Owned(rows.into_raw_vec_and_offset().0), n, dim })
    }

    pub(crate) fn expect(&self, key: &str, value: &str) -> Result<()> {
        match self.text(key)? {
            v if v == value => Ok(()),
            other => Err(self.bad(format!("`{key}` is `{other}`, expected `{value}`"))),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor> {
        self.tensors.get(name).cloned().ok_or_else(|| self.bad(format!("no tensor `{name}`")))
    }
}
