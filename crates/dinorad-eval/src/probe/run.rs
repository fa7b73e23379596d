//! What came out of a method on features: numbers, files, plots.

use std::sync::Arc;

use dinorad_aggregate::GatedAttentionPool;
use dinorad_core::{Target, Task, TaskKind, method::SearchAxis};
use dinorad_metrics::{Interval, RunScore, run_scores};

use super::{Fitted, Judged, Labelled, Method, ProbeOptions, Refit, Setting, figures, judge};
use crate::{
    Error, Result,
    plot::{self, LinePlot, Marks, Series, XScale},
    report::{Block, Confusion, Figure, Score},
    run::{MetricValue, MetricsFile, RunFolder},
};

/// What one setting gave.
#[derive(Debug, Clone)]
pub struct OfSetting {
    /// Which.
    pub setting: Setting,
    /// AUROC on validation, where there is one.
    pub val_auroc: Option<f64>,
    /// Accuracy on validation, where there is one.
    pub val_accuracy: Option<f64>,
    /// On test: of every `k`, else of the chosen setting alone.
    pub test: Option<Judged>,
}

/// A whole run of [`probe`](super::probe).
#[derive(Debug, Clone)]
pub struct ProbeRun {
    pub(super) method: Box<dyn Method>,
    pub(super) task: Task,
    pub(super) options: ProbeOptions,
    pub(super) of_setting: Vec<OfSetting>,
    pub(super) best: usize,
    pub(super) val: Option<Judged>,
    pub(super) test: Judged,
    pub(super) trained_on: usize,
    pub(super) chosen_by: &'static str,
    pub(super) notices: Vec<String>,
    pub(super) search_digest: String,
    pub(super) model_digest: String,
    pub(super) model: Arc<dyn Fitted>,
    pub(super) model_at: usize,
    pub(super) pool: Option<GatedAttentionPool>,
}

