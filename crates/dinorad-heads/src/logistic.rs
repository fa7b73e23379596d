//! Logistic regression.

use std::path::Path;

use candle::{DType, Device, Tensor};
use dinorad_kernels::matmul::Threads;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::{
    Error, Fit, Predict, Result, Targets,
    logistic_problem::{Design, Links, Problem, sigmoid},
    rows::Rows,
    store,
};

/// L2-regularised logistic regression in f64, for one strength or a whole sweep of them.
///
/// Minimises `C·Σ loss + ‖W‖²/2` with a free intercept: one logit for two classes, softmax for
/// more, one logit per finding for findings. The optimum does not depend on the solver: own L-BFGS
/// on centred features (which leaves the objective as it is), preconditioned by the Cholesky factor
/// of `I + C·κ·XᵀX` where the features are narrow enough, with a line search that costs no pass
/// over them.
///
/// A sweep starts every strength from the solution of the one before.
///
/// # Absent classes
/// A class without training rows, or a finding that none or all of them carry, has no finite
/// optimum. It is left out, reported by [`LogisticModel::absent`], and predicted as in training:
/// 0, or 1 for a finding that all rows carry. A fold of a single class is an error.
///
/// # Examples
/// ```
/// use dinorad_heads::{Fit, LogisticRegression, Predict, Targets};
///
/// let x = ndarray::array![[-2f32], [-1.0], [1.0], [2.0]];
/// let y = Targets::classes(vec![0, 0, 1, 1], 2)?;
/// let model = LogisticRegression::default().fit(x.view(), &y)?;
/// assert!(model.predict(x.view())?[[3, 1]] > 0.7);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
///
/// # Source
/// scikit-learn's `LogisticRegression(solver="lbfgs")`, whose objective this is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LogisticRegression {
    /// Weight of the data beside the penalty.
    pub c: f64,
    /// Stop once no entry of the gradient of the mean loss, over the largest feature (1 at least),
    /// exceeds this.
    pub tolerance: f64,
    /// Most iterations per strength.
    pub max_iterations: usize,
}

impl Default for LogisticRegression {
    /// C = 1, tolerance 1e-12 and at most 1,000 iterations, as the study.
    fn default() -> Self {
        LogisticRegression { c: 1.0, tolerance: 1e-12, max_iterations: 1000 }
    }
}

/// The study's 45 strengths: `10 ** linspace(-6, 5, 45)` evaluated in f32.
pub fn study_strengths() -> Vec<f64> {
    let step = 11f32 / 44.0;
    // both halves from their own end, as PyTorch's linspace
    let exponent = |i: usize| if i < 22 { -6.0 + step * i as f32 } else { 5.0 - step * (44 - i) as f32 };
    (0..45).map(|i| f64::from(10f32.powf(exponent(i)))).collect()
}

impl LogisticRegression {
    /// With strength `c`.
    pub fn new(c: f64) -> Self {
        LogisticRegression { c, ..Self::default() }
    }

