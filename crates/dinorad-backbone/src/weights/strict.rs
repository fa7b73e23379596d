//! Every parameter finds its tensor and every tensor its use, or loading fails.

use std::collections::{BTreeMap, BTreeSet};

use candle::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{
    file::WeightFile,
    layout::{Found, Place},
    report::{LoadReport, ShapeMismatch, unmatched},
};
use crate::{Error, LoadOptions, Result};

/// A parameter that an encoder needs.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The encoder's own name for it.
    pub(crate) name: String,
    /// Its shape in the encoder.
    pub(crate) shape: Vec<usize>,
    /// Where it is in the file.
    pub(crate) place: Place,
    /// Whether the encoder works without.
    pub(crate) optional: bool,
}

impl Wanted {
    /// A parameter that has one tensor in the file, of the same shape.
    pub(crate) fn one(name: impl Into<String>, shape: impl Into<Vec<usize>>, in_file: impl Into<String>) -> Self {
        Wanted { name: name.into(), shape: shape.into(), place: Place::One(in_file.into()), optional: false }
    }
}

/// Which tensor of a file becomes which parameter.
#[derive(Debug)]
pub(crate) struct Matching {
    /// What can be filled: places with the names of the file.
    complete: Vec<Wanted>,
    pub(crate) report: LoadReport,
}

impl Matching {
    /// Finds the tensors of all parameters and lists what did not fit.
    pub(crate) fn new(file: &WeightFile, found: &Found, parameters: Vec<Wanted>) -> Self {
        let mut report = LoadReport {
            layout: Some(found.layout),
            prefix: found.prefix.clone(),
            copy: file.copy(),
            ignored: found.ignored.iter().chain(file.set_aside()).cloned().collect(),
            ..Default::default()
        };
        let (mut names, mut used) = (BTreeSet::new(), BTreeSet::new());
        let (mut complete, mut missing) = (Vec::new(), Vec::new());
        for parameter in parameters {
            let mut all = true;
            let mut resolve = |name: &String, expected: Vec<usize>| {
                names.insert(name.clone());
                let Some(in_file) = found.name(name) else {
                    all = false;
                    if !parameter.optional {
                        missing.push(name.clone());
                    }
                    return String::new();
                };
                used.insert(name.clone());
                let got = file.shape(in_file).unwrap_or_default();
                match got == expected {
                    true => report.loaded.push(in_file.to_owned()),
                    false => {
                        let name = in_file.to_owned();
                        report.wrong_shape.push(ShapeMismatch { name, expected, got: got.to_vec() });
                    }
                }
                in_file.to_owned()
            };
            let place = parameter.place.resolved(&parameter.shape, &mut resolve);
            if all {
                complete.push(Wanted { place, ..parameter });
            }
        }
        let unused: Vec<&str> = found.names.keys().filter(|n| !used.contains(*n)).map(String::as_str).collect();
        let full = |name: &str| format!("{}{name}", found.prefix);
        let in_file = |name: &str| found.name(name).unwrap_or(name).to_owned();
        report.missing = unmatched(missing.iter().map(String::as_str), unused.iter().copied(), full, full);
        report.unused = unmatched(unused.iter().copied(), names.iter().map(String::as_str), in_file, full);
        Matching { complete, report }
    }

    /// Fails over anything that did not fit.
    pub(crate) fn check(&self, file: &WeightFile) -> Result<()> {
        let path = || file.path().to_owned();
        if !self.report.missing.is_empty() {
            return Err(Error::MissingTensors { path: path(), missing: self.report.missing.clone() });
        }
        if let Some(ShapeMismatch { name, expected, got }) = self.report.wrong_shape.first().cloned() {
            return Err(Error::WrongShape { path: path(), tensor: name, expected, got });
        }
        if !self.report.unused.is_empty() {
            return Err(Error::UnusedTensors { path: path(), unused: self.report.unused.clone() });
        }
        Ok(())
    }

    /// The parameters by the encoder's names, of the shapes that were wanted.
    pub(crate) fn read(&self, file: &WeightFile, options: &LoadOptions) -> Result<BTreeMap<String, Tensor>> {
        let read = |name: &String| -> Result<Tensor> {
            if !file.dtype(name).is_some_and(|d| d.is_float()) {
                let reason = "is not stored as floating-point numbers of a supported type".into();
                return Err(Error::BadTensor { path: file.path().to_owned(), tensor: name.clone(), reason });
            }
            // Converted before the upload: not every device has every type, and halves travel faster.
            Ok(file.tensor(name, &Device::Cpu)?.to_dtype(options.dtype)?)
        };
        let one = |Wanted { name, shape, place, .. }: &Wanted| -> Result<(String, Tensor)> {
            let tensor = place.assembled(shape, options.dtype, &read)?;
            Ok((name.clone(), tensor.to_device(&options.device)?))
        };
        self.complete.par_iter().map(one).collect()
    }
}

/// [`Matching`] that is checked and read: what most encoders need.
pub(crate) fn read_strict(
    file: &WeightFile,
    found: &Found,
    parameters: Vec<Wanted>,
    options: &LoadOptions,
) -> Result<(BTreeMap<String, Tensor>, LoadReport)> {
    check_dtype(options)?;
    let matching = Matching::new(file, found, parameters);
    matching.check(file)?;
    Ok((matching.read(file, options)?, matching.report))
}

/// Encoders compute in these precisions.
pub(crate) fn check_dtype(options: &LoadOptions) -> Result<()> {
    if matches!(options.dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Ok(());
    }
    let value = format!("{:?}", options.dtype);
    Err(Error::Architecture { field: "dtype", value, expected: "F32, F16 or BF16" })
}
