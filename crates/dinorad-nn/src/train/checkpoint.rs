//! Training that was broken off, in one file.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use candle::{Device, Tensor};

use super::Trainer;
use crate::{Error, Result, Trainable};

/// The file of the last checkpoint.
pub const LAST: &str = "last.safetensors";
/// The file of the best weights so far.
pub const BEST: &str = "best.safetensors";

/// Where a checkpoint's facts stand in its file.
const FACTS: &str = "dinorad.training";

/// Writes tensors and text as one file: under another name first, so that what was there stays whole.
///
/// # Errors
/// [`Error::File`] if it cannot be written.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, facts: &str) -> Result<()> {
    let failed = |e: std::io::Error| Error::File { path: path.to_owned(), reason: e.to_string() };
    let folder = path.parent().unwrap_or(Path::new("."));
    let about = HashMap::from([(FACTS.to_owned(), facts.to_owned())]);
    let whole = tensors.iter().map(|(n, t)| Ok((n.clone(), t.contiguous()?))).collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(whole, Some(about))
        .map_err(|e| Error::File { path: path.to_owned(), reason: e.to_string() })?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    std::io::Write::write_all(&mut file, &bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// Reads such a file back, its tensors onto the CPU; `None` where there is none.
///
/// # Errors
/// [`Error::File`] if it cannot be read or is no such file.
pub fn read(path: &Path) -> Result<Option<(BTreeMap<String, Tensor>, String)>> {
    let failed = |reason: String| Error::File { path: path.to_owned(), reason };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e.to_string())),
    };
    let (_, head) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| failed(e.to_string()))?;
    let facts = head.metadata().as_ref().and_then(|m| m.get(FACTS)).cloned();
    let facts = facts.ok_or_else(|| failed("no checkpoint of a training".into()))?;
    let tensors = candle::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    Ok(Some((tensors.into_iter().collect(), facts)))
}

impl<M: Trainable> Trainer<M> {
    /// Everything that the next step depends on, but for the step itself and the frozen weights.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out: BTreeMap<String, Tensor> =
            self.variables.iter().map(|(name, var)| (format!("weights/{name}"), var.as_detached_tensor())).collect();
        out.extend(self.optimizer.state()?.into_iter().map(|(name, t)| (format!("optimizer/{name}"), t)));
        out.extend(self.model.statistics().into_iter().map(|(name, t)| (format!("statistics/{name}"), t)));
        out.extend(self.average.iter().map(|(name, t)| (format!("average/{name}"), t.clone())));
        Ok(out)
    }

    /// Takes a [`state`](Self::state) back.
    pub(super) fn load_state(&mut self, state: &BTreeMap<String, Tensor>, step: usize) -> Result<()> {
        let part = |prefix: &str| -> BTreeMap<String, Tensor> {
            let of = state.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())));
            of.collect()
        };
        let statistics = part("statistics/");
        if statistics.keys().ne(self.model.statistics().keys()) {
            return Err(Error::State { reason: "its statistics are of other layers".into() });
        }
        self.set(&part("weights/").into_iter().chain(statistics).collect())?;
        self.optimizer.load_state(&part("optimizer/"))?;
        let average = part("average/");
        if average.len() != self.average.len() || average.keys().ne(self.average.keys()) {
            return Err(Error::State { reason: "its average is of other weights".into() });
        }
        self.average = average;
        self.step = step;
        Ok(())
    }
}
