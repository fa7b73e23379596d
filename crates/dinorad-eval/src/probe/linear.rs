//! Linear probes within the protocol: a grid in one pass, on cached features or on views that are
//! encoded anew in every epoch, from drawn or given initial weights.

use std::path::{Path, PathBuf};

use candle::{Device, Tensor};
use dinorad_core::Protocol;
use dinorad_heads::{
    BatchOrder, EpochSampler, InfiniteSampler, LinearModel, LinearSweep, ProbePoint, ProbeTask, SweepTrainer, Targets,
};
use dinorad_io::{ReadOptions, npy};
use serde::{Deserialize, Serialize};

use super::{Context, Labelled, Place, Setting};
use crate::{Error, Result};

/// Linear probes for every point of a grid, trained together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearHead {
    /// The grid, the length of training, the batches, the seed.
    pub sweep: LinearSweep,
    /// Steps; in place of whole epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<usize>,
    /// The order of the batches.
    pub order: Order,
    /// Initial weights and batches from a file, see [`Start`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
}

/// In which order training visits its cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Shuffled passes, each from its own random stream.
    Epochs,
    /// The study's endless sampler.
    Infinite,
}

impl LinearHead {
    /// The study's grid, 100 epochs of batches of 128; under `paper` in the order of the study's
    /// sampler.
    pub fn new(protocol: Protocol) -> Self {
        let order = if protocol == Protocol::Paper { Order::Infinite } else { Order::Epochs };
        Self { sweep: LinearSweep::new(ProbePoint::study_grid()), iterations: None, order, init: None }
    }

    /// Steps on a training set of `n` cases.
    pub fn steps(&self, n: usize) -> usize {
        self.iterations.unwrap_or_else(|| self.sweep.steps(n))
    }

    pub(crate) fn settings(&self) -> Vec<Setting> {
        let of_point = |point: &ProbePoint| Setting {
            label: format!(
                "lr {}, {} block{}{}",
                point.learning_rate,
                point.blocks,
                if point.blocks == 1 { "" } else { "s" },
                if point.avgpool { " + mean patch" } else { "" }
            ),
            slug: point.to_string(),
            values: vec![
                ("blocks", point.blocks as f64),
                ("avgpool", f64::from(u8::from(point.avgpool))),
                ("learning_rate", point.learning_rate),
            ],
        };
        self.sweep.points.iter().map(of_point).collect()
    }

    pub(crate) fn keep(&mut self, which: usize) {
        self.sweep.points = self.sweep.points.get(which).copied().into_iter().collect();
    }

    pub(crate) fn fit(&self, train: &Labelled, y: &Targets, context: &Context<'_>) -> Result<Vec<LinearModel>> {
        if let Targets::Classes { labels, .. } = y
            && let Some(class) = y.positives().iter().position(|n| *n == labels.len())
        {
            return Err(dinorad_heads::Error::OneClass { class, rows: labels.len() }.into());
        }
        let n = train.len();
        let steps = self.steps(n);
        let sweep = match train.layout {
            Some(layout) => self.sweep.clone().with_layout(layout),
            None => self.sweep.clone(),
        };
        let dim = train.features.ncols();
        let start = self.init.as_deref().map(Start::read).transpose()?;
        let mut trainer = sweep.trainer(dim, ProbeTask::of(y), steps)?;
        if let Some(start) = &start {
            start.apply(&mut trainer, &sweep.points)?;
        }
        let seed = sweep.seed;
        let mut order: Box<dyn BatchOrder> = match (start.and_then(|s| s.batches), self.order) {
            (Some(batches), _) => Box::new(Given::new(batches, n, steps)?),
            (None, Order::Epochs) => Box::new(EpochSampler::new(n.max(1), seed)?),
            (None, Order::Infinite) => Box::new(InfiniteSampler::new(n.max(1), seed as u32, 0)?),
        };
        let size = sweep.batch_size.min(n);
        context.progress.set_total(steps);
        match context.views {
            None => {
                trainer.train(train.features.view(), y, &mut *order, size, steps, &mut |done| context.progress.advance(done))?;
            }
            Some(views) => {
                let batches: Vec<Vec<usize>> = (0..steps).map(|_| order.next_batch(size)).collect();
                // the pass over the data that a place of the order belongs to
                let mut at = 0;
                let visits: Vec<Vec<(Place, u64)>> = batches
                    .iter()
                    .map(|batch| {
                        let visit = |row: &usize| {
                            let epoch = at / n.max(1);
                            at += 1;
                            (train.places[*row], epoch as u64)
                        };
                        batch.iter().map(visit).collect()
                    })
                    .collect();
                let mut step = 0;
                views.for_each(visits, &mut |features| {
                    let targets = y.select(&batches[step])?;
                    trainer.step(features.view(), &targets)?;
                    step += 1;
                    context.progress.advance(1);
                    Ok(())
                })?;
            }
        }
        Ok(trainer.into_models()?)
    }
}

