//! Nearest neighbours on frozen features: the first judge of an encoder.

use std::collections::BTreeMap;

use candle::{Device, Tensor};
use dinorad_core::{Protocol, Target, Task, TaskKind};
use dinorad_heads::{Fit, Knn, Targets};
use dinorad_metrics::{
    BootstrapOptions, Interval, LabelIntervals, Resampling, bootstrap_auroc, bootstrap_multilabel_auroc, roc_curve,
};
use ndarray::{Array1, Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Predictions, Result,
    plot::{self, LinePlot, Marks, Series, XScale},
    report::{Block, Confusion, Figure, Score},
    run::{MetricValue, MetricsFile, RunFolder},
    store::FeatureTable,
};

/// Features with their truths.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// Sample ids by row.
    pub ids: Vec<String>,
    /// The truth by row.
    pub targets: Vec<Target>,
    /// A hash that is equal for all cases of a patient; intervals then draw patients, not images.
    pub patients: Vec<Option<String>>,
    /// `(n, D)`.
    pub features: Array2<f32>,
}

impl Labelled {
    /// The truths of `dataset` beside a store's features, matched by sample id.
    ///
    /// Cases without features (failed ones) are left out.
    ///
    /// # Errors
    /// [`Error::Dataset`] for a label that cannot be read; [`Error::Protocol`] for a feature without a
    /// case.
    pub fn from_table(table: FeatureTable, dataset: &dyn dinorad_datasets::Dataset) -> Result<Self> {
        let places: BTreeMap<String, usize> = (0..dataset.len()).map(|i| (dataset.sample_id(i), i)).collect();
        let (mut targets, mut patients) = (Vec::new(), Vec::new());
        for id in &table.ids {
            let &i = places.get(id).ok_or_else(|| Error::Protocol {
                protocol: "features and labels",
                why: format!("the data set has no case `{id}`"),
            })?;
            targets.push(dataset.target(i)?);
            patients.push(dataset.patient(i));
        }
        Ok(Self { ids: table.ids, targets, patients, features: table.features })
    }

    fn tensor(&self) -> Result<Tensor> {
        tensor(&self.features)
    }

    /// Draws whole patients when every case names one.
    fn resampling(&self) -> Result<Resampling> {
        let known: Option<Vec<&String>> = self.patients.iter().map(Option::as_ref).collect();
        Ok(match known {
            Some(patients) if patients.len() == self.ids.len() => Resampling::by_group(&patients)?,
            _ => Resampling::by_case(self.ids.len())?,
        })
    }
}

/// How kNN is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnnOptions {
    /// Numbers of neighbours to try.
    pub ks: Vec<usize>,
    /// Divides similarities before the softmax.
    pub temperature: f64,
    /// `strict`: the gallery is the train split. `paper`: train and validation for the test queries.
    pub protocol: Protocol,
    /// How intervals are drawn.
    pub bootstrap: BootstrapOptions,
}

impl Default for KnnOptions {
    /// k 1, 5, 20 at temperature 0.07, strict, 1000 draws.
    fn default() -> Self {
        Self {
            ks: vec![1, 5, 20],
            temperature: 0.07,
            protocol: Protocol::Strict,
            bootstrap: BootstrapOptions::default(),
        }
    }
}

/// What one k gave.
#[derive(Debug, Clone)]
pub struct KnnOfK {
    /// Number of neighbours.
    pub k: usize,
    /// On validation, where there is one.
    pub val: Option<Judged>,
    /// On test.
    pub test: Judged,
}

/// Predictions and their numbers.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Probabilities beside the truth.
    pub predictions: Predictions,
    /// Area under the ROC curve: of class 1, or the mean over classes or findings; `None` where
    /// undefined.
    pub auroc: Option<Interval>,
    /// AUROC by class or finding; one entry (class 1) for a binary task.
    pub auroc_by_class: Vec<Option<Interval>>,
    /// Share of cases, or of findings, that are right.
    pub accuracy: Option<Interval>,
}

/// A whole kNN run.
#[derive(Debug, Clone)]
pub struct KnnRun {
    task: Task,
    options: KnnOptions,
    gallery: usize,
    best: usize,
    of_k: Vec<KnnOfK>,
}

