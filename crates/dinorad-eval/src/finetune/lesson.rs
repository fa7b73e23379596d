//! Batches of cases, their losses, and the score on cases that are not learned from.

use std::sync::Arc;

use candle::{DType, Device, Tensor};
use dinorad_backbone::Backbone;
use dinorad_core::{Task, TaskKind, method::View, rng};
use dinorad_datasets::{Ordered, ordered};
use dinorad_heads::Targets;
use dinorad_nn::{
    Error as NnError, Pass, loss,
    train::{Lesson, Score, Step},
};
use ndarray::{Array2, Array3};
use rand::{Rng, seq::SliceRandom};

use super::{
    method::FinetuneMethod,
    model::{Batch, Model, probabilities},
    source::CasePixels,
};
use crate::{
    Error, Result,
    probe::{Labelled, quick_accuracy, quick_auroc},
};

/// Slices of a case, or why there are none.
type Loaded = std::result::Result<Vec<Array3<f32>>, String>;

/// Learning the cases of a part.
pub(super) struct Learning<'a> {
    pub(super) method: &'a FinetuneMethod,
    pub(super) task: &'a Task,
    pub(super) train: &'a Labelled,
    pub(super) val: Option<&'a Labelled>,
    pub(super) source: Arc<dyn CasePixels>,
    pub(super) answers: Targets,
    pub(super) device: Device,
    /// Parts of all steps.
    pub(super) parts: usize,
    coming: Option<(usize, Ordered<Loaded>)>,
}

impl<'a> Learning<'a> {
    pub(super) fn new(
        method: &'a FinetuneMethod,
        task: &'a Task,
        train: &'a Labelled,
        val: Option<&'a Labelled>,
        source: Arc<dyn CasePixels>,
        device: Device,
        steps: usize,
    ) -> Result<Self> {
        let answers = train.answers(task.n_classes())?;
        let parts = steps * method.accumulate;
        Ok(Self { method, task, train, val, source, answers, device, parts, coming: None })
    }

    /// The cases that a part of a step learns from, with the pass over the data that each belongs to: passes
    /// are shuffled and follow each other without a gap.
    pub(super) fn cases_of(&self, part: usize) -> Vec<(usize, u64)> {
        let (n, size) = (self.train.len(), self.method.batch_size);
        let mut out = Vec::with_capacity(size);
        let mut order: Option<(usize, Vec<usize>)> = None;
        for at in part * size..(part + 1) * size {
            let pass = at / n;
            if order.as_ref().is_none_or(|(of, _)| *of != pass) {
                let mut cases: Vec<usize> = (0..n).collect();
                cases.shuffle(&mut rng::stream(self.method.seed, pass as u64, u64::MAX));
                order = Some((pass, cases));
            }
            if let Some((_, cases)) = &order {
                out.push((cases[at % n], pass as u64));
            }
        }
        out
    }

    /// The slices of the cases of a part, read ahead of time while earlier parts are learned.
    fn slices_of(&mut self, part: usize) -> Result<Vec<Vec<Array3<f32>>>> {
        let next = match self.coming.take() {
            Some((next, coming)) if next == part => coming,
            // the first part after a start in the middle
            _ => self.read_from(part),
        };
        let mut coming = next;
        let mut slices = Vec::with_capacity(self.method.batch_size);
        for _ in 0..self.method.batch_size {
            match coming.next() {
                Some((_, Ok(Ok(case)))) => slices.push(case),
                Some((_, Ok(Err(why)))) => return Err(Error::Protocol { protocol: "fine-tuning", why }),
                Some((_, Err(error))) => return Err(error.into()),
                None => return Err(Error::EmptySplit { split: "train" }),
            }
        }
        self.coming = Some((part + 1, coming));
        Ok(slices)
    }

    fn read_from(&self, part: usize) -> Ordered<Loaded> {
        let order: Vec<(usize, u64)> = (part..self.parts.max(part + 1)).flat_map(|part| self.cases_of(part)).collect();
        let places = self.train.places.clone();
        let (source, seed, most) = (Arc::clone(&self.source), self.method.seed, self.method.max_slices);
        let augment = self.method.augment;
        ordered(order.len(), 2, 2 * self.method.batch_size, move |at| {
            let (case, pass) = order[at];
            let view = augment.then_some(View { seed, pass });
            let slices = source.pixels(places[case], view).map_err(|e| dinorad_core::in_full(&e));
            Ok(slices.map(|slices| thinned(slices, most, (seed, pass, case as u64))))
        })
    }
}

