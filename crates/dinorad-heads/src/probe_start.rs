//! Where linear probes start and which batches they see, when a file says so.

use std::path::{Path, PathBuf};

use candle::{DType, Device, Tensor};
use ndarray::ArrayD;
use safetensors::SafeTensors;

use crate::{BatchOrder, Error, ProbePoint, Result, SweepTrainer};

/// Initial weights, and the batches of every step, from a file: to follow another program exactly.
///
/// Named arrays:
/// - `weight` `(logits, width)` and `bias` `(logits,)`: where every point of the grid starts that
///   reads so many columns; a binary task has one logit. `weight.POINT` and `bias.POINT`, with the
///   point's name as in the tables, are for that point alone and go first;
/// - `batches` `(steps, batch)`, whole numbers: rows of the training cases; without it batches are
///   drawn from the seed.
#[derive(Debug, Clone)]
pub struct Start {
    path: PathBuf,
    weights: Vec<(String, Tensor)>,
    batches: Option<Vec<Vec<usize>>>,
}

impl Start {
    /// From the arrays of a file, whose `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Format`] without a `weight`, or for `batches` that are no rows.
    pub fn new(path: &Path, arrays: impl IntoIterator<Item = (String, ArrayD<f64>)>) -> Result<Self> {
        let bad = |reason: String| Error::Format { path: path.to_owned(), reason };
        let mut start = Self { path: path.to_owned(), weights: Vec::new(), batches: None };
        for (name, array) in arrays {
            if name == "batches" {
                let &[_, size] = array.shape() else {
                    let shape = array.shape();
                    return Err(bad(format!("`batches` has shape {shape:?}, expected (steps, batch)")));
                };
                if let Some(v) = array.iter().find(|v| !(**v >= 0.0 && v.fract() == 0.0)) {
                    return Err(bad(format!("`batches` holds {v}, expected rows from 0")));
                }
                let rows: Vec<usize> = array.iter().map(|v| *v as usize).collect();
                start.batches = Some(rows.chunks(size.max(1)).map(<[usize]>::to_vec).collect());
            } else {
                let values: Vec<f32> = array.iter().map(|v| *v as f32).collect();
                start.weights.push((name, Tensor::from_vec(values, array.shape(), &Device::Cpu)?));
            }
        }
        if !start.weights.iter().any(|(name, _)| name == "weight" || name.starts_with("weight.")) {
            return Err(bad("it holds no `weight`".into()));
        }
        Ok(start)
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// [`Error::File`], and [`Error::Format`] for another file and as [`Start::new`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::File { action: "read", path: path.to_owned(), source })?;
        let bad = |e: safetensors::SafeTensorError| Error::Format { path: path.to_owned(), reason: e.to_string() };
        // checks the header against the size of the file
        SafeTensors::deserialize(&bytes).map_err(bad)?;
        let mut arrays = Vec::new();
        for (name, tensor) in candle::safetensors::load_buffer(&bytes, &Device::Cpu)? {
            let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            let array = ArrayD::from_shape_vec(tensor.dims(), values)
                .map_err(|e| Error::Format { path: path.to_owned(), reason: format!("`{name}`: {e}") })?;
            arrays.push((name, array));
        }
        Self::new(path, arrays)
    }

    /// The batches of every step, where the file says.
    pub fn into_batches(self) -> Option<Vec<Vec<usize>>> {
        self.batches
    }

    /// Gives every point of a trainer its initial weights.
    ///
    /// # Errors
    /// [`Error::Format`] for a point that the file has no weights for, or of another shape.
    pub fn apply(&self, trainer: &mut SweepTrainer, points: &[ProbePoint]) -> Result<()> {
        let bad = |reason: String| Error::Format { path: self.path.clone(), reason };
        let find = |name: &str| self.weights.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        for (i, point) in points.iter().enumerate() {
            let of = |part: &str| find(&format!("{part}.{point}")).or_else(|| find(part));
            let (Some(weight), Some(bias)) = (of("weight"), of("bias")) else {
                return Err(bad(format!("it holds no `weight` and `bias` for {point}")));
            };
            trainer.set_weights(i, weight, bias).map_err(|e| bad(format!("{point}: {e}")))?;
        }
        Ok(())
    }
}

/// Batches from a file.
pub(crate) struct Given {
    batches: std::vec::IntoIter<Vec<usize>>,
}

impl Given {
    pub(crate) fn new(batches: Vec<Vec<usize>>, rows: usize, steps: usize) -> Result<Self> {
        if batches.len() < steps {
            let got = format!("{} for {steps} steps", batches.len());
            return Err(Error::parameter("given batches", "one for every step", got));
        }
        match batches.iter().flatten().find(|row| **row >= rows) {
            Some(row) => {
                let got = format!("row {row} of {rows}");
                Err(Error::parameter("given batches", "rows of the training cases", got))
            }
            None => Ok(Self { batches: batches.into_iter() }),
        }
    }
}

impl BatchOrder for Given {
    /// The file's batch, whatever its size.
    fn next_batch(&mut self, _size: usize) -> Vec<usize> {
        self.batches.next().unwrap_or_default()
    }
}
