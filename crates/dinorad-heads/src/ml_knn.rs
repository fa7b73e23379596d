//! Multi-label k nearest neighbours.

use std::path::Path;

use candle::{Device, Tensor};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::{
    Error, Fit, Neighbours, Predict, Result, Targets,
    knn::check_ks,
    neighbours::{Itself, nearest},
    rows::Rows,
    store::{self, Arrays},
};

/// Which neighbours count while the conditional probabilities are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingNeighbours {
    /// A training row is among its own neighbours: what the study does.
    WithItself,
    /// It is not: Zhang and Zhou's rule, which does not leak a row's own labels into its counts.
    #[default]
    WithoutItself,
    /// The nearest `n` rows are dropped, of queries too: `ignore_first_neighbours` of
    /// scikit-multilearn.
    SkipFirst(usize),
}

/// Multi-label k nearest neighbours by cosine similarity, for several `k` in one pass.
///
/// For every label the number of neighbours that carry it is weighed by Bayes' rule against what
/// the training rows show for the same count. One blocked matrix product finds all neighbours;
/// the rest is counting. Takes `2·n²·dim` operations to fit.
///
/// A label that no training row carries stays usable, its probability is small but not zero;
/// [`MlKnnModel::absent`] names it.
///
/// Counts are exact at any size. scikit-multilearn 0.2.0 keeps them in 8 bits, so its
/// probabilities go wrong once more than 127 training rows fall into one count.
///
/// # Examples
/// ```
/// use dinorad_heads::{Fit, MlKnn, Predict, Targets};
/// use ndarray::array;
///
/// let x = array![[1f32, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]];
/// let y = Targets::findings(array![[1, 0], [1, 0], [0, 1], [0, 1]])?;
/// let p = MlKnn::new(&[1]).fit(x.view(), &y)?.predict(x.view())?;
/// assert!(p[[0, 0]] > 0.7 && p[[0, 1]] < 0.3);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
///
/// # Source
/// Zhang and Zhou 2007, <https://doi.org/10.1016/j.patcog.2006.12.019>.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MlKnn {
    /// Numbers of neighbours; [`Predict::predict`] uses the largest.
    pub ks: Vec<usize>,
    /// Added to every count.
    pub smoothing: f64,
    /// Which neighbours count in training.
    pub neighbours: TrainingNeighbours,
}

impl MlKnn {
    /// `ks` neighbours with smoothing 1.
    pub fn new(ks: &[usize]) -> Self {
        MlKnn { ks: ks.to_vec(), smoothing: 1.0, neighbours: TrainingNeighbours::default() }
    }

    /// The same with another rule for a row's own neighbours.
    #[must_use]
    pub fn with_neighbours(self, neighbours: TrainingNeighbours) -> Self {
        MlKnn { neighbours, ..self }
    }

    /// The same with another smoothing.
    #[must_use]
    pub fn with_smoothing(self, smoothing: f64) -> Self {
        MlKnn { smoothing, ..self }
    }

    fn skipped(&self) -> usize {
        match self.neighbours {
            TrainingNeighbours::SkipFirst(n) => n,
            _ => 0,
        }
    }
}

impl Fit for MlKnn {
    type Fitted = MlKnnModel;

    fn fit(&self, x: ArrayView2<'_, f32>, y: &Targets) -> Result<MlKnnModel> {
        let gallery = Rows::new("training features", x)?;
        y.check_len(gallery.n)?;
        let Targets::Findings(labels) = y else {
            return Err(Error::TargetKind { head: "ML-kNN", expected: "multilabel", got: y.kind() });
        };
        check_smoothing(self.smoothing)?;
        let (skip, itself) = (
            self.skipped(),
            match self.neighbours {
                TrainingNeighbours::WithoutItself => Itself::Skipped,
                _ => Itself::Allowed,
            },
        );
        let available = gallery.n.saturating_sub(skip + usize::from(itself == Itself::Skipped));
        let largest = check_ks(&self.ks, available)?;
        let gallery = gallery.normalised();
        let training = drop_first(nearest(&gallery, &gallery, largest + skip, itself)?, skip);
        Ok(MlKnnModel::counted(self.clone(), gallery, labels.clone(), training, y))
    }
}