/// Judges features by their nearest neighbours, for every k, and chooses the k that is best on
/// validation by AUROC (ties and undefined: the smallest).
///
/// # Errors
/// [`Error::Protocol`] for a task that is no classification, and for several k without a validation
/// split to choose by; [`Error::Heads`] for more neighbours than there are cases; [`Error::Metrics`].
pub fn knn(
    train: &Labelled,
    val: Option<&Labelled>,
    test: &Labelled,
    task: &Task,
    options: &KnnOptions,
) -> Result<KnnRun> {
    if task.kind == TaskKind::Segmentation {
        return Err(Error::Protocol { protocol: "kNN", why: "a segmentation has no single answer per case".into() });
    }
    let mut options = options.clone();
    options.ks.sort_unstable();
    options.ks.dedup();
    let val = val.filter(|v| !v.ids.is_empty());
    if val.is_none() && options.ks.len() > 1 {
        return Err(Error::Protocol {
            protocol: "kNN",
            why: "choosing among several k needs a validation split; name one k".into(),
        });
    }
    let head = Knn::new(&options.ks).with_temperature(options.temperature);
    let classes = task.n_classes();
    let train_targets = Targets::from_samples(&train.targets, classes)?;
    let on_train = head.fit(&train.tensor()?, &train_targets)?;
    let val_votes = match val {
        Some(val) => Some(on_train.votes(&val.tensor()?)?),
        None => None,
    };
    let (gallery, test_votes) = match (options.protocol, val) {
        (Protocol::Paper, Some(val)) => {
            let features = concatenate(Axis(0), &[train.features.view(), val.features.view()])
                .map_err(|e| Error::shape("train and val features", e.to_string(), val.features.shape()))?;
            let targets = train_targets.concat(&Targets::from_samples(&val.targets, classes)?)?;
            let model = head.fit(&tensor(&features)?, &targets)?;
            (model.n_rows(), model.votes(&test.tensor()?)?)
        }
        _ => (on_train.n_rows(), on_train.votes(&test.tensor()?)?),
    };
    let mut val_votes = val_votes.map(Vec::into_iter);
    let mut of_k = Vec::new();
    for (&k, votes) in options.ks.iter().zip(test_votes) {
        let val_votes = val_votes.as_mut().and_then(Iterator::next);
        let val = match (val, val_votes) {
            (Some(val), Some(votes)) => Some(judge(val, votes, task, &options.bootstrap)?),
            _ => None,
        };
        of_k.push(KnnOfK { k, val, test: judge(test, votes, task, &options.bootstrap)? });
    }
    let mut best = 0;
    let score = |r: &KnnOfK| r.val.as_ref().and_then(|v| v.auroc).map_or(f64::NEG_INFINITY, |i| i.estimate);
    for i in 1..of_k.len() {
        if score(&of_k[i]) > score(&of_k[best]) {
            best = i;
        }
    }
    Ok(KnnRun { task: task.clone(), options, gallery, best, of_k })
}

/// Probabilities beside their truths, with AUROC, accuracy and their bootstrap intervals.
///
/// # Errors
/// [`Error::Metrics`], [`Error::Shape`].
pub fn judge(cases: &Labelled, probabilities: Array2<f32>, task: &Task, draws: &BootstrapOptions) -> Result<Judged> {
    let predictions = Predictions::new(cases.ids.clone(), cases.targets.clone(), probabilities)?;
    let p = predictions.probabilities.view();
    let resampling = cases.resampling()?;
    let truth = Targets::from_samples(&cases.targets, task.n_classes())?;
    let (auroc, auroc_by_class, right) = match &truth {
        Targets::Classes { labels, .. } => {
            let predicted = predictions.classes();
            let right: Vec<f64> = labels.iter().zip(&predicted).map(|(l, p)| f64::from(*l as usize == *p)).collect();
            if p.ncols() == 2 {
                let labels: Array1<u8> = labels.iter().map(|l| *l as u8).collect();
                let auroc = present(bootstrap_auroc(p.column(1), labels.view(), &resampling, draws))?;
                (auroc, vec![auroc], right)
            } else {
                let one_hot =
                    Array2::from_shape_fn(p.dim(), |(i, c)| u8::from(labels.get(i).is_some_and(|l| *l as usize == c)));
                let LabelIntervals { labels, mean, .. } =
                    bootstrap_multilabel_auroc(p, one_hot.view(), &resampling, draws)?;
                (mean, labels, right)
            }
        }
        Targets::Findings(findings) => {
            let LabelIntervals { labels, mean, .. } =
                bootstrap_multilabel_auroc(p, findings.view(), &resampling, draws)?;
            let right = p.outer_iter().zip(findings.outer_iter()).map(|(p, y)| {
                let hits = p.iter().zip(y).filter(|(p, y)| (**p >= 0.5) == (**y == 1)).count();
                hits as f64 / y.len().max(1) as f64
            });
            (mean, labels, right.collect())
        }
    };
    let mean = |weights: &[u32]| {
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let sum: f64 = weights.iter().zip(&right).map(|(w, r)| f64::from(*w) * r).sum();
        (total > 0.0).then(|| sum / total)
    };
    let accuracy = Some(resampling.bootstrap(draws, mean)?);
    Ok(Judged { predictions, auroc, auroc_by_class, accuracy })
}