    /// A model for every strength, each started from the one before.
    ///
    /// # Errors
    /// As [`Fit::fit`]; [`Error::Parameter`] for a strength that is not a positive number.
    pub fn sweep(&self, x: ArrayView2<'_, f32>, y: &Targets, strengths: &[f64]) -> Result<Vec<LogisticModel>> {
        let rows = Rows::new("training features", x)?;
        y.check_len(rows.n)?;
        if let Some(c) = strengths.iter().find(|c| !(c.is_finite() && **c > 0.0)) {
            return Err(Error::parameter("C", "a positive number", c));
        }
        if !(self.tolerance.is_finite() && self.tolerance > 0.0) {
            return Err(Error::parameter("tolerance", "a positive number", self.tolerance));
        }
        let positives = y.positives();
        let design = Design::new(&rows);
        match y {
            Targets::Classes { labels, n_classes } => {
                let present: Vec<usize> = (0..*n_classes).filter(|c| positives[*c] > 0).collect();
                let (first, second) = match present[..] {
                    [] => return Err(Error::Empty { what: "training targets" }),
                    [class] => return Err(Error::OneClass { class, rows: rows.n }),
                    [first, second, ..] => (first, second),
                };
                let (links, outputs) = if present.len() == 2 {
                    let y = labels.iter().map(|l| f64::from(u8::from(*l as usize == second))).collect();
                    (Links::Logistic(y), Outputs::Two { n_classes: *n_classes, classes: [first, second] })
                } else {
                    let at = |l: &u32| present.iter().position(|c| *c == *l as usize).unwrap_or(0);
                    let y = labels.iter().map(at).collect();
                    let outputs = Outputs::Softmax { n_classes: *n_classes, classes: present.clone() };
                    (Links::Softmax(y, present.len()), outputs)
                };
                let absent: Vec<usize> = (0..*n_classes).filter(|c| positives[*c] == 0).collect();
                let path = self.path(&design, links, strengths, Threads::All);
                Ok(path.into_iter().map(|s| s.into_model(&design, outputs.clone(), absent.clone())).collect())
            }
            Targets::Findings(labels) => {
                let n = rows.n;
                let trained: Vec<usize> =
                    (0..labels.ncols()).filter(|c| positives[*c] > 0 && positives[*c] < n).collect();
                let column = |c: &usize| labels.index_axis(Axis(1), *c).iter().map(|v| f64::from(*v)).collect();
                let paths: Vec<Vec<Solution>> = trained
                    .par_iter()
                    .map(|c| self.path(&design, Links::Logistic(column(c)), strengths, Threads::One))
                    .collect();
                let constants: Vec<Option<f64>> = positives
                    .iter()
                    .map(|p| {
                        if *p == 0 {
                            Some(0.0)
                        } else if *p == n {
                            Some(1.0)
                        } else {
                            None
                        }
                    })
                    .collect();
                let absent: Vec<usize> = (0..constants.len()).filter(|c| constants[*c].is_some()).collect();
                let mut paths: Vec<_> = paths.into_iter().map(Vec::into_iter).collect();
                let mut models = Vec::with_capacity(strengths.len());
                for c in strengths {
                    let columns: Vec<Solution> = paths.iter_mut().filter_map(Iterator::next).collect();
                    let outputs = Outputs::Findings { constants: constants.clone() };
                    let joined = Solution::joined(columns, *c, design.dim());
                    models.push(joined.into_model(&design, outputs, absent.clone()));
                }
                Ok(models)
            }
        }
    }

    fn path(&self, design: &Design, links: Links, strengths: &[f64], threads: Threads) -> Vec<Solution> {
        let mut problem = Problem::new(design, links, threads);
        let solve = |c: &f64| {
            let ended = problem.solve(*c, self.tolerance, self.max_iterations);
            Solution {
                c: *c,
                weights: problem.weights().to_vec(),
                intercepts: problem.intercepts().to_vec(),
                objective: problem.objective(),
                iterations: ended.iterations,
                converged: ended.converged,
            }
        };
        strengths.iter().map(solve).collect()
    }
}

impl Fit for LogisticRegression {
    type Fitted = LogisticModel;

    fn fit(&self, x: ArrayView2<'_, f32>, y: &Targets) -> Result<LogisticModel> {
        self.sweep(x, y, &[self.c])?.pop().ok_or(Error::Empty { what: "strengths" })
    }
}

/// A point of the path, on centred features.
#[derive(Debug, Clone)]
struct Solution {
    c: f64,
    weights: Vec<f64>,
    intercepts: Vec<f64>,
    objective: f64,
    iterations: usize,
    converged: bool,
}

impl Solution {
    fn joined(parts: Vec<Solution>, c: f64, dim: usize) -> Self {
        let mut all = Solution {
            c,
            weights: Vec::with_capacity(parts.len() * dim),
            intercepts: Vec::new(),
            objective: 0.0,
            iterations: 0,
            converged: true,
        };
        for part in parts {
            all.weights.extend(part.weights);
            all.intercepts.extend(part.intercepts);
            all.objective += part.objective;
            all.iterations = all.iterations.max(part.iterations);
            all.converged &= part.converged;
        }
        all
    }