fn check_smoothing(smoothing: f64) -> Result<()> {
    if smoothing.is_finite() && smoothing > 0.0 {
        Ok(())
    } else {
        Err(Error::parameter("smoothing", "a positive number", smoothing))
    }
}

/// P(label) for every label.
fn prior(labels: &Array2<u8>, s: f64) -> Array1<f64> {
    let n = labels.nrows() as f64;
    let of = |column: ndarray::ArrayView1<'_, u8>| {
        let positives = column.iter().filter(|v| **v == 1).count() as f64;
        (s + positives) / (2.0 * s + n)
    };
    labels.axis_iter(Axis(1)).map(of).collect()
}

fn drop_first(neighbours: Neighbours, n: usize) -> Neighbours {
    if n == 0 {
        return neighbours;
    }
    Neighbours {
        indices: neighbours.indices.slice(ndarray::s![.., n..]).to_owned(),
        similarities: neighbours.similarities.slice(ndarray::s![.., n..]).to_owned(),
    }
}

/// For every `k`: `(rows, labels)`, how many of the first `k` neighbours carry the label.
fn count_labels(neighbours: &Neighbours, labels: &Array2<u8>, ks: &[usize]) -> Vec<Array2<u32>> {
    let (n, width) = (neighbours.indices.nrows(), labels.ncols());
    let mut out: Vec<Array2<u32>> = ks.iter().map(|_| Array2::zeros((n, width))).collect();
    let mut running = vec![0u32; width];
    for (row, near) in neighbours.indices.outer_iter().enumerate() {
        running.fill(0);
        for (rank, index) in near.iter().enumerate() {
            for (sum, label) in running.iter_mut().zip(labels.row(*index as usize)) {
                *sum += u32::from(*label);
            }
            for (counts, _) in out.iter_mut().zip(ks).filter(|(_, k)| **k == rank + 1) {
                counts.row_mut(row).iter_mut().zip(&running).for_each(|(c, r)| *c = *r);
            }
        }
    }
    out
}

/// What the training rows show for one `k`.
#[derive(Debug, Clone)]
struct Table {
    /// `(labels, k + 1)`: P(j neighbours carry the label | the row carries it).
    with: Array2<f64>,
    /// The same for rows without the label.
    without: Array2<f64>,
}

impl Table {
    fn new(k: usize, s: f64, counts: &Array2<u32>, labels: &Array2<u8>) -> Self {
        let shape = (labels.ncols(), k + 1);
        let (mut with, mut without) = (Array2::zeros(shape), Array2::zeros(shape));
        for (counts, labels) in counts.outer_iter().zip(labels.outer_iter()) {
            for (label, (count, present)) in counts.iter().zip(labels).enumerate() {
                let table = if *present == 1 { &mut with } else { &mut without };
                table[[label, *count as usize]] += 1.0;
            }
        }
        for table in [&mut with, &mut without] {
            for mut row in table.axis_iter_mut(Axis(0)) {
                let sum = row.sum();
                row.mapv_inplace(|v| (s + v) / (s * (k + 1) as f64 + sum));
            }
        }
        Table { with, without }
    }
}

/// A fitted [`MlKnn`].
#[derive(Debug, Clone)]
pub struct MlKnnModel {
    options: MlKnn,
    gallery: Rows<'static>,
    labels: Array2<u8>,
    prior: Array1<f64>,
    tables: Vec<Table>,
    absent: Vec<usize>,
    training: Neighbours,
}

impl MlKnnModel {
    /// The settings.
    pub fn options(&self) -> &MlKnn {
        &self.options
    }

