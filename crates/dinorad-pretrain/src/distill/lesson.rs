//! All steps of a distillation.

use candle::Tensor;
use dinorad_backbone::{Backbone, Dinov2, tuning::TrainableBackbone};
use dinorad_nn::{
    Course, Pass, Schedule,
    optim::Algorithm,
    train::{Ended, Lesson, Rate, RunOptions, Score, Step, TrainOptions, Trainer, run},
};

use super::{DistillBatch, DistillSettings, DistillStudent};
use crate::{Judge, Result, decays, rate_of_depth};

/// Learning what the teacher said.
struct Learning<'a, 'j> {
    settings: &'a DistillSettings,
    batches: &'a mut dyn FnMut(usize) -> Result<DistillBatch>,
    judge: Option<&'a mut Judge<'j>>,
}

impl Lesson<DistillStudent> for Learning<'_, '_> {
    fn loss(&mut self, student: &DistillStudent, at: Step, pass: Pass) -> dinorad_nn::Result<Tensor> {
        let batch = (self.batches)(at.step);
        batch.and_then(|batch| student.loss(&batch, self.settings, pass)).map_err(dinorad_nn::Error::lesson)
    }

    fn validate(&mut self, student: &DistillStudent) -> dinorad_nn::Result<Option<Score>> {
        let Some(judge) = &mut self.judge else { return Ok(None) };
        let packed = student.encoder.packed().map_err(dinorad_nn::Error::lesson)?;
        let fast: &dyn Backbone = match &packed {
            Some(engine) => engine,
            None => &student.encoder,
        };
        judge(fast).map(|score| Some(Score(score))).map_err(dinorad_nn::Error::lesson)
    }
}

/// Teaches a student of such settings what a teacher of width `width` said, and gives it back without its maps; of
/// several judgements (`validate_every` steps apart) the best one's weights come out.
///
/// `batches` gives the batch of a step: [`DistillFeed::batch`](super::DistillFeed::batch), by itself or by workers
/// that make batches ahead of time. Checkpoints, resume and logs are those of [`dinorad_nn::train::run`], whose
/// `identity` should name images, teacher and student; the settings are added to it.
///
/// # Errors
/// [`Error::Diverged`](crate::Error::Diverged) for a loss that is no number; what `batches` and `judge` say.
pub fn distill(
    student: &Dinov2,
    width: usize,
    settings: &DistillSettings,
    batches: &mut dyn FnMut(usize) -> Result<DistillBatch>,
    judge: Option<&mut Judge<'_>>,
    options: &RunOptions<'_>,
) -> Result<(Dinov2, Ended)> {
    settings.check()?;
    let student = DistillStudent::new(student, width, settings)?;
    let mut rates = std::collections::BTreeMap::new();
    dinorad_nn::Trainable::visit(&student, "", &mut |name, _| {
        let rate = match name.strip_prefix("encoder.") {
            // no patch is masked here
            Some("mask_token") => return,
            Some(inner) => rate_of_depth(&student.encoder, inner, settings.layer_decay),
            None => 1.0,
        };
        let decay = if decays(name) { settings.weight_decay } else { 0.0 };
        rates.insert(name.to_owned(), Rate::new(settings.learning_rate * rate).with_weight_decay(decay));
    });
    let warm_up = ((settings.steps as f64 * settings.warm_up).round() as usize).min(settings.steps);
    let schedule = Schedule { total: settings.steps, warm_up, course: Course::Cosine, floor: 0.0 };
    let training = TrainOptions {
        algorithm: Algorithm::ADAMW,
        clip: (settings.clip > 0.0).then_some(settings.clip),
        seed: settings.seed,
        ..TrainOptions::new(schedule)
    };
    let mut trainer = Trainer::new(student, &training, &mut |name| rates.get(name).copied())?;
    let text = serde_json::to_string(settings)
        .map_err(|e| crate::Error::parameter("settings", "such as can be written", e))?;
    let identity = format!("{text} {}", options.identity);
    let mut lesson = Learning { settings, batches, judge };
    let ended = run(&mut trainer, &mut lesson, &RunOptions { identity: &identity, ..*options })?;
    Ok((trainer.finish()?.encoder, ended))
}
