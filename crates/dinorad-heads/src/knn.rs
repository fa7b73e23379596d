//! Weighted nearest-neighbour votes.

use std::path::Path;

use candle::{Device, Tensor};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::{
    Error, Fit, Neighbours, Predict, Result, Targets,
    neighbours::{Itself, nearest},
    rows::Rows,
    store::{self, Arrays},
};

/// How similarities become the weights of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vote {
    /// One softmax over the largest `k`, of which smaller `k` take the first: what the study does.
    /// Votes of the smaller `k` do not sum to one; rankings and accuracy are unaffected.
    SharedSoftmax,
    /// A softmax of its own for every `k`: probabilities.
    #[default]
    Renormalised,
}

/// k-nearest-neighbour vote by cosine similarity, for several `k` in one pass.
///
/// Features are scaled to unit length; the `k` most similar training rows vote for their class (or
/// for all of their findings) with weights `softmax(similarity / temperature)`. Exact: similarities
/// are f32 matrix products in blocks, the best are selected without sorting, equal similarities go
/// to the lower training index.
///
/// Takes `2·n·m·dim` operations and `O(n·(dim + k))` memory.
///
/// # Examples
/// ```
/// use dinorad_heads::{Fit, Knn, Predict, Targets};
/// use ndarray::array;
///
/// let x = array![[1f32, 0.0], [0.9, 0.1], [0.0, 1.0]];
/// let model = Knn::new(&[2]).fit(x.view(), &Targets::classes(vec![0, 0, 1], 2)?)?;
/// let p = model.predict(array![[2f32, 0.1]].view())?;
/// assert!((p[[0, 0]] - 1.0).abs() < 1e-6);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
///
/// # Source
/// Wu et al. 2018, <https://arxiv.org/abs/1805.01978>, as evaluated by DINOv2.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Knn {
    /// Numbers of neighbours; [`Predict::predict`] uses the largest.
    pub ks: Vec<usize>,
    /// Divides the similarities before the softmax.
    pub temperature: f64,
    /// How similarities become weights.
    pub vote: Vote,
}

impl Default for Knn {
    /// The study's values of `k` and its temperature 0.07, with votes that are probabilities.
    fn default() -> Self {
        Knn::new(&[5, 20, 50, 100, 200])
    }
}

impl Knn {
    /// Votes of `ks` neighbours at temperature 0.07.
    pub fn new(ks: &[usize]) -> Self {
        Knn { ks: ks.to_vec(), temperature: 0.07, vote: Vote::default() }
    }

    /// The same with another vote.
    #[must_use]
    pub fn with_vote(self, vote: Vote) -> Self {
        Knn { vote, ..self }
    }

    /// The same with another temperature.
    #[must_use]
    pub fn with_temperature(self, temperature: f64) -> Self {
        Knn { temperature, ..self }
    }
}

impl Fit for Knn {
    type Fitted = KnnModel;

    fn fit(&self, x: ArrayView2<'_, f32>, y: &Targets) -> Result<KnnModel> {
        let gallery = Rows::new("training features", x)?;
        y.check_len(gallery.n)?;
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(Error::parameter("temperature", "a positive number", self.temperature));
        }
        check_ks(&self.ks, gallery.n)?;
        Ok(KnnModel { options: self.clone(), gallery: gallery.normalised(), targets: y.clone() })
    }
}

/// Refuses an empty list of `k`, zeros, and `k` beyond the training set; gives the largest.
pub(crate) fn check_ks(ks: &[usize], rows: usize) -> Result<usize> {
    if ks.contains(&0) {
        return Err(Error::parameter("k", "at least 1", 0));
    }
    match ks.iter().max() {
        None => Err(Error::parameter("k", "at least one value", "none")),
        Some(&k) if k > rows => Err(Error::TooFewRows { k, rows }),
        Some(&k) => Ok(k),
    }
}

/// A fitted [`Knn`]: the training rows and their targets.
#[derive(Debug, Clone)]
pub struct KnnModel {
    options: Knn,
    gallery: Rows<'static>,
    targets: Targets,
}

impl KnnModel {
    /// The settings.
    pub fn options(&self) -> &Knn {
        &self.options
    }

