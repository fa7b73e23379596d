//! What came out of a method on features: numbers, files, plots.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use dinorad_aggregate::GatedAttentionPool;
use dinorad_core::{Task, TaskKind, method::MODEL_FILE};
use dinorad_nn::Trainable;
use dinorad_report::{
    CaseTable, LearningCurve, MetricValue, Metrics, RunWriter, Search, SearchAxis, Searched, folder::POOLING,
};

use super::{Evaluation, Fitted, Labelled, Method, ProbeOptions, Refit, Setting, judge, numbers::metric};
use crate::{Error, Result};

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
    pub test: Option<Evaluation>,
}

/// A whole run of [`probe`](super::probe).
#[derive(Debug, Clone)]
pub struct ProbeRun {
    pub(super) method: Box<dyn Method>,
    pub(super) task: Task,
    pub(super) options: ProbeOptions,
    pub(super) of_setting: Vec<OfSetting>,
    pub(super) best: usize,
    pub(super) val: Option<Evaluation>,
    pub(super) test: Evaluation,
    pub(super) trained_on: usize,
    pub(super) chosen_by: &'static str,
    pub(super) notices: Vec<String>,
    pub(super) search_digest: String,
    pub(super) model_digest: String,
    pub(super) learning: Vec<LearningCurve>,
    pub(super) trained_parameters: Option<usize>,
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
    pub fn val(&self) -> Option<&Evaluation> {
        self.val.as_ref()
    }

    /// The chosen setting on test.
    pub fn test(&self) -> &Evaluation {
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
    pub fn judge(&self, cases: &Labelled) -> Result<Evaluation> {
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
                "auroc: mean over findings that occur, absent ones left out; accuracy: share of findings right, called above 0.5"
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
             bootstrap over {unit}, {} resamples, seed {}",
            self.options.protocol, self.chosen_by, b.draws, b.seed
        )
    }

    /// The numbers of the run: what was chosen, every score by part, every setting that was tried.
    pub fn metrics(&self) -> Metrics {
        let mut all = Metrics::new(self.convention());
        all.choose(self.best().label.clone(), self.best().values.iter().copied());
        all.model = Some(self.model_digest.clone());
        all.task = Some(self.task.clone());
        all.notices = self.notices.clone();
        all.search = Some(self.search());
        all.learning = self.learning.clone();
        all.trained_parameters = self.trained_parameters;
        for of in &self.of_setting {
            let slug = &of.setting.slug;
            for (name, value) in [("auroc", of.val_auroc), ("accuracy", of.val_accuracy)] {
                if self.val.is_some() {
                    all.set("val", format!("{name}_{slug}"), MetricValue::single(value.unwrap_or(f64::NAN)));
                }
            }
            if let Some(test) = of.test.as_ref().filter(|_| self.method.tables_every_setting()) {
                all.set("test", format!("auroc_{slug}"), metric(test.auroc));
                all.set("test", format!("accuracy_{slug}"), metric(test.accuracy));
            }
        }
        for (split, judged) in [("val", self.val.as_ref()), ("test", Some(&self.test))] {
            let Some(judged) = judged else { continue };
            judged.write_into(&mut all, split);
            all.count(split, &judged.predictions, &self.task);
        }
        all
    }

    /// What every setting gave.
    fn search(&self) -> Search {
        let axis = self.method.search_axis().map(|axis| SearchAxis {
            value: axis.value.to_owned(),
            label: axis.label.to_owned(),
            plot: axis.plot.to_owned(),
        });
        let number = |v: Option<f64>| MetricValue::single(v.unwrap_or(f64::NAN));
        let settings = self.of_setting.iter().enumerate().map(|(i, of)| {
            let mut metrics: BTreeMap<String, BTreeMap<String, MetricValue>> = BTreeMap::new();
            if self.val.is_some() {
                let scores = [("auroc", of.val_auroc), ("accuracy", of.val_accuracy)];
                metrics.insert("val".into(), scores.map(|(name, v)| (name.to_owned(), number(v))).into());
            }
            if let Some(test) = &of.test {
                let scores = [("auroc", test.auroc), ("accuracy", test.accuracy)];
                metrics.insert("test".into(), scores.map(|(name, v)| (name.to_owned(), metric(v))).into());
            }
            let values = of.setting.values.iter().map(|(name, v)| ((*name).to_owned(), *v)).collect();
            Searched { label: of.setting.label.clone(), values, metrics, chosen: i == self.best }
        });
        Search { score: "auroc".into(), axis, settings: settings.collect() }
    }

    /// Writes the tested model into a folder as [`MODEL_FILE`], the training features with it where they are
    /// the model: the loader of the method's [`Entry`](dinorad_core::method::Entry) reads it back, and it
    /// answers as this run did. A run's own folder has it where [`write`](Self::write) leaves it: without
    /// training features.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File), [`Error::Method`](crate::Error::Method).
    pub fn save_model(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        Ok(self.model.save_whole(self.model_at, &folder.join(MODEL_FILE))?)
    }

    /// Writes the predictions (`predictions`: the chosen setting on test; `predictions-val`;
    /// `predictions-k*` where every setting is tabled), part and patient of every case that was judged,
    /// and the model where there is one.
    ///
    /// # Errors
    /// [`Error::Report`](crate::Error::Report), [`Error::Method`](crate::Error::Method).
    pub fn write(&self, run: &RunWriter) -> Result<()> {
        if self.method.tables_every_setting() {
            for of in &self.of_setting {
                if let Some(test) = &of.test {
                    run.predictions(&format!("predictions-{}", of.setting.slug), &test.predictions)?;
                }
            }
        }
        let mut cases = CaseTable::default();
        for (part, name, judged) in
            [("test", "predictions", Some(&self.test)), ("val", "predictions-val", self.val.as_ref())]
        {
            let Some(judged) = judged else { continue };
            run.predictions(name, &judged.predictions)?;
            let ranks = super::labelled::ranks(&judged.patients);
            for (id, rank) in judged.predictions.ids.iter().zip(ranks) {
                let patient = rank.map(|rank| format!("{part} {rank}"));
                cases.push(id, part, patient.as_deref(), [""; 0])?;
            }
        }
        run.cases(&cases)?;
        self.model.save(self.model_at, &run.model_path())?;
        if let Some(pool) = &self.pool {
            let failed = |e| Error::format(run.path().join(POOLING), "safetensors", e);
            run.file(POOLING, &safetensors::serialize(pool.tensors(), None).map_err(failed)?)?;
        }
        Ok(())
    }
}
