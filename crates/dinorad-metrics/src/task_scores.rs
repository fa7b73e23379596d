//! Every score of a run from its predictions, under any case weights.

use std::{borrow::Cow, cell::OnceCell};

use dinorad_core::TaskKind;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

use crate::{
    BinaryCounts, BootstrapOptions, Calibration, ConfusionMatrix, Interval, IntervalMethod, KappaWeights, Label,
    MultilabelCounts, RankedScores, Resampling, Result, RunScore, Score, ScoreRule,
    bootstrap::check_cases,
    convention::mean,
    input,
    newcombe::newcombe_interval,
    score_list::{CALIBRATION_BINS, POSITIVE_ABOVE, run_scores},
    wilson::wilson_interval,
};

/// The predictions of a run beside their truths, sorted and counted once, to be scored as they are
/// and on the draws of a bootstrap.
///
/// What every number means stands in [`RUN_SCORES`](crate::RUN_SCORES). Classes or findings without
/// positives or negatives are absent: the means leave them out. A draw that loses one of the others
/// gives no mean, so that every draw averages the same classes.
///
/// # Examples
/// ```
/// use dinorad_metrics::{RunScore, TaskScores};
/// use ndarray::{arr1, arr2};
/// let p = arr2(&[[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]]);
/// let scores = TaskScores::of_classes(p.view(), arr1(&[0u8, 0, 1, 1]).view())?;
/// assert_eq!(scores.value(RunScore::Auroc), Some(0.75));
/// assert_eq!(scores.value(RunScore::Sensitivity), Some(0.5));
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TaskScores {
    task: TaskKind,
    /// One for class 1 of two; else one for each class or finding.
    columns: Vec<Column>,
    answers: Answers,
    /// Squared differences of every case, summed as the task's Brier score sums; `None` where a
    /// score is no probability.
    squared: Option<Vec<f64>>,
    /// `None` where a score is no probability.
    calibration: Option<Binned>,
}

/// Every probability that is to come true, in the bin of its confidence: a calibration error under any
/// case weights is a single pass over them.
#[derive(Debug, Clone)]
struct Binned {
    /// Of every probability, those of a case beside each other.
    of: Vec<InBin>,
    /// How many each case has.
    per_case: usize,
    bins: usize,
}

#[derive(Debug, Clone, Copy)]
struct InBin {
    bin: usize,
    /// 1 where it came true, less the confidence.
    apart: f64,
}

impl Binned {
    /// `confidences` and whether they came true, `per_case` in a row for every case.
    fn new(confidences: impl Iterator<Item = (f64, bool)>, per_case: usize) -> Result<Self> {
        let edges = Calibration::new(CALIBRATION_BINS)?;
        let in_bin = |(confidence, hit): (f64, bool)| InBin {
            bin: edges.bin_of(confidence),
            apart: f64::from(u8::from(hit)) - confidence,
        };
        Ok(Self { of: confidences.map(in_bin).collect(), per_case, bins: edges.edges().len() })
    }

    /// The expected calibration error. The number of a bin's cases times the distance of its accuracy and
    /// its confidence is the sum of what its cases are apart.
    fn expected_error(&self, weights: &[u32]) -> Option<f64> {
        let mut apart = vec![0.0; self.bins];
        let mut total = 0.0;
        for (of_case, weight) in self.of.chunks_exact(self.per_case).zip(weights) {
            let weight = f64::from(*weight);
            for one in of_case {
                apart[one.bin] += weight * one.apart;
            }
            total += weight * self.per_case as f64;
        }
        (total > 0.0).then(|| apart.iter().map(|sum| sum.abs()).sum::<f64>() / total)
    }
}

#[derive(Debug, Clone)]
struct Column {
    scores: Vec<f64>,
    positive: Vec<bool>,
    ranked: RankedScores,
    /// Whether it has positives and negatives.
    present: bool,
}

impl Column {
    fn new(scores: Vec<f64>, positive: Vec<bool>) -> Result<Self> {
        let ranked = RankedScores::from_parts(&scores, &positive)?;
        let present = ranked.positives() > 0 && ranked.negatives() > 0;
        Ok(Self { scores, positive, ranked, present })
    }

    /// In how many groups any positive, or any negative, case lies.
    fn groups(&self, positive: bool, resampling: &Resampling) -> usize {
        let cases = self.positive.iter().enumerate().filter(|(_, p)| **p == positive);
        resampling.groups_of(cases.map(|(case, _)| case))
    }
}

