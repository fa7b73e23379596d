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
};
use crate::{
    Error, Result,
    probe::{CasePixels, Labelled, quick_accuracy, quick_auroc},
};

/// A case with its slices, or why there are none.
type Loaded = std::result::Result<(usize, Vec<Array3<f32>>), String>;

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

    /// The cases that the parts from `part` on learn from, with the pass over the data that each belongs to:
    /// passes are shuffled and follow each other without a gap.
    fn order(&self, part: usize) -> Vec<(usize, u64)> {
        let (n, size) = (self.train.len(), self.method.batch_size);
        let (mut at, end) = (part * size, self.parts.max(part + 1) * size);
        let mut out = Vec::with_capacity(end - at);
        while at < end {
            let pass = at / n;
            let mut cases: Vec<usize> = (0..n).collect();
            cases.shuffle(&mut rng::stream(self.method.seed, pass as u64, u64::MAX));
            let until = ((pass + 1) * n).min(end);
            out.extend(cases[at % n..at % n + until - at].iter().map(|case| (*case, pass as u64)));
            at = until;
        }
        out
    }

    /// The cases of a part with their slices, read ahead of time while earlier parts are learned.
    fn cases_of(&mut self, part: usize) -> Result<(Vec<usize>, Vec<Vec<Array3<f32>>>)> {
        let mut coming = match self.coming.take() {
            Some((next, coming)) if next == part => coming,
            // the first part after a start in the middle
            _ => self.read_from(part),
        };
        let (mut cases, mut slices) = (Vec::new(), Vec::new());
        for _ in 0..self.method.batch_size {
            match coming.next() {
                Some((_, Ok(Ok((case, of_case))))) => {
                    cases.push(case);
                    slices.push(of_case);
                }
                Some((_, Ok(Err(why)))) => return Err(Error::Protocol { protocol: "fine-tuning", why }),
                Some((_, Err(error))) => return Err(error.into()),
                None => return Err(Error::EmptySplit { split: "train" }),
            }
        }
        self.coming = Some((part + 1, coming));
        Ok((cases, slices))
    }

    fn read_from(&self, part: usize) -> Ordered<Loaded> {
        let order = self.order(part);
        let places = self.train.places.clone();
        let (source, seed, most) = (Arc::clone(&self.source), self.method.seed, self.method.max_slices);
        let augment = self.method.augment;
        ordered(order.len(), 2, 2 * self.method.batch_size, move |at| {
            let (case, pass) = order[at];
            let view = augment.then_some(View { seed, pass });
            let slices = source.pixels(places[case], view).map_err(|e| dinorad_core::in_full(&e));
            Ok(slices.map(|slices| (case, thinned(slices, most, (seed, pass, case as u64)))))
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
        let mut of = || -> Result<Tensor> {
            let (cases, slices) = self.cases_of(part)?;
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
    let (mut rows, mut classes) = (Vec::new(), 0);
    let mut waiting: Vec<Vec<Array3<f32>>> = Vec::new();
    let mut answer = |some: &mut Vec<Vec<Array3<f32>>>| -> Result<()> {
        let counts: Vec<usize> = some.iter().map(Vec::len).collect();
        let slices: Vec<Array3<f32>> = some.drain(..).flatten().collect();
        let mut parts = Vec::new();
        for some in slices.chunks(batch.max(1)) {
            let some = Batch::new(&[some.to_vec()], device, DType::F32)?;
            parts.push(model.rows(&encoder.forward(&some.pixels, &request)?)?);
        }
        let logits = model.answer(&Tensor::cat(&parts, 0)?, &counts, Pass::Inference)?;
        let p = probabilities(&logits, task)?;
        classes = p.dim(1)?;
        rows.extend(p.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    };
    for (_, case) in loaded {
        waiting.push(case?.map_err(|why| Error::Protocol { protocol: "fine-tuning", why })?);
        if waiting.iter().map(Vec::len).sum::<usize>() >= batch {
            answer(&mut waiting)?;
        }
    }
    if !waiting.is_empty() {
        answer(&mut waiting)?;
    }
    Array2::from_shape_vec((cases.len(), classes), rows).map_err(|e| Error::shape("predictions", e.to_string(), &[]))
}
