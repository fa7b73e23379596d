//! Small models on disk: safetensors files whose metadata say what they hold.
//!
//! ```
//! use dinorad_nn::{candle::{Device, Tensor}, store};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("head.safetensors");
//! let weight = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
//! store::save(&path, &[("weight", &weight)], &[("head", "mine".to_owned())])?;
//! let file = store::load(&path)?;
//! file.expect("head", "mine")?;
//! assert_eq!(file.tensor("weight")?.dims(), [2]);
//! # Ok(()) }
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use candle::{Device, Tensor};
use safetensors::SafeTensors;

use crate::{Error, Result};

/// The one entry of a file's metadata: a JSON object of texts.
const HEADER: &str = "dinorad";

/// Writes tensors by name, and texts about them.
///
/// To a neighbouring temporary name, then renames: a reader never sees half a file.
///
/// # Errors
/// [`Error::Store`] if it cannot be written, [`Error::Format`] for names or tensors that no file can hold.
pub fn save(path: &Path, tensors: &[(&str, &Tensor)], metadata: &[(&str, String)]) -> Result<()> {
    let write = |source| Error::Store { action: "write", path: path.to_owned(), source };
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

/// Counts with commas between.
pub fn listed(counts: &[usize]) -> String {
    counts.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// What such a file holds.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    metadata: HashMap<String, String>,
    tensors: HashMap<String, Tensor>,
}

/// Reads a file that [`save`] wrote.
///
/// # Errors
/// [`Error::Store`] if it cannot be read, [`Error::Format`] if it is no such file.
pub fn load(path: &Path) -> Result<Stored> {
    let bytes = fs::read(path).map_err(|source| Error::Store { action: "read", path: path.to_owned(), source })?;
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
    /// An [`Error::Format`] of this file.
    pub fn bad(&self, reason: impl Into<String>) -> Error {
        Error::Format { path: self.path.clone(), reason: reason.into() }
    }

    /// A text by its key.
    ///
    /// # Errors
    /// [`Error::Format`] where there is none, or it is none.
    pub fn text(&self, key: &str) -> Result<&str> {
        self.metadata.get(key).map(String::as_str).ok_or_else(|| self.bad(format!("no `{key}` in its metadata")))
    }

    /// A count by its key.
    ///
    /// # Errors
    /// [`Error::Format`] where there is none, or it is none.
    pub fn number(&self, key: &str) -> Result<usize> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.bad(format!("`{key}` is `{text}`, not a number")))
    }

    /// A number that was written with as many digits as tell it from all others.
    ///
    /// # Errors
    /// [`Error::Format`] where there is none, or it is none.
    pub fn real(&self, key: &str) -> Result<f64> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.bad(format!("`{key}` is `{text}`, not a number")))
    }

    /// Counts with commas between.
    ///
    /// # Errors
    /// [`Error::Format`] where there is none, or it is none.
    pub fn counts(&self, key: &str) -> Result<Vec<usize>> {
        let text = self.text(key)?;
        let counts: Option<Vec<usize>> = text.split(',').map(|count| count.parse().ok()).collect();
        counts.ok_or_else(|| self.bad(format!("`{key}` is `{text}`, not numbers")))
    }

    /// Refuses a file whose text is another.
    ///
    /// # Errors
    /// [`Error::Format`] where there is none, or it is another.
    pub fn expect(&self, key: &str, value: &str) -> Result<()> {
        match self.text(key)? {
            v if v == value => Ok(()),
            other => Err(self.bad(format!("`{key}` is `{other}`, expected `{value}`"))),
        }
    }

    /// A tensor by its name, on the CPU.
    ///
    /// # Errors
    /// [`Error::Format`] where there is none.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.tensors.get(name).cloned().ok_or_else(|| self.bad(format!("no tensor `{name}`")))
    }

    /// The names of its tensors, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}
