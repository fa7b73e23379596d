//! Networks that were trained, to be asked for masks.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    sync::Arc,
};

use candle::{Device, Tensor};
use dinorad_core::{
    Task,
    method::{Answer, Error, Fitted, Learning, Lent, MODEL_FILE, Period},
};
use dinorad_nn::{Trainable, train::Ended};
use serde::{Deserialize, Serialize};

use super::{
    lesson::every_mask,
    method::{SegmentMethod, scans},
    net::Net,
    scans::Scans,
};
use crate::{Error as EvalError, Result};

/// Where a model's facts stand in its file.
const FACTS: &str = "dinorad.segment";

/// One point of the grid.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// The decoder, and what trained in the encoder, by the network's names.
    pub(super) kept: BTreeMap<String, Tensor>,
    /// Scalars that trained.
    pub(super) moved: usize,
    pub(super) ended: Ended,
    pub(super) learning_rate: f64,
}

/// What a model's file says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Facts {
    method: SegmentMethod,
    task: Task,
    learning_rate: f64,
    trained: usize,
}

/// The trainings of a grid.
#[derive(Clone)]
pub(super) struct Drawn {
    method: SegmentMethod,
    task: Task,
    /// None for a learning rate that left the range of numbers.
    points: Vec<Option<Arc<Point>>>,
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drawn")
            .field("method", &self.method)
            .field("points", &self.points.len())
            .finish_non_exhaustive()
    }
}

impl Drawn {
    pub(super) fn new(method: SegmentMethod, task: Task, points: Vec<Option<Arc<Point>>>) -> Self {
        Self { method, task, points }
    }

    /// Reads what [`Fitted::save`] wrote.
    pub(super) fn load(folder: &Path) -> std::result::Result<Self, Error> {
        let path = folder.join(MODEL_FILE);
        if !path.is_file() {
            return Err(Error::Unkept { path: folder.to_owned() });
        }
        let damaged = |why: String| Error::failed(EvalError::Damaged { path: path.clone(), why });
        let bytes = std::fs::read(&path).map_err(|e| damaged(e.to_string()))?;
        let (_, head) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let facts = head.metadata().as_ref().and_then(|m| m.get(FACTS).cloned());
        let facts = facts.ok_or_else(|| damaged("no model of a segmentation".into()))?;
        let facts: Facts = serde_json::from_str(&facts).map_err(|e| damaged(e.to_string()))?;
        let tensors = candle::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| damaged(e.to_string()))?;
        let point = Point {
            kept: tensors.into_iter().collect(),
            moved: facts.trained,
            ended: Ended::default(),
            learning_rate: facts.learning_rate,
        };
        Ok(Self::new(facts.method, facts.task, vec![Some(Arc::new(point))]))
    }

    /// A fresh network with what a point of the grid learned.
    fn net(&self, point: &Point, scans: &Scans) -> Result<Net> {
        let mut net = self.method.net(scans, &self.task)?;
        let mut left: BTreeMap<&str, &Tensor> = point.kept.iter().map(|(name, t)| (name.as_str(), t)).collect();
        net.visit_mut("", &mut |name, tensor| {
            let Some(value) = left.remove(name) else { return Ok(()) };
            if value.dims() != tensor.dims() {
                let reason = format!("`{name}` is of another shape: the model belongs to another encoder");
                return Err(dinorad_nn::Error::State { reason });
            }
            *tensor = value.to_device(tensor.device())?.to_dtype(tensor.dtype())?;
            Ok(())
        })?;
        match left.keys().next() {
            None => Ok(net),
            Some(name) => {
                let reason = format!("the network has no `{name}`: the model belongs to another one");
                Err(dinorad_nn::Error::State { reason }.into())
            }
        }
    }
}

impl Fitted for Drawn {
    fn predict(
        &self,
        cases: &dyn Lent,
        give: &mut dyn FnMut(usize, Answer) -> std::result::Result<(), Error>,
    ) -> std::result::Result<(), Error> {
        let scans = scans(cases)?;
        let drawing = self.method.drawing(scans, &self.task);
        for (which, point) in self.points.iter().enumerate() {
            let Some(point) = point else { continue };
            let net = self.net(point, scans)?;
            every_mask(&net, scans, &drawing, &mut |case, classes| Ok(give(which, Answer::Mask { case, classes })?))?;
        }
        Ok(())
    }

    fn keep(&self, which: usize) -> Box<dyn Fitted> {
        let one = self.points.get(which).cloned();
        Box::new(Self::new(self.method.clone(), self.task.clone(), one.into_iter().collect()))
    }

    fn learned(&self, number: &mut dyn FnMut(f64)) -> std::result::Result<(), Error> {
        for tensor in self.points.iter().flatten().flat_map(|point| point.kept.values()) {
            let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(Error::failed)?;
            values.into_iter().for_each(|v| number(f64::from(v)));
        }
        Ok(())
    }

    fn learning(&self) -> Vec<Learning> {
        let one = |Ended { losses, scores, .. }: &Ended| Learning {
            by: Period::Step,
            losses: losses.clone(),
            scores: scores.clone(),
        };
        self.points
            .iter()
            .map(|point| point.as_ref().map_or_else(Learning::default, |point| one(&point.ended)))
            .collect()
    }

    fn trained_parameters(&self, which: usize) -> Option<usize> {
        Some(self.points.get(which)?.as_ref()?.moved)
    }

    fn save(&self, which: usize, path: &Path) -> std::result::Result<bool, Error> {
        let Some(Some(point)) = self.points.get(which) else { return Err(Error::Unkept { path: path.to_owned() }) };
        let method = SegmentMethod { learning_rates: vec![point.learning_rate], ..self.method.clone() };
        let (task, learning_rate, trained) = (self.task.clone(), point.learning_rate, point.moved);
        let facts = Facts { method, task, learning_rate, trained };
        let facts = serde_json::to_string(&facts).map_err(Error::failed)?;
        let about = HashMap::from([(FACTS.to_owned(), facts)]);
        let tensors = point.kept.iter().map(|(name, t)| Ok((name.clone(), t.contiguous()?)));
        let tensors = tensors.collect::<candle::Result<Vec<_>>>().map_err(Error::failed)?;
        let bytes = safetensors::serialize(tensors, Some(about)).map_err(Error::failed)?;
        crate::write_atomic(path, &bytes, "segment").map_err(Error::failed)?;
        Ok(true)
    }
}