impl ProbeRun {
    /// The method.
    pub fn method(&self) -> &dyn Method {
        &*self.method
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// How it was judged.
    pub fn options(&self) -> &ProbeOptions {
        &self.options
    }

    /// What every setting gave, in order.
    pub fn of_setting(&self) -> &[OfSetting] {
        &self.of_setting
    }

    /// The setting that validation chose.
    pub fn best(&self) -> &Setting {
        &self.of_setting[self.best].setting
    }

    /// The chosen setting on validation, where there is one.
    pub fn val(&self) -> Option<&Judged> {
        self.val.as_ref()
    }

    /// The chosen setting on test.
    pub fn test(&self) -> &Judged {
        &self.test
    }

    /// Cases that the tested model was trained on; for kNN, the gallery.
    pub fn trained_on(&self) -> usize {
        self.trained_on
    }

    /// What the reader of the numbers should know: absent classes, another rule of choice.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// A hash over everything that was learned on the train split, by all settings.
    pub fn search_digest(&self) -> &str {
        &self.search_digest
    }

    /// A hash over everything the tested model learned.
    pub fn model_digest(&self) -> &str {
        &self.model_digest
    }

    /// The tested model; for kNN and ML-kNN with every setting.
    pub fn model(&self) -> &dyn Fitted {
        &*self.model
    }

    /// The tested model on other cases: the test split under a shift, another data set.
    ///
    /// # Errors
    /// [`Error::EmptySplit`](crate::Error::EmptySplit), [`Error::NotFinite`](crate::Error::NotFinite),
    /// [`Error::Heads`](crate::Error::Heads) for features of another width.
    pub fn judge(&self, cases: &Labelled) -> Result<Judged> {
        cases.check("other")?;
        let pooled = self.pool.as_ref().map(|pool| cases.pooled_by(pool)).transpose()?;
        let cases = pooled.as_ref().unwrap_or(cases);
        let p = super::probabilities(&*self.model, cases)?.into_iter().nth(self.model_at);
        let p = p.ok_or_else(|| Error::shape("predictions", "one for each setting", &[0]))?;
        judge(cases, p, &self.task, &self.options.bootstrap)
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
        let trained = match self.options.refit {
            Refit::Train => "train",
            Refit::TrainVal if self.val.is_none() => "train",
            Refit::TrainVal => "train and validation",
        };
        let b = &self.options.bootstrap;
        let unit = if self.test.patients.iter().all(Option::is_some) { "patients" } else { "cases" };
        format!(
            "{}; settings chosen on validation by {}, tested model trained on {trained}; {auroc}; ci95: percentile \
             bootstrap over {unit}, {} draws, seed {}",
            self.options.protocol, self.chosen_by, b.draws, b.seed
        )
    }

    /// `metrics.json`.
    pub fn metrics(&self) -> MetricsFile {
        let mut file = MetricsFile::new(1, self.convention());
        file.setting = Some(self.best().label.clone());
        file.model = Some(self.model_digest.clone());
        file.notices = self.notices.clone();
        for of in &self.of_setting {
            let slug = &of.setting.slug;
            for (name, value) in [("auroc", of.val_auroc), ("accuracy", of.val_accuracy)] {
                if self.val.is_some() {
                    file.set("val", format!("{name}_{slug}"), MetricValue::single(value.unwrap_or(f64::NAN)));
                }
            }
            if let Some(test) = of.test.as_ref().filter(|_| self.method.tables_every_setting()) {
                file.set("test", format!("auroc_{slug}"), metric(test.auroc));
                file.set("test", format!("accuracy_{slug}"), metric(test.accuracy));
            }
        }
        for (split, judged) in [("val", self.val.as_ref()), ("test", Some(&self.test))] {
            let Some(judged) = judged else { continue };
            self.set_all(&mut file, split, judged);
            for (name, value) in &self.best().values {
                file.set(split, *name, MetricValue::single(*value));
            }
        }
        file
    }

    /// Every number of one judgement under the name of a split.
    pub fn set_all(&self, file: &mut MetricsFile, split: &str, judged: &Judged) {
        file.set(split, "auroc", metric(judged.auroc));
        file.set(split, "accuracy", metric(judged.accuracy));
        if judged.auroc_by_class.len() > 1 {
            for (c, interval) in judged.auroc_by_class.iter().enumerate() {
                file.set(split, format!("auroc_class_{c}"), metric(*interval));
            }
            for (c, value) in judged.average_precision_by_class.iter().enumerate() {
                let value = MetricValue::single(value.unwrap_or(f64::NAN));
                file.set(split, format!("average_precision_class_{c}"), value);
            }
        }
        for other in &judged.others {
            let mut value = MetricValue::single(other.value.unwrap_or(f64::NAN));
            if let Some(i) = other.interval {
                value = value.with_ci95(i.low, i.high);
            }
            file.set(split, other.name.clone(), value);
        }
    }

    /// Writes `metrics.json`, `predictions.csv` (the chosen setting on test), `predictions-val.csv`,
    /// `predictions-k*.csv` for kNN, the model where there is one, and the plots.
    ///
    /// # Errors
    /// [`Error::Report`](crate::Error::Report).
    pub fn write(&self, run: &RunFolder) -> Result<()> {
        self.write_parts(run)?;
        run.write_metrics(&self.metrics())?;
        Ok(())
    }

    /// Everything but `metrics.json`, to which others may add.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_parts(&self, run: &RunFolder) -> Result<()> {
        if self.method.tables_every_setting() {
            for of in &self.of_setting {
                if let Some(test) = &of.test {
                    run.write_predictions(&format!("predictions-{}", of.setting.slug), &test.predictions)?;
                }
            }
        }
        run.write_predictions("predictions", &self.test.predictions)?;
        if let Some(val) = &self.val {
            run.write_predictions("predictions-val", &val.predictions)?;
        }
        self.model.save(self.model_at, &run.path().join("model.safetensors"))?;
        for (name, svg, _) in self.plots()? {
            run.write_plot(name, &svg)?;
        }
        Ok(())
    }

    /// Name, SVG and caption of every plot that these results allow.
    ///
    /// # Errors
    /// [`Error::Report`](crate::Error::Report).
    pub fn plots(&self) -> Result<Vec<(&'static str, String, String)>> {
        let mut plots = Vec::new();
        let setting = &self.best().label;
        let mut push = |name, svg: Option<String>, caption: String| {
            svg.into_iter().for_each(|svg| plots.push((name, svg, caption.clone())));
        };
        let (test, task) = (&self.test, &self.task);
        push("roc", figures::roc(test, task)?, format!("ROC on the test split, {setting}."));
        let caption = format!("Precision over recall on the test split, {setting}.");
        push("precision-recall", figures::precision_recall(test, task)?, caption);
        let of = match (task.kind, test.predictions.probabilities.ncols()) {
            (TaskKind::Multilabel, _) => "every finding".to_owned(),
            (_, 2) => task.class_names.get(1).cloned().unwrap_or_else(|| "class 1".into()),
            _ => "the most probable class".into(),
        };
        let caption = format!("Do probabilities of {of} come true? Test split; bars: share of cases.");
        push("reliability", figures::reliability(test, task)?, caption);
        if let Some((axis, series)) = self.search_series().filter(|(_, s)| s.iter().any(|s| s.points.len() > 1)) {
            let options = LinePlot {
                x_label: axis.label.into(),
                y_label: "AUROC".into(),
                y_range: None,
                x_scale: XScale::Log,
                marks: Marks::Dots,
            };
            let caption = "AUROC by setting; the one that is best on validation is reported.".to_owned();
            plots.push((axis.plot, plot::lines(&options, &series)?, caption));
        }
        Ok(plots)
    }

