//! The model of a run on new cases.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use candle::Device;
use dinorad_aggregate::GatedAttentionPool;
use dinorad_core::{
    Task,
    method::{Error as MethodError, Fitted, Input},
};
use dinorad_datasets::{Bad, Inputs};
use dinorad_nn::Linear;
use dinorad_report::{
    Predictions, RunFolder, RunWriter,
    folder::{CONFIG, POOLING, PREPARED},
};
use dinorad_transforms::Compose;
use serde::{Deserialize, Serialize};

use super::{Experiment, Loaded, Part, Watch, methods::methods, stored};
use crate::{
    Cases, DatasetCases, Error, InputCases, Result, Settings,
    embed::{EmbedOptions, embed},
    finetune::GivenPixels,
    probe::probabilities,
    row_layout::{Aggregation, RowLayout},
    store::Failure,
};

/// The version of `prepared.json`.
const SCHEMA: u32 = 1;

/// `prepared.json`: what new cases need to be prepared alike, beside the description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Prepared {
    schema: u32,
    settings: Settings,
    /// The values that classes have in label files, where they are not the classes' numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    label_values: Vec<u8>,
}

/// Writes how the cases of a run were prepared.
pub(super) fn keep(folder: &RunWriter, cases: &DatasetCases, slice_step: usize) -> Result<()> {
    let label_values = cases.dataset().label_values();
    let plain = label_values.iter().enumerate().all(|(class, value)| class == usize::from(*value));
    let prepared = Prepared {
        schema: SCHEMA,
        settings: cases.settings().with_slice_step(slice_step),
        label_values: if plain { Vec::new() } else { label_values },
    };
    let failed = |e| Error::format(folder.path().join(PREPARED), "JSON", e);
    let mut text = serde_json::to_vec_pretty(&prepared).map_err(failed)?;
    text.push(b'\n');
    Ok(folder.file(PREPARED, &text)?)
}

/// The model of a run, its encoder, and how both want their cases.
///
/// ```no_run
/// # use dinorad_eval::experiment::{Predictor, Unwatched};
/// # fn main() -> Result<(), dinorad_eval::Error> {
/// let found = dinorad_datasets::discover_inputs(&["new".into()]);
/// let model = Predictor::open("runs/logreg".as_ref(), &candle::Device::Cpu, &Unwatched)?;
/// let done = model.predict(model.cases_of(found), "features".as_ref(), 16, &Unwatched)?;
/// for (id, class) in done.predictions.ids.iter().zip(done.predictions.classes()) {
///     println!("{id}: {}", model.task().class_names[class]);
/// }
/// # Ok(()) }
/// ```
pub struct Predictor {
    experiment: Experiment,
    setting: Option<String>,
    task: Task,
    settings: Settings,
    encoder: Loaded,
    layout: RowLayout,
    /// Whether the model is an encoder of its own: then it sees the pixels.
    trains: bool,
    model: Box<dyn Fitted>,
    pool: Option<GatedAttentionPool>,
}

/// What a model says of new cases.
#[derive(Debug, Clone)]
pub struct Predicted {
    /// Of every case that has features, in order; targets are unknown.
    pub predictions: Predictions,
    /// The cases that could not be read.
    pub failures: Vec<Failure>,
    /// What may be wrong with the values of cases.
    pub notices: Vec<String>,
}

impl Predictor {
    /// The model of a finished run, and the encoder that it was trained on.
    ///
    /// # Errors
    /// [`Error::Report`] for a folder without a finished run; [`Error::Unfit`] for a run that keeps no model,
    /// saying what helps, and for one that gives no answer a case; [`Error::Description`] for an encoder whose
    /// weights have changed since, and what loading it says.
    pub fn open(run: &Path, device: &Device, watch: &dyn Watch) -> Result<Self> {
        let folder = RunFolder::open(run)?;
        let experiment = Experiment::read(&run.join(CONFIG))?;
        let unfit = |why: &str| Error::unfit(format!("{}: {why}", run.display()));
        let Some(choice) = &experiment.method else { return Err(unfit("nothing was learned in this run")) };
        let method = choice.resolve(experiment.protocol)?;
        if method.draws_masks() {
            let why = format!(
                "{} gives no one answer a case: predict tells classes and findings; `dinorad segment predict` draws masks",
                method.title()
            );
            return Err(unfit(&why));
        }
        let (settings, _) = prepared_of(&folder, run)?;
        let metrics = folder.metrics().ok_or_else(|| unfit("it has no results"))?;
        let task = metrics.task.clone().ok_or_else(|| unfit("it does not say what it predicts"))?;
        let entry = methods().into_iter().find(|entry| entry.name == method.name());
        let entry = entry.ok_or_else(|| unfit("its method is not known to this program"))?;
        let model = (entry.load)(run).map_err(|error| match error {
            MethodError::Unkept { .. } => unfit(&format!(
                "the run keeps no model: that of {} is the training features themselves, which are as private as \
                 the images. To keep them, judge again with --keep-model (--overwrite): the features are found in \
                 the feature store",
                method.title()
            )),
            other => other.into(),
        })?;
        let pool = match experiment.aggregate {
            // A method that trains the encoder keeps its pooling with its model.
            Aggregation::Attention if method.input() == Input::Rows => Some(pooling(&run.join(POOLING))?),
            _ => None,
        };
        if stored::place(&experiment.encoder.source).is_some() {
            return Err(unfit("it was learned from embeddings that were given: their encoder is not known"));
        }
        let encoder = experiment.encoder.load(experiment.protocol, device, watch)?;
        if let Some(caution) = encoder.caution() {
            watch.note(caution);
        }
        Ok(Self {
            setting: metrics.setting_label.clone(),
            layout: RowLayout { tokens: experiment.tokens, aggregate: experiment.aggregate },
            trains: method.input() == Input::Pixels,
            settings,
            experiment,
            task,
            encoder,
            model,
            pool,
        })
    }