/// What is true and what was called.
#[derive(Debug, Clone)]
enum Answers {
    /// Class of every case, of so many classes.
    Classes { truth: Vec<usize>, called: Vec<usize>, classes: usize },
    /// `(n, findings)`.
    Findings { truth: Array2<bool>, called: Array2<bool> },
}

/// One score of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreValue {
    /// What it is.
    pub rule: &'static ScoreRule,
    /// The value; `None` where it is undefined.
    pub value: Option<f64>,
    /// Its interval, where the rule says that it has one and it is defined.
    pub interval: Option<Interval>,
}

/// All scores of a run with their intervals, from [`TaskScores::report`].
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreReport {
    /// Every score of the task, in the order of [`RUN_SCORES`](crate::RUN_SCORES).
    pub scores: Vec<ScoreValue>,
    /// AUROC by class or finding; one entry (class 1) for two classes. `None` for an absent one.
    pub auroc_by_class: Vec<Option<Interval>>,
    /// Average precision, the same way.
    pub average_precision_by_class: Vec<Option<f64>>,
    /// Its intervals; `None` also where all draws are equal, as they then say nothing about chance.
    pub average_precision_intervals: Vec<Option<Interval>>,
    /// Classes or findings without positives or negatives.
    pub absent: Vec<usize>,
}

impl ScoreReport {
    /// One of the scores; `None` if the task does not have it.
    pub fn get(&self, score: RunScore) -> Option<&ScoreValue> {
        self.scores.iter().find(|s| s.rule.score == score)
    }
}

impl TaskScores {
    /// Probabilities `(n, classes)` of cases that have one class each, `(n,)` indices. Two classes
    /// are a binary task whose class 1 is the positive one.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::Empty`](crate::Error::Empty),
    /// [`Error::NaN`](crate::Error::NaN), [`Error::Label`](crate::Error::Label) for input that does
    /// not fit.
    pub fn of_classes<S: Score, L: Label>(
        probabilities: ArrayView2<'_, S>,
        targets: ArrayView1<'_, L>,
    ) -> Result<Self> {
        let (p, truth) = input::multiclass(probabilities, targets)?;
        let classes = ConfusionMatrix::new(p.ncols())?.classes();
        let called: Vec<usize> = p.rows().into_iter().map(input::argmax).collect();
        let binary = classes == 2;
        let columns = (usize::from(binary)..classes)
            .map(|c| Column::new(p.column(c).to_vec(), truth.iter().map(|t| *t == c).collect()))
            .collect::<Result<Vec<_>>>()?;
        let is_probability = is_probability(&p);
        // of two classes how often the second comes true, else how often the most probable one does
        let confidence = |(case, called): (usize, &usize)| match binary {
            true => (p[[case, 1]], truth[case] == 1),
            false => (p[[case, *called]], truth[case] == *called),
        };
        let calibration = is_probability.then(|| Binned::new(called.iter().enumerate().map(confidence), 1));
        Ok(TaskScores {
            task: if binary { TaskKind::Binary } else { TaskKind::Multiclass },
            squared: is_probability.then(|| squared(&columns, 1.0)),
            calibration: calibration.transpose()?,
            columns,
            answers: Answers::Classes { truth, called, classes },
        })
    }

    /// Probabilities and 0/1 targets, both `(n, findings)`, of cases that may have any number of
    /// findings. A finding is called present above [`POSITIVE_ABOVE`](crate::POSITIVE_ABOVE).
    ///
    /// # Errors
    /// As [`TaskScores::of_classes`].
    pub fn of_findings<S: Score, L: Label>(
        probabilities: ArrayView2<'_, S>,
        targets: ArrayView2<'_, L>,
    ) -> Result<Self> {
        let (p, truth) = input::multilabel(probabilities, targets)?;
        let columns = (p.axis_iter(Axis(1)).zip(truth.axis_iter(Axis(1))))
            .map(|(p, t)| Column::new(p.to_vec(), t.to_vec()))
            .collect::<Result<Vec<_>>>()?;
        let is_probability = is_probability(&p);
        // row by row: every case has one for each finding
        let confidences = p.iter().copied().zip(truth.iter().copied());
        let calibration = is_probability.then(|| Binned::new(confidences, columns.len().max(1)));
        Ok(TaskScores {
            task: TaskKind::Multilabel,
            squared: is_probability.then(|| squared(&columns, columns.len() as f64)),
            calibration: calibration.transpose()?,
            columns,
            answers: Answers::Findings { truth, called: p.mapv(|p| p > POSITIVE_ABOVE) },
        })
    }

