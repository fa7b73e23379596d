//! Linear probes: a whole grid of them trained in one pass.

use std::{ops::Range, path::Path};

use candle::{DType, Device, Tensor};
use dinorad_nn::loss::Reduction;
use ndarray::{Array2, ArrayView2};

use crate::{
    BatchOrder, EpochSampler, Error, Fit, InputLayout, Predict, ProbePoint, ProbeTask, Result, Targets,
    probe_trainer::Trainer, rows::Rows, store,
};

/// Steps whose batches are drawn at once.
const STEPS: usize = 64;

/// Linear probes for every point of a grid, trained together.
///
/// All heads see the same batches, which are packed once for all of them. A step passes over the
/// weights twice: for the logits, and for gradient, momentum and move in one, so a grid costs
/// little more than the arithmetic of its weights. Every head ends with the bits it would have got
/// alone with the same batches, on any number of threads.
///
/// SGD with momentum, no weight decay, learning rates falling as a cosine to 0 over all steps.
/// Weights start as N(0, 0.01²) from a stream named by the point, biases as 0.
///
/// # Examples
/// ```
/// use dinorad_heads::{LinearSweep, Predict, ProbePoint, Targets};
///
/// let x = ndarray::array![[1f32, 0.0], [0.9, 0.2], [-1.0, 0.1], [-0.8, 0.0]];
/// let y = Targets::classes(vec![1, 1, 0, 0], 2)?;
/// let sweep = LinearSweep { epochs: 100, ..LinearSweep::new(ProbePoint::grid(&[1], &[false], &[0.01, 1.0])) };
/// let models = sweep.fit_all(x.view(), &y)?;
/// let fast = models[1].predict(x.view())?;
/// assert!(fast[[0, 1]] > 0.9 && fast[[2, 1]] < 0.1);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LinearSweep {
    /// The grid.
    pub points: Vec<ProbePoint>,
    /// Where the columns of a point are in a row; `None` lets every point read the whole row.
    pub layout: Option<InputLayout>,
    /// Passes over the training rows.
    pub epochs: usize,
    /// Rows per step; fewer where the training set is smaller.
    pub batch_size: usize,
    /// Share of the last step that is kept.
    pub momentum: f64,
    /// How multi-label losses become one number; the study's learning rates belong to
    /// [`Reduction::BatchSum`].
    pub reduction: Reduction,
    /// Seed of the initial weights and the batches.
    pub seed: u64,
}

impl LinearSweep {
    /// A grid with the study's momentum 0.9, batches of 128, 100 epochs and its multi-label loss.
    pub fn new(points: Vec<ProbePoint>) -> Self {
        LinearSweep {
            points,
            layout: None,
            epochs: 100,
            batch_size: 128,
            momentum: 0.9,
            reduction: Reduction::BatchSum,
            seed: 0,
        }
    }

    /// The same over rows of a layout.
    #[must_use]
    pub fn with_layout(self, layout: InputLayout) -> Self {
        LinearSweep { layout: Some(layout), ..self }
    }

    /// Steps of a training set of `n` rows: whole epochs.
    pub fn steps(&self, n: usize) -> usize {
        let batch = self.batch_size.min(n).max(1);
        self.epochs.saturating_mul(n.div_ceil(batch))
    }

    /// Trains on cached features; one model per point, in their order.
    ///
    /// # Errors
    /// [`Error::OneClass`] if there is nothing to tell apart, and features or settings that cannot
    /// be used. A learning rate that makes a head leave the range of numbers is no error of the
    /// sweep: see [`LinearModel::is_finite`].
    pub fn fit_all(&self, x: ArrayView2<'_, f32>, y: &Targets) -> Result<Vec<LinearModel>> {
        let n = x.nrows();
        self.fit_in_order(x, y, &mut EpochSampler::new(n.max(1), self.seed)?, self.steps(n))
    }

    /// The same with batches from another order, for `steps` steps.
    ///
    /// # Errors
    /// As [`LinearSweep::fit_all`].
    pub fn fit_in_order(
        &self,
        x: ArrayView2<'_, f32>,
        y: &Targets,
        order: &mut dyn BatchOrder,
        steps: usize,
    ) -> Result<Vec<LinearModel>> {
        check_variety(y)?;
        let (n, dim) = x.dim();
        let mut trainer = self.trainer(dim, ProbeTask::of(y), steps)?;
        trainer.train(x, y, order, self.batch_size.min(n), steps, &mut |_| {})?;
        trainer.into_models()
    }