/// At most `most` of the slices of a case, drawn anew in every pass, in their order.
fn thinned(mut slices: Vec<Array3<f32>>, most: Option<usize>, (seed, pass, case): (u64, u64, u64)) -> Vec<Array3<f32>> {
    let Some(most) = most.filter(|most| *most < slices.len()) else { return slices };
    let mut rng = rng::stream(seed ^ 0x51_1ce5, pass, case);
    let mut kept = vec![false; slices.len()];
    let mut left = most;
    while left > 0 {
        let at = rng.random_range(0..kept.len());
        if !kept[at] {
            kept[at] = true;
            left -= 1;
        }
    }
    let mut keep = kept.iter();
    slices.retain(|_| keep.next().copied().unwrap_or(false));
    slices
}

impl Lesson<Model> for Learning<'_> {
    fn loss(&mut self, model: &Model, at: Step, pass: Pass) -> dinorad_nn::Result<Tensor> {
        let part = at.step * self.method.accumulate + at.part;
        let cases: Vec<usize> = self.cases_of(part).into_iter().map(|(case, _)| case).collect();
        let of = || -> Result<Tensor> {
            let slices = self.slices_of(part)?;
            let batch = Batch::new(&slices, &self.device, DType::F32)?;
            let logits = model.logits(&batch, pass)?;
            Ok(match &self.answers {
                Targets::Classes { labels, .. } => {
                    let labels: Vec<u32> = cases.iter().map(|case| labels[*case]).collect();
                    loss::cross_entropy(&logits, &Tensor::new(labels, &self.device)?)?
                }
                Targets::Findings(labels) => {
                    let rows: Vec<f32> = cases.iter().flat_map(|case| labels.row(*case).mapv(|v| v as f32)).collect();
                    let labels = Tensor::from_vec(rows, logits.dims(), &self.device)?;
                    loss::bce_with_logits(&logits, &labels, loss::Reduction::Mean)?
                }
            })
        };
        let mut of = of;
        of().map_err(NnError::lesson)
    }

    fn validate(&mut self, model: &Model) -> dinorad_nn::Result<Option<Score>> {
        let Some(val) = self.val else { return Ok(None) };
        let score = || -> Result<Option<f64>> {
            let p = predicted(model, val, &self.source, self.task.kind, &self.device, self.method.batch_size)?;
            Ok(match quick_auroc(val, p.view(), self.task)? {
                Some(auroc) => Some(auroc),
                None => quick_accuracy(val, p.view(), self.task)?,
            })
        };
        Ok(score().map_err(NnError::lesson)?.map(Score))
    }
}

/// Probabilities `(n, classes)` of cases, by the fastest way that the encoder has.
pub(super) fn predicted(
    model: &Model,
    cases: &Labelled,
    source: &Arc<dyn CasePixels>,
    task: TaskKind,
    device: &Device,
    batch: usize,
) -> Result<Array2<f32>> {
    let packed = model.encoder.packed()?;
    let encoder: &dyn Backbone = match &packed {
        Some(engine) => engine,
        None => &*model.encoder,
    };
    let request = model.request();
    let (places, source) = (cases.places.clone(), Arc::clone(source));
    let loaded = ordered(places.len(), 2, 2 * batch.max(1), move |at| {
        Ok(source.pixels(places[at], None).map_err(|e| dinorad_core::in_full(&e)))
    });
    let mut rows: Vec<f32> = Vec::new();
    let mut classes = 0;
    for (_, case) in loaded {
        let slices = case?.map_err(|why| Error::Protocol { protocol: "fine-tuning", why })?;
        let counts = [slices.len()];
        let mut parts = Vec::new();
        for some in slices.chunks(batch.max(1)) {
            let some = Batch::new(&[some.to_vec()], device, DType::F32)?;
            parts.push(model.rows(&encoder.forward(&some.pixels, &request)?)?);
        }
        let features = Tensor::cat(&parts, 0)?;
        let p = probabilities(&model.answer(&features, &counts, Pass::Inference)?, task)?;
        classes = p.dim(1)?;
        rows.extend(p.flatten_all()?.to_vec1::<f32>()?);
    }
    Array2::from_shape_vec((cases.len(), classes), rows).map_err(|e| Error::shape("predictions", e.to_string(), &[]))
}