    /// The kind of task whose rules are followed.
    pub fn task(&self) -> TaskKind {
        self.task
    }

    /// Number of cases.
    pub fn cases(&self) -> usize {
        self.columns.first().map_or(0, |c| c.positive.len())
    }

    /// Cases of every class, or positives of every finding.
    pub fn positives(&self) -> Vec<usize> {
        match &self.answers {
            Answers::Classes { truth, classes, .. } => {
                let mut counts = vec![0; *classes];
                truth.iter().for_each(|t| counts[*t] += 1);
                counts
            }
            Answers::Findings { .. } => self.columns.iter().map(|c| c.ranked.positives()).collect(),
        }
    }

    /// Classes or findings without positives or negatives; of two classes, the one that is missing.
    pub fn absent(&self) -> Vec<usize> {
        if self.task == TaskKind::Binary {
            let counts = self.positives();
            return (0..2).filter(|c| counts[*c] == 0).collect();
        }
        (0..self.columns.len()).filter(|c| !self.columns[*c].present).collect()
    }

    /// The accuracy of always giving the most frequent answer: the largest class, or for every finding
    /// whether it is present in more cases than not.
    pub fn majority_accuracy(&self) -> f64 {
        let n = self.cases().max(1) as f64;
        let counts = self.positives();
        match &self.answers {
            Answers::Classes { .. } => counts.into_iter().max().unwrap_or(0) as f64 / n,
            Answers::Findings { .. } => {
                let of = |positives: &usize| (*positives).max(self.cases() - positives) as f64 / n;
                counts.iter().map(of).sum::<f64>() / counts.len().max(1) as f64
            }
        }
    }

    /// Whether every case has the same scores, so that nothing is told apart.
    pub fn is_constant(&self) -> bool {
        self.columns.iter().all(|c| c.scores.iter().all(|s| *s == c.scores[0]))
    }

    /// A score on the cases as they are; `None` where it is undefined or not one of the task's.
    pub fn value(&self, score: RunScore) -> Option<f64> {
        self.under(None).of(score)
    }

    /// A score with case `i` counted `weights[i]` times; `None` also for too few weights.
    pub fn weighted_value(&self, score: RunScore, weights: &[u32]) -> Option<f64> {
        if weights.len() < self.cases() {
            return None;
        }
        self.under(Some(weights)).of(score)
    }

    /// Every score of the task with its bootstrap interval, all on the same draws.
    ///
    /// Where all draws are equal, as at an AUROC or accuracy of 1, they say nothing about chance. The
    /// interval of a curve is then Newcombe's, on as many positives and negatives as there are groups
    /// with either; that of accuracy, sensitivity and specificity is Wilson's, on the groups that have
    /// such cases; that of a mean over classes, and of the balanced accuracy, is the mean of their ends.
    /// Scores that are no share (F1, average precision, kappa, Brier, calibration error) then have none.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `resampling` has another number of cases,
    /// [`Error::Parameter`](crate::Error::Parameter) for options out of range.
    pub fn report(&self, resampling: &Resampling, options: &BootstrapOptions) -> Result<ScoreReport> {
        check_cases(resampling, self.cases())?;
        let drawn: Vec<RunScore> = run_scores(self.task).filter(|r| r.interval).map(|r| r.score).collect();
        let metrics = |weights: &[u32]| {
            let weighted = self.under(Some(weights));
            let mut values: Vec<Option<f64>> = drawn.iter().map(|s| weighted.of(*s)).collect();
            values.extend(weighted.areas());
            values.extend(weighted.precisions());
            values
        };
        let mut intervals = resampling.bootstrap_many(options, metrics)?.into_iter();
        let plain = self.under(None);
        let mut scores = Vec::new();
        for rule in run_scores(self.task) {
            let interval = if rule.interval { intervals.next().flatten() } else { None };
            scores.push(ScoreValue { rule, value: plain.of(rule.score), interval });
        }
        let mut auroc_by_class: Vec<Option<Interval>> = intervals.by_ref().take(self.columns.len()).collect();
        let average_precision_intervals = intervals.map(|i| i.filter(|i| !i.is_point())).collect();
        self.widen(&mut auroc_by_class, resampling)?;
        for score in &mut scores {
            let Some(drawn) = score.interval.filter(Interval::is_point) else { continue };
            score.interval = match score.rule.score {
                RunScore::Auroc => Some(mean_of_curves(drawn, &auroc_by_class)),
                share => self.wilson(share, drawn, resampling)?,
            };
        }
        Ok(ScoreReport {
            scores,
            auroc_by_class,
            average_precision_by_class: plain.precisions().to_vec(),
            average_precision_intervals,
            absent: self.absent(),
        })
    }