    /// A trainer that is fed batch by batch, for features that change between epochs (augmented
    /// views) or initial weights of your own.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a setting out of range, and points whose columns rows of `dim`
    /// values do not hold.
    pub fn trainer(&self, dim: usize, task: ProbeTask, steps: usize) -> Result<SweepTrainer> {
        if self.points.is_empty() {
            return Err(Error::Empty { what: "grid points" });
        }
        if self.batch_size == 0 {
            return Err(Error::parameter("batch_size", "at least 1", 0));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::parameter("momentum", "0 <= m < 1", self.momentum));
        }
        if task.logits() == 0 {
            return Err(Error::parameter("classes", "at least 1", 0));
        }
        if let Some(layout) = self.layout.filter(|l| l.width() != dim) {
            return Err(Error::shape("training features", format!("(n, {})", layout.width()), &[dim]));
        }
        let mut columns = Vec::with_capacity(self.points.len());
        for point in &self.points {
            if !(point.learning_rate.is_finite() && point.learning_rate >= 0.0) {
                return Err(Error::parameter("learning rate", "a number from 0", point.learning_rate));
            }
            columns.push(match self.layout {
                Some(layout) => layout.columns(point.blocks, point.avgpool)?,
                None => 0..dim,
            });
        }
        let inner =
            Trainer::new(&self.points, &columns, dim, task, steps, self.momentum as f32, self.reduction, self.seed)?;
        Ok(SweepTrainer { inner, points: self.points.clone(), columns, dim, task })
    }
}

/// Refuses targets of a single class.
pub(crate) fn check_variety(y: &Targets) -> Result<()> {
    if let Targets::Classes { labels, .. } = y {
        let counts = y.positives();
        if let Some(class) = counts.iter().position(|c| *c == labels.len() && *c > 0) {
            return Err(Error::OneClass { class, rows: labels.len() });
        }
    }
    Ok(())
}

/// A grid of probes in training.
pub struct SweepTrainer {
    inner: Trainer,
    points: Vec<ProbePoint>,
    columns: Vec<Range<usize>>,
    dim: usize,
    task: ProbeTask,
}

impl SweepTrainer {
    /// One step on features `(batch, dim)` and their targets.
    ///
    /// # Errors
    /// Features that are empty, not finite or of another width, targets of another task or number.
    pub fn step(&mut self, x: ArrayView2<'_, f32>, y: &Targets) -> Result<()> {
        let rows = Rows::of_width("batch features", x, self.dim)?;
        y.check_len(rows.n)?;
        self.run(&rows, y, &[(0..rows.n).collect()])
    }

    /// `steps` steps over cached features `(n, dim)`, each on the next `size` rows of `order`;
    /// `done` hears of the steps taken, several at a time.
    ///
    /// # Errors
    /// As [`SweepTrainer::step`], and [`Error::Parameter`] for a row that there is not.
    pub fn train(
        &mut self,
        x: ArrayView2<'_, f32>,
        y: &Targets,
        order: &mut dyn BatchOrder,
        size: usize,
        steps: usize,
        done: &mut dyn FnMut(usize),
    ) -> Result<()> {
        let rows = Rows::of_width("training features", x, self.dim)?;
        y.check_len(rows.n)?;
        let mut left = steps;
        while left > 0 {
            let batches: Vec<Vec<usize>> = (0..left.min(STEPS)).map(|_| order.next_batch(size)).collect();
            left -= batches.len();
            self.run(&rows, y, &batches)?;
            done(batches.len());
        }
        Ok(())
    }

    fn run(&mut self, rows: &Rows<'_>, y: &Targets, batches: &[Vec<usize>]) -> Result<()> {
        let task = ProbeTask::of(y);
        if task != self.task {
            return Err(Error::LabelWidth { row: 0, got: task.logits(), expected: self.task.logits() });
        }
        if batches.iter().any(Vec::is_empty) {
            return Err(Error::Empty { what: "batch" });
        }
        if let Some(i) = batches.iter().flatten().find(|i| **i >= rows.n) {
            return Err(Error::parameter("row", format!("below {}", rows.n), i));
        }
        self.inner.run(rows, y, batches)
    }

    /// The steps taken.
    pub fn steps_taken(&self) -> usize {
        self.inner.steps_taken()
    }

    /// The loss of every point on the last batch, before its step.
    pub fn losses(&self) -> Vec<f64> {
        self.inner.losses()
    }