    /// The training features, of unit length, row after row.
    pub fn rows(&self) -> impl Iterator<Item = f32> + '_ {
        self.gallery.data.iter().copied()
    }

    /// Writes the training rows with labels and neighbours, every `k`, and which of them counts, as
    /// safetensors: a file as large as the training features, and as private as the images they come from.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, which: usize, path: &Path) -> Result<()> {
        let shape = (self.gallery.n, self.gallery.dim);
        let gallery = Tensor::from_slice(&self.gallery.data, shape, &Device::Cpu)?;
        let (rule, skipped) = match self.options.neighbours {
            TrainingNeighbours::WithItself => ("with-itself", 0),
            TrainingNeighbours::WithoutItself => ("without-itself", 0),
            TrainingNeighbours::SkipFirst(n) => ("skip-first", n),
        };
        let metadata = [
            ("head", "mlknn".to_owned()),
            ("k", store::listed(&self.options.ks)),
            ("which", which.to_string()),
            ("smoothing", self.options.smoothing.to_string()),
            ("neighbours", rule.to_owned()),
            ("skipped", skipped.to_string()),
        ];
        let tensors = [
            ("gallery", &gallery),
            ("labels", &store::tensor(&self.labels)?),
            ("neighbours", &store::tensor(&self.training.indices)?),
            ("similarities", &store::tensor(&self.training.similarities)?),
        ];
        store::save(path, &tensors, &metadata)
    }

    /// Reads a model written by [`MlKnnModel::save`], and which `k` counts. What was counted is counted
    /// again from the neighbours, which are not looked for again.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no such model.
    pub fn load(path: &Path) -> Result<(Self, usize)> {
        let file = store::load(path)?;
        file.expect("head", "mlknn")?;
        let gallery = file.gallery()?;
        let labels = file.matrix::<u8>("labels")?;
        let y = Targets::findings(labels.clone()).map_err(|e| file.bad(e.to_string()))?;
        y.check_len(gallery.n).map_err(|e| file.bad(e.to_string()))?;
        let neighbours = match file.text("neighbours")? {
            "with-itself" => TrainingNeighbours::WithItself,
            "without-itself" => TrainingNeighbours::WithoutItself,
            "skip-first" => TrainingNeighbours::SkipFirst(file.number("skipped")?),
            other => return Err(file.bad(format!("unknown neighbours `{other}`")).into()),
        };
        let options = MlKnn { ks: file.counts("k")?, smoothing: file.real("smoothing")?, neighbours };
        check_smoothing(options.smoothing).map_err(|e| file.bad(e.to_string()))?;
        let largest = check_ks(&options.ks, gallery.n.saturating_sub(options.skipped()));
        let largest = largest.map_err(|e| file.bad(e.to_string()))?;
        let which = file.number("which")?;
        let training = Neighbours { indices: file.matrix("neighbours")?, similarities: file.matrix("similarities")? };
        let fits = training.indices.dim() == (gallery.n, largest)
            && training.similarities.dim() == training.indices.dim()
            && training.indices.iter().all(|i| (*i as usize) < gallery.n);
        if which >= options.ks.len() || !fits {
            return Err(file.bad("its neighbours do not fit its rows and settings").into());
        }
        Ok((Self::counted(options, gallery, labels, training, &y), which))
    }

    /// What neighbours show.
    fn counted(options: MlKnn, gallery: Rows<'static>, labels: Array2<u8>, training: Neighbours, y: &Targets) -> Self {
        let s = options.smoothing;
        let prior = prior(&labels, s);
        let counts = count_labels(&training, &labels, &options.ks);
        let tables = options.ks.iter().zip(counts).map(|(k, counts)| Table::new(*k, s, &counts, &labels)).collect();
        let absent = y.positives().iter().enumerate().filter(|(_, p)| **p == 0).map(|(i, _)| i).collect();
        Self { options, gallery, labels, prior, tables, absent, training }
    }

    /// The same neighbours counted with another smoothing.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `smoothing` is a positive number.
    pub fn with_smoothing(&self, smoothing: f64) -> Result<Self> {
        check_smoothing(smoothing)?;
        let counts = count_labels(&self.training, &self.labels, &self.options.ks);
        let tables = self.options.ks.iter().zip(counts);
        Ok(MlKnnModel {
            options: self.options.clone().with_smoothing(smoothing),
            prior: prior(&self.labels, smoothing),
            tables: tables.map(|(k, counts)| Table::new(*k, smoothing, &counts, &self.labels)).collect(),
            ..self.clone()
        })
    }

    /// Labels that no training row carries.
    pub fn absent(&self) -> &[usize] {
        &self.absent
    }

    /// P(label) for every label, smoothed.
    pub fn prior(&self) -> &Array1<f64> {
        &self.prior
    }

    /// `(labels, k + 1)` tables of the `at`-th `k`: P(j neighbours carry the label) given that the
    /// row carries it, and given that it does not.
    pub fn conditionals(&self, at: usize) -> Option<(&Array2<f64>, &Array2<f64>)> {
        self.tables.get(at).map(|t| (&t.with, &t.without))
    }

    /// The neighbours of the training rows that were counted, as many as the largest `k`.
    pub fn training_neighbours(&self) -> &Neighbours {
        &self.training
    }

    /// The neighbours of `x` that are counted, as many as the largest `k`.
    ///
    /// # Errors
    /// As [`Predict::predict`].
    pub fn neighbours(&self, x: ArrayView2<'_, f32>) -> Result<Neighbours> {
        let queries = Rows::of_width("query features", x, self.gallery.dim)?.normalised();
        let largest = check_ks(&self.options.ks, self.gallery.n)?;
        let skip = self.options.skipped();
        Ok(drop_first(nearest(&self.gallery, &queries, largest + skip, Itself::Allowed)?, skip))
    }

    /// The probabilities `(n, labels)` of every `k`, in the order of [`MlKnn::ks`].
    ///
    /// # Errors
    /// As [`Predict::predict`].
    pub fn probabilities(&self, x: ArrayView2<'_, f32>) -> Result<Vec<Array2<f64>>> {
        Ok(self.probabilities_of(&self.neighbours(x)?))
    }

    /// The probabilities for neighbours found before.
    pub fn probabilities_of(&self, neighbours: &Neighbours) -> Vec<Array2<f64>> {
        let counts = count_labels(neighbours, &self.labels, &self.options.ks);
        let tables = counts.iter().zip(&self.tables);
        tables
            .map(|(counts, table)| {
                Array2::from_shape_fn(counts.dim(), |(row, label)| {
                    let count = counts[[row, label]] as usize;
                    let prior = self.prior[label];
                    let with = prior * table.with[[label, count]];
                    let without = (1.0 - prior) * table.without[[label, count]];
                    with / (with + without)
                })
            })
            .collect()
    }
}