    /// Gives curves whose draws are all equal an interval with a width.
    fn widen(&self, curves: &mut [Option<Interval>], resampling: &Resampling) -> Result<()> {
        for (column, interval) in self.columns.iter().zip(curves) {
            let Some(interval) = interval.as_mut().filter(|i| i.is_point()) else { continue };
            let groups = |positive: bool| column.groups(positive, resampling);
            let level = interval.level;
            (interval.low, interval.high) = newcombe_interval(interval.estimate, groups(true), groups(false), level)?;
            interval.method = IntervalMethod::Newcombe;
        }
        Ok(())
    }

    /// Wilson's interval of a score that is a share, or a mean of shares; `None` for any other.
    fn wilson(&self, score: RunScore, drawn: Interval, resampling: &Resampling) -> Result<Option<Interval>> {
        let plain = self.under(None);
        let shares = |of: fn(&BinaryCounts) -> Option<f64>, positive: bool| -> Vec<(Option<f64>, usize)> {
            let columns = self.columns.iter().zip(&plain.counted().columns).filter(|(column, _)| column.present);
            columns.map(|(column, counts)| (of(counts), column.groups(positive, resampling))).collect()
        };
        let sensitivity = || shares(BinaryCounts::sensitivity, true);
        let specificity = || shares(BinaryCounts::specificity, false);
        let shares = match score {
            RunScore::Accuracy => vec![(Some(drawn.estimate), resampling.groups())],
            RunScore::Sensitivity => sensitivity(),
            RunScore::Specificity => specificity(),
            // as many of one as of the other, so that the mean over all is the mean of both
            RunScore::BalancedAccuracy if self.task == TaskKind::Binary => [sensitivity(), specificity()].concat(),
            RunScore::BalancedAccuracy => sensitivity(),
            _ => return Ok(None),
        };
        let ends = shares.into_iter().filter_map(|(share, n)| Some(wilson_interval(share?, n, drawn.level)));
        let ends = ends.collect::<Result<Vec<_>>>()?;
        let end = |of: fn(&(f64, f64)) -> f64| mean(ends.iter().map(of));
        let ends = end(|e| e.0).zip(end(|e| e.1));
        Ok(ends.map(|(low, high)| Interval { low, high, method: IntervalMethod::Wilson, ..drawn }))
    }

    /// Whether both were judged against the same answers.
    pub(crate) fn same_truth(&self, other: &Self) -> bool {
        match (&self.answers, &other.answers) {
            (Answers::Classes { truth: a, classes: m, .. }, Answers::Classes { truth: b, classes: n, .. }) => {
                m == n && a == b
            }
            (Answers::Findings { truth: a, .. }, Answers::Findings { truth: b, .. }) => a == b,
            _ => false,
        }
    }

    /// Scores and truth, where a single curve says everything.
    pub(crate) fn only_curve(&self) -> Option<(&[f64], &[bool])> {
        match self.columns.as_slice() {
            [only] => Some((&only.scores, &only.positive)),
            _ => None,
        }
    }

    fn under<'a>(&'a self, weights: Option<&'a [u32]>) -> Weighted<'a> {
        let weights = weights.map_or_else(|| Cow::Owned(vec![1; self.cases()]), Cow::Borrowed);
        let (counted, areas, precisions) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Weighted { scores: self, weights, counted, areas, precisions }
    }
}

/// The scores under some weights.
struct Weighted<'a> {
    scores: &'a TaskScores,
    weights: Cow<'a, [u32]>,
    /// Counted once, when first asked for.
    counted: OnceCell<Counted>,
    /// Area under the ROC curve of every column, the same way.
    areas: OnceCell<Vec<Option<f64>>>,
    /// Average precision of every column, the same way.
    precisions: OnceCell<Vec<Option<f64>>>,
}

/// Right and wrong under some weights.
struct Counted {
    /// Of every column.
    columns: Vec<BinaryCounts>,
    /// Of classes.
    matrix: Option<ConfusionMatrix>,
}