    /// Weight `(logits, width)` and bias `(logits,)` of a point.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a point that does not exist.
    pub fn weights(&self, point: usize) -> Result<(Tensor, Tensor)> {
        let columns = self.columns_of(point)?;
        let (weight, bias) = self.inner.weights(point);
        let k = self.task.logits();
        Ok((Tensor::from_vec(weight, (k, columns.len()), &Device::Cpu)?, Tensor::from_vec(bias, k, &Device::Cpu)?))
    }

    /// Replaces them: initial weights from elsewhere.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the shapes are those of [`SweepTrainer::weights`],
    /// [`Error::NotFinite`] for weights that are not numbers.
    pub fn set_weights(&mut self, point: usize, weight: &Tensor, bias: &Tensor) -> Result<()> {
        let width = self.columns_of(point)?.len();
        let k = self.task.logits();
        if weight.dims() != [k, width] || bias.dims() != [k] {
            let expected = format!("({k}, {width}) and ({k},)");
            return Err(Error::shape("initial weights", expected, &[weight.dims(), bias.dims()].concat()));
        }
        let weight = weight.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if let Some(at) = weight.iter().position(|w| !w.is_finite()) {
            return Err(Error::NotFinite { what: "initial weight", row: at / width.max(1) });
        }
        let bias = bias.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if let Some(row) = bias.iter().position(|b| !b.is_finite()) {
            return Err(Error::NotFinite { what: "initial bias", row });
        }
        self.inner.set_weights(point, &weight, &bias);
        Ok(())
    }

    fn columns_of(&self, point: usize) -> Result<Range<usize>> {
        let n = self.columns.len();
        self.columns.get(point).cloned().ok_or_else(|| Error::parameter("point", format!("below {n}"), point))
    }

    /// The heads as they are, in the order of the points.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn into_models(self) -> Result<Vec<LinearModel>> {
        (0..self.points.len())
            .map(|i| {
                let (weight, bias) = self.weights(i)?;
                Ok(LinearModel {
                    weight,
                    bias,
                    point: self.points[i],
                    columns: self.columns[i].clone(),
                    dim: self.dim,
                    task: self.task,
                })
            })
            .collect()
    }
}

/// One linear probe: [`LinearSweep`] of a single point.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LinearProbe {
    /// The settings; the first point is trained.
    pub sweep: LinearSweep,
}

impl LinearProbe {
    /// A probe of the whole row at a learning rate.
    pub fn new(learning_rate: f64) -> Self {
        let point = ProbePoint { blocks: 1, avgpool: false, learning_rate };
        LinearProbe { sweep: LinearSweep::new(vec![point]) }
    }

    /// The same for so many epochs.
    #[must_use]
    pub fn with_epochs(mut self, epochs: usize) -> Self {
        self.sweep.epochs = epochs;
        self
    }

    /// The same with another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.sweep.seed = seed;
        self
    }
}

impl Fit for LinearProbe {
    type Fitted = LinearModel;

    /// # Errors
    /// As [`LinearSweep::fit_all`], and [`Error::Diverged`] if the weights left the range of numbers.
    fn fit(&self, x: ArrayView2<'_, f32>, y: &Targets) -> Result<LinearModel> {
        let one = LinearSweep { points: self.sweep.points.iter().take(1).copied().collect(), ..self.sweep.clone() };
        let model = one.fit_all(x, y)?.pop().ok_or(Error::Empty { what: "grid points" })?;
        if !model.is_finite()? {
            let step = one.steps(y.len());
            return Err(Error::Diverged { what: format!("weights of {}", model.point), step });
        }
        Ok(model)
    }
}

/// A trained linear probe.
#[derive(Debug, Clone)]
pub struct LinearModel {
    weight: Tensor,
    bias: Tensor,
    point: ProbePoint,
    columns: Range<usize>,
    dim: usize,
    task: ProbeTask,
}

impl LinearModel {
    /// From weights `(logits, width)` and biases `(logits,)` that read `columns` of rows of `dim`
    /// values.
    ///
    /// # Errors
    /// [`Error::Shape`] if these do not belong together.
    pub fn new(
        weight: Tensor,
        bias: Tensor,
        point: ProbePoint,
        columns: Range<usize>,
        dim: usize,
        task: ProbeTask,
    ) -> Result<Self> {
        let k = task.logits();
        if columns.end > dim || weight.dims() != [k, columns.len()] || bias.dims() != [k] || columns.is_empty() {
            let expected = format!("({k}, {}) and ({k},) for columns {columns:?} of {dim}", columns.len());
            return Err(Error::shape("probe weights", expected, &[weight.dims(), bias.dims()].concat()));
        }
        Ok(LinearModel {
            weight: weight.to_dtype(DType::F32)?,
            bias: bias.to_dtype(DType::F32)?,
            point,
            columns,
            dim,
            task,
        })
    }