    /// What is predicted.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The description of the run.
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// The setting that validation chose in the run, for people.
    pub fn setting(&self) -> Option<&str> {
        self.setting.as_deref()
    }

    /// Files and series prepared as the cases of the run were.
    pub fn cases_of(&self, found: Inputs) -> InputCases {
        InputCases::of(found, Compose::default()).with_settings(self.settings.clone())
    }

    /// The cases of a part of a data set prepared as those of the run were.
    pub fn cases_of_part(&self, part: &Part) -> DatasetCases {
        let Settings { intensity, monochrome1, slice_step, preprocessing, .. } = self.settings.clone();
        DatasetCases::new(Arc::clone(&part.set), preprocessing)
            .with_root(&part.root)
            .with_intensity(intensity)
            .with_monochrome1(monochrome1)
            .with_slice_step(slice_step)
    }

    /// What the model says of cases. Their features are found or kept in the stores below `features`.
    ///
    /// # Errors
    /// Those of [`embed`]; [`Error::Unfit`] where no case can be read, naming the first.
    pub fn predict(
        &self,
        cases: impl Cases + 'static,
        features: &Path,
        batch: usize,
        watch: &dyn Watch,
    ) -> Result<Predicted> {
        let spec = self.encoder.backbone.spec();
        let cases: Arc<dyn Cases> = Arc::new(cases);
        // Of a model that sees the pixels, features only tell which cases can be read.
        let layout = if self.trains { RowLayout { aggregate: Aggregation::Mean, ..self.layout } } else { self.layout };
        let mut options = layout.embed_options(EmbedOptions {
            batch_size: batch,
            device: self.encoder.device.clone(),
            bad: Bad::Skip,
            patience: Duration::from_secs(3600),
            set: "predict".to_owned(),
            ..EmbedOptions::default()
        });
        options.request.norm = spec.study_norm();
        let report = {
            let stage = watch.stage("cases");
            embed(Arc::clone(&cases), &*self.encoder.backbone, features, &options, &*stage)?
        };
        let mut rows = layout.unlabelled(&report.store()?, spec)?;
        let classes = self.task.class_names.clone();
        let predictions = if rows.is_empty() {
            let none = ndarray::Array2::zeros((0, self.task.n_classes()));
            Predictions::new(Vec::new(), Vec::new(), none)?
        } else {
            rows.check("given")?;
            if self.trains {
                let at: BTreeMap<String, usize> = (0..cases.len()).map(|i| (cases.key(i).id, i)).collect();
                for (id, place) in rows.ids.iter().zip(&mut rows.places) {
                    place.index = at.get(id).copied().ok_or_else(|| Error::unfit(format!("`{id}` is no case")))?;
                }
                let fresh = Arc::clone(&self.encoder.fresh);
                rows.pixels = Some(Arc::new(GivenPixels::new(cases, fresh, self.layout)));
            }
            let rows = match &self.pool {
                Some(pool) => rows.pooled_by(pool)?,
                None => rows,
            };
            // a model that was kept answers under the number 0
            let answers = probabilities(&*self.model, &rows)?.into_iter().next();
            let answers = answers.ok_or_else(|| Error::shape("predictions", "one for each setting", &[0]))?;
            Predictions::new(rows.ids, rows.targets, answers)?
        };
        Ok(Predicted {
            predictions: predictions.with_names(classes),
            failures: report.failures,
            notices: report.notices.into_iter().chain(report.doubts.notices()).collect(),
        })
    }
}

/// How the cases of a run were prepared, and the values of its classes in label files where they have others.
///
/// # Errors
/// [`Error::Unfit`] for a run that does not say, [`Error::Damaged`].
pub(super) fn prepared_of(folder: &RunFolder, run: &Path) -> Result<(Settings, Vec<u8>)> {
    let Some(text) = folder.text(PREPARED)? else {
        let why = "it does not say how its cases were prepared: judge again with this version";
        return Err(Error::unfit(format!("{}: {why}", run.display())));
    };
    let damaged = |why: String| Error::Damaged { path: run.join(PREPARED), why };
    let prepared: Prepared = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
    if prepared.schema != SCHEMA {
        return Err(damaged(format!("version {}; this program reads {SCHEMA}", prepared.schema)));
    }
    Ok((prepared.settings, prepared.label_values))
}

/// A pooling that was learned, as [`ProbeRun::write`](crate::probe::ProbeRun::write) left it.
fn pooling(path: &Path) -> Result<GatedAttentionPool> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    let mut tensors = candle::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let mut linear = |name: &str| {
        let mut part = |what: &str| tensors.remove(&format!("{name}.{what}"));
        let lost = || Error::Damaged { path: path.to_owned(), why: format!("it has no `{name}.weight`") };
        Ok::<_, Error>(Linear::new(part("weight").ok_or_else(lost)?, part("bias")))
    };
    Ok(GatedAttentionPool::from_parts(linear("tanh")?, linear("gate")?, linear("score")?)?)
}