    /// The training features, of unit length, row after row.
    pub fn rows(&self) -> impl Iterator<Item = f32> + '_ {
        self.gallery.data.iter().copied()
    }

    /// The training targets.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Number of training rows.
    pub fn n_rows(&self) -> usize {
        self.gallery.n
    }

    /// Writes the training rows and targets, every `k`, and which of them counts, as safetensors: a file as
    /// large as the training features, and as private as the images they come from.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, which: usize, path: &Path) -> Result<()> {
        let shape = (self.gallery.n, self.gallery.dim);
        let gallery = Tensor::from_slice(&self.gallery.data, shape, &Device::Cpu)?;
        let (kind, width, targets) = match &self.targets {
            Targets::Classes { labels, n_classes } => {
                ("classes", *n_classes, Tensor::from_slice(labels, (labels.len(), 1), &Device::Cpu)?)
            }
            Targets::Findings(labels) => ("findings", labels.ncols(), store::tensor(labels)?),
        };
        let vote = match self.options.vote {
            Vote::SharedSoftmax => "shared-softmax",
            Vote::Renormalised => "renormalised",
        };
        let metadata = [
            ("head", "knn".to_owned()),
            ("k", store::listed(&self.options.ks)),
            ("which", which.to_string()),
            ("temperature", self.options.temperature.to_string()),
            ("vote", vote.to_owned()),
            ("targets", kind.to_owned()),
            ("classes", width.to_string()),
        ];
        store::save(path, &[("gallery", &gallery), ("targets", &targets)], &metadata)
    }

    /// Reads a model written by [`KnnModel::save`], and which `k` counts.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no such model.
    pub fn load(path: &Path) -> Result<(Self, usize)> {
        let file = store::load(path)?;
        file.expect("head", "knn")?;
        let gallery = file.gallery()?;
        let targets = match file.text("targets")? {
            "classes" => {
                let labels = file.matrix::<u32>("targets")?.into_raw_vec_and_offset().0;
                Targets::classes(labels, file.number("classes")?)
            }
            "findings" => Targets::findings(file.matrix::<u8>("targets")?),
            other => return Err(file.bad(format!("unknown targets `{other}`")).into()),
        };
        let targets = targets.map_err(|e| file.bad(e.to_string()))?;
        targets.check_len(gallery.n).map_err(|e| file.bad(e.to_string()))?;
        let vote = match file.text("vote")? {
            "shared-softmax" => Vote::SharedSoftmax,
            "renormalised" => Vote::Renormalised,
            other => return Err(file.bad(format!("unknown vote `{other}`")).into()),
        };
        let options = Knn { ks: file.counts("k")?, temperature: file.real("temperature")?, vote };
        check_ks(&options.ks, gallery.n).map_err(|e| file.bad(e.to_string()))?;
        let which = file.number("which")?;
        if which >= options.ks.len() || !(options.temperature.is_finite() && options.temperature > 0.0) {
            return Err(file.bad("its settings are out of range").into());
        }
        Ok((Self { options, gallery, targets }, which))
    }

    fn largest(&self) -> usize {
        self.options.ks.iter().copied().max().unwrap_or(1)
    }

    /// The nearest training rows of each of `x`, as many as the largest `k`.
    ///
    /// # Errors
    /// As [`Predict::predict`].
    pub fn neighbours(&self, x: ArrayView2<'_, f32>) -> Result<Neighbours> {
        let queries = Rows::of_width("query features", x, self.gallery.dim)?.normalised();
        nearest(&self.gallery, &queries, self.largest(), Itself::Allowed)
    }

    /// The votes `(n, classes)` of every `k`, in the order of [`Knn::ks`].
    ///
    /// # Errors
    /// As [`Predict::predict`].
    pub fn votes(&self, x: ArrayView2<'_, f32>) -> Result<Vec<Array2<f32>>> {
        Ok(self.votes_of(&self.neighbours(x)?))
    }

    /// The votes of neighbours found before.
    pub fn votes_of(&self, neighbours: &Neighbours) -> Vec<Array2<f32>> {
        let n = neighbours.indices.nrows();
        let width = self.targets.n_outputs();
        let ks = &self.options.ks;
        let mut votes: Vec<Array2<f32>> = ks.iter().map(|_| Array2::zeros((n, width))).collect();
        let rows: Vec<Vec<Vec<f64>>> = (0..n)
            .into_par_iter()
            .map(|row| {
                let near = neighbours.indices.row(row);
                let similarities = neighbours.similarities.row(row);
                let best = similarities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let scaled = |s: f32| ((f64::from(s) - f64::from(best)) / self.options.temperature).exp();
                let weights: Vec<f64> = similarities.iter().map(|s| scaled(*s)).collect();
                let all: f64 = weights.iter().sum();
                let vote = |k: &usize| {
                    let k = (*k).min(weights.len());
                    let total = match self.options.vote {
                        Vote::SharedSoftmax => all,
                        Vote::Renormalised => weights[..k].iter().sum(),
                    };
                    let mut sums = vec![0f64; width];
                    for (weight, index) in weights[..k].iter().zip(near) {
                        self.add_vote(&mut sums, *index as usize, weight / total);
                    }
                    sums
                };
                ks.iter().map(vote).collect()
            })
            .collect();
        for (row, per_k) in rows.into_iter().enumerate() {
            for (votes, sums) in votes.iter_mut().zip(per_k) {
                for (slot, sum) in votes.index_axis_mut(Axis(0), row).iter_mut().zip(sums) {
                    *slot = sum as f32;
                }
            }
        }
        votes
    }

    fn add_vote(&self, sums: &mut [f64], row: usize, weight: f64) {
        match &self.targets {
            Targets::Classes { labels, .. } => {
                if let Some(sum) = labels.get(row).and_then(|l| sums.get_mut(*l as usize)) {
                    *sum += weight;
                }
            }
            Targets::Findings(labels) => {
                for (sum, label) in sums.iter_mut().zip(labels.row(row)) {
                    *sum += weight * f64::from(*label);
                }
            }
        }
    }
}

impl Predict for KnnModel {
    /// The votes of the largest `k`.
    fn predict(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let largest = self.largest();
        let at = self.options.ks.iter().position(|k| *k == largest).unwrap_or(0);
        Ok(self.votes(x)?.swap_remove(at))
    }
}