    /// `(logits, width)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `(logits,)`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The grid point it was trained at.
    pub fn point(&self) -> ProbePoint {
        self.point
    }

    /// What its logits mean.
    pub fn task(&self) -> ProbeTask {
        self.task
    }

    /// Whether every weight is a number: a learning rate that is too large ends elsewhere.
    ///
    /// # Errors
    /// If the weights cannot be read.
    pub fn is_finite(&self) -> Result<bool> {
        let finite =
            |t: &Tensor| -> Result<bool> { Ok(t.flatten_all()?.to_vec1::<f32>()?.iter().all(|v| v.is_finite())) };
        Ok(finite(&self.weight)? && finite(&self.bias)?)
    }

    /// Logits `(n, logits)` of features `(n, dim)`; carries gradients.
    ///
    /// # Errors
    /// [`Error::Shape`] for features of another width.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match x.dims() {
            [_, d] if *d == self.dim => {}
            other => return Err(Error::shape("query features", format!("(n, {})", self.dim), other)),
        }
        self.logits_of(&x.to_dtype(DType::F32)?.narrow(1, self.columns.start, self.columns.len())?.contiguous()?)
    }

    /// Logits of the columns that it reads.
    fn logits_of(&self, own: &Tensor) -> Result<Tensor> {
        let weight = self.weight.to_device(own.device())?;
        Ok(own.matmul(&weight.t()?)?.broadcast_add(&self.bias.to_device(own.device())?)?)
    }

    /// Writes the probe to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (kind, classes) = match self.task {
            ProbeTask::Binary => ("binary", 1),
            ProbeTask::Multiclass(n) => ("multiclass", n),
            ProbeTask::Multilabel(n) => ("multilabel", n),
        };
        let metadata = [
            ("head", "linear".to_owned()),
            ("task", kind.to_owned()),
            ("classes", classes.to_string()),
            ("point", self.point.to_string()),
            ("columns", format!("{}..{}", self.columns.start, self.columns.end)),
            ("dim", self.dim.to_string()),
        ];
        store::save(path, &[("linear.weight", &self.weight), ("linear.bias", &self.bias)], &metadata)
    }

    /// Reads a probe written by [`LinearModel::save`].
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no such probe.
    pub fn load(path: &Path) -> Result<Self> {
        let file = store::load(path)?;
        file.expect("head", "linear")?;
        let classes: usize = file.number("classes")?;
        let task = match file.text("task")? {
            "binary" => ProbeTask::Binary,
            "multiclass" => ProbeTask::Multiclass(classes),
            "multilabel" => ProbeTask::Multilabel(classes),
            other => return Err(file.bad(format!("unknown task `{other}`")).into()),
        };
        let point = file.text("point")?.parse()?;
        let columns = file.text("columns")?;
        let range = columns.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
        let range = range.ok_or_else(|| file.bad(format!("columns are `{columns}`")))?;
        Self::new(file.tensor("linear.weight")?, file.tensor("linear.bias")?, point, range, file.number("dim")?, task)
    }
}

impl Predict for LinearModel {
    /// Softmax or sigmoids of the logits; NaN from a model that is not
    /// [finite](LinearModel::is_finite).
    fn predict(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let rows = Rows::of_width("query features", x, self.dim)?;
        let own: Vec<f32> = rows.iter().flat_map(|row| &row[self.columns.clone()]).copied().collect();
        let z = self.logits_of(&Tensor::from_vec(own, (rows.n, self.columns.len()), &Device::Cpu)?)?;
        let sigmoid = |z: &Tensor| -> Result<Tensor> { Ok((z.neg()?.exp()? + 1.0)?.recip()?) };
        let p = match self.task {
            ProbeTask::Binary => Tensor::cat(&[sigmoid(&z.neg()?)?, sigmoid(&z)?], 1)?,
            ProbeTask::Multilabel(_) => sigmoid(&z)?,
            ProbeTask::Multiclass(_) => {
                let e = z.broadcast_sub(&z.max_keepdim(1)?)?.exp()?;
                e.broadcast_div(&e.sum_keepdim(1)?)?
            }
        };
        let shape = p.dims2()?;
        let values = p.flatten_all()?.to_vec1::<f32>()?;
        Array2::from_shape_vec(shape, values).map_err(|_| Error::shape("probabilities", "(n, classes)", p.dims()))
    }
}