    fn into_model(self, design: &Design, outputs: Outputs, absent: Vec<usize>) -> LogisticModel {
        let dim = design.dim();
        let mut intercepts = self.intercepts;
        for (b, w) in intercepts.iter_mut().zip(self.weights.chunks_exact(dim)) {
            *b -= crate::lbfgs::dot(w, design.mean());
        }
        if matches!(outputs, Outputs::Softmax { .. }) {
            // softmax leaves a common shift of the intercepts open
            let mean = intercepts.iter().sum::<f64>() / intercepts.len() as f64;
            intercepts.iter_mut().for_each(|b| *b -= mean);
        }
        let rows = intercepts.len();
        LogisticModel {
            c: self.c,
            // the length is rows * dim by construction; an empty matrix stands for no trained output
            coefficients: Array2::from_shape_vec((rows, dim), self.weights).unwrap_or_default(),
            intercepts: Array1::from(intercepts),
            outputs,
            absent,
            objective: self.objective,
            iterations: self.iterations,
            converged: self.converged,
        }
    }
}

/// How logits become the columns of a prediction.
#[derive(Debug, Clone, PartialEq)]
enum Outputs {
    /// One logit, for the second of two classes.
    Two { n_classes: usize, classes: [usize; 2] },
    /// A logit for each class present.
    Softmax { n_classes: usize, classes: Vec<usize> },
    /// A logit for each finding that has no constant answer.
    Findings { constants: Vec<Option<f64>> },
}

/// A fitted [`LogisticRegression`].
#[derive(Debug, Clone)]
pub struct LogisticModel {
    c: f64,
    coefficients: Array2<f64>,
    intercepts: Array1<f64>,
    outputs: Outputs,
    absent: Vec<usize>,
    objective: f64,
    iterations: usize,
    converged: bool,
}

impl LogisticModel {
    /// The strength it was fitted with.
    pub fn c(&self) -> f64 {
        self.c
    }

    /// `(logits, dim)`: one logit for two classes, else one for each class or finding that is not
    /// [`absent`](Self::absent).
    pub fn coefficients(&self) -> &Array2<f64> {
        &self.coefficients
    }

    /// One per logit; those of a softmax sum to zero.
    pub fn intercepts(&self) -> &Array1<f64> {
        &self.intercepts
    }

    /// Classes without a training row, or findings that none or all of them carry.
    pub fn absent(&self) -> &[usize] {
        &self.absent
    }

    /// `C·Σ loss + ‖W‖²/2` where the solver ended; for findings the sum over them.
    pub fn objective(&self) -> f64 {
        self.objective
    }

    /// Iterations taken; for findings the most of any.
    pub fn iterations(&self) -> usize {
        self.iterations
    }

    /// Whether the gradient came below the tolerance, or as low as f64 can tell.
    pub fn converged(&self) -> bool {
        self.converged
    }

