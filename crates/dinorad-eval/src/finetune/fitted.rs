//! What fine-tuning learned: the parameters that moved, to be put into a fresh encoder.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    sync::{Arc, Mutex},
};

use candle::{Device, Tensor};
use dinorad_backbone::tuning::save_peft;
use dinorad_core::{
    Task,
    method::{Answer, Error, Fitted, Learning, Lent, MODEL_FILE, Period},
};
use dinorad_nn::{Trainable, train::Ended};
use serde::{Deserialize, Serialize};

use super::{
    lesson::predicted,
    method::{FinetuneMethod, labelled, pixels_of},
    model::Model,
};
use crate::{Error as EvalError, Result, probe::CasePixels};

/// Where a model's facts stand in its file.
const FACTS: &str = "dinorad.finetune";

/// One point of the grid.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// What trained, by the model's names.
    pub(super) trained: BTreeMap<String, Tensor>,
    pub(super) ended: Ended,
    pub(super) learning_rate: f64,
}

/// What a model's file says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Facts {
    method: FinetuneMethod,
    task: Task,
    learning_rate: f64,
}

/// The trainings of a grid.
#[derive(Clone)]
pub struct Tuned {
    method: FinetuneMethod,
    task: Task,
    points: Vec<Point>,
    /// The encoder that answered last, for what is written of it.
    encoder: Arc<Mutex<Option<(usize, Model)>>>,
}

impl fmt::Debug for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tuned")
            .field("method", &self.method)
            .field("points", &self.points.len())
            .finish_non_exhaustive()
    }
}

impl Tuned {
    pub(super) fn new(method: FinetuneMethod, task: Task, points: Vec<Point>) -> Self {
        Self { method, task, points, encoder: Arc::default() }
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
        let facts = facts.ok_or_else(|| damaged("no model of a fine-tuning".into()))?;
        let facts: Facts = serde_json::from_str(&facts).map_err(|e| damaged(e.to_string()))?;
        let tensors = candle::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| damaged(e.to_string()))?;
        let point = Point {
            trained: tensors.into_iter().collect(),
            ended: Ended::default(),
            learning_rate: facts.learning_rate,
        };
        Ok(Self::new(facts.method, facts.task, vec![point]))
    }

    /// A fresh encoder with what a point of the grid learned.
    fn model(&self, point: &Point, source: &dyn CasePixels) -> Result<Model> {
        let mut model = self.method.model(source, &self.task)?;
        let mut left: BTreeMap<&String, &Tensor> = point.trained.iter().collect();
        model.visit_mut("", &mut |name, tensor| {
            if let Some(value) = left.remove(&name.to_owned()) {
                if value.dims() != tensor.dims() {
                    let reason = format!("`{name}` is of another shape: the model belongs to another encoder");
                    return Err(dinorad_nn::Error::State { reason });
                }
                *tensor = value.to_device(tensor.device())?.to_dtype(tensor.dtype())?;
            }
            Ok(())
        })?;
        match left.keys().next() {
            None => Ok(model),
            Some(name) => {
                let reason = format!("the encoder has no `{name}`: the model belongs to another one");
                Err(dinorad_nn::Error::State { reason }.into())
            }
        }
    }

    /// Adapter and encoder folders beside the model of a run.
    fn save_folders(&self, which: usize, beside: &Path) -> Result<()> {
        let mut kept = self.encoder.lock().map_err(|_| EvalError::unfit("an earlier answer failed".into()))?;
        let Some((_, model)) = kept.as_mut().filter(|(of, _)| *of == which) else { return Ok(()) };
        let fresh = |name: &str| {
            let folder = beside.join(name);
            match std::fs::remove_dir_all(&folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(EvalError::file("replace", &folder)(e)),
                _ => Ok(folder),
            }
        };
        if let Some(lora) = &self.method.tune.lora {
            save_peft(&mut *model.encoder, &fresh("adapter")?, lora, self.method.peft_names)?;
        }
        if self.method.save_encoder {
            model.encoder.visit_maps("", &mut |_, map| map.merge_adapters())?;
            let Some(encoder) = model.encoder.as_dinov2() else {
                return Err(EvalError::unfit("only DINOv2 is written as a Hugging Face folder".into()));
            };
            encoder.save_hugging_face(&fresh("encoder")?)?;
        }
        Ok(())
    }
}

impl Fitted for Tuned {
    fn predict(
        &self,
        cases: &dyn Lent,
        give: &mut dyn FnMut(usize, Answer) -> std::result::Result<(), Error>,
    ) -> std::result::Result<(), Error> {
        let cases = labelled(cases)?;
        let source = pixels_of(cases)?;
        for (which, point) in self.points.iter().enumerate() {
            let model = self.model(point, &*source)?;
            let p = predicted(&model, cases, &source, self.task.kind, &Device::Cpu, self.method.batch_size)?;
            if let Ok(mut kept) = self.encoder.lock() {
                *kept = Some((which, model));
            }
            give(which, Answer::Probabilities(p))?;
        }
        Ok(())
    }

    fn keep(&self, which: usize) -> Box<dyn Fitted> {
        let one = self.points.get(which).cloned();
        Box::new(Self::new(self.method.clone(), self.task.clone(), one.into_iter().collect()))
    }

    fn learned(&self, number: &mut dyn FnMut(f64)) -> std::result::Result<(), Error> {
        for point in &self.points {
            for tensor in point.trained.values() {
                let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(Error::failed)?;
                values.into_iter().for_each(|v| number(f64::from(v)));
            }
        }
        Ok(())
    }

    fn learning(&self) -> Vec<Learning> {
        let one = |Ended { losses, scores, .. }: &Ended| Learning {
            by: Period::Step,
            losses: losses.clone(),
            scores: scores.clone(),
        };
        self.points.iter().map(|point| one(&point.ended)).collect()
    }

    fn trained_parameters(&self, which: usize) -> Option<usize> {
        self.points.get(which).map(|point| point.trained.values().map(Tensor::elem_count).sum())
    }

    fn save(&self, which: usize, path: &Path) -> std::result::Result<bool, Error> {
        let Some(point) = self.points.get(which) else { return Err(Error::Unkept { path: path.to_owned() }) };
        let method = FinetuneMethod { learning_rates: vec![point.learning_rate], ..self.method.clone() };
        let facts = Facts { method, task: self.task.clone(), learning_rate: point.learning_rate };
        let facts = serde_json::to_string(&facts).map_err(Error::failed)?;
        let about = HashMap::from([(FACTS.to_owned(), facts)]);
        let bytes = safetensors::serialize(point.trained.clone(), Some(about)).map_err(Error::failed)?;
        crate::write_atomic(path, &bytes, "finetune").map_err(Error::failed)?;
        if let Some(beside) = path.parent() {
            self.save_folders(which, beside)?;
        }
        Ok(true)
    }
}