/// A metric of one class alone is absent, not an error.
fn present(result: dinorad_metrics::Result<Interval>) -> Result<Option<Interval>> {
    match result {
        Ok(interval) => Ok(Some(interval)),
        Err(dinorad_metrics::Error::OneClass { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

impl KnnRun {
    /// What the best k gave.
    pub fn best(&self) -> &KnnOfK {
        &self.of_k[self.best]
    }

    /// What every k gave, ascending.
    pub fn of_k(&self) -> &[KnnOfK] {
        &self.of_k
    }

    /// The settings, k sorted.
    pub fn options(&self) -> &KnnOptions {
        &self.options
    }

    /// Cases that voted on the test queries.
    pub fn gallery(&self) -> usize {
        self.gallery
    }

    /// How the numbers are meant.
    pub fn convention(&self) -> String {
        let auroc = match self.task.kind {
            TaskKind::Binary => "auroc: class 1 against 0, ties one half",
            TaskKind::Multilabel => {
                "auroc: mean over findings that occur, absent ones left out; accuracy: share of findings right at 0.5"
            }
            _ => "auroc: each class against the rest, mean over classes that occur, absent ones left out",
        };
        let b = &self.options.bootstrap;
        let unit = if self.best().test.predictions.ids.is_empty() { "cases" } else { "cases (patients where known)" };
        format!(
            "{}; {auroc}; ci95: percentile bootstrap over {unit}, {} draws, seed {}",
            self.options.protocol, b.draws, b.seed
        )
    }

    /// `metrics.json`.
    pub fn metrics(&self) -> MetricsFile {
        let mut file = MetricsFile::new(1, self.convention());
        for (i, result) in self.of_k.iter().enumerate() {
            for (split, judged) in [("val", result.val.as_ref()), ("test", Some(&result.test))] {
                let Some(judged) = judged else { continue };
                let mut set = |name: String, interval: Option<Interval>| file.set(split, name, metric(interval));
                set(format!("auroc_k{}", result.k), judged.auroc);
                set(format!("accuracy_k{}", result.k), judged.accuracy);
                if i == self.best {
                    set("auroc".into(), judged.auroc);
                    set("accuracy".into(), judged.accuracy);
                    if judged.auroc_by_class.len() > 1 {
                        for (c, interval) in judged.auroc_by_class.iter().enumerate() {
                            set(format!("auroc_class_{c}"), *interval);
                        }
                    }
                    file.set(split, "k", MetricValue::single(result.k as f64));
                }
            }
        }
        file
    }

    /// Writes `metrics.json`, `predictions-k*.csv`, `predictions.csv` (the best k) and the plots.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Draw`].
    pub fn write(&self, run: &RunFolder) -> Result<()> {
        for result in &self.of_k {
            run.write_predictions(&format!("predictions-k{}", result.k), &result.test.predictions)?;
        }
        run.write_predictions("predictions", &self.best().test.predictions)?;
        for (name, svg, _) in self.plots()? {
            run.write_plot(name, &svg)?;
        }
        run.write_metrics(&self.metrics())?;
        Ok(())
    }

    /// Name, SVG and caption of every plot that these results allow.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn plots(&self) -> Result<Vec<(&'static str, String, String)>> {
        let mut plots = Vec::new();
        let curves = self.roc_curves()?;
        if !curves.is_empty() {
            let caption = format!("ROC on the test split, k = {}.", self.best().k);
            plots.push(("roc", plot::roc(&curves)?, caption));
        }
        let of_split = |name: &str, judged: &dyn Fn(&KnnOfK) -> Option<Interval>| {
            let points = self.of_k.iter().filter_map(|r| Some((r.k as f64, judged(r)?.estimate)));
            Series::new(name, points.collect())
        };
        let series: Vec<Series> =
            [of_split("validation", &|r| r.val.as_ref()?.auroc), of_split("test", &|r| r.test.auroc)]
                .into_iter()
                .filter(|s| s.points.len() > 1)
                .collect();
        if !series.is_empty() {
            let options = LinePlot {
                x_label: "number of neighbours k".into(),
                y_label: "AUROC".into(),
                y_range: None,
                x_scale: XScale::Log,
                marks: Marks::Dots,
            };
            let caption = "AUROC by k; the k that is best on validation is the one reported.".to_owned();
            plots.push(("auroc-by-k", plot::lines(&options, &series)?, caption));
        }
        Ok(plots)
    }

    /// The curve of class 1, or of every class or finding (the first seven) that occurs.
    fn roc_curves(&self) -> Result<Vec<Series>> {
        let test = &self.best().test;
        let p = &test.predictions.probabilities;
        let columns: Vec<usize> =
            if self.task.kind == TaskKind::Multilabel || p.ncols() != 2 { (0..p.ncols()).collect() } else { vec![1] };
        let mut curves = Vec::new();
        for (&c, interval) in columns.iter().zip(&test.auroc_by_class).take(plot::PALETTE.len()) {
            let Some(interval) = interval else { continue };
            let labels: Array1<u8> = test
                .predictions
                .targets
                .iter()
                .map(|t| match t {
                    Target::Class(t) => u8::from(*t == c),
                    Target::Labels(l) => l.get(c).copied().unwrap_or(0),
                    Target::Unlabelled | Target::Mask(_) => 0,
                })
                .collect();
            let roc = roc_curve(p.column(c), labels.view())?;
            let points = roc.false_positive_rate.into_iter().zip(roc.true_positive_rate).collect();
            let name = self.task.class_names.get(c).map_or_else(|| c.to_string(), String::clone);
            let label = format!("{name} {:.3} ({:.3}–{:.3})", interval.estimate, interval.low, interval.high);
            curves.push(Series::new(label, points));
        }
        Ok(curves)
    }

    /// The numbers for a report's table.
    pub fn scores(&self) -> Vec<Score> {
        let best = self.best();
        let n = best.test.predictions.ids.len();
        let auroc_note = match self.task.kind {
            TaskKind::Binary => "class 1 against 0; ties count one half",
            TaskKind::Multilabel => "mean over findings that occur",
            _ => "each class against the rest, mean over classes that occur",
        };
        let accuracy_note =
            if self.task.kind == TaskKind::Multilabel { "findings right at 0.5" } else { "most probable class" };
        vec![
            score("AUROC", best.test.auroc).with_n(n).with_note(auroc_note),
            score("accuracy", best.test.accuracy).with_n(n).with_note(accuracy_note),
        ]
    }

    /// Scores, plots and the confusion matrix for a report's section.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn blocks(&self) -> Result<Vec<Block>> {
        let mut scores = self.scores();
        let best = self.best();
        if best.test.auroc_by_class.len() > 1 {
            for (c, interval) in best.test.auroc_by_class.iter().enumerate() {
                let name = self.task.class_names.get(c).map_or_else(|| c.to_string(), String::clone);
                scores.push(score(format!("AUROC, {name}"), *interval));
            }
        }
        let figures = self.plots()?.into_iter().map(|(_, svg, caption)| Figure::plot(svg, caption)).collect();
        let mut blocks = vec![Block::Scores(scores), Block::Figures { heading: "Curves".into(), figures }];
        if self.task.kind != TaskKind::Multilabel {
            let truth: Option<Vec<usize>> = best
                .test
                .predictions
                .targets
                .iter()
                .map(|t| if let Target::Class(c) = t { Some(*c) } else { None })
                .collect();
            if let Some(truth) = truth {
                let predicted = best.test.predictions.classes();
                blocks.push(Block::Confusion(Confusion::from_classes(
                    self.task.class_names.clone(),
                    &truth,
                    &predicted,
                )?));
            }
        }
        Ok(blocks)
    }
}

fn metric(interval: Option<Interval>) -> MetricValue {
    match interval {
        Some(i) => MetricValue::single(i.estimate).with_ci95(i.low, i.high),
        None => MetricValue::single(f64::NAN),
    }
}

fn score(name: impl Into<String>, interval: Option<Interval>) -> Score {
    match interval {
        Some(i) => Score::new(name, i.estimate).with_ci95(i.low, i.high),
        None => Score::new(name, f64::NAN),
    }
}

fn tensor(features: &Array2<f32>) -> Result<Tensor> {
    Ok(Tensor::from_vec(features.iter().copied().collect::<Vec<f32>>(), features.dim(), &Device::Cpu)?)
}