    /// Writes the model to a safetensors file, whole or not at all: `logistic.weight`
    /// `(logits, dim)` and `logistic.bias` `(logits,)` in f64, with what the logits mean in the
    /// metadata.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let list = |classes: &[usize]| classes.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let (kind, n_classes, classes) = match &self.outputs {
            Outputs::Two { n_classes, classes } => ("two", *n_classes, list(classes)),
            Outputs::Softmax { n_classes, classes } => ("softmax", *n_classes, list(classes)),
            Outputs::Findings { constants } => {
                let text = |c: &Option<f64>| c.map_or("-".to_owned(), |v| v.to_string());
                ("findings", constants.len(), constants.iter().map(text).collect::<Vec<_>>().join(","))
            }
        };
        let shape = self.coefficients.dim();
        let weight = Tensor::from_iter(self.coefficients.iter().copied(), &Device::Cpu)?.reshape(shape)?;
        let bias = Tensor::from_iter(self.intercepts.iter().copied(), &Device::Cpu)?;
        let metadata = [
            ("head", "logistic".to_owned()),
            ("outputs", kind.to_owned()),
            ("classes", n_classes.to_string()),
            ("columns", classes),
            ("c", self.c.to_string()),
            ("dim", shape.1.to_string()),
        ];
        store::save(path, &[("logistic.weight", &weight), ("logistic.bias", &bias)], &metadata)
    }

    /// Reads a model written by [`LogisticModel::save`]. How the solver ended is not kept.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no such model.
    pub fn load(path: &Path) -> Result<Self> {
        let file = store::load(path)?;
        file.expect("head", "logistic")?;
        let n_classes = file.number("classes")?;
        let columns: Vec<&str> = file.text("columns")?.split(',').collect();
        let known = || -> Option<Vec<usize>> {
            let classes: Option<Vec<usize>> = columns.iter().map(|c| c.parse().ok()).collect();
            classes.filter(|classes| classes.iter().all(|c| *c < n_classes))
        };
        let bad = || file.bad(format!("columns are `{}`", columns.join(",")));
        let outputs = match file.text("outputs")? {
            "two" => {
                let classes = known().and_then(|c| <[usize; 2]>::try_from(c).ok()).ok_or_else(bad)?;
                Outputs::Two { n_classes, classes }
            }
            "softmax" => Outputs::Softmax { n_classes, classes: known().ok_or_else(bad)? },
            "findings" => {
                let constant = |text: &&str| match *text {
                    "-" => Some(None),
                    "0" => Some(Some(0.0)),
                    "1" => Some(Some(1.0)),
                    _ => None,
                };
                let constants: Vec<Option<f64>> =
                    columns.iter().map(constant).collect::<Option<_>>().ok_or_else(bad)?;
                if constants.len() != n_classes {
                    return Err(bad().into());
                }
                Outputs::Findings { constants }
            }
            other => return Err(file.bad(format!("unknown outputs `{other}`")).into()),
        };
        let logits = match &outputs {
            Outputs::Two { .. } => 1,
            Outputs::Softmax { classes, .. } => classes.len(),
            Outputs::Findings { constants } => constants.iter().filter(|c| c.is_none()).count(),
        };
        let dim = file.number("dim")?;
        let (weight, bias) = (file.tensor("logistic.weight")?, file.tensor("logistic.bias")?);
        if weight.dims() != [logits, dim] || bias.dims() != [logits] {
            return Err(file.bad(format!("weight {:?} and bias {:?}", weight.dims(), bias.dims())).into());
        }
        let absent = match &outputs {
            Outputs::Two { classes, .. } => (0..n_classes).filter(|c| !classes.contains(c)).collect(),
            Outputs::Softmax { classes, .. } => (0..n_classes).filter(|c| !classes.contains(c)).collect(),
            Outputs::Findings { constants } => (0..n_classes).filter(|c| constants[*c].is_some()).collect(),
        };
        let c = file.text("c")?.parse().map_err(|_| file.bad("`c` is no number"))?;
        let weight = weight.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        Ok(LogisticModel {
            c,
            coefficients: Array2::from_shape_vec((logits, dim), weight).unwrap_or_default(),
            intercepts: Array1::from(bias.to_dtype(DType::F64)?.to_vec1::<f64>()?),
            outputs,
            absent,
            objective: f64::NAN,
            iterations: 0,
            converged: true,
        })
    }

    /// Probabilities `(n, classes)` in f64.
    ///
    /// # Errors
    /// As [`Predict::predict`].
    pub fn probabilities(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f64>> {
        let rows = Rows::of_width("query features", x, self.coefficients.ncols())?;
        let x = Array2::from_shape_fn((rows.n, rows.dim), |(r, c)| f64::from(rows.data[r * rows.dim + c]));
        let mut logits = x.dot(&self.coefficients.t());
        for mut row in logits.outer_iter_mut() {
            row += &self.intercepts;
        }
        let n = rows.n;
        Ok(match &self.outputs {
            Outputs::Two { n_classes, classes: [first, second] } => {
                let mut p = Array2::zeros((n, *n_classes));
                for row in 0..n {
                    p[[row, *second]] = sigmoid(logits[[row, 0]]);
                    p[[row, *first]] = sigmoid(-logits[[row, 0]]);
                }
                p
            }
            Outputs::Softmax { n_classes, classes } => {
                let mut p = Array2::zeros((n, *n_classes));
                for (row, logits) in logits.outer_iter().enumerate() {
                    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = logits.iter().map(|z| (z - top).exp()).sum();
                    for (class, z) in classes.iter().zip(logits) {
                        p[[row, *class]] = (z - top).exp() / sum;
                    }
                }
                p
            }
            Outputs::Findings { constants } => {
                let mut p = Array2::zeros((n, constants.len()));
                let mut logit = 0;
                for (column, constant) in constants.iter().enumerate() {
                    match constant {
                        Some(value) => p.column_mut(column).fill(*value),
                        None => {
                            p.column_mut(column).assign(&logits.column(logit).mapv(sigmoid));
                            logit += 1;
                        }
                    }
                }
                p
            }
        })
    }
}

