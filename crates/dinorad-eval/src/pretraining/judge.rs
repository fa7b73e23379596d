//! Nearest neighbours on a labelled set: how good features are while they are learned.

use std::{path::Path, sync::Arc};

use candle::{Device, Tensor};
use dinorad_backbone::{Backbone, Request};
use dinorad_core::{Protocol, Split, Target, Task, resample::Filter};
use dinorad_datasets::{Dataset, open, ordered};
use dinorad_heads::{Fit, Knn, Predict};
use dinorad_transforms::presets::classification_eval;
use ndarray::{Array2, Array3};

use crate::{
    Cases, DatasetCases, Error, Result,
    experiment::options_of,
    probe::{Labelled, quick_accuracy, quick_auroc},
};

/// Judges encoders by the votes of nearest neighbours: what is learned from is the training part, what is judged the
/// validation part. The test part is never looked at.
pub struct KnnJudge {
    train: Part,
    val: Part,
    task: Task,
    side: usize,
    batch: usize,
}

struct Part {
    set: Arc<dyn Dataset>,
    root: std::path::PathBuf,
    /// Which of its cases.
    cases: Vec<usize>,
}

impl std::fmt::Debug for KnnJudge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnnJudge").field("set", &self.train.set.id()).finish_non_exhaustive()
    }
}

impl KnnJudge {
    /// Of a data set, of each of whose parts at most `most` cases spread over it are taken, at squares of `side` pixels.
    ///
    /// # Errors
    /// [`Error::Dataset`] for one that cannot be opened or has no validation part.
    pub fn new(name: &str, root: &Path, most: usize, side: usize) -> Result<Self> {
        let options = options_of(Protocol::Strict);
        let part = |split: Split| -> Result<Part> {
            let set: Arc<dyn Dataset> = open(name, root, split, &options)?.into();
            let n = set.len();
            let taken = n.min(most.max(1));
            let cases = (0..taken).map(|i| i * n / taken.max(1)).collect();
            Ok(Part { set, root: root.to_owned(), cases })
        };
        let (train, val) = (part(Split::Train)?, part(Split::Val)?);
        if train.cases.is_empty() || val.cases.is_empty() {
            return Err(Error::EmptySplit { split: if train.cases.is_empty() { "train" } else { "val" } });
        }
        let task = train.set.task().clone();
        Ok(Self { train, val, task, side, batch: 32 })
    }

    /// Cases that are looked at.
    pub fn len(&self) -> usize {
        self.train.cases.len() + self.val.cases.len()
    }

    /// Whether there are none, which cannot be.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The AUROC of 20 neighbours' votes, or their accuracy where it is undefined.
    ///
    /// # Errors
    /// What data set and encoder say; [`Error::Unfit`] if there is no score.
    pub fn score(&self, encoder: &dyn Backbone) -> Result<f64> {
        let (train, val) = (self.labelled(&self.train, encoder)?, self.labelled(&self.val, encoder)?);
        let answers = train.answers(self.task.n_classes())?;
        let fitted = Knn::new(&[20.min(train.features.nrows())]).fit(train.features.view(), &answers)?;
        let p = fitted.predict(val.features.view())?;
        let score = match quick_auroc(&val, p.view(), &self.task)? {
            Some(auroc) => Some(auroc),
            None => quick_accuracy(&val, p.view(), &self.task)?,
        };
        score.ok_or_else(|| Error::unfit(format!("{}: no score of these cases", self.val.set.id())))
    }

    fn labelled(&self, part: &Part, encoder: &dyn Backbone) -> Result<Labelled> {
        let n = encoder.spec().normalization;
        let (mean, std) = (n.mean.map(f64::from), n.std.map(f64::from));
        let preprocessing = classification_eval(self.side, self.side, Filter::BicubicAntialias, mean, std);
        let cases = DatasetCases::new(Arc::clone(&part.set), preprocessing).with_root(&part.root);
        let places = part.cases.clone();
        let loaded = ordered(places.len(), 2, 2 * self.batch, move |at| Ok(cases.load(places[at])));
        let (mut ids, mut targets) = (Vec::new(), Vec::<Target>::new());
        let (mut rows, mut waiting): (Vec<f32>, Vec<Vec<Array3<f32>>>) = (Vec::new(), Vec::new());
        let mut dim = 0;
        let mut answer = |some: &mut Vec<Vec<Array3<f32>>>| -> Result<()> {
            let counts: Vec<usize> = some.iter().map(Vec::len).collect();
            let slices: Vec<Array3<f32>> = some.drain(..).flatten().collect();
            let mut tokens: Vec<Vec<f32>> = Vec::with_capacity(slices.len());
            for some in slices.chunks(self.batch) {
                let values: Vec<f32> = some.iter().flatten().copied().collect();
                let pixels = Tensor::from_vec(values, (some.len(), 3, self.side, self.side), &Device::Cpu)?;
                tokens.extend(encoder.forward(&pixels, &Request::cls())?.last()?.cls.to_vec2::<f32>()?);
            }
            dim = tokens.first().map_or(dim, Vec::len);
            let mut tokens = tokens.into_iter();
            for count in counts {
                let mut mean = vec![0f32; dim];
                for token in tokens.by_ref().take(count) {
                    mean.iter_mut().zip(token).for_each(|(m, v)| *m += v / count as f32);
                }
                rows.extend(mean);
            }
            Ok(())
        };
        for (at, case) in loaded {
            // what cannot be read is left out, as everywhere
            let Ok(prepared) = case? else { continue };
            let index = part.cases.get(at).copied().unwrap_or_default();
            ids.push(part.set.sample_id(index));
            targets.push(part.set.target(index)?);
            waiting.push(prepared.slices);
            if waiting.iter().map(Vec::len).sum::<usize>() >= self.batch {
                answer(&mut waiting)?;
            }
        }
        if !waiting.is_empty() {
            answer(&mut waiting)?;
        }
        let features = Array2::from_shape_vec((ids.len(), dim), rows)
            .map_err(|e| Error::shape("features", e.to_string(), &[ids.len(), dim]))?;
        Labelled::new(ids, targets, features)
    }
}