/// Initial weights, and the batches of every step, from a file: to follow another program exactly.
///
/// An npz or safetensors file with
/// - `weight` `(logits, width)` f32 and `bias` `(logits,)` f32: where every point of the grid starts
///   that reads so many columns; a binary task has one logit. `weight.POINT` and `bias.POINT`, with
///   the point's name as in the tables, are for that point alone and go first;
/// - `batches` `(steps, batch)`, integers: rows of the training split in the order of the data set;
///   without it batches are drawn from the seed.
#[derive(Debug, Clone)]
pub struct Start {
    path: PathBuf,
    tensors: Vec<(String, Tensor)>,
    batches: Option<Vec<Vec<usize>>>,
}

impl Start {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`] for a file that is neither or holds no `weight`,
    /// [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
        let is_npz = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        let mut batches = None;
        let rows_of = |values: Vec<f64>, shape: &[usize]| -> Result<Vec<Vec<usize>>> {
            let &[_, size] = shape else {
                return Err(damaged(format!("`batches` has shape {shape:?}, expected (steps, batch)")));
            };
            if let Some(v) = values.iter().find(|v| !(**v >= 0.0 && v.fract() == 0.0)) {
                return Err(damaged(format!("`batches` holds {v}, expected rows from 0")));
            }
            Ok(values.chunks(size.max(1)).map(|c| c.iter().map(|v| *v as usize).collect()).collect())
        };
        if is_npz {
            for name in npy::names(path)? {
                let array = npy::read_npz_array(path, &name, &ReadOptions::default())?;
                let shape = array.shape().to_vec();
                if name == "batches" {
                    batches = Some(rows_of(array.to_f64().into_iter().collect(), &shape)?);
                } else {
                    let values: Vec<f32> = array.to_f32().into_iter().collect();
                    tensors.push((name, Tensor::from_vec(values, shape, &Device::Cpu)?));
                }
            }
        } else {
            let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
            safetensors::SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
            for (name, tensor) in candle::safetensors::load_buffer(&bytes, &Device::Cpu)? {
                if name == "batches" {
                    let values = tensor.to_dtype(candle::DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                    batches = Some(rows_of(values, tensor.dims())?);
                } else {
                    tensors.push((name, tensor.to_dtype(candle::DType::F32)?));
                }
            }
        }
        if !tensors.iter().any(|(name, _)| name == "weight" || name.starts_with("weight.")) {
            return Err(damaged("it holds no `weight`".into()));
        }
        Ok(Self { path: path.to_owned(), tensors, batches })
    }

    fn apply(&self, trainer: &mut SweepTrainer, points: &[ProbePoint]) -> Result<()> {
        let find = |name: &str| self.tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        for (i, point) in points.iter().enumerate() {
            let of = |part: &str| find(&format!("{part}.{point}")).or_else(|| find(part));
            let (Some(weight), Some(bias)) = (of("weight"), of("bias")) else {
                return Err(Error::Damaged {
                    path: self.path.clone(),
                    why: format!("it holds no `weight` and `bias` for {point}"),
                });
            };
            trainer
                .set_weights(i, weight, bias)
                .map_err(|e| Error::Damaged { path: self.path.clone(), why: format!("{point}: {e}") })?;
        }
        Ok(())
    }
}

/// Batches from a file.
struct Given {
    batches: std::vec::IntoIter<Vec<usize>>,
}

impl Given {
    fn new(batches: Vec<Vec<usize>>, rows: usize, steps: usize) -> Result<Self> {
        let wrong = |got: String, expected: &'static str| Error::Parameter { what: "batches of --init", expected, got };
        if batches.len() < steps {
            return Err(wrong(format!("{} for {steps} steps", batches.len()), "one for every step"));
        }
        match batches.iter().flatten().find(|row| **row >= rows) {
            Some(row) => Err(wrong(format!("row {row} of {rows}"), "rows of the training cases")),
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