impl Predict for MlKnnModel {
    /// The probabilities of the largest `k`.
    fn predict(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let ks = &self.options.ks;
        let at = (0..ks.len()).max_by_key(|i| ks[*i]).unwrap_or(0);
        Ok(self.probabilities(x)?.swap_remove(at).mapv(|v| v as f32))
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn another_smoothing_is_that_of_a_model_fitted_with_it() {
        let x = Array2::from_shape_fn((30, 3), |(i, c)| ((i * (c + 3) + c) % 11) as f32 - 5.0);
        let y = Targets::Findings(Array2::from_shape_fn((30, 2), |(i, c)| u8::from(i % (c + 2) == 0)));
        let head = MlKnn::new(&[2, 5]);
        let changed = head.fit(x.view(), &y).unwrap().with_smoothing(0.25).unwrap();
        let fitted = head.with_smoothing(0.25).fit(x.view(), &y).unwrap();
        assert_eq!(changed.options(), fitted.options());
        assert_eq!(changed.prior(), fitted.prior());
        assert!((0..2).all(|at| changed.conditionals(at) == fitted.conditionals(at)));
        assert!(changed.with_smoothing(0.0).is_err());
    }

    /// scikit-multilearn's loops, row by row and label by label, in f64.
    #[test]
    fn equals_the_plain_definition() {
        let mut rng = dinorad_core::rng::stream(5, 0, 0);
        let (n, dim, width) = (300usize, 6usize, 4usize);
        let x = Array2::from_shape_simple_fn((n, dim), || rng.random_range(-1.0f32..1.0));
        let labels = Array2::from_shape_fn((n, width), |_| u8::from(rng.random_bool(0.3)));
        let rows = Rows::new("x", x.view()).unwrap().normalised();
        for rule in
            [TrainingNeighbours::WithItself, TrainingNeighbours::WithoutItself, TrainingNeighbours::SkipFirst(2)]
        {
            let head = MlKnn::new(&[7, 3]).with_neighbours(rule).with_smoothing(0.5);
            let model = head.fit(x.view(), &Targets::Findings(labels.clone())).unwrap();
            let near = |row: usize, k: usize, training: bool| -> Vec<usize> {
                let mut all: Vec<(f64, usize)> = (0..n)
                    .map(|i| {
                        (0..dim).map(|d| f64::from(rows.data[row * dim + d]) * f64::from(rows.data[i * dim + d])).sum()
                    })
                    .zip(0..n)
                    .collect();
                all.sort_by(|a: &(f64, usize), b| b.0.total_cmp(&a.0));
                let skip = if let TrainingNeighbours::SkipFirst(s) = rule { s } else { 0 };
                let without = training && rule == TrainingNeighbours::WithoutItself;
                all.iter().map(|v| v.1).filter(|i| !(without && *i == row)).skip(skip).take(k).collect()
            };
            for (at, k) in [7usize, 3].into_iter().enumerate() {
                let got = &model.probabilities(x.view()).unwrap()[at];
                for label in 0..width {
                    let (mut c, mut cn) = (vec![0.0; k + 1], vec![0.0; k + 1]);
                    for row in 0..n {
                        let count = near(row, k, true).iter().filter(|i| labels[[**i, label]] == 1).count();
                        if labels[[row, label]] == 1 { c[count] += 1.0 } else { cn[count] += 1.0 }
                    }
                    let positives: f64 = c.iter().sum();
                    let prior = (0.5 + positives) / (1.0 + n as f64);
                    for row in 0..n {
                        let count = near(row, k, false).iter().filter(|i| labels[[**i, label]] == 1).count();
                        let p =
                            |table: &[f64]| (0.5 + table[count]) / (0.5 * (k + 1) as f64 + table.iter().sum::<f64>());
                        let (a, b) = (prior * p(&c), (1.0 - prior) * p(&cn));
                        assert!((got[[row, label]] - a / (a + b)).abs() < 1e-12, "{rule:?} k={k} row {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn another_smoothing_is_another_fit() {
        let x = Array2::from_shape_fn((60, 5), |(r, c)| ((r * 13 + c * 7) % 29) as f32 / 14.0 - 1.0);
        let labels = Array2::from_shape_fn((60, 3), |(r, c)| u8::from((r * (c + 3)) % 4 == 0));
        let y = Targets::Findings(labels);
        let head = MlKnn::new(&[3, 9]).with_neighbours(TrainingNeighbours::WithItself);
        let again = head.clone().with_smoothing(0.2).fit(x.view(), &y).unwrap();
        let derived = head.fit(x.view(), &y).unwrap().with_smoothing(0.2).unwrap();
        assert_eq!(again.probabilities(x.view()).unwrap(), derived.probabilities(x.view()).unwrap());
        assert!(derived.with_smoothing(0.0).is_err());
    }

    #[test]
    fn absent_labels_are_named_and_k_is_checked() {
        let x = ndarray::array![[1f32, 0.0], [0.0, 1.0], [1.0, 1.0]];
        let y = Targets::findings(ndarray::array![[1, 0], [0, 0], [1, 0]]).unwrap();
        assert_eq!(MlKnn::new(&[2]).fit(x.view(), &y).unwrap().absent(), [1]);
        assert!(matches!(MlKnn::new(&[3]).fit(x.view(), &y), Err(Error::TooFewRows { k: 3, rows: 2 })));
        let classes = Targets::classes(vec![0, 1, 0], 2).unwrap();
        assert!(matches!(MlKnn::new(&[1]).fit(x.view(), &classes), Err(Error::TargetKind { .. })));
    }
}