impl Predict for LogisticModel {
    fn predict(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        Ok(self.probabilities(x)?.mapv(|v| v as f32))
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn features(n: usize, dim: usize, seed: u64) -> Array2<f32> {
        let mut rng = dinorad_core::rng::stream(seed, 0, 0);
        let x: Vec<f32> = (0..n * dim).map(|i| rng.random_range(-1.0f32..1.0) * (1 + i % dim) as f32 + 3.0).collect();
        Array2::from_shape_vec((n, dim), x).unwrap()
    }

    #[test]
    fn a_written_model_predicts_the_same() {
        let x = features(40, 3, 4);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let class = |of: &dyn Fn(usize) -> u32, n| Targets::classes((0..40).map(of).collect(), n).unwrap();
        let findings = Array2::from_shape_fn((40, 3), |(r, c)| [0, u8::from(r % 3 == 0), 1][c]);
        for y in [
            class(&|i| (i % 2) as u32, 2),
            class(&|i| 2 * (i % 2) as u32, 3),
            class(&|i| (i % 3) as u32, 3),
            Targets::findings(findings).unwrap(),
        ] {
            let model = LogisticRegression::new(0.5).fit(x.view(), &y).unwrap();
            model.save(&path).unwrap();
            let read = LogisticModel::load(&path).unwrap();
            assert_eq!(read.probabilities(x.view()).unwrap(), model.probabilities(x.view()).unwrap());
            assert_eq!((read.absent(), read.c()), (model.absent(), model.c()));
        }
        std::fs::write(&path, b"no model").unwrap();
        assert!(LogisticModel::load(&path).is_err());
    }

    #[test]
    fn findings_are_fitted_one_by_one_and_constant_ones_reported() {
        let x = features(60, 4, 1);
        let mut rng = dinorad_core::rng::stream(2, 0, 0);
        let labels = Array2::from_shape_fn((60, 4), |(_, c)| match c {
            1 => 0,
            3 => 1,
            _ => u8::from(rng.random_bool(0.4)),
        });
        let y = Targets::findings(labels.clone()).unwrap();
        let model = LogisticRegression::new(10.0).fit(x.view(), &y).unwrap();
        assert_eq!(model.absent(), [1, 3]);
        assert!(model.converged());
        let p = model.probabilities(x.view()).unwrap();
        assert!(p.column(1).iter().all(|v| *v == 0.0) && p.column(3).iter().all(|v| *v == 1.0));
        for column in [0, 2] {
            let one = Targets::classes(labels.column(column).iter().map(|v| u32::from(*v)).collect(), 2).unwrap();
            let alone = LogisticRegression::new(10.0).fit(x.view(), &one).unwrap().probabilities(x.view()).unwrap();
            for row in 0..60 {
                assert!((alone[[row, 1]] - p[[row, column]]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn absent_classes_get_nothing_and_one_class_is_refused() {
        let x = features(30, 3, 4);
        let y = Targets::classes((0..30).map(|i| [0, 2, 3][i % 3]).collect(), 5).unwrap();
        let model = LogisticRegression::default().fit(x.view(), &y).unwrap();
        assert_eq!(model.absent(), [1, 4]);
        let p = model.probabilities(x.view()).unwrap();
        assert!(p.outer_iter().all(|r| r[1] == 0.0 && r[4] == 0.0 && (r.sum() - 1.0).abs() < 1e-12));
        let y = Targets::classes(vec![1; 30], 2).unwrap();
        assert!(matches!(LogisticRegression::default().fit(x.view(), &y), Err(Error::OneClass { class: 1, rows: 30 })));
        assert!(matches!(LogisticRegression::new(0.0).fit(x.view(), &y), Err(Error::Parameter { .. })));
    }

    /// Where rounding leaves no factor of the moments, a column that says nothing is no division by zero:
    /// eight copies of a column and an empty one predict what the column does alone.
    #[test]
    fn copies_and_empty_columns_are_fitted_at_any_strength() {
        let one = features(60, 1, 9);
        let copies = Array2::from_shape_fn((60, 9), |(i, c)| if c == 4 { 0.0 } else { one[[i, 0]] });
        let y = Targets::classes((0..60u32).map(|i| (i * 7 + i / 5) % 3).collect(), 3).unwrap();
        for c in [1e6, 1e14, 1e30] {
            let fit = |x: &Array2<f32>| LogisticRegression::new(c).fit(x.view(), &y).unwrap();
            let (alone, together) = (fit(&one), fit(&copies));
            assert!(together.coefficients().column(4).iter().all(|w| *w == 0.0), "{}", together.coefficients());
            let (a, b) = (alone.probabilities(one.view()).unwrap(), together.probabilities(copies.view()).unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6), "C {c}");
        }
    }

    #[test]
    fn iterations_are_those_that_were_taken() {
        let x = features(60, 4, 1);
        let labels = Array2::from_shape_fn((60, 2), |(i, c)| u8::from((i * 7 + i / 5) % (c + 2) == 0));
        let head = LogisticRegression { max_iterations: 2, tolerance: 1e-14, ..LogisticRegression::new(10.0) };
        let cut = head.fit(x.view(), &Targets::findings(labels.clone()).unwrap()).unwrap();
        assert_eq!((cut.iterations(), cut.converged()), (2, false));
        // of several findings the most
        let fit = |labels: Array2<u8>| {
            let model = LogisticRegression::new(10.0).fit(x.view(), &Targets::findings(labels).unwrap()).unwrap();
            assert!(model.converged());
            model.iterations()
        };
        let column = |c: usize| labels.slice(ndarray::s![.., c..=c]).to_owned();
        let (a, b) = (fit(column(0)), fit(column(1)));
        assert!(a > 2 && fit(labels.clone()) == a.max(b), "{a} {b}");
    }

    /// The gradient of the objective at the solution, from its definition, is zero.
    #[test]
    fn the_solution_is_stationary_for_every_strength() {
        let x = features(80, 6, 7);
        let y: Vec<u32> = (0..80u32).map(|i| (i * 7 + i / 5) % 3).collect();
        let targets = Targets::classes(y.clone(), 3).unwrap();
        let raw: Vec<Vec<f32>> = x.outer_iter().map(|r| r.to_vec()).collect();
        for model in LogisticRegression::default().sweep(x.view(), &targets, &study_strengths()).unwrap() {
            assert!(model.converged(), "C = {} after {} iterations", model.c(), model.iterations());
            let p = model.probabilities(x.view()).unwrap();
            for class in 0..3 {
                let mut gradient = model.coefficients().row(class).to_vec();
                let mut intercept = 0.0;
                for (row, label) in y.iter().enumerate() {
                    let r = p[[row, class]] - f64::from(u8::from(*label as usize == class));
                    gradient.iter_mut().zip(&raw[row]).for_each(|(g, x)| *g += model.c() * r * f64::from(*x));
                    intercept += model.c() * r;
                }
                let scale = model.c() * 80.0 * 10.0;
                assert!(gradient.iter().all(|g| g.abs() < 1e-10 * scale.max(1.0)), "C {} {gradient:?}", model.c());
                assert!(intercept.abs() < 1e-10 * scale.max(1.0));
            }
        }
    }
}