impl Weighted<'_> {
    fn counted(&self) -> &Counted {
        self.counted.get_or_init(|| {
            let of = self.scores.columns.len();
            match &self.scores.answers {
                Answers::Classes { truth, called, classes } => {
                    let mut matrix = ConfusionMatrix::of_checked(*classes);
                    for ((t, c), w) in truth.iter().zip(called).zip(self.weights.iter()) {
                        matrix.add(*t, *c, u64::from(*w));
                    }
                    // of two classes the second alone has a column
                    let columns = (classes - of..*classes).map(|c| matrix.one_vs_rest(c)).collect();
                    Counted { columns, matrix: Some(matrix) }
                }
                Answers::Findings { truth, called } => {
                    let mut all = MultilabelCounts::new(of);
                    for ((t, c), w) in truth.rows().into_iter().zip(called.rows()).zip(self.weights.iter()) {
                        all.add_row(c, t, u64::from(*w));
                    }
                    Counted { columns: all.labels().to_vec(), matrix: None }
                }
            }
        })
    }

    fn areas(&self) -> &[Option<f64>] {
        let area = |c: &Column| c.ranked.weighted_auroc(&self.weights);
        self.areas.get_or_init(|| self.scores.columns.iter().map(area).collect())
    }

    /// None of a column that is absent: where all cases are positive there is nothing to find.
    fn precisions(&self) -> &[Option<f64>] {
        let precision = |c: &Column| if c.present { c.ranked.weighted_average_precision(&self.weights) } else { None };
        self.precisions.get_or_init(|| self.scores.columns.iter().map(precision).collect())
    }

    /// A ratio of counts, mean over the columns that occur.
    fn ratio(&self, of: fn(&BinaryCounts) -> Option<f64>) -> Option<f64> {
        self.mean_of(|c| of(&self.counted().columns[c]))
    }

    fn of(&self, score: RunScore) -> Option<f64> {
        match score {
            RunScore::Auroc => self.mean_of(|c| self.areas()[c]),
            RunScore::Accuracy => match &self.counted().matrix {
                Some(matrix) => matrix.accuracy(),
                None => {
                    let all = self.counted().columns.iter();
                    all.fold(BinaryCounts::default(), |sum, c| sum.plus(c)).accuracy()
                }
            },
            RunScore::AveragePrecision => self.mean_of(|c| self.precisions()[c]),
            RunScore::Sensitivity => self.ratio(BinaryCounts::sensitivity),
            RunScore::Specificity => self.ratio(BinaryCounts::specificity),
            RunScore::F1 => self.ratio(BinaryCounts::f1),
            RunScore::Kappa => self.counted().matrix.as_ref()?.cohens_kappa(KappaWeights::None),
            RunScore::Brier => self.brier(),
            RunScore::BalancedAccuracy => match self.scores.task {
                TaskKind::Binary => self.ratio(BinaryCounts::balanced_accuracy),
                TaskKind::Multiclass => self.ratio(BinaryCounts::sensitivity),
                _ => None,
            },
            RunScore::Ece => self.scores.calibration.as_ref()?.expected_error(&self.weights),
            RunScore::Dice | RunScore::Jaccard | RunScore::DiceByVolume => None,
        }
    }

    /// Mean over the columns that occur; `None` if any of them has no value.
    fn mean_of(&self, value: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let occurring = (0..self.scores.columns.len()).filter(|c| self.scores.columns[*c].present);
        mean(occurring.map(value).collect::<Option<Vec<f64>>>()?.into_iter())
    }

    fn brier(&self) -> Option<f64> {
        let squared = self.scores.squared.as_ref()?;
        let (mut sum, mut total) = (0.0, 0.0);
        for (s, w) in squared.iter().zip(self.weights.iter()) {
            sum += f64::from(*w) * s;
            total += f64::from(*w);
        }
        (total > 0.0).then(|| sum / total)
    }
}

/// The interval of a mean of curves whose draws are all equal.
fn mean_of_curves(drawn: Interval, curves: &[Option<Interval>]) -> Interval {
    let end = |of: fn(&Interval) -> f64| mean(curves.iter().flatten().map(of));
    Interval {
        low: end(|i| i.low).unwrap_or(drawn.low),
        high: end(|i| i.high).unwrap_or(drawn.high),
        method: IntervalMethod::Newcombe,
        ..drawn
    }
}

fn is_probability(p: &Array2<f64>) -> bool {
    p.iter().all(|v| (0.0..=1.0).contains(v))
}

/// The sum over columns of the squared difference of probability and truth, over `per`, by case.
fn squared(columns: &[Column], per: f64) -> Vec<f64> {
    let n = columns.first().map_or(0, |c| c.scores.len());
    let apart = |c: &Column, i: usize| (c.scores[i] - f64::from(u8::from(c.positive[i]))).powi(2);
    (0..n).map(|i| columns.iter().map(|c| apart(c, i)).sum::<f64>() / per).collect()
}