    /// The axis and the lines of the plot of the search.
    fn search_series(&self) -> Option<(SearchAxis, Vec<Series>)> {
        let axis = self.method.search_axis()?;
        let mut series: Vec<Series> = Vec::new();
        let mut push = |line: String, x: f64, y: Option<f64>| {
            let Some(y) = y else { return };
            match series.iter_mut().find(|s| s.name == line) {
                Some(s) => s.points.push((x, y)),
                None => series.push(Series::new(line, vec![(x, y)])),
            }
        };
        let rest = |of: &OfSetting| -> Vec<String> {
            of.setting.values.iter().filter(|(n, _)| *n != axis.value).map(|(n, v)| format!("{n} {v}")).collect()
        };
        // Settings that differ in more than the axis are lines of their own.
        let first = self.of_setting.first().map(rest).unwrap_or_default();
        let many = self.of_setting.iter().any(|of| rest(of) != first);
        for of in &self.of_setting {
            let Some((_, x)) = of.setting.values.iter().find(|(n, _)| *n == axis.value) else { continue };
            let line = |what: &str| if many { format!("{what}, {}", rest(of).join(", ")) } else { what.to_owned() };
            push(line("validation"), *x, of.val_auroc);
            if self.method.tables_every_setting() && !many {
                push("test".into(), *x, of.test.as_ref().and_then(|t| t.auroc).map(|i| i.estimate));
            }
        }
        Some((axis, series))
    }

    /// The numbers for a report's table.
    pub fn scores(&self) -> Vec<Score> {
        let n = self.test.predictions.ids.len();
        let note = |score: RunScore| score.rule(self.scored_as()).map_or("", |rule| rule.convention);
        vec![
            score("AUROC", self.test.auroc).with_n(n).with_note(note(RunScore::Auroc)),
            score("accuracy", self.test.accuracy).with_n(n).with_note(note(RunScore::Accuracy)),
        ]
    }

    /// The kind of task whose scores the run has: two classes are a binary task.
    fn scored_as(&self) -> TaskKind {
        match self.task.kind {
            TaskKind::Multiclass if self.task.n_classes() == 2 => TaskKind::Binary,
            kind => kind,
        }
    }

    /// Scores, plots and the confusion matrix for a report's section.
    ///
    /// # Errors
    /// [`Error::Report`](crate::Error::Report).
    pub fn blocks(&self) -> Result<Vec<Block>> {
        let mut scores = self.scores();
        let n = self.test.predictions.ids.len();
        for other in &self.test.others {
            let rule = run_scores(self.scored_as()).find(|rule| rule.name == other.name);
            let title = rule.map_or(other.name.as_str(), |rule| rule.title);
            let mut line = Score::new(title, other.value.unwrap_or(f64::NAN)).with_n(n);
            if let Some(i) = other.interval {
                line = line.with_ci95(i.low, i.high);
            }
            scores.push(line);
        }
        if self.test.auroc_by_class.len() > 1 {
            for (c, interval) in self.test.auroc_by_class.iter().enumerate() {
                let name = self.task.class_names.get(c).map_or_else(|| c.to_string(), String::clone);
                scores.push(score(format!("AUROC, {name}"), *interval));
            }
        }
        let figures = self.plots()?.into_iter().map(|(_, svg, caption)| Figure::plot(svg, caption)).collect();
        let mut blocks = vec![Block::Scores(scores), Block::Figures { heading: "Curves".into(), figures }];
        let truth: Option<Vec<usize>> = self
            .test
            .predictions
            .targets
            .iter()
            .map(|t| if let Target::Class(c) = t { Some(*c) } else { None })
            .collect();
        if let Some(truth) = truth.filter(|_| self.task.kind != TaskKind::Multilabel) {
            let predicted = self.test.predictions.classes();
            blocks.push(Block::Confusion(Confusion::from_classes(self.task.class_names.clone(), &truth, &predicted)?));
        }
        for notice in &self.notices {
            blocks.push(Block::Note(notice.clone()));
        }
        Ok(blocks)
    }
}

pub(crate) fn metric(interval: Option<Interval>) -> MetricValue {
    match interval {
        Some(i) => MetricValue::single(i.estimate).with_ci95(i.low, i.high),
        None => MetricValue::single(f64::NAN),
    }
}

pub(crate) fn score(name: impl Into<String>, interval: Option<Interval>) -> Score {
    match interval {
        Some(i) => Score::new(name, i.estimate).with_ci95(i.low, i.high),
        None => Score::new(name, f64::NAN),
    }
}
